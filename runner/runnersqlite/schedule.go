package runnersqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/weirhq/weir/runner/internal/store"
	"github.com/weirhq/weir/sfapi"
)

const scheduleColumns = `id, org, object, mode, fields, every_ms, next_run`

// scanSchedule scans scheduleColumns, and what follows them into more.
func scanSchedule(row scanner, s *store.Schedule, more ...any) error {
	var fields string
	var every int64
	dest := []any{&s.ID, &s.Org, &s.Object, &s.Mode, &fields, &every, (*timestamp)(&s.NextRun)}
	if err := row.Scan(append(dest, more...)...); err != nil {
		return err
	}
	s.Every, s.Fields = time.Duration(every)*time.Millisecond, nil
	return json.Unmarshal([]byte(fields), &s.Fields)
}

// SetScheduleTx implements store.Schedules.
func (d *db) SetScheduleTx(ctx context.Context, tx *sql.Tx, s *store.Schedule) error {
	const query = `
INSERT INTO weir_schedule AS s (org, object, mode, fields, every_ms, next_run)
VALUES (@org, @object, @mode, @fields, @every, @next)
ON CONFLICT (org, object) DO UPDATE SET
	mode = excluded.mode, fields = excluded.fields, every_ms = excluded.every_ms,
	next_run = CASE WHEN s.every_ms = excluded.every_ms THEN s.next_run ELSE excluded.next_run END
RETURNING ` + scheduleColumns
	names := s.Fields
	if names == nil {
		names = []string{}
	}
	fields, err := json.Marshal(names)
	if err != nil {
		return err
	}
	err = scanSchedule(tx.QueryRowContext(ctx, query, sql.Named("org", string(s.Org)), sql.Named("object", s.Object),
		sql.Named("mode", string(s.Mode)), sql.Named("fields", string(fields)),
		sql.Named("every", s.Every.Milliseconds()), sql.Named("next", timestamp(s.NextRun))), s)
	if err != nil {
		return fmt.Errorf("save schedule of %s of org %s: %w", s.Object, s.Org, err)
	}
	return nil
}

// OrgSchedules implements store.Schedules.
func (d *db) OrgSchedules(ctx context.Context, org sfapi.OrgID) ([]*store.Schedule, error) {
	rows, err := d.pool.QueryContext(ctx, `SELECT `+scheduleColumns+` FROM weir_schedule WHERE org = ? ORDER BY object`, string(org))
	list, err := collect(rows, err, func(row scanner) (*store.Schedule, error) {
		var s store.Schedule
		return &s, scanSchedule(row, &s)
	})
	if err != nil {
		return nil, fmt.Errorf("schedules of org %s: %w", org, err)
	}
	return list, nil
}

// EndSchedule implements store.Schedules.
func (d *db) EndSchedule(ctx context.Context, org sfapi.OrgID, object string) (bool, error) {
	n, err := affected(d.pool.ExecContext(ctx, `DELETE FROM weir_schedule WHERE org = ? AND object = ?`, string(org), object))
	if err != nil {
		return false, fmt.Errorf("end schedule of %s of org %s: %w", object, org, err)
	}
	return n > 0, nil
}

// ClaimSchedulesTx implements store.Schedules.
func (d *db) ClaimSchedulesTx(ctx context.Context, tx *sql.Tx, limit int) ([]*store.DueSchedule, error) {
	const query = `
SELECT ` + scheduleColumns + `,
	EXISTS (SELECT 1 FROM weir_org o WHERE o.id = s.org AND o.state = 'connected')
FROM weir_schedule AS s WHERE next_run <= ? ORDER BY next_run LIMIT ?`
	at := now()
	rows, err := tx.QueryContext(ctx, query, timestamp(at), limit)
	list, err := collect(rows, err, func(row scanner) (*store.DueSchedule, error) {
		var s store.DueSchedule
		return &s, scanSchedule(row, &s.Schedule, &s.Connected)
	})
	if err != nil {
		return nil, fmt.Errorf("claim schedules: %w", err)
	}
	for _, s := range list {
		s.NextRun = at.Add(s.Every - rand.N(s.Every/10+1)).Truncate(time.Microsecond)
		if _, err := tx.ExecContext(ctx, `UPDATE weir_schedule SET next_run = ? WHERE id = ?`, timestamp(s.NextRun), s.ID); err != nil {
			return nil, fmt.Errorf("claim schedules: %w", err)
		}
	}
	return list, nil
}

// OpenRecords implements store.Schedules.
func (d *db) OpenRecords(ctx context.Context, orgs []sfapi.OrgID) (map[sfapi.OrgID]int, error) {
	const query = `
SELECT org, count(*) FROM weir_write_record
WHERE org IN (SELECT value FROM json_each(?)) AND status IN ('pending', 'sent')
GROUP BY org`
	ids, err := json.Marshal(orgs)
	if err != nil {
		return nil, err
	}
	type count struct {
		org sfapi.OrgID
		n   int
	}
	rows, err := d.pool.QueryContext(ctx, query, string(ids))
	list, err := collect(rows, err, func(row scanner) (count, error) {
		var c count
		err := row.Scan(&c.org, &c.n)
		return c, err
	})
	if err != nil {
		return nil, fmt.Errorf("count open records: %w", err)
	}
	counts := make(map[sfapi.OrgID]int, len(list))
	for _, c := range list {
		counts[c.org] = c.n
	}
	return counts, nil
}
