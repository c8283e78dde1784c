package runnerpgx

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/weirhq/weir/migrations"
)

// Migrate implements store.Store.
func (d *db) Migrate(ctx context.Context) error { return d.migrateTo(ctx, -1) }

// MigrateDown implements store.Store.
func (d *db) MigrateDown(ctx context.Context, version int) error {
	if version < 0 {
		return fmt.Errorf("migrate down: there is no version %d", version)
	}
	return d.migrateTo(ctx, version)
}

// migrateTo runs one migration after the other, each in a transaction that
// locks out other processes and looks again at what is left to do.
func (d *db) migrateTo(ctx context.Context, version int) error {
	for {
		more := false
		err := d.InTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
			var err error
			more, err = migrateStep(ctx, tx, version)
			return err
		})
		if err != nil {
			return fmt.Errorf("migrate: %w", err)
		}
		if !more {
			return nil
		}
	}
}

// migrateStep runs the next migration, and reports whether it did.
func migrateStep(ctx context.Context, tx pgx.Tx, version int) (bool, error) {
	// Advisory locks belong to the whole database, the tables to one schema.
	if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock(hashtextextended($1::text || coalesce(current_schema(), ''), 0))`,
		migrations.Table+" "); err != nil {
		return false, fmt.Errorf("lock out other processes: %w", err)
	}
	// CREATE TABLE IF NOT EXISTS would ask for the right to create tables from
	// a role that needs none any more.
	var exists bool
	if err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM pg_tables WHERE schemaname = current_schema() AND tablename = 'weir_migration')`).Scan(&exists); err != nil {
		return false, err
	}
	if !exists {
		if _, err := tx.Exec(ctx, `CREATE TABLE weir_migration (
			version integer PRIMARY KEY, name text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())`); err != nil {
			return false, err
		}
	}
	var has int
	if err := tx.QueryRow(ctx, `SELECT coalesce(max(version), 0) FROM weir_migration`).Scan(&has); err != nil {
		return false, err
	}
	up, down, err := migrations.Steps(migrations.Postgres(), has, version)
	if err != nil {
		return false, err
	}
	switch {
	case len(up) > 0:
		m := up[0]
		// Without arguments pgx uses the simple protocol, which takes several
		// statements.
		if _, err := tx.Exec(ctx, m.Up); err != nil {
			return false, fmt.Errorf("%03d %s: %w", m.Version, m.Name, err)
		}
		_, err := tx.Exec(ctx, `INSERT INTO weir_migration (version, name) VALUES ($1, $2)`, m.Version, m.Name)
		return true, err
	case len(down) > 0:
		m := down[0]
		if _, err := tx.Exec(ctx, m.Down); err != nil {
			return false, fmt.Errorf("%03d %s down: %w", m.Version, m.Name, err)
		}
		_, err := tx.Exec(ctx, `DELETE FROM weir_migration WHERE version = $1`, m.Version)
		return true, err
	}
	if version == 0 {
		_, err := tx.Exec(ctx, `DROP TABLE weir_migration`)
		return false, err
	}
	return false, nil
}
