package runnersqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/weirhq/weir/breaker"
	"github.com/weirhq/weir/runner/internal/store"
	"github.com/weirhq/weir/sfapi"
)

// findCancellable selects a batch of an org's jobs, those that run first.
const findCancellable = `
SELECT id, state, queue FROM river_job
WHERE state = 'running' AND json_extract(` + soundMetadata + `, '$.cancel_attempted_at') IS NULL
	AND queue IN ` + orgQueues + ` AND (queue IN (@sync, @write) OR ` + argOrg + ` = @org)
UNION ALL
SELECT id, state, queue FROM river_job
WHERE state IN ` + waiting + `
	AND queue IN ` + orgQueues + ` AND (queue IN (@sync, @write) OR ` + argOrg + ` = @org)
LIMIT @limit + 1`

// cancelFound cancels the batch. The row of a running job is never set to
// cancelled: River's completer would leave it alone, and the worker would go
// on. It gets cancel_attempted_at, as River's own JobCancel gives it, and a
// notification that names the queue which the worker's producer works,
// although the row moves to its lane. All jobs move there, so that those of
// the org are found together again.
const cancelFound = `
UPDATE river_job SET
	queue = ` + homeLane + `,
	state = CASE state WHEN 'running' THEN state ELSE 'cancelled' END,
	finalized_at = CASE state WHEN 'running' THEN finalized_at ELSE @now END,
	metadata = jsonb_set(coalesce(` + soundMetadata + `, '{}'),
		'$.cancel_attempted_at', @at, '$."` + store.MetadataCancelReason + `"', @reason)
WHERE id IN (SELECT value FROM json_each(@ids))`

// CancelOrgBatch implements store.River.
func (d *db) CancelOrgBatch(ctx context.Context, org sfapi.OrgID, reason string, limit int) (b *store.CancelledBatch, err error) {
	err = d.InTx(ctx, func(ctx context.Context, tx *sql.Tx) error {
		b, err = d.CancelOrgBatchTx(ctx, tx, org, reason, limit)
		return err
	})
	return b, err
}

// CancelOrgBatchTx implements store.River.
func (d *db) CancelOrgBatchTx(ctx context.Context, tx *sql.Tx, org sfapi.OrgID, reason string, limit int) (*store.CancelledBatch, error) {
	b := &store.CancelledBatch{}
	if err := d.cancelInto(ctx, tx, org, reason, limit, b); err != nil {
		return nil, fmt.Errorf("cancel jobs of org %s: %w", org, err)
	}
	return b, nil
}

func (d *db) cancelInto(ctx context.Context, tx *sql.Tx, org sfapi.OrgID, reason string, limit int, b *store.CancelledBatch) error {
	rows, err := tx.QueryContext(ctx, findCancellable, orgArgs(org, sql.Named("limit", limit))...)
	if err != nil {
		return err
	}
	var (
		ids  []int64
		told []string
	)
	err = eachRow(rows, func(scan func(...any) error) error {
		var (
			id           int64
			state, queue string
		)
		if err := scan(&id, &state, &queue); err != nil {
			return err
		}
		if len(ids) == limit {
			b.More = true
			return nil
		}
		ids = append(ids, id)
		if state != "running" {
			b.Cancelled++
			return nil
		}
		lane := breaker.Sync
		if strings.HasSuffix(queue, breaker.Write.String()) {
			lane = breaker.Write
		}
		b.Signalled++
		payload, err := json.Marshal(struct {
			Action string `json:"action"`
			JobID  int64  `json:"job_id"`
			Queue  string `json:"queue"`
		}{"cancel", id, lane.RunQueue()})
		told = append(told, string(payload))
		return err
	})
	if err != nil || len(ids) == 0 {
		return err
	}
	t := time.Now().UTC()
	if _, err := tx.ExecContext(ctx, cancelFound, sql.Named("now", riverTime(t)), sql.Named("at", t.Format(time.RFC3339Nano)),
		sql.Named("reason", reason), sql.Named("ids", idList(ids))); err != nil {
		return err
	}
	return d.notify(ctx, tx, topicControl, told, func(payload string) any { return json.RawMessage(payload) })
}

