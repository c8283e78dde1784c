package runner_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"

	"github.com/weirhq/weir/breaker"
	"github.com/weirhq/weir/jobs"
	"github.com/weirhq/weir/runner"
	"github.com/weirhq/weir/runner/internal/pgtest"
	"github.com/weirhq/weir/runner/runnerpgx"
	"github.com/weirhq/weir/sfapi"
)

// nap is a job that takes ten milliseconds and makes no call.
type nap struct {
	Org sfapi.OrgID `json:"org"`
}

func (nap) Kind() string         { return "app_nap" }
func (n nap) OrgID() sfapi.OrgID { return n.Org }
func (nap) Lane() breaker.Lane   { return breaker.Sync }

// statementCounter counts the statements of a pool's connections.
type statementCounter struct{ n atomic.Int64 }

func (c *statementCounter) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	c.n.Add(1)
	return ctx
}
func (c *statementCounter) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func (c *statementCounter) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	return ctx
}
func (c *statementCounter) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {
	c.n.Add(1)
}
func (c *statementCounter) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData) {}

// noRows answers every query with no row. It remembers nothing, so that the
// memory that is measured is the runner's.
type noRows struct{}

func (noRows) RoundTrip(req *http.Request) (*http.Response, error) {
	return &http.Response{
		StatusCode: 200, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: req,
		Header: http.Header{"Content-Type": {"application/json;charset=UTF-8"}, "Sforce-Limit-Info": {"api-usage=18/100000"}},
		Body:   io.NopCloser(strings.NewReader(`{"totalSize":0,"done":true,"records":[]}`)),
	}, nil
}

// crowd is a runner in this process and its orgs.
type crowd struct {
	r          *runner.Runner[pgx.Tx]
	pool       *pgxpool.Pool
	orgs       []sfapi.OrgID
	statements statementCounter
	napped     atomic.Int64 // jobs of all orgs but the first
}

func newCrowd(b testing.TB, orgs int) *crowd {
	b.Helper()
	c := &crowd{}
	config, err := pgxpool.ParseConfig(pgtest.URL(b))
	noError(b, err)
	config.MaxConns = 20
	config.ConnConfig.Tracer = &c.statements
	c.pool, err = pgxpool.NewWithConfig(b.Context(), config)
	noError(b, err)
	b.Cleanup(c.pool.Close)
	keys, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	noError(b, err)
	sealer, err := aead.New(keys)
	noError(b, err)
	handlers := jobs.NewHandlers[pgx.Tx]()
	jobs.AddWorker(handlers, askOnce)
	jobs.AddWorker(handlers, func(ctx context.Context, _ *sfapi.Client, job *river.Job[nap]) error {
		t := time.NewTimer(10 * time.Millisecond)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		if job.Args.Org != c.orgs[0] {
			c.napped.Add(1)
		}
		return nil
	})
	c.r, err = runner.New(runnerpgx.New(c.pool), &runner.Config[pgx.Tx]{
		App: workerApp("https://login.salesforce.com"), Sealer: sealer, Handlers: handlers,
		Transport: noRows{}, SyncWorkers: 64, Logger: slog.New(slog.DiscardHandler),
	})
	noError(b, err)
	noError(b, c.r.Migrate(b.Context()))
	for i := range orgs {
		id, err := sfapi.ParseOrgID(fmt.Sprintf("00D%012d", i))
		noError(b, err)
		_, _, err = c.r.Orgs().Connect(b.Context(), &runner.ConnectParams{Token: &sfapi.Token{
			Access: sfapi.Secret(fmt.Sprintf("%s!access", id)), Refresh: sfapi.Secret(fmt.Sprintf("refresh-%d", i)),
			InstanceURL: fmt.Sprintf("https://crowd-%d.my.salesforce.com", i), Org: id, UserID: "005000000000001AAA", IssuedAt: time.Now(),
		}})
		noError(b, err)
		c.orgs = append(c.orgs, id)
	}
	return c
}

