package runner

import (
	"context"
	"errors"
	"fmt"

	"github.com/weirhq/weir/jobs"
	"github.com/weirhq/weir/sfapi"
)

// Write stores records to be written, in a transaction of its own. See
// WriteTx.
func (r *Runner[TTx]) Write(ctx context.Context, w *jobs.Write) (*jobs.WriteReceipt, error) {
	var receipt *jobs.WriteReceipt
	err := r.store.InTx(ctx, func(ctx context.Context, tx TTx) (err error) {
		receipt, err = r.WriteTx(ctx, tx, w)
		return err
	})
	if err != nil {
		return nil, err
	}
	return receipt, nil
}

// WriteTx hands records to the org's write lane in the app's transaction: when
// that commits they will be written, in order of submission, each once.
// Receipt.ID is what Writes asks for.
//
// Errors: jobs.FieldError (joined) for what cannot be right, ErrOrgNotFound,
// ErrReauthRequired, jobs.ErrIdempotencyConflict. Nothing is stored then.
func (r *Runner[TTx]) WriteTx(ctx context.Context, tx TTx, w *jobs.Write) (*jobs.WriteReceipt, error) {
	batch, err := w.Batch()
	if err != nil {
		return nil, fmt.Errorf("write: %w", err)
	}
	if err := r.checkOrg(ctx, tx, batch.Org); err != nil {
		return nil, fmt.Errorf("write %s for org %s: %w", batch.Object, batch.Org, err)
	}
	receipt, err := r.store.AppendTx(ctx, tx, batch)
	if err != nil {
		return nil, fmt.Errorf("write %s for org %s: %w", batch.Object, batch.Org, err)
	}
	if receipt.Repeated {
		return receipt, nil
	}
	if _, err := r.river.InsertTx(ctx, tx, jobs.WriteArgs{Org: batch.Org, Object: batch.Object}, nil); err != nil {
		return nil, fmt.Errorf("write %s for org %s: %w", batch.Object, batch.Org, err)
	}
	return receipt, nil
}

// Writes answers what became of writes.
type Writes[TTx any] struct{ runner *Runner[TTx] }

// Writes returns the log of writes.
func (r *Runner[TTx]) Writes() *Writes[TTx] { return &Writes[TTx]{r} }

// ErrWriteNotFound is returned for a write that the org does not have.
var ErrWriteNotFound = errors.New("write not found")

// Counts returns how many of a write's records are in each state.
func (w *Writes[TTx]) Counts(ctx context.Context, org sfapi.OrgID, writeID int64) (*jobs.WriteCounts, error) {
	c, err := w.runner.store.WriteCounts(ctx, org, writeID)
	return c, writeError("count", org, writeID, err)
}

// Records returns a write's records in order of submission. q may be nil.
func (w *Writes[TTx]) Records(ctx context.Context, org sfapi.OrgID, writeID int64, q *jobs.WriteQuery) ([]*jobs.WriteRow, error) {
	if q == nil {
		q = &jobs.WriteQuery{}
	}
	rows, err := w.runner.store.WriteRows(ctx, org, writeID, q)
	return rows, writeError("read", org, writeID, err)
}

// Retry puts a write's failed and unknown records back to be sent again, with
// what they held when they were submitted, and returns how many. A record that
// a later write has changed since gets the older values: look before you
// retry.
func (w *Writes[TTx]) Retry(ctx context.Context, org sfapi.OrgID, writeID int64) (int, error) {
	r := w.runner
	var n int
	err := r.store.InTx(ctx, func(ctx context.Context, tx TTx) error {
		if err := r.checkOrg(ctx, tx, org); err != nil {
			return err
		}
		object, count, err := r.store.RetryWriteTx(ctx, tx, org, writeID)
		if err != nil || count == 0 {
			return err
		}
		n = count
		_, err = r.river.InsertTx(ctx, tx, jobs.WriteArgs{Org: org, Object: object}, nil)
		return err
	})
	return n, writeError("retry", org, writeID, err)
}

func writeError(op string, org sfapi.OrgID, writeID int64, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, jobs.ErrNotFound) {
		err = ErrWriteNotFound
	}
	return fmt.Errorf("%s write %d of org %s: %w", op, writeID, org, err)
}

// Syncs returns the state of every sync an org has had, by object.
func (r *Runner[TTx]) Syncs(ctx context.Context, org sfapi.OrgID) ([]*jobs.SyncState, error) {
	states, err := r.store.Syncs(ctx, org)
	if err != nil {
		return nil, fmt.Errorf("syncs of org %s: %w", org, err)
	}
	return states, nil
}
