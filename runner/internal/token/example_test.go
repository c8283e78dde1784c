package token_test

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"

	"github.com/weirhq/weir/runner/internal/token"
	"github.com/weirhq/weir/runner/runnersqlite"
	"github.com/weirhq/weir/sfapi"
	"github.com/weirhq/weir/sfapi/sftest"
)

// An org is connected, its session dies, and the next call gets a new one.
func Example() {
	ctx := context.Background()
	sim := sftest.New(nil)
	org := sim.AddOrg(nil)
	org.SetRotation(true)
	app := &sfapi.App{ClientID: sftest.DefaultClientID, ClientSecret: sftest.DefaultClientSecret, Transport: sim}

	pool, err := runnersqlite.Open(":memory:")
	if err != nil {
		panic(err)
	}
	defer pool.Close()
	db := database[*sql.Tx]{runnersqlite.New(pool).Store()}
	if err := db.Migrate(ctx); err != nil {
		panic(err)
	}
	handle, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		panic(err)
	}
	sealer, err := aead.New(handle)
	if err != nil {
		panic(err)
	}

	tokens, err := token.New(db, app, sealer, &token.Config{
		OnVerdict: func(_ context.Context, v *token.Verdict) { fmt.Println(v.Kind, v.Cause) },
	})
	if err != nil {
		panic(err)
	}
	defer tokens.Close(ctx)
	if err := tokens.Check(ctx); err != nil { // the key fits what is stored
		panic(err)
	}
	if err := tokens.Start(ctx); err != nil {
		panic(err)
	}

	// Connecting: exchange the grant once, seal what came, store it.
	first, err := app.RefreshToken(ctx, org.LoginURL(), sfapi.Secret(org.Grant()))
	if err != nil {
		panic(err)
	}
	cred, err := tokens.Seal(first.Org, first)
	if err != nil {
		panic(err)
	}
	if err := db.connect(ctx, cred); err != nil {
		panic(err)
	}

	src := tokens.Source(first.Org)
	tok, err := src.Token(ctx)
	fmt.Println("generation", tok.Generation, tok.Access, err)

	org.ExpireSessions()
	tok, err = src.Refresh(ctx, tok)
	fmt.Println("generation", tok.Generation, tok.Access, err)

	org.RevokeAll()
	_, err = src.Refresh(ctx, tok)
	fmt.Println(sfapi.KindOf(err))
	// Output:
	// generation 1 REDACTED <nil>
	// generation 2 REDACTED <nil>
	// revoked refused
	// revoked
}
