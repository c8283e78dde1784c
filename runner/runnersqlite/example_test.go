package runnersqlite_test

import (
	"database/sql"
	"fmt"
	"log/slog"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"

	"github.com/weirhq/weir/runner"
	"github.com/weirhq/weir/runner/runnersqlite"
	"github.com/weirhq/weir/sfapi"
)

func ExampleNew() {
	db, err := runnersqlite.Open(":memory:") // or the path of a file
	if err != nil {
		panic(err)
	}
	defer db.Close()
	keys, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		panic(err)
	}
	sealer, err := aead.New(keys)
	if err != nil {
		panic(err)
	}
	weir, err := runner.New(runnersqlite.New(db), &runner.Config[*sql.Tx]{
		App: &sfapi.App{ClientID: "3MVG9"}, Sealer: sealer, Logger: slog.New(slog.DiscardHandler),
	})
	fmt.Println(weir != nil, err)
	// Output: true <nil>
}

func ExampleOpen() {
	db, err := runnersqlite.Open(":memory:")
	if err != nil {
		panic(err)
	}
	defer db.Close()
	fmt.Println(db.Ping(), db.Stats().MaxOpenConnections)
	// Output: <nil> 1
}
