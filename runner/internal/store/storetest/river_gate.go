package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver"
	"github.com/riverqueue/river/rivertype"

	"github.com/weirhq/weir/breaker"
	"github.com/weirhq/weir/jobs"
	"github.com/weirhq/weir/runner/internal/store"
	"github.com/weirhq/weir/sfapi"
)

func testAdmitOrder[TTx any](t *testing.T, rt *riverTest[TTx]) {
	org := rt.connect(t, 1)[0]
	now := time.Now()
	at := func(age time.Duration, priority int) *river.InsertOpts {
		return &river.InsertOpts{ScheduledAt: now.Add(-age), Priority: priority}
	}
	late := rt.insert(t, breaker.Sync, laneJob{Org: org}, at(time.Minute, 2))
	third := rt.insert(t, breaker.Sync, laneJob{Org: org}, at(time.Hour, 2))
	second := rt.insert(t, breaker.Sync, laneJob{Org: org}, at(time.Minute, 1))
	secondToo := rt.insert(t, breaker.Sync, laneJob{Org: org}, at(time.Minute, 1))
	first := rt.insert(t, breaker.Sync, laneJob{Org: org}, at(time.Hour, 1))
	future := rt.insert(t, breaker.Sync, laneJob{Org: org}, at(-time.Hour, 1))
	write := rt.insert(t, breaker.Write, laneJob{Org: org}, nil)

	// As River's scheduler does with those that are due.
	_, err := rt.exec.JobSchedule(t.Context(), &riverdriver.JobScheduleParams{Max: 100})
	must(t, err)

	var got []int64
	for range 6 {
		if a := rt.admit(t, store.AdmitParams{Window: 1}); a.Jobs == 0 {
			break
		}
		fetched := rt.fetch(t, "p", breaker.Sync.RunQueue(), 10)
		for _, job := range fetched {
			got = append(got, job.ID)
		}
		if a := rt.admit(t, store.AdmitParams{Window: 1}); a.Jobs != 0 {
			t.Fatalf("admitted %d beside a running job, window 1", a.Jobs)
		}
		rt.finish(t, fetched...)
	}
	diff(t, "order", got, []int64{first, second, secondToo, third, late})
	diff(t, "left alone", rt.places(t, future, write), []place{
		{breaker.Sync.Queue(org), rivertype.JobStateScheduled}, {breaker.Write.Queue(org), rivertype.JobStateAvailable},
	})
}

// A job that is on its way back from a run queue counts until River has its
// result: it is in the lane's queue and still runs.
func testAdmitWindows[TTx any](t *testing.T, rt *riverTest[TTx]) {
	orgs := rt.connect(t, 5)
	rt.fill(t, breaker.Write, orgs, 5)
	set := func(org sfapi.OrgID, window int, held bool) {
		rt.inTx(t, func(ctx context.Context, tx TTx) error {
			return rt.store.SetLaneTx(ctx, tx, org, breaker.Write, window, held)
		})
	}
	pause := func(org sfapi.OrgID) {
		rt.inTx(t, func(ctx context.Context, tx TTx) error {
			return rt.store.PauseLaneTx(ctx, tx, breaker.Write.Queue(org), nil)
		})
	}
	inFlight := func() []int {
		n := make([]int, len(orgs))
		for i, org := range orgs {
			_, waiting, err := rt.store.Backlog(t.Context(), org)
			must(t, err)
			left := 0
			for _, job := range rt.queued(t, breaker.Write.Queue(org)) {
				if job.State == rivertype.JobStateAvailable {
					left++
				}
			}
			n[i] = waiting - left
		}
		return n
	}
	set(orgs[0], 0, true) // held
	pause(orgs[0])
	set(orgs[1], 1, true) // on trial, its queue still paused
	pause(orgs[1])
	set(orgs[2], 4, false) // its own window
	set(orgs[3], 4, false)
	set(orgs[3], -1, false) // the default again
	rt.admit(t, store.AdmitParams{Lane: breaker.Write, Window: 2})
	diff(t, "let through", inFlight(), []int{0, 1, 4, 2, 2})

	running := rt.fetch(t, "p", breaker.Write.RunQueue(), 100)
	for _, job := range running {
		org := orgOf(t, job)
		must(t, rt.store.MoveRunning(t.Context(), job.ID, breaker.Write.Queue(org)))
	}
	if a := rt.admit(t, store.AdmitParams{Lane: breaker.Write, Window: 2}); a.Jobs != 0 {
		t.Errorf("admitted %d jobs beside those that run in their lane's queue", a.Jobs)
	}
	rt.finish(t, running...)
	set(orgs[0], -1, false) // ended, but an operator had paused it in River UI
	rt.admit(t, store.AdmitParams{Lane: breaker.Write, Window: 2})
	diff(t, "let through next", inFlight(), []int{0, 1, 1, 2, 2})

	err := rt.store.InTx(t.Context(), func(ctx context.Context, tx TTx) error {
		return rt.store.SetLaneTx(ctx, tx, riverOrg(77), breaker.Sync, 1, false)
	})
	if !errors.Is(err, jobs.ErrNotFound) {
		t.Errorf("window of an unknown org: got error %v, want jobs.ErrNotFound", err)
	}
}

