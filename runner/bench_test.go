package runner_test

import (
	"context"
	"database/sql"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"github.com/weirhq/weir/breaker"
	"github.com/weirhq/weir/jobs"
	"github.com/weirhq/weir/runner"
	"github.com/weirhq/weir/runner/internal/pgtest"
	"github.com/weirhq/weir/sfapi"
	"github.com/weirhq/weir/sfapi/sftest"
)

// benchPool is large enough for many workers.
func benchPool(b *testing.B) *pgxpool.Pool {
	b.Helper()
	config, err := pgxpool.ParseConfig(pgtest.URL(b))
	if err != nil {
		b.Fatal(err)
	}
	config.MaxConns = 30
	pool, err := pgxpool.NewWithConfig(b.Context(), config)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(pool.Close)
	return pool
}

// BenchmarkSync mirrors 50,000 Accounts of 26 fields: every row by a first
// sync, and every row again by a full one. The org is simulated in this
// process, so its work is part of the figure; "query" is that part alone.
func BenchmarkSync(b *testing.B) {
	const rows = 50_000
	b.Run("sqlite", func(b *testing.B) { benchSync(b, sqliteFixture(b), rows) })
	b.Run("postgres", func(b *testing.B) { benchSync(b, fixtureOn(b, benchPool(b)), rows) })
	b.Run("query", func(b *testing.B) {
		f := newFixture(b, runner.Driver[*sql.Tx]{})
		f.org.Seed("Account", rows, 1)
		app := &sfapi.App{ClientID: sftest.DefaultClientID, ClientSecret: sftest.DefaultClientSecret, Transport: f.sim}
		tok, err := app.RefreshToken(b.Context(), "", sfapi.Secret(f.org.Grant()))
		if err != nil {
			b.Fatal(err)
		}
		client, err := sfapi.NewClient(f.orgID, app, sfapi.StaticToken(tok), nil)
		if err != nil {
			b.Fatal(err)
		}
		describe, err := client.Describe(b.Context(), "Account")
		if err != nil {
			b.Fatal(err)
		}
		soql := "SELECT Id"
		for _, field := range describe.Fields {
			if field.Name != "Id" && field.Type != "address" && field.Type != "base64" {
				soql += ", " + field.Name
			}
		}
		soql += " FROM Account ORDER BY SystemModstamp, Id"
		n := 0
		for b.Loop() {
			for page, err := range sfapi.QueryPages[sfapi.Record](b.Context(), client, soql, &sfapi.QueryOptions{All: true}) {
				if err != nil {
					b.Fatal(err)
				}
				n += len(page.Records)
			}
		}
		b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "rows/s")
	})
}

func benchSync[TTx any](b *testing.B, f *fixture[TTx], rows int) {
	f.org.Seed("Account", rows, 1)
	jobs.AddMirror(f.handlers, "Account", nil)
	r := f.running(b)
	done, cancel := r.River().Subscribe(river.EventKindJobCompleted, river.EventKindJobCancelled, river.EventKindJobFailed)
	defer cancel()
	full := func() int64 {
		if _, err := r.Insert(b.Context(), jobs.Sync{Org: f.orgID, Object: "Account", Mode: jobs.Full}, nil); err != nil {
			b.Fatal(err)
		}
		if e := <-done; e.Kind != river.EventKindJobCompleted {
			b.Fatalf("job is %s: %+v", e.Job.State, e.Job.Errors)
		}
		return f.state(b, r, "Account").LastRun.Rows
	}
	began := time.Now()
	n := full()
	if n < int64(rows) {
		b.Fatalf("%d rows, want %d", n, rows)
	}
	first := float64(n) / time.Since(began).Seconds()
	n = 0
	for b.Loop() {
		n += full()
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "rows/s")
	b.ReportMetric(first, "first-rows/s")
}

// noop is a job that does nothing, in the lane of an org and in a queue of
// River's alone.
type noop struct {
	Org sfapi.OrgID `json:"org"`
}

func (noop) Kind() string         { return "bench_noop" }
func (n noop) OrgID() sfapi.OrgID { return n.Org }
func (noop) Lane() breaker.Lane   { return breaker.Sync }

type plainNoop struct {
	Org sfapi.OrgID `json:"org"`
}

func (plainNoop) Kind() string { return "bench_plain" }

