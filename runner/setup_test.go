package runner_test

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/weirhq/weir/jobs"
	"github.com/weirhq/weir/runner"
	"github.com/weirhq/weir/runner/internal/pgtest"
	"github.com/weirhq/weir/runner/runnerpgx"
	"github.com/weirhq/weir/runner/runnersqlite"
	"github.com/weirhq/weir/sfapi"
	"github.com/weirhq/weir/sfapi/sftest"
)

// onBoth runs the same test on SQLite and on Postgres.
func onBoth(t *testing.T, onSQLite func(*testing.T, *fixture[*sql.Tx]), onPostgres func(*testing.T, *fixture[pgx.Tx])) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		onSQLite(t, sqliteFixture(t))
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		onPostgres(t, postgresFixture(t))
	})
}

// fixture is a simulated org and a database for one test.
type fixture[TTx any] struct {
	sim      *sftest.Sim
	org      *sftest.Org
	orgID    sfapi.OrgID
	driver   runner.Driver[TTx]
	sealer   tink.AEAD
	handlers *jobs.Handlers[TTx]

	// inTx runs fn in a transaction of the app's.
	inTx func(fn func(tx TTx) error) error
	// exec runs a statement in a transaction.
	exec func(ctx context.Context, tx TTx, statement string, args ...any) error
	// table reads a table as texts, by the column names; nil is NULL.
	table func(t *testing.T, query string) []map[string]*string
	arg   func(i int) string // placeholder
}

func newFixture[TTx any](t testing.TB, driver runner.Driver[TTx]) *fixture[TTx] {
	t.Helper()
	sim := sftest.New(nil)
	keys, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		t.Fatal(err)
	}
	sealer, err := aead.New(keys)
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture[TTx]{sim: sim, org: sim.AddOrg(nil), driver: driver, sealer: sealer, handlers: jobs.NewHandlers[TTx]()}
	f.orgID = sfapi.OrgID(f.org.ID())
	return f
}

