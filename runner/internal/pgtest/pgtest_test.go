package pgtest_test

import (
	"errors"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/weirhq/weir/runner/internal/pgtest"
)

func TestPoolGivesEachTestItsOwnDatabase(t *testing.T) {
	t.Parallel()

	var names [2]string
	for i := range names {
		pool := pgtest.Pool(t)
		if err := pool.QueryRow(t.Context(), "SELECT current_database()").Scan(&names[i]); err != nil {
			t.Fatal(err)
		}
		// The second time this fails if both share a database.
		if _, err := pool.Exec(t.Context(), "CREATE TABLE mine (id int)"); err != nil {
			t.Fatal(err)
		}
	}
	if names[0] == names[1] {
		t.Errorf("two databases are both named %s", names[0])
	}
}

func TestURLIsGoneAfterTheTest(t *testing.T) {
	t.Parallel()

	var address string
	var left *pgx.Conn
	t.Run("test", func(t *testing.T) {
		address = pgtest.URL(t)
		conn, err := pgx.Connect(t.Context(), address)
		if err != nil {
			t.Fatal(err)
		}
		left = conn // Still connected when the test ends.
	})

	if err := left.Ping(t.Context()); err == nil {
		t.Error("the connection that the test left open still works")
	}
	_, err := pgx.Connect(t.Context(), address)
	const invalidCatalogName = "3D000"
	var pgErr *pgconn.PgError
	if !errors.As(err, &pgErr) || pgErr.Code != invalidCatalogName {
		t.Errorf("connect to the database after its test: got %v, want SQLSTATE %s", err, invalidCatalogName)
	}
}

func TestURLHasOneEncodingAndLocale(t *testing.T) {
	t.Parallel()

	var encoding, collation string
	err := pgtest.Pool(t).QueryRow(t.Context(),
		"SELECT pg_encoding_to_char(encoding), datcollate FROM pg_database WHERE datname = current_database()",
	).Scan(&encoding, &collation)
	if err != nil {
		t.Fatal(err)
	}
	if encoding != "UTF8" || collation != "C" {
		t.Errorf("got encoding %s and collation %s, want UTF8 and C", encoding, collation)
	}
}

func TestDatabaseName(t *testing.T) {
	t.Parallel()

	const test = "TestÜber/case #1: a_rather_long_name_of_a_test_that_goes_on_and_on"
	name := pgtest.DatabaseName(test)
	if want := regexp.MustCompile(`^weir_test_ber_case__1__a_rather_long__[a-z2-7]{16}$`); !want.MatchString(name) {
		t.Errorf("got %s, want %s", name, want)
	}
	if len(name) > 63 {
		t.Errorf("%s has %d bytes, PostgreSQL cuts at 63", name, len(name))
	}
	if again := pgtest.DatabaseName(test); again == name {
		t.Errorf("got %s twice", name)
	}
}

func TestWithDatabase(t *testing.T) {
	t.Parallel()

	for _, tt := range []struct{ name, address, want string }{
		{"url", "postgres://u:p@host:5433/app?sslmode=disable", "postgres://u:p@host:5433/other?sslmode=disable"},
		{"url without a database", "postgresql://host", "postgresql://host/other"},
		{"database as a parameter", "postgres://host/app?dbname=app&sslmode=disable", "postgres://host/other?sslmode=disable"},
		{"keywords", "host=h dbname=app", "host=h dbname=app dbname=other"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()

			got, err := pgtest.WithDatabase(tt.address, "other")
			if err != nil || got != tt.want {
				t.Fatalf("got %s, %v; want %s", got, err, tt.want)
			}
			cfg, err := pgx.ParseConfig(got)
			if err != nil || cfg.Database != "other" {
				t.Errorf("pgx reads database %q, %v; want other", cfg.Database, err)
			}
		})
	}
}

func TestWithDatabaseKeepsThePasswordToItself(t *testing.T) {
	t.Parallel()

	_, err := pgtest.WithDatabase("postgres://user:secret@host:port:port/app", "other")
	if err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("got error %v, want one without the password", err)
	}
}

func Example() {
	test := func(t *testing.T) {
		pool := pgtest.Pool(t) // A database of this test's own.
		if _, err := pool.Exec(t.Context(), "CREATE TABLE account (id text PRIMARY KEY)"); err != nil {
			t.Fatal(err)
		}
	}
	_ = test
}
