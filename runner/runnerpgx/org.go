package runnerpgx

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/weirhq/weir/jobs"
	"github.com/weirhq/weir/runner/internal/store"
	"github.com/weirhq/weir/sfapi"
)

// orgColumns are what scanOrg reads.
const orgColumns = `id, label, login_url, instance_url, user_id, state, generation, version,
	breaker, usage_used, usage_limit, usage_at, connected_at, created_at, updated_at`

func scanOrg(row pgx.Row) (*store.Org, error) {
	var o store.Org
	var breaker []byte
	var usageAt, connectedAt, createdAt, updatedAt pgtype.Timestamptz
	err := row.Scan(&o.ID, &o.Label, &o.LoginURL, &o.InstanceURL, &o.UserID, &o.State, &o.Generation, &o.Version,
		&breaker, &o.UsageUsed, &o.UsageLimit, &usageAt, &connectedAt, &createdAt, &updatedAt)
	if noRows(err) {
		return nil, jobs.ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	o.Breaker = breaker
	o.UsageAt, o.ConnectedAt, o.CreatedAt, o.UpdatedAt = timeOf(usageAt), timeOf(connectedAt), timeOf(createdAt), timeOf(updatedAt)
	return &o, nil
}

// ConnectOrgTx implements store.Orgs.
func (d *db) ConnectOrgTx(ctx context.Context, tx pgx.Tx, o *store.Org, c *store.Credential) (created bool, err error) {
	// xmax is 0 in a row that this statement inserted.
	row := tx.QueryRow(ctx, `
		INSERT INTO weir_org AS o (id, label, search, login_url, instance_url, user_id, state, generation, version,
			connected_at, created_at, updated_at, access, refresh, issued_at, scope)
		VALUES ($1, $2, $3, $4, $5, $6, 'connected', 1, 1, now(), now(), now(), $7, $8, $9, $10)
		ON CONFLICT (id) DO UPDATE SET
			label = CASE WHEN $2 = '' THEN o.label ELSE excluded.label END,
			search = CASE WHEN $2 = '' THEN o.search ELSE excluded.search END,
			login_url = excluded.login_url, instance_url = excluded.instance_url, user_id = excluded.user_id,
			state = excluded.state, generation = o.generation + 1, version = o.version + 1,
			connected_at = now(), updated_at = now(),
			access = excluded.access, refresh = excluded.refresh, issued_at = excluded.issued_at, scope = excluded.scope,
			attempt_generation = NULL, attempt_owner = NULL, attempt_deadline = NULL, attempt_replays = NULL
		RETURNING `+orgColumns,
		o.ID, o.Label, store.OrgSearch(o.ID, o.Label), o.LoginURL, o.InstanceURL, o.UserID,
		c.Access, c.Refresh, timestamp(c.IssuedAt), c.Scope)
	saved, err := scanOrg(row)
	if err != nil {
		return false, fmt.Errorf("connect org %s: %w", o.ID, err)
	}
	if err := notifyOrg(ctx, tx, o.ID); err != nil {
		return false, err
	}
	*o = *saved
	c.Generation, c.Attempt = saved.Generation, store.Attempt{}
	// Each connect raises the generation, so only the first one gives 1.
	return saved.Generation == 1, nil
}

// Org implements store.Orgs.
func (d *db) Org(ctx context.Context, id sfapi.OrgID) (*store.Org, error) {
	return readOrg(ctx, d.pool, id, "")
}

// OrgTx implements store.Orgs.
func (d *db) OrgTx(ctx context.Context, tx pgx.Tx, id sfapi.OrgID, lock bool) (*store.Org, error) {
	if lock {
		return readOrg(ctx, tx, id, " FOR NO KEY UPDATE")
	}
	return readOrg(ctx, tx, id, "")
}

func readOrg(ctx context.Context, q querier, id sfapi.OrgID, lock string) (*store.Org, error) {
	o, err := scanOrg(q.QueryRow(ctx, `SELECT `+orgColumns+` FROM weir_org WHERE id = $1`+lock, id))
	if err != nil {
		return nil, fmt.Errorf("read org %s: %w", id, err)
	}
	return o, nil
}

// ListOrgs implements store.Orgs.
func (d *db) ListOrgs(ctx context.Context, f *store.OrgFilter) ([]*store.Org, error) {
	query := `SELECT ` + orgColumns + ` FROM weir_org WHERE id > $1`
	args := []any{f.After}
	if f.Query != "" {
		args = append(args, strings.ToLower(f.Query))
		query += fmt.Sprintf(` AND strpos(search, $%d) > 0`, len(args))
	}
	if f.Held {
		// The predicate of the index weir_org_held.
		query += ` AND (state = 'revoked' OR jsonb_path_exists(breaker, '$.holds[0]'))`
	}
	if f.IDs != nil {
		args = append(args, f.IDs)
		query += fmt.Sprintf(` AND id = ANY($%d)`, len(args))
	}
	limit := f.Limit
	if limit <= 0 {
		limit = 100
	}
	args = append(args, limit)
	query += fmt.Sprintf(` ORDER BY id LIMIT $%d`, len(args))
	rows, err := d.pool.Query(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("list orgs: %w", err)
	}
	orgs, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (*store.Org, error) { return scanOrg(row) })
	if err != nil {
		return nil, fmt.Errorf("list orgs: %w", err)
	}
	return orgs, nil
}

