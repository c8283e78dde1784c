package runner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"

	"github.com/weirhq/weir/jobs"
	"github.com/weirhq/weir/runner/internal/store"
	"github.com/weirhq/weir/sfapi"
)

// ErrOrgNotFound is returned for an org that was never connected.
var ErrOrgNotFound = errors.New("org not found: connect it first")

// ErrReauthRequired is returned when work is enqueued for an org whose grant
// was revoked or that was disconnected: connect it again first.
var ErrReauthRequired = errors.New("org needs a new grant: connect it again")

// Insert enqueues a job in a transaction of its own. See InsertTx.
func (r *Runner[TTx]) Insert(ctx context.Context, args river.JobArgs, opts *river.InsertOpts) (*rivertype.JobInsertResult, error) {
	var res *rivertype.JobInsertResult
	err := r.store.InTx(ctx, func(ctx context.Context, tx TTx) (err error) {
		res, err = r.InsertTx(ctx, tx, args, opts)
		return err
	})
	if err != nil {
		return nil, err
	}
	return res, nil
}

// InsertTx enqueues a job in the app's transaction: it exists when that
// commits. A job with LaneArgs waits in its org's lane; other jobs are River's
// own affair. opts may be nil; its Queue is ignored for lane jobs.
//
// A Sync of an object that already waits is not inserted again: the result has
// the job that waits and UniqueSkippedAsDuplicate set, and Full takes the
// place of Incremental. One that runs already does not count: the new job
// reads what changed since. Nor does one count that is scheduled for later, and
// one that opts schedule for later is always inserted.
//
// Errors: jobs.FieldError (joined) for args that cannot be right,
// ErrOrgNotFound, ErrReauthRequired. Nothing is stored then.
func (r *Runner[TTx]) InsertTx(ctx context.Context, tx TTx, args river.JobArgs, opts *river.InsertOpts) (*rivertype.JobInsertResult, error) {
	switch a := args.(type) {
	case jobs.Sync:
		return r.insertSync(ctx, tx, &a, opts)
	case *jobs.Sync:
		if a == nil {
			a = &jobs.Sync{}
		}
		return r.insertSync(ctx, tx, a, opts)
	case jobs.LaneArgs:
		encoded, err := json.Marshal(a)
		if err != nil {
			return nil, fmt.Errorf("insert %s: %w", a.Kind(), err)
		}
		org, err := checkLaneArgs(a, encoded)
		if err != nil {
			return nil, err
		}
		if err := r.checkOrg(ctx, tx, org); err != nil {
			return nil, fmt.Errorf("insert %s for org %s: %w", a.Kind(), org, err)
		}
	}
	return r.river.InsertTx(ctx, tx, args, opts)
}

// checkLaneArgs returns the org of lane args, whose JSON must name it too.
func checkLaneArgs(args jobs.LaneArgs, encoded []byte) (sfapi.OrgID, error) {
	org, err := sfapi.ParseOrgID(string(args.OrgID()))
	if err != nil {
		return "", fmt.Errorf("insert %s: %w", args.Kind(), &jobs.FieldError{Field: "Org", Message: err.Error()})
	}
	if !args.Lane().Valid() {
		return "", fmt.Errorf("insert %s: %w", args.Kind(), &jobs.FieldError{Field: "Lane", Message: "is no lane"})
	}
	var inJSON struct {
		Org string `json:"org"`
	}
	if err := json.Unmarshal(encoded, &inJSON); err != nil || inJSON.Org != string(org) {
		return "", fmt.Errorf("insert %s: %w", args.Kind(), &jobs.FieldError{
			Field: "Org", Message: fmt.Sprintf("the JSON of the args has %q as org, not %q: an org's jobs are found by it", inJSON.Org, org),
		})
	}
	return org, nil
}

func (r *Runner[TTx]) checkOrg(ctx context.Context, tx TTx, id sfapi.OrgID) error {
	org, err := r.store.OrgTx(ctx, tx, id, false)
	switch {
	case errors.Is(err, jobs.ErrNotFound):
		return ErrOrgNotFound
	case err != nil:
		return err
	case org.State != store.OrgConnected:
		return ErrReauthRequired
	}
	return nil
}

func (r *Runner[TTx]) insertSync(ctx context.Context, tx TTx, s *jobs.Sync, opts *river.InsertOpts) (*rivertype.JobInsertResult, error) {
	if err := s.Validate(); err != nil {
		return nil, fmt.Errorf("insert sync: %w", err)
	}
	args := *s
	args.Org, _ = sfapi.ParseOrgID(string(s.Org)) // Validate has checked it
	if h := r.config.Handlers; h != nil && !h.CanSync(args.Object) {
		return nil, fmt.Errorf("insert sync: %w", &jobs.FieldError{Field: "Object", Message: fmt.Sprintf("%s has no handler", args.Object)})
	}
	if err := r.checkOrg(ctx, tx, args.Org); err != nil {
		return nil, fmt.Errorf("insert sync of %s for org %s: %w", args.Object, args.Org, err)
	}
	if opts == nil || !opts.Pending && !opts.ScheduledAt.After(time.Now()) {
		if waiting, err := r.waitingSync(ctx, tx, &args); waiting != nil || err != nil {
			return waiting, err
		}
	}
	return r.river.InsertTx(ctx, tx, args, opts)
}

// waitingSync returns the sync that already waits and will do what args ask.
func (r *Runner[TTx]) waitingSync(ctx context.Context, tx TTx, args *jobs.Sync) (*rivertype.JobInsertResult, error) {
	id, err := r.store.WaitingJobTx(ctx, tx, args.Kind(), args.Org, args.Object)
	if err != nil || id == 0 {
		return nil, err
	}
	job, err := r.river.JobGetTx(ctx, tx, id)
	if errors.Is(err, river.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var have jobs.Sync
	if err := json.Unmarshal(job.EncodedArgs, &have); err != nil || !slices.Equal(have.Fields, args.Fields) {
		return nil, nil //nolint:nilerr // args we cannot read are not ours to reuse
	}
	if args.Mode == jobs.Full && have.Mode != jobs.Full {
		set, err := r.store.SetArgTx(ctx, tx, id, "mode", string(jobs.Full))
		if err != nil || !set {
			return nil, err
		}
		if job, err = r.river.JobGetTx(ctx, tx, id); err != nil {
			return nil, err
		}
	}
	return &rivertype.JobInsertResult{Job: job, UniqueSkippedAsDuplicate: true}, nil
}
