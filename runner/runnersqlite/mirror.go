package runnersqlite

import (
	"context"
	"database/sql"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/weirhq/weir/jobs"
	"github.com/weirhq/weir/runner/internal/store"
	"github.com/weirhq/weir/sfapi"
)

// mirrorTypes are the declared types of mirror columns.
//
// A number's column has no affinity: NUMERIC would turn every number into a
// float and keep fifteen digits of it. So each value is stored as what keeps
// it exactly, see number. Dates and times are declared text, because the
// driver turns a column declared date into times of its own making; as text,
// 2006-01-02 and RFC 3339 in UTC, they sort and work in SQLite's functions.
//
// https://www.sqlite.org/datatype3.html#determination_of_column_affinity
var mirrorTypes = map[jobs.ColumnType]string{
	jobs.ColumnText:      "text",
	jobs.ColumnNumeric:   "",
	jobs.ColumnBoolean:   "integer",
	jobs.ColumnDate:      "text",
	jobs.ColumnTimestamp: "text",
}

// EnsureMirror implements jobs.MirrorStore.
func (d *db) EnsureMirror(ctx context.Context, t *jobs.MirrorTable) error {
	if err := store.CheckMirror(t); err != nil {
		return err
	}
	err := d.InTx(ctx, func(ctx context.Context, tx *sql.Tx) error {
		rows, err := tx.QueryContext(ctx, `SELECT name, type FROM pragma_table_info(?)`, t.Name)
		has := make(map[string]string)
		if _, err := collect(rows, err, func(row scanner) (struct{}, error) {
			var name, typ string
			err := row.Scan(&name, &typ)
			has[strings.ToLower(name)] = strings.ToLower(typ)
			return struct{}{}, err
		}); err != nil {
			return err
		}
		if len(has) == 0 {
			return createMirror(ctx, tx, t)
		}
		for _, name := range []string{"org", "id"} {
			if _, ok := has[name]; !ok {
				return fmt.Errorf("the table exists and is no mirror: it has no column %s", name)
			}
		}
		for _, c := range t.Columns {
			have, ok := has[c.Name]
			if !ok {
				if _, err := tx.ExecContext(ctx, `ALTER TABLE `+quote(t.Name)+` ADD COLUMN `+declare(&c)); err != nil {
					return err
				}
				continue
			}
			if want := mirrorTypes[c.Type]; have != want {
				return fmt.Errorf("column %s has type %q, field %s needs %q: drop or rename the column, and it is made anew by a full sync",
					c.Name, have, c.Field, want)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("ensure mirror %s: %w", t.Name, err)
	}
	return nil
}

func createMirror(ctx context.Context, tx *sql.Tx, t *jobs.MirrorTable) error {
	parts := []string{"org text NOT NULL", "id text NOT NULL"}
	for i := range t.Columns {
		parts = append(parts, declare(&t.Columns[i]))
	}
	parts = append(parts, "PRIMARY KEY (org, id)")
	_, err := tx.ExecContext(ctx, `CREATE TABLE `+quote(t.Name)+` (`+strings.Join(parts, ", ")+`)`)
	return err
}

func declare(c *jobs.MirrorColumn) string {
	return strings.TrimSpace(quote(c.Name) + " " + mirrorTypes[c.Type])
}

// quote makes a name an identifier.
func quote(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// UpsertMirrorTx implements jobs.MirrorStore.
func (d *db) UpsertMirrorTx(ctx context.Context, tx *sql.Tx, t *jobs.MirrorTable, org sfapi.OrgID, rows []jobs.MirrorRow) error {
	names := make([]string, 0, 2+len(t.Columns))
	names = append(names, "org", "id")
	sets := make([]string, 0, len(t.Columns))
	for _, c := range t.Columns {
		name := quote(c.Name)
		names = append(names, name)
		sets = append(sets, name+" = excluded."+name)
	}
	action := "NOTHING"
	if len(sets) > 0 {
		action = "UPDATE SET " + strings.Join(sets, ", ")
	}
	insert := `INSERT INTO ` + quote(t.Name) + ` (` + strings.Join(names, ", ") + `)`
	err := insertRows(ctx, tx, insert, ` ON CONFLICT (org, id) DO `+action, len(names), len(rows), func(i int, dst []any) error {
		row := &rows[i]
		if err := store.CheckMirrorRow(t, org, row); err != nil {
			return err
		}
		dst[0], dst[1] = string(org), row.ID
		for j, v := range row.Values {
			dst[2+j] = mirrorValue(t.Columns[j].Type, v)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("upsert into mirror %s for org %s: %w", t.Name, org, err)
	}
	return nil
}

// mirrorValue is v, which fits its column, as SQLite stores it.
func mirrorValue(typ jobs.ColumnType, v *string) any {
	if v == nil {
		return nil
	}
	switch typ {
	case jobs.ColumnNumeric:
		return number(*v)
	case jobs.ColumnBoolean:
		if *v == "true" {
			return int64(1)
		}
		return int64(0)
	case jobs.ColumnTimestamp:
		at, err := time.Parse(time.RFC3339, *v)
		if err != nil {
			return *v
		}
		return at.UTC().Format("2006-01-02T15:04:05.000Z")
	default:
		return *v
	}
}

// number is s as the storage class that keeps its value exactly: an integer
// of 64 bits, a float when it has no more than the fifteen significant digits
// that every float keeps, and otherwise its text.
func number(s string) any {
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return n
	}
	digits := 0
	mantissa, _, _ := strings.Cut(strings.ToLower(s), "e")
	for _, c := range strings.TrimLeft(mantissa, "-0.") {
		if c != '.' {
			digits++
		}
	}
	// Below 1e-300 floats have fewer digits.
	if f, err := strconv.ParseFloat(s, 64); err == nil && digits <= 15 && (digits == 0 || math.Abs(f) > 1e-300) {
		return f
	}
	return s
}
