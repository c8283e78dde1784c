package runnersqlite

import (
	"context"
	"database/sql"
	"fmt"

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
// has the write lock from its begin (BEGIN IMMEDIATE, see Open), and so locks
// out other processes before it looks at what is left to do.
func (d *db) migrateTo(ctx context.Context, version int) error {
	for {
		more := false
		err := d.InTx(ctx, func(ctx context.Context, tx *sql.Tx) error {
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
func migrateStep(ctx context.Context, tx *sql.Tx, version int) (bool, error) {
	if _, err := tx.ExecContext(ctx, `CREATE TABLE IF NOT EXISTS weir_migration (
		version integer PRIMARY KEY NOT NULL, name text NOT NULL, applied_at text NOT NULL)`); err != nil {
		return false, err
	}
	var has int
	if err := tx.QueryRowContext(ctx, `SELECT coalesce(max(version), 0) FROM weir_migration`).Scan(&has); err != nil {
		return false, err
	}
	up, down, err := migrations.Steps(migrations.SQLite(), has, version)
	if err != nil {
		return false, err
	}
	switch {
	case len(up) > 0:
		m := up[0]
		if _, err := tx.ExecContext(ctx, m.Up); err != nil {
			return false, fmt.Errorf("%03d %s: %w", m.Version, m.Name, err)
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO weir_migration (version, name, applied_at) VALUES (?, ?, ?)`, m.Version, m.Name, timestamp(now()))
		return true, err
	case len(down) > 0:
		m := down[0]
		if _, err := tx.ExecContext(ctx, m.Down); err != nil {
			return false, fmt.Errorf("%03d %s down: %w", m.Version, m.Name, err)
		}
		_, err := tx.ExecContext(ctx, `DELETE FROM weir_migration WHERE version = ?`, m.Version)
		return true, err
	}
	if version == 0 {
		_, err := tx.ExecContext(ctx, `DROP TABLE weir_migration`)
		return false, err
	}
	return false, nil
}