func sqliteFixture(t testing.TB) *fixture[*sql.Tx] {
	t.Helper()
	db, err := runnersqlite.Open(filepath.Join(t.TempDir(), "weir.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	f := newFixture(t, runnersqlite.New(db))
	f.inTx = func(fn func(tx *sql.Tx) error) error {
		tx, err := db.Begin()
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback() }()
		if err := fn(tx); err != nil {
			return err
		}
		return tx.Commit()
	}
	f.exec = func(ctx context.Context, tx *sql.Tx, statement string, args ...any) error {
		_, err := tx.ExecContext(ctx, statement, args...)
		return err
	}
	f.arg = func(int) string { return "?" }
	f.table = func(t *testing.T, query string) []map[string]*string {
		t.Helper()
		rows, err := db.Query(query)
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		names, err := rows.Columns()
		if err != nil {
			t.Fatal(err)
		}
		var out []map[string]*string
		for rows.Next() {
			values, into := make([]any, len(names)), make([]any, len(names))
			for i := range into {
				into[i] = &values[i]
			}
			if err := rows.Scan(into...); err != nil {
				t.Fatal(err)
			}
			out = append(out, texts(t, names, values))
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
		return out
	}
	return f
}

func postgresFixture(t *testing.T) *fixture[pgx.Tx] {
	t.Helper()
	return fixtureOn(t, pgtest.Pool(t))
}

func fixtureOn(t testing.TB, pool *pgxpool.Pool) *fixture[pgx.Tx] {
	t.Helper()
	f := newFixture(t, runnerpgx.New(pool))
	f.inTx = func(fn func(tx pgx.Tx) error) error { return pgx.BeginFunc(t.Context(), pool, fn) }
	f.exec = func(ctx context.Context, tx pgx.Tx, statement string, args ...any) error {
		_, err := tx.Exec(ctx, statement, args...)
		return err
	}
	f.arg = func(i int) string { return fmt.Sprint("$", i) }
	f.table = func(t *testing.T, query string) []map[string]*string {
		t.Helper()
		rows, err := pool.Query(context.Background(), query)
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		var names []string
		for _, d := range rows.FieldDescriptions() {
			names = append(names, d.Name)
		}
		var out []map[string]*string
		for rows.Next() {
			values, err := rows.Values()
			if err != nil {
				t.Fatal(err)
			}
			for i, d := range rows.FieldDescriptions() {
				if at, ok := values[i].(time.Time); ok && d.DataTypeOID == pgtype.DateOID {
					values[i] = at.Format(time.DateOnly)
				}
			}
			out = append(out, texts(t, names, values))
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
		return out
	}
	return f
}

// texts brings a row to one form on both databases: numbers without trailing
// zeros, times in RFC 3339 UTC, booleans as true and false.
func texts(t *testing.T, names []string, values []any) map[string]*string {
	t.Helper()
	out := make(map[string]*string, len(names))
	for i, v := range values {
		var s string
		switch v := v.(type) {
		case nil:
			out[names[i]] = nil
			continue
		case string:
			s = v
		case []byte:
			s = string(v)
		case bool:
			s = strconv.FormatBool(v)
		case int64:
			s = strconv.FormatInt(v, 10)
		case int32:
			s = strconv.FormatInt(int64(v), 10)
		case float64:
			s = strconv.FormatFloat(v, 'f', -1, 64)
		case time.Time:
			s = v.UTC().Format(time.RFC3339)
		case pgtype.Numeric:
			text, err := v.Value()
			if err != nil {
				t.Fatal(err)
			}
			if s = text.(string); strings.Contains(s, ".") {
				s = strings.TrimRight(strings.TrimRight(s, "0"), ".")
			}
		default:
			s = fmt.Sprint(v)
		}
		out[names[i]] = &s
	}
	return out
}

// config is what a runner of the test is made with.
func (f *fixture[TTx]) config(t testing.TB) *runner.Config[TTx] {
	return &runner.Config[TTx]{
		App:       &sfapi.App{ClientID: sftest.DefaultClientID, ClientSecret: sftest.DefaultClientSecret},
		Sealer:    f.sealer,
		Handlers:  f.handlers,
		Transport: f.sim,
		Logger:    slog.New(slog.NewTextHandler(logTo{t}, &slog.HandlerOptions{Level: slog.LevelWarn})),
	}
}

// logTo writes log lines to a test.
type logTo struct{ t testing.TB }

func (l logTo) Write(p []byte) (int, error) {
	l.t.Log(strings.TrimSuffix(string(p), "\n"))
	return len(p), nil
}

// migrated returns a runner on a migrated database, not started.
func (f *fixture[TTx]) migrated(t testing.TB, change ...func(*runner.Config[TTx])) *runner.Runner[TTx] {
	t.Helper()
	cfg := f.config(t)
	for _, fn := range change {
		fn(cfg)
	}
	r, err := runner.New(f.driver, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return r
}

// connect gives the runner a grant of the org.
func (f *fixture[TTx]) connect(t testing.TB, r *runner.Runner[TTx]) {
	t.Helper()
	if _, _, err := r.Orgs().Connect(t.Context(), &runner.ConnectParams{RefreshToken: sfapi.Secret(f.org.Grant()), Label: "Acme"}); err != nil {
		t.Fatal(err)
	}
}

// start starts the runner until the test ends.
func start[TTx any](t testing.TB, r *runner.Runner[TTx]) {
	t.Helper()
	if err := r.Start(context.WithoutCancel(t.Context())); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := r.Stop(ctx); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
}

// running returns a connected runner that works.
func (f *fixture[TTx]) running(t testing.TB, change ...func(*runner.Config[TTx])) *runner.Runner[TTx] {
	t.Helper()
	r := f.migrated(t, change...)
	f.connect(t, r)
	start(t, r)
	return r
}

// eventually waits until done says so, or the test's time is over.
func eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	deadline := time.NewTimer(2 * time.Minute)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("never: %s", what)
		}
	}
}
