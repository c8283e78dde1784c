package runnerpgx_test

import (
	"context"
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"github.com/weirhq/weir/breaker"
	"github.com/weirhq/weir/runner/internal/pgtest"
	"github.com/weirhq/weir/runner/internal/store"
	"github.com/weirhq/weir/runner/runnerpgx"
	"github.com/weirhq/weir/sfapi"
)

const lockOrg = sfapi.OrgID("00D5g000000abcdEAA")

// waitingArgs is a job of a lane.
type waitingArgs struct {
	Org    sfapi.OrgID `json:"org"`
	Object string      `json:"object"`
	N      int         `json:"n"`
}

func (waitingArgs) Kind() string { return "waiting" }

// gated is a database with one connected org.
type gated struct {
	pool   *pgxpool.Pool
	store  store.Store[pgx.Tx]
	client *river.Client[pgx.Tx]
}

func newGated(t testing.TB, pool *pgxpool.Pool) *gated {
	t.Helper()
	migrateRiver(t, pool)
	g := &gated{pool: pool, store: runnerpgx.New(pool).Store()}
	check(t, g.store.Migrate(t.Context()))
	var err error
	g.client, err = river.NewClient(riverpgxv5.New(pool), &river.Config{Logger: quiet()})
	check(t, err)
	g.connect(t, lockOrg)
	return g
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (g *gated) connect(t testing.TB, orgs ...sfapi.OrgID) {
	t.Helper()
	check(t, g.store.InTx(t.Context(), func(ctx context.Context, tx pgx.Tx) error {
		for _, id := range orgs {
			if _, err := g.store.ConnectOrgTx(ctx, tx,
				&store.Org{ID: id, State: store.OrgConnected, UserID: "005000000000001AAA"},
				&store.Credential{Org: id, Access: []byte("sealed"), IssuedAt: time.Now()}); err != nil {
				return err
			}
		}
		return nil
	}))
}

func (g *gated) insert(t testing.TB, lane breaker.Lane) int64 {
	t.Helper()
	res, err := g.client.Insert(t.Context(), waitingArgs{Org: lockOrg, Object: "Account"}, &river.InsertOpts{Queue: lane.Queue(lockOrg)})
	check(t, err)
	return res.Job.ID
}

func (g *gated) begin(t testing.TB) pgx.Tx {
	t.Helper()
	tx, err := g.pool.Begin(t.Context())
	check(t, err)
	t.Cleanup(func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) })
	return tx
}

func (g *gated) admit(t testing.TB) store.Admission {
	t.Helper()
	a, err := g.store.Admit(t.Context(), &store.AdmitParams{Lane: breaker.Sync, Window: 1, Max: 10})
	check(t, err)
	a.After = ""
	return *a
}

func TestAdmitBusy(t *testing.T) {
	t.Parallel()
	g := newGated(t, pgtest.Pool(t))
	g.insert(t, breaker.Sync)
	tx := g.begin(t)
	_, err := tx.Exec(t.Context(), `SELECT pg_advisory_xact_lock(hashtextextended('weir.gate.public.sync', 0))`)
	check(t, err)
	if d := cmp.Diff(store.Admission{Busy: true}, g.admit(t)); d != "" {
		t.Errorf("another at the gate (-want +got):\n%s", d)
	}
	check(t, tx.Commit(t.Context()))
	if d := cmp.Diff(store.Admission{Jobs: 1}, g.admit(t)); d != "" {
		t.Errorf("the gate is free (-want +got):\n%s", d)
	}
	var settings string
	check(t, g.pool.QueryRow(t.Context(),
		`SELECT concat_ws(' ', current_setting('enable_seqscan'), current_setting('enable_bitmapscan'), current_setting('weir.gate', true))`).Scan(&settings))
	if got := strings.TrimSpace(settings); got != "on on" {
		t.Errorf("the gate left its settings to the app: %q", got)
	}
}

