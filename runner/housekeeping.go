package runner

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/weirhq/weir/jobs"
	"github.com/weirhq/weir/sfapi"
)

const (
	// beatsPerDeath is how many heartbeats a process may miss.
	beatsPerDeath = 6

	// undrainedAge is how long records may lie in the write log with no job to
	// drain them before the sweep inserts one.
	undrainedAge = time.Minute

	sweepEvery = 30 * time.Second
	sweepLimit = 1000
)

// heartbeat shows the other processes that this one lives, and puts back the
// jobs of those that do not.
func (r *Runner[TTx]) heartbeat(ctx context.Context) {
	every := r.config.DeadWorkerAfter / beatsPerDeath
	for sleep(ctx, every-rand.N(every/5+1)) {
		if err := r.beat(ctx); err != nil {
			if ctx.Err() == nil {
				r.logger.ErrorContext(ctx, "heartbeat", "process", r.process, "error", err)
			}
			continue
		}
		n, err := r.store.Rescue(ctx, r.config.DeadWorkerAfter)
		if err != nil && ctx.Err() == nil {
			r.logger.ErrorContext(ctx, "rescue jobs of dead processes", "error", err)
		}
		if n > 0 {
			r.logger.WarnContext(ctx, "put back jobs of dead processes", "jobs", n)
		}
	}
}

func (r *Runner[TTx]) beat(ctx context.Context) error {
	began := time.Now()
	if err := r.store.Beat(ctx, r.process); err != nil {
		return err
	}
	r.pulse.beat(began)
	return nil
}

// sweep gives records of the write log a job that have none: the one they had
// was deleted or cancelled by hand, or spent its attempts.
func (r *Runner[TTx]) sweep(ctx context.Context) {
	for sleep(ctx, sweepEvery+rand.N(sweepEvery)) {
		todo, err := r.store.Undrained(ctx, undrainedAge, sweepLimit)
		if err != nil {
			if ctx.Err() == nil {
				r.logger.ErrorContext(ctx, "look for records without a job", "error", err)
			}
			continue
		}
		for _, args := range todo {
			if err := r.drainAgain(ctx, args); err != nil && ctx.Err() == nil {
				r.logger.ErrorContext(ctx, "give records a job", "org", args.Org, "object", args.Object, "error", err)
			}
		}
	}
}

func (r *Runner[TTx]) drainAgain(ctx context.Context, args jobs.WriteArgs) error {
	err := r.store.InTx(ctx, func(ctx context.Context, tx TTx) error {
		if err := r.checkOrg(ctx, tx, args.Org); err != nil {
			return err
		}
		_, err := r.river.InsertTx(ctx, tx, args, nil)
		return err
	})
	if errors.Is(err, ErrReauthRequired) {
		return nil // records that were sent wait for the reconnect
	}
	return err
}

// watchOrgs tells what this process caches when an org's row changes.
func (r *Runner[TTx]) watchOrgs(ctx context.Context) {
	for ctx.Err() == nil {
		err := r.store.ListenOrgs(ctx, func(id sfapi.OrgID) {
			r.tokens.Changed(id)
			r.holds.changes.add(id)
		})
		if err != nil && ctx.Err() == nil {
			r.logger.WarnContext(ctx, "listen for orgs again", "error", err)
		}
		sleep(ctx, time.Second)
	}
}
