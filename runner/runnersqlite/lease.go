package runnersqlite

import (
	"context"
	"database/sql"
	"fmt"
)

// leaseFree reports whether jobID may take a lease that holder has: River no
// longer has the holder's job in state running. Beside Undrained it is the one
// look at River's tables outside river.go.
func leaseFree(ctx context.Context, tx *sql.Tx, holder, jobID int64) (bool, error) {
	if holder == 0 || holder == jobID {
		return true, nil
	}
	var runs bool
	err := tx.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM river_job WHERE id = ? AND state = 'running')`, holder).Scan(&runs)
	if err != nil {
		return false, fmt.Errorf("look up job %d: %w", holder, err)
	}
	return !runs, nil
}
