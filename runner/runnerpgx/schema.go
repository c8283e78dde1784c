package runnerpgx

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/weirhq/weir/jobs"
	"github.com/weirhq/weir/sfapi"
)

// SwapSchemaTx implements jobs.SyncStore.
func (d *db) SwapSchemaTx(ctx context.Context, tx pgx.Tx, org sfapi.OrgID, object string, fields []jobs.SchemaField, at time.Time) ([]jobs.SchemaField, error) {
	was, err := swapSchema(ctx, tx, org, object, fields, at)
	if err != nil {
		return nil, fmt.Errorf("remember fields of %s %s: %w", org, object, err)
	}
	return was, nil
}

func swapSchema(ctx context.Context, tx pgx.Tx, org sfapi.OrgID, object string, fields []jobs.SchemaField, at time.Time) (was []jobs.SchemaField, err error) {
	is, err := json.Marshal(fields)
	if err != nil {
		return nil, err
	}
	var text []byte
	var seen time.Time
	const find = `SELECT fields, seen_at FROM weir_schema WHERE org = $1 AND object = $2`
	err = tx.QueryRow(ctx, find, org, object).Scan(&text, &seen)
	if errors.Is(err, pgx.ErrNoRows) {
		tag, err := tx.Exec(ctx, `INSERT INTO weir_schema VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING`, org, object, string(is), at)
		if err != nil || tag.RowsAffected() > 0 {
			return nil, err
		}
	} else if err != nil {
		return nil, err
	} else if err := json.Unmarshal(text, &was); err != nil || slices.Equal(was, fields) {
		return nil, err
	}
	// It has changed: the row's lock lets one at a time find that.
	if err := tx.QueryRow(ctx, find+` FOR UPDATE`, org, object).Scan(&text, &seen); err != nil {
		return nil, err
	}
	was = nil
	if err := json.Unmarshal(text, &was); err != nil || slices.Equal(was, fields) || at.Before(seen) {
		return nil, err
	}
	_, err = tx.Exec(ctx, `UPDATE weir_schema SET fields = $3, seen_at = $4 WHERE org = $1 AND object = $2`, org, object, string(is), at)
	if err != nil {
		return nil, err
	}
	return was, nil
}
