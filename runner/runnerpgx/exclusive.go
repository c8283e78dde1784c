package runnerpgx

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Exclusive implements store.Store. The lock is held by a connection beside
// the pool: connections of the pool that wait for it could leave none for fn.
func (d *db) Exclusive(ctx context.Context, name string, fn func(ctx context.Context) error) error {
	d.exclusive.Lock()
	defer d.exclusive.Unlock()
	conn, err := pgx.ConnectConfig(ctx, d.pool.Config().ConnConfig)
	if err != nil {
		return fmt.Errorf("%s: connect: %w", name, err)
	}
	defer func() {
		// The lock ends with the session.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		_ = conn.Close(ctx)
	}()
	// Advisory locks belong to the whole database, the tables to one schema.
	_, err = conn.Exec(ctx, `SELECT pg_advisory_lock(hashtextextended($1::text || coalesce(current_schema(), ''), 0))`, "weir exclusive "+name+" ")
	if err != nil {
		return fmt.Errorf("%s: lock out other processes: %w", name, err)
	}
	return fn(ctx)
}
