package runnersqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"time"

	"github.com/weirhq/weir/jobs"
	"github.com/weirhq/weir/runner/internal/store"
	"github.com/weirhq/weir/sfapi"
)

// syncColumns are what scanSync reads.
const syncColumns = `org, object, epoch, lease_job, job_id, begun_by, running, mode, from_stamp, cursor_stamp, cursor_id,
	server_start, started_at, row_count, deleted_count, call_count, next_from, total_rows, last_run, updated_at`

func scanSync(row scanner) (*store.SyncRun, error) {
	var r store.SyncRun
	st := &r.State
	var lastRun []byte
	err := row.Scan(&st.Org, &st.Object, &st.Epoch, &r.LeaseJob, &st.JobID, &r.BegunBy, &st.Running, &st.Mode,
		(*timestamp)(&st.From), (*timestamp)(&st.Cursor.Stamp), &st.Cursor.ID, (*timestamp)(&st.ServerStart), (*timestamp)(&st.StartedAt),
		&st.Rows, &st.Deleted, &st.APICalls, (*timestamp)(&st.NextFrom), &st.TotalRows, &lastRun, (*timestamp)(&st.UpdatedAt))
	if err != nil {
		return nil, err
	}
	if lastRun != nil {
		st.LastRun = new(jobs.SyncRun)
		if err := json.Unmarshal(lastRun, st.LastRun); err != nil {
			return nil, fmt.Errorf("decode last_run: %w", err)
		}
	}
	return &r, nil
}

