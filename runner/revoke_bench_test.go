package runner_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"

	"github.com/weirhq/weir/jobs"
	"github.com/weirhq/weir/runner"
	"github.com/weirhq/weir/runner/runnerpgx"
	"github.com/weirhq/weir/sfapi"
)

// BenchmarkRevoke revokes an org with 50,000 waiting jobs and 200 running ones,
// noticed by a process that runs none of them. "ends-ms" is from the hold to the
// last running job's context having ended, "told-s" to the event, which comes
// when all is cancelled; the time of an operation has the call before it too,
// which asks again whether the grant is really gone. "others-ratio" is what of
// another org's fifty jobs a second ran meanwhile, against before. Beside it
// River's JobCancel, one by one.
func BenchmarkRevoke(b *testing.B) {
	const waiting, running, oneByOne = 50_000, 200, 2_000
	for b.Loop() {
		b.StopTimer()
		pool := benchPool(b)
		f := fixtureOn(b, pool)
		var started atomic.Int64
		causes := make(chan error, running)
		f.addBlocked(&started, causes)
		var others atomic.Int64
		jobs.AddWorker(f.handlers, func(context.Context, *sfapi.Client, *river.Job[ask]) error {
			others.Add(1)
			return nil
		})
		r := f.running(b, func(c *runner.Config[pgx.Tx]) { c.SyncWindow, c.SyncWorkers = running, running+8 })
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
		stopOthers := f.workAnother(b, r)
		rate := func(from time.Time, n int64) float64 { return float64(others.Load()-n) / time.Since(from).Seconds() }
		n, from := others.Load(), time.Now()
		eventually(b, "jobs of another org run", func() bool { return others.Load()-n >= 100 })
		before := rate(from, n)
		f.org.ExpireSessions()
		f.org.RevokeAll()
		ended := make(chan time.Time, 1)
		go func() {
			for range running {
				<-causes
			}
			ended <- time.Now()
		}()

		n, from = others.Load(), time.Now()
		b.StartTimer()
		if err := runner.Call(other, b.Context(), f.orgID); err == nil {
			b.Fatal("a call for a revoked org succeeded")
		}
		b.StopTimer()
		done := time.Now()
		b.ReportMetric(rate(from, n)/before, "others-ratio")
		stopOthers()
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

// workAnother has jobs of another org enqueued, fifty a second, until it is told
// to stop.
func (f *fixture[TTx]) workAnother(b *testing.B, r *runner.Runner[TTx]) (stop func()) {
	b.Helper()
	org, _, err := r.Orgs().Connect(b.Context(), &runner.ConnectParams{RefreshToken: sfapi.Secret(f.sim.AddOrg(nil).Grant())})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for tick := time.NewTicker(20 * time.Millisecond); ; {
			select {
			case <-tick.C:
				if _, err := r.Insert(ctx, ask{Org: org.ID}, nil); err != nil && ctx.Err() == nil {
					b.Error(err)
				}
			case <-ctx.Done():
				tick.Stop()
				return
			}
		}
	}()
	return func() { cancel(); <-ended }
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
