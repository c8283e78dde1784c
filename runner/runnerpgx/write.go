package runnerpgx

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/weirhq/weir/jobs"
	"github.com/weirhq/weir/runner/internal/store"
	"github.com/weirhq/weir/sfapi"
)

// AppendTx implements jobs.WriteStore.
func (d *db) AppendTx(ctx context.Context, tx pgx.Tx, b *jobs.WriteBatch) (*jobs.WriteReceipt, error) {
	if err := store.CheckBatch(b); err != nil {
		return nil, err
	}
	var key *string
	if b.IdempotencyKey != "" {
		key = &b.IdempotencyKey
	}
	receipt := &jobs.WriteReceipt{Accepted: len(b.Payloads)}
	// A concurrent write with the same key makes this wait for its end.
	err := tx.QueryRow(ctx, `
		INSERT INTO weir_write (org, object, operation, external_id, idempotency_key, body_hash, accepted, created_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, now())
		ON CONFLICT (org, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
		RETURNING id`,
		b.Org, b.Object, string(b.Operation), b.ExternalID, key, b.BodyHash[:], len(b.Payloads)).Scan(&receipt.ID)
	if noRows(err) {
		return repeatedWrite(ctx, tx, b)
	}
	if err == nil {
		_, err = tx.CopyFrom(ctx, pgx.Identifier{"weir_write_record"},
			[]string{"write_id", "idx", "org", "object", "key", "payload", "size"},
			pgx.CopyFromSlice(len(b.Payloads), func(i int) ([]any, error) {
				return []any{receipt.ID, int32(i), string(b.Org), b.Object, b.Keys[i], []byte(b.Payloads[i]), int32(len(b.Payloads[i]))}, nil
			}))
	}
	if err != nil {
		return nil, fmt.Errorf("append write of %s %s: %w", b.Org, b.Object, err)
	}
	return receipt, nil
}

// repeatedWrite answers a write whose idempotency key was used before.
func repeatedWrite(ctx context.Context, tx pgx.Tx, b *jobs.WriteBatch) (*jobs.WriteReceipt, error) {
	receipt := &jobs.WriteReceipt{Repeated: true}
	var hash []byte
	err := tx.QueryRow(ctx, `SELECT id, accepted, body_hash FROM weir_write WHERE org = $1 AND idempotency_key = $2`,
		b.Org, b.IdempotencyKey).Scan(&receipt.ID, &receipt.Accepted, &hash)
	if err == nil && !bytes.Equal(hash, b.BodyHash[:]) {
		err = jobs.ErrIdempotencyConflict
	}
	if err != nil {
		return nil, fmt.Errorf("append write of %s %s: %w", b.Org, b.Object, err)
	}
	return receipt, nil
}

// WriteCounts implements jobs.WriteStore.
func (d *db) WriteCounts(ctx context.Context, org sfapi.OrgID, writeID int64) (*jobs.WriteCounts, error) {
	var c jobs.WriteCounts
	err := d.pool.QueryRow(ctx, `
		SELECT w.accepted,
			count(*) FILTER (WHERE r.status = 'pending'), count(*) FILTER (WHERE r.status = 'sent'),
			count(*) FILTER (WHERE r.status = 'done'), count(*) FILTER (WHERE r.status = 'failed'),
			count(*) FILTER (WHERE r.status = 'unknown'), count(*) FILTER (WHERE r.status = 'cancelled')
		FROM weir_write w LEFT JOIN weir_write_record r ON r.write_id = w.id
		WHERE w.id = $2 AND w.org = $1 GROUP BY w.id`, org, writeID).
		Scan(&c.Accepted, &c.Pending, &c.Sent, &c.Done, &c.Failed, &c.Unknown, &c.Cancelled)
	if noRows(err) {
		err = jobs.ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("count records of write %d of %s: %w", writeID, org, err)
	}
	return &c, nil
}

// rowColumns are what scanRow reads; the payload comes first, because a drain
// wants the one to send and a list the one that was handed over.
const rowColumns = `r.id, r.write_id, r.idx, r.org, r.object, w.operation, w.external_id, r.key, r.status, r.attempts, r.sent_at,
	coalesce(r.salesforce_id, ''), r.created, coalesce(r.error_code, ''), coalesce(r.error_message, ''), r.error_fields,
	coalesce(r.merged_into, 0)`

