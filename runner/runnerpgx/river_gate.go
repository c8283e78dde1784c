package runnerpgx

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/weirhq/weir/breaker"
	"github.com/weirhq/weir/jobs"
	"github.com/weirhq/weir/runner/internal/store"
	"github.com/weirhq/weir/sfapi"
)

// errIsolation is returned by Admit on a database whose default isolation makes
// the gate's second statement see what was before it held the lock.
var errIsolation = errors.New("the gate needs transactions in isolation read committed")

// enterGate takes the gate of a lane until the transaction ends, and notes for
// the next statement whether it did.
//
// It also has that one planned for index scans. The table's statistics are of
// some moment when it was full or empty, and most index entries of a queue are
// dead: an index scan marks them and skips them ever after, a bitmap scan goes
// through all of them each time. Compiling the plan takes longer than running it.
const enterGate = `
SELECT set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true), set_config('jit', 'off', true),
	set_config('weir.gate', (current_setting('transaction_isolation') = 'read committed'
		AND pg_try_advisory_xact_lock(hashtextextended('weir.gate.' || current_schema() || '.' || $1::text, 0)))::text, true) = 'true',
	current_setting('transaction_isolation')`

// admit is the gate. It must be a statement of its own behind enterGate: only
// then does its snapshot have what the process before it at the gate did.
//
// The walk hops over the lanes that have available jobs, one index probe a
// lane, from the one behind $6 around to it, and stops as soon as there are as
// many open lanes as there is room. Each step of a lane is planned by itself
// (OFFSET 0), since a hash of all orgs would cost more than most walks. What is
// in flight is one JSON object, because the planner takes that list for a short
// one and would go through all of it for each lane.
//
// What is picked is locked only then, by its id alone (no index has what the
// rest of that condition compares: the planner could prefer one to the key). A
// job that is locked by somebody else is left out without another in its
// place, so that order in a lane holds.
const admit = `
WITH RECURSIVE in_flight AS MATERIALIZED (
	SELECT lane, count(*) AS n, count(*) FILTER (WHERE let_through) AS let_through
	FROM (
		SELECT coalesce('sf_' || lower(args ->> 'org') || '_' || $2, '') AS lane, true AS let_through
		FROM river_job WHERE state = 'available' AND queue = $1
		UNION ALL
		SELECT coalesce('sf_' || lower(args ->> 'org') || '_' || $2, ''), true
		FROM river_job WHERE state = 'running' AND queue = $1
		UNION ALL
		SELECT queue, false
		FROM river_job WHERE state = 'running' AND left(queue, 3) = 'sf_' AND right(queue, length($2) + 1) = '_' || $2
			AND length(queue) = 22 + length($2)
	) job
	GROUP BY lane
), room AS MATERIALIZED (
	SELECT greatest($4::bigint - coalesce(sum(let_through), 0), 0)::bigint AS n,
		coalesce(jsonb_object_agg(lane, n), '{}') AS in_flight
	FROM in_flight
), walk(lane, wrapped, pos) AS (
	SELECT $6::text, false, 0 FROM room WHERE n > 0 AND current_setting('weir.gate', true) = 'true'
	UNION ALL
	SELECT CASE
			WHEN step.next IS NULL AND NOT walk.wrapped
			THEN (SELECT queue FROM river_job WHERE state = 'available' ORDER BY queue LIMIT 1)
			ELSE step.next END,
		walk.wrapped OR step.next IS NULL,
		walk.pos + 1
	FROM walk, LATERAL (
		SELECT (SELECT queue FROM river_job WHERE state = 'available' AND queue > walk.lane ORDER BY queue LIMIT 1) AS next
		OFFSET 0
	) step
	WHERE walk.lane IS NOT NULL AND NOT (walk.wrapped AND walk.lane > $6)
), open AS MATERIALIZED (
	SELECT walk.lane, walk.pos, org.room, row.fresh
	FROM walk
	CROSS JOIN LATERAL (
		SELECT coalesce(CASE $2 WHEN 'sync' THEN sync_window ELSE write_window END, $3)
				- coalesce(((SELECT in_flight FROM room) ->> walk.lane)::int, 0) AS room,
			CASE $2 WHEN 'sync' THEN sync_held ELSE write_held END AS held
		FROM weir_org
		WHERE lower(id) = substr(walk.lane, 4, 18) AND state = 'connected'
		OFFSET 0
	) org
	LEFT JOIN LATERAL (
		SELECT paused_at, updated_at > now() - interval '1 hour' AS fresh FROM river_queue
		WHERE name = walk.lane
		OFFSET 0
	) row ON true
	WHERE walk.pos > 0 AND NOT (walk.wrapped AND walk.lane > $6)
		AND length(walk.lane) = 22 + length($2) AND left(walk.lane, 3) = 'sf_' AND right(walk.lane, length($2)) = $2
		AND (org.held OR row.paused_at IS NULL)
		AND org.room > 0
	LIMIT (SELECT n FROM room)
), picked AS MATERIALIZED (
	SELECT job.id, open.lane, open.fresh, job.nth, open.pos
	FROM open, LATERAL (
		SELECT id, row_number() OVER (ORDER BY priority, scheduled_at, id) AS nth
		FROM river_job
		WHERE state = 'available' AND queue = open.lane AND scheduled_at <= now()
		ORDER BY priority, scheduled_at, id
		LIMIT open.room
	) job
	ORDER BY job.nth, open.pos
	LIMIT (SELECT n FROM room)
), free AS (
	SELECT job.id, picked.lane, picked.fresh
	FROM picked, LATERAL (
		SELECT id FROM river_job
		WHERE id = picked.id AND state::text = 'available' AND queue || '' = picked.lane
		FOR UPDATE SKIP LOCKED
	) job
), moved AS (
	UPDATE river_job SET queue = $1 FROM free WHERE river_job.id = free.id
	RETURNING free.lane, free.fresh
), woken AS (
	SELECT pg_notify(current_schema() || '.' || $5, json_build_object('queue', $1)::text)
	WHERE EXISTS (SELECT FROM moved)
)
SELECT (SELECT count(*) FROM moved),
	(SELECT count(*) FROM woken),
	coalesce((SELECT lane FROM picked ORDER BY nth DESC, pos DESC LIMIT 1), $6),
	ARRAY(SELECT DISTINCT lane FROM moved WHERE fresh IS NOT TRUE ORDER BY lane)`

