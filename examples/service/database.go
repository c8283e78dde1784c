package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/weirhq/weir/runner/runnersqlite"
)

const (
	sqlitePrefix = "sqlite:"

	// maxConns is how many connections a process may have, unless the URL's
	// pool_max_conns says otherwise.
	maxConns = 20

	// connsBesidePool are those that the pool does not count: River's listener,
	// Weir's, and the one that holds the lock of a migration.
	connsBesidePool = 3

	connectTimeout = 5 * time.Second
)

// checkDatabaseURL reports what cannot be a database, without asking it.
func checkDatabaseURL(raw string) error {
	if path, ok := strings.CutPrefix(raw, sqlitePrefix); ok {
		if path == "" {
			return errors.New("sqlite: names no file")
		}
		return nil
	}
	_, err := poolConfig(raw)
	return err
}

// poolConfig reads a postgres:// URL. Its errors do not repeat the URL, which
// may hold a password.
func poolConfig(raw string) (*pgxpool.Config, error) {
	u, err := url.Parse(raw)
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" {
		return nil, errors.New("it is neither postgres://… nor sqlite:path")
	}
	limit := maxConns
	if text := u.Query().Get("pool_max_conns"); text != "" {
		if limit, err = strconv.Atoi(text); err != nil || limit < 1 {
			return nil, fmt.Errorf("pool_max_conns is %q, not a number of connections", text)
		}
	}
	c, err := pgxpool.ParseConfig(raw)
	if err != nil {
		return nil, errors.New("pgx cannot read it")
	}
	c.MaxConns = int32(max(limit-connsBesidePool, 2))
	c.MinConns, c.MinIdleConns = min(c.MinConns, c.MaxConns), min(c.MinIdleConns, c.MaxConns)
	if c.ConnConfig.ConnectTimeout == 0 {
		c.ConnConfig.ConnectTimeout = connectTimeout
	}
	return c, nil
}

// openPostgres makes a pool. It connects when it is first used, so a database
// that is away does not keep the service from starting.
func openPostgres(raw string) (*pgxpool.Pool, error) {
	c, err := poolConfig(raw)
	if err != nil {
		return nil, err
	}
	return pgxpool.NewWithConfig(context.Background(), c)
}

func openSQLite(raw string) (*sql.DB, error) {
	return runnersqlite.Open(strings.TrimPrefix(raw, sqlitePrefix))
}

// databaseAway reports whether err says that the database did not answer, or
// refused for a cause that passes: not that it was asked something wrong.
func databaseAway(err error) bool {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch class := pg.Code[:min(2, len(pg.Code))]; class {
		case "08", "53", "57", "58": // connection, resources, operator intervention, system
			return true
		case "25": // read-only: a standby that has not been promoted yet
			return pg.Code == "25006"
		case "28", "3D": // the server is there and will not let us in
			return true
		}
		return false
	}
	if _, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		return true
	}
	if _, ok := errors.AsType[net.Error](err); ok {
		return true
	}
	for _, away := range []error{context.DeadlineExceeded, io.EOF, io.ErrUnexpectedEOF, net.ErrClosed, sql.ErrConnDone, pgx.ErrTxClosed} {
		if errors.Is(err, away) {
			return true
		}
	}
	text := err.Error()
	return pgconn.SafeToRetry(err) || strings.Contains(text, "SQLITE_BUSY") || strings.Contains(text, "conn closed") || strings.Contains(text, "closed pool")
}