// CancelledRunning implements store.River. A job's row moved into its lane when
// it was told to end.
func (d *db) CancelledRunning(ctx context.Context, org sfapi.OrgID, reason string) (n int, err error) {
	err = d.pool.QueryRowContext(ctx, `
		SELECT count(*) FROM river_job WHERE state = 'running' AND queue IN (@sync, @write)
			AND json_extract(`+soundMetadata+`, '$."`+store.MetadataCancelReason+`"') = @reason`,
		orgArgs(org, sql.Named("reason", reason))...).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("count jobs of org %s that end: %w", org, err)
	}
	return n, nil
}

// keyHeld is whether a job's unique key is in force in its state, as River's
// unique index has it.
const keyHeld = `unique_key IS NOT NULL AND unique_states IS NOT NULL
	AND CASE state
		WHEN 'available' THEN unique_states & (1 << 0)
		WHEN 'cancelled' THEN unique_states & (1 << 1)
		WHEN 'completed' THEN unique_states & (1 << 2)
		WHEN 'discarded' THEN unique_states & (1 << 3)
		WHEN 'pending' THEN unique_states & (1 << 4)
		WHEN 'retryable' THEN unique_states & (1 << 5)
		WHEN 'running' THEN unique_states & (1 << 6)
		WHEN 'scheduled' THEN unique_states & (1 << 7)
		ELSE 0
	END >= 1`

// findCancelled selects a batch of the jobs that were cancelled for @reason,
// and says of each whether its unique key has been taken since.
const findCancelled = `
SELECT id, queue, unique_key IS NOT NULL AND unique_states IS NOT NULL AND (
	row_number() OVER (PARTITION BY unique_key ORDER BY id) > 1
	OR EXISTS (
		SELECT 1 FROM (SELECT id, unique_key AS taken FROM river_job WHERE ` + keyHeld + `) other
		WHERE other.taken = found.unique_key AND other.id <> found.id))
FROM (
	SELECT id, queue, priority, scheduled_at, unique_key, unique_states FROM river_job
	WHERE state = 'cancelled' AND queue IN (@sync, @write)
		AND json_extract(` + soundMetadata + `, '$."` + store.MetadataCancelReason + `"') = @reason
	ORDER BY priority, scheduled_at, id
	LIMIT @limit + 1
) found
ORDER BY priority, scheduled_at, id`

const requeueFound = `
UPDATE river_job SET
	state = CASE WHEN scheduled_at > @now THEN 'scheduled' ELSE 'available' END,
	finalized_at = NULL,
	max_attempts = CASE WHEN attempt >= max_attempts THEN attempt + 1 ELSE max_attempts END,
	metadata = jsonb_remove(metadata, '$.cancel_attempted_at', '$."` + store.MetadataCancelReason + `"')
WHERE id IN (SELECT value FROM json_each(@ids))`

const forgetReason = `
UPDATE river_job SET metadata = jsonb_remove(metadata, '$."` + store.MetadataCancelReason + `"')
WHERE id IN (SELECT value FROM json_each(@ids))`

// RequeueCancelledBatch implements store.River. What River's JobRetry changes
// is changed here too, but for scheduled_at, which is a job's place in its
// lane.
func (d *db) RequeueCancelledBatch(ctx context.Context, org sfapi.OrgID, reason string, limit int) (n int, more bool, err error) {
	err = d.InTx(ctx, func(ctx context.Context, tx *sql.Tx) error {
		args := orgArgs(org, sql.Named("reason", reason), sql.Named("limit", limit))
		rows, err := tx.QueryContext(ctx, findCancelled, args...)
		if err != nil {
			return err
		}
		var back, stay []int64
		lanes := map[string]bool{}
		err = eachRow(rows, func(scan func(...any) error) error {
			var (
				id    int64
				queue string
				taken bool
			)
			if err := scan(&id, &queue, &taken); err != nil {
				return err
			}
			switch {
			case len(back)+len(stay) == limit:
				more = true
			case taken:
				stay = append(stay, id)
			default:
				back = append(back, id)
				lanes[queue] = true
			}
			return nil
		})
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, forgetReason, sql.Named("ids", idList(stay))); err != nil {
			return err
		}
		n, err = affected(tx.ExecContext(ctx, requeueFound, sql.Named("ids", idList(back)), sql.Named("now", riverTime(time.Now()))))
		if err != nil {
			return err
		}
		for _, lane := range breaker.AllLanes() {
			if queue := lane.Queue(org); lanes[queue] {
				if err := d.notifyInsert(ctx, tx, queue); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		return 0, false, fmt.Errorf("requeue cancelled jobs of org %s: %w", org, err)
	}
	return n, more, nil
}
