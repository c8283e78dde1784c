// The files river.go and river_*.go are the only ones of this package that
// touch River's tables. They are written against River v0.51.1's schema and
// notifications, and river_contract_test.go fails when those change.

package runnerpgx

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/weirhq/weir/breaker"
	"github.com/weirhq/weir/runner/internal/store"
	"github.com/weirhq/weir/sfapi"
)

// River's notification topics. A channel is named by the schema, a dot and the
// topic.
const (
	topicInsert  = "river_insert"
	topicControl = "river_control"
)

// waiting are the states of a job that has yet to run, or to run again.
const waiting = `('available', 'pending', 'retryable', 'scheduled')`

// forLater selects the jobs that the app has scheduled for a time to come.
// River counts a snooze in metadata and takes the attempt back, which tells a
// snoozed job from one that was never meant to run yet.
const forLater = `(state = 'scheduled' AND attempt = 0 AND scheduled_at > now() AND NOT metadata ? 'snoozes')`

// homeLane is the lane of a job that the gate let through, by its org; the
// job's own queue where its args name no org.
const homeLane = `CASE
	WHEN queue IN ('sf_run_sync', 'sf_run_write') AND length(args ->> 'org') = 18
	THEN 'sf_' || lower(args ->> 'org') || substr(queue, 7)
	ELSE queue END`

// anyLane matches the queues of all lanes (breaker.Lane.Queue).
const anyLane = `^sf_[0-9a-z]{18}_(sync|write)$`

// runQueues are the queues that workers work, laneQueues those of an org.
var runQueues = []string{breaker.Sync.RunQueue(), breaker.Write.RunQueue()}

func laneQueues(org sfapi.OrgID) []string {
	return []string{breaker.Sync.Queue(org), breaker.Write.Queue(org)}
}

// WaitingJobTx implements store.River. The lock is a shared one, so that any
// number of transactions can hand their work to one job.
func (d *db) WaitingJobTx(ctx context.Context, tx pgx.Tx, kind string, org sfapi.OrgID, object string) (int64, error) {
	const query = `
SELECT id FROM river_job
WHERE state IN ` + waiting + ` AND queue = ANY($1) AND kind = $2 AND args @> $3 AND NOT ` + forLater + `
LIMIT 1
FOR SHARE SKIP LOCKED`
	args, err := jobArgs(org, object)
	if err != nil {
		return 0, err
	}
	var id int64
	err = tx.QueryRow(ctx, query, append(laneQueues(org), runQueues...), kind, args).Scan(&id)
	if err != nil && !noRows(err) {
		return 0, fmt.Errorf("find waiting %s of org %s: %w", kind, org, err)
	}
	return id, nil
}

// jobArgs returns the part of a job's args that says whose it is.
func jobArgs(org sfapi.OrgID, object string) (json.RawMessage, error) {
	args := map[string]string{"org": string(org)}
	if object != "" {
		args["object"] = object
	}
	return json.Marshal(args)
}

// SetArgTx implements store.River. Waiting for the row could deadlock: two
// transactions may share it already, each wanting it for itself.
func (d *db) SetArgTx(ctx context.Context, tx pgx.Tx, jobID int64, name, value string) (bool, error) {
	const query = `
WITH free AS (
	SELECT id FROM river_job WHERE id = $1 AND state IN ` + waiting + ` FOR UPDATE SKIP LOCKED
)
UPDATE river_job SET args = args || jsonb_build_object($2::text, $3::text)
FROM free WHERE river_job.id = free.id`
	tag, err := tx.Exec(ctx, query, jobID, name, value)
	if err != nil {
		return false, fmt.Errorf("set %s of job %d: %w", name, jobID, err)
	}
	return tag.RowsAffected() == 1, nil
}

// CompleteWaiting implements store.River.
func (d *db) CompleteWaiting(ctx context.Context, kind string, org sfapi.OrgID, object string, keep int64) (int, error) {
	const query = `
WITH free AS (
	SELECT id FROM river_job
	WHERE state IN ` + waiting + ` AND queue = ANY($1) AND kind = $2 AND args @> $3 AND NOT ` + forLater + `
		AND id <> $4
	FOR UPDATE SKIP LOCKED
)
UPDATE river_job
SET state = 'completed', finalized_at = now(), metadata = metadata || jsonb_build_object($5::text, $4::bigint)
FROM free WHERE river_job.id = free.id`
	args, err := jobArgs(org, object)
	if err != nil {
		return 0, err
	}
	tag, err := d.pool.Exec(ctx, query, append(laneQueues(org), runQueues...), kind, args, keep, store.MetadataDoneBy)
	if err != nil {
		return 0, fmt.Errorf("complete waiting %s of org %s: %w", kind, org, err)
	}
	return int(tag.RowsAffected()), nil
}

