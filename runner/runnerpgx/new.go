package runnerpgx

import (
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/weirhq/weir/runner"
)

// New returns the driver for a Runner on pool. River's tables and Weir's are in
// the first schema of the pool's search_path. The pool stays the caller's, to
// be closed after the Runner has stopped; one of its connections is taken out
// of it while the Runner runs, to listen on.
func New(pool *pgxpool.Pool) runner.Driver[pgx.Tx] {
	return runner.NewDriver(newDB(pool))
}
