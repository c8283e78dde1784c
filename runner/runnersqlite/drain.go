package runnersqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/weirhq/weir/jobs"
	"github.com/weirhq/weir/runner/internal/store"
	"github.com/weirhq/weir/sfapi"
)

// BeginDrain implements jobs.WriteStore.
func (d *db) BeginDrain(ctx context.Context, org sfapi.OrgID, object string, jobID int64) (epoch int64, err error) {
	err = d.InTx(ctx, func(ctx context.Context, tx *sql.Tx) error {
		var holder int64
		err := tx.QueryRowContext(ctx, `SELECT lease_job FROM weir_drain WHERE org = ? AND object = ?`, string(org), object).Scan(&holder)
		if err != nil && !noRows(err) {
			return err
		}
		free, err := leaseFree(ctx, tx, holder, jobID)
		if err != nil {
			return err
		}
		if !free {
			return jobs.ErrBusy
		}
		return tx.QueryRowContext(ctx, `
			INSERT INTO weir_drain (org, object, epoch, lease_job) VALUES (?, ?, 1, ?)
			ON CONFLICT (org, object) DO UPDATE SET epoch = epoch + 1, lease_job = excluded.lease_job
			RETURNING epoch`, string(org), object, jobID).Scan(&epoch)
	})
	if err != nil {
		return 0, fmt.Errorf("begin drain of %s %s: %w", org, object, err)
	}
	return epoch, nil
}

// NextRows implements jobs.WriteStore. Without statistics SQLite might walk the
// whole log by id; the index is named.
func (d *db) NextRows(ctx context.Context, org sfapi.OrgID, object string, limit int) ([]*jobs.WriteRow, error) {
	rows, err := d.pool.QueryContext(ctx, `
		SELECT coalesce(r.carried, r.payload), `+rowColumns+`
		FROM weir_write_record r INDEXED BY weir_write_record_open CROSS JOIN weir_write w ON w.id = r.write_id
		WHERE r.org = ? AND r.object = ? AND r.status IN ('pending', 'sent') AND r.merged_into IS NULL
		ORDER BY r.id LIMIT ?`, string(org), object, limit)
	size := 0
	list, err := collect(rows, err, func(row scanner) (*jobs.WriteRow, error) {
		if size >= jobs.NextRowsBytes {
			return nil, errEnough // SQLite has read no further
		}
		r, err := scanRow(row)
		if err == nil {
			size += len(r.Payload)
		}
		return r, err
	})
	if err != nil {
		return nil, fmt.Errorf("read write log of %s %s: %w", org, object, err)
	}
	return list, nil
}

// inDrain runs fn in a transaction that holds the drain's lease.
func (d *db) inDrain(ctx context.Context, org sfapi.OrgID, object string, epoch int64, fn func(ctx context.Context, tx *sql.Tx) error) error {
	return d.InTx(ctx, func(ctx context.Context, tx *sql.Tx) error {
		var one int
		err := tx.QueryRowContext(ctx, `SELECT 1 FROM weir_drain WHERE org = ? AND object = ? AND epoch = ?`, string(org), object, epoch).Scan(&one)
		if noRows(err) {
			return jobs.ErrLeaseLost
		}
		if err != nil {
			return err
		}
		return fn(ctx, tx)
	})
}

