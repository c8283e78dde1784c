package runner

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/weirhq/weir/breaker"
	"github.com/weirhq/weir/jobs"
	"github.com/weirhq/weir/runner/internal/store"
	"github.com/weirhq/weir/sfapi"
)

const (
	// endingPause is how often is looked whether jobs that were told to end
	// have, and endingPatience how long a connect waits for them: what comes
	// later, the loop of cancellations puts back.
	endingPause    = 20 * time.Millisecond
	endingPatience = 3 * time.Second
)

// endCancellationsTx decides about what was cancelled, in the transaction that
// connects an org again. It reports whether something is to be put back: then
// the lanes stay closed until it is, so that newer work does not overtake it.
func (r *Runner[TTx]) endCancellationsTx(ctx context.Context, tx TTx, org sfapi.OrgID, requeue bool) (bool, error) {
	list, err := r.store.OrgCancellationsTx(ctx, tx, org)
	if err != nil {
		return false, err
	}
	pending := false
	for _, c := range list {
		if c.State == store.Cancelling {
			// It ends here; what it has promised to tell is told.
			if err := r.cancelledTx(ctx, tx, c); err != nil {
				return false, err
			}
		}
		if requeue || c.State == store.Requeueing {
			c.State, pending = store.Requeueing, true
		} else {
			c.State = store.Closed
		}
		if err := r.store.UpdateCancellationTx(ctx, tx, c); err != nil {
			return false, err
		}
	}
	if !pending {
		return false, nil
	}
	for _, lane := range breaker.AllLanes() {
		if err := r.store.SetLaneTx(ctx, tx, org, lane, 0, true); err != nil {
			return false, err
		}
	}
	return true, nil
}

// requeue puts back what was cancelled, opens the lanes, and waits a while for
// jobs that were told to end and have not yet. It can be repeated, by any
// process.
func (r *Runner[TTx]) requeue(ctx context.Context, org sfapi.OrgID) error {
	var list []*store.Cancellation
	err := r.store.InTx(ctx, func(ctx context.Context, tx TTx) error {
		all, err := r.store.OrgCancellationsTx(ctx, tx, org)
		for _, c := range all {
			if c.State == store.Requeueing {
				list = append(list, c)
			}
		}
		return err
	})
	if err != nil || len(list) == 0 {
		return err
	}
	for _, c := range list {
		if err := r.requeueRecords(ctx, c); err != nil {
			return err
		}
		if err := r.requeueJobs(ctx, c); err != nil {
			return err
		}
	}
	if err := r.openLanes(ctx, org); err != nil {
		return err
	}
	return r.requeueRest(ctx, org, list)
}

// requeueRecords makes the cancelled records pending, with a job for each
// object: the job that they had may be gone by now.
func (r *Runner[TTx]) requeueRecords(ctx context.Context, c *store.Cancellation) error {
	for n := cancelBatch; n == cancelBatch; {
		err := r.store.InTx(ctx, func(ctx context.Context, tx TTx) (err error) {
			// Its lock keeps two processes from taking each other's batches
			// for the last.
			if _, err := r.store.CancellationTx(ctx, tx, c.ID); err != nil {
				return err
			}
			var objects []string
			if n, objects, err = r.store.RequeueWritesTx(ctx, tx, c.ID, cancelBatch); err != nil {
				return err
			}
			for _, object := range objects {
				if _, err := r.river.InsertTx(ctx, tx, jobs.WriteArgs{Org: c.Org, Object: object}, nil); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("requeue records of org %s: %w", c.Org, err)
		}
	}
	return nil
}

func (r *Runner[TTx]) requeueJobs(ctx context.Context, c *store.Cancellation) error {
	for more := true; more; {
		var err error
		if _, more, err = r.store.RequeueCancelledBatch(ctx, c.Org, cancelReason(c), cancelBatch); err != nil {
			return err
		}
	}
	return nil
}

// openLanes tells the breaker of the new grant, which ends what a dead one
// held, and the gate of what the breaker says.
func (r *Runner[TTx]) openLanes(ctx context.Context, org sfapi.OrgID) error {
	var out *outcome
	err := r.store.InTx(ctx, func(ctx context.Context, tx TTx) error {
		row, err := r.store.OrgTx(ctx, tx, org, true)
		if err != nil || row.State != store.OrgConnected {
			return err // the new grant is dead too
		}
		if out, err = r.holds.observeTx(ctx, tx, org, breaker.Connected(row.Generation)); err != nil {
			return err
		}
		for _, lane := range breaker.AllLanes() {
			if err := r.store.SetLaneTx(ctx, tx, org, lane, r.holds.window(out.state, lane), out.state.Covers(lane) != nil); err != nil {
				return err
			}
			if out.state.Covers(lane) == nil {
				if err := r.store.ResumeLaneTx(ctx, tx, lane.Queue(org)); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err == nil && out != nil {
		r.holds.settle(ctx, org, out)
	}
	return err
}

// errEnding says that jobs which were told to end still run.
var errEnding = errors.New("jobs still run that were told to end: they are put back when they have")

// requeueRest puts back the jobs that ended since, and closes the
// cancellations when none is left.
func (r *Runner[TTx]) requeueRest(ctx context.Context, org sfapi.OrgID, list []*store.Cancellation) error {
	deadline := time.Now().Add(endingPatience)
	for {
		running := 0
		for _, c := range list {
			n, err := r.store.CancelledRunning(ctx, org, cancelReason(c))
			if err != nil {
				return err
			}
			running += n
		}
		// Those that ended between the two looks are cancelled by now.
		for _, c := range list {
			if err := r.requeueJobs(ctx, c); err != nil {
				return err
			}
		}
		if running == 0 {
			break
		}
		if time.Now().After(deadline) {
			return errEnding
		}
		if !sleep(ctx, endingPause) {
			return ctx.Err()
		}
	}
	return r.store.InTx(ctx, func(ctx context.Context, tx TTx) error {
		if _, err := r.store.OrgTx(ctx, tx, org, true); err != nil {
			return err
		}
		for _, c := range list {
			now, err := r.store.CancellationTx(ctx, tx, c.ID)
			if err != nil {
				return err
			}
			if now.State = store.Closed; err == nil {
				err = r.store.UpdateCancellationTx(ctx, tx, now)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}
