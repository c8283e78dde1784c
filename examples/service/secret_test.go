package main_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite"

	"github.com/weirhq/weir/sfapi/sftest"
)

// secrets is one run of the service, and what must be found nowhere: in none of
// its answers, deliveries and logs, and nowhere in its database.
type secrets struct {
	database string
	own      []string // those that the service was started with

	mu   sync.Mutex
	seen map[string]*bytes.Buffer // content by where it was seen
}

// withSecrets adds settings that hold secrets, and a receiver of the webhook.
func withSecrets(t *testing.T, database, login string) (*secrets, []string) {
	t.Helper()
	const apiToken, hook = "an api token that nobody must read", "whsec_c2VjcmV0IG9mIHRoZSB3ZWJob29rLCAzMiBieXRlcw=="
	s := &secrets{database: database, seen: make(map[string]*bytes.Buffer)}
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		s.saw("deliveries", fmt.Sprint(r.Header), string(body))
	}))
	t.Cleanup(receiver.Close)
	env := environment(t, database, login, "API_TOKEN="+apiToken, "WEBHOOK_URL="+receiver.URL, "WEBHOOK_SECRET="+hook)
	keyset := env[slices.IndexFunc(env, func(v string) bool { return strings.HasPrefix(v, "WEIR_KEYSET=") })]
	_, key, _ := strings.Cut(keyset, `"value":"`)
	key, _, _ = strings.Cut(key, `"`)
	s.own = []string{apiToken, hook, strings.TrimPrefix(hook, "whsec_"), key}
	return s, env
}

func (s *secrets) saw(where string, contents ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.seen[where]
	if b == nil {
		b = new(bytes.Buffer)
		s.seen[where] = b
	}
	for _, c := range contents {
		b.WriteString(c)
		b.WriteByte('\n')
	}
}

// leaks says where it found which of the secrets.
func (s *secrets) leaks(list []string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []string
	for where, b := range s.seen {
		for _, secret := range sftest.Leaks(b.Bytes(), list...) {
			found = append(found, fmt.Sprintf("%s: %q", where, secret))
		}
	}
	slices.Sort(found)
	return found
}

// readDatabase sees every row of every table.
func (s *secrets) readDatabase(t *testing.T) {
	t.Helper()
	driver, dsn, tables := "pgx", s.database, `
		SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')`
	path, isSQLite := strings.CutPrefix(s.database, "sqlite:")
	if isSQLite {
		driver, dsn, tables = "sqlite", path, `SELECT '"' || name || '"' FROM sqlite_schema WHERE type = 'table'`
	}
	db, err := sql.Open(driver, dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	names, err := column(t.Context(), db, tables)
	if err != nil {
		t.Fatal(err)
	}
	if len(names) < 10 {
		t.Fatalf("tables %q", names)
	}
	for _, name := range names {
		rows, err := dump(t.Context(), db, name, isSQLite)
		if err != nil {
			t.Fatal(err)
		}
		s.saw("table "+name, rows...)
	}
	if !isSQLite {
		return
	}
	files, err := filepath.Glob(path + "*") // what was deleted is there for a while
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		s.saw("file "+filepath.Base(file), string(content))
	}
}

// dump returns the rows of a table as text, bytes in hex.
func dump(ctx context.Context, db *sql.DB, table string, isSQLite bool) ([]string, error) {
	if !isSQLite {
		return column(ctx, db, "SELECT t::text FROM "+table+" t")
	}
	rows, err := db.QueryContext(ctx, "SELECT * FROM "+table)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	var out []string
	for rows.Next() {
		values := make([]any, len(columns))
		for i := range values {
			values[i] = new(sql.RawBytes)
		}
		if err := rows.Scan(values...); err != nil {
			return nil, err
		}
		for _, v := range values {
			out = append(out, string(*v.(*sql.RawBytes)))
		}
	}
	return out, rows.Err()
}

// column returns the first column of a query.
func column(ctx context.Context, db *sql.DB, query string) (out []string, err error) {
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var v string
		if err := rows.Scan(&v); err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, rows.Err()
}

// noSecretInTheClear looks at all that the steps before have left behind.
func noSecretInTheClear(t *testing.T, f *fleet, sim *simulator, org string) {
	for _, path := range []string{
		"/metrics", "/orgs.html", "/orgs", org, org + "/syncs", "/events", "/riverui/api/queues?limit=100",
		"/riverui/api/jobs?limit=100&state=completed", "/riverui/api/jobs?limit=100&state=cancelled",
		"/riverui/api/jobs?limit=100&state=scheduled", "/riverui/api/jobs?limit=100&state=discarded",
	} {
		f.want(http.StatusOK, "GET", path, "")
	}
	var list []string
	sim.control(t, "secrets", nil, &list)
	if len(list) < 10 {
		t.Fatalf("only %d secrets were about", len(list))
	}
	s := f.secrets
	s.readDatabase(t)
	for _, p := range f.procs {
		p.mu.Lock()
		s.saw("logs", p.log...)
		p.mu.Unlock()
	}
	for _, where := range []string{"answers", "deliveries", "logs", "table " + riverJobs(s.database)} {
		if s.seen[where] == nil {
			t.Errorf("nothing seen of the %s", where)
		}
	}
	list = append(list, s.own...)
	if found := s.leaks(list); len(found) > 0 {
		t.Errorf("in the clear:\n%s", strings.Join(found, "\n"))
	}

	// Each of them would be found among what was seen.
	for _, secret := range list {
		planted := &secrets{seen: make(map[string]*bytes.Buffer)}
		planted.saw("logs", s.seen["logs"].String(), "x"+secret+"y")
		if len(planted.leaks([]string{secret})) != 1 {
			t.Errorf("%.8s… would not be found", secret)
		}
	}
}

func riverJobs(database string) string {
	if strings.HasPrefix(database, "sqlite:") {
		return `"river_job"`
	}
	return "public.river_job"
}