// Admit implements store.River.
func (d *db) Admit(ctx context.Context, p *store.AdmitParams) (*store.Admission, error) {
	// Both statements are one implicit transaction, and one round trip.
	batch := &pgx.Batch{}
	batch.Queue(enterGate, p.Lane.String())
	batch.Queue(admit, p.Lane.RunQueue(), p.Lane.String(), p.Window, p.Max, topicInsert, p.After)
	results := d.pool.SendBatch(ctx, batch)

	var (
		entered   bool
		isolation string
		a         store.Admission
		woken     int
		stale     []string
	)
	err := results.QueryRow().Scan(nil, nil, nil, &entered, &isolation)
	if err == nil {
		err = results.QueryRow().Scan(&a.Jobs, &woken, &a.After, &stale)
	}
	if err = errors.Join(err, results.Close()); err != nil {
		return nil, fmt.Errorf("admit %s jobs: %w", p.Lane, err)
	}
	if isolation != "read committed" {
		return nil, fmt.Errorf("admit %s jobs in isolation %s: %w", p.Lane, isolation, errIsolation)
	}
	a.Busy = !entered
	if len(stale) > 0 {
		// The jobs are on their way whatever becomes of this.
		return &a, d.touchLanes(ctx, stale)
	}
	return &a, nil
}

// touchLanes gives the lanes that the gate serves a fresh row in River's queue
// table, as River's producers do for the queues that they work: River UI lists
// them then, and an operator can pause them there. It works beside the gate's
// transaction, which must not wait for rows while it holds jobs. The rows of
// paused lanes are left alone: see PauseLaneTx.
func (d *db) touchLanes(ctx context.Context, lanes []string) error {
	const query = `
INSERT INTO river_queue (name, created_at, metadata, updated_at)
SELECT name, now(), '{}', now() FROM unnest($1::text[]) AS t(name) ORDER BY name
ON CONFLICT (name) DO UPDATE SET updated_at = excluded.updated_at WHERE river_queue.paused_at IS NULL`
	if _, err := d.pool.Exec(ctx, query, lanes); err != nil {
		return fmt.Errorf("refresh the queue rows of %d lanes: %w", len(lanes), err)
	}
	return nil
}

// SetLaneTx implements store.River.
func (d *db) SetLaneTx(ctx context.Context, tx pgx.Tx, org sfapi.OrgID, lane breaker.Lane, window int, held bool) error {
	query := `UPDATE weir_org SET sync_window = nullif($2, -1), sync_held = $3 WHERE id = $1`
	if lane == breaker.Write {
		query = `UPDATE weir_org SET write_window = nullif($2, -1), write_held = $3 WHERE id = $1`
	}
	tag, err := tx.Exec(ctx, query, string(org), window, held)
	if err == nil && tag.RowsAffected() == 0 {
		err = jobs.ErrNotFound
	}
	if err != nil {
		return fmt.Errorf("set window of %s lane of org %s: %w", lane, org, err)
	}
	return nil
}

// ReturnAdmittedTx implements store.River. A job that a worker is fetching at
// this moment is locked, and runs.
func (d *db) ReturnAdmittedTx(ctx context.Context, tx pgx.Tx, org sfapi.OrgID, lane breaker.Lane) (int, error) {
	const query = `
WITH free AS (
	SELECT id FROM river_job
	WHERE state = 'available' AND queue = $1 AND args ->> 'org' = $2
	FOR UPDATE SKIP LOCKED
)
UPDATE river_job SET queue = $3 FROM free WHERE river_job.id = free.id`
	tag, err := tx.Exec(ctx, query, lane.RunQueue(), string(org), lane.Queue(org))
	if err != nil {
		return 0, fmt.Errorf("return %s jobs of org %s to their lane: %w", lane, org, err)
	}
	return int(tag.RowsAffected()), nil
}
