package runnerpgx

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/weirhq/weir/runner/internal/store"
	"github.com/weirhq/weir/sfapi"
)

const scheduleColumns = `id, org, object, mode, fields, every_ms, next_run`

// scheduleDest are where a row of scheduleColumns is scanned to; every takes
// its milliseconds.
func scheduleDest(s *store.Schedule, every *int64) []any {
	return []any{&s.ID, &s.Org, &s.Object, &s.Mode, &s.Fields, every, &s.NextRun}
}

func finishSchedule(s *store.Schedule, every int64) {
	s.Every, s.NextRun = time.Duration(every)*time.Millisecond, s.NextRun.UTC()
}

// SetScheduleTx implements store.Schedules.
func (d *db) SetScheduleTx(ctx context.Context, tx pgx.Tx, s *store.Schedule) error {
	const query = `
INSERT INTO weir_schedule AS s (org, object, mode, fields, every_ms, next_run)
VALUES ($1, $2, $3, coalesce($4::text[], '{}'), $5, $6)
ON CONFLICT (org, object) DO UPDATE SET
	mode = excluded.mode, fields = excluded.fields, every_ms = excluded.every_ms,
	next_run = CASE WHEN s.every_ms = excluded.every_ms THEN s.next_run ELSE excluded.next_run END
RETURNING ` + scheduleColumns
	var every int64
	err := tx.QueryRow(ctx, query, string(s.Org), s.Object, string(s.Mode), s.Fields, s.Every.Milliseconds(), s.NextRun).Scan(scheduleDest(s, &every)...)
	if err != nil {
		return fmt.Errorf("save schedule of %s of org %s: %w", s.Object, s.Org, err)
	}
	finishSchedule(s, every)
	return nil
}

// OrgSchedules implements store.Schedules.
func (d *db) OrgSchedules(ctx context.Context, org sfapi.OrgID) ([]*store.Schedule, error) {
	rows, err := d.pool.Query(ctx, `SELECT `+scheduleColumns+` FROM weir_schedule WHERE org = $1 ORDER BY object`, string(org))
	if err != nil {
		return nil, fmt.Errorf("schedules of org %s: %w", org, err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (*store.Schedule, error) {
		var s store.Schedule
		var every int64
		err := row.Scan(scheduleDest(&s, &every)...)
		finishSchedule(&s, every)
		return &s, err
	})
	if err != nil {
		return nil, fmt.Errorf("schedules of org %s: %w", org, err)
	}
	return list, nil
}

// EndSchedule implements store.Schedules.
func (d *db) EndSchedule(ctx context.Context, org sfapi.OrgID, object string) (bool, error) {
	tag, err := d.pool.Exec(ctx, `DELETE FROM weir_schedule WHERE org = $1 AND object = $2`, string(org), object)
	if err != nil {
		return false, fmt.Errorf("end schedule of %s of org %s: %w", object, org, err)
	}
	return tag.RowsAffected() > 0, nil
}

// ClaimSchedulesTx implements store.Schedules. The update finds its rows among
// those that the first part has locked, so two processes never claim the same.
func (d *db) ClaimSchedulesTx(ctx context.Context, tx pgx.Tx, limit int) ([]*store.DueSchedule, error) {
	const query = `
WITH due AS MATERIALIZED (
	SELECT id FROM weir_schedule WHERE next_run <= now() ORDER BY next_run LIMIT $1 FOR UPDATE SKIP LOCKED
)
UPDATE weir_schedule AS s
SET next_run = now() + make_interval(secs => s.every_ms / 1000.0 * (0.9 + 0.1 * random()))
FROM due WHERE s.id = due.id
RETURNING s.id, s.org, s.object, s.mode, s.fields, s.every_ms, s.next_run,
	EXISTS (SELECT 1 FROM weir_org o WHERE o.id = s.org AND o.state = 'connected')`
	rows, err := tx.Query(ctx, query, limit)
	if err != nil {
		return nil, fmt.Errorf("claim schedules: %w", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (*store.DueSchedule, error) {
		var s store.DueSchedule
		var every int64
		err := row.Scan(append(scheduleDest(&s.Schedule, &every), &s.Connected)...)
		finishSchedule(&s.Schedule, every)
		return &s, err
	})
	if err != nil {
		return nil, fmt.Errorf("claim schedules: %w", err)
	}
	return list, nil
}

// OpenRecords implements store.Schedules.
func (d *db) OpenRecords(ctx context.Context, orgs []sfapi.OrgID) (map[sfapi.OrgID]int, error) {
	const query = `
SELECT org, count(*) FROM weir_write_record
WHERE org = ANY($1) AND status IN ('pending', 'sent')
GROUP BY org`
	rows, err := d.pool.Query(ctx, query, orgs)
	if err != nil {
		return nil, fmt.Errorf("count open records: %w", err)
	}
	counts := make(map[sfapi.OrgID]int)
	var org sfapi.OrgID
	var n int
	if _, err := pgx.ForEachRow(rows, []any{&org, &n}, func() error {
		counts[org] = n
		return nil
	}); err != nil {
		return nil, fmt.Errorf("count open records: %w", err)
	}
	return counts, nil
}
