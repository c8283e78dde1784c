package runnersqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/weirhq/weir/jobs"
	"github.com/weirhq/weir/runner/internal/store"
	"github.com/weirhq/weir/sfapi"
)

// orgColumns are what scanOrg reads.
const orgColumns = `id, label, login_url, instance_url, user_id, state, generation, version,
	breaker, usage_used, usage_limit, usage_at, connected_at, created_at, updated_at`

// scanner is one row of a result.
type scanner interface{ Scan(dest ...any) error }

func scanOrg(row scanner) (*store.Org, error) {
	var o store.Org
	var breaker []byte
	err := row.Scan(&o.ID, &o.Label, &o.LoginURL, &o.InstanceURL, &o.UserID, &o.State, &o.Generation, &o.Version,
		&breaker, &o.UsageUsed, &o.UsageLimit, (*timestamp)(&o.UsageAt), (*timestamp)(&o.ConnectedAt), (*timestamp)(&o.CreatedAt), (*timestamp)(&o.UpdatedAt))
	if noRows(err) {
		return nil, jobs.ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	o.Breaker = breaker
	return &o, nil
}

// errEnough ends collect's reading without an error: scan returns it in place
// of a row.
var errEnough = errors.New("enough rows")

// collect scans every row of a query and closes it.
func collect[T any](rows *sql.Rows, err error, scan func(row scanner) (T, error)) ([]T, error) {
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	list := []T{}
	for rows.Next() {
		v, err := scan(rows)
		if errors.Is(err, errEnough) {
			break
		}
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	return list, rows.Err()
}

// ConnectOrgTx implements store.Orgs.
func (d *db) ConnectOrgTx(ctx context.Context, tx *sql.Tx, o *store.Org, c *store.Credential) (created bool, err error) {
	at := timestamp(now())
	row := tx.QueryRowContext(ctx, `
		INSERT INTO weir_org (id, label, search, login_url, instance_url, user_id, state, generation, version,
			connected_at, created_at, updated_at, access, refresh, issued_at, scope)
		VALUES (?1, ?2, ?3, ?4, ?5, ?6, 'connected', 1, 1, ?7, ?7, ?7, ?8, ?9, ?10, ?11)
		ON CONFLICT (id) DO UPDATE SET
			label = CASE WHEN ?2 = '' THEN label ELSE excluded.label END,
			search = CASE WHEN ?2 = '' THEN search ELSE excluded.search END,
			login_url = excluded.login_url, instance_url = excluded.instance_url, user_id = excluded.user_id,
			state = excluded.state, generation = generation + 1, version = version + 1,
			connected_at = excluded.connected_at, updated_at = excluded.updated_at,
			access = excluded.access, refresh = excluded.refresh, issued_at = excluded.issued_at, scope = excluded.scope,
			attempt_generation = NULL, attempt_owner = NULL, attempt_deadline = NULL, attempt_replays = NULL
		RETURNING `+orgColumns,
		string(o.ID), o.Label, store.OrgSearch(o.ID, o.Label), o.LoginURL, o.InstanceURL, o.UserID, at,
		c.Access, c.Refresh, timestamp(c.IssuedAt), c.Scope)
	saved, err := scanOrg(row)
	if err != nil {
		return false, fmt.Errorf("connect org %s: %w", o.ID, err)
	}
	d.orgs.publish(o.ID)
	*o = *saved
	c.Generation, c.Attempt = saved.Generation, store.Attempt{}
	// Each connect raises the generation, so only the first one gives 1.
	return saved.Generation == 1, nil
}

// Org implements store.Orgs.
func (d *db) Org(ctx context.Context, id sfapi.OrgID) (*store.Org, error) {
	return readOrg(ctx, d.pool, id)
}

// OrgTx implements store.Orgs. The whole database is locked for update from
// the begin of any transaction.
func (d *db) OrgTx(ctx context.Context, tx *sql.Tx, id sfapi.OrgID, _ bool) (*store.Org, error) {
	return readOrg(ctx, tx, id)
}

func readOrg(ctx context.Context, q querier, id sfapi.OrgID) (*store.Org, error) {
	o, err := scanOrg(q.QueryRowContext(ctx, `SELECT `+orgColumns+` FROM weir_org WHERE id = ?`, string(id)))
	if err != nil {
		return nil, fmt.Errorf("read org %s: %w", id, err)
	}
	return o, nil
}

// ListOrgs implements store.Orgs.
func (d *db) ListOrgs(ctx context.Context, f *store.OrgFilter) ([]*store.Org, error) {
	query := `SELECT ` + orgColumns + ` FROM weir_org WHERE id > ?`
	args := []any{f.After}
	if f.Query != "" {
		args = append(args, strings.ToLower(f.Query))
		query += ` AND instr(search, ?) > 0`
	}
	if f.Held {
		query += ` AND (state = 'revoked' OR json_array_length(breaker, '$.holds') > 0)`
	}
	if f.IDs != nil {
		ids, err := json.Marshal(f.IDs)
		if err != nil {
			return nil, fmt.Errorf("list orgs: %w", err)
		}
		args = append(args, string(ids))
		query += ` AND id IN (SELECT value FROM json_each(?))`
	}
	limit := f.Limit
	if limit <= 0 {
		limit = 100
	}
	args = append(args, limit)
	rows, err := d.pool.QueryContext(ctx, query+` ORDER BY id LIMIT ?`, args...)
	orgs, err := collect(rows, err, scanOrg)
	if err != nil {
		return nil, fmt.Errorf("list orgs: %w", err)
	}
	return orgs, nil
}

// UpdateOrgTx implements store.Orgs.
func (d *db) UpdateOrgTx(ctx context.Context, tx *sql.Tx, o *store.Org) (bool, error) {
	at := now()
	result, err := tx.ExecContext(ctx, `
		UPDATE weir_org SET label = ?, search = ?, state = ?, breaker = ?, version = version + 1, updated_at = ?
		WHERE id = ? AND version = ?`,
		o.Label, store.OrgSearch(o.ID, o.Label), string(o.State), jsonOrNull(o.Breaker), timestamp(at), string(o.ID), o.Version)
	n, err := affected(result, err)
	if err != nil {
		return false, fmt.Errorf("update org %s: %w", o.ID, err)
	}
	if n == 0 {
		return false, nil
	}
	d.orgs.publish(o.ID)
	o.Version++
	o.UpdatedAt = at
	return true, nil
}

// jsonOrNull is raw for a column of JSON text: empty is NULL.
func jsonOrNull(raw json.RawMessage) any {
	if len(raw) == 0 {
		return nil
	}
	return string(raw)
}

// DisconnectOrgTx implements store.Orgs.
func (d *db) DisconnectOrgTx(ctx context.Context, tx *sql.Tx, id sfapi.OrgID) error {
	result, err := tx.ExecContext(ctx, `
		UPDATE weir_org SET state = 'disconnected', version = version + 1, updated_at = ?,
			access = NULL, refresh = NULL, issued_at = NULL, scope = '',
			attempt_generation = NULL, attempt_owner = NULL, attempt_deadline = NULL, attempt_replays = NULL
		WHERE id = ?`, timestamp(now()), string(id))
	n, err := affected(result, err)
	if err == nil && n == 0 {
		err = jobs.ErrNotFound
	}
	if err != nil {
		return fmt.Errorf("disconnect org %s: %w", id, err)
	}
	d.orgs.publish(id)
	return nil
}

// SaveUsage implements store.Orgs.
func (d *db) SaveUsage(ctx context.Context, id sfapi.OrgID, used, limit int, at time.Time) error {
	_, err := d.pool.ExecContext(ctx, `
		UPDATE weir_org SET usage_used = ?2, usage_limit = ?3, usage_at = ?4
		WHERE id = ?1 AND (usage_at IS NULL OR usage_at <= ?4)`, string(id), used, limit, timestamp(at))
	if err != nil {
		return fmt.Errorf("save usage of org %s: %w", id, err)
	}
	return nil
}
