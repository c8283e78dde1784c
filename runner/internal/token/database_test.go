package token_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/weirhq/weir/runner/internal/pgtest"
	"github.com/weirhq/weir/runner/internal/store"
	"github.com/weirhq/weir/runner/internal/token"
	"github.com/weirhq/weir/runner/runnerpgx"
	"github.com/weirhq/weir/runner/runnersqlite"
	"github.com/weirhq/weir/sfapi"
	"github.com/weirhq/weir/sfapi/sftest"
)

// database is a real one.
type database[TTx any] struct{ store.Store[TTx] }

func (d database[TTx]) connect(ctx context.Context, c *store.Credential) error {
	o := &store.Org{ID: c.Org, LoginURL: c.LoginURL, InstanceURL: c.InstanceURL, UserID: c.UserID}
	return d.InTx(ctx, func(ctx context.Context, tx TTx) error {
		_, err := d.ConnectOrgTx(ctx, tx, o, c)
		return err
	})
}

func (d database[TTx]) disconnect(ctx context.Context, id sfapi.OrgID) error {
	return d.InTx(ctx, func(ctx context.Context, tx TTx) error { return d.DisconnectOrgTx(ctx, tx, id) })
}

// cluster is a database that several processes open.
type cluster struct {
	open func() clustered                // a process's own connection
	dump func(t *testing.T) (all []byte) // what it stores
	late func(t *testing.T)              // has the deadline of every attempt pass
}

type clustered interface {
	grants
	ListenOrgs(context.Context, func(sfapi.OrgID)) error
	Migrate(context.Context) error
}

func databases(t *testing.T, test func(t *testing.T, c cluster)) {
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		path := filepath.Join(t.TempDir(), "weir.db")
		pool, err := runnersqlite.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = pool.Close() })
		db := database[*sql.Tx]{runnersqlite.New(pool).Store()}
		if err := db.Migrate(t.Context()); err != nil {
			t.Fatal(err)
		}
		test(t, cluster{
			open: func() clustered { return db }, // one process, one pool
			dump: func(t *testing.T) (all []byte) {
				files, err := filepath.Glob(path + "*")
				if err != nil || len(files) == 0 {
					t.Fatal("no database files", err)
				}
				for _, name := range files {
					b, err := os.ReadFile(name)
					if err != nil {
						t.Fatal(err)
					}
					all = append(all, b...)
				}
				return all
			},
			late: func(t *testing.T) {
				if _, err := pool.ExecContext(t.Context(), `UPDATE weir_org SET attempt_deadline = issued_at WHERE attempt_owner IS NOT NULL`); err != nil {
					t.Fatal(err)
				}
			},
		})
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		url := pgtest.URL(t)
		pool := openPool(t, url)
		if err := (database[pgx.Tx]{runnerpgx.New(pool).Store()}).Migrate(t.Context()); err != nil {
			t.Fatal(err)
		}
		test(t, cluster{
			open: func() clustered { return database[pgx.Tx]{runnerpgx.New(openPool(t, url)).Store()} },
			dump: func(t *testing.T) (all []byte) {
				rows, err := pool.Query(t.Context(), `SELECT convert_to(o::text, 'UTF8') || coalesce(access, '') || coalesce(refresh, '') FROM weir_org o`)
				if err != nil {
					t.Fatal(err)
				}
				defer rows.Close()
				for rows.Next() {
					var b []byte
					if err := rows.Scan(&b); err != nil {
						t.Fatal(err)
					}
					all = append(all, b...)
				}
				if len(all) == 0 || rows.Err() != nil {
					t.Fatal("nothing is stored", rows.Err())
				}
				return all
			},
			late: func(t *testing.T) { late(t, pool) },
		})
	})
}

