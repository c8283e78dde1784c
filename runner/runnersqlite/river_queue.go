package runnersqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"time"

	"github.com/weirhq/weir/runner/internal/store"
)

// keptFor is how far ahead of the clock the updated_at of a paused lane's row
// is. River's queue cleaner deletes rows that nobody touched for a day, pauses
// included, and no producer touches a lane. A hold can last for weeks, and so
// can the standstill of our process, so a time that has to be renewed would
// not do.
const keptFor = 100 * 365 * 24 * time.Hour

// PauseLaneTx implements store.River.
func (d *db) PauseLaneTx(ctx context.Context, tx *sql.Tx, queue string, metadata json.RawMessage) error {
	const query = `
INSERT INTO river_queue (name, created_at, metadata, paused_at, updated_at)
VALUES (@name, @now, jsonb(@metadata), @now, @kept)
ON CONFLICT (name) DO UPDATE SET
	metadata = excluded.metadata,
	paused_at = coalesce(river_queue.paused_at, excluded.paused_at),
	updated_at = excluded.updated_at`
	if len(metadata) == 0 {
		metadata = json.RawMessage(`{}`)
	}
	t := time.Now()
	if _, err := tx.ExecContext(ctx, query, sql.Named("name", queue), sql.Named("metadata", string(metadata)),
		sql.Named("now", riverTime(t)), sql.Named("kept", riverTime(t.Add(keptFor)))); err != nil {
		return fmt.Errorf("pause queue %s: %w", queue, err)
	}
	return d.notifyQueue(ctx, tx, "pause", queue)
}

// ResumeLaneTx implements store.River. The row becomes one that River's cleaner
// may remove, a day after the lane's last job. The gate is woken as by an
// insert.
func (d *db) ResumeLaneTx(ctx context.Context, tx *sql.Tx, queue string) error {
	const query = `
INSERT INTO river_queue (name, created_at, metadata, updated_at) VALUES (@name, @now, jsonb('{}'), @now)
ON CONFLICT (name) DO UPDATE SET metadata = excluded.metadata, paused_at = NULL, updated_at = excluded.updated_at`
	if _, err := tx.ExecContext(ctx, query, sql.Named("name", queue), sql.Named("now", riverTime(time.Now()))); err != nil {
		return fmt.Errorf("resume queue %s: %w", queue, err)
	}
	if err := d.notifyQueue(ctx, tx, "resume", queue); err != nil {
		return err
	}
	return d.notifyInsert(ctx, tx, queue)
}

// notifyQueue tells River's client what became of a queue.
func (d *db) notifyQueue(ctx context.Context, tx *sql.Tx, action, queue string) error {
	return d.notify(ctx, tx, topicControl, []string{queue}, func(queue string) any {
		return map[string]string{"action": action, "queue": queue}
	})
}

// LaneQueues implements store.River.
func (d *db) LaneQueues(ctx context.Context, queues []string) ([]*store.LaneQueue, error) {
	const query = `
SELECT name, paused_at, json(` + soundMetadata + `) FROM river_queue
WHERE name IN (SELECT value FROM json_each(@queues))
	OR (paused_at IS NOT NULL AND (name GLOB 'sf_??????????????????_sync' OR name GLOB 'sf_??????????????????_write'))
ORDER BY name`
	list, err := json.Marshal(queues)
	if err != nil {
		return nil, fmt.Errorf("read queue rows of lanes: %w", err)
	}
	rows, err := d.pool.QueryContext(ctx, query, sql.Named("queues", string(list)))
	if err != nil {
		return nil, fmt.Errorf("read queue rows of lanes: %w", err)
	}
	found := []*store.LaneQueue{}
	err = eachRow(rows, func(scan func(...any) error) error {
		var (
			q        store.LaneQueue
			pausedAt sql.NullTime
			metadata sql.NullString
		)
		if err := scan(&q.Name, &pausedAt, &metadata); err != nil {
			return err
		}
		if pausedAt.Valid {
			q.PausedAt = pausedAt.Time.UTC()
		}
		if metadata.Valid {
			q.Metadata = json.RawMessage(metadata.String)
		}
		found = append(found, &q)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read queue rows of lanes: %w", err)
	}
	return found, nil
}