func TestAdmitRefusesStaleSnapshots(t *testing.T) {
	t.Parallel()
	config, err := pgxpool.ParseConfig(pgtest.URL(t))
	check(t, err)
	config.ConnConfig.RuntimeParams["default_transaction_isolation"] = "repeatable read"
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	check(t, err)
	t.Cleanup(pool.Close)
	g := newGated(t, pool)
	id := g.insert(t, breaker.Sync)
	if _, err := g.store.Admit(t.Context(), &store.AdmitParams{Lane: breaker.Sync, Window: 1, Max: 10}); err == nil {
		t.Error("the gate acted on a snapshot from before it was entered")
	}
	job, err := g.client.JobGet(t.Context(), id)
	check(t, err)
	if job.Queue != breaker.Sync.Queue(lockOrg) {
		t.Errorf("the job was moved to %s", job.Queue)
	}
}

// What hands its work to a job that waits must find it waiting until it has
// committed; many may do so at once, and none may wait for another.
func TestWaitingJobIsHeld(t *testing.T) {
	t.Parallel()
	g := newGated(t, pgtest.Pool(t))
	id := g.insert(t, breaker.Sync)
	g.insert(t, breaker.Sync)
	first, second := g.begin(t), g.begin(t)
	for _, tx := range []pgx.Tx{first, second} {
		got, err := g.store.WaitingJobTx(t.Context(), tx, "waiting", lockOrg, "Account")
		check(t, err)
		if got != id {
			t.Errorf("found job %d, want %d", got, id)
		}
	}
	for _, tx := range []pgx.Tx{first, second} {
		set, err := g.store.SetArgTx(t.Context(), tx, id, "mode", "full")
		check(t, err)
		if set {
			t.Error("changed a job that another transaction counts on")
		}
	}
	if d := cmp.Diff(store.Admission{}, g.admit(t)); d != "" {
		t.Errorf("while it is held nothing overtakes it (-want +got):\n%s", d)
	}
	check(t, first.Commit(t.Context()))
	set, err := g.store.SetArgTx(t.Context(), second, id, "mode", "full")
	check(t, err)
	if !set {
		t.Error("a job that only this transaction holds was not changed")
	}
	check(t, second.Commit(t.Context()))
	if d := cmp.Diff(store.Admission{Jobs: 1}, g.admit(t)); d != "" {
		t.Errorf("once it is free (-want +got):\n%s", d)
	}
	job, err := g.client.JobGet(t.Context(), id)
	check(t, err)
	var args map[string]any
	check(t, json.Unmarshal(job.EncodedArgs, &args))
	if args["mode"] != "full" || job.Queue != breaker.Sync.RunQueue() {
		t.Errorf("the job has args %v and is in %s", args, job.Queue)
	}
}

func TestCancelPassesOverLockedJobs(t *testing.T) {
	t.Parallel()
	g := newGated(t, pgtest.Pool(t))
	locked := g.insert(t, breaker.Sync)
	for range 5 {
		g.insert(t, breaker.Sync)
	}
	tx := g.begin(t)
	_, err := tx.Exec(t.Context(), `SELECT FROM river_job WHERE id = $1 FOR UPDATE`, locked)
	check(t, err)
	b, err := g.store.CancelOrgBatch(t.Context(), lockOrg, "revoked", 100)
	check(t, err)
	if d := cmp.Diff(store.CancelledBatch{Cancelled: 5, More: true}, *b); d != "" {
		t.Errorf("beside a locked job (-want +got):\n%s", d)
	}
	result := make(chan error, 1)
	go func() {
		for {
			b, err := g.store.CancelOrgBatch(t.Context(), lockOrg, "revoked", 100)
			if err != nil || !b.More {
				result <- err
				return
			}
		}
	}()
	check(t, tx.Commit(t.Context()))
	check(t, <-result)
	job, err := g.client.JobGet(t.Context(), locked)
	check(t, err)
	if job.FinalizedAt == nil {
		t.Error("the job that was locked is not cancelled")
	}
}

