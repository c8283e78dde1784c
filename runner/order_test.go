package runner_test

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"

	"github.com/weirhq/weir/breaker"
	"github.com/weirhq/weir/jobs"
	"github.com/weirhq/weir/runner"
	"github.com/weirhq/weir/sfapi"
	"github.com/weirhq/weir/sfapi/sftest"
)

// Jobs of a lane whose window is one keep their order over a hold: the job that
// met the refusal takes its place before those that were enqueued with it.
func TestHeldJobsKeepTheirOrder(t *testing.T) {
	t.Parallel()
	onBoth(t, testHeldJobsKeepTheirOrder[*sql.Tx], testHeldJobsKeepTheirOrder[pgx.Tx])
}

func testHeldJobsKeepTheirOrder[TTx any](t *testing.T, f *fixture[TTx]) {
	var mu sync.Mutex // protects created
	var created []string
	jobs.AddWorker(f.handlers, func(ctx context.Context, client *sfapi.Client, job *river.Job[lead]) error {
		if _, err := client.Create(ctx, "Contact", map[string]string{"LastName": "Lead", "Email": job.Args.Email}); err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		created = append(created, job.Args.Email)
		return nil
	})
	r := f.running(t, quickProbes)
	f.org.SetReadOnly(sftest.ReadOnly)
	var want []string
	var ids []int64
	insert := func(n int) {
		var many []river.InsertManyParams
		for range n {
			email := fmt.Sprintf("lead%02d@example.com", len(want))
			want = append(want, email)
			many = append(many, river.InsertManyParams{Args: lead{Org: f.orgID, Email: email}})
		}
		rows, err := r.River().InsertMany(t.Context(), many) // one statement, one scheduled_at
		if err != nil {
			t.Fatal(err)
		}
		for _, row := range rows {
			ids = append(ids, row.Job.ID)
		}
	}
	insert(4)
	f.waitForHold(t, r, breaker.ReasonMaintenance)
	insert(4)
	f.org.SetReadOnly(sftest.ReadWrite)
	for _, id := range ids {
		if job := f.ended(t, r, id); job.Attempt != 1 || len(job.Errors) != 0 {
			t.Errorf("job %d ended with attempt %d and errors %v", id, job.Attempt, job.Errors)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if !slices.Equal(created, want) {
		t.Errorf("created in the order %v, want %v", created, want)
	}
}

// A job that a stopping process interrupts goes on before those behind it.
func TestInterruptedJobKeepsItsPlace(t *testing.T) {
	t.Parallel()
	onBoth(t, testInterruptedJobKeepsItsPlace[*sql.Tx], testInterruptedJobKeepsItsPlace[pgx.Tx])
}

func testInterruptedJobKeepsItsPlace[TTx any](t *testing.T, f *fixture[TTx]) {
	var mu sync.Mutex // protects done
	var done []string
	var stopping atomic.Bool
	stopping.Store(true)
	reached := make(chan struct{})
	jobs.AddWorker(f.handlers, func(ctx context.Context, _ *sfapi.Client, job *river.Job[lead]) error {
		if stopping.Load() {
			close(reached) // one at a time runs
			<-ctx.Done()
			return fmt.Errorf("work: %w", ctx.Err())
		}
		mu.Lock()
		defer mu.Unlock()
		done = append(done, job.Args.Email)
		return nil
	})
	r := f.migrated(t, func(c *runner.Config[TTx]) { c.StopTimeout = time.Millisecond })
	f.connect(t, r)
	if err := r.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := []string{"a@example.com", "b@example.com", "c@example.com"}
	var many []river.InsertManyParams
	for _, email := range want {
		many = append(many, river.InsertManyParams{Args: lead{Org: f.orgID, Email: email}})
	}
	rows, err := r.River().InsertMany(t.Context(), many)
	if err != nil {
		t.Fatal(err)
	}
	<-reached
	if err := r.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	stopping.Store(false)
	next := f.migrated(t)
	start(t, next)
	for _, row := range rows {
		if job := f.ended(t, next, row.Job.ID); job.Attempt != 1 || len(job.Errors) != 0 {
			t.Errorf("job %d ended with attempt %d and errors %v", job.ID, job.Attempt, job.Errors)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if !slices.Equal(done, want) {
		t.Errorf("done in the order %v, want %v", done, want)
	}
}
