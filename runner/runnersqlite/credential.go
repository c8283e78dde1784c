package runnersqlite

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/weirhq/weir/jobs"
	"github.com/weirhq/weir/runner/internal/store"
	"github.com/weirhq/weir/sfapi"
)

// credentialColumns are what scanCredential reads.
const credentialColumns = `id, login_url, instance_url, user_id, generation, access, refresh, issued_at, scope,
	coalesce(attempt_generation, 0), coalesce(attempt_owner, ''), attempt_deadline, coalesce(attempt_replays, 0), state`

// grant is a credential and its org's state.
type grant struct {
	store.Credential
	state store.OrgState
}

func scanGrant(row scanner) (*grant, error) {
	var g grant
	err := row.Scan(&g.Org, &g.LoginURL, &g.InstanceURL, &g.UserID, &g.Generation, &g.Access, &g.Refresh, (*timestamp)(&g.IssuedAt), &g.Scope,
		&g.Attempt.Generation, &g.Attempt.Owner, (*timestamp)(&g.Attempt.Deadline), &g.Attempt.Replays, &g.state)
	if noRows(err) {
		return nil, jobs.ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	return &g, nil
}

// Credential implements store.Credentials.
func (d *db) Credential(ctx context.Context, id sfapi.OrgID) (*store.Credential, error) {
	g, err := scanGrant(d.pool.QueryRowContext(ctx, `SELECT `+credentialColumns+` FROM weir_org WHERE id = ?`, string(id)))
	if err != nil {
		return nil, fmt.Errorf("read credential of org %s: %w", id, err)
	}
	return &g.Credential, nil
}

// BeginRefresh implements store.Credentials.
func (d *db) BeginRefresh(ctx context.Context, id sfapi.OrgID, stale int64, owner string, lease time.Duration, takeUnknown bool) (*store.Credential, store.RefreshClaim, error) {
	var g *grant
	var claim store.RefreshClaim
	err := store.CheckRefresh(owner, lease)
	if err == nil {
		err = d.InTx(ctx, func(ctx context.Context, tx *sql.Tx) error {
			var err error
			g, err = scanGrant(tx.QueryRowContext(ctx, `SELECT `+credentialColumns+` FROM weir_org WHERE id = ?`, string(id)))
			if err != nil {
				return err
			}
			if err := g.state.HasGrant(); err != nil {
				return err
			}
			claim = g.Claim(now(), stale, owner, lease, takeUnknown)
			if claim != store.RefreshTaken {
				return nil
			}
			_, err = tx.ExecContext(ctx, `
				UPDATE weir_org SET attempt_generation = ?, attempt_owner = ?, attempt_deadline = ?, attempt_replays = ?
				WHERE id = ?`, g.Attempt.Generation, g.Attempt.Owner, timestamp(g.Attempt.Deadline), g.Attempt.Replays, string(id))
			return err
		})
	}
	if err != nil {
		return nil, 0, fmt.Errorf("begin refresh of org %s: %w", id, err)
	}
	return &g.Credential, claim, nil
}

// SaveRefresh implements store.Credentials.
func (d *db) SaveRefresh(ctx context.Context, c *store.Credential, owner string) (generation int64, err error) {
	err = d.InTx(ctx, func(ctx context.Context, tx *sql.Tx) error {
		err := tx.QueryRowContext(ctx, `
			UPDATE weir_org SET access = ?4, refresh = CASE WHEN length(?5) > 0 THEN ?5 ELSE refresh END,
				instance_url = ?6, user_id = ?7, issued_at = ?8, scope = ?9,
				generation = generation + 1,
				attempt_generation = NULL, attempt_owner = NULL, attempt_deadline = NULL, attempt_replays = NULL
			WHERE id = ?1 AND generation = ?2 AND attempt_owner = ?3
			RETURNING generation`,
			string(c.Org), c.Generation, owner, c.Access, c.Refresh, c.InstanceURL, c.UserID, timestamp(c.IssuedAt), c.Scope).Scan(&generation)
		if noRows(err) {
			return jobs.ErrLeaseLost
		}
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("save refresh of org %s: %w", c.Org, err)
	}
	d.orgs.publish(c.Org)
	return generation, nil
}

// EndRefresh implements store.Credentials.
func (d *db) EndRefresh(ctx context.Context, id sfapi.OrgID, generation int64, owner string) error {
	_, err := d.pool.ExecContext(ctx, `
		UPDATE weir_org SET attempt_generation = NULL, attempt_owner = NULL, attempt_deadline = NULL, attempt_replays = NULL
		WHERE id = ? AND generation = ? AND attempt_owner = ?`, string(id), generation, owner)
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
		rows, err := d.pool.QueryContext(ctx, `SELECT `+credentialColumns+` FROM weir_org WHERE id > ? ORDER BY id LIMIT ?`, string(after), resealBatch)
		batch, err := collect(rows, err, scanGrant)
		if err != nil {
			return stored, fmt.Errorf("reseal: %w", err)
		}
		for _, g := range batch {
			n, err := d.reseal(ctx, &g.Credential, fn)
			stored += n
			if err != nil {
				return stored, fmt.Errorf("reseal org %s: %w", g.Org, err)
			}
			after = g.Org
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
		result, err := d.pool.ExecContext(ctx, `UPDATE weir_org SET `+s.column+` = ? WHERE id = ? AND `+s.column+` = ?`,
			sealed, string(c.Org), s.sealed)
		n, err := affected(result, err)
		if err != nil {
			return stored, err
		}
		stored += n
	}
	return stored, nil
}