// MarkSent implements jobs.WriteStore.
func (d *db) MarkSent(ctx context.Context, org sfapi.OrgID, object string, epoch int64, ids []int64, merged map[int64]int64, payloads map[int64]json.RawMessage) error {
	err := d.inDrain(ctx, org, object, epoch, func(ctx context.Context, tx *sql.Tx) error {
		at := timestamp(now())
		sent, err := tx.PrepareContext(ctx, `
			UPDATE weir_write_record SET status = 'sent', sent_at = ?1, changed_at = ?1, carried = coalesce(?2, carried)
			WHERE id = ?3 AND org = ?4 AND object = ?5 AND status IN ('pending', 'sent')`)
		if err != nil {
			return err
		}
		defer func() { _ = sent.Close() }()
		for _, id := range ids {
			if _, ok := merged[id]; ok {
				continue
			}
			if err := changedOne(sent.ExecContext(ctx, at, jsonOrNull(payloads[id]), id, string(org), object)); err != nil {
				return err
			}
		}
		for id, carrier := range merged {
			err := changedOne(tx.ExecContext(ctx, `
				UPDATE weir_write_record SET status = 'sent', sent_at = ?1, changed_at = ?1, carried = NULL, merged_into = ?2
				WHERE id = ?3 AND org = ?4 AND object = ?5 AND status IN ('pending', 'sent')`, at, carrier, id, string(org), object))
			if err != nil {
				return err
			}
			// What a row carried that is merged now itself goes with it.
			_, err = tx.ExecContext(ctx, `
				UPDATE weir_write_record SET merged_into = ?2, sent_at = ?1, changed_at = ?1
				WHERE status = 'sent' AND merged_into = ?3 AND org = ?4 AND object = ?5`, at, carrier, id, string(org), object)
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("mark rows of %s %s sent: %w", org, object, err)
	}
	return nil
}

// changedOne returns jobs.ErrLeaseLost when a statement found no row: then it
// was cancelled meanwhile.
func changedOne(result sql.Result, err error) error {
	n, err := affected(result, err)
	if err == nil && n == 0 {
		err = jobs.ErrLeaseLost
	}
	return err
}

// settle is the SQL that gives a row the outcome of row ?11. The last error of
// a row that is to be sent again stays with it, for people to see.
const settle = `
	UPDATE weir_write_record SET status = ?1, attempts = attempts + ?2, changed_at = ?3,
		carried = CASE WHEN ?1 = 'sent' THEN carried END,
		merged_into = CASE WHEN ?1 = 'pending' THEN NULL ELSE merged_into END,
		salesforce_id = nullif(?4, ''), created = ?5,
		error_code = nullif(?6, ''), error_message = nullif(?7, ''), error_fields = ?8
	WHERE org = ?9 AND object = ?10 AND `

// Settle implements jobs.WriteStore.
func (d *db) Settle(ctx context.Context, org sfapi.OrgID, object string, epoch int64, outcomes []jobs.WriteOutcome, failed func(context.Context, *sql.Tx, *jobs.WriteFailure) error) error {
	err := d.inDrain(ctx, org, object, epoch, func(ctx context.Context, tx *sql.Tx) error {
		// First the rows themselves: one that has an outcome of its own is no
		// longer sent, and does not take its carrier's.
		which := []string{`status IN ('pending', 'sent') AND id = ?11`, `status = 'sent' AND merged_into = ?11`}
		var merged bool
		err := tx.QueryRowContext(ctx, `
			SELECT EXISTS (SELECT 1 FROM weir_write_record INDEXED BY weir_write_record_merged
				WHERE status = 'sent' AND merged_into IS NOT NULL AND org = ? AND object = ?)`, string(org), object).Scan(&merged)
		if err != nil {
			return err
		}
		if !merged {
			which = which[:1]
		}
		writes := make(map[int64]bool)
		for _, which := range which {
			stmt, err := tx.PrepareContext(ctx, settle+which+` RETURNING write_id`)
			if err != nil {
				return err
			}
			defer func() { _ = stmt.Close() }()
			at := timestamp(now())
			for i := range outcomes {
				o := &outcomes[i]
				attempt := 0
				if o.CountAttempt {
					attempt = 1
				}
				var fields any
				if o.ErrorFields != nil {
					list, err := json.Marshal(store.Messages(o.ErrorFields))
					if err != nil {
						return err
					}
					fields = string(list)
				}
				err := eachWrite(ctx, stmt, writes, string(o.Status), attempt, at, o.SalesforceID, o.Created,
					store.Message(o.ErrorCode), store.Message(o.ErrorMessage), fields, string(org), object, o.ID)
				if err != nil {
					return err
				}
			}
		}
		return tellFailed(ctx, tx, writes, failed)
	})
	if err != nil {
		return fmt.Errorf("settle rows of %s %s: %w", org, object, err)
	}
	return nil
}

// eachWrite adds the writes whose rows a statement changed.
func eachWrite(ctx context.Context, stmt *sql.Stmt, writes map[int64]bool, args ...any) (err error) {
	rows, err := stmt.QueryContext(ctx, args...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var id int64
		if err := rows.Scan(&id); err != nil {
			return err
		}
		writes[id] = true
	}
	return rows.Err()
}

// tellFailed tells of those writes that have no open record left, and failed
// ones. The open ones are the last of a write: the look for one starts there.
func tellFailed(ctx context.Context, tx *sql.Tx, writes map[int64]bool, tell func(context.Context, *sql.Tx, *jobs.WriteFailure) error) error {
	if tell == nil {
		return nil
	}
	for _, id := range slices.Sorted(maps.Keys(writes)) {
		f := &jobs.WriteFailure{}
		err := tx.QueryRowContext(ctx, `
			SELECT w.org, w.object, w.id, w.operation, w.accepted, r.failed, r.unknown,
				coalesce((SELECT e.error_code FROM weir_write_record e
					WHERE e.write_id = w.id AND e.status IN ('failed', 'unknown') ORDER BY e.idx LIMIT 1), '')
			FROM weir_write w, (
				SELECT count(*) FILTER (WHERE status = 'failed') AS failed, count(*) FILTER (WHERE status = 'unknown') AS unknown
				FROM weir_write_record WHERE write_id = ?1) AS r
			WHERE w.id = ?1 AND r.failed + r.unknown > 0 AND (
				SELECT o.idx FROM weir_write_record o WHERE o.write_id = ?1 AND o.status IN ('pending', 'sent')
				ORDER BY o.idx DESC LIMIT 1) IS NULL`, id).
			Scan(&f.Org, &f.Object, &f.WriteID, &f.Operation, &f.Accepted, &f.Failed, &f.Unknown, &f.ErrorCode)
		if errors.Is(err, sql.ErrNoRows) {
			continue
		}
		if err != nil {
			return err
		}
		if err := tell(ctx, tx, f); err != nil {
			return err
		}
	}
	return nil
}

// EndDrain implements jobs.WriteStore.
func (d *db) EndDrain(ctx context.Context, org sfapi.OrgID, object string, epoch int64) (released bool, err error) {
	err = d.inDrain(ctx, org, object, epoch, func(ctx context.Context, tx *sql.Tx) error {
		result, err := tx.ExecContext(ctx, `
			UPDATE weir_drain SET lease_job = 0 WHERE org = ?1 AND object = ?2
				AND NOT EXISTS (SELECT 1 FROM weir_write_record INDEXED BY weir_write_record_open
					WHERE org = ?1 AND object = ?2 AND status IN ('pending', 'sent'))`, string(org), object)
		n, err := affected(result, err)
		released = n > 0
		return err
	})
	if err != nil {
		return false, fmt.Errorf("end drain of %s %s: %w", org, object, err)
	}
	return released, nil
}

// ReleaseDrain implements jobs.WriteStore.
func (d *db) ReleaseDrain(ctx context.Context, org sfapi.OrgID, object string, epoch int64) error {
	_, err := d.pool.ExecContext(ctx, `UPDATE weir_drain SET lease_job = 0 WHERE org = ? AND object = ? AND epoch = ?`, string(org), object, epoch)
	if err != nil {
		return fmt.Errorf("release drain of %s %s: %w", org, object, err)
	}
	return nil
}
