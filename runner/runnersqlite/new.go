package runnersqlite

import (
	"database/sql"

	"github.com/weirhq/weir/runner"
)

// New returns the driver for a Runner on pool, which Open made or which is set
// up in the same way. The pool stays the caller's, to be closed after the
// Runner has stopped.
func New(pool *sql.DB) runner.Driver[*sql.Tx] {
	return runner.NewDriver(newDB(pool))
}
