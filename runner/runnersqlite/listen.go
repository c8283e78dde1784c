package runnersqlite

import (
	"context"
	"time"

	"github.com/weirhq/weir/sfapi"
)

// ListenOrgs implements store.Orgs. It returns nil when ctx ends.
func (d *db) ListenOrgs(ctx context.Context, fn func(id sfapi.OrgID)) error {
	l := d.orgs.add()
	defer d.orgs.remove(l)
	fn("") // what changed before is unknown
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-l.wake:
		}
		changed := d.orgs.take(l)
		if !d.passWriter(ctx) {
			return nil
		}
		for _, id := range changed {
			fn(id)
		}
	}
}

// passWriter waits until the transaction that has the write lock ends. A
// change is published from within its transaction, which may be one that the
// app began and of whose commit nobody tells us; only one can write at a time,
// so whoever gets the lock comes after it. It reports false when ctx ends.
func (d *db) passWriter(ctx context.Context) bool {
	for {
		if err := d.lockOnce(ctx); err == nil {
			return true
		}
		// The database is busy for longer than its busy_timeout, or away.
		select {
		case <-ctx.Done():
			return false
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (d *db) lockOnce(ctx context.Context) error {
	conn, err := d.pool.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	// Not BeginTx: a pool of the app's own may begin with a read lock.
	if _, err := conn.ExecContext(ctx, `BEGIN IMMEDIATE`); err != nil {
		return err
	}
	_, err = conn.ExecContext(context.WithoutCancel(ctx), `ROLLBACK`)
	return err
}
