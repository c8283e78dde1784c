package runnerpgx

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/weirhq/weir/jobs"
	"github.com/weirhq/weir/runner/internal/store"
)

// Ids come from a sequence, and are committed in any order. So who inserts an
// event first takes a shared advisory lock that is named after the sequence's
// value, below the id that he will get, and keeps it until his transaction has
// ended. A reader goes no further than the lowest of these. Nobody waits for
// anybody: a process that hangs in its transaction holds back the feed, and
// not the others' events.
const (
	// eventLocks is the upper half of the locks' 64-bit names.
	eventLocks = 0x77656972 // "weir"

	eventSequence = `SELECT CASE WHEN is_called THEN last_value ELSE last_value - 1 END FROM weir_event_id_seq`

	lockEvents = `SELECT pg_advisory_xact_lock_shared(($1::bigint << 32) | (last.value & 4294967295))
		FROM (` + eventSequence + `) AS last (value)`

	// lowestEventLock is NULL when nobody inserts.
	lowestEventLock = `SELECT min(objid::bigint) FROM pg_locks
		WHERE locktype = 'advisory' AND objsubid = 1 AND classid = $1::bigint::oid
			AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`
)

// InsertEventTx implements store.Events.
func (d *db) InsertEventTx(ctx context.Context, tx pgx.Tx, e *store.Event) error {
	if _, err := tx.Exec(ctx, lockEvents, int64(eventLocks)); err != nil {
		return fmt.Errorf("insert event of org %s: %w", e.Org, err)
	}
	err := tx.QueryRow(ctx, `INSERT INTO weir_event (org, type, at, payload) VALUES ($1, $2, $3, $4) RETURNING id`,
		e.Org, e.Type, timestamp(e.At), string(e.Payload)).Scan(&e.ID)
	if err != nil {
		return fmt.Errorf("insert event of org %s: %w", e.Org, err)
	}
	return nil
}

const eventColumns = `id, org, type, at, payload`

func scanEvent(row pgx.CollectableRow) (*store.Event, error) {
	var e store.Event
	var at pgtype.Timestamptz
	var payload []byte
	err := row.Scan(&e.ID, &e.Org, &e.Type, &at, &payload)
	e.At, e.Payload = timeOf(at), payload
	return &e, err
}

// Event implements store.Events.
func (d *db) Event(ctx context.Context, id int64) (*store.Event, error) {
	rows, err := d.pool.Query(ctx, `SELECT `+eventColumns+` FROM weir_event WHERE id = $1`, id)
	if err != nil {
		return nil, fmt.Errorf("read event %d: %w", id, err)
	}
	e, err := pgx.CollectExactlyOneRow(rows, scanEvent)
	if noRows(err) {
		err = jobs.ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("read event %d: %w", id, err)
	}
	return e, nil
}

// Events implements store.Events. The three statements must run in this order,
// each seeing what was committed before it: an id up to the sequence's value
// was locked before that was read; where the lock is gone, the row is there.
func (d *db) Events(ctx context.Context, after int64, limit int) ([]*store.Event, error) {
	var list []*store.Event
	err := d.InTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		var upTo int64
		if err := tx.QueryRow(ctx, eventSequence).Scan(&upTo); err != nil {
			return err
		}
		var lowest *int64
		if err := tx.QueryRow(ctx, lowestEventLock, int64(eventLocks)).Scan(&lowest); err != nil {
			return err
		}
		if lowest != nil {
			// Names have the lower half of the value: the newest that fits.
			value := upTo&^0xffffffff | *lowest
			if value > upTo {
				value -= 1 << 32
			}
			upTo = value
		}
		rows, err := tx.Query(ctx, `SELECT `+eventColumns+` FROM weir_event WHERE id > $1 AND id <= $2 ORDER BY id LIMIT $3`, after, upTo, limit)
		if err != nil {
			return err
		}
		list, err = pgx.CollectRows(rows, scanEvent)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list events after %d: %w", after, err)
	}
	return list, nil
}

// PruneEvents implements store.Events.
func (d *db) PruneEvents(ctx context.Context, before time.Time, limit int) (more bool, err error) {
	for _, query := range []string{
		`DELETE FROM weir_event WHERE id IN (
			SELECT id FROM weir_event WHERE inserted_at < $1 ORDER BY inserted_at LIMIT $2)`,
		`DELETE FROM weir_cancellation WHERE id IN (
			SELECT id FROM weir_cancellation WHERE state = 'closed' AND changed_at < $1 ORDER BY changed_at LIMIT $2)`,
	} {
		tag, err := d.pool.Exec(ctx, query, timestamp(before), limit)
		if err != nil {
			return false, fmt.Errorf("prune events: %w", err)
		}
		more = more || tag.RowsAffected() >= int64(limit)
	}
	return more, nil
}
