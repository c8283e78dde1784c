package runnerpgx

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// leaseFree reports whether jobID may take a lease that holder has: River no
// longer has the holder's job in state running. It is asked after the lease's
// row was locked. Beside Undrained it is the one look at River's tables
// outside river.go.
func leaseFree(ctx context.Context, tx pgx.Tx, holder, jobID int64) (bool, error) {
	if holder == 0 || holder == jobID {
		return true, nil
	}
	var runs bool
	err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM river_job WHERE id = $1 AND state = 'running')`, holder).Scan(&runs)
	if err != nil {
		return false, fmt.Errorf("look up job %d: %w", holder, err)
	}
	return !runs, nil
}
