// Package pgtest gives each test a PostgreSQL database of its own.
//
// The databases live on the server that TEST_DATABASE_URL names; its user must
// be allowed to create databases. Where the variable is not set, the test
// process starts one throwaway server for all of its tests, which ends with the
// process even when that is killed. There is no way to go without: a missing
// PostgreSQL fails the test, and never skips it.
package pgtest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/weirhq/weir/runner/internal/pgtest/cluster"
)

// EnvVar names the variable with the address of the server to use: a URL or a
// keyword/value string, as libpq understands them.
const EnvVar = "TEST_DATABASE_URL"

// adminTimeout bounds the making and the dropping of one database.
const adminTimeout = time.Minute

// URL makes an empty database and returns its address. The database is dropped
// when the test ends, whoever is still connected. Its encoding is UTF8 and its
// locale C, on any server. URL is safe for concurrent use.
func URL(tb testing.TB) string {
	tb.Helper()

	server, err := serverURL()
	if err != nil {
		tb.Fatal(err)
	}
	name := databaseName(tb.Name())
	address, err := withDatabase(server, name)
	if err != nil {
		tb.Fatal(err)
	}

	quoted := pgx.Identifier{name}.Sanitize()
	// template0 admits no connections, so nothing can stand in the way of a
	// copy, as it can with template1; and it admits another locale.
	create := "CREATE DATABASE " + quoted + " TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C'"
	if err := administer(tb.Context(), server, create); err != nil {
		tb.Fatalf("create database for test: %v", err)
	}
	tb.Cleanup(func() {
		// The test's own context ended just before its clean-up began.
		ctx := context.WithoutCancel(tb.Context())
		if err := administer(ctx, server, "DROP DATABASE "+quoted+" WITH (FORCE)"); err != nil {
			tb.Errorf("drop database of test: %v", err)
		}
	})
	return address
}

// Pool makes an empty database, as URL does, and returns a pool of connections
// to it, which is closed when the test ends. Closing waits for the connections
// that the test has not given back.
func Pool(tb testing.TB) *pgxpool.Pool {
	tb.Helper()
	pool, err := pgxpool.New(tb.Context(), URL(tb))
	if err != nil {
		tb.Fatalf("open pool for test: %v", err)
	}
	tb.Cleanup(pool.Close)
	return pool
}

// processCluster is the server of this test process. It stays referenced, since
// a Cluster that is garbage stops.
var processCluster = sync.OnceValues(func() (*cluster.Cluster, error) {
	return cluster.Start(context.Background(), nil)
})

func serverURL() (string, error) {
	if server := os.Getenv(EnvVar); server != "" {
		return server, nil
	}
	c, err := processCluster()
	if errors.Is(err, cluster.ErrNoServer) {
		return "", fmt.Errorf("%w: run `make test`, which can install it, or set %s", err, EnvVar)
	}
	if err != nil {
		return "", err
	}
	return c.URL(), nil
}

// databaseName returns a name that no other test has, and that tells a reader
// of pg_stat_activity which test it is.
func databaseName(test string) string {
	const maxTestChars = 32 // PostgreSQL cuts names at 63 bytes.
	readable := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		case r >= 'A' && r <= 'Z':
			return r - 'A' + 'a'
		default:
			return '_'
		}
	}, test)
	readable = readable[:min(len(readable), maxTestChars)]
	return "weir_" + readable + "_" + strings.ToLower(rand.Text()[:16])
}

// withDatabase returns the address of another database on the same server.
func withDatabase(address, database string) (string, error) {
	if !strings.HasPrefix(address, "postgres://") && !strings.HasPrefix(address, "postgresql://") {
		// The last of several values counts in a keyword/value string.
		return address + " dbname=" + database, nil
	}
	u, err := url.Parse(address)
	if err != nil {
		// The parser's own error would repeat the address, password included.
		return "", errors.New("parse " + EnvVar + ": not a URL")
	}
	u.Path = "/" + database
	u.RawPath = ""
	query := u.Query()
	if query.Has("dbname") {
		query.Del("dbname") // It would outrank the path.
		u.RawQuery = query.Encode()
	}
	return u.String(), nil
}

// administer runs one statement that PostgreSQL takes only outside of a
// transaction.
func administer(ctx context.Context, server, statement string) (err error) {
	ctx, cancel := context.WithTimeout(ctx, adminTimeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, server)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	_, err = conn.Exec(ctx, statement)
	return err
}
