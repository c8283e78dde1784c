package runner

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"
	"github.com/tidwall/gjson"

	"github.com/weirhq/weir/breaker"
	"github.com/weirhq/weir/jobs"
	"github.com/weirhq/weir/runner/internal/token"
	"github.com/weirhq/weir/sfapi"
)

// guard decides what River is told about each lane job: nothing, a snooze, a
// cancellation or an error. A job that is to run again goes back to its lane
// first, so that windows and holds govern it there.
type guard[TTx any] struct {
	river.MiddlewareDefaults

	runner *Runner[TTx]
}

var _ rivertype.WorkerMiddleware = (*guard[any])(nil)

// Work implements rivertype.WorkerMiddleware.
func (g *guard[TTx]) Work(ctx context.Context, job *rivertype.JobRow, doInner func(context.Context) error) error {
	ctx, left := withTrail(withJob(ctx, job.ID))
	lane := laneOfRunQueue(job.Queue)
	if lane == 0 {
		return doInner(ctx)
	}
	org, err := orgOfArgs(job.EncodedArgs)
	if err != nil {
		return river.JobCancel(err)
	}
	ctx, end := g.runner.tell.begin(ctx, job, org, lane)
	err = doInner(g.runner.pulse.begin(ctx))
	answer := g.answer(ctx, org, lane, job, left, err)
	end(outcomeOf(answer), err)
	return answer
}

// answer is what River is told of a job that returned err.
func (g *guard[TTx]) answer(ctx context.Context, org sfapi.OrgID, lane breaker.Lane, job *rivertype.JobRow, left *trail, err error) error {
	if (errors.Is(err, jobs.ErrLeaseLost) || errors.Is(err, ErrNoHeartbeat)) && g.disowned(ctx, job) {
		return river.JobSnooze(0) // River keeps the answer of whoever ran it since
	}
	if obs := left.take(); obs != nil && (err == nil || errors.Is(err, jobs.ErrYield)) {
		g.runner.holds.note(ctx, org, *obs)
	}
	g.learn(ctx, org, lane, err)
	v := judge(err)
	switch {
	case v.again && g.interrupted(ctx, err):
		v.err = keepPlace(job)
	case v.again:
		v.err = g.wait(ctx, org, lane, job, err, v.err)
	}
	if v.again {
		back, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		if err := g.runner.store.MoveRunning(back, job.ID, lane.Queue(org)); err != nil {
			// It stays in the run queue, where it runs again out of turn; that
			// is better than not at all.
			g.runner.logger.WarnContext(ctx, "move job back to its lane", "org", org, "lane", lane, "job_id", job.ID, "error", err)
		}
	}
	return v.err
}

// interrupted reports whether a job ended because this process stops. River
// would put it back behind what came since.
func (g *guard[TTx]) interrupted(ctx context.Context, err error) bool {
	select {
	case <-g.runner.draining:
		cause := context.Cause(ctx)
		return errors.Is(err, context.Canceled) && errors.Is(ctx.Err(), context.Canceled) &&
			!errors.Is(cause, rivertype.ErrJobCancelledRemotely)
	default:
		return false
	}
}

// disownedEvery is how often a process that lost a job looks whether it still
// runs elsewhere.
const disownedEvery = time.Second

// disowned reports whether a job is no longer this process's to answer for: it
// was taken for dead, and another has run the job since. River goes by the
// job's id alone, so that an answer given while the other runs it would end or
// repeat its work; disowned returns when it no longer runs.
func (g *guard[TTx]) disowned(ctx context.Context, job *rivertype.JobRow) bool {
	for {
		row, err := g.runner.river.JobGet(ctx, job.ID)
		switch {
		case errors.Is(err, river.ErrNotFound):
			return true
		case err != nil:
		case row.State != rivertype.JobStateRunning:
			return true
		case row.Attempt == job.Attempt && slices.Equal(row.AttemptedBy, job.AttemptedBy):
			return false
		}
		if !sleep(ctx, disownedEvery) {
			return true
		}
	}
}

// learn tells the breaker what it has not seen on the calls themselves: that a
// fresh token was refused, and that all rows of a call met the org's trouble.
func (g *guard[TTx]) learn(ctx context.Context, org sfapi.OrgID, lane breaker.Lane, err error) {
	h := g.runner.holds
	switch {
	case err == nil || ctx.Err() != nil:
	case sfapi.AfterRefresh(err):
		h.diagnose(ctx, org, lane, err)
	case errors.Is(err, jobs.ErrRowsRefused):
		g.runner.calls.rowsRefused(ctx, org, err)
		obs := breaker.Failed(lane, breaker.Mutate, sfapi.KindOf(err))
		obs.Evidence = []string{"rows of a write: " + describe(err)}
		h.note(ctx, org, obs)
	}
}

