package runner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/weirhq/weir/breaker"
	"github.com/weirhq/weir/runner/internal/store"
	"github.com/weirhq/weir/sfapi"
)

const (
	// firstCancelBatch is small: it has the running jobs, whose calls must
	// end now. cancelBatch is how many jobs or records a transaction cancels.
	firstCancelBatch = 500
	cancelBatch      = 5000

	// lockedPause is how long is waited for jobs that River has locked.
	lockedPause = 10 * time.Millisecond

	// stragglersFor is how long after a cancellation jobs are looked for that
	// were inserted by a transaction that began before it.
	stragglersFor = time.Hour

	// cancellationPage is how many cancellations are read at a time.
	cancellationPage = 100
)

// disconnectReason is why the jobs of a disconnected org are cancelled.
const disconnectReason = "disconnected"

// cancelReason is what River's metadata say of jobs that a cancellation
// cancelled. It is of the one cancellation, so that a reconnect puts back what
// the last revocation cancelled, and not what an earlier one did.
func cancelReason(c *store.Cancellation) string { return fmt.Sprintf("%s #%d", c.Reason, c.ID) }

// orderCancelTx orders an org's work to be cancelled, in the transaction that
// makes it pointless. With an event, that is emitted when all is cancelled:
// it says how much.
func (r *Runner[TTx]) orderCancelTx(ctx context.Context, tx TTx, org sfapi.OrgID, reason string, e *Event) (*store.Cancellation, error) {
	c := &store.Cancellation{Org: org, Reason: reason}
	if e != nil {
		var err error
		if c.Event, err = json.Marshal(e); err != nil {
			return nil, err
		}
	}
	return c, r.store.BeginCancellationTx(ctx, tx, c)
}

// kickCancellations has the orders carried out now.
func (r *Runner[TTx]) kickCancellations() {
	select {
	case r.cancelKick <- struct{}{}:
	default:
	}
}

// inlineCancelTimeout bounds the cancelling by a process that has no loops.
const inlineCancelTimeout = time.Minute

// startCancelling has orders carried out that were committed just now: by the
// loop, and in a process that only enqueues by the caller.
func (r *Runner[TTx]) startCancelling(ctx context.Context) {
	if r.looping.Load() {
		r.kickCancellations()
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), inlineCancelTimeout)
	defer cancel()
	if err := r.workCancellations(ctx); err != nil {
		// The workers' loops go on with it.
		r.logger.ErrorContext(ctx, "cancel jobs", "error", err)
	}
}

// cancellations carries out orders to cancel work and to put it back: those of
// this process as they come, and those of processes that died.
func (r *Runner[TTx]) cancellations(ctx context.Context) {
	for {
		if err := r.workCancellations(ctx); err != nil && ctx.Err() == nil {
			r.logger.ErrorContext(ctx, "cancel jobs", "error", err)
		}
		t := time.NewTimer(jittered(reconcileEvery))
		select {
		case <-r.cancelKick:
		case <-t.C:
		case <-ctx.Done():
		}
		t.Stop()
		if ctx.Err() != nil {
			return
		}
	}
}

