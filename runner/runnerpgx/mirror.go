package runnerpgx

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/weirhq/weir/jobs"
	"github.com/weirhq/weir/runner/internal/store"
	"github.com/weirhq/weir/sfapi"
)

// EnsureMirror implements jobs.MirrorStore. Most calls find nothing to do, by
// one query and without a lock.
func (d *db) EnsureMirror(ctx context.Context, t *jobs.MirrorTable) error {
	if err := store.CheckMirror(t); err != nil {
		return err
	}
	lacks, err := mirrorLacks(ctx, d.pool, t)
	if err == nil && lacks != "" {
		err = d.InTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
			// CREATE TABLE IF NOT EXISTS is not safe against itself: two
			// processes that find no table both insert into the catalog.
			if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock(hashtextextended('weir_mirror ' || coalesce(current_schema(), '') || ' ' || $1::text, 0))`, t.Name); err != nil {
				return err
			}
			lacks, err := mirrorLacks(ctx, tx, t)
			if err != nil || lacks == "" {
				return err
			}
			_, err = tx.Exec(ctx, lacks)
			return err
		})
	}
	if err != nil {
		return fmt.Errorf("ensure mirror %s: %w", t.Name, err)
	}
	return nil
}

// mirrorTypes are Postgres's own names of the column types.
var mirrorTypes = map[jobs.ColumnType]string{
	jobs.ColumnText:      "text",
	jobs.ColumnNumeric:   "numeric",
	jobs.ColumnBoolean:   "boolean",
	jobs.ColumnDate:      "date",
	jobs.ColumnTimestamp: "timestamp with time zone",
}

// mirrorLacks returns the statement that makes the table what t says, "" when
// it is so already.
func mirrorLacks(ctx context.Context, q querier, t *jobs.MirrorTable) (string, error) {
	rows, err := q.Query(ctx, `
		SELECT a.attname::text, format_type(a.atttypid, a.atttypmod)
		FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE n.nspname = current_schema() AND c.relname = $1 AND a.attnum > 0 AND NOT a.attisdropped`, t.Name)
	if err != nil {
		return "", err
	}
	has := make(map[string]string)
	var name, typ string
	if _, err := pgx.ForEachRow(rows, []any{&name, &typ}, func() error { has[name] = typ; return nil }); err != nil {
		return "", err
	}
	var parts []string
	for _, c := range t.Columns {
		want := mirrorTypes[c.Type]
		switch have := has[c.Name]; have {
		case want:
			continue
		case "":
			parts = append(parts, pgx.Identifier{c.Name}.Sanitize()+" "+want)
		default:
			return "", fmt.Errorf("column %s has type %s, field %s needs %s: drop or rename the column, and it is made anew by a full sync",
				c.Name, have, c.Field, want)
		}
	}
	table := pgx.Identifier{t.Name}.Sanitize()
	switch {
	case len(has) == 0:
		parts = append([]string{"org text NOT NULL", "id text NOT NULL"}, parts...)
		return "CREATE TABLE " + table + " (" + strings.Join(append(parts, "PRIMARY KEY (org, id)"), ", ") + ")", nil
	case has["org"] == "" || has["id"] == "":
		return "", fmt.Errorf("the table exists and is no mirror: it has no columns org and id")
	case len(parts) == 0:
		return "", nil
	default:
		return "ALTER TABLE " + table + " ADD COLUMN " + strings.Join(parts, ", ADD COLUMN "), nil
	}
}

// UpsertMirrorTx implements jobs.MirrorStore: one statement, one array of
// texts a column, cast by the server.
func (d *db) UpsertMirrorTx(ctx context.Context, tx pgx.Tx, t *jobs.MirrorTable, org sfapi.OrgID, rows []jobs.MirrorRow) error {
	if len(rows) == 0 {
		return nil
	}
	ids := make([]string, len(rows))
	values := make([]*string, len(rows)*len(t.Columns))
	for i := range rows {
		if err := store.CheckMirrorRow(t, org, &rows[i]); err != nil {
			return err
		}
		ids[i] = rows[i].ID
		for j, v := range rows[i].Values {
			values[j*len(rows)+i] = v
		}
	}
	args := make([]any, 0, 2+len(t.Columns))
	args = append(args, org, ids)
	for j := range t.Columns {
		args = append(args, values[j*len(rows):(j+1)*len(rows)])
	}
	if _, err := tx.Exec(ctx, upsertMirror(t), args...); err != nil {
		return fmt.Errorf("upsert into mirror %s for org %s: %w", t.Name, org, err)
	}
	return nil
}

// upsertMirror returns the statement of UpsertMirrorTx. It is the same text
// for the same table, so the connection keeps it prepared.
func upsertMirror(t *jobs.MirrorTable) string {
	var names, casts, arrays, aliases, sets strings.Builder
	for i, c := range t.Columns {
		name := pgx.Identifier{c.Name}.Sanitize()
		fmt.Fprintf(&names, ", %s", name)
		fmt.Fprintf(&casts, ", u.c%d::%s", i, mirrorTypes[c.Type])
		fmt.Fprintf(&arrays, ", $%d::text[]", i+3)
		fmt.Fprintf(&aliases, ", c%d", i)
		if i > 0 {
			sets.WriteString(", ")
		}
		fmt.Fprintf(&sets, "%s = excluded.%s", name, name)
	}
	action := "NOTHING"
	if len(t.Columns) > 0 {
		action = "UPDATE SET " + sets.String()
	}
	return "INSERT INTO " + pgx.Identifier{t.Name}.Sanitize() + " (org, id" + names.String() + ") SELECT $1, u.id" + casts.String() +
		" FROM unnest($2::text[]" + arrays.String() + ") AS u (id" + aliases.String() + ") ON CONFLICT (org, id) DO " + action
}