// UpdateOrgTx implements store.Orgs.
func (d *db) UpdateOrgTx(ctx context.Context, tx pgx.Tx, o *store.Org) (bool, error) {
	var updatedAt time.Time
	err := tx.QueryRow(ctx, `
		UPDATE weir_org SET label = $3, search = $4, state = $5, breaker = $6, version = version + 1, updated_at = now()
		WHERE id = $1 AND version = $2 RETURNING updated_at`,
		o.ID, o.Version, o.Label, store.OrgSearch(o.ID, o.Label), o.State, jsonOrNull(o.Breaker)).Scan(&updatedAt)
	if noRows(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("update org %s: %w", o.ID, err)
	}
	if err := notifyOrg(ctx, tx, o.ID); err != nil {
		return false, err
	}
	o.Version++
	o.UpdatedAt = updatedAt.UTC()
	return true, nil
}

// jsonOrNull is raw for a json or jsonb column: empty is NULL.
func jsonOrNull(raw json.RawMessage) any {
	if len(raw) == 0 {
		return nil
	}
	return string(raw)
}

// DisconnectOrgTx implements store.Orgs.
func (d *db) DisconnectOrgTx(ctx context.Context, tx pgx.Tx, id sfapi.OrgID) error {
	tag, err := tx.Exec(ctx, `
		UPDATE weir_org SET state = 'disconnected', version = version + 1, updated_at = now(),
			access = NULL, refresh = NULL, issued_at = NULL, scope = '',
			attempt_generation = NULL, attempt_owner = NULL, attempt_deadline = NULL, attempt_replays = NULL
		WHERE id = $1`, id)
	if err == nil && tag.RowsAffected() == 0 {
		err = jobs.ErrNotFound
	}
	if err != nil {
		return fmt.Errorf("disconnect org %s: %w", id, err)
	}
	return notifyOrg(ctx, tx, id)
}

// SaveUsage implements store.Orgs.
func (d *db) SaveUsage(ctx context.Context, id sfapi.OrgID, used, limit int, at time.Time) error {
	_, err := d.pool.Exec(ctx, `
		UPDATE weir_org SET usage_used = $2, usage_limit = $3, usage_at = $4
		WHERE id = $1 AND (usage_at IS NULL OR usage_at <= $4)`, id, used, limit, timestamp(at))
	if err != nil {
		return fmt.Errorf("save usage of org %s: %w", id, err)
	}
	return nil
}
