package runnerpgx

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/weirhq/weir/runner/internal/store"
)

// keptUntil is the updated_at of a paused lane's row. River's queue cleaner
// deletes rows that nobody touched for a day, pauses included, and no producer
// touches a lane. A hold can last for weeks, and so can the standstill of all
// of our processes, so a time that has to be renewed would not do. 'infinity'
// would not either: River reads the column into a time.Time.
const keptUntil = `now() + interval '100 years'`

// PauseLaneTx implements store.River.
func (d *db) PauseLaneTx(ctx context.Context, tx pgx.Tx, queue string, metadata json.RawMessage) error {
	const query = `
INSERT INTO river_queue (name, created_at, metadata, paused_at, updated_at)
VALUES ($1, now(), $2, now(), ` + keptUntil + `)
ON CONFLICT (name) DO UPDATE SET
	metadata = excluded.metadata,
	paused_at = coalesce(river_queue.paused_at, excluded.paused_at),
	updated_at = excluded.updated_at`
	if len(metadata) == 0 {
		metadata = json.RawMessage(`{}`)
	}
	if _, err := tx.Exec(ctx, query, queue, metadata); err != nil {
		return fmt.Errorf("pause queue %s: %w", queue, err)
	}
	return notifyQueue(ctx, tx, "pause", queue)
}

// ResumeLaneTx implements store.River. The row becomes one that River's cleaner
// may remove, a day after the lane's last job. The gate of every process is
// woken as by an insert.
func (d *db) ResumeLaneTx(ctx context.Context, tx pgx.Tx, queue string) error {
	const query = `
INSERT INTO river_queue (name, created_at, metadata, updated_at)
VALUES ($1, now(), '{}', now())
ON CONFLICT (name) DO UPDATE SET metadata = '{}', paused_at = NULL, updated_at = excluded.updated_at`
	if _, err := tx.Exec(ctx, query, queue); err != nil {
		return fmt.Errorf("resume queue %s: %w", queue, err)
	}
	if err := notifyQueue(ctx, tx, "resume", queue); err != nil {
		return err
	}
	return notifyInsert(ctx, tx, queue)
}

// notifyQueue tells River's clients what became of a queue.
func notifyQueue(ctx context.Context, tx pgx.Tx, action, queue string) error {
	const query = `
SELECT pg_notify(current_schema() || '.` + topicControl + `', json_build_object('action', $1::text, 'queue', $2::text)::text)`
	if _, err := tx.Exec(ctx, query, action, queue); err != nil {
		return fmt.Errorf("notify of %s of queue %s: %w", action, queue, err)
	}
	return nil
}

// notifyInsert tells River's clients that a queue has jobs.
func notifyInsert(ctx context.Context, q querier, queue string) error {
	const query = `SELECT pg_notify(current_schema() || '.` + topicInsert + `', json_build_object('queue', $1::text)::text)`
	if _, err := q.Exec(ctx, query, queue); err != nil {
		return fmt.Errorf("notify of jobs in queue %s: %w", queue, err)
	}
	return nil
}

// LaneQueues implements store.River.
func (d *db) LaneQueues(ctx context.Context, queues []string) ([]*store.LaneQueue, error) {
	const query = `
SELECT name, paused_at, metadata FROM river_queue
WHERE name = ANY($1) OR (paused_at IS NOT NULL AND name ~ $2)
ORDER BY name COLLATE "C"`
	rows, err := d.pool.Query(ctx, query, queues, anyLane)
	if err != nil {
		return nil, fmt.Errorf("read queue rows of lanes: %w", err)
	}
	found, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (*store.LaneQueue, error) {
		var (
			q        store.LaneQueue
			pausedAt *time.Time
		)
		if err := row.Scan(&q.Name, &pausedAt, &q.Metadata); err != nil {
			return nil, err
		}
		if pausedAt != nil {
			q.PausedAt = pausedAt.UTC()
		}
		return &q, nil
	})
	if err != nil {
		return nil, fmt.Errorf("read queue rows of lanes: %w", err)
	}
	return found, nil
}
