package runnersqlite

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/weirhq/weir/runner/internal/store"
	"github.com/weirhq/weir/sfapi"
)

// SaveCalls implements store.Calls. It does not wait for the disk, as InTx
// does.
func (d *db) SaveCalls(ctx context.Context, b *store.CallBatch) error {
	tx, err := d.pool.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("save calls: begin transaction: %w", err)
	}
	defer func() { _ = tx.Rollback() }() // does nothing after a commit
	if err := saveCalls(ctx, tx, b.Clean()); err != nil {
		return fmt.Errorf("save calls: %w", err)
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("save calls: commit transaction: %w", err)
	}
	return nil
}

func saveCalls(ctx context.Context, tx *sql.Tx, b *store.CallBatch) error {
	err := insertEach(ctx, tx, `
		INSERT INTO weir_failed_call (at, org, user_id, job_id, op, method, path, status, kind, code, message, request_id, body)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`, b.Failed, func(c *store.FailedCall) []any {
		return []any{
			timestamp(c.At), string(c.Org), c.UserID, c.JobID, c.Op, c.Method, c.Path, c.Status, c.Kind, c.Code,
			c.Message, c.RequestID, c.Body,
		}
	})
	if err != nil {
		return err
	}
	err = insertEach(ctx, tx, `
		INSERT INTO weir_token_call (at, org, user_id, generation, reason, outcome, code, message, took_us)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`, b.Tokens, func(c *store.TokenCall) []any {
		return []any{
			timestamp(c.At), string(c.Org), c.UserID, c.Generation, c.Reason, c.Outcome, c.Code, c.Message, c.Took.Microseconds(),
		}
	})
	if err != nil {
		return err
	}
	return insertEach(ctx, tx, `
		INSERT INTO weir_call_count (org, hour, code, calls) VALUES (?, ?, ?, ?)
		ON CONFLICT (org, hour, code) DO UPDATE SET calls = calls + excluded.calls`, b.Counts, func(c *store.CallCount) []any {
		return []any{string(c.Org), timestamp(c.Hour), c.Code, c.Calls}
	})
}

// insertEach runs a statement for each row.
func insertEach[T any](ctx context.Context, tx *sql.Tx, statement string, rows []T, args func(row *T) []any) error {
	if len(rows) == 0 {
		return nil
	}
	insert, err := tx.PrepareContext(ctx, statement)
	if err != nil {
		return err
	}
	defer func() { _ = insert.Close() }() // ends with the transaction anyway
	for i := range rows {
		if _, err := insert.ExecContext(ctx, args(&rows[i])...); err != nil {
			return err
		}
	}
	return nil
}

// CallCounts implements store.Calls.
func (d *db) CallCounts(ctx context.Context, org sfapi.OrgID, since time.Time) ([]store.CallCount, error) {
	rows, err := d.pool.QueryContext(ctx, `
		SELECT org, hour, code, calls FROM weir_call_count WHERE org = ? AND hour > ? ORDER BY hour, code`,
		string(org), timestamp(since.Add(-time.Hour)))
	counts, err := collect(rows, err, func(row scanner) (c store.CallCount, err error) {
		err = row.Scan(&c.Org, (*timestamp)(&c.Hour), &c.Code, &c.Calls)
		return c, err
	})
	if err != nil {
		return nil, fmt.Errorf("count calls of org %s: %w", org, err)
	}
	return counts, nil
}

// FailedCalls implements store.Calls.
func (d *db) FailedCalls(ctx context.Context, org sfapi.OrgID, limit int) ([]store.FailedCall, error) {
	rows, err := d.pool.QueryContext(ctx, `
		SELECT id, at, org, user_id, job_id, op, method, path, status, kind, code, message, request_id, body
		FROM weir_failed_call WHERE org = ? ORDER BY id DESC LIMIT ?`, string(org), limit)
	calls, err := collect(rows, err, func(row scanner) (c store.FailedCall, err error) {
		err = row.Scan(&c.ID, (*timestamp)(&c.At), &c.Org, &c.UserID, &c.JobID, &c.Op, &c.Method, &c.Path, &c.Status, &c.Kind,
			&c.Code, &c.Message, &c.RequestID, &c.Body)
		return c, err
	})
	if err != nil {
		return nil, fmt.Errorf("failed calls of org %s: %w", org, err)
	}
	return calls, nil
}

// TokenCalls implements store.Calls.
func (d *db) TokenCalls(ctx context.Context, org sfapi.OrgID, limit int) ([]store.TokenCall, error) {
	rows, err := d.pool.QueryContext(ctx, `
		SELECT id, at, org, user_id, generation, reason, outcome, code, message, took_us
		FROM weir_token_call WHERE org = ? ORDER BY id DESC LIMIT ?`, string(org), limit)
	calls, err := collect(rows, err, func(row scanner) (c store.TokenCall, err error) {
		var took int64
		err = row.Scan(&c.ID, (*timestamp)(&c.At), &c.Org, &c.UserID, &c.Generation, &c.Reason, &c.Outcome, &c.Code, &c.Message, &took)
		c.Took = time.Duration(took) * time.Microsecond
		return c, err
	})
	if err != nil {
		return nil, fmt.Errorf("token calls of org %s: %w", org, err)
	}
	return calls, nil
}

// PruneCalls implements store.Calls.
func (d *db) PruneCalls(ctx context.Context, calls, counts time.Time, limit int) (more bool, err error) {
	for _, step := range []struct {
		before    time.Time
		statement string
	}{
		{calls, `DELETE FROM weir_failed_call WHERE id IN (SELECT id FROM weir_failed_call WHERE at < ? ORDER BY at LIMIT ?)`},
		{calls, `DELETE FROM weir_token_call WHERE id IN (SELECT id FROM weir_token_call WHERE at < ? ORDER BY at LIMIT ?)`},
		{counts, `DELETE FROM weir_call_count WHERE (org, hour, code) IN (
			SELECT org, hour, code FROM weir_call_count WHERE hour < ? ORDER BY hour LIMIT ?)`},
	} {
		if step.before.IsZero() {
			continue
		}
		result, err := d.pool.ExecContext(ctx, step.statement, timestamp(step.before), limit)
		n, err := affected(result, err)
		if err != nil {
			return false, fmt.Errorf("prune calls: %w", err)
		}
		more = more || n >= limit
	}
	return more, nil
}