// queued returns the jobs of a queue that are not finished.
func (rt *riverTest[TTx]) queued(t *testing.T, queue string) []*rivertype.JobRow {
	t.Helper()
	var found []*rivertype.JobRow
	res, err := rt.client.JobList(t.Context(), river.NewJobListParams().Queues(queue).First(10_000).
		States(rivertype.JobStateAvailable, rivertype.JobStateRunning, rivertype.JobStateScheduled, rivertype.JobStateRetryable).
		OrderBy(river.JobListOrderByID, river.SortOrderAsc))
	must(t, err)
	found = append(found, res.Jobs...)
	return found
}

func orgOf(t *testing.T, job *rivertype.JobRow) sfapi.OrgID {
	t.Helper()
	var args laneJob
	decode(t, job.EncodedArgs, &args)
	return args.Org
}

func testAdmitClosed[TTx any](t *testing.T, rt *riverTest[TTx]) {
	orgs := rt.connect(t, 3)
	rt.fill(t, breaker.Sync, orgs, 2)
	rt.fill(t, breaker.Sync, []sfapi.OrgID{riverOrg(99)}, 2) // was never connected
	own := rt.insert(t, breaker.Sync, laneJob{Org: orgs[0]}, &river.InsertOpts{Queue: "sf_reports_sync"})
	other := rt.insert(t, breaker.Sync, laneJob{Org: orgs[0]}, &river.InsertOpts{Queue: "default"})

	rt.inTx(t, func(ctx context.Context, tx TTx) error { return rt.store.DisconnectOrgTx(ctx, tx, orgs[0]) })
	_, err := rt.exec.QueueCreateOrSetUpdatedAt(t.Context(), &riverdriver.QueueCreateOrSetUpdatedAtParams{
		Name: breaker.Sync.Queue(orgs[1]), Metadata: []byte(`{}`),
	})
	must(t, err)
	must(t, rt.client.QueuePause(t.Context(), breaker.Sync.Queue(orgs[1]), nil)) // as River UI does

	if a := rt.admit(t, store.AdmitParams{Window: 5}); a.Jobs != 2 {
		t.Errorf("admitted %d jobs, want the 2 of the open lane", a.Jobs)
	}
	for _, job := range rt.queued(t, breaker.Sync.RunQueue()) {
		if orgOf(t, job) != orgs[2] {
			t.Errorf("admitted a job of org %s, whose lane is closed", orgOf(t, job))
		}
	}
	diff(t, "queues of the app", rt.places(t, own, other), []place{
		{"sf_reports_sync", rivertype.JobStateAvailable}, {"default", rivertype.JobStateAvailable},
	})

	must(t, rt.client.QueueResume(t.Context(), breaker.Sync.Queue(orgs[1]), nil))
	if a := rt.admit(t, store.AdmitParams{Window: 5}); a.Jobs != 2 {
		t.Errorf("admitted %d jobs after the operator's resume, want 2", a.Jobs)
	}
}

