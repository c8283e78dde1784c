package runnerpgx

import (
	"context"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/weirhq/weir/sfapi"
)

const (
	// orgChannel carries the ids of changed orgs.
	orgChannel = "weir_org"
	// listenIdle is how long a connection may be silent before it is asked
	// whether it still lives: one that died without a word loses every
	// notification, and with them the trips of other processes.
	listenIdle = 15 * time.Second
	// listenPing is how long the answer may take.
	listenPing = 5 * time.Second
)

// notifyOrg tells every process, after the commit of the transaction that q
// is, that the org's row changed.
func notifyOrg(ctx context.Context, q querier, id sfapi.OrgID) error {
	if _, err := q.Exec(ctx, `SELECT pg_notify($1, $2)`, orgChannel, string(id)); err != nil {
		return fmt.Errorf("notify of org %s: %w", id, err)
	}
	return nil
}

// ListenOrgs implements store.Orgs. It returns nil when ctx ends; a lost
// connection is made again.
func (d *db) ListenOrgs(ctx context.Context, fn func(id sfapi.OrgID)) error {
	wait := backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(50*time.Millisecond),
		backoff.WithMaxInterval(5*time.Second),
		backoff.WithMaxElapsedTime(0), // never gives up
	)
	for ctx.Err() == nil {
		// The error is not the caller's affair: it is told by fn("") once
		// the connection is back, and every other call meets the same database.
		_ = d.listen(ctx, func(id sfapi.OrgID) {
			wait.Reset()
			fn(id)
		})
		select {
		case <-ctx.Done():
		case <-time.After(wait.NextBackOff()):
		}
	}
	return nil
}

// listen calls fn until ctx ends or the connection fails.
func (d *db) listen(ctx context.Context, fn func(id sfapi.OrgID)) error {
	pooled, err := d.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	conn := pooled.Hijack() // with LISTEN in force it must not serve others
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), listenPing)
		defer cancel()
		_ = conn.Close(closing)
	}()
	if _, err := conn.Exec(ctx, "LISTEN "+orgChannel); err != nil {
		return err
	}
	fn("") // what changed before is unknown
	for {
		waiting, cancel := context.WithTimeout(ctx, listenIdle)
		n, err := conn.WaitForNotification(waiting)
		cancel()
		switch {
		case err == nil:
			fn(sfapi.OrgID(n.Payload))
		case ctx.Err() != nil:
			return ctx.Err()
		case waiting.Err() == nil || conn.IsClosed():
			return err
		default: // silence
			pinging, cancel := context.WithTimeout(ctx, listenPing)
			err := conn.Ping(pinging)
			cancel()
			if err != nil {
				return err
			}
		}
	}
}
