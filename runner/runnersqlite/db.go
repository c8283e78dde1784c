// Package runnersqlite runs Weir on SQLite in one process, through
// modernc.org/sqlite (no C compiler needed) and River's SQLite driver.
package runnersqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/riverqueue/river/riverdriver"
	"github.com/riverqueue/river/riverdriver/riversqlite"

	"github.com/weirhq/weir/runner/internal/store"
)

// db implements store.Store on a pool of one connection, see Open. Because
// there is only one, a query beside an open transaction of the same goroutine
// would wait for ever: inside InTx everything goes through its transaction.
type db struct {
	pool   *sql.DB
	driver *riversqlite.Driver
	orgs   broadcast

	exclusive sync.Mutex // see Exclusive
}

var _ store.Store[*sql.Tx] = (*db)(nil)

// newDB returns a db on pool, which stays the caller's to close.
func newDB(pool *sql.DB) *db {
	return &db{pool: pool, driver: riversqlite.New(pool)}
}

// querier is what a pool, a connection and a transaction have in common.
type querier interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// InTx implements store.Store. Its commits reach the disk before it returns,
// see durable.
func (d *db) InTx(ctx context.Context, fn func(ctx context.Context, tx *sql.Tx) error) error {
	conn, err := d.pool.Conn(ctx)
	if err != nil {
		return fmt.Errorf("begin transaction: %w", err)
	}
	defer func() { _ = conn.Close() }() // gives it back to the pool
	restore, err := durable(ctx, conn)
	if err != nil {
		return fmt.Errorf("begin transaction: %w", err)
	}
	defer restore()
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin transaction: %w", err)
	}
	defer func() { _ = tx.Rollback() }() // does nothing after a commit
	if err := fn(ctx, tx); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("commit transaction: %w", err)
	}
	return nil
}

// durable makes the commits of conn survive a power cut, as those of Postgres
// do, until restore is called. With synchronous = NORMAL (see Open) they
// survive only a crash of the process: a rotated refresh token, or the mark
// that a row was sent, would be forgotten although Salesforce knows of it.
func durable(ctx context.Context, conn *sql.Conn) (restore func(), err error) {
	const full = 2
	var was int
	if err := conn.QueryRowContext(ctx, `PRAGMA synchronous`).Scan(&was); err != nil {
		return nil, err
	}
	if was >= full {
		return func() {}, nil
	}
	if _, err := conn.ExecContext(ctx, `PRAGMA synchronous = FULL`); err != nil {
		return nil, err
	}
	return func() {
		// Left at FULL the connection is slower, and no less right.
		_, _ = conn.ExecContext(context.WithoutCancel(ctx), fmt.Sprintf(`PRAGMA synchronous = %d`, was))
	}, nil
}

// Driver implements store.Store.
func (d *db) Driver() riverdriver.Driver[*sql.Tx] { return d.driver }

// Ping implements store.Store.
func (d *db) Ping(ctx context.Context) error {
	if err := d.pool.PingContext(ctx); err != nil {
		return fmt.Errorf("ping database: %w", err)
	}
	return nil
}

// Now implements store.Store. SQLite runs in this process, so its clock is
// ours; the Go clock has microseconds and follows a testing/synctest bubble.
func (d *db) Now(ctx context.Context) (time.Time, error) {
	if err := ctx.Err(); err != nil {
		return time.Time{}, err
	}
	return now(), nil
}

// noRows reports whether err says that a query gave no row.
func noRows(err error) bool { return errors.Is(err, sql.ErrNoRows) }
