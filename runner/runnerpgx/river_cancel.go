package runnerpgx

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/weirhq/weir/breaker"
	"github.com/weirhq/weir/runner/internal/store"
	"github.com/weirhq/weir/sfapi"
)

// The statements first find jobs, and then lock them one by one, by their place
// in the table (ctid) or their id; the state is compared as text, which no index
// has. The planner knows nothing of how many jobs are in a state just now: it
// takes them for a few, and walks all of them each time.

// cancelOrg cancels a batch. $1 are the org's lanes, $2 the org, $3 the
// reason, $4 the limit.
//
// The row of a running job is never set to cancelled: River's completer would
// leave it alone, and the worker would go on. It gets cancel_attempted_at, as
// River's own JobCancel gives it, and the notification, which names the queue
// that the worker's producer works although the row moves to its lane. All
// jobs move there, so that those of the org are found together again.
//
// By their place rows are met again with half of the work that ids make. A row
// that another transaction changes before it is locked has another place then:
// it falls out of the batch, and is found by the next.
const cancelOrg = `
WITH found AS MATERIALIZED (
	(SELECT ctid, id FROM river_job
	WHERE state = 'running' AND NOT metadata ? 'cancel_attempted_at'
		AND (queue = ANY($1) OR (queue IN ('sf_run_sync', 'sf_run_write') AND args ->> 'org' = $2)))
	UNION ALL
	(SELECT ctid, id FROM river_job
	WHERE state IN ` + waiting + ` AND queue IN ('sf_run_sync', 'sf_run_write') AND args ->> 'org' = $2)
	UNION ALL
	(SELECT ctid, id FROM river_job WHERE state IN ` + waiting + ` AND queue = ANY($1))
	LIMIT $4::bigint + 1
), free AS MATERIALIZED (
	SELECT ctid FROM river_job
	WHERE ctid = ANY(ARRAY(SELECT ctid FROM found LIMIT $4))
		AND (state::text IN ` + waiting + ` OR (state::text = 'running' AND NOT metadata ? 'cancel_attempted_at'))
	FOR UPDATE SKIP LOCKED
), cancelled AS MATERIALIZED (
	UPDATE river_job SET
		queue = ` + homeLane + `,
		state = CASE state WHEN 'running' THEN state ELSE 'cancelled' END,
		finalized_at = CASE state WHEN 'running' THEN finalized_at ELSE now() END,
		metadata = metadata || jsonb_build_object('cancel_attempted_at', now(), '` + store.MetadataCancelReason + `', $3::text)
	WHERE ctid = ANY(ARRAY(SELECT ctid FROM free))
	RETURNING id, queue, state = 'running' AS running
), told AS MATERIALIZED (
	SELECT pg_notify(current_schema() || '.` + topicControl + `', json_build_object('action', 'cancel',
		'job_id', id, 'queue', 'sf_run_' || substring(queue from '(sync|write)$'))::text)
	FROM cancelled WHERE running
)
SELECT (SELECT count(*) FROM cancelled WHERE NOT running), (SELECT count(*) FROM told),
	(SELECT count(*) FROM found) > (SELECT count(*) FROM cancelled),
	coalesce((SELECT min(id) FROM found WHERE id NOT IN (SELECT id FROM cancelled)), 0)`

// CancelOrgBatch implements store.River.
func (d *db) CancelOrgBatch(ctx context.Context, org sfapi.OrgID, reason string, limit int) (*store.CancelledBatch, error) {
	b, left, err := cancelBatchOf(ctx, d.pool, org, reason, limit)
	if err == nil && b.More && b.Cancelled+b.Signalled == 0 {
		err = d.awaitJob(ctx, left)
	}
	if err != nil {
		return nil, fmt.Errorf("cancel jobs of org %s: %w", org, err)
	}
	return b, nil
}

// CancelOrgBatchTx implements store.River.
func (d *db) CancelOrgBatchTx(ctx context.Context, tx pgx.Tx, org sfapi.OrgID, reason string, limit int) (*store.CancelledBatch, error) {
	b, _, err := cancelBatchOf(ctx, tx, org, reason, limit)
	if err != nil {
		return nil, fmt.Errorf("cancel jobs of org %s: %w", org, err)
	}
	return b, nil
}

// cancelBatchOf returns the first job that was passed over beside the batch.
func cancelBatchOf(ctx context.Context, q querier, org sfapi.OrgID, reason string, limit int) (b *store.CancelledBatch, left int64, err error) {
	b = &store.CancelledBatch{}
	err = q.QueryRow(ctx, cancelOrg, laneQueues(org), string(org), reason, limit).
		Scan(&b.Cancelled, &b.Signalled, &b.More, &left)
	return b, left, err
}

