// The files river.go and river_*.go are the only ones of this package that
// touch River's tables. They are written against River v0.51.1's schema and
// notifications, and river_contract_test.go fails when those change.

package runnersqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/riverqueue/river/riverdriver"

	"github.com/weirhq/weir/breaker"
	"github.com/weirhq/weir/runner/internal/store"
	"github.com/weirhq/weir/sfapi"
)

// River's notification topics.
const (
	topicInsert  = "river_insert"
	topicControl = "river_control"
)

// riverLayout is how River keeps a time on SQLite. Only texts in this very
// layout compare as the times do.
const riverLayout = "2006-01-02 15:04:05.000"

// riverTime returns t as River keeps it, rounded as River rounds.
//
// River's statements read SQLite's clock unless its client has another; these
// read Go's. Both are the clock of this machine, but only Go's follows a
// testing/synctest bubble, as River's does with [river.TestConfig].
func riverTime(t time.Time) string { return t.UTC().Round(time.Millisecond).Format(riverLayout) }

// River's JSON columns hold JSONB. Text that somebody else wrote there may be
// no JSON at all, on which SQLite's functions fail, and with them the whole
// statement: such a value counts as none here, as it does in River.
const (
	soundMetadata = `CASE WHEN typeof(metadata) <> 'text' OR json_valid(metadata) THEN metadata END`
	soundArgs     = `CASE WHEN typeof(args) <> 'text' OR json_valid(args) THEN args END`
	argOrg        = `json_extract(` + soundArgs + `, '$.org')`
	argObject     = `json_extract(` + soundArgs + `, '$.object')`
)

// waiting are the states of a job that has yet to run, or to run again.
const waiting = `('available', 'pending', 'retryable', 'scheduled')`

// forLater selects the jobs that the app has scheduled for a time to come,
// after @now. River counts a snooze in metadata and takes the attempt back,
// which tells a snoozed job from one that was never meant to run yet.
const forLater = `(state = 'scheduled' AND attempt = 0 AND scheduled_at > @now
	AND json_extract(` + soundMetadata + `, '$.snoozes') IS NULL)`

// homeLane is the lane of a job that the gate let through, by its org; the
// job's own queue where its args name no org.
const homeLane = `CASE
	WHEN queue IN ('sf_run_sync', 'sf_run_write') AND length(` + argOrg + `) = 18
	THEN 'sf_' || lower(` + argOrg + `) || substr(queue, 7)
	ELSE queue END`

// anyLane matches the queues of all lanes (breaker.Lane.Queue).
const anyLane = `(queue GLOB 'sf_??????????????????_sync' OR queue GLOB 'sf_??????????????????_write')`

// orgQueues selects the queues in which jobs of an org can be, by @sync and
// @write, the names of its lanes.
const orgQueues = `(@sync, @write, 'sf_run_sync', 'sf_run_write')`

// orgArgs are the named arguments of a statement about one org.
func orgArgs(org sfapi.OrgID, more ...any) []any {
	return append([]any{
		sql.Named("org", string(org)),
		sql.Named("sync", breaker.Sync.Queue(org)),
		sql.Named("write", breaker.Write.Queue(org)),
		sql.Named("now", riverTime(time.Now())),
	}, more...)
}

// affected returns how many rows a statement changed.
func affected(res sql.Result, err error) (int, error) {
	if err != nil {
		return 0, err
	}
	n, err := res.RowsAffected()
	return int(n), err
}

// idList returns ids for json_each.
func idList(ids []int64) string {
	if len(ids) == 0 {
		return "[]"
	}
	b, _ := json.Marshal(ids) // integers always marshal
	return string(b)
}

// notifyInsert tells River's clients that queues have jobs.
func (d *db) notifyInsert(ctx context.Context, tx *sql.Tx, queues ...string) error {
	return d.notify(ctx, tx, topicInsert, queues, func(queue string) any {
		return map[string]string{"queue": queue}
	})
}

