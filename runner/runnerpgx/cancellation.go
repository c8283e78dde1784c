package runnerpgx

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/weirhq/weir/jobs"
	"github.com/weirhq/weir/runner/internal/store"
	"github.com/weirhq/weir/sfapi"
)

// BeginCancellationTx implements store.Cancellations.
func (d *db) BeginCancellationTx(ctx context.Context, tx pgx.Tx, c *store.Cancellation) error {
	err := tx.QueryRow(ctx, `INSERT INTO weir_cancellation (org, reason, state, event) VALUES ($1, $2, 'cancelling', $3) RETURNING id, state`,
		c.Org, c.Reason, jsonOrNull(c.Event)).Scan(&c.ID, &c.State)
	if err != nil {
		return fmt.Errorf("begin cancellation of org %s: %w", c.Org, err)
	}
	return nil
}

const cancellationColumns = `id, org, reason, state, event, jobs, writes`

func scanCancellation(row pgx.CollectableRow) (*store.Cancellation, error) {
	var c store.Cancellation
	var event []byte
	err := row.Scan(&c.ID, &c.Org, &c.Reason, &c.State, &event, &c.Jobs, &c.Writes)
	c.Event = event
	return &c, err
}

func cancellations(ctx context.Context, q querier, query string, args ...any) ([]*store.Cancellation, error) {
	rows, err := q.Query(ctx, `SELECT `+cancellationColumns+` FROM weir_cancellation WHERE `+query, args...)
	if err != nil {
		return nil, fmt.Errorf("read cancellations: %w", err)
	}
	list, err := pgx.CollectRows(rows, scanCancellation)
	if err != nil {
		return nil, fmt.Errorf("read cancellations: %w", err)
	}
	return list, nil
}

// CancellationTx implements store.Cancellations.
func (d *db) CancellationTx(ctx context.Context, tx pgx.Tx, id int64) (*store.Cancellation, error) {
	list, err := cancellations(ctx, tx, `id = $1 FOR UPDATE`, id)
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("cancellation %d: %w", id, jobs.ErrNotFound)
	}
	return list[0], nil
}

// OrgCancellationsTx implements store.Cancellations.
func (d *db) OrgCancellationsTx(ctx context.Context, tx pgx.Tx, org sfapi.OrgID) ([]*store.Cancellation, error) {
	return cancellations(ctx, tx, `org = $1 AND state <> 'closed' ORDER BY id FOR UPDATE`, org)
}

// OpenCancellations implements store.Cancellations.
func (d *db) OpenCancellations(ctx context.Context, after int64, since time.Time, limit int) ([]*store.Cancellation, error) {
	return cancellations(ctx, d.pool, `state <> 'closed' AND id > $1 AND (state <> 'cancelled' OR changed_at > $2) ORDER BY id LIMIT $3`,
		after, timestamp(since), limit)
}

// UpdateCancellationTx implements store.Cancellations.
func (d *db) UpdateCancellationTx(ctx context.Context, tx pgx.Tx, c *store.Cancellation) error {
	_, err := tx.Exec(ctx, `UPDATE weir_cancellation SET state = $2, event = $3, jobs = $4, writes = $5, changed_at = now() WHERE id = $1`,
		c.ID, string(c.State), jsonOrNull(c.Event), c.Jobs, c.Writes)
	if err != nil {
		return fmt.Errorf("save cancellation %d: %w", c.ID, err)
	}
	return nil
}

// CancelWritesTx implements store.Cancellations.
func (d *db) CancelWritesTx(ctx context.Context, tx pgx.Tx, org sfapi.OrgID, cancellation int64, limit int) (int, error) {
	tag, err := tx.Exec(ctx, `
		UPDATE weir_write_record r SET status = 'cancelled', changed_at = now(), cancellation = $2
		FROM (SELECT write_id, idx FROM weir_write_record
			WHERE org = $1 AND status IN ('pending', 'sent') AND status = 'pending'
			ORDER BY object, id LIMIT $3 FOR UPDATE) AS p
		WHERE r.write_id = p.write_id AND r.idx = p.idx`, org, cancellation, limit)
	if err != nil {
		return 0, fmt.Errorf("cancel writes of org %s: %w", org, err)
	}
	return int(tag.RowsAffected()), nil
}

// RequeueWritesTx implements store.Cancellations.
func (d *db) RequeueWritesTx(ctx context.Context, tx pgx.Tx, cancellation int64, limit int) (n int, objects []string, err error) {
	err = tx.QueryRow(ctx, `
		WITH chosen AS MATERIALIZED (
			SELECT write_id, idx FROM weir_write_record
			WHERE cancellation = $1 AND status = 'cancelled' ORDER BY id LIMIT $2 FOR UPDATE
		), back AS (
			UPDATE weir_write_record r SET status = 'pending', changed_at = now(), cancellation = NULL
			FROM chosen WHERE r.write_id = chosen.write_id AND r.idx = chosen.idx
			RETURNING r.object
		)
		SELECT count(*), coalesce(array_agg(DISTINCT object), '{}') FROM back`, cancellation, limit).Scan(&n, &objects)
	if err != nil {
		return 0, nil, fmt.Errorf("requeue writes of cancellation %d: %w", cancellation, err)
	}
	return n, objects, nil
}
