package runnerpgx

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/weirhq/weir/jobs"
	"github.com/weirhq/weir/runner/internal/store"
	"github.com/weirhq/weir/sfapi"
)

// syncColumns are what scanSync reads.
const syncColumns = `org, object, epoch, lease_job, job_id, begun_by, running, mode, from_stamp, cursor_stamp, cursor_id,
	server_start, started_at, row_count, deleted_count, call_count, next_from, total_rows, last_run, updated_at`

func scanSync(row pgx.Row, more ...any) (*store.SyncRun, error) {
	var r store.SyncRun
	st := &r.State
	var from, cursor, serverStart, startedAt, nextFrom, updatedAt pgtype.Timestamptz
	var lastRun []byte
	dest := append([]any{&st.Org, &st.Object, &st.Epoch, &r.LeaseJob, &st.JobID, &r.BegunBy, &st.Running, &st.Mode, &from, &cursor, &st.Cursor.ID,
		&serverStart, &startedAt, &st.Rows, &st.Deleted, &st.APICalls, &nextFrom, &st.TotalRows, &lastRun, &updatedAt}, more...)
	if err := row.Scan(dest...); err != nil {
		return nil, err
	}
	if lastRun != nil {
		st.LastRun = new(jobs.SyncRun)
		if err := json.Unmarshal(lastRun, st.LastRun); err != nil {
			return nil, fmt.Errorf("decode last_run: %w", err)
		}
		st.LastRun.StartedAt, st.LastRun.FinishedAt = st.LastRun.StartedAt.UTC(), st.LastRun.FinishedAt.UTC()
	}
	st.From, st.Cursor.Stamp, st.ServerStart = timeOf(from), timeOf(cursor), timeOf(serverStart)
	st.StartedAt, st.NextFrom, st.UpdatedAt = timeOf(startedAt), timeOf(nextFrom), timeOf(updatedAt)
	return &r, nil
}

// BeginSync implements jobs.SyncStore.
func (d *db) BeginSync(ctx context.Context, org sfapi.OrgID, object string, jobID int64, mode jobs.SyncMode) (*jobs.SyncState, error) {
	var st *jobs.SyncState
	err := d.InTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `
			INSERT INTO weir_sync (org, object, epoch, lease_job, job_id, begun_by, running, mode, updated_at)
			VALUES ($1, $2, 0, 0, 0, 0, false, '', now()) ON CONFLICT DO NOTHING`, org, object)
		if err != nil {
			return err
		}
		var now time.Time
		r, err := scanSync(tx.QueryRow(ctx, `
			SELECT `+syncColumns+`, clock_timestamp() FROM weir_sync WHERE org = $1 AND object = $2 FOR UPDATE`, org, object), &now)
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
		r.Begin(jobID, mode, now.UTC())
		st = &r.State
		_, err = tx.Exec(ctx, `
			UPDATE weir_sync SET epoch = $3, lease_job = $4, job_id = $5, begun_by = $6, running = $7, mode = $8, from_stamp = $9,
				cursor_stamp = $10, cursor_id = $11, server_start = $12, started_at = $13,
				row_count = $14, deleted_count = $15, call_count = $16, updated_at = $17
			WHERE org = $1 AND object = $2`,
			org, object, st.Epoch, r.LeaseJob, st.JobID, r.BegunBy, st.Running, string(st.Mode), timestamp(st.From),
			timestamp(st.Cursor.Stamp), st.Cursor.ID, timestamp(st.ServerStart), timestamp(st.StartedAt),
			st.Rows, st.Deleted, st.APICalls, timestamp(st.UpdatedAt))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("begin sync of %s %s: %w", org, object, err)
	}
	return st, nil
}

