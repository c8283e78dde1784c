package runnerpgx

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/weirhq/weir/jobs"
	"github.com/weirhq/weir/runner/internal/store"
	"github.com/weirhq/weir/sfapi"
)

// credentialColumns are what scanCredential reads.
const credentialColumns = `id, login_url, instance_url, user_id, generation, access, refresh, issued_at, scope,
	coalesce(attempt_generation, 0), coalesce(attempt_owner, ''), attempt_deadline, coalesce(attempt_replays, 0)`

func scanCredential(row pgx.Row, more ...any) (*store.Credential, error) {
	var c store.Credential
	var issuedAt, deadline pgtype.Timestamptz
	dest := append([]any{&c.Org, &c.LoginURL, &c.InstanceURL, &c.UserID, &c.Generation, &c.Access, &c.Refresh, &issuedAt, &c.Scope,
		&c.Attempt.Generation, &c.Attempt.Owner, &deadline, &c.Attempt.Replays}, more...)
	err := row.Scan(dest...)
	if noRows(err) {
		return nil, jobs.ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	c.IssuedAt, c.Attempt.Deadline = timeOf(issuedAt), timeOf(deadline)
	return &c, nil
}

// Credential implements store.Credentials.
func (d *db) Credential(ctx context.Context, id sfapi.OrgID) (*store.Credential, error) {
	c, err := scanCredential(d.pool.QueryRow(ctx, `SELECT `+credentialColumns+` FROM weir_org WHERE id = $1`, id))
	if err != nil {
		return nil, fmt.Errorf("read credential of org %s: %w", id, err)
	}
	return c, nil
}

// BeginRefresh implements store.Credentials.
func (d *db) BeginRefresh(ctx context.Context, id sfapi.OrgID, stale int64, owner string, lease time.Duration, takeUnknown bool) (*store.Credential, store.RefreshClaim, error) {
	var c *store.Credential
	var claim store.RefreshClaim
	err := store.CheckRefresh(owner, lease)
	if err == nil {
		err = d.InTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
			var state store.OrgState
			var now time.Time
			var err error
			c, err = scanCredential(tx.QueryRow(ctx, `
				SELECT `+credentialColumns+`, state FROM weir_org WHERE id = $1 FOR NO KEY UPDATE`, id), &state)
			if err != nil {
				return err
			}
			if err := state.HasGrant(); err != nil {
				return err
			}
			// A statement of its own: the clock is read after the lock was had.
			if err := tx.QueryRow(ctx, `SELECT clock_timestamp()`).Scan(&now); err != nil {
				return err
			}
			claim = c.Claim(now.UTC(), stale, owner, lease, takeUnknown)
			if claim != store.RefreshTaken {
				return nil
			}
			_, err = tx.Exec(ctx, `
				UPDATE weir_org SET attempt_generation = $2, attempt_owner = $3, attempt_deadline = $4, attempt_replays = $5
				WHERE id = $1`, id, c.Attempt.Generation, c.Attempt.Owner, c.Attempt.Deadline, c.Attempt.Replays)
			return err
		})
	}
	if err != nil {
		return nil, 0, fmt.Errorf("begin refresh of org %s: %w", id, err)
	}
	return c, claim, nil
}

// SaveRefresh implements store.Credentials.
func (d *db) SaveRefresh(ctx context.Context, c *store.Credential, owner string) (generation int64, err error) {
	err = d.InTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		err := tx.QueryRow(ctx, `
			UPDATE weir_org SET access = $4, refresh = CASE WHEN length($5::bytea) > 0 THEN $5 ELSE refresh END,
				instance_url = $6, user_id = $7, issued_at = $8, scope = $9,
				generation = generation + 1,
				attempt_generation = NULL, attempt_owner = NULL, attempt_deadline = NULL, attempt_replays = NULL
			WHERE id = $1 AND generation = $2 AND attempt_owner = $3
			RETURNING generation`,
			c.Org, c.Generation, owner, c.Access, c.Refresh, c.InstanceURL, c.UserID, timestamp(c.IssuedAt), c.Scope).Scan(&generation)
		if noRows(err) {
			return jobs.ErrLeaseLost
		}
		if err != nil {
			return err
		}
		return notifyOrg(ctx, tx, c.Org)
	})
	if err != nil {
		return 0, fmt.Errorf("save refresh of org %s: %w", c.Org, err)
	}
	return generation, nil
}

// EndRefresh implements store.Credentials.
func (d *db) EndRefresh(ctx context.Context, id sfapi.OrgID, generation int64, owner string) error {
	_, err := d.pool.Exec(ctx, `
		UPDATE weir_org SET attempt_generation = NULL, attempt_owner = NULL, attempt_deadline = NULL, attempt_replays = NULL
		WHERE id = $1 AND generation = $2 AND attempt_owner = $3`, id, generation, owner)
	if err != nil {
		return fmt.Errorf("end refresh of org %s: %w", id, err)
	}
	return nil
}

// resealBatch is how many orgs ResealAll reads at a time.
const resealBatch = 200

// ResealAll implements store.Credentials. fn runs outside any transaction.
func (d *db) ResealAll(ctx context.Context, fn func(org sfapi.OrgID, column string, sealed []byte) ([]byte, error)) (int, error) {
	stored := 0
	after := sfapi.OrgID("")
	for {
		rows, err := d.pool.Query(ctx, `SELECT `+credentialColumns+` FROM weir_org WHERE id > $1 ORDER BY id LIMIT $2`, after, resealBatch)
		if err != nil {
			return stored, fmt.Errorf("reseal: %w", err)
		}
		batch, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (*store.Credential, error) { return scanCredential(row) })
		if err != nil {
			return stored, fmt.Errorf("reseal: %w", err)
		}
		for _, c := range batch {
			n, err := d.reseal(ctx, c, fn)
			stored += n
			if err != nil {
				return stored, fmt.Errorf("reseal org %s: %w", c.Org, err)
			}
			after = c.Org
		}
		if len(batch) < resealBatch {
			return stored, nil
		}
	}
}

func (d *db) reseal(ctx context.Context, c *store.Credential, fn func(org sfapi.OrgID, column string, sealed []byte) ([]byte, error)) (int, error) {
	stored := 0
	for _, s := range []struct {
		column string
		sealed []byte
	}{{"access", c.Access}, {"refresh", c.Refresh}} {
		if len(s.sealed) == 0 {
			continue
		}
		sealed, err := fn(c.Org, s.column, s.sealed)
		if err != nil {
			return stored, err
		}
		tag, err := d.pool.Exec(ctx, `UPDATE weir_org SET `+s.column+` = $3 WHERE id = $1 AND `+s.column+` = $2`,
			c.Org, s.sealed, sealed)
		if err != nil {
			return stored, err
		}
		stored += int(tag.RowsAffected())
	}
	return stored, nil
}
