package runnersqlite

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/weirhq/weir/jobs"
	"github.com/weirhq/weir/runner/internal/store"
	"github.com/weirhq/weir/sfapi"
)

// BeginCancellationTx implements store.Cancellations.
func (d *db) BeginCancellationTx(ctx context.Context, tx *sql.Tx, c *store.Cancellation) error {
	err := tx.QueryRowContext(ctx, `
		INSERT INTO weir_cancellation (org, reason, state, event, changed_at) VALUES (?, ?, 'cancelling', ?, ?) RETURNING id, state`,
		string(c.Org), c.Reason, jsonOrNull(c.Event), timestamp(now())).Scan(&c.ID, &c.State)
	if err != nil {
		return fmt.Errorf("begin cancellation of org %s: %w", c.Org, err)
	}
	return nil
}

func scanCancellation(row scanner) (*store.Cancellation, error) {
	var c store.Cancellation
	var event []byte
	err := row.Scan(&c.ID, &c.Org, &c.Reason, &c.State, &event, &c.Jobs, &c.Writes)
	c.Event = event
	return &c, err
}

func cancellations(ctx context.Context, q querier, query string, args ...any) ([]*store.Cancellation, error) {
	rows, err := q.QueryContext(ctx, `SELECT id, org, reason, state, event, jobs, writes FROM weir_cancellation WHERE `+query, args...)
	list, err := collect(rows, err, scanCancellation)
	if err != nil {
		return nil, fmt.Errorf("read cancellations: %w", err)
	}
	return list, nil
}

// CancellationTx implements store.Cancellations.
func (d *db) CancellationTx(ctx context.Context, tx *sql.Tx, id int64) (*store.Cancellation, error) {
	list, err := cancellations(ctx, tx, `id = ?`, id)
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("cancellation %d: %w", id, jobs.ErrNotFound)
	}
	return list[0], nil
}

// OrgCancellationsTx implements store.Cancellations.
func (d *db) OrgCancellationsTx(ctx context.Context, tx *sql.Tx, org sfapi.OrgID) ([]*store.Cancellation, error) {
	return cancellations(ctx, tx, `org = ? AND state <> 'closed' ORDER BY id`, string(org))
}

// OpenCancellations implements store.Cancellations.
func (d *db) OpenCancellations(ctx context.Context, after int64, since time.Time, limit int) ([]*store.Cancellation, error) {
	return cancellations(ctx, d.pool, `state <> 'closed' AND id > ? AND (state <> 'cancelled' OR changed_at > ?) ORDER BY id LIMIT ?`,
		after, timestamp(since), limit)
}

// UpdateCancellationTx implements store.Cancellations.
func (d *db) UpdateCancellationTx(ctx context.Context, tx *sql.Tx, c *store.Cancellation) error {
	_, err := tx.ExecContext(ctx, `UPDATE weir_cancellation SET state = ?, event = ?, jobs = ?, writes = ?, changed_at = ? WHERE id = ?`,
		string(c.State), jsonOrNull(c.Event), c.Jobs, c.Writes, timestamp(now()), c.ID)
	if err != nil {
		return fmt.Errorf("save cancellation %d: %w", c.ID, err)
	}
	return nil
}

// CancelWritesTx implements store.Cancellations.
func (d *db) CancelWritesTx(ctx context.Context, tx *sql.Tx, org sfapi.OrgID, cancellation int64, limit int) (int, error) {
	n, err := affected(tx.ExecContext(ctx, `
		UPDATE weir_write_record SET status = 'cancelled', changed_at = ?, cancellation = ?
		WHERE id IN (
			SELECT id FROM weir_write_record INDEXED BY weir_write_record_open
			WHERE org = ? AND status IN ('pending', 'sent') AND status = 'pending'
			ORDER BY object, id LIMIT ?)`, timestamp(now()), cancellation, string(org), limit))
	if err != nil {
		return 0, fmt.Errorf("cancel writes of org %s: %w", org, err)
	}
	return n, nil
}

// RequeueWritesTx implements store.Cancellations.
func (d *db) RequeueWritesTx(ctx context.Context, tx *sql.Tx, cancellation int64, limit int) (n int, objects []string, err error) {
	rows, err := tx.QueryContext(ctx, `
		UPDATE weir_write_record SET status = 'pending', changed_at = ?, cancellation = NULL
		WHERE id IN (
			SELECT id FROM weir_write_record INDEXED BY weir_write_record_cancelled
			WHERE cancellation = ? AND status = 'cancelled' ORDER BY id LIMIT ?)
		RETURNING object`, timestamp(now()), cancellation, limit)
	seen := make(map[string]bool)
	back, err := collect(rows, err, func(row scanner) (object string, err error) {
		err = row.Scan(&object)
		return object, err
	})
	if err != nil {
		return 0, nil, fmt.Errorf("requeue writes of cancellation %d: %w", cancellation, err)
	}
	for _, object := range back {
		if !seen[object] {
			seen[object] = true
			objects = append(objects, object)
		}
	}
	return len(back), objects, nil
}