// wait is what River is told of a job that is to run again: where a hold stops
// its lane it waits there, whatever for, and without a time of its own. A hold
// of the other lane can refuse a call as well, read-only mode a Bulk read: then
// the lane goes on, and the job waits for the next look at the hold.
func (g *guard[TTx]) wait(ctx context.Context, org sfapi.OrgID, lane breaker.Lane, job *rivertype.JobRow, err, otherwise error) error {
	o, loadErr := g.runner.holds.org(context.WithoutCancel(ctx), org)
	if loadErr != nil {
		return otherwise
	}
	state := o.state.Load()
	for i := range state.Holds {
		if state.Holds[i].Stops(lane) {
			return keepPlace(job)
		}
	}
	if held, ok := errors.AsType[*breaker.HeldError](err); ok {
		onTrial := held.Hold.Phase == breaker.Trial // it lets writes through, and no Bulk read
		if hold := state.Hold(held.Hold.Reason); hold != nil && (onTrial || !hold.Covers(lane)) {
			return river.JobSnooze(heldPause(hold))
		}
		return keepPlace(job) // the hold went meanwhile
	}
	return otherwise
}

// placeMargin is more than passes between the reckoning of a snooze and River's.
const placeMargin = time.Second

// keepPlace is a snooze that gives a job its old place in its lane back, before
// what was enqueued with it and after it: the gate goes by scheduled_at, which
// River sets to now plus the snooze. JobSnooze itself takes no time that has
// passed; River does, and makes the job available.
func keepPlace(job *rivertype.JobRow) error {
	return &rivertype.JobSnoozeError{Duration: min(time.Until(job.ScheduledAt.Add(-placeMargin)), 0)}
}

// heldPause is how long a job waits for a hold that is not its lane's.
func heldPause(hold *breaker.Hold) time.Duration {
	due := hold.Due()
	if due.IsZero() {
		return firstOrgPause
	}
	// A moment more, for the probe itself.
	return min(max(time.Until(due), 0)+shortPause, maxOrgPause)
}

// verdict is what River is told, and whether the job will run again.
type verdict struct {
	err   error
	again bool
}

const (
	// busyPause is how long a job waits that found another of its object
	// running.
	busyPause = 2 * time.Second

	// shortPause is that after trouble that often passes at once: a connection
	// that broke, too many calls at a time. firstOrgPause is that after the
	// org's own refusal. maxOrgPause is the longest wait for a hold of another
	// lane.
	shortPause    = time.Second
	firstOrgPause = 30 * time.Second
	maxOrgPause   = 15 * time.Minute
)

// judge decides. It is the one place where a job's error becomes River's.
func judge(err error) verdict {
	var snooze *rivertype.JobSnoozeError
	var cancel *rivertype.JobCancelError
	var held *breaker.HeldError
	switch kind := sfapi.KindOf(err); {
	case err == nil:
		return verdict{}
	case errors.As(err, &cancel):
		return verdict{err: err}
	case errors.As(err, &snooze):
		return verdict{err: err, again: true}
	case errors.Is(err, jobs.ErrYield):
		return verdict{err: river.JobSnooze(0), again: true}
	case errors.Is(err, jobs.ErrBusy):
		return verdict{err: river.JobSnooze(busyPause), again: true}
	case errors.As(err, &held):
		return verdict{err: river.JobSnooze(0), again: true}
	case errors.Is(err, ErrBudgetLow):
		return verdict{err: river.JobSnooze(budgetPause()), again: true}
	case errors.Is(err, ErrNoHeartbeat), errors.Is(err, breaker.ErrTripped), errors.Is(err, token.ErrUnconfirmed), errors.Is(err, token.ErrOutcomeUnknown):
		return verdict{err: river.JobSnooze(shortPause), again: true}
	case errors.Is(err, context.Canceled):
		return verdict{err: err, again: true} // River puts it back when the process stops
	case sfapi.CountsAgainstOrg(err):
		return verdict{err: river.JobSnooze(orgPause(err)), again: true}
	case sfapi.Retryable(err), kind == sfapi.KindUnknown, kind == sfapi.KindInvalidQueryLocator:
		return verdict{err: err, again: true}
	default:
		return verdict{err: river.JobCancel(err)}
	}
}

// orgPause is how long a job waits whose org refused: what Salesforce asked
// for, or a moment with jitter: what lasts becomes a hold. The org's trouble
// costs no attempt.
func orgPause(err error) time.Duration {
	var e *sfapi.Error
	if errors.As(err, &e) && e.RetryAfter > 0 {
		return e.RetryAfter
	}
	pause := firstOrgPause
	if kind := sfapi.KindOf(err); kind == sfapi.KindServerUnavailable || kind == sfapi.KindConcurrentLimit {
		pause = shortPause
	}
	return pause - rand.N(pause/4)
}

func laneOfRunQueue(queue string) breaker.Lane {
	for _, lane := range breaker.AllLanes() {
		if queue == lane.RunQueue() {
			return lane
		}
	}
	return 0
}

// orgOfArgs reads the org that a lane job is for.
func orgOfArgs(args []byte) (sfapi.OrgID, error) {
	return sfapi.ParseOrgID(gjson.GetBytes(args, "org").String())
}