// MoveRunning implements store.River.
func (d *db) MoveRunning(ctx context.Context, jobID int64, queue string) error {
	const query = `UPDATE river_job SET queue = $2 WHERE id = $1 AND state = 'running' AND queue <> $2`
	if _, err := d.pool.Exec(ctx, query, jobID, queue); err != nil {
		return fmt.Errorf("move job %d to queue %s: %w", jobID, queue, err)
	}
	return nil
}

// Backlog implements store.River.
func (d *db) Backlog(ctx context.Context, org sfapi.OrgID) (sync, write int, err error) {
	const query = `
SELECT count(*) FILTER (WHERE queue LIKE '%sync'), count(*) FILTER (WHERE queue LIKE '%write')
FROM (
	SELECT queue FROM river_job WHERE state IN ` + waiting + ` AND queue = ANY($1)
	UNION ALL
	SELECT queue FROM river_job WHERE state IN ` + waiting + ` AND queue = ANY($2) AND args ->> 'org' = $3
) job`
	if err := d.pool.QueryRow(ctx, query, laneQueues(org), runQueues, string(org)).Scan(&sync, &write); err != nil {
		return 0, 0, fmt.Errorf("count backlog of org %s: %w", org, err)
	}
	return sync, write, nil
}

// Beat implements store.River.
func (d *db) Beat(ctx context.Context, process string) error {
	const query = `
INSERT INTO weir_worker (process, started_at, seen_at) VALUES ($1, now(), now())
ON CONFLICT (process) DO UPDATE SET seen_at = excluded.seen_at`
	if _, err := d.pool.Exec(ctx, query, process); err != nil {
		return fmt.Errorf("record heartbeat of %s: %w", process, err)
	}
	return nil
}

// Retire implements store.River.
func (d *db) Retire(ctx context.Context, process string) error {
	if _, err := d.pool.Exec(ctx, `DELETE FROM weir_worker WHERE process = $1`, process); err != nil {
		return fmt.Errorf("remove heartbeat of %s: %w", process, err)
	}
	return nil
}

// Rescue implements store.River. A job keeps its scheduled_at, and with it its
// place at the head of its lane. What River's own rescue writes is written
// here too: an entry in errors, and river:rescue_count.
func (d *db) Rescue(ctx context.Context, deadAfter time.Duration) (int, error) {
	const query = `
WITH lost AS (
	SELECT id, queue IN ('sf_run_sync', 'sf_run_write') AS let_through FROM river_job
	WHERE state = 'running' AND (queue = ANY($1) OR queue ~ $2)
		AND attempted_at < now() - $3::interval
		AND NOT EXISTS (
			SELECT FROM weir_worker
			WHERE process = attempted_by[array_upper(attempted_by, 1)] AND seen_at >= now() - $3::interval)
	FOR UPDATE OF river_job SKIP LOCKED
), stray AS (
	SELECT id FROM river_job
	WHERE state IN ('retryable', 'scheduled') AND queue IN ('sf_run_sync', 'sf_run_write')
		AND length(args ->> 'org') = 18
	FOR UPDATE SKIP LOCKED
), rescued AS (
	UPDATE river_job SET
		queue = ` + homeLane + `,
		state = (CASE
			WHEN metadata ? 'cancel_attempted_at' THEN 'cancelled'
			WHEN attempt >= max_attempts THEN 'discarded'
			ELSE 'available' END)::river_job_state,
		finalized_at = CASE WHEN metadata ? 'cancel_attempted_at' OR attempt >= max_attempts THEN now() END,
		errors = array_append(errors, jsonb_build_object('at', now(), 'attempt', attempt, 'trace', '',
			'error', 'worker process ' || coalesce(attempted_by[array_upper(attempted_by, 1)], '') || ' stopped without a word')),
		metadata = metadata || jsonb_build_object('river:rescue_count', 1 + CASE
			WHEN jsonb_typeof(metadata -> 'river:rescue_count') = 'number' THEN (metadata ->> 'river:rescue_count')::int
			ELSE 0 END)
	FROM lost WHERE river_job.id = lost.id
	RETURNING river_job.state, river_job.queue
), returned AS (
	UPDATE river_job SET queue = ` + homeLane + `
	FROM stray WHERE river_job.id = stray.id
	RETURNING river_job.queue
), buried AS (
	DELETE FROM weir_worker WHERE seen_at < now() - $3::interval
), woken AS (
	SELECT pg_notify(current_schema() || '.` + topicInsert + `', json_build_object('queue', queue)::text)
	FROM (SELECT DISTINCT queue FROM rescued WHERE state = 'available') lane
)
SELECT (SELECT count(*) FROM rescued WHERE state = 'available') + (SELECT count(*) FROM returned),
	(SELECT count(*) FROM woken)`
	var n, woken int
	queues := append([]string{breaker.ControlQueue}, runQueues...)
	if err := d.pool.QueryRow(ctx, query, queues, anyLane, deadAfter).Scan(&n, &woken); err != nil {
		return 0, fmt.Errorf("rescue jobs of dead processes: %w", err)
	}
	return n, nil
}
