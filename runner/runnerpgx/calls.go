package runnerpgx

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/weirhq/weir/runner/internal/store"
	"github.com/weirhq/weir/sfapi"
)

// SaveCalls implements store.Calls.
func (d *db) SaveCalls(ctx context.Context, b *store.CallBatch) error {
	b = b.Clean()
	err := d.InTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		if len(b.Failed) > 0 {
			_, err := tx.CopyFrom(ctx, pgx.Identifier{"weir_failed_call"},
				[]string{"at", "org", "user_id", "job_id", "op", "method", "path", "status", "kind", "code", "message", "request_id", "body"},
				pgx.CopyFromSlice(len(b.Failed), func(i int) ([]any, error) {
					c := &b.Failed[i]
					return []any{
						c.At, string(c.Org), c.UserID, c.JobID, c.Op, c.Method, c.Path, c.Status, c.Kind, c.Code,
						c.Message, c.RequestID, c.Body,
					}, nil
				}))
			if err != nil {
				return err
			}
		}
		if len(b.Tokens) > 0 {
			_, err := tx.CopyFrom(ctx, pgx.Identifier{"weir_token_call"},
				[]string{"at", "org", "user_id", "generation", "reason", "outcome", "code", "message", "took_us"},
				pgx.CopyFromSlice(len(b.Tokens), func(i int) ([]any, error) {
					c := &b.Tokens[i]
					return []any{
						c.At, string(c.Org), c.UserID, c.Generation, c.Reason, c.Outcome, c.Code, c.Message, c.Took.Microseconds(),
					}, nil
				}))
			if err != nil {
				return err
			}
		}
		return addCounts(ctx, tx, b.Counts)
	})
	if err != nil {
		return fmt.Errorf("save calls: %w", err)
	}
	return nil
}

// addCounts comes last in its transaction, for it locks rows that all processes
// count in. They take them in one order, and so never deadlock.
func addCounts(ctx context.Context, tx pgx.Tx, counts []store.CallCount) error {
	if len(counts) == 0 {
		return nil
	}
	orgs, codes := make([]string, len(counts)), make([]string, len(counts))
	hours, calls := make([]time.Time, len(counts)), make([]int64, len(counts))
	for i, c := range counts {
		orgs[i], hours[i], codes[i], calls[i] = string(c.Org), c.Hour, c.Code, c.Calls
	}
	_, err := tx.Exec(ctx, `
		INSERT INTO weir_call_count AS c (org, hour, code, calls)
		SELECT org, hour, code, sum(calls)
		FROM unnest($1::text[], $2::timestamptz[], $3::text[], $4::bigint[]) AS n (org, hour, code, calls)
		GROUP BY org, hour, code ORDER BY org, hour, code
		ON CONFLICT (org, hour, code) DO UPDATE SET calls = c.calls + excluded.calls`,
		orgs, hours, codes, calls)
	return err
}

// CallCounts implements store.Calls.
func (d *db) CallCounts(ctx context.Context, org sfapi.OrgID, since time.Time) ([]store.CallCount, error) {
	rows, err := d.pool.Query(ctx, `
		SELECT org, hour, code, calls FROM weir_call_count WHERE org = $1 AND hour > $2 ORDER BY hour, code`,
		string(org), since.Add(-time.Hour))
	if err != nil {
		return nil, fmt.Errorf("count calls of org %s: %w", org, err)
	}
	counts, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (c store.CallCount, err error) {
		err = row.Scan(&c.Org, &c.Hour, &c.Code, &c.Calls)
		c.Hour = c.Hour.UTC()
		return c, err
	})
	if err != nil {
		return nil, fmt.Errorf("count calls of org %s: %w", org, err)
	}
	return counts, nil
}

// FailedCalls implements store.Calls.
func (d *db) FailedCalls(ctx context.Context, org sfapi.OrgID, limit int) ([]store.FailedCall, error) {
	rows, err := d.pool.Query(ctx, `
		SELECT id, at, org, user_id, job_id, op, method, path, status, kind, code, message, request_id, body
		FROM weir_failed_call WHERE org = $1 ORDER BY id DESC LIMIT $2`, string(org), limit)
	if err != nil {
		return nil, fmt.Errorf("failed calls of org %s: %w", org, err)
	}
	calls, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (c store.FailedCall, err error) {
		err = row.Scan(&c.ID, &c.At, &c.Org, &c.UserID, &c.JobID, &c.Op, &c.Method, &c.Path, &c.Status, &c.Kind, &c.Code,
			&c.Message, &c.RequestID, &c.Body)
		c.At = c.At.UTC()
		return c, err
	})
	if err != nil {
		return nil, fmt.Errorf("failed calls of org %s: %w", org, err)
	}
	return calls, nil
}

// TokenCalls implements store.Calls.
func (d *db) TokenCalls(ctx context.Context, org sfapi.OrgID, limit int) ([]store.TokenCall, error) {
	rows, err := d.pool.Query(ctx, `
		SELECT id, at, org, user_id, generation, reason, outcome, code, message, took_us
		FROM weir_token_call WHERE org = $1 ORDER BY id DESC LIMIT $2`, string(org), limit)
	if err != nil {
		return nil, fmt.Errorf("token calls of org %s: %w", org, err)
	}
	calls, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (c store.TokenCall, err error) {
		var took int64
		err = row.Scan(&c.ID, &c.At, &c.Org, &c.UserID, &c.Generation, &c.Reason, &c.Outcome, &c.Code, &c.Message, &took)
		c.At, c.Took = c.At.UTC(), time.Duration(took)*time.Microsecond
		return c, err
	})
	if err != nil {
		return nil, fmt.Errorf("token calls of org %s: %w", org, err)
	}
	return calls, nil
}

// PruneCalls implements store.Calls. Rows that another process is removing are
// left to it.
func (d *db) PruneCalls(ctx context.Context, calls, counts time.Time, limit int) (more bool, err error) {
	for _, step := range []struct {
		before    time.Time
		statement string
	}{
		{calls, `DELETE FROM weir_failed_call WHERE id IN (
			SELECT id FROM weir_failed_call WHERE at < $1 ORDER BY at LIMIT $2 FOR UPDATE SKIP LOCKED)`},
		{calls, `DELETE FROM weir_token_call WHERE id IN (
			SELECT id FROM weir_token_call WHERE at < $1 ORDER BY at LIMIT $2 FOR UPDATE SKIP LOCKED)`},
		{counts, `DELETE FROM weir_call_count WHERE (org, hour, code) IN (
			SELECT org, hour, code FROM weir_call_count WHERE hour < $1 ORDER BY hour LIMIT $2 FOR UPDATE SKIP LOCKED)`},
	} {
		if step.before.IsZero() {
			continue
		}
		tag, err := d.pool.Exec(ctx, step.statement, step.before, limit)
		if err != nil {
			return false, fmt.Errorf("prune calls: %w", err)
		}
		more = more || tag.RowsAffected() >= int64(limit)
	}
	return more, nil
}
