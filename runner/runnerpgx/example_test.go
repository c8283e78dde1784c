package runnerpgx_test

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"

	"github.com/weirhq/weir/runner"
	"github.com/weirhq/weir/runner/runnerpgx"
	"github.com/weirhq/weir/sfapi"
)

// Neither pgxpool.New nor runner.New connects: that begins with Migrate.
func ExampleNew() {
	pool, err := pgxpool.New(context.Background(), "postgres://localhost/app")
	if err != nil {
		panic(err)
	}
	defer pool.Close()
	keys, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		panic(err)
	}
	sealer, err := aead.New(keys)
	if err != nil {
		panic(err)
	}
	weir, err := runner.New(runnerpgx.New(pool), &runner.Config[pgx.Tx]{
		App: &sfapi.App{ClientID: "3MVG9"}, Sealer: sealer, Logger: slog.New(slog.DiscardHandler),
	})
	fmt.Println(weir != nil, err)
	// Output: true <nil>
}