func scanRow(row pgx.CollectableRow) (*jobs.WriteRow, error) {
	var r jobs.WriteRow
	var payload []byte
	var sentAt pgtype.Timestamptz
	err := row.Scan(&payload, &r.ID, &r.WriteID, &r.Index, &r.Org, &r.Object, &r.Operation, &r.ExternalID, &r.Key, &r.Status, &r.Attempts, &sentAt,
		&r.SalesforceID, &r.Created, &r.ErrorCode, &r.ErrorMessage, &r.ErrorFields, &r.MergedInto)
	if err != nil {
		return nil, err
	}
	r.Payload, r.SentAt = payload, timeOf(sentAt)
	return &r, nil
}

// WriteRows implements jobs.WriteStore.
func (d *db) WriteRows(ctx context.Context, org sfapi.OrgID, writeID int64, q *jobs.WriteQuery) ([]*jobs.WriteRow, error) {
	rows, err := d.pool.Query(ctx, `
		SELECT r.payload, `+rowColumns+` FROM weir_write_record r JOIN weir_write w ON w.id = r.write_id
		WHERE r.write_id = $2 AND r.org = $1 AND r.idx >= $3 AND ($4 = '' OR r.status = $4)
		ORDER BY r.idx LIMIT $5`, org, writeID, q.From, string(q.Status), store.PageLimit(q))
	if err != nil {
		return nil, fmt.Errorf("list records of write %d of %s: %w", writeID, org, err)
	}
	list, err := pgx.CollectRows(rows, scanRow)
	if err != nil {
		return nil, fmt.Errorf("list records of write %d of %s: %w", writeID, org, err)
	}
	return list, nil
}

// RetryWriteTx implements jobs.WriteStore.
func (d *db) RetryWriteTx(ctx context.Context, tx pgx.Tx, org sfapi.OrgID, writeID int64) (object string, n int, err error) {
	err = tx.QueryRow(ctx, `SELECT object FROM weir_write WHERE id = $2 AND org = $1`, org, writeID).Scan(&object)
	if noRows(err) {
		err = jobs.ErrNotFound
	}
	if err != nil {
		return "", 0, fmt.Errorf("retry write %d of %s: %w", writeID, org, err)
	}
	tag, err := tx.Exec(ctx, `
		UPDATE weir_write_record SET status = 'pending', attempts = 0, changed_at = now(), sent_at = NULL, carried = NULL, merged_into = NULL,
			salesforce_id = NULL, created = false, error_code = NULL, error_message = NULL, error_fields = NULL
		WHERE write_id = $1 AND status IN ('failed', 'unknown')`, writeID)
	if err != nil {
		return "", 0, fmt.Errorf("retry write %d of %s: %w", writeID, org, err)
	}
	return object, int(tag.RowsAffected()), nil
}

// Undrained implements jobs.WriteStore. The pairs with open rows are found by
// jumping along the index weir_write_record_open, from each to the next.
func (d *db) Undrained(ctx context.Context, age time.Duration, limit int) ([]jobs.WriteArgs, error) {
	rows, err := d.pool.Query(ctx, `
		WITH RECURSIVE pair AS (
			(SELECT org, object FROM weir_write_record WHERE status IN ('pending', 'sent') ORDER BY org, object LIMIT 1)
			UNION ALL
			SELECT n.org, n.object FROM pair p CROSS JOIN LATERAL (
				SELECT r.org, r.object FROM weir_write_record r
				WHERE r.status IN ('pending', 'sent') AND (r.org, r.object) > (p.org, p.object)
				ORDER BY r.org, r.object LIMIT 1) n
		)
		SELECT p.org, p.object FROM pair p
		WHERE NOT EXISTS (
				SELECT 1 FROM river_job j
				WHERE j.kind = $1 AND j.args @> jsonb_build_object('org', p.org, 'object', p.object)
					AND j.state IN ('available', 'pending', 'retryable', 'running', 'scheduled'))
			AND EXISTS (
				SELECT 1 FROM weir_write_record r
				WHERE r.org = p.org AND r.object = p.object AND r.status IN ('pending', 'sent')
					AND r.changed_at < now() - $2::interval)
		LIMIT $3`, jobs.WriteArgs{}.Kind(), age, limit)
	if err != nil {
		return nil, fmt.Errorf("find writes without a job: %w", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (a jobs.WriteArgs, err error) {
		err = row.Scan(&a.Org, &a.Object)
		return a, err
	})
	if err != nil {
		return nil, fmt.Errorf("find writes without a job: %w", err)
	}
	return list, nil
}
