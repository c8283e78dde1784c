package runnersqlite

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"time"

	"github.com/weirhq/weir/jobs"
	"github.com/weirhq/weir/runner/internal/store"
	"github.com/weirhq/weir/sfapi"
)

// AppendTx implements jobs.WriteStore.
func (d *db) AppendTx(ctx context.Context, tx *sql.Tx, b *jobs.WriteBatch) (*jobs.WriteReceipt, error) {
	if err := store.CheckBatch(b); err != nil {
		return nil, err
	}
	for i, payload := range b.Payloads { // Postgres checks it by itself
		if !json.Valid(payload) {
			return nil, fmt.Errorf("append write of %s %s: records[%d] is not JSON", b.Org, b.Object, i)
		}
	}
	var key any
	if b.IdempotencyKey != "" {
		key = b.IdempotencyKey
	}
	at := timestamp(now())
	receipt := &jobs.WriteReceipt{Accepted: len(b.Payloads)}
	err := tx.QueryRowContext(ctx, `
		INSERT INTO weir_write (org, object, operation, external_id, idempotency_key, body_hash, accepted, created_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (org, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
		RETURNING id`,
		string(b.Org), b.Object, string(b.Operation), b.ExternalID, key, b.BodyHash[:], len(b.Payloads), at).Scan(&receipt.ID)
	if noRows(err) {
		return repeatedWrite(ctx, tx, b)
	}
	if err == nil {
		err = insertRows(ctx, tx, `INSERT INTO weir_write_record (write_id, idx, org, object, key, payload, changed_at)`, "", 7, len(b.Payloads), func(i int, dst []any) error {
			dst[0], dst[1], dst[2], dst[3], dst[4], dst[5], dst[6] = receipt.ID, i, string(b.Org), b.Object, b.Keys[i], string(b.Payloads[i]), at
			return nil
		})
	}
	if err != nil {
		return nil, fmt.Errorf("append write of %s %s: %w", b.Org, b.Object, err)
	}
	return receipt, nil
}

