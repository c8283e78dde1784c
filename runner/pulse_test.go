package runner_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"

	"github.com/weirhq/weir/jobs"
	"github.com/weirhq/weir/runner"
	"github.com/weirhq/weir/runner/internal/pgtest"
	"github.com/weirhq/weir/sfapi"
	"github.com/weirhq/weir/sfapi/sftest"
)

// A process that cannot record its heartbeat is taken for dead by the others:
// its jobs make no more calls, those too that began before and go on once the
// heartbeat is back, and run again without having spent an attempt.
func TestNoHeartbeatNoCalls(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t)
	f := fixtureOn(t, pool)
	began, goOn := make(chan struct{}), make(chan struct{})
	refusals := make(chan error, 16)
	var runs atomic.Int64
	var calls [2]int64 // before and after the refused calls
	jobs.AddWorker(f.handlers, func(ctx context.Context, client *sfapi.Client, job *river.Job[ask]) error {
		if runs.Add(1) > 1 {
			return askOnce(ctx, client, job)
		}
		close(began)
		for { // until it is refused
			calls[0] = f.org.Calls(sftest.OpQuery)
			if err := askOnce(ctx, client, job); err != nil {
				refusals <- err
				break
			}
		}
		select {
		case <-goOn: // the heartbeat is back
		case <-ctx.Done():
			return ctx.Err()
		}
		err := askOnce(ctx, client, job)
		calls[1] = f.org.Calls(sftest.OpQuery)
		refusals <- err
		return err
	})
	r := f.running(t, func(c *runner.Config[pgx.Tx]) { c.DeadWorkerAfter = time.Second })
	job, err := r.Insert(t.Context(), ask{Org: f.orgID}, nil)
	if err != nil {
		t.Fatal(err)
	}
	<-began
	unlock := lockHeartbeats(t, pool)
	if err := <-refusals; !errors.Is(err, runner.ErrNoHeartbeat) {
		t.Fatalf("without a heartbeat a call ended with %v", err)
	}
	unlock()
	beats := func() int {
		var n int
		noError(t, pool.QueryRow(t.Context(), `SELECT count(*) FROM weir_worker WHERE seen_at > now() - interval '500 milliseconds'`).Scan(&n))
		return n
	}
	eventually(t, "the heartbeat is back", func() bool { return beats() == 1 })
	close(goOn)
	if err := <-refusals; !errors.Is(err, runner.ErrNoHeartbeat) {
		t.Errorf("a job that others may have taken made a call again: %v", err)
	}
	eventually(t, "the job is done", func() bool {
		row, err := r.River().JobGet(t.Context(), job.Job.ID)
		noError(t, err)
		return row.FinalizedAt != nil
	})
	row, err := r.River().JobGet(t.Context(), job.Job.ID)
	noError(t, err)
	if row.Attempt != 1 || len(row.Errors) != 0 {
		t.Errorf("the job ended with attempt %d and errors %v", row.Attempt, row.Errors)
	}
	if calls[0] != calls[1] {
		t.Errorf("%d refused calls reached the org", calls[1]-calls[0])
	}
}

// lockHeartbeats keeps every process from recording its heartbeat.
func lockHeartbeats(t *testing.T, pool *pgxpool.Pool) (unlock func()) {
	t.Helper()
	tx, err := pool.Begin(t.Context())
	noError(t, err)
	_, err = tx.Exec(t.Context(), `LOCK TABLE weir_worker IN ACCESS EXCLUSIVE MODE`)
	noError(t, err)
	unlock = sync.OnceFunc(func() { noError(t, tx.Rollback(context.WithoutCancel(t.Context()))) })
	t.Cleanup(unlock)
	return unlock
}
