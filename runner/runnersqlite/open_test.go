package runnersqlite_test

import (
	"context"
	"database/sql"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weirhq/weir/runner/internal/store"
	"github.com/weirhq/weir/runner/runnersqlite"
	"github.com/weirhq/weir/sfapi"
)

const org = sfapi.OrgID("00D000000000001AAA")

func connect(ctx context.Context, s store.Store[*sql.Tx], tx *sql.Tx) error {
	_, err := s.ConnectOrgTx(ctx, tx, &store.Org{ID: org}, &store.Credential{Org: org})
	return err
}

func TestOpen(t *testing.T) {
	t.Parallel()
	pragmas := func(query func(string, ...any) *sql.Row) map[string]string {
		got := make(map[string]string)
		for _, name := range []string{"journal_mode", "synchronous", "busy_timeout", "foreign_keys"} {
			var value string
			if err := query("PRAGMA " + name).Scan(&value); err != nil {
				t.Fatal(err)
			}
			got[name] = value
		}
		return got
	}
	path := filepath.Join(t.TempDir(), "ü ?#%.db")
	pool := openPool(t, path)
	want := map[string]string{"journal_mode": "wal", "synchronous": "1", "busy_timeout": "10000", "foreign_keys": "1"}
	if d := cmp.Diff(want, pragmas(pool.QueryRow)); d != "" {
		t.Errorf("settings (-want +got):\n%s", d)
	}
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
	if n := pool.Stats().MaxOpenConnections; n != 1 {
		t.Errorf("the pool has up to %d connections", n)
	}

	s := runnersqlite.New(pool).Store()
	err := s.InTx(t.Context(), func(_ context.Context, tx *sql.Tx) error {
		if got := pragmas(tx.QueryRow)["synchronous"]; got != "2" {
			t.Errorf("synchronous is %s in a transaction of Weir's, want 2 (FULL)", got)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, pragmas(pool.QueryRow)); d != "" {
		t.Errorf("settings after a transaction (-want +got):\n%s", d)
	}
}

func TestOpenFails(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"", filepath.Join(t.TempDir(), "no", "such", "folder.db"), t.TempDir()} {
		pool, err := runnersqlite.Open(path)
		if err == nil {
			_ = pool.Close()
			t.Errorf("opened %q", path)
		} else if !strings.Contains(err.Error(), "open database") {
			t.Errorf("open %q: error %q does not say what was opened", path, err)
		}
	}
}

// A ":memory:" database is its connection, which a cancelled transaction must
// not cost; and it runs in a synctest bubble, on the bubble's clock.
func TestMemoryInBubble(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := openStore(t, ":memory:")
		if err := s.Migrate(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := s.InTx(t.Context(), func(ctx context.Context, tx *sql.Tx) error { return connect(ctx, s, tx) }); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		_ = s.InTx(ctx, func(ctx context.Context, tx *sql.Tx) error {
			cancel()
			synctest.Wait()
			return connect(ctx, s, tx)
		})
		time.Sleep(time.Hour)
		now, err := s.Now(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		o, err := s.Org(t.Context(), org)
		if err != nil {
			t.Fatal(err)
		}
		if got := now.Sub(o.CreatedAt); got != time.Hour || o.Generation != 1 {
			t.Errorf("an hour later the org is %v old, of generation %d", got, o.Generation)
		}
	})
}

// The app's own transaction says nothing when it commits.
func TestListenOrgsAfterForeignCommit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		pool := openPool(t, ":memory:")
		s := runnersqlite.New(pool).Store()
		if err := s.Migrate(t.Context()); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		heard := make(chan sfapi.OrgID, 10)
		go func() { _ = s.ListenOrgs(ctx, func(id sfapi.OrgID) { heard <- id }) }()
		if got := <-heard; got != "" {
			t.Errorf("heard %q first", got)
		}
		tx, err := pool.BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := connect(t.Context(), s, tx); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if len(heard) != 0 {
			t.Errorf("heard %q before the commit", <-heard)
		}
		if err := tx.Commit(); err != nil {
			t.Fatal(err)
		}
		if got := <-heard; got != org {
			t.Errorf("heard %q after the commit", got)
		}
		cancel()
		synctest.Wait()
	})
}
