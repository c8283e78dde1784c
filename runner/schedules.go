package runner

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/riverqueue/river"

	"github.com/weirhq/weir/jobs"
	"github.com/weirhq/weir/runner/internal/store"
	"github.com/weirhq/weir/sfapi"
)

// ErrScheduleNotFound is returned for a schedule that does not exist.
var ErrScheduleNotFound = errors.New("schedule not found")

const (
	// MinEvery and MaxEvery bound how often a schedule enqueues its sync.
	MinEvery = time.Second
	MaxEvery = 30 * 24 * time.Hour

	// maxFirstDelay bounds the wait for a schedule's first run.
	maxFirstDelay = 30 * time.Second

	scheduleTick  = time.Second
	scheduleBatch = 200
)

// Schedule is a sync that is enqueued again and again. An org has one for an
// object at most.
type Schedule struct {
	ID   int64
	Sync jobs.Sync

	// Every is the longest time between two runs; up to a tenth less, by
	// chance, so that the schedules of many orgs spread.
	Every time.Duration

	NextRun time.Time
}

// Schedules enqueues syncs again and again. Any process may set them; those
// that work jobs run them, each run once over all processes. A run whose object
// already waits is merged with the job that waits, and schedules of an org
// without a usable grant rest until it has one.
type Schedules[TTx any] struct{ runner *Runner[TTx] }

// Schedules returns the schedules of syncs.
func (r *Runner[TTx]) Schedules() *Schedules[TTx] { return &Schedules[TTx]{r} }

// Set makes a sync run every so often, beginning within a tenth of that or 30
// seconds, or changes the schedule that its org and object have. Where every
// stays as it was, so does the time of the next run.
//
// Errors: as InsertTx for the sync, and a jobs.FieldError for every.
func (s *Schedules[TTx]) Set(ctx context.Context, sync jobs.Sync, every time.Duration) (*Schedule, error) {
	r := s.runner
	err := sync.Validate()
	if every < MinEvery || every > MaxEvery {
		err = errors.Join(err, &jobs.FieldError{Field: "Every", Message: fmt.Sprintf("%v is not between %v and %v", every, MinEvery, MaxEvery)})
	}
	if err == nil {
		err = r.checkHandler(sync.Object)
	}
	if err != nil {
		return nil, fmt.Errorf("schedule: %w", err)
	}
	org, _ := sfapi.ParseOrgID(string(sync.Org)) // Validate has checked it
	every = every.Truncate(time.Millisecond)
	row := &store.Schedule{Org: org, Object: sync.Object, Mode: sync.Mode, Fields: sync.Fields, Every: every}
	err = r.store.InTx(ctx, func(ctx context.Context, tx TTx) error {
		if err := r.checkOrg(ctx, tx, org); err != nil {
			return err
		}
		row.NextRun = time.Now().UTC().Add(rand.N(min(every/10, maxFirstDelay) + 1)).Truncate(time.Microsecond)
		return r.store.SetScheduleTx(ctx, tx, row)
	})
	if err != nil {
		return nil, fmt.Errorf("schedule sync of %s for org %s: %w", sync.Object, org, err)
	}
	return publicSchedule(row), nil
}

// List returns an org's schedules by object.
func (s *Schedules[TTx]) List(ctx context.Context, org sfapi.OrgID) ([]*Schedule, error) {
	rows, err := s.runner.store.OrgSchedules(ctx, org)
	if err != nil {
		return nil, err
	}
	out := make([]*Schedule, len(rows))
	for i, row := range rows {
		out[i] = publicSchedule(row)
	}
	return out, nil
}

// End removes the schedule of an org's object. A run that waits or is under way
// goes on. ErrScheduleNotFound when there is none.
func (s *Schedules[TTx]) End(ctx context.Context, org sfapi.OrgID, object string) error {
	ended, err := s.runner.store.EndSchedule(ctx, org, object)
	if err == nil && !ended {
		err = fmt.Errorf("end schedule of %s of org %s: %w", object, org, ErrScheduleNotFound)
	}
	return err
}

func publicSchedule(s *store.Schedule) *Schedule {
	return &Schedule{
		ID: s.ID, Every: s.Every, NextRun: s.NextRun,
		Sync: jobs.Sync{Org: s.Org, Object: s.Object, Mode: s.Mode, Fields: s.Fields},
	}
}

// schedule enqueues the syncs that are due. Every process asks; a schedule is
// claimed by one of them.
func (r *Runner[TTx]) schedule(ctx context.Context) {
	for sleep(ctx, scheduleTick-rand.N(scheduleTick/5)) {
		for more := true; more; {
			n, err := r.enqueueDue(ctx)
			if err != nil && ctx.Err() == nil {
				r.logger.ErrorContext(ctx, "enqueue scheduled syncs", "error", err)
			}
			more = err == nil && n == scheduleBatch
		}
	}
}

// enqueueDue claims schedules that are due, and inserts their syncs in the same
// transaction. It returns how many it claimed.
func (r *Runner[TTx]) enqueueDue(ctx context.Context) (int, error) {
	var n int
	err := r.store.InTx(ctx, func(ctx context.Context, tx TTx) error {
		due, err := r.store.ClaimSchedulesTx(ctx, tx, scheduleBatch)
		if err != nil {
			return err
		}
		n = len(due)
		var inserts []river.InsertManyParams
		for _, s := range due {
			if !s.Connected || r.checkHandler(s.Object) != nil {
				continue
			}
			args := publicSchedule(&s.Schedule).Sync
			if waiting, err := r.waitingSync(ctx, tx, &args); err != nil {
				return err
			} else if waiting != nil {
				continue
			}
			// One that waits with other fields does not do this run's work, but
			// while it waits, on a held org for days, runs must not pile up
			// behind it.
			id, err := r.store.WaitingJobTx(ctx, tx, args.Kind(), args.Org, args.Object)
			if err != nil {
				return err
			}
			if id == 0 {
				inserts = append(inserts, river.InsertManyParams{Args: args})
			}
		}
		if len(inserts) == 0 {
			return nil
		}
		_, err = r.river.InsertManyTx(ctx, tx, inserts)
		return err
	})
	return n, err
}

// checkHandler reports an object that no worker of this configuration could
// sync. A runner that only enqueues does not know.
func (r *Runner[TTx]) checkHandler(object string) error {
	if h := r.config.Handlers; h != nil && !h.CanSync(object) {
		return &jobs.FieldError{Field: "Object", Message: object + " has no handler"}
	}
	return nil
}
