package storetest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"

	"github.com/weirhq/weir/breaker"
	"github.com/weirhq/weir/runner/internal/store"
	"github.com/weirhq/weir/sfapi"
)

const revoked = "revoked"

// cancelAll repeats batches until none is left, and sums them up.
func (rt *riverTest[TTx]) cancelAll(t *testing.T, org sfapi.OrgID, limit int) store.CancelledBatch {
	t.Helper()
	var sum store.CancelledBatch
	for {
		b, err := rt.store.CancelOrgBatch(t.Context(), org, revoked, limit)
		must(t, err)
		if n := b.Cancelled + b.Signalled; n > limit {
			t.Fatalf("a batch of %d, limit %d", n, limit)
		}
		sum.Cancelled += b.Cancelled
		sum.Signalled += b.Signalled
		if !b.More {
			return sum
		}
	}
}

func (rt *riverTest[TTx]) requeueAll(t *testing.T, org sfapi.OrgID, limit int) int {
	t.Helper()
	sum := 0
	for {
		n, more, err := rt.store.RequeueCancelledBatch(t.Context(), org, revoked, limit)
		must(t, err)
		sum += n
		if !more {
			return sum
		}
	}
}

func testCancelStates[TTx any](t *testing.T, rt *riverTest[TTx]) {
	orgs := rt.connect(t, 2)
	org, lane := orgs[0], breaker.Sync.Queue(orgs[0])
	admitted := rt.insert(t, breaker.Sync, laneJob{Org: org}, nil)
	others := rt.insert(t, breaker.Sync, laneJob{Org: orgs[1]}, nil)
	rt.admit(t, store.AdmitParams{Window: 1})
	available := rt.insert(t, breaker.Sync, laneJob{Org: org}, nil)
	scheduled := rt.insert(t, breaker.Write, laneJob{Org: org}, &river.InsertOpts{ScheduledAt: time.Now().Add(time.Hour)})
	control := rt.insert(t, breaker.Sync, laneJob{Org: org}, &river.InsertOpts{Queue: breaker.ControlQueue})
	foreign := rt.insert(t, breaker.Sync, laneJob{Org: org}, &river.InsertOpts{Queue: "default"})
	done := rt.insert(t, breaker.Sync, laneJob{Org: org}, nil)
	rt.finish(t, rt.job(t, done))

	diff(t, "sum", rt.cancelAll(t, org, 2), store.CancelledBatch{Cancelled: 3})
	diff(t, "places", rt.places(t, admitted, available, scheduled, others, control, foreign, done), []place{
		{lane, rivertype.JobStateCancelled},
		{lane, rivertype.JobStateCancelled},
		{breaker.Write.Queue(org), rivertype.JobStateCancelled},
		{breaker.Sync.RunQueue(), rivertype.JobStateAvailable},
		{breaker.ControlQueue, rivertype.JobStateAvailable},
		{"default", rivertype.JobStateAvailable},
		{lane, rivertype.JobStateCompleted},
	})
	job := rt.job(t, available)
	m := metadata(t, job)
	at, _ := m["cancel_attempted_at"].(string)
	if _, err := time.Parse(time.RFC3339Nano, at); err != nil {
		t.Errorf("cancel_attempted_at is %q, which River's rescue cannot read: %v", at, err)
	}
	if m[store.MetadataCancelReason] != revoked || job.FinalizedAt == nil {
		t.Errorf("cancelled with metadata %v, finalized at %v", m, job.FinalizedAt)
	}
	diff(t, "sum of a second pass", rt.cancelAll(t, org, 10), store.CancelledBatch{})
	if n := rt.requeueAll(t, org, 2); n != 3 {
		t.Errorf("requeued %d, want 3", n)
	}
	diff(t, "places after the requeue", rt.places(t, admitted, available, scheduled), []place{
		{lane, rivertype.JobStateAvailable}, {lane, rivertype.JobStateAvailable},
		{breaker.Write.Queue(org), rivertype.JobStateScheduled},
	})
	job = rt.job(t, available)
	if m := metadata(t, job); m["cancel_attempted_at"] != nil || m[store.MetadataCancelReason] != nil || job.FinalizedAt != nil {
		t.Errorf("requeued with metadata %v, finalized at %v", m, job.FinalizedAt)
	}
}