// CancelledRunning implements store.River. A job's row moved into its lane when
// it was told to end.
func (d *db) CancelledRunning(ctx context.Context, org sfapi.OrgID, reason string) (n int, err error) {
	err = d.pool.QueryRow(ctx, `
		SELECT count(*) FROM river_job
		WHERE state = 'running' AND queue = ANY($1) AND metadata ->> '`+store.MetadataCancelReason+`' = $2`,
		laneQueues(org), reason).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("count jobs of org %s that end: %w", org, err)
	}
	return n, nil
}

// awaitJob returns when no other transaction has the job locked. It is for a
// caller that would come back at once, having been able to do nothing. It holds
// nothing while it waits.
func (d *db) awaitJob(ctx context.Context, id int64) error {
	_, err := d.pool.Exec(ctx, `SELECT FROM river_job WHERE id = $1 FOR UPDATE`, id)
	return err
}

// requeueCancelled puts a batch back. $1 and $2 are the org's lanes, $3 the
// reason, $4 the limit. What River's JobRetry changes is changed here too, but
// for scheduled_at, which is a job's place in its lane.
const requeueCancelled = `
WITH found AS MATERIALIZED (
	(SELECT id FROM river_job
	WHERE state = 'cancelled' AND queue = $1 AND metadata ->> '` + store.MetadataCancelReason + `' = $3
	ORDER BY priority, scheduled_at, id LIMIT $4::bigint + 1)
	UNION ALL
	(SELECT id FROM river_job
	WHERE state = 'cancelled' AND queue = $2 AND metadata ->> '` + store.MetadataCancelReason + `' = $3
	ORDER BY priority, scheduled_at, id LIMIT $4::bigint + 1)
	LIMIT $4::bigint + 1
), free AS MATERIALIZED (
	SELECT job.*
	FROM (SELECT id FROM found LIMIT $4) chosen, LATERAL (
		SELECT id, unique_key, unique_states FROM river_job
		WHERE id = chosen.id AND state::text = 'cancelled'
		FOR UPDATE SKIP LOCKED
	) job
), judged AS MATERIALIZED (
	SELECT id, unique_key IS NOT NULL AND unique_states IS NOT NULL AND (
		row_number() OVER (PARTITION BY unique_key ORDER BY id) > 1
		OR EXISTS (
			SELECT FROM river_job other
			WHERE other.unique_key = free.unique_key AND other.unique_states IS NOT NULL
				AND river_job_state_in_bitmask(other.unique_states, other.state)
				AND other.id <> free.id)) AS taken
	FROM free
), requeued AS (
	UPDATE river_job SET
		state = (CASE WHEN taken THEN 'cancelled' WHEN scheduled_at > now() THEN 'scheduled' ELSE 'available' END)::river_job_state,
		finalized_at = CASE WHEN taken THEN finalized_at END,
		max_attempts = CASE WHEN NOT taken AND attempt >= max_attempts THEN attempt + 1 ELSE max_attempts END,
		metadata = CASE WHEN taken THEN metadata ELSE metadata - 'cancel_attempted_at' END - '` + store.MetadataCancelReason + `'
	FROM judged WHERE river_job.id = judged.id
	RETURNING river_job.queue, taken
), woken AS (
	SELECT pg_notify(current_schema() || '.` + topicInsert + `', json_build_object('queue', queue)::text)
	FROM (SELECT DISTINCT queue FROM requeued WHERE NOT taken) lane
)
SELECT (SELECT count(*) FROM requeued WHERE NOT taken), (SELECT count(*) FROM woken),
	(SELECT count(*) FROM found) > (SELECT count(*) FROM free),
	(SELECT count(*) FROM requeued),
	coalesce((SELECT min(id) FROM found WHERE id NOT IN (SELECT id FROM free)), 0)`

// RequeueCancelledBatch implements store.River.
func (d *db) RequeueCancelledBatch(ctx context.Context, org sfapi.OrgID, reason string, limit int) (n int, more bool, err error) {
	var (
		woken, changed int
		left           int64
	)
	err = d.pool.QueryRow(ctx, requeueCancelled, breaker.Sync.Queue(org), breaker.Write.Queue(org), reason, limit).
		Scan(&n, &woken, &more, &changed, &left)
	if err == nil && more && changed == 0 {
		err = d.awaitJob(ctx, left)
	}
	if err != nil {
		return 0, false, fmt.Errorf("requeue cancelled jobs of org %s: %w", org, err)
	}
	return n, more, nil
}
