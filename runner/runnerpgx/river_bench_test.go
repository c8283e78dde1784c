package runnerpgx_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"github.com/weirhq/weir/breaker"
	"github.com/weirhq/weir/runner/internal/pgtest"
	"github.com/weirhq/weir/runner/internal/store"
	"github.com/weirhq/weir/sfapi"
)

// benchOrgs returns n org ids.
func benchOrgs(n int) []sfapi.OrgID {
	orgs := make([]sfapi.OrgID, n)
	for i := range orgs {
		org, err := sfapi.ParseOrgID(fmt.Sprintf("00D%08dEaAK", i))
		if err != nil {
			panic(err)
		}
		orgs[i] = org
	}
	return orgs
}

// benchPool is large enough for a client with many workers.
func benchPool(b *testing.B) *pgxpool.Pool {
	b.Helper()
	config, err := pgxpool.ParseConfig(pgtest.URL(b))
	check(b, err)
	config.MaxConns = 30
	pool, err := pgxpool.NewWithConfig(b.Context(), config)
	check(b, err)
	b.Cleanup(pool.Close)
	return pool
}

// fill inserts total jobs, dealt out to the queues in turn.
func (g *gated) fill(b *testing.B, total int, queues []string, orgs []sfapi.OrgID) {
	b.Helper()
	many := make([]river.InsertManyParams, 0, 5000)
	for i := range total {
		many = append(many, river.InsertManyParams{
			Args: waitingArgs{Org: orgs[i%len(orgs)], N: i}, InsertOpts: &river.InsertOpts{Queue: queues[i%len(queues)]},
		})
		if len(many) == cap(many) || i == total-1 {
			_, err := g.client.InsertManyFast(b.Context(), many)
			check(b, err)
			many = many[:0]
		}
	}
	_, err := g.pool.Exec(b.Context(), `VACUUM ANALYZE river_job`)
	check(b, err)
}

// BenchmarkGate works 100,000 no-op jobs: by River from one queue, and through
// the gate from the lanes of 1, 1,000 and 10,000 orgs. One operation is all of
// them.
func BenchmarkGate(b *testing.B) {
	const total = 100_000
	for _, n := range []int{0, 1, 1000, 10_000} {
		name := fmt.Sprintf("gate/orgs=%d", n)
		if n == 0 {
			name = "river/one queue"
		}
		b.Run(name, func(b *testing.B) {
			runs := 0
			for b.Loop() {
				runs++
				b.StopTimer()
				g := newGated(b, benchPool(b))
				orgs := benchOrgs(max(n, 1))
				g.connect(b, orgs...)
				queues := []string{breaker.Sync.RunQueue()}
				window := 4
				switch n {
				case 0:
				case 1:
					window = 1000
					fallthrough
				default:
					queues = queues[:0]
					for _, org := range orgs {
						queues = append(queues, breaker.Sync.Queue(org))
					}
				}
				g.fill(b, total, queues, orgs)
				var worked atomic.Int64
				done := make(chan struct{})
				workers := river.NewWorkers()
				river.AddWorker(workers, river.WorkFunc(func(context.Context, *river.Job[waitingArgs]) error {
					if worked.Add(1) == total {
						close(done)
					}
					return nil
				}))
				client, err := river.NewClient(riverpgxv5.New(g.pool), &river.Config{
					Logger: quiet(), Workers: workers, FetchCooldown: time.Millisecond, FetchPollInterval: time.Second,
					Queues: map[string]river.QueueConfig{breaker.Sync.RunQueue(): {MaxWorkers: 1000}},
				})
				check(b, err)
				b.StartTimer()
				check(b, client.Start(b.Context()))
				if n > 0 {
					g.gate(b, window, done)
				}
				<-done
				check(b, client.Stop(b.Context())) // after the last result is saved
			}
			b.ReportMetric(float64(runs*total)/b.Elapsed().Seconds(), "jobs/s")
		})
	}
}

// gate lets jobs through until done, with a little time between two steps that
// find nothing.
func (g *gated) gate(b *testing.B, window int, done <-chan struct{}) {
	b.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	after := ""
	for {
		a, err := g.store.Admit(b.Context(), &store.AdmitParams{Lane: breaker.Sync, Window: window, Max: 2000, After: after})
		check(b, err)
		after = a.After
		select {
		case <-done:
			return
		case <-tick.C:
		}
	}
}

// BenchmarkHold holds and resumes an org with 100,000 waiting jobs, as far as
// River's tables go, beside one with ten.
func BenchmarkHold(b *testing.B) {
	for _, waiting := range []int{10, 100_000} {
		b.Run(fmt.Sprintf("waiting=%d", waiting), func(b *testing.B) {
			g := newGated(b, benchPool(b))
			queue := breaker.Sync.Queue(lockOrg)
			g.fill(b, waiting, []string{queue}, []sfapi.OrgID{lockOrg})
			for b.Loop() {
				b.StopTimer()
				if a := g.admitWindow(b, 4); a.Jobs != 4 {
					b.Fatalf("admitted %d jobs, want 4", a.Jobs)
				}
				b.StartTimer()
				check(b, g.store.InTx(b.Context(), func(ctx context.Context, tx pgx.Tx) error {
					if err := g.store.SetLaneTx(ctx, tx, lockOrg, breaker.Sync, 0, true); err != nil {
						return err
					}
					if err := g.store.PauseLaneTx(ctx, tx, queue, nil); err != nil {
						return err
					}
					_, err := g.store.ReturnAdmittedTx(ctx, tx, lockOrg, breaker.Sync)
					return err
				}))
				check(b, g.store.InTx(b.Context(), func(ctx context.Context, tx pgx.Tx) error {
					if err := g.store.SetLaneTx(ctx, tx, lockOrg, breaker.Sync, -1, false); err != nil {
						return err
					}
					return g.store.ResumeLaneTx(ctx, tx, queue)
				}))
			}
		})
	}
}

