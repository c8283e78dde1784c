package runner_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"

	"github.com/weirhq/weir/runner"
	"github.com/weirhq/weir/runner/runnerpgx"
)

// BenchmarkRevoke revokes an org with 50,000 waiting jobs and 200 running ones,
// noticed by a process that runs none of them. "ends-ms" is from the hold to the
// last running job's context having ended, "told-s" to the event, which comes
// when all is cancelled; the time of an operation has the call before it too,
// which asks again whether the grant is really gone. Beside it River's JobCancel,
// one by one.
func BenchmarkRevoke(b *testing.B) {
	const waiting, running, oneByOne = 50_000, 200, 2_000
	for b.Loop() {
		b.StopTimer()
		pool := benchPool(b)
		f := fixtureOn(b, pool)
		var started atomic.Int64
		causes := make(chan error, running)
		f.addBlocked(&started, causes)
		r := f.running(b, func(c *runner.Config[pgx.Tx]) { c.SyncWindow, c.SyncWorkers = running, running })
		cfg := f.config(b)
		cfg.Handlers = nil
		other, err := runner.New(runnerpgx.New(pool), cfg)
		if err != nil {
			b.Fatal(err)
		}
		many := make([]river.InsertManyParams, 0, 5000)
		for i := range waiting + running {
			many = append(many, river.InsertManyParams{Args: blocked{Org: f.orgID, N: i}})
			if len(many) == cap(many) || i == waiting+running-1 {
				if _, err := r.River().InsertManyFast(b.Context(), many); err != nil {
					b.Fatal(err)
				}
				many = many[:0]
			}
		}
		eventually(b, "the window is full", func() bool { return started.Load() == running })
		if err := runner.Call(other, b.Context(), f.orgID); err != nil {
			b.Fatal(err)
		}
		f.org.ExpireSessions()
		f.org.RevokeAll()
		ended := make(chan time.Time, 1)
		go func() {
			for range running {
				<-causes
			}
			ended <- time.Now()
		}()

		b.StartTimer()
		if err := runner.Call(other, b.Context(), f.orgID); err == nil {
			b.Fatal("a call for a revoked org succeeded")
		}
		b.StopTimer()
		done := time.Now()
		org, err := r.Orgs().Get(b.Context(), f.orgID)
		if err != nil {
			b.Fatal(err)
		}
		revoked := org.Holds[0].Since
		all := done.Sub(revoked)
		events, err := r.Events(b.Context(), 0, 0)
		if err != nil {
			b.Fatal(err)
		}
		last := events[len(events)-1]
		if last.JobsCancelled != waiting+running {
			b.Fatalf("event %+v", last)
		}
		b.ReportMetric(float64((<-ended).Sub(revoked).Milliseconds()), "ends-ms")
		b.ReportMetric(all.Seconds(), "told-s")
		b.ReportMetric(float64(waiting+running)/all.Seconds(), "jobs/s")

		rows, err := r.River().InsertMany(b.Context(), scheduledMany(f, oneByOne))
		if err != nil {
			b.Fatal(err)
		}
		begun := time.Now()
		for _, row := range rows {
			if _, err := r.River().JobCancel(b.Context(), row.Job.ID); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(oneByOne/time.Since(begun).Seconds(), "JobCancel/s")
		b.StartTimer()
	}
}

// scheduledMany are jobs that nobody works now.
func scheduledMany(f *fixture[pgx.Tx], n int) []river.InsertManyParams {
	many := make([]river.InsertManyParams, n)
	for i := range many {
		many[i] = river.InsertManyParams{
			Args:       blocked{Org: f.orgID, N: i},
			InsertOpts: &river.InsertOpts{ScheduledAt: time.Now().Add(time.Hour)},
		}
	}
	return many
}
