package jobs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/riverqueue/river"

	"github.com/weirhq/weir/breaker"
	"github.com/weirhq/weir/sfapi"
)

// AnyObject stands for every object that has no handler of its own.
const AnyObject = "*"

// LaneArgs are the args of a job that runs for one org in one of its lanes:
// Sync, WriteArgs, and the app's own (AddWorker). Their JSON must have the
// org's 18-character id as "org": operators and Weir find an org's jobs by it.
type LaneArgs interface {
	river.JobArgs
	OrgID() sfapi.OrgID
	Lane() breaker.Lane
}

var (
	_ LaneArgs = Sync{}
	_ LaneArgs = WriteArgs{}
)

// Handlers says what the app does with each object, and which jobs of its own
// run in lanes. Fill it before runner.New; it must not change afterwards.
type Handlers[TTx any] struct {
	syncs   map[string]syncHandler[TTx] // by object in lower case
	workers []func(*river.Workers, *Env[TTx]) error
	kinds   []string
	errs    []error
}

// NewHandlers returns empty Handlers for a transaction type: pgx.Tx or
// *sql.Tx.
func NewHandlers[TTx any]() *Handlers[TTx] {
	return &Handlers[TTx]{syncs: make(map[string]syncHandler[TTx])}
}

// syncHandler is what a sync does with an object's pages.
type syncHandler[TTx any] interface {
	// plan chooses the fields to read.
	plan(d *sfapi.Describe, args *Sync) (*syncPlan, error)
	// prepare runs before the first page of a run, outside a transaction.
	prepare(ctx context.Context, env *Env[TTx], p *syncPlan) error
	// apply handles one page in the transaction that also saves the cursor.
	apply(ctx context.Context, env *Env[TTx], tx TTx, p *syncPlan, page *rowPage) error
}

func (h *Handlers[TTx]) addSync(object string, s syncHandler[TTx]) {
	switch key := strings.ToLower(object); {
	case object != AnyObject && !namePattern.MatchString(object):
		h.errs = append(h.errs, &FieldError{"Handlers", fmt.Sprintf("%q is not an object's API name", object)})
	case h.syncs[key] != nil:
		h.errs = append(h.errs, &FieldError{"Handlers", fmt.Sprintf("object %s has two handlers", object)})
	default:
		h.syncs[key] = s
	}
}

// forObject returns the object's handler, or the one for AnyObject, or nil.
func (h *Handlers[TTx]) forObject(object string) syncHandler[TTx] {
	if s := h.syncs[strings.ToLower(object)]; s != nil {
		return s
	}
	return h.syncs[AnyObject]
}

// CanSync reports whether a sync of the object has a handler.
func (h *Handlers[TTx]) CanSync(object string) bool { return h.forObject(object) != nil }

// Validate reports every mistake made while the Handlers were filled.
func (h *Handlers[TTx]) Validate() error { return errors.Join(h.errs...) }

// Kinds returns the kinds of all lane jobs, the built-in ones included.
func (h *Handlers[TTx]) Kinds() []string {
	return append([]string{Sync{}.Kind(), WriteArgs{}.Kind()}, h.kinds...)
}

// Register adds the River workers of all jobs to workers. Package runner calls
// it.
func (h *Handlers[TTx]) Register(workers *river.Workers, env *Env[TTx]) error {
	errs := []error{
		river.AddWorkerSafely(workers, &syncWorker[TTx]{env: env, handlers: h, describes: newDescribeCache()}),
		river.AddWorkerSafely(workers, &writeWorker[TTx]{env: env}),
	}
	for _, add := range h.workers {
		errs = append(errs, add(workers, env))
	}
	return errors.Join(errs...)
}

// AddWorker adds a job of the app's own: fn is called with a client bound to
// the job's org, for the lane that the args name. The client refreshes the
// session, refuses locally while the org is held, and classifies what
// Salesforce answers; the error fn returns decides what becomes of the job, so
// return the client's errors as they are or wrapped with %w.
//
// River's timeout applies (river.Config.JobTimeout).
func AddWorker[TArgs LaneArgs, TTx any](h *Handlers[TTx], fn func(ctx context.Context, client *sfapi.Client, job *river.Job[TArgs]) error) {
	var zero TArgs
	if kind := zero.Kind(); slices.Contains(h.Kinds(), kind) {
		h.errs = append(h.errs, &FieldError{"Handlers", fmt.Sprintf("job kind %s has two workers", kind)})
		return
	}
	h.kinds = append(h.kinds, zero.Kind())
	h.workers = append(h.workers, func(workers *river.Workers, env *Env[TTx]) error {
		return river.AddWorkerSafely(workers, river.WorkFunc(func(ctx context.Context, job *river.Job[TArgs]) error {
			client, err := env.Client(ctx, job.Args.OrgID(), job.Args.Lane())
			if err != nil {
				return err
			}
			return fn(ctx, client, job)
		}))
	})
}
