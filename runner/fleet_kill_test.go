package runner_test

import (
	"errors"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/riverqueue/river"

	"github.com/weirhq/weir/breaker"
	"github.com/weirhq/weir/jobs"
	"github.com/weirhq/weir/sfapi/sftest"
)

// killed waits until the worker has killed itself.
func (w *workerProcess) killed(t *testing.T) {
	t.Helper()
	ended := make(chan error, 1)
	go func() { ended <- w.cmd.Wait() }()
	var err error
	select {
	case err = <-ended:
	case <-time.After(2 * time.Minute):
		_ = w.cmd.Process.Kill()
		<-ended
		t.Fatalf("the worker never came to its step\n%s", w.log)
	}
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("the worker ended with %v\n%s", err, w.log)
	}
}

// A worker process that is killed at any step of a hold or of its end leaves
// nothing that the next one does not finish or undo.
func TestKilledAtHold(t *testing.T) {
	t.Parallel()
	for _, step := range []string{
		diesBeforeHold, diesAfterHold, diesBeforeProbe, diesAfterProbe,
		diesBeforeTrial, diesAfterTrial, diesAfterTrialWrite, diesBeforeLift, diesAfterLift,
	} {
		t.Run(strings.ReplaceAll(step, "'", ""), func(t *testing.T) {
			t.Parallel()
			testKilledAtHold(t, step)
		})
	}
}

func testKilledAtHold(t *testing.T, step string) {
	const records = 600 // three calls
	f := newFleet(t, 1, 100*time.Millisecond)
	f.env = append(f.env, workerDead+"=1s")
	o := f.orgs[0]
	o.SetReadOnly(sftest.ReadOnly)
	f.write(t, o, "Contact", records)
	doomed := startWorker(t, append(f.env, workerDies+"="+step)...)
	switch step {
	case diesBeforeHold, diesAfterHold, diesBeforeProbe, diesAfterProbe:
		doomed.killed(t)
		next := time.Now()
		f.work(t, 1)
		eventually(t, "the org is held", func() bool { return len(f.holdsOf(t, o)) == 1 })
		probed := len(o.probes(time.Time{}, time.Now()))
		eventually(t, "the next process probes", func() bool { return len(o.probes(time.Time{}, time.Now())) > probed })
		f.agreed(t)
		t.Logf("our rows and River's agreed %v after the next process was started", time.Since(next))
		if h := f.holdsOf(t, o); len(h) != 1 || h[0].Reason != breaker.ReasonMaintenance {
			t.Errorf("the org is held by %+v", h)
		}
		o.SetReadOnly(sftest.ReadWrite)
	default:
		eventually(t, "the org is held", func() bool { return len(f.holdsOf(t, o)) == 1 })
		o.SetReadOnly(sftest.ReadWrite)
		doomed.killed(t)
		f.work(t, 1)
	}
	next := time.Now()
	f.drained(t)
	eventually(t, "the org is open", func() bool { return len(f.holdsOf(t, o)) == 0 })
	f.agreed(t)
	t.Logf("all was done %v after the next process was there", time.Since(next))
	f.stop(t)
	f.onceInOrder(t, 200)
	if n := f.count(t, `SELECT count(*) FROM river_job WHERE state <> 'completed'`); n != 0 {
		t.Errorf("%d jobs did not complete", n)
	}
}

// A worker process that is killed while it cancels the work of an org whose
// grant is gone leaves the rest to the next one.
func TestKilledAtRevocation(t *testing.T) {
	t.Parallel()
	for _, step := range []string{diesBeforeRevocation, diesAfterRevocation, diesBetweenBatches} {
		t.Run(strings.ReplaceAll(step, "'", ""), func(t *testing.T) {
			t.Parallel()
			const waiting = 6000 // more than a batch
			f := newFleet(t, 1, time.Minute)
			f.env = append(f.env, workerDead+"=1s")
			o := f.orgs[0]
			o.RevokeAll()
			f.write(t, o, "Contact", 10)
			many := make([]river.InsertManyParams, waiting)
			for i := range many {
				many[i] = river.InsertManyParams{Args: ask{Org: o.id(), N: i}}
			}
			if _, err := f.r.River().InsertManyFast(t.Context(), many); err != nil {
				t.Fatal(err)
			}
			startWorker(t, append(f.env, workerDies+"="+step)...).killed(t)
			next := time.Now()
			f.work(t, 1)
			f.drained(t)
			// What the killed process may have sent is not known to be pending.
			eventually(t, "no record is pending", func() bool {
				return f.count(t, `SELECT count(*) FROM weir_write_record WHERE status NOT IN ('cancelled', 'sent')`) == 0
			})
			f.agreed(t)
			t.Logf("all was cancelled %v after the next process was started", time.Since(next))
			f.stop(t)
			if h := f.holdsOf(t, o); len(h) != 1 || h[0].Reason != breaker.ReasonReauth {
				t.Errorf("the org is held by %+v", h)
			}
			if n := f.count(t, `SELECT count(*) FROM river_job WHERE kind = 'app_ask' AND state <> 'cancelled'`); n != 0 {
				t.Errorf("%d jobs are not cancelled", n)
			}
			if _, err := f.r.Insert(t.Context(), jobs.Sync{Org: o.id(), Object: "Account"}, nil); err == nil {
				t.Error("a revoked org takes jobs")
			}
		})
	}
}