func testAdmitFair[TTx any](t *testing.T, rt *riverTest[TTx]) {
	const lanes, each, bound = 7, 6, 2
	orgs := rt.connect(t, lanes)
	rt.fill(t, breaker.Sync, orgs[:1], 50)
	rt.fill(t, breaker.Sync, orgs[1:], each)

	served := map[sfapi.OrgID]int{}
	after := ""
	for step := 1; step <= lanes*each/bound; step++ {
		a := rt.admit(t, store.AdmitParams{Window: 4, Max: bound, After: after})
		if a.Jobs != bound {
			t.Fatalf("step %d admitted %d jobs, want %d", step, a.Jobs, bound)
		}
		after = a.After
		fetched := rt.fetch(t, "p", breaker.Sync.RunQueue(), 100)
		for _, job := range fetched {
			served[orgOf(t, job)]++
		}
		rt.finish(t, fetched...)
		low, high := each, 0
		for _, org := range orgs {
			low, high = min(low, served[org]), max(high, served[org])
		}
		if high-low > 1 {
			t.Fatalf("after step %d one lane has had %d jobs, another %d", step, low, high)
		}
	}
}

func testAdmitRounds[TTx any](t *testing.T, rt *riverTest[TTx]) {
	orgs := rt.connect(t, 4)
	rt.fill(t, breaker.Sync, orgs, 3)
	rt.admit(t, store.AdmitParams{Window: 3, Max: 6})
	count := map[sfapi.OrgID]int{}
	for _, job := range rt.queued(t, breaker.Sync.RunQueue()) {
		count[orgOf(t, job)]++
	}
	got := map[int]int{}
	for _, n := range count {
		got[n]++
	}
	diff(t, "lanes by number of jobs", got, map[int]int{1: 2, 2: 2})
	if a := rt.admit(t, store.AdmitParams{Window: 3, Max: 6}); a.Jobs != 0 {
		t.Errorf("admitted %d jobs above the bound", a.Jobs)
	}
}