func noError(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

func (c *crowd) start(b testing.TB) {
	b.Helper()
	noError(b, c.r.Start(context.WithoutCancel(b.Context())))
	b.Cleanup(func() { noError(b, c.r.Stop(context.Background())) })
}

// insert inserts n jobs an org.
func (c *crowd) insert(b testing.TB, orgs []sfapi.OrgID, n int, args func(sfapi.OrgID) river.JobArgs) {
	b.Helper()
	many := make([]river.InsertManyParams, 0, 5000)
	for i := range n * len(orgs) {
		many = append(many, river.InsertManyParams{Args: args(orgs[i%len(orgs)])})
		if len(many) == cap(many) || i == n*len(orgs)-1 {
			_, err := c.r.River().InsertManyFast(b.Context(), many)
			noError(b, err)
			many = many[:0]
		}
	}
}

func (c *crowd) until(b testing.TB, done func() bool) {
	b.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-b.Context().Done():
			b.Fatal(b.Context().Err())
		}
	}
}

// However much of one org waits in front, the jobs of the others get their turn.
func TestFairness(t *testing.T) {
	t.Parallel()
	const many, orgs, each = 4000, 20, 5
	c := newCrowd(t, 1+orgs)
	c.insert(t, c.orgs[:1], many, napFor)
	c.insert(t, c.orgs[1:], each, napFor)
	c.start(t)
	c.until(t, func() bool { return c.napped.Load() == orgs*each })
	var left int
	noError(t, c.pool.QueryRow(t.Context(), `SELECT count(*) FROM river_job WHERE finalized_at IS NULL`).Scan(&left))
	if left < many/2 {
		t.Errorf("%d jobs of the first org were worked before the last of the others", many-left)
	}
}

func napFor(org sfapi.OrgID) river.JobArgs { return nap{org} }

// BenchmarkFairness hands over ten jobs of ten milliseconds for each of 99 orgs
// behind 100,000 of another, to one process with 64 slots. One operation is all
// of the 990.
func BenchmarkFairness(b *testing.B) {
	c := newCrowd(b, 100)
	c.insert(b, c.orgs[:1], 100_000, napFor)
	c.start(b)
	for b.Loop() {
		before := c.napped.Load()
		c.insert(b, c.orgs[1:], 10, napFor)
		c.until(b, func() bool { return c.napped.Load() == before+990 })
	}
}

// BenchmarkIdle shows what connected orgs cost that had a job once and have none
// now: statements a second over half a minute, and the heap.
func BenchmarkIdle(b *testing.B) {
	for _, orgs := range []int{1, 10_000} {
		b.Run(fmt.Sprintf("orgs=%d", orgs), func(b *testing.B) {
			c := newCrowd(b, orgs)
			c.start(b)
			c.insert(b, c.orgs, 1, func(org sfapi.OrgID) river.JobArgs { return ask{Org: org} })
			c.until(b, func() bool {
				var left int
				noError(b, c.pool.QueryRow(b.Context(), `SELECT count(*) FROM river_job WHERE finalized_at IS NULL`).Scan(&left))
				return left == 0
			})
			var mem runtime.MemStats
			for b.Loop() {
				before := c.statements.n.Load()
				<-time.After(30 * time.Second)
				n := c.statements.n.Load() - before
				runtime.GC()
				runtime.GC()
				runtime.ReadMemStats(&mem)
				b.ReportMetric(float64(n)/30, "statements/s")
				b.ReportMetric(float64(mem.HeapAlloc)/(1<<20), "MB-heap")
			}
		})
	}
}

// BenchmarkPause holds and resumes an org with 100,000 waiting jobs, as an
// operator does, while the runner works.
func BenchmarkPause(b *testing.B) {
	c := newCrowd(b, 2)
	c.insert(b, c.orgs[:1], 100_000, napFor)
	c.start(b)
	var holding, resuming time.Duration
	n := 0
	for b.Loop() {
		n++
		began := time.Now()
		_, err := c.r.Orgs().Hold(b.Context(), c.orgs[0])
		noError(b, err)
		held := time.Now()
		_, err = c.r.Orgs().Resume(b.Context(), c.orgs[0])
		noError(b, err)
		holding += held.Sub(began)
		resuming += time.Since(held)
	}
	b.ReportMetric(holding.Seconds()*1000/float64(n), "ms/hold")
	b.ReportMetric(resuming.Seconds()*1000/float64(n), "ms/resume")
}
