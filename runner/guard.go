package runner

import (
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
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
	lane := laneOfRunQueue(job.Queue)
	if lane == 0 {
		return doInner(ctx)
	}
	org, err := orgOfArgs(job.EncodedArgs)
	if err != nil {
		return river.JobCancel(err)
	}
	err = doInner(ctx)
	g.learn(ctx, org, lane, err)
	v := judge(err, job)
	if v.again && g.held(ctx, org, lane) {
		v.err = river.JobSnooze(0) // the lane is stopped: there it waits, whatever for
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

// learn tells the breaker what it has not seen on the calls themselves: that a
// fresh token was refused, and that all rows of a call met the org's trouble.
func (g *guard[TTx]) learn(ctx context.Context, org sfapi.OrgID, lane breaker.Lane, err error) {
	h := g.runner.holds
	switch {
	case err == nil || ctx.Err() != nil:
	case sfapi.AfterRefresh(err):
		h.diagnose(ctx, org, lane, err)
	case errors.Is(err, jobs.ErrRowsRefused):
		obs := breaker.Failed(lane, breaker.Mutate, sfapi.KindOf(err))
		obs.Evidence = []string{"rows of a write: " + describe(err)}
		h.note(ctx, org, obs)
	}
}

// held reports whether a hold stops the lane, but for the trials that the gate
// lets through.
func (g *guard[TTx]) held(ctx context.Context, org sfapi.OrgID, lane breaker.Lane) bool {
	o, err := g.runner.holds.org(context.WithoutCancel(ctx), org)
	return err == nil && o.state.Load().Covers(lane) != nil
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

	// shortPause is the first after trouble that often passes at once: a
	// connection that broke, too many calls at a time. firstOrgPause is the
	// first after the org's own refusal. Both double up to maxOrgPause.
	shortPause    = time.Second
	firstOrgPause = 30 * time.Second
	maxOrgPause   = 15 * time.Minute
)

// judge decides. It is the one place where a job's error becomes River's.
func judge(err error, job *rivertype.JobRow) verdict {
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
	case errors.Is(err, breaker.ErrTripped), errors.Is(err, token.ErrUnconfirmed), errors.Is(err, token.ErrOutcomeUnknown):
		return verdict{err: river.JobSnooze(shortPause), again: true}
	case errors.Is(err, context.Canceled):
		return verdict{err: err, again: true} // River puts it back when the process stops
	case sfapi.CountsAgainstOrg(err):
		return verdict{err: river.JobSnooze(orgPause(err, job)), again: true}
	case sfapi.Retryable(err), kind == sfapi.KindUnknown, kind == sfapi.KindInvalidQueryLocator:
		return verdict{err: err, again: true}
	default:
		return verdict{err: river.JobCancel(err)}
	}
}

// orgPause is how long a job waits whose org refused: what Salesforce asked
// for, or a doubling time with jitter. The org's trouble costs no attempt.
func orgPause(err error, job *rivertype.JobRow) time.Duration {
	var e *sfapi.Error
	if errors.As(err, &e) && e.RetryAfter > 0 {
		return e.RetryAfter
	}
	var meta struct {
		Snoozes int `json:"snoozes"`
	}
	_ = json.Unmarshal(job.Metadata, &meta) // without a count the first pause is right
	pause := firstOrgPause
	if kind := sfapi.KindOf(err); kind == sfapi.KindServerUnavailable || kind == sfapi.KindConcurrentLimit {
		pause = shortPause
	}
	for range min(meta.Snoozes, 10) {
		pause = min(2*pause, maxOrgPause)
	}
	return pause - time.Duration(rand.Int64N(int64(pause)/4))
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