func (g *gated) admitWindow(b *testing.B, window int) *store.Admission {
	b.Helper()
	a, err := g.store.Admit(b.Context(), &store.AdmitParams{Lane: breaker.Sync, Window: window, Max: 2000})
	check(b, err)
	return a
}

// BenchmarkIdleGate is one step of the gate that finds nothing to do: no job
// at all, and 100,000 jobs behind a hold, in one lane and in 10,000.
func BenchmarkIdleGate(b *testing.B) {
	for _, c := range []struct {
		name       string
		orgs, jobs int
	}{{"no jobs/orgs=10000", 10_000, 0}, {"held jobs/orgs=1", 1, 100_000}, {"held jobs/orgs=10000", 10_000, 100_000}} {
		b.Run(c.name, func(b *testing.B) {
			g := newGated(b, benchPool(b))
			orgs := benchOrgs(c.orgs)
			g.connect(b, orgs...)
			queues := make([]string, len(orgs))
			for i, org := range orgs {
				queues[i] = breaker.Sync.Queue(org)
			}
			g.fill(b, c.jobs, queues, orgs)
			_, err := g.pool.Exec(b.Context(), `UPDATE weir_org SET sync_window = 0, sync_held = true`)
			check(b, err)
			for b.Loop() {
				if a := g.admitWindow(b, 4); a.Jobs != 0 {
					b.Fatalf("admitted %d held jobs", a.Jobs)
				}
			}
		})
	}
}

// BenchmarkCancelOrg cancels 50,000 waiting and 200 running jobs of an org, in
// batches, puts them back, and cancels a tenth of them by River's one-by-one
// JobCancel. One operation is all of them.
func BenchmarkCancelOrg(b *testing.B) {
	const waiting, running = 50_000, 200
	prepare := func(b *testing.B, waiting, running int) *gated {
		b.Helper()
		g := newGated(b, benchPool(b))
		orgs := []sfapi.OrgID{lockOrg}
		g.fill(b, waiting, []string{breaker.Sync.Queue(lockOrg)}, orgs)
		g.fill(b, running, []string{breaker.Sync.RunQueue()}, orgs)
		_, err := g.pool.Exec(b.Context(), `UPDATE river_job SET state = 'running', attempt = 1 WHERE queue = $1`, breaker.Sync.RunQueue())
		check(b, err)
		return g
	}
	b.Run("batches of 5000", func(b *testing.B) {
		total := 0
		for b.Loop() {
			b.StopTimer()
			g := prepare(b, waiting, running)
			b.StartTimer()
			sum := 0
			for more := true; more; {
				batch, err := g.store.CancelOrgBatch(b.Context(), lockOrg, "revoked", 5000)
				check(b, err)
				sum += batch.Cancelled + batch.Signalled
				more = batch.More
			}
			if sum != waiting+running {
				b.Fatalf("cancelled %d jobs, want %d", sum, waiting+running)
			}
			total += sum
		}
		b.ReportMetric(float64(total)/b.Elapsed().Seconds(), "jobs/s")
	})
	b.Run("requeue in batches of 5000", func(b *testing.B) {
		total := 0
		for b.Loop() {
			b.StopTimer()
			g := prepare(b, waiting, 0)
			for more := true; more; {
				batch, err := g.store.CancelOrgBatch(b.Context(), lockOrg, "revoked", 5000)
				check(b, err)
				more = batch.More
			}
			b.StartTimer()
			sum := 0
			for more := true; more; {
				var (
					n   int
					err error
				)
				n, more, err = g.store.RequeueCancelledBatch(b.Context(), lockOrg, "revoked", 5000)
				check(b, err)
				sum += n
			}
			if sum != waiting {
				b.Fatalf("requeued %d jobs, want %d", sum, waiting)
			}
			total += sum
		}
		b.ReportMetric(float64(total)/b.Elapsed().Seconds(), "jobs/s")
	})
	b.Run("River's JobCancel", func(b *testing.B) {
		const n = waiting / 10
		total := 0
		for b.Loop() {
			b.StopTimer()
			g := prepare(b, n, 0)
			rows, err := g.pool.Query(b.Context(), `SELECT id FROM river_job ORDER BY id`)
			check(b, err)
			ids, err := pgx.CollectRows(rows, pgx.RowTo[int64])
			check(b, err)
			b.StartTimer()
			for _, id := range ids {
				_, err := g.client.JobCancel(b.Context(), id)
				check(b, err)
			}
			total += n
		}
		b.ReportMetric(float64(total)/b.Elapsed().Seconds(), "jobs/s")
	})
}