// The context of a running job ends although the job is on its way back into
// its lane, and River finishes its row.
func testCancelRunning[TTx any](t *testing.T, rt *riverTest[TTx]) {
	orgs := rt.connect(t, 2)
	org := orgs[0]
	const staying, moving, other = 1, 2, 3
	began, ended := make(chan int, 3), make(chan error, 3)
	release := make(chan struct{})
	client := rt.work(t, "p", func(ctx context.Context, job *river.Job[laneJob]) error {
		if job.Args.N == moving {
			if err := rt.store.MoveRunning(ctx, job.ID, breaker.Write.Queue(org)); err != nil {
				t.Error(err)
			}
		}
		began <- job.Args.N
		if job.Args.N == other {
			<-release
			return ctx.Err()
		}
		<-ctx.Done()
		ended <- context.Cause(ctx)
		return ctx.Err()
	})
	events, unsubscribe := client.Subscribe(river.EventKindJobCancelled, river.EventKindJobCompleted)
	defer unsubscribe()
	stays := rt.insert(t, breaker.Sync, laneJob{Org: org, N: staying}, nil)
	moves := rt.insert(t, breaker.Write, laneJob{Org: org, N: moving}, nil)
	rt.insert(t, breaker.Sync, laneJob{Org: orgs[1], N: other}, nil)
	for _, lane := range breaker.AllLanes() {
		rt.admit(t, store.AdmitParams{Lane: lane, Window: 1})
	}
	for range 3 {
		receive(t, began)
	}
	diff(t, "sum", rt.cancelAll(t, org, 10), store.CancelledBatch{Signalled: 2})
	for range 2 {
		if err := receive(t, ended); !errors.Is(err, river.ErrJobCancelledRemotely) {
			t.Errorf("the context ended with %v, want river.ErrJobCancelledRemotely", err)
		}
	}
	close(release)
	for range 3 {
		receive(t, events)
	}
	diff(t, "places", rt.places(t, stays, moves), []place{
		{breaker.Sync.Queue(org), rivertype.JobStateCancelled}, {breaker.Write.Queue(org), rivertype.JobStateCancelled},
	})
	if n := rt.requeueAll(t, org, 10); n != 2 {
		t.Errorf("requeued %d, want 2", n)
	}
	diff(t, "places after the requeue", rt.places(t, stays, moves), []place{
		{breaker.Sync.Queue(org), rivertype.JobStateAvailable}, {breaker.Write.Queue(org), rivertype.JobStateAvailable},
	})
}

func testCancelBatches[TTx any](t *testing.T, rt *riverTest[TTx]) {
	orgs := rt.connect(t, 2)
	rt.fill(t, breaker.Sync, orgs, 250)
	rt.fill(t, breaker.Write, orgs, 250)
	rt.admit(t, store.AdmitParams{Window: 20})
	rt.fetch(t, "p", breaker.Sync.RunQueue(), 10) // of the first lane served
	running := 0
	for _, job := range rt.queued(t, breaker.Sync.RunQueue()) {
		if job.State == rivertype.JobStateRunning && orgOf(t, job) == orgs[0] {
			running++
		}
	}
	first, err := rt.store.CancelOrgBatch(t.Context(), orgs[0], revoked, 100)
	must(t, err)
	diff(t, "the first batch has the running ones", *first, store.CancelledBatch{Cancelled: 100 - running, Signalled: running, More: true})
	diff(t, "the rest", rt.cancelAll(t, orgs[0], 100), store.CancelledBatch{Cancelled: 400})
	sync, write, err := rt.store.Backlog(t.Context(), orgs[0])
	must(t, err)
	diff(t, "backlog of the org", [2]int{sync, write}, [2]int{})
	if _, write, err = rt.store.Backlog(t.Context(), orgs[1]); err != nil || write != 250 {
		t.Errorf("backlog of the other org is %d, %v, want 250", write, err)
	}
}

func testRequeueOrder[TTx any](t *testing.T, rt *riverTest[TTx]) {
	org := rt.connect(t, 1)[0]
	const n = 60
	rt.fill(t, breaker.Write, []sfapi.OrgID{org}, n)
	rt.admit(t, store.AdmitParams{Lane: breaker.Write, Window: 5})
	rt.cancelAll(t, org, 7)
	for more := true; more; {
		var err error
		_, more, err = rt.store.RequeueCancelledBatch(t.Context(), org, revoked, 7)
		must(t, err)
		// What is back must be older than what is not, at every moment.
		back := len(rt.queued(t, breaker.Write.Queue(org)))
		for i, job := range rt.queued(t, breaker.Write.Queue(org)) {
			var args laneJob
			decode(t, job.EncodedArgs, &args)
			if args.N != i {
				t.Fatalf("job %d came back at place %d of %d", args.N, i, back)
			}
		}
	}
	var got, want []int
	for i := range n {
		want = append(want, i)
		rt.admit(t, store.AdmitParams{Lane: breaker.Write, Window: 1})
		for _, job := range rt.fetch(t, "p", breaker.Write.RunQueue(), 10) {
			var args laneJob
			decode(t, job.EncodedArgs, &args)
			got = append(got, args.N)
			rt.finish(t, job)
		}
	}
	diff(t, "order after the requeue", got, want)
}