// BeginSync implements jobs.SyncStore.
func (d *db) BeginSync(ctx context.Context, org sfapi.OrgID, object string, jobID int64, mode jobs.SyncMode) (*jobs.SyncState, error) {
	var st *jobs.SyncState
	err := d.InTx(ctx, func(ctx context.Context, tx *sql.Tx) error {
		at := now()
		_, err := tx.ExecContext(ctx, `
			INSERT INTO weir_sync (org, object, epoch, lease_job, job_id, begun_by, running, mode, updated_at)
			VALUES (?, ?, 0, 0, 0, 0, 0, '', ?) ON CONFLICT DO NOTHING`, string(org), object, timestamp(at))
		if err != nil {
			return err
		}
		r, err := scanSync(tx.QueryRowContext(ctx, `SELECT `+syncColumns+` FROM weir_sync WHERE org = ? AND object = ?`, string(org), object))
		if err != nil {
			return err
		}
		free, err := leaseFree(ctx, tx, r.LeaseJob, jobID)
		if err != nil {
			return err
		}
		if !free {
			return jobs.ErrBusy
		}
		r.Begin(jobID, mode, at)
		st = &r.State
		_, err = tx.ExecContext(ctx, `
			UPDATE weir_sync SET epoch = ?, lease_job = ?, job_id = ?, begun_by = ?, running = ?, mode = ?, from_stamp = ?,
				cursor_stamp = ?, cursor_id = ?, server_start = ?, started_at = ?,
				row_count = ?, deleted_count = ?, call_count = ?, updated_at = ?
			WHERE org = ? AND object = ?`,
			st.Epoch, r.LeaseJob, st.JobID, r.BegunBy, st.Running, string(st.Mode), timestamp(st.From),
			timestamp(st.Cursor.Stamp), st.Cursor.ID, timestamp(st.ServerStart), timestamp(st.StartedAt),
			st.Rows, st.Deleted, st.APICalls, timestamp(st.UpdatedAt), string(org), object)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("begin sync of %s %s: %w", org, object, err)
	}
	return st, nil
}

// saved puts the row that an update of st's run returned into st; no row means
// that the lease is lost.
func saved(st *jobs.SyncState, row *sql.Row) error {
	r, err := scanSync(row)
	if noRows(err) {
		return jobs.ErrLeaseLost
	}
	if err != nil {
		return err
	}
	*st = r.State
	return nil
}

// SavePageTx implements jobs.SyncStore.
func (d *db) SavePageTx(ctx context.Context, tx *sql.Tx, st *jobs.SyncState, p *jobs.PageProgress) error {
	if err := store.CheckProgress(st, p); err != nil {
		return err
	}
	next := *st
	err := saved(&next, tx.QueryRowContext(ctx, `
		UPDATE weir_sync SET cursor_stamp = ?4, cursor_id = ?5, server_start = coalesce(server_start, ?6),
			row_count = row_count + ?7, deleted_count = deleted_count + ?8, call_count = call_count + ?9,
			total_rows = total_rows + ?7, updated_at = ?10
		WHERE org = ?1 AND object = ?2 AND epoch = ?3 RETURNING `+syncColumns,
		string(st.Org), st.Object, st.Epoch, timestamp(p.Cursor.Stamp), p.Cursor.ID, timestamp(p.ServerStart),
		p.Rows, p.Deleted, p.APICalls, timestamp(now())))
	if err == nil && len(p.Seen) > 0 {
		// A formula may go from one value to another and back without a new
		// stamp: only the last version counts as seen.
		err = forgetOthers(ctx, tx, st, p.Seen)
	}
	if err == nil && len(p.Seen) > 0 {
		err = insertRows(ctx, tx, `INSERT INTO weir_sync_seen (org, object, stamp, id, hash)`, ` ON CONFLICT DO NOTHING`, 5, len(p.Seen), func(i int, dst []any) error {
			row := &p.Seen[i]
			dst[0], dst[1], dst[2], dst[3], dst[4] = string(st.Org), st.Object, timestamp(row.Stamp), row.ID, row.Hash[:]
			return nil
		})
	}
	if err != nil {
		return fmt.Errorf("save page of %s %s: %w", st.Org, st.Object, err)
	}
	*st = next
	return nil
}

func forgetOthers(ctx context.Context, tx *sql.Tx, st *jobs.SyncState, seen []jobs.SeenRow) error {
	stmt, err := tx.PrepareContext(ctx, `DELETE FROM weir_sync_seen WHERE org = ? AND object = ? AND stamp = ? AND id = ? AND hash <> ?`)
	if err != nil {
		return err
	}
	defer func() { _ = stmt.Close() }()
	for i := range seen {
		r := &seen[i]
		if _, err := stmt.ExecContext(ctx, string(st.Org), st.Object, timestamp(r.Stamp), r.ID, r.Hash[:]); err != nil {
			return err
		}
	}
	return nil
}

// RestartRunTx implements jobs.SyncStore.
func (d *db) RestartRunTx(ctx context.Context, tx *sql.Tx, st *jobs.SyncState) error {
	err := saved(st, tx.QueryRowContext(ctx, `
		UPDATE weir_sync SET cursor_stamp = NULL, cursor_id = '', updated_at = ?
		WHERE org = ? AND object = ? AND epoch = ? RETURNING `+syncColumns, timestamp(now()), string(st.Org), st.Object, st.Epoch))
	if err != nil {
		return fmt.Errorf("restart run of %s %s: %w", st.Org, st.Object, err)
	}
	return nil
}

// FilterSeenTx implements jobs.SyncStore.
func (d *db) FilterSeenTx(ctx context.Context, tx *sql.Tx, org sfapi.OrgID, object string, rows []jobs.SeenRow) ([]bool, error) {
	seen := make([]bool, len(rows))
	stmt, err := tx.PrepareContext(ctx, `
		SELECT EXISTS (SELECT 1 FROM weir_sync_seen WHERE org = ? AND object = ? AND stamp = ? AND id = ? AND hash = ?)`)
	if err == nil {
		defer func() { _ = stmt.Close() }()
		for i := range rows {
			r := &rows[i]
			if err = stmt.QueryRowContext(ctx, string(org), object, timestamp(r.Stamp), r.ID, r.Hash[:]).Scan(&seen[i]); err != nil {
				break
			}
		}
	}
	if err != nil {
		return nil, fmt.Errorf("filter seen rows of %s %s: %w", org, object, err)
	}
	return seen, nil
}

// lastRun is the SQL for last_run as a finished or failed run leaves it: ?4 is
// the time, ?5 the error.
const lastRun = `json_object('mode', mode, 'started_at', started_at, 'finished_at', ?4,
	'rows', row_count, 'deleted', deleted_count, 'api_calls', call_count, 'error', ?5)`

// FinishSyncTx implements jobs.SyncStore.
func (d *db) FinishSyncTx(ctx context.Context, tx *sql.Tx, st *jobs.SyncState, nextFrom time.Time) error {
	err := saved(st, tx.QueryRowContext(ctx, `
		UPDATE weir_sync SET running = 0, lease_job = 0, next_from = ?6, last_run = `+lastRun+`, updated_at = ?4
		WHERE org = ?1 AND object = ?2 AND epoch = ?3 RETURNING `+syncColumns,
		string(st.Org), st.Object, st.Epoch, timestamp(now()), "", timestamp(nextFrom)))
	if err == nil {
		_, err = tx.ExecContext(ctx, `DELETE FROM weir_sync_seen WHERE org = ? AND object = ? AND stamp < ?`, string(st.Org), st.Object, timestamp(nextFrom))
	}
	if err != nil {
		return fmt.Errorf("finish sync of %s %s: %w", st.Org, st.Object, err)
	}
	return nil
}

// FailSync implements jobs.SyncStore.
func (d *db) FailSync(ctx context.Context, st *jobs.SyncState, message string) error {
	_, err := d.pool.ExecContext(ctx, `
		UPDATE weir_sync SET lease_job = 0, last_run = `+lastRun+`, updated_at = ?4
		WHERE org = ?1 AND object = ?2 AND epoch = ?3`,
		string(st.Org), st.Object, st.Epoch, timestamp(now()), store.Message(message))
	if err != nil {
		return fmt.Errorf("record failed sync of %s %s: %w", st.Org, st.Object, err)
	}
	return nil
}

// ReleaseSync implements jobs.SyncStore.
func (d *db) ReleaseSync(ctx context.Context, st *jobs.SyncState) error {
	_, err := d.pool.ExecContext(ctx, `
		UPDATE weir_sync SET lease_job = 0, updated_at = ? WHERE org = ? AND object = ? AND epoch = ?`,
		timestamp(now()), string(st.Org), st.Object, st.Epoch)
	if err != nil {
		return fmt.Errorf("release sync of %s %s: %w", st.Org, st.Object, err)
	}
	return nil
}

// Syncs implements jobs.SyncStore.
func (d *db) Syncs(ctx context.Context, org sfapi.OrgID) ([]*jobs.SyncState, error) {
	rows, err := d.pool.QueryContext(ctx, `SELECT `+syncColumns+` FROM weir_sync WHERE org = ? ORDER BY object`, string(org))
	states, err := collect(rows, err, func(row scanner) (*jobs.SyncState, error) {
		r, err := scanSync(row)
		if err != nil {
			return nil, err
		}
		return &r.State, nil
	})
	if err != nil {
		return nil, fmt.Errorf("list syncs of %s: %w", org, err)
	}
	return states, nil
}
