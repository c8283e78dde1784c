package runnersqlite

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/weirhq/weir/jobs"
	"github.com/weirhq/weir/runner/internal/store"
)

// InsertEventTx implements store.Events. There is one writer at a time, so ids
// are committed in their order.
func (d *db) InsertEventTx(ctx context.Context, tx *sql.Tx, e *store.Event) error {
	err := tx.QueryRowContext(ctx, `INSERT INTO weir_event (org, type, at, inserted_at, payload) VALUES (?, ?, ?, ?, ?) RETURNING id`,
		string(e.Org), e.Type, timestamp(e.At), timestamp(now()), string(e.Payload)).Scan(&e.ID)
	if err != nil {
		return fmt.Errorf("insert event of org %s: %w", e.Org, err)
	}
	return nil
}

const eventColumns = `id, org, type, at, payload`

func scanEvent(row scanner) (*store.Event, error) {
	var e store.Event
	var payload []byte
	err := row.Scan(&e.ID, &e.Org, &e.Type, (*timestamp)(&e.At), &payload)
	e.Payload = payload
	return &e, err
}

// Event implements store.Events.
func (d *db) Event(ctx context.Context, id int64) (*store.Event, error) {
	e, err := scanEvent(d.pool.QueryRowContext(ctx, `SELECT `+eventColumns+` FROM weir_event WHERE id = ?`, id))
	if noRows(err) {
		err = jobs.ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("read event %d: %w", id, err)
	}
	return e, nil
}

// Events implements store.Events.
func (d *db) Events(ctx context.Context, after int64, limit int) ([]*store.Event, error) {
	rows, err := d.pool.QueryContext(ctx, `SELECT `+eventColumns+` FROM weir_event WHERE id > ? ORDER BY id LIMIT ?`, after, limit)
	list, err := collect(rows, err, scanEvent)
	if err != nil {
		return nil, fmt.Errorf("list events after %d: %w", after, err)
	}
	return list, nil
}

// PruneEvents implements store.Events.
func (d *db) PruneEvents(ctx context.Context, before time.Time, limit int) (more bool, err error) {
	for _, query := range []string{
		`DELETE FROM weir_event WHERE id IN (
			SELECT id FROM weir_event WHERE inserted_at < ? ORDER BY inserted_at LIMIT ?)`,
		`DELETE FROM weir_cancellation WHERE id IN (
			SELECT id FROM weir_cancellation WHERE state = 'closed' AND changed_at < ? ORDER BY changed_at LIMIT ?)`,
	} {
		n, err := affected(d.pool.ExecContext(ctx, query, timestamp(before), limit))
		if err != nil {
			return false, fmt.Errorf("prune events: %w", err)
		}
		more = more || n >= limit
	}
	return more, nil
}