func testRequeueUnique[TTx any](t *testing.T, rt *riverTest[TTx]) {
	org := rt.connect(t, 1)[0]
	insert := func(n int) int64 {
		t.Helper()
		res, err := rt.client.Insert(t.Context(), laneJob{Org: org, N: n}, &river.InsertOpts{
			Queue: breaker.Sync.Queue(org), UniqueOpts: river.UniqueOpts{ByArgs: true},
		})
		must(t, err)
		if res.UniqueSkippedAsDuplicate {
			t.Fatalf("job %d was a duplicate", n)
		}
		return res.Job.ID
	}
	replaced, twice := insert(1), insert(2)
	rt.cancelAll(t, org, 10)
	twiceAgain := insert(2)
	rt.cancelAll(t, org, 10)
	insert(1) // replaces the cancelled one

	if n := rt.requeueAll(t, org, 10); n != 1 {
		t.Errorf("requeued %d jobs, want the one whose key is free", n)
	}
	lane := breaker.Sync.Queue(org)
	diff(t, "places", rt.places(t, replaced, twice, twiceAgain), []place{
		{lane, rivertype.JobStateCancelled}, {lane, rivertype.JobStateAvailable}, {lane, rivertype.JobStateCancelled},
	})
}

func testWaitingJob[TTx any](t *testing.T, rt *riverTest[TTx]) {
	orgs := rt.connect(t, 2)
	find := func(object string) (id int64) {
		t.Helper()
		rt.inTx(t, func(ctx context.Context, tx TTx) (err error) {
			id, err = rt.store.WaitingJobTx(ctx, tx, laneJob{}.Kind(), orgs[0], object)
			return err
		})
		return id
	}
	want := func(what, object string, want int64) {
		t.Helper()
		if got := find(object); got != want {
			t.Errorf("%s: found job %d, want %d", what, got, want)
		}
	}
	setArg := func(id int64) (set bool) {
		t.Helper()
		rt.inTx(t, func(ctx context.Context, tx TTx) (err error) {
			set, err = rt.store.SetArgTx(ctx, tx, id, "object", "Lead")
			return err
		})
		return set
	}
	rt.insert(t, breaker.Sync, laneJob{Org: orgs[1], Object: "Account"}, nil)
	want("a job of another org", "Account", 0)
	rt.insert(t, breaker.Sync, laneJob{Org: orgs[0], Object: "Account"}, &river.InsertOpts{ScheduledAt: time.Now().Add(time.Hour)})
	want("a job for later", "Account", 0)
	id := rt.insert(t, breaker.Sync, laneJob{Org: orgs[0], Object: "Account"}, nil)
	want("the job", "Account", id)
	want("any object", "", id)
	want("another object", "Contact", 0)
	rt.admit(t, store.AdmitParams{Window: 1})
	want("the job, let through", "Account", id)
	if !setArg(id) {
		t.Error("the argument of a waiting job was not set")
	}
	want("by its new argument", "Lead", id)
	want("by its old argument", "Account", 0)
	rt.fetch(t, "p", breaker.Sync.RunQueue(), 10)
	want("once it runs", "", 0)
	if setArg(id) {
		t.Error("the argument of a running job was set")
	}
	var args laneJob
	decode(t, rt.job(t, id).EncodedArgs, &args)
	diff(t, "args", args, laneJob{Org: orgs[0], Object: "Lead"})
}

func testCompleteWaiting[TTx any](t *testing.T, rt *riverTest[TTx]) {
	orgs := rt.connect(t, 2)
	insert := func(org sfapi.OrgID, object string, opts *river.InsertOpts) int64 {
		return rt.insert(t, breaker.Sync, laneJob{Org: org, Object: object}, opts)
	}
	keep := insert(orgs[0], "Account", nil)
	rt.admit(t, store.AdmitParams{Window: 1})
	rt.fetch(t, "p", breaker.Sync.RunQueue(), 1)
	through := insert(orgs[0], "Account", nil)
	rt.admit(t, store.AdmitParams{Window: 2})
	waits := insert(orgs[0], "Account", nil)
	later := insert(orgs[0], "Account", &river.InsertOpts{ScheduledAt: time.Now().Add(time.Hour)})
	contact := insert(orgs[0], "Contact", nil)
	other := insert(orgs[1], "Account", nil)

	n, err := rt.store.CompleteWaiting(t.Context(), laneJob{}.Kind(), orgs[0], "Account", keep)
	must(t, err)
	if n != 2 {
		t.Errorf("completed %d jobs, want 2", n)
	}
	var states []rivertype.JobState
	for _, p := range rt.places(t, keep, through, waits, later, contact, other) {
		states = append(states, p.State)
	}
	diff(t, "states", states, []rivertype.JobState{
		rivertype.JobStateRunning, rivertype.JobStateCompleted, rivertype.JobStateCompleted,
		rivertype.JobStateScheduled, rivertype.JobStateAvailable, rivertype.JobStateAvailable,
	})
	if got := metadata(t, rt.job(t, waits))[store.MetadataDoneBy]; got != float64(keep) {
		t.Errorf("%s is %v, want %d", store.MetadataDoneBy, got, keep)
	}
}
