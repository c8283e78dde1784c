package runnersqlite

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"time"

	"github.com/weirhq/weir/breaker"
	"github.com/weirhq/weir/jobs"
	"github.com/weirhq/weir/runner/internal/store"
	"github.com/weirhq/weir/sfapi"
)

// pickAdmitted is the gate's choice: see the statement of the same shape in
// package runnerpgx. SQLite has no LATERAL, so each job of a lane is
// found from the one before it.
const pickAdmitted = `
WITH RECURSIVE in_flight(lane, n, let_through) AS MATERIALIZED (
	SELECT CASE WHEN queue = @run THEN 'sf_' || lower(` + argOrg + `) || '_' || @lane ELSE queue END,
		count(*), sum(queue = @run)
	FROM river_job
	WHERE (state = 'available' AND queue = @run)
		OR (state = 'running' AND (queue = @run OR queue GLOB 'sf_??????????????????_' || @lane))
	GROUP BY 1
), room(n) AS MATERIALIZED (
	SELECT max(@max - coalesce(sum(let_through), 0), 0) FROM in_flight
), walk(lane, wrapped, pos) AS (
	SELECT @after, false, 0 FROM room WHERE n > 0
	UNION ALL
	SELECT coalesce(
			(SELECT queue FROM river_job WHERE state = 'available' AND queue > walk.lane ORDER BY queue LIMIT 1),
			CASE WHEN NOT walk.wrapped
			THEN (SELECT queue FROM river_job WHERE state = 'available' ORDER BY queue LIMIT 1) END),
		walk.wrapped OR NOT EXISTS (SELECT 1 FROM river_job WHERE state = 'available' AND queue > walk.lane),
		walk.pos + 1
	FROM walk
	WHERE walk.lane IS NOT NULL AND NOT (walk.wrapped AND walk.lane > @after)
), open(lane, pos, room, fresh) AS MATERIALIZED (
	SELECT walk.lane, walk.pos,
		coalesce(CASE @lane WHEN 'sync' THEN sync_window ELSE write_window END, @window) - coalesce(in_flight.n, 0) AS room,
		coalesce(river_queue.updated_at > @hour_ago, false)
	FROM walk
	CROSS JOIN weir_org ON lower(weir_org.id) = substr(walk.lane, 4, 18)
	LEFT JOIN river_queue ON river_queue.name = walk.lane
	LEFT JOIN in_flight ON in_flight.lane = walk.lane
	WHERE walk.pos > 0 AND NOT (walk.wrapped AND walk.lane > @after)
		AND walk.lane GLOB 'sf_??????????????????_' || @lane
		AND weir_org.state = 'connected'
		AND (river_queue.paused_at IS NULL OR CASE @lane WHEN 'sync' THEN sync_held ELSE write_held END)
		AND room > 0
	LIMIT (SELECT n FROM room)
), picked(lane, pos, room, fresh, nth, id) AS (
	SELECT lane, pos, room, fresh, 1, (
		SELECT id FROM river_job
		WHERE state = 'available' AND queue = open.lane AND scheduled_at <= @now
		ORDER BY priority, scheduled_at, id
		LIMIT 1)
	FROM open
	UNION ALL
	SELECT lane, pos, room, fresh, nth + 1, (
		SELECT next.id FROM river_job AS this CROSS JOIN river_job AS next
		WHERE this.id = picked.id AND next.state = 'available' AND next.queue = picked.lane AND next.scheduled_at <= @now
			AND (next.priority, next.scheduled_at, next.id) > (this.priority, this.scheduled_at, this.id)
		ORDER BY next.priority, next.scheduled_at, next.id
		LIMIT 1)
	FROM picked
	WHERE nth < room AND id IS NOT NULL
)
SELECT id, lane, fresh
FROM picked
WHERE id IS NOT NULL
ORDER BY nth, pos
LIMIT (SELECT n FROM room)`