// notify sends a payload for each of from to River's clients.
func (d *db) notify(ctx context.Context, tx *sql.Tx, topic string, from []string, payload func(string) any) error {
	payloads := make([]string, len(from))
	for i, f := range from {
		b, err := json.Marshal(payload(f))
		if err != nil {
			return fmt.Errorf("notify %s: %w", topic, err)
		}
		payloads[i] = string(b)
	}
	params := &riverdriver.NotifyManyParams{Topic: topic, Payload: payloads}
	if err := d.driver.UnwrapExecutor(tx).NotifyMany(ctx, params); err != nil {
		return fmt.Errorf("notify %s: %w", topic, err)
	}
	return nil
}

// WaitingJobTx implements store.River.
func (d *db) WaitingJobTx(ctx context.Context, tx *sql.Tx, kind string, org sfapi.OrgID, object string) (int64, error) {
	const query = `
SELECT id FROM river_job
WHERE state IN ` + waiting + ` AND queue IN ` + orgQueues + ` AND kind = @kind
	AND ` + argOrg + ` = @org AND @object IN ('', ` + argObject + `) AND NOT ` + forLater + `
ORDER BY id
LIMIT 1`
	var id int64
	err := tx.QueryRowContext(ctx, query, orgArgs(org, sql.Named("kind", kind), sql.Named("object", object))...).Scan(&id)
	if err != nil && !noRows(err) {
		return 0, fmt.Errorf("find waiting %s of org %s: %w", kind, org, err)
	}
	return id, nil
}

// SetArgTx implements store.River.
func (d *db) SetArgTx(ctx context.Context, tx *sql.Tx, jobID int64, name, value string) (bool, error) {
	const query = `
UPDATE river_job SET args = jsonb_set(args, '$.' || json_quote(@name), @value)
WHERE id = @id AND state IN ` + waiting
	n, err := affected(tx.ExecContext(ctx, query, sql.Named("id", jobID), sql.Named("name", name), sql.Named("value", value)))
	if err != nil {
		return false, fmt.Errorf("set %s of job %d: %w", name, jobID, err)
	}
	return n == 1, nil
}

// CompleteWaiting implements store.River.
func (d *db) CompleteWaiting(ctx context.Context, kind string, org sfapi.OrgID, object string, keep int64) (int, error) {
	const query = `
UPDATE river_job
SET state = 'completed', finalized_at = @now,
	metadata = jsonb_set(coalesce(` + soundMetadata + `, '{}'), '$."` + store.MetadataDoneBy + `"', @keep)
WHERE state IN ` + waiting + ` AND queue IN ` + orgQueues + ` AND kind = @kind
	AND ` + argOrg + ` = @org AND @object IN ('', ` + argObject + `) AND NOT ` + forLater + ` AND id <> @keep`
	n, err := affected(d.pool.ExecContext(ctx, query,
		orgArgs(org, sql.Named("kind", kind), sql.Named("object", object), sql.Named("keep", keep))...))
	if err != nil {
		return 0, fmt.Errorf("complete waiting %s of org %s: %w", kind, org, err)
	}
	return n, nil
}

// MoveRunning implements store.River.
func (d *db) MoveRunning(ctx context.Context, jobID int64, queue string) error {
	const query = `UPDATE river_job SET queue = @queue WHERE id = @id AND state = 'running' AND queue <> @queue`
	if _, err := d.pool.ExecContext(ctx, query, sql.Named("id", jobID), sql.Named("queue", queue)); err != nil {
		return fmt.Errorf("move job %d to queue %s: %w", jobID, queue, err)
	}
	return nil
}

// Backlog implements store.River.
func (d *db) Backlog(ctx context.Context, org sfapi.OrgID) (sync, write int, err error) {
	const query = `
SELECT count(*) FILTER (WHERE queue GLOB '*sync'), count(*) FILTER (WHERE queue GLOB '*write')
FROM river_job
WHERE state IN ` + waiting + ` AND queue IN ` + orgQueues + `
	AND (queue IN (@sync, @write) OR ` + argOrg + ` = @org)`
	if err := d.pool.QueryRowContext(ctx, query, orgArgs(org)...).Scan(&sync, &write); err != nil {
		return 0, 0, fmt.Errorf("count backlog of org %s: %w", org, err)
	}
	return sync, write, nil
}

