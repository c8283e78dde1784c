package runnersqlite

import "context"

// Exclusive implements store.Store. One process works on a SQLite file, so a
// lock in the process is enough.
func (d *db) Exclusive(ctx context.Context, _ string, fn func(ctx context.Context) error) error {
	d.exclusive.Lock()
	defer d.exclusive.Unlock()
	return fn(ctx)
}