// BenchmarkJobs works 50,000 jobs that do nothing: by River from one queue, and
// by a Runner from the lanes of many orgs, through gate and guard, with as many
// workers. One operation is all of them, from Start until the last has run.
func BenchmarkJobs(b *testing.B) {
	const total, workers = 50_000, 200
	for _, orgs := range []int{100, 1000, 10_000} {
		b.Run(fmt.Sprintf("orgs=%d", orgs), func(b *testing.B) {
			var plainTime, weirTime time.Duration
			runs := 0
			for b.Loop() {
				runs++
				plainTime += benchPlain(b, total, workers)
				weirTime += benchLanes(b, total, orgs, workers)
			}
			perSecond := func(d time.Duration) float64 { return float64(runs*total) / d.Seconds() }
			b.ReportMetric(perSecond(plainTime), "river-jobs/s")
			b.ReportMetric(perSecond(weirTime), "weir-jobs/s")
			b.ReportMetric(plainTime.Seconds()/weirTime.Seconds(), "weir/river")
		})
	}
}

// countdown closes done when it was called total times.
func countdown(total int64) (tick func(), done chan struct{}) {
	var n atomic.Int64
	done = make(chan struct{})
	return func() {
		if n.Add(1) == total {
			close(done)
		}
	}, done
}

// fill inserts jobs in large batches.
func fill[TTx any](b *testing.B, client *river.Client[TTx], pool *pgxpool.Pool, total int, args func(i int) river.JobArgs) {
	b.Helper()
	many := make([]river.InsertManyParams, total)
	for i := range many {
		many[i].Args = args(i)
	}
	for len(many) > 0 {
		n := min(len(many), 5000)
		if _, err := client.InsertManyFast(b.Context(), many[:n]); err != nil {
			b.Fatal(err)
		}
		many = many[n:]
	}
	if _, err := pool.Exec(b.Context(), `VACUUM ANALYZE river_job`); err != nil {
		b.Fatal(err)
	}
}

func benchPlain(b *testing.B, total, workers int) time.Duration {
	b.Helper()
	pool := benchPool(b)
	f := fixtureOn(b, pool)
	f.migrated(b)
	tick, done := countdown(int64(total))
	bundle := river.NewWorkers()
	river.AddWorker(bundle, river.WorkFunc(func(context.Context, *river.Job[plainNoop]) error { tick(); return nil }))
	client, err := river.NewClient(riverpgxv5.New(pool), &river.Config{
		Logger: f.config(b).Logger, Workers: bundle, FetchCooldown: 5 * time.Millisecond,
		Queues: map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: workers}},
	})
	if err != nil {
		b.Fatal(err)
	}
	fill(b, client, pool, total, func(int) river.JobArgs { return plainNoop{Org: f.orgID} })
	began := time.Now()
	if err := client.Start(b.Context()); err != nil {
		b.Fatal(err)
	}
	<-done
	took := time.Since(began)
	if err := client.Stop(b.Context()); err != nil {
		b.Fatal(err)
	}
	return took
}

func benchLanes(b *testing.B, total, orgs, workers int) time.Duration {
	b.Helper()
	pool := benchPool(b)
	f := fixtureOn(b, pool)
	tick, done := countdown(int64(total))
	jobs.AddWorker(f.handlers, func(context.Context, *sfapi.Client, *river.Job[noop]) error { tick(); return nil })
	r := f.migrated(b, func(c *runner.Config[pgx.Tx]) { c.SyncWorkers = workers })
	ids := make([]sfapi.OrgID, orgs)
	for i := range ids {
		id, err := sfapi.ParseOrgID(fmt.Sprintf("00D%012d", i))
		if err != nil {
			b.Fatal(err)
		}
		if _, _, err = r.Orgs().Connect(b.Context(), &runner.ConnectParams{Token: &sfapi.Token{
			Access: sfapi.Secret(id + "!access"), Refresh: sfapi.Secret("refresh-" + id), InstanceURL: "https://" + id.Lower() + ".my.salesforce.com",
			Org: id, UserID: "005000000000001AAA", IssuedAt: time.Now(),
		}}); err != nil {
			b.Fatal(err)
		}
		ids[i] = id
	}
	fill(b, r.River(), pool, total, func(i int) river.JobArgs { return noop{Org: ids[i%orgs]} })
	began := time.Now()
	if err := r.Start(b.Context()); err != nil {
		b.Fatal(err)
	}
	<-done
	took := time.Since(began)
	if err := r.Stop(context.WithoutCancel(b.Context())); err != nil {
		b.Fatal(err)
	}
	return took
}