// saved puts the row that an update of st's run returned into st; no row means
// that the lease is lost.
func saved(st *jobs.SyncState, row pgx.Row) error {
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
func (d *db) SavePageTx(ctx context.Context, tx pgx.Tx, st *jobs.SyncState, p *jobs.PageProgress) error {
	if err := store.CheckProgress(st, p); err != nil {
		return err
	}
	next := *st
	err := saved(&next, tx.QueryRow(ctx, `
		UPDATE weir_sync SET cursor_stamp = $4, cursor_id = $5, server_start = coalesce(server_start, $6),
			row_count = row_count + $7, deleted_count = deleted_count + $8, call_count = call_count + $9,
			total_rows = total_rows + $7, updated_at = now()
		WHERE org = $1 AND object = $2 AND epoch = $3 RETURNING `+syncColumns,
		st.Org, st.Object, st.Epoch, timestamp(p.Cursor.Stamp), p.Cursor.ID, timestamp(p.ServerStart),
		p.Rows, p.Deleted, p.APICalls))
	if err == nil && len(p.Seen) > 0 {
		ids, stamps, hashes := seenArrays(p.Seen)
		// A formula may go from one value to another and back without a new
		// stamp: only the last version counts as seen.
		_, err = tx.Exec(ctx, `
			WITH other AS (
				DELETE FROM weir_sync_seen w USING unnest($3::text[], $4::timestamptz[], $5::bytea[]) AS s (id, stamp, hash)
				WHERE w.org = $1 AND w.object = $2 AND w.stamp = s.stamp AND w.id = s.id AND w.hash <> s.hash
			)
			INSERT INTO weir_sync_seen (org, object, stamp, id, hash)
			SELECT $1, $2, s.stamp, s.id, s.hash FROM unnest($3::text[], $4::timestamptz[], $5::bytea[]) AS s (id, stamp, hash)
			ON CONFLICT DO NOTHING`, st.Org, st.Object, ids, stamps, hashes)
	}
	if err != nil {
		return fmt.Errorf("save page of %s %s: %w", st.Org, st.Object, err)
	}
	*st = next
	return nil
}

func seenArrays(rows []jobs.SeenRow) (ids []string, stamps []time.Time, hashes [][]byte) {
	ids, stamps, hashes = make([]string, len(rows)), make([]time.Time, len(rows)), make([][]byte, len(rows))
	for i := range rows {
		ids[i], stamps[i], hashes[i] = rows[i].ID, rows[i].Stamp, rows[i].Hash[:]
	}
	return ids, stamps, hashes
}

// RestartRunTx implements jobs.SyncStore.
func (d *db) RestartRunTx(ctx context.Context, tx pgx.Tx, st *jobs.SyncState) error {
	err := saved(st, tx.QueryRow(ctx, `
		UPDATE weir_sync SET cursor_stamp = NULL, cursor_id = '', updated_at = now()
		WHERE org = $1 AND object = $2 AND epoch = $3 RETURNING `+syncColumns, st.Org, st.Object, st.Epoch))
	if err != nil {
		return fmt.Errorf("restart run of %s %s: %w", st.Org, st.Object, err)
	}
	return nil
}

// FilterSeenTx implements jobs.SyncStore.
func (d *db) FilterSeenTx(ctx context.Context, tx pgx.Tx, org sfapi.OrgID, object string, rows []jobs.SeenRow) ([]bool, error) {
	ids, stamps, hashes := seenArrays(rows)
	found, err := tx.Query(ctx, `
		SELECT s.n FROM unnest($3::text[], $4::timestamptz[], $5::bytea[]) WITH ORDINALITY AS s (id, stamp, hash, n)
		JOIN weir_sync_seen w ON w.org = $1 AND w.object = $2 AND w.stamp = s.stamp AND w.id = s.id AND w.hash = s.hash`,
		org, object, ids, stamps, hashes)
	if err != nil {
		return nil, fmt.Errorf("filter seen rows of %s %s: %w", org, object, err)
	}
	seen := make([]bool, len(rows))
	var n int
	if _, err := pgx.ForEachRow(found, []any{&n}, func() error { seen[n-1] = true; return nil }); err != nil {
		return nil, fmt.Errorf("filter seen rows of %s %s: %w", org, object, err)
	}
	return seen, nil
}

// lastRun is the SQL for last_run as a finished or failed run leaves it.
const lastRun = `jsonb_build_object('mode', mode, 'started_at', started_at, 'finished_at', clock_timestamp(),
	'rows', row_count, 'deleted', deleted_count, 'api_calls', call_count, 'error', $4::text)`

// FinishSyncTx implements jobs.SyncStore.
func (d *db) FinishSyncTx(ctx context.Context, tx pgx.Tx, st *jobs.SyncState, nextFrom time.Time) error {
	err := saved(st, tx.QueryRow(ctx, `
		UPDATE weir_sync SET running = false, lease_job = 0, next_from = $5, last_run = `+lastRun+`, updated_at = now()
		WHERE org = $1 AND object = $2 AND epoch = $3 RETURNING `+syncColumns, st.Org, st.Object, st.Epoch, "", timestamp(nextFrom)))
	if err == nil {
		_, err = tx.Exec(ctx, `DELETE FROM weir_sync_seen WHERE org = $1 AND object = $2 AND stamp < $3`, st.Org, st.Object, nextFrom)
	}
	if err != nil {
		return fmt.Errorf("finish sync of %s %s: %w", st.Org, st.Object, err)
	}
	return nil
}

// FailSync implements jobs.SyncStore.
func (d *db) FailSync(ctx context.Context, st *jobs.SyncState, message string) error {
	_, err := d.pool.Exec(ctx, `
		UPDATE weir_sync SET lease_job = 0, last_run = `+lastRun+`, updated_at = now()
		WHERE org = $1 AND object = $2 AND epoch = $3`, st.Org, st.Object, st.Epoch, store.Message(message))
	if err != nil {
		return fmt.Errorf("record failed sync of %s %s: %w", st.Org, st.Object, err)
	}
	return nil
}

// ReleaseSync implements jobs.SyncStore.
func (d *db) ReleaseSync(ctx context.Context, st *jobs.SyncState) error {
	_, err := d.pool.Exec(ctx, `
		UPDATE weir_sync SET lease_job = 0, updated_at = now() WHERE org = $1 AND object = $2 AND epoch = $3`, st.Org, st.Object, st.Epoch)
	if err != nil {
		return fmt.Errorf("release sync of %s %s: %w", st.Org, st.Object, err)
	}
	return nil
}

// Syncs implements jobs.SyncStore.
func (d *db) Syncs(ctx context.Context, org sfapi.OrgID) ([]*jobs.SyncState, error) {
	rows, err := d.pool.Query(ctx, `SELECT `+syncColumns+` FROM weir_sync WHERE org = $1 ORDER BY object`, org)
	if err != nil {
		return nil, fmt.Errorf("list syncs of %s: %w", org, err)
	}
	states, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (*jobs.SyncState, error) {
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
