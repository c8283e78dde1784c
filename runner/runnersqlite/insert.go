package runnersqlite

import (
	"context"
	"database/sql"
	"strings"
)

const (
	// maxVariables is SQLITE_MAX_VARIABLE_NUMBER's default.
	//
	// https://www.sqlite.org/limits.html#max_variable_number
	maxVariables = 32766
	// maxInsertRows is where longer statements stop being faster.
	maxInsertRows = 100
)

// insertRows runs insert + VALUES lists + suffix for n rows of width values,
// many rows a statement. fill writes the values of row i into dst.
func insertRows(ctx context.Context, tx *sql.Tx, insert, suffix string, width, n int, fill func(i int, dst []any) error) error {
	chunk := min(n, maxInsertRows, maxVariables/width)
	args := make([]any, chunk*width)
	var stmt *sql.Stmt
	prepared := 0
	defer func() {
		if stmt != nil {
			_ = stmt.Close()
		}
	}()
	for from := 0; from < n; from += chunk {
		rows := min(chunk, n-from)
		for i := range rows {
			if err := fill(from+i, args[i*width:(i+1)*width]); err != nil {
				return err
			}
		}
		if rows != prepared {
			if stmt != nil {
				_ = stmt.Close()
			}
			var err error
			if stmt, err = tx.PrepareContext(ctx, insert+values(rows, width)+suffix); err != nil {
				return err
			}
			prepared = rows
		}
		if _, err := stmt.ExecContext(ctx, args[:rows*width]...); err != nil {
			return err
		}
	}
	return nil
}

// values is " VALUES (?, …), (?, …)".
func values(rows, width int) string {
	row := "(?" + strings.Repeat(", ?", width-1) + ")"
	return " VALUES " + row + strings.Repeat(", "+row, rows-1)
}