// repeatedWrite answers a write whose idempotency key was used before.
func repeatedWrite(ctx context.Context, tx *sql.Tx, b *jobs.WriteBatch) (*jobs.WriteReceipt, error) {
	receipt := &jobs.WriteReceipt{Repeated: true}
	var hash []byte
	err := tx.QueryRowContext(ctx, `SELECT id, accepted, body_hash FROM weir_write WHERE org = ? AND idempotency_key = ?`,
		string(b.Org), b.IdempotencyKey).Scan(&receipt.ID, &receipt.Accepted, &hash)
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
	err := d.pool.QueryRowContext(ctx, `
		SELECT w.accepted,
			count(*) FILTER (WHERE r.status = 'pending'), count(*) FILTER (WHERE r.status = 'sent'),
			count(*) FILTER (WHERE r.status = 'done'), count(*) FILTER (WHERE r.status = 'failed'),
			count(*) FILTER (WHERE r.status = 'unknown'), count(*) FILTER (WHERE r.status = 'cancelled')
		FROM weir_write w LEFT JOIN weir_write_record r ON r.write_id = w.id
		WHERE w.id = ? AND w.org = ? GROUP BY w.id`, writeID, string(org)).
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

func scanRow(row scanner) (*jobs.WriteRow, error) {
	var r jobs.WriteRow
	var payload, fields []byte
	err := row.Scan(&payload, &r.ID, &r.WriteID, &r.Index, &r.Org, &r.Object, &r.Operation, &r.ExternalID, &r.Key, &r.Status, &r.Attempts, (*timestamp)(&r.SentAt),
		&r.SalesforceID, &r.Created, &r.ErrorCode, &r.ErrorMessage, &fields, &r.MergedInto)
	if err != nil {
		return nil, err
	}
	r.Payload = payload
	if fields != nil {
		if err := json.Unmarshal(fields, &r.ErrorFields); err != nil {
			return nil, fmt.Errorf("decode error_fields of record %d: %w", r.ID, err)
		}
	}
	return &r, nil
}

// WriteRows implements jobs.WriteStore.
func (d *db) WriteRows(ctx context.Context, org sfapi.OrgID, writeID int64, q *jobs.WriteQuery) ([]*jobs.WriteRow, error) {
	rows, err := d.pool.QueryContext(ctx, `
		SELECT r.payload, `+rowColumns+` FROM weir_write_record r JOIN weir_write w ON w.id = r.write_id
		WHERE r.write_id = ?1 AND r.org = ?2 AND r.idx >= ?3 AND (?4 = '' OR r.status = ?4)
		ORDER BY r.idx LIMIT ?5`, writeID, string(org), q.From, string(q.Status), store.PageLimit(q))
	list, err := collect(rows, err, scanRow)
	if err != nil {
		return nil, fmt.Errorf("list records of write %d of %s: %w", writeID, org, err)
	}
	return list, nil
}

// RetryWriteTx implements jobs.WriteStore.
func (d *db) RetryWriteTx(ctx context.Context, tx *sql.Tx, org sfapi.OrgID, writeID int64) (object string, n int, err error) {
	err = tx.QueryRowContext(ctx, `SELECT object FROM weir_write WHERE id = ? AND org = ?`, writeID, string(org)).Scan(&object)
	if noRows(err) {
		err = jobs.ErrNotFound
	}
	if err != nil {
		return "", 0, fmt.Errorf("retry write %d of %s: %w", writeID, org, err)
	}
	result, err := tx.ExecContext(ctx, `
		UPDATE weir_write_record SET status = 'pending', attempts = 0, changed_at = ?, sent_at = NULL, carried = NULL, merged_into = NULL,
			salesforce_id = NULL, created = 0, error_code = NULL, error_message = NULL, error_fields = NULL
		WHERE write_id = ? AND status IN ('failed', 'unknown')`, timestamp(now()), writeID)
	n, err = affected(result, err)
	if err != nil {
		return "", 0, fmt.Errorf("retry write %d of %s: %w", writeID, org, err)
	}
	return object, n, nil
}

// Undrained implements jobs.WriteStore. The pairs with open rows are found by
// jumping along the index weir_write_record_open, from each to the next.
func (d *db) Undrained(ctx context.Context, age time.Duration, limit int) ([]jobs.WriteArgs, error) {
	found := []jobs.WriteArgs{}
	err := d.InTx(ctx, func(ctx context.Context, tx *sql.Tx) error {
		since := timestamp(now().Add(-age))
		var pair jobs.WriteArgs
		for len(found) < limit {
			err := tx.QueryRowContext(ctx, `
				SELECT org, object FROM weir_write_record INDEXED BY weir_write_record_open
				WHERE status IN ('pending', 'sent') AND (org, object) > (?, ?)
				ORDER BY org, object LIMIT 1`, string(pair.Org), pair.Object).Scan(&pair.Org, &pair.Object)
			if noRows(err) {
				return nil
			}
			if err != nil {
				return err
			}
			var undrained bool
			err = tx.QueryRowContext(ctx, `
				SELECT NOT EXISTS (
						SELECT 1 FROM river_job
						WHERE kind = ?1 AND json_extract(args, '$.org') = ?2 AND json_extract(args, '$.object') = ?3
							AND state IN ('available', 'pending', 'retryable', 'running', 'scheduled'))
					AND EXISTS (
						SELECT 1 FROM weir_write_record INDEXED BY weir_write_record_open
						WHERE org = ?2 AND object = ?3 AND status IN ('pending', 'sent') AND changed_at < ?4)`,
				jobs.WriteArgs{}.Kind(), string(pair.Org), pair.Object, since).Scan(&undrained)
			if err != nil {
				return err
			}
			if undrained {
				found = append(found, pair)
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("find writes without a job: %w", err)
	}
	return found, nil
}