func openPool(t *testing.T, url string) *pgxpool.Pool {
	t.Helper()
	pool, err := pgxpool.New(context.Background(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

// late has the deadline of every attempt on record pass: a lease short enough to
// wait for leaves too little time for its requests on a busy machine.
func late(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	if _, err := pool.Exec(t.Context(), `UPDATE weir_org SET attempt_deadline = now() WHERE attempt_owner IS NOT NULL`); err != nil {
		t.Fatal(err)
	}
}

// heirLease leaves a request four seconds, and has the attempt of a process that
// may have died left alone for two or three.
const heirLease = 12 * time.Second

// listening has m follow the database's notifications until the test ends.
func listening(t *testing.T, db clustered, m *token.Manager) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := db.ListenOrgs(ctx, m.Changed); err != nil && ctx.Err() == nil {
			t.Errorf("listen: %v", err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	start(t, m)
}

// leaks fails the test when a secret is stored in clear.
func (w *world) leaks(stored []byte) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.secrets {
		if bytes.Contains(stored, []byte(s)) {
			w.t.Errorf("a clear secret is stored: %.12s…", s)
		}
	}
}

func TestOneRefreshForTheFleet(t *testing.T) {
	t.Parallel()
	databases(t, func(t *testing.T, c cluster) {
		w := newWorld(t, c.open())
		var fleet []*token.Manager
		for range 4 {
			db := c.open()
			m := w.processOn(db, nil)
			listening(t, db, m)
			fleet = append(fleet, m)
		}
		var calls []int64
		for round := range 20 {
			before := w.org.TokenCalls()
			if errs := w.refreshAll(fleet, 50); len(errs) > 0 {
				t.Fatalf("round %d: %d of 200 calls failed, the first: %v", round, len(errs), errs[0])
			}
			calls = append(calls, w.org.TokenCalls()-before)
		}
		for round, n := range calls {
			if n != 1 {
				t.Errorf("round %d: %d token calls, want 1", round, n)
			}
		}
		w.clean()
		w.leaks(c.dump(t))
	})
}

// What the protocol is for: clients that store the newest token and refresh when
// they must, each on its own, lose the grant at the first session that dies.
func TestWithoutTheProtocol(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newMemory())
	m := w.process(nil)
	cred, err := w.db.Credential(t.Context(), w.id)
	if err != nil {
		t.Fatal(err)
	}
	clear, err := w.sealer.Decrypt(cred.Refresh, []byte("weir:"+string(w.id)+":refresh"))
	if err != nil {
		t.Fatal(err)
	}
	w.token(m)
	w.org.ExpireSessions()
	var mu sync.Mutex
	stored := sfapi.Secret(clear)
	var read, done sync.WaitGroup
	read.Add(200)
	worked := 0
	for range 200 {
		done.Go(func() {
			mu.Lock()
			refresh := stored
			mu.Unlock()
			read.Done()
			read.Wait() // each has met the dead session by now
			tok, err := w.app.RefreshToken(context.Background(), "", refresh)
			if err == nil {
				mu.Lock()
				stored = tok.Refresh
				worked++
				mu.Unlock()
			}
		})
	}
	done.Wait()
	if worked != 1 || w.org.Grants() != 0 || w.org.Sessions() != 0 {
		t.Errorf("%d refreshes worked, %d grants and %d sessions are left; want one refresh, and the grant gone with all sessions",
			worked, w.org.Grants(), w.org.Sessions())
	}
}

// The stories of a process's death on the real databases and their clocks.
func TestDeathOnDatabases(t *testing.T) {
	t.Parallel()
	databases(t, func(t *testing.T, c cluster) {
		for _, tt := range []struct {
			name    string
			rotate  bool
			reasons []token.Reason
			verdict []verdict
		}{
			{"grant lost", true, []token.Reason{token.ReasonRefused, token.ReasonReplay}, []verdict{{sfapi.KindRevoked, token.CauseOutcomeUnknown}}},
			{"grant kept", false, []token.Reason{token.ReasonRefused, token.ReasonReplay}, nil},
		} {
			w := newWorld(t, c.open())
			w.org.SetRotation(tt.rotate)
			w.connect(w.org)
			saving := make(chan struct{})
			var once sync.Once
			victim := w.processOn(&shaky{Credentials: c.open(), save: func(func() error) error {
				once.Do(func() { close(saving) })
				return errAway
			}}, nil)
			heir := w.processOn(c.open(), func(cfg *token.Config) { cfg.Lease = heirLease })
			stale := w.token(victim)
			w.org.ExpireSessions()
			go func() { _, _ = victim.Source(w.id).Refresh(t.Context(), stale) }()
			<-saving
			w.kill(victim)
			c.late(t)
			got, err := heir.Source(w.id).Refresh(t.Context(), stale)
			if tt.verdict == nil && (err != nil || !w.works(got)) {
				t.Errorf("%s: refresh: %v, want a token that works", tt.name, err)
			}
			if tt.verdict != nil && !errors.As(err, new(*token.RefusedError)) {
				t.Errorf("%s: refresh: %v, want a refusal", tt.name, err)
			}
			if diff := cmp.Diff(tt.reasons, w.reasons()); diff != "" {
				t.Errorf("%s: token calls (-want +got):\n%s", tt.name, diff)
			}
			if diff := cmp.Diff(tt.verdict, w.judged()); diff != "" {
				t.Errorf("%s: verdicts (-want +got):\n%s", tt.name, diff)
			}
			w.clean()
			w.leaks(c.dump(t))
		}
	})
}

// Sealing, checking and re-sealing go through the databases as well.
func TestResealOnDatabases(t *testing.T) {
	t.Parallel()
	databases(t, func(t *testing.T, c cluster) {
		w := newWorld(t, c.open())
		w.connect(w.sim.AddOrg(&sftest.OrgConfig{Name: "second"}))
		m := w.processOn(c.open(), nil)
		if err := m.Check(t.Context()); err != nil {
			t.Errorf("check: %v", err)
		}
		before := w.token(m)
		if n, err := m.Reseal(t.Context()); n != 4 || err != nil {
			t.Errorf("reseal: %d, %v, want 4 secrets", n, err)
		}
		after := w.token(w.processOn(c.open(), nil))
		if after.Access.Reveal() != before.Access.Reveal() || after.Generation != before.Generation {
			t.Errorf("generation %d after re-sealing, want the same token of generation %d", after.Generation, before.Generation)
		}
		w.sealer = newSealer(t)
		if err := w.processOn(c.open(), nil).Check(t.Context()); !errors.Is(err, token.ErrWrongKey) {
			t.Errorf("check with another key: %v, want %v", err, token.ErrWrongKey)
		}
		w.leaks(c.dump(t))
	})
}