func testAdmitConcurrent[TTx any](t *testing.T, rt *riverTest[TTx]) {
	const lanes, each, gates, window = 6, 15, 3, 2
	orgs := rt.connect(t, lanes)
	rt.fill(t, breaker.Sync, orgs, each)
	rt.fill(t, breaker.Write, orgs, each)

	type lane struct {
		queue string
		org   sfapi.OrgID
	}
	var (
		mu      sync.Mutex // guards next
		next    = map[sfapi.OrgID]int{}
		running = map[lane]*atomic.Int32{}
		left    = make(chan struct{}, 2*lanes*each)
	)
	for _, org := range orgs {
		for _, l := range breaker.AllLanes() {
			running[lane{l.RunQueue(), org}] = new(atomic.Int32)
		}
	}
	work := func(_ context.Context, job *river.Job[laneJob]) error {
		n := running[lane{job.Queue, job.Args.Org}]
		limit := int32(window)
		if job.Queue == breaker.Write.RunQueue() {
			limit = 1
			mu.Lock()
			if want := next[job.Args.Org]; job.Args.N != want {
				t.Errorf("job %d of org %s ran when %d was next", job.Args.N, job.Args.Org, want)
			}
			next[job.Args.Org]++
			mu.Unlock()
		}
		if now := n.Add(1); now > limit {
			t.Errorf("%d jobs of org %s run in %s, window %d", now, job.Args.Org, job.Queue, limit)
		}
		n.Add(-1)
		left <- struct{}{}
		return nil
	}
	// Each finished job wakes every gate.
	wakes := make([]chan struct{}, gates)
	for i := range wakes {
		wakes[i] = make(chan struct{}, 1)
		wakes[i] <- struct{}{}
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for i := range gates {
		client := rt.work(t, fmt.Sprintf("process-%d", i), work)
		events, unsubscribe := client.Subscribe(river.EventKindJobCompleted)
		wg.Go(func() {
			defer unsubscribe()
			for range 2 * lanes * each {
				select {
				case <-events:
				case <-ctx.Done():
					return
				}
				for _, wake := range wakes {
					select {
					case wake <- struct{}{}:
					default:
					}
				}
			}
		})
	}
	gate := func(lane breaker.Lane, window int, after string) string {
		for {
			a, err := rt.store.Admit(ctx, &store.AdmitParams{Lane: lane, Window: window, Max: 100, After: after})
			if err != nil {
				if ctx.Err() == nil {
					t.Error(err)
				}
				cancel()
				return after
			}
			// Whoever is at the gate may have looked before the job ended.
			if !a.Busy {
				return a.After
			}
		}
	}
	for i := range gates {
		wg.Go(func() {
			var sync, write string
			for {
				select {
				case <-wakes[i]:
				case <-ctx.Done():
					return
				}
				sync = gate(breaker.Sync, window, sync)
				write = gate(breaker.Write, 1, write)
			}
		})
	}
	for range 2 * lanes * each {
		select {
		case <-left:
		case <-ctx.Done():
		}
	}
	cancel()
	wg.Wait()
}

func testAdmitWakes[TTx any](t *testing.T, rt *riverTest[TTx]) {
	org := rt.connect(t, 1)[0]
	worked := make(chan int, 1)
	rt.work(t, "p", func(_ context.Context, job *river.Job[laneJob]) error {
		worked <- job.Args.N
		return nil
	})
	for n, lane := range breaker.AllLanes() {
		rt.insert(t, lane, laneJob{Org: org, N: n}, nil)
		rt.admit(t, store.AdmitParams{Lane: lane, Window: 1})
		if got := receive(t, worked); got != n {
			t.Errorf("worked job %d, want %d", got, n)
		}
	}
}

func testAdmitTouches[TTx any](t *testing.T, rt *riverTest[TTx]) {
	orgs := rt.connect(t, 2)
	rt.fill(t, breaker.Sync, orgs, 1)
	old := time.Now().Add(-30 * time.Hour)
	_, err := rt.exec.QueueCreateOrSetUpdatedAt(t.Context(), &riverdriver.QueueCreateOrSetUpdatedAtParams{
		Name: breaker.Sync.Queue(orgs[0]), Metadata: []byte(`{}`), UpdatedAt: &old,
	})
	must(t, err)
	rt.admit(t, store.AdmitParams{Window: 1})
	deleted, err := rt.exec.QueueDeleteExpired(t.Context(), &riverdriver.QueueDeleteExpiredParams{
		Max: 10, UpdatedAtHorizon: time.Now().Add(-time.Hour),
	})
	must(t, err)
	if len(deleted) != 0 {
		t.Errorf("River's cleaner deleted %v, lanes that were just served", deleted)
	}
	for _, org := range orgs {
		_, err := rt.exec.QueueGet(t.Context(), &riverdriver.QueueGetParams{Name: breaker.Sync.Queue(org)})
		must(t, err)
	}
}

func testReturnAdmitted[TTx any](t *testing.T, rt *riverTest[TTx]) {
	orgs := rt.connect(t, 2)
	var ids []int64
	for _, org := range orgs {
		for n := range 3 {
			ids = append(ids, rt.insert(t, breaker.Sync, laneJob{Org: org, N: n}, nil))
		}
	}
	rt.admit(t, store.AdmitParams{Window: 2})
	rt.fetch(t, "p", breaker.Sync.RunQueue(), 1) // the first of the first org runs
	rt.inTx(t, func(ctx context.Context, tx TTx) error {
		n, err := rt.store.ReturnAdmittedTx(ctx, tx, orgs[0], breaker.Sync)
		if n != 1 {
			t.Errorf("returned %d jobs, want the one that had not begun", n)
		}
		return err
	})
	run, lane0, lane1 := breaker.Sync.RunQueue(), breaker.Sync.Queue(orgs[0]), breaker.Sync.Queue(orgs[1])
	diff(t, "places", rt.places(t, ids...), []place{
		{run, rivertype.JobStateRunning}, {lane0, rivertype.JobStateAvailable}, {lane0, rivertype.JobStateAvailable},
		{run, rivertype.JobStateAvailable}, {run, rivertype.JobStateAvailable}, {lane1, rivertype.JobStateAvailable},
	})
}
