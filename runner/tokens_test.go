package runner_test

import (
	"context"
	"database/sql"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"

	"github.com/weirhq/weir/jobs"
	"github.com/weirhq/weir/runner"
	"github.com/weirhq/weir/sfapi"
	"github.com/weirhq/weir/sfapi/sftest"
)

// An org without a refresh token gets its tokens minted.
func TestMint(t *testing.T) {
	t.Parallel()
	onBoth(t, testMint[*sql.Tx], testMint[pgx.Tx])
}

func testMint[TTx any](t *testing.T, f *fixture[TTx]) {
	f.sim.SetApp(sftest.App{ClientID: "3MVG9.server", ClientSecret: "s", Name: "Server"})
	f.org.SetClientCredentialsUser("3MVG9.server", "")
	f.org.Seed("Account", 10, 1)
	jobs.AddMirror(f.handlers, "Account", nil)
	app := &sfapi.App{ClientID: "3MVG9.server", ClientSecret: "s", Transport: f.sim}
	minted := 0
	r := f.migrated(t, func(c *runner.Config[TTx]) {
		c.App = app
		c.Mint = func(ctx context.Context, org *runner.Org) (*sfapi.Token, error) {
			minted++
			return app.ClientCredentials(ctx, org.InstanceURL)
		}
	})
	tok, err := app.ClientCredentials(t.Context(), f.org.InstanceURL())
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.Orgs().Connect(t.Context(), &runner.ConnectParams{Token: tok}); err != nil {
		t.Fatal(err)
	}
	start(t, r)
	f.org.ExpireSessions()
	f.completed(t, r, jobs.Sync{Object: "Account"})
	if minted == 0 {
		t.Error("nothing was minted")
	}
}

// After a new primary key came, the re-seal pass moves all secrets to it.
func TestReseal(t *testing.T) {
	t.Parallel()
	onBoth(t, testReseal[*sql.Tx], testReseal[pgx.Tx])
}

func testReseal[TTx any](t *testing.T, f *fixture[TTx]) {
	manager := keyset.NewManager()
	old, err := manager.Add(aead.AES256GCMKeyTemplate())
	if err != nil {
		t.Fatal(err)
	}
	sealer := func() {
		t.Helper()
		handle, err := manager.Handle()
		if err != nil {
			t.Fatal(err)
		}
		if f.sealer, err = aead.New(handle); err != nil {
			t.Fatal(err)
		}
	}
	primary := func(id uint32) {
		t.Helper()
		if err := manager.SetPrimary(id); err != nil {
			t.Fatal(err)
		}
	}
	primary(old)
	sealer()
	f.org.Seed("Account", 10, 1)
	jobs.AddMirror(f.handlers, "Account", nil)
	f.connect(t, f.migrated(t))

	fresh, err := manager.Add(aead.AES256GCMKeyTemplate())
	if err != nil {
		t.Fatal(err)
	}
	primary(fresh)
	sealer()
	n, err := f.migrated(t).Reseal(t.Context())
	if err != nil || n != 2 {
		t.Fatalf("%d secrets sealed again, want the access and the refresh token; %v", n, err)
	}
	if err := manager.Delete(old); err != nil {
		t.Fatal(err)
	}
	sealer()
	f.org.ExpireSessions()
	r := f.migrated(t)
	start(t, r)
	f.completed(t, r, jobs.Sync{Object: "Account"})
}

// A key that does not open what is stored is told at the start.
func TestWrongKey(t *testing.T) {
	t.Parallel()
	onBoth(t, testWrongKey[*sql.Tx], testWrongKey[pgx.Tx])
}

func testWrongKey[TTx any](t *testing.T, f *fixture[TTx]) {
	f.connect(t, f.migrated(t))
	handle, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		t.Fatal(err)
	}
	if f.sealer, err = aead.New(handle); err != nil {
		t.Fatal(err)
	}
	err = f.migrated(t).Start(t.Context())
	if err == nil || !strings.Contains(err.Error(), "Config.Sealer") {
		t.Errorf("start with another key: %v", err)
	}
}

// An org that moves to another instance keeps working.
func TestOrgMoves(t *testing.T) {
	t.Parallel()
	for name, refusal := range map[string]sftest.MoveRefusal{"URL_NOT_RESET": sftest.MoveURLNotReset, "INVALID_SESSION_ID": sftest.MoveInvalidSession, "redirect": sftest.MoveRedirect} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := sqliteFixture(t)
			f.org.Seed("Account", 3000, 1)
			jobs.AddMirror(f.handlers, "Account", nil)
			r := f.running(t)
			f.completed(t, r, jobs.Sync{Object: "Account"})
			f.org.MoveInstance("https://acme-moved.my.salesforce.com", refusal)
			f.completed(t, r, jobs.Sync{Object: "Account", Mode: jobs.Full})
			if got := f.get(t, r).InstanceURL; got != "https://acme-moved.my.salesforce.com" {
				t.Errorf("instance URL is %s", got)
			}
		})
	}
}
