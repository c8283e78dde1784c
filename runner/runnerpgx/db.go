// Package runnerpgx runs Weir on PostgreSQL 14 or newer, through pgx and River's
// pgx driver. Any number of processes may share one database.
package runnerpgx

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river/riverdriver"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"github.com/weirhq/weir/runner/internal/store"
)

// db implements store.Store on a pool. Its tables are those of package
// migrations, named without a schema: the first schema of the search_path has
// them, as it has River's.
type db struct {
	pool   *pgxpool.Pool
	driver *riverpgxv5.Driver

	exclusive sync.Mutex // see Exclusive
}

var _ store.Store[pgx.Tx] = (*db)(nil)

// newDB returns a db on pool, which stays the caller's to close.
func newDB(pool *pgxpool.Pool) *db {
	return &db{pool: pool, driver: riverpgxv5.New(pool)}
}

// querier is what a pool, a connection and a transaction have in common.
type querier interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// InTx implements store.Store. The isolation is read committed whatever the
// server's default is: every decision that needs more takes the row's lock
// first, and then must see what was committed before it had the lock.
func (d *db) InTx(ctx context.Context, fn func(ctx context.Context, tx pgx.Tx) error) error {
	tx, err := d.pool.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.ReadCommitted})
	if err != nil {
		return fmt.Errorf("begin transaction: %w", err)
	}
	// The rollback must reach the server although ctx has ended; otherwise
	// pgx closes the connection. After a commit it does nothing.
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	if err := fn(ctx, tx); err != nil {
		return err
	}
	if err := tx.Commit(ctx); err != nil {
		return fmt.Errorf("commit transaction: %w", err)
	}
	return nil
}

// Driver implements store.Store.
func (d *db) Driver() riverdriver.Driver[pgx.Tx] { return d.driver }

// Ping implements store.Store.
func (d *db) Ping(ctx context.Context) error {
	if err := d.pool.Ping(ctx); err != nil {
		return fmt.Errorf("ping database: %w", err)
	}
	return nil
}

// Now implements store.Store.
func (d *db) Now(ctx context.Context) (time.Time, error) {
	var now time.Time
	if err := d.pool.QueryRow(ctx, `SELECT clock_timestamp()`).Scan(&now); err != nil {
		return time.Time{}, fmt.Errorf("read database clock: %w", err)
	}
	return now.UTC(), nil
}

// noRows reports whether err says that a query gave no row.
func noRows(err error) bool { return errors.Is(err, pgx.ErrNoRows) }
