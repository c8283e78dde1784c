package runnersqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/weirhq/weir/jobs"
	"github.com/weirhq/weir/sfapi"
)

// SwapSchemaTx implements jobs.SyncStore.
func (d *db) SwapSchemaTx(ctx context.Context, tx *sql.Tx, org sfapi.OrgID, object string, fields []jobs.SchemaField, at time.Time) ([]jobs.SchemaField, error) {
	was, err := swapSchema(ctx, tx, org, object, fields, at)
	if err != nil {
		return nil, fmt.Errorf("remember fields of %s %s: %w", org, object, err)
	}
	return was, nil
}

func swapSchema(ctx context.Context, tx *sql.Tx, org sfapi.OrgID, object string, fields []jobs.SchemaField, at time.Time) (was []jobs.SchemaField, err error) {
	is, err := json.Marshal(fields)
	if err != nil {
		return nil, err
	}
	var text string
	var seen timestamp
	err = tx.QueryRowContext(ctx, `SELECT fields, seen_at FROM weir_schema WHERE org = ? AND object = ?`, string(org), object).Scan(&text, &seen)
	switch {
	case noRows(err):
		// The first time there is nothing to compare with.
	case err != nil:
		return nil, err
	default:
		if err := json.Unmarshal([]byte(text), &was); err != nil || slices.Equal(was, fields) || at.Before(time.Time(seen)) {
			return nil, err
		}
	}
	_, err = tx.ExecContext(ctx, `
		INSERT INTO weir_schema VALUES (?, ?, ?, ?)
		ON CONFLICT (org, object) DO UPDATE SET fields = excluded.fields, seen_at = excluded.seen_at`,
		string(org), object, string(is), timestamp(at))
	if err != nil {
		return nil, err
	}
	return was, nil
}
