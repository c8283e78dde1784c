package runnerpgx

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/weirhq/weir/breaker"
	"github.com/weirhq/weir/runner/internal/store"
)

// ScheduleControlTx implements store.River. As with River's own snoozes, a job
// that is due within five seconds is available at once: workers leave it until
// its time, and no scheduler has to come by first.
func (d *db) ScheduleControlTx(ctx context.Context, tx pgx.Tx, s *store.ControlSchedule) (bool, error) {
	const query = `
WITH moved AS (
	UPDATE river_job SET
		scheduled_at = $4, metadata = metadata || $5::jsonb, tags = $6,
		state = CASE WHEN $4 <= now() + interval '5 seconds' THEN 'available'::river_job_state ELSE 'scheduled'::river_job_state END
	WHERE state IN ` + waiting + ` AND queue = $1 AND kind = $2 AND args @> jsonb_build_object('org', $3::text)
	RETURNING id)
SELECT (SELECT count(*) FROM moved), EXISTS (
	SELECT 1 FROM river_job WHERE state = 'running' AND queue = $1 AND kind = $2 AND args @> jsonb_build_object('org', $3::text))`
	var moved int
	var runs bool
	err := tx.QueryRow(ctx, query, breaker.ControlQueue, s.Kind, string(s.Org), s.At, string(s.Metadata), s.Tags).Scan(&moved, &runs)
	if err != nil {
		return false, fmt.Errorf("schedule %s of org %s: %w", s.Kind, s.Org, err)
	}
	if moved > 0 {
		if err := notifyInsert(ctx, tx, breaker.ControlQueue); err != nil {
			return false, err
		}
	}
	return moved > 0 || runs, nil
}