// workCancellations does what is left to do of all of them. One that cannot be
// worked stops no other.
func (r *Runner[TTx]) workCancellations(ctx context.Context) error {
	var errs []error
	for after := int64(0); ; {
		list, err := r.store.OpenCancellations(ctx, after, time.Now().Add(-stragglersFor), cancellationPage)
		if err != nil {
			return errors.Join(append(errs, err)...)
		}
		for _, c := range list {
			after = c.ID
			if c.State == store.Requeueing {
				err = r.requeue(ctx, c.Org)
			} else {
				err = r.cancel(ctx, c.Org, c.ID)
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err != nil {
				errs = append(errs, fmt.Errorf("%s org %s: %w", c.State, c.Org, err))
			}
		}
		if len(list) < cancellationPage {
			return errors.Join(errs...)
		}
	}
}

// cancel carries out a cancellation, as far as another process has not. It ends
// early when the org was connected again.
func (r *Runner[TTx]) cancel(ctx context.Context, org sfapi.OrgID, id int64) error {
	began, settled := time.Now(), false
	for limit := firstCancelBatch; ; limit = cancelBatch {
		var c *store.Cancellation
		var n int
		var more bool
		err := r.store.InTx(ctx, func(ctx context.Context, tx TTx) (err error) {
			c, n, more, err = r.cancelBatchTx(ctx, tx, org, id, limit, settled)
			return err
		})
		if err != nil {
			return err
		}
		switch {
		case more && n == 0:
			if !sleep(ctx, lockedPause) {
				return ctx.Err()
			}
		case more:
		case c.State == store.Cancelling && !settled:
			if settled, err = r.settled(ctx, c, began); err != nil {
				return err
			}
		case c.State == store.Cancelling:
			return r.forgetGrant(ctx, c) // of an org that is being disconnected
		default:
			return nil
		}
	}
}

// settled waits a while for the jobs that were told to end. What they were just
// sending is cancelled once they have, and is to be told of.
func (r *Runner[TTx]) settled(ctx context.Context, c *store.Cancellation, began time.Time) (bool, error) {
	for time.Since(began) < endingPatience {
		n, err := r.store.CancelledRunning(ctx, c.Org, cancelReason(c))
		if err != nil || n == 0 {
			return err == nil, err
		}
		if !sleep(ctx, endingPause) {
			return false, ctx.Err()
		}
	}
	return true, nil
}

// cancelBatchTx cancels a batch, and ends the cancellation when nothing is left
// to cancel and all is settled, under the lock of the org's row: no connect
// can come between, whose jobs must stay.
func (r *Runner[TTx]) cancelBatchTx(ctx context.Context, tx TTx, org sfapi.OrgID, id int64, limit int, settled bool) (c *store.Cancellation, n int, more bool, err error) {
	if _, err = r.store.OrgTx(ctx, tx, org, true); err != nil {
		return nil, 0, false, err
	}
	if c, err = r.store.CancellationTx(ctx, tx, id); err != nil {
		return nil, 0, false, err
	}
	if c.State != store.Cancelling && c.State != store.Cancelled {
		return c, 0, false, nil
	}
	if c.State == store.Cancelled && c.Reason == string(breaker.ReasonOrgInactive) {
		return c, 0, false, nil // what came since waits in its lane, as for any hold
	}
	batch, err := r.store.CancelOrgBatchTx(ctx, tx, org, cancelReason(c), limit)
	if err != nil {
		return nil, 0, false, err
	}
	n, more = batch.Cancelled+batch.Signalled, batch.More
	c.Jobs += n
	if !more {
		writes, err := r.store.CancelWritesTx(ctx, tx, org, id, cancelBatch)
		if err != nil {
			return nil, 0, false, err
		}
		c.Writes += writes
		// Until there are none: rows that are just being sent fall out of a
		// batch, and others may be behind them.
		n, more = n+writes, writes > 0
	}
	finish := settled && !more && c.State == store.Cancelling && c.Reason != disconnectReason
	if finish {
		if err := r.cancelledTx(ctx, tx, c); err != nil {
			return nil, 0, false, err
		}
	}
	if n > 0 || finish {
		err = r.store.UpdateCancellationTx(ctx, tx, c)
	}
	return c, n, more, err
}

// cancelledTx notes that nothing is left to cancel, and tells of it. The caller
// saves c.
func (r *Runner[TTx]) cancelledTx(ctx context.Context, tx TTx, c *store.Cancellation) error {
	c.State = store.Cancelled
	if len(c.Event) == 0 {
		return nil
	}
	e := &Event{}
	if err := json.Unmarshal(c.Event, e); err != nil {
		return fmt.Errorf("event of cancellation %d: %w", c.ID, err)
	}
	e.JobsCancelled, e.WritesCancelled = c.Jobs, c.Writes
	c.Event = nil
	return r.emitTx(ctx, tx, e)
}

// forgetGrant ends a disconnect: it revokes the grant at Salesforce and removes
// it here. In this order, for a grant that was forgotten can be revoked by
// nobody. A process that dies in between leaves both to the next.
func (r *Runner[TTx]) forgetGrant(ctx context.Context, c *store.Cancellation) error {
	r.forgetting.Lock()
	defer r.forgetting.Unlock()
	org, err := r.Orgs().Get(ctx, c.Org)
	if err != nil {
		return err
	}
	secret, err := r.tokens.Grant(ctx, c.Org)
	if err != nil {
		r.logger.WarnContext(ctx, "read grant to revoke it", "org", c.Org, "error", err)
	}
	// Were the org connected again by now, the secret could be the new grant.
	still := false
	err = r.store.InTx(ctx, func(ctx context.Context, tx TTx) error {
		now, err := r.store.CancellationTx(ctx, tx, c.ID)
		still = err == nil && now.State == store.Cancelling
		return err
	})
	if err != nil || !still {
		return err
	}
	if secret != "" {
		// https://help.salesforce.com/s/articleView?id=xcloud.remoteaccess_revoke_token.htm
		revoking, cancel := context.WithTimeout(ctx, exchangeTimeout)
		err = r.app.Revoke(revoking, org.LoginURL, secret)
		cancel()
		if err != nil {
			r.logger.WarnContext(ctx, "revoke grant", "org", c.Org, "error", err)
		}
	}
	err = r.store.InTx(ctx, func(ctx context.Context, tx TTx) error {
		if _, err := r.store.OrgTx(ctx, tx, c.Org, true); err != nil {
			return err
		}
		now, err := r.store.CancellationTx(ctx, tx, c.ID)
		if err != nil || now.State != store.Cancelling {
			return err
		}
		if err := r.store.DisconnectOrgTx(ctx, tx, c.Org); err != nil {
			return err
		}
		now.State = store.Cancelled
		return r.store.UpdateCancellationTx(ctx, tx, now)
	})
	if err == nil {
		r.tokens.Changed(c.Org)
	}
	return err
}

// jittered is d and up to half more, so that processes do not keep step.
func jittered(d time.Duration) time.Duration { return d + rand.N(d/2) }
