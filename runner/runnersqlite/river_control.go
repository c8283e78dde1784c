package runnersqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"time"

	"github.com/weirhq/weir/breaker"
	"github.com/weirhq/weir/runner/internal/store"
)

// ScheduleControlTx implements store.River. As with River's own snoozes, a job
// that is due within five seconds is available at once: workers leave it until
// its time, and no scheduler has to come by first.
func (d *db) ScheduleControlTx(ctx context.Context, tx *sql.Tx, s *store.ControlSchedule) (bool, error) {
	tags, err := json.Marshal(s.Tags)
	if err != nil {
		return false, fmt.Errorf("schedule %s of org %s: %w", s.Kind, s.Org, err)
	}
	state := "scheduled"
	if s.At.Before(now().Add(5 * time.Second)) {
		state = "available"
	}
	const update = `
UPDATE river_job SET
	scheduled_at = @at, state = @state, tags = jsonb(@tags),
	metadata = jsonb_patch(coalesce(` + soundMetadata + `, '{}'), @metadata)
WHERE state IN ` + waiting + ` AND queue = @queue AND kind = @kind AND ` + argOrg + ` = @org`
	moved, err := affected(tx.ExecContext(ctx, update,
		sql.Named("at", riverTime(s.At)), sql.Named("state", state), sql.Named("tags", string(tags)),
		sql.Named("metadata", string(s.Metadata)), sql.Named("queue", breaker.ControlQueue),
		sql.Named("kind", s.Kind), sql.Named("org", string(s.Org))))
	if err != nil {
		return false, fmt.Errorf("schedule %s of org %s: %w", s.Kind, s.Org, err)
	}
	if moved > 0 {
		return true, d.notifyInsert(ctx, tx, breaker.ControlQueue)
	}
	const running = `
SELECT EXISTS (SELECT 1 FROM river_job WHERE state = 'running' AND queue = @queue AND kind = @kind AND ` + argOrg + ` = @org)`
	var runs bool
	err = tx.QueryRowContext(ctx, running,
		sql.Named("queue", breaker.ControlQueue), sql.Named("kind", s.Kind), sql.Named("org", string(s.Org))).Scan(&runs)
	if err != nil {
		return false, fmt.Errorf("schedule %s of org %s: %w", s.Kind, s.Org, err)
	}
	return runs, nil
}