// Admit implements store.River. The pool's one connection is what keeps others
// from the gate.
func (d *db) Admit(ctx context.Context, p *store.AdmitParams) (*store.Admission, error) {
	a := &store.Admission{After: p.After}
	err := d.InTx(ctx, func(ctx context.Context, tx *sql.Tx) error {
		t := time.Now()
		rows, err := tx.QueryContext(ctx, pickAdmitted,
			sql.Named("run", p.Lane.RunQueue()), sql.Named("lane", p.Lane.String()),
			sql.Named("window", p.Window), sql.Named("max", p.Max), sql.Named("after", p.After),
			sql.Named("now", riverTime(t)), sql.Named("hour_ago", riverTime(t.Add(-time.Hour))))
		if err != nil {
			return err
		}
		var (
			ids   []int64
			stale []string
		)
		err = eachRow(rows, func(scan func(...any) error) error {
			var (
				id    int64
				fresh bool
			)
			if err := scan(&id, &a.After, &fresh); err != nil {
				return err
			}
			ids = append(ids, id)
			if !fresh {
				stale = append(stale, a.After)
			}
			return nil
		})
		if err != nil || len(ids) == 0 {
			return err
		}
		a.Jobs, err = affected(tx.ExecContext(ctx,
			`UPDATE river_job SET queue = ? WHERE id IN (SELECT value FROM json_each(?))`, p.Lane.RunQueue(), idList(ids)))
		if err != nil {
			return err
		}
		slices.Sort(stale)
		if err := touchLanes(ctx, tx, slices.Compact(stale), t); err != nil {
			return err
		}
		return d.notifyInsert(ctx, tx, p.Lane.RunQueue())
	})
	if err != nil {
		return nil, fmt.Errorf("admit %s jobs: %w", p.Lane, err)
	}
	return a, nil
}

// touchLanes gives the lanes that the gate serves a fresh row in River's queue
// table, as River's producers do for the queues that they work: River UI lists
// them then, and an operator can pause them there. The rows of paused lanes
// are left alone: see PauseLaneTx.
func touchLanes(ctx context.Context, tx *sql.Tx, lanes []string, t time.Time) error {
	const query = `
INSERT INTO river_queue (name, created_at, metadata, updated_at) VALUES (@name, @now, jsonb('{}'), @now)
ON CONFLICT (name) DO UPDATE SET updated_at = excluded.updated_at WHERE river_queue.paused_at IS NULL`
	for _, lane := range lanes {
		if _, err := tx.ExecContext(ctx, query, sql.Named("name", lane), sql.Named("now", riverTime(t))); err != nil {
			return fmt.Errorf("refresh the queue row of lane %s: %w", lane, err)
		}
	}
	return nil
}

// SetLaneTx implements store.River.
func (d *db) SetLaneTx(ctx context.Context, tx *sql.Tx, org sfapi.OrgID, lane breaker.Lane, window int, held bool) error {
	query := `UPDATE weir_org SET sync_window = nullif(?, -1), sync_held = ? WHERE id = ?`
	if lane == breaker.Write {
		query = `UPDATE weir_org SET write_window = nullif(?, -1), write_held = ? WHERE id = ?`
	}
	n, err := affected(tx.ExecContext(ctx, query, window, held, string(org)))
	if err == nil && n == 0 {
		err = jobs.ErrNotFound
	}
	if err != nil {
		return fmt.Errorf("set window of %s lane of org %s: %w", lane, org, err)
	}
	return nil
}

// ReturnAdmittedTx implements store.River.
func (d *db) ReturnAdmittedTx(ctx context.Context, tx *sql.Tx, org sfapi.OrgID, lane breaker.Lane) (int, error) {
	const query = `UPDATE river_job SET queue = @lane WHERE state = 'available' AND queue = @run AND ` + argOrg + ` = @org`
	n, err := affected(tx.ExecContext(ctx, query, sql.Named("lane", lane.Queue(org)), sql.Named("run", lane.RunQueue()),
		sql.Named("org", string(org))))
	if err != nil {
		return 0, fmt.Errorf("return %s jobs of org %s to their lane: %w", lane, org, err)
	}
	return n, nil
}