// Beat implements store.River.
func (d *db) Beat(ctx context.Context, process string) error {
	const query = `
INSERT INTO weir_worker (process, started_at, seen_at) VALUES (@process, @now, @now)
ON CONFLICT (process) DO UPDATE SET seen_at = excluded.seen_at`
	if _, err := d.pool.ExecContext(ctx, query, sql.Named("process", process), sql.Named("now", timestamp(now()))); err != nil {
		return fmt.Errorf("record heartbeat of %s: %w", process, err)
	}
	return nil
}

// Retire implements store.River.
func (d *db) Retire(ctx context.Context, process string) error {
	if _, err := d.pool.ExecContext(ctx, `DELETE FROM weir_worker WHERE process = ?`, process); err != nil {
		return fmt.Errorf("remove heartbeat of %s: %w", process, err)
	}
	return nil
}

const rescueLost = `
UPDATE river_job SET
	queue = ` + homeLane + `,
	state = CASE
		WHEN json_extract(` + soundMetadata + `, '$.cancel_attempted_at') IS NOT NULL THEN 'cancelled'
		WHEN attempt >= max_attempts THEN 'discarded'
		ELSE 'available' END,
	finalized_at = CASE
		WHEN json_extract(` + soundMetadata + `, '$.cancel_attempted_at') IS NOT NULL OR attempt >= max_attempts
		THEN @now END,
	errors = jsonb_insert(coalesce(errors, jsonb('[]')), '$[#]', jsonb(json_object('at', @at, 'attempt', attempt, 'trace', '',
		'error', 'worker process ' || coalesce(json_extract(attempted_by, '$[#-1]'), '') || ' stopped without a word'))),
	metadata = jsonb_set(coalesce(` + soundMetadata + `, '{}'), '$."river:rescue_count"',
		1 + coalesce(json_extract(` + soundMetadata + `, '$."river:rescue_count"'), 0))
WHERE state = 'running'
	AND (queue IN ('sf_control', 'sf_run_sync', 'sf_run_write') OR ` + anyLane + `)
	AND attempted_at < @before
	AND NOT EXISTS (
		SELECT 1 FROM weir_worker WHERE process = json_extract(attempted_by, '$[#-1]') AND seen_at >= @seen)
RETURNING state, queue`

const returnStrays = `
UPDATE river_job SET queue = ` + homeLane + `
WHERE state IN ('retryable', 'scheduled') AND queue IN ('sf_run_sync', 'sf_run_write') AND length(` + argOrg + `) = 18`

// Rescue implements store.River. A job keeps its scheduled_at, and with it its
// place at the head of its lane. What River's own rescue writes is written
// here too: an entry in errors, and river:rescue_count.
func (d *db) Rescue(ctx context.Context, deadAfter time.Duration) (int, error) {
	n := 0
	err := d.InTx(ctx, func(ctx context.Context, tx *sql.Tx) error {
		t := now()
		horizon := t.Add(-deadAfter)
		rows, err := tx.QueryContext(ctx, rescueLost,
			sql.Named("now", riverTime(t)), sql.Named("at", t.Format(time.RFC3339Nano)),
			sql.Named("before", riverTime(horizon)), sql.Named("seen", timestamp(horizon)))
		if err != nil {
			return err
		}
		var queues []string
		err = eachRow(rows, func(scan func(...any) error) error {
			var state, queue string
			if err := scan(&state, &queue); err != nil {
				return err
			}
			if state == "available" {
				n++
				queues = append(queues, queue)
			}
			return nil
		})
		if err != nil {
			return err
		}
		strays, err := affected(tx.ExecContext(ctx, returnStrays))
		if err != nil {
			return err
		}
		n += strays
		if _, err := tx.ExecContext(ctx, `DELETE FROM weir_worker WHERE seen_at < ?`, timestamp(horizon)); err != nil {
			return err
		}
		slices.Sort(queues)
		return d.notifyInsert(ctx, tx, slices.Compact(queues)...)
	})
	if err != nil {
		return 0, fmt.Errorf("rescue jobs of dead processes: %w", err)
	}
	return n, nil
}

// eachRow calls fn for each row, and closes rows.
func eachRow(rows *sql.Rows, fn func(scan func(...any) error) error) error {
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		if err := fn(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}