// Everything that writes River's rows at once, beside three clients that work:
// no deadlock, and every job has an end.
func TestRiverNoDeadlock(t *testing.T) {
	t.Parallel()
	const orgs, each = 8, 60
	g := newGated(t, pgtest.Pool(t))
	ids := benchOrgs(orgs)
	g.connect(t, ids...)
	workers := river.NewWorkers()
	river.AddWorker(workers, river.WorkFunc(func(ctx context.Context, job *river.Job[waitingArgs]) error {
		if job.Args.N%3 == 0 && !snoozed(job.Metadata) {
			if err := g.store.MoveRunning(ctx, job.ID, breaker.Sync.Queue(job.Args.Org)); err != nil {
				return err
			}
			return river.JobSnooze(0)
		}
		return nil
	}))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var wg sync.WaitGroup
	loop := func(fn func() error) {
		wg.Go(func() {
			for ctx.Err() == nil {
				if err := fn(); err != nil && ctx.Err() == nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for range 3 {
		client, err := river.NewClient(riverpgxv5.New(g.pool), &river.Config{
			Logger: quiet(), Workers: workers, FetchCooldown: time.Millisecond, FetchPollInterval: 10 * time.Millisecond,
			Queues: map[string]river.QueueConfig{breaker.Sync.RunQueue(): {MaxWorkers: 20}},
		})
		check(t, err)
		check(t, client.Start(ctx))
		defer func() { check(t, client.Stop(context.WithoutCancel(t.Context()))) }()
		after := ""
		loop(func() error {
			a, err := g.store.Admit(ctx, &store.AdmitParams{Lane: breaker.Sync, Window: 8, Max: 100, After: after})
			if err == nil {
				after = a.After
			}
			return err
		})
	}
	loop(func() error { _, err := g.store.Rescue(ctx, time.Hour); return err })
	next := 0
	loop(func() error {
		next++
		org := ids[next%orgs]
		return g.store.InTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
			if err := g.store.PauseLaneTx(ctx, tx, breaker.Sync.Queue(org), nil); err != nil {
				return err
			}
			if _, err := g.store.ReturnAdmittedTx(ctx, tx, org, breaker.Sync); err != nil {
				return err
			}
			return g.store.ResumeLaneTx(ctx, tx, breaker.Sync.Queue(org))
		})
	})
	loop(func() error {
		_, err := g.store.CancelOrgBatch(ctx, ids[0], "revoked", 7)
		if err == nil {
			_, _, err = g.store.RequeueCancelledBatch(ctx, ids[0], "revoked", 7)
		}
		return err
	})
	var many []river.InsertManyParams
	for n := range each {
		for _, org := range ids {
			many = append(many, river.InsertManyParams{
				Args: waitingArgs{Org: org, N: n}, InsertOpts: &river.InsertOpts{Queue: breaker.Sync.Queue(org)},
			})
		}
	}
	_, err := g.client.InsertManyFast(t.Context(), many)
	check(t, err)
	for {
		// Jobs of the org that is cancelled and put back again and again may
		// be anywhere; those of the others must all end.
		var left, deadlocks int
		check(t, g.pool.QueryRow(t.Context(), `
SELECT (SELECT count(*) FROM river_job WHERE state <> 'completed' AND args ->> 'org' <> $1),
	(SELECT deadlocks FROM pg_stat_database WHERE datname = current_database())`, string(ids[0])).Scan(&left, &deadlocks))
		if deadlocks > 0 {
			t.Fatal("deadlock")
		}
		if left == 0 || t.Failed() {
			break
		}
	}
	cancel()
	wg.Wait()
}

func snoozed(metadata []byte) bool {
	var m struct {
		Snoozes int `json:"snoozes"`
	}
	return json.Unmarshal(metadata, &m) == nil && m.Snoozes > 0
}
