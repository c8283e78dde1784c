package runnerpgx

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/weirhq/weir/jobs"
	"github.com/weirhq/weir/runner/internal/store"
	"github.com/weirhq/weir/sfapi"
)

// BeginDrain implements jobs.WriteStore.
func (d *db) BeginDrain(ctx context.Context, org sfapi.OrgID, object string, jobID int64) (epoch int64, err error) {
	err = d.InTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO weir_drain (org, object, epoch, lease_job) VALUES ($1, $2, 0, 0) ON CONFLICT DO NOTHING`, org, object)
		if err != nil {
			return err
		}
		// The row's lock is held until the answer is known: an EndDrain that
		// looks after it sees all that was committed before this call.
		var holder int64
		err = tx.QueryRow(ctx, `SELECT lease_job FROM weir_drain WHERE org = $1 AND object = $2 FOR UPDATE`, org, object).Scan(&holder)
		if err != nil {
			return err
		}
		free, err := leaseFree(ctx, tx, holder, jobID)
		if err != nil {
			return err
		}
		if !free {
			return jobs.ErrBusy
		}
		return tx.QueryRow(ctx, `
			UPDATE weir_drain SET epoch = epoch + 1, lease_job = $3 WHERE org = $1 AND object = $2 RETURNING epoch`,
			org, object, jobID).Scan(&epoch)
	})
	if err != nil {
		return 0, fmt.Errorf("begin drain of %s %s: %w", org, object, err)
	}
	return epoch, nil
}

// NextRows implements jobs.WriteStore. The bound on payloads goes by size, so
// that those beyond it are not read. A row that carries others counts as if it
// did not: what they hold together fitted into one request.
func (d *db) NextRows(ctx context.Context, org sfapi.OrgID, object string, limit int) ([]*jobs.WriteRow, error) {
	rows, err := d.pool.Query(ctx, `
		SELECT coalesce(r.carried, r.payload), `+rowColumns+`
		FROM (
			SELECT *, sum(size) OVER (ORDER BY id ROWS UNBOUNDED PRECEDING) - size AS before
			FROM weir_write_record
			WHERE org = $1 AND object = $2 AND status IN ('pending', 'sent') AND merged_into IS NULL
			ORDER BY id LIMIT $3
		) r JOIN weir_write w ON w.id = r.write_id
		WHERE r.before < $4
		ORDER BY r.id`, org, object, limit, jobs.NextRowsBytes)
	if err != nil {
		return nil, fmt.Errorf("read write log of %s %s: %w", org, object, err)
	}
	list, err := pgx.CollectRows(rows, scanRow)
	if err != nil {
		return nil, fmt.Errorf("read write log of %s %s: %w", org, object, err)
	}
	return list, nil
}

// inDrain runs fn in a transaction that holds the drain's lease.
func (d *db) inDrain(ctx context.Context, org sfapi.OrgID, object string, epoch int64, fn func(ctx context.Context, tx pgx.Tx) error) error {
	return d.InTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		var one int
		err := tx.QueryRow(ctx, `SELECT 1 FROM weir_drain WHERE org = $1 AND object = $2 AND epoch = $3 FOR UPDATE`, org, object, epoch).Scan(&one)
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
	var rows, carriers []int64
	var carried []*string
	for _, id := range ids {
		if _, ok := merged[id]; ok {
			continue
		}
		rows, carriers = append(rows, id), append(carriers, 0)
		var payload *string
		if p, ok := payloads[id]; ok {
			s := string(p)
			payload = &s
		}
		carried = append(carried, payload)
	}
	var from, to []int64
	for id, carrier := range merged {
		rows, carriers, carried = append(rows, id), append(carriers, carrier), append(carried, nil)
		from, to = append(from, id), append(to, carrier)
	}
	err := d.inDrain(ctx, org, object, epoch, func(ctx context.Context, tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `
			UPDATE weir_write_record r SET status = 'sent', sent_at = now(), changed_at = now(),
				merged_into = CASE WHEN m.carrier = 0 THEN r.merged_into ELSE m.carrier END,
				carried = CASE WHEN m.carrier = 0 THEN coalesce(m.payload::json, r.carried) END
			FROM unnest($3::bigint[], $4::bigint[], $5::text[]) AS m (id, carrier, payload) `+openRow("m")+`
			WHERE r.ctid = f.ctid AND r.status IN ('pending', 'sent')`,
			org, object, rows, carriers, carried)
		if err == nil && tag.RowsAffected() < int64(len(rows)) {
			err = jobs.ErrLeaseLost // it was cancelled meanwhile
		}
		if err != nil || len(merged) == 0 {
			return err
		}
		// What a row carried that is merged now itself goes with it.
		_, err = tx.Exec(ctx, `
			UPDATE weir_write_record r SET merged_into = m.carrier, sent_at = now(), changed_at = now()
			FROM unnest($3::bigint[], $4::bigint[]) AS m (id, carrier)
			WHERE r.status = 'sent' AND r.merged_into = m.id AND r.org = $1 AND r.object = $2`, org, object, from, to)
		return err
	})
	if err != nil {
		return fmt.Errorf("mark rows of %s %s sent: %w", org, object, err)
	}
	return nil
}

// openRow is the SQL that finds, for each row of the list that is named, the
// open row with its id. LIMIT keeps it from being joined in another way. The
// statistics of a log lag behind its backlog, and a planner that takes an
// org's backlog for one row reads all of it for a join; this reads one row an
// id, whatever the planner believes.
func openRow(list string) string {
	return `CROSS JOIN LATERAL (
		SELECT p.ctid FROM weir_write_record p
		WHERE p.org = $1 AND p.object = $2 AND p.status IN ('pending', 'sent') AND p.id = ` + list + `.id LIMIT 1) AS f`
}

// settle is the SQL that gives row r the outcome o. The last error of a row
// that is to be sent again stays with it, for people to see.
const settle = `
	UPDATE weir_write_record r SET status = o.status, attempts = r.attempts + o.attempt, changed_at = now(),
		carried = CASE WHEN o.status = 'sent' THEN r.carried END,
		merged_into = CASE WHEN o.status = 'pending' THEN NULL ELSE r.merged_into END,
		salesforce_id = nullif(o.salesforce_id, ''), created = o.created,
		error_code = nullif(o.code, ''), error_message = nullif(o.message, ''),
		error_fields = CASE WHEN o.fields IS NOT NULL THEN ARRAY(SELECT json_array_elements_text(o.fields::json)) END
	FROM unnest($3::bigint[], $4::text[], $5::integer[], $6::text[], $7::boolean[], $8::text[], $9::text[], $10::text[])
		AS o (id, status, attempt, salesforce_id, created, code, message, fields) `

// Settle implements jobs.WriteStore.
func (d *db) Settle(ctx context.Context, org sfapi.OrgID, object string, epoch int64, outcomes []jobs.WriteOutcome, failed func(context.Context, pgx.Tx, *jobs.WriteFailure) error) error {
	n := len(outcomes)
	ids, attempts, created := make([]int64, n), make([]int32, n), make([]bool, n)
	statuses, salesforceIDs, codes, messages := make([]string, n), make([]string, n), make([]string, n), make([]string, n)
	fields := make([]*string, n)
	for i := range outcomes {
		o := &outcomes[i]
		ids[i], statuses[i], created[i] = o.ID, string(o.Status), o.Created
		salesforceIDs[i], codes[i], messages[i] = o.SalesforceID, store.Message(o.ErrorCode), store.Message(o.ErrorMessage)
		if o.CountAttempt {
			attempts[i] = 1
		}
		if o.ErrorFields != nil {
			list, err := json.Marshal(store.Messages(o.ErrorFields))
			if err != nil {
				return fmt.Errorf("settle rows of %s %s: %w", org, object, err)
			}
			s := string(list)
			fields[i] = &s
		}
	}
	args := []any{org, object, ids, statuses, attempts, salesforceIDs, created, codes, messages, fields}
	err := d.inDrain(ctx, org, object, epoch, func(ctx context.Context, tx pgx.Tx) error {
		// First the rows themselves: one that has an outcome of its own is no
		// longer sent, and does not take its carrier's.
		writes := make(map[int64]bool)
		for _, which := range []string{
			openRow("o") + ` WHERE r.ctid = f.ctid AND r.status IN ('pending', 'sent')`,
			`WHERE r.org = $1 AND r.object = $2 AND r.status = 'sent' AND r.merged_into = o.id`,
		} {
			rows, err := tx.Query(ctx, settle+which+` RETURNING r.write_id`, args...)
			if err != nil {
				return err
			}
			ids, err := pgx.CollectRows(rows, pgx.RowTo[int64])
			if err != nil {
				return err
			}
			for _, id := range ids {
				writes[id] = true
			}
		}
		return tellFailed(ctx, tx, slices.Sorted(maps.Keys(writes)), failed)
	})
	if err != nil {
		return fmt.Errorf("settle rows of %s %s: %w", org, object, err)
	}
	return nil
}

// tellFailed tells of those writes that have no open record left, and failed
// ones. The open ones are the last of a write: the look for one starts there.
func tellFailed(ctx context.Context, tx pgx.Tx, writes []int64, tell func(context.Context, pgx.Tx, *jobs.WriteFailure) error) error {
	if tell == nil || len(writes) == 0 {
		return nil
	}
	rows, err := tx.Query(ctx, `
		SELECT w.org, w.object, w.id, w.operation, w.accepted, r.failed, r.unknown,
			coalesce((SELECT e.error_code FROM weir_write_record e
				WHERE e.write_id = w.id AND e.status IN ('failed', 'unknown') ORDER BY e.idx LIMIT 1), '')
		FROM weir_write w CROSS JOIN LATERAL (
			SELECT count(*) FILTER (WHERE status = 'failed') AS failed, count(*) FILTER (WHERE status = 'unknown') AS unknown
			FROM weir_write_record WHERE write_id = w.id) AS r
		WHERE w.id = ANY($1) AND r.failed + r.unknown > 0 AND (
			SELECT o.idx FROM weir_write_record o WHERE o.write_id = w.id AND o.status IN ('pending', 'sent')
			ORDER BY o.write_id DESC, o.idx DESC LIMIT 1) IS NULL
		ORDER BY w.id`, writes)
	if err != nil {
		return err
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (*jobs.WriteFailure, error) {
		f := &jobs.WriteFailure{}
		return f, row.Scan(&f.Org, &f.Object, &f.WriteID, &f.Operation, &f.Accepted, &f.Failed, &f.Unknown, &f.ErrorCode)
	})
	if err != nil {
		return err
	}
	for _, f := range list {
		if err := tell(ctx, tx, f); err != nil {
			return err
		}
	}
	return nil
}

// EndDrain implements jobs.WriteStore.
func (d *db) EndDrain(ctx context.Context, org sfapi.OrgID, object string, epoch int64) (released bool, err error) {
	err = d.inDrain(ctx, org, object, epoch, func(ctx context.Context, tx pgx.Tx) error {
		// Read committed: this statement sees what was committed up to now,
		// after the lock was had.
		tag, err := tx.Exec(ctx, `
			UPDATE weir_drain SET lease_job = 0 WHERE org = $1 AND object = $2
				AND NOT EXISTS (SELECT 1 FROM weir_write_record r WHERE r.org = $1 AND r.object = $2 AND r.status IN ('pending', 'sent'))`,
			org, object)
		released = tag.RowsAffected() > 0
		return err
	})
	if err != nil {
		return false, fmt.Errorf("end drain of %s %s: %w", org, object, err)
	}
	return released, nil
}

// ReleaseDrain implements jobs.WriteStore.
func (d *db) ReleaseDrain(ctx context.Context, org sfapi.OrgID, object string, epoch int64) error {
	_, err := d.pool.Exec(ctx, `UPDATE weir_drain SET lease_job = 0 WHERE org = $1 AND object = $2 AND epoch = $3`, org, object, epoch)
	if err != nil {
		return fmt.Errorf("release drain of %s %s: %w", org, object, err)
	}
	return nil
}
