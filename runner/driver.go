package runner

import "github.com/weirhq/weir/runner/internal/store"

// Driver connects a Runner to a database. Packages runnerpgx and runnersqlite
// make one; TTx is the transaction type of that database, pgx.Tx or *sql.Tx.
// The zero value is not usable.
type Driver[TTx any] struct{ store store.Store[TTx] }

// NewDriver is called by runnerpgx and runnersqlite only: its argument is a
// type that nothing outside this module can name.
func NewDriver[TTx any](s store.Store[TTx]) Driver[TTx] { return Driver[TTx]{s} }

// Store is for Weir's own packages and tests, as NewDriver is.
func (d Driver[TTx]) Store() store.Store[TTx] { return d.store }
