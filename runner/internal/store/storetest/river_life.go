package storetest

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver"
	"github.com/riverqueue/river/rivertype"

	"github.com/weirhq/weir/breaker"
	"github.com/weirhq/weir/runner/internal/store"
)

func decode(t *testing.T, data []byte, v any) {
	t.Helper()
	must(t, json.Unmarshal(data, v))
}

func testMoveRunning[TTx any](t *testing.T, rt *riverTest[TTx]) {
	org := rt.connect(t, 1)[0]
	client := rt.work(t, "p", func(ctx context.Context, job *river.Job[laneJob]) error {
		if err := rt.store.MoveRunning(ctx, job.ID, breaker.Write.Queue(org)); err != nil {
			t.Error(err)
		}
		return river.JobSnooze(0)
	})
	events, cancel := client.Subscribe(river.EventKindJobSnoozed)
	defer cancel()
	id := rt.insert(t, breaker.Write, laneJob{Org: org}, &river.InsertOpts{Queue: breaker.Write.RunQueue()})
	_ = receive(t, events)
	job := rt.job(t, id)
	diff(t, "place", place{job.Queue, job.State}, place{breaker.Write.Queue(org), rivertype.JobStateAvailable})
	if job.Attempt != 0 {
		t.Errorf("the snooze left attempt %d, want 0", job.Attempt)
	}

	must(t, rt.store.MoveRunning(t.Context(), id, "elsewhere"))
	if got := rt.job(t, id).Queue; got != breaker.Write.Queue(org) {
		t.Errorf("MoveRunning moved a job that does not run, to %s", got)
	}
}

// beat gives a process a heartbeat.
func (rt *riverTest[TTx]) beat(t *testing.T, process string) {
	t.Helper()
	must(t, rt.store.Beat(t.Context(), process))
}

// backdate makes a job look as if its attempt had begun long ago.
func (rt *riverTest[TTx]) backdate(t *testing.T, id int64) {
	t.Helper()
	past := time.Now().Add(-time.Hour)
	_, err := rt.exec.JobUpdateFull(t.Context(), &riverdriver.JobUpdateFullParams{
		ID: id, AttemptedAtDoUpdate: true, AttemptedAt: &past,
	})
	must(t, err)
}

func testRescue[TTx any](t *testing.T, rt *riverTest[TTx]) {
	org := rt.connect(t, 1)[0]
	run, lane := breaker.Sync.RunQueue(), breaker.Sync.Queue(org)
	begin := func(process string, opts river.InsertOpts) int64 {
		t.Helper()
		if opts.Queue == "" {
			opts.Queue = run
		}
		id := rt.insert(t, breaker.Sync, laneJob{Org: org}, &opts)
		for _, job := range rt.fetch(t, process, opts.Queue, 100) {
			if job.ID == id {
				return id
			}
		}
		t.Fatalf("job %d was not fetched", id)
		return 0
	}
	rt.beat(t, "alive")

	alive := begin("alive", river.InsertOpts{})
	lost := begin("dead", river.InsertOpts{})
	onTheWayBack := begin("dead", river.InsertOpts{})
	must(t, rt.store.MoveRunning(t.Context(), onTheWayBack, lane))
	control := begin("dead", river.InsertOpts{Queue: breaker.ControlQueue})
	foreign := begin("dead", river.InsertOpts{Queue: "default"})
	spent := begin("dead", river.InsertOpts{MaxAttempts: 1})
	toCancel := begin("dead", river.InsertOpts{})
	_, err := rt.client.JobCancel(t.Context(), toCancel)
	must(t, err)
	for _, id := range []int64{alive, lost, onTheWayBack, control, foreign, spent, toCancel} {
		rt.backdate(t, id)
	}
	justBegun := begin("unknown", river.InsertOpts{})
	stray := rt.insert(t, breaker.Sync, laneJob{Org: org}, &river.InsertOpts{Queue: run, ScheduledAt: time.Now().Add(time.Hour)})
	scheduledAt := rt.job(t, lost).ScheduledAt

	n, err := rt.store.Rescue(t.Context(), time.Minute)
	must(t, err)
	if n != 4 {
		t.Errorf("put back %d jobs, want 4", n)
	}
	diff(t, "places", rt.places(t, alive, lost, onTheWayBack, control, foreign, spent, toCancel, justBegun, stray), []place{
		{run, rivertype.JobStateRunning},
		{lane, rivertype.JobStateAvailable},
		{lane, rivertype.JobStateAvailable},
		{breaker.ControlQueue, rivertype.JobStateAvailable},
		{"default", rivertype.JobStateRunning},
		{lane, rivertype.JobStateDiscarded},
		{lane, rivertype.JobStateCancelled},
		{run, rivertype.JobStateRunning},
		{lane, rivertype.JobStateScheduled},
	})
	job := rt.job(t, lost)
	if job.Attempt != 1 || !job.ScheduledAt.Equal(scheduledAt) {
		t.Errorf("rescued with attempt %d at %s, want attempt 1 at %s", job.Attempt, job.ScheduledAt, scheduledAt)
	}
	if len(job.Errors) != 1 || job.Errors[0].Attempt != 1 || job.Errors[0].Error == "" || job.Errors[0].At.IsZero() {
		t.Errorf("errors of the rescued job are %+v, want one that says why", job.Errors)
	}
	if got := metadata(t, job)["river:rescue_count"]; got != 1.0 {
		t.Errorf("rescue count is %v, want 1", got)
	}

	n, err = rt.store.Rescue(t.Context(), time.Minute)
	must(t, err)
	if n != 0 {
		t.Errorf("put back %d jobs in a second pass, want none", n)
	}
	must(t, rt.store.Retire(t.Context(), "alive"))
	n, err = rt.store.Rescue(t.Context(), time.Minute)
	must(t, err)
	if n != 1 {
		t.Errorf("put back %d jobs of a process without heartbeat, want 1", n)
	}
}

func testRescueWorks[TTx any](t *testing.T, rt *riverTest[TTx]) {
	org := rt.connect(t, 1)[0]
	id := rt.insert(t, breaker.Sync, laneJob{Org: org}, nil)
	rt.admit(t, store.AdmitParams{Window: 1})
	rt.fetch(t, "dead", breaker.Sync.RunQueue(), 1)
	rt.backdate(t, id)
	n, err := rt.store.Rescue(t.Context(), time.Minute)
	must(t, err)
	if n != 1 {
		t.Fatalf("put back %d jobs, want 1", n)
	}
	attempts := make(chan int, 1)
	rt.work(t, "p", func(_ context.Context, job *river.Job[laneJob]) error {
		attempts <- job.Attempt
		return nil
	})
	rt.admit(t, store.AdmitParams{Window: 1})
	if got := receive(t, attempts); got != 2 {
		t.Errorf("worked again as attempt %d, want 2", got)
	}
}

func testPauseLane[TTx any](t *testing.T, rt *riverTest[TTx]) {
	org := rt.connect(t, 1)[0]
	queue := breaker.Sync.Queue(org)
	get := func() *rivertype.Queue {
		t.Helper()
		q, err := rt.exec.QueueGet(t.Context(), &riverdriver.QueueGetParams{Name: queue})
		must(t, err)
		return q
	}
	clean := func() int {
		t.Helper()
		deleted, err := rt.exec.QueueDeleteExpired(t.Context(), &riverdriver.QueueDeleteExpiredParams{
			Max: 10, UpdatedAtHorizon: time.Now().Add(365 * 24 * time.Hour),
		})
		must(t, err)
		return len(deleted)
	}
	pause := func(metadata string) {
		t.Helper()
		rt.inTx(t, func(ctx context.Context, tx TTx) error {
			return rt.store.PauseLaneTx(ctx, tx, queue, json.RawMessage(metadata))
		})
	}
	pause(`{"reason":"maintenance"}`)
	first := get()
	if first.PausedAt == nil {
		t.Fatal("the queue is not paused")
	}
	pause(`{"reason":"daily_limit"}`)
	again := get()
	if again.PausedAt == nil || !again.PausedAt.Equal(*first.PausedAt) {
		t.Errorf("paused since %v, want still %v", again.PausedAt, first.PausedAt)
	}
	var got map[string]string
	decode(t, again.Metadata, &got)
	diff(t, "metadata", got, map[string]string{"reason": "daily_limit"})
	if n := clean(); n != 0 {
		t.Errorf("River's cleaner deleted %d paused lanes", n)
	}

	rt.inTx(t, func(ctx context.Context, tx TTx) error { return rt.store.ResumeLaneTx(ctx, tx, queue) })
	resumed := get()
	decode(t, resumed.Metadata, &got)
	if resumed.PausedAt != nil || string(resumed.Metadata) != "{}" {
		t.Errorf("after the resume: paused %v, metadata %s", resumed.PausedAt, resumed.Metadata)
	}
	if n := clean(); n != 1 {
		t.Errorf("River's cleaner deleted %d open lanes, want 1", n)
	}

	// River's own pause and resume work on the row as on any.
	pause(``)
	must(t, rt.client.QueueResume(t.Context(), queue, nil))
	must(t, rt.client.QueuePause(t.Context(), queue, nil))
	if get().PausedAt == nil {
		t.Error("River's pause did not take")
	}
}

func testLaneQueues[TTx any](t *testing.T, rt *riverTest[TTx]) {
	orgs := rt.connect(t, 4)
	rt.inTx(t, func(ctx context.Context, tx TTx) error {
		if err := rt.store.PauseLaneTx(ctx, tx, breaker.Sync.Queue(orgs[0]), json.RawMessage(`{"a":1}`)); err != nil {
			return err
		}
		if err := rt.store.ResumeLaneTx(ctx, tx, breaker.Sync.Queue(orgs[1])); err != nil {
			return err
		}
		return rt.store.ResumeLaneTx(ctx, tx, breaker.Sync.Queue(orgs[2]))
	})
	_, err := rt.exec.QueueCreateOrSetUpdatedAt(t.Context(), &riverdriver.QueueCreateOrSetUpdatedAtParams{
		Name: "default", Metadata: []byte(`{}`),
	})
	must(t, err)
	must(t, rt.client.QueuePause(t.Context(), "default", nil))

	got, err := rt.store.LaneQueues(t.Context(), []string{breaker.Sync.Queue(orgs[1]), breaker.Sync.Queue(orgs[3])})
	must(t, err)
	type row struct {
		Name     string
		Paused   bool
		Metadata string
	}
	var rows []row
	for _, q := range got {
		var compact any
		decode(t, q.Metadata, &compact)
		m, err := json.Marshal(compact)
		must(t, err)
		rows = append(rows, row{q.Name, !q.PausedAt.IsZero(), string(m)})
		if !q.PausedAt.IsZero() && time.Since(q.PausedAt).Abs() > time.Hour {
			t.Errorf("paused at %s", q.PausedAt)
		}
	}
	diff(t, "rows", rows, []row{
		{breaker.Sync.Queue(orgs[0]), true, `{"a":1}`}, {breaker.Sync.Queue(orgs[1]), false, `{}`},
	})
}

func testBacklog[TTx any](t *testing.T, rt *riverTest[TTx]) {
	orgs := rt.connect(t, 2)
	rt.fill(t, breaker.Sync, orgs, 5)
	rt.fill(t, breaker.Write, orgs, 3)
	rt.insert(t, breaker.Sync, laneJob{Org: orgs[0]}, &river.InsertOpts{ScheduledAt: time.Now().Add(time.Hour)})
	rt.admit(t, store.AdmitParams{Lane: breaker.Sync, Window: 2})
	rt.admit(t, store.AdmitParams{Lane: breaker.Write, Window: 1})
	rt.finish(t, rt.fetch(t, "p", breaker.Write.RunQueue(), 2)...)
	sync, write, err := rt.store.Backlog(t.Context(), orgs[0])
	must(t, err)
	diff(t, "sync and write backlog", [2]int{sync, write}, [2]int{6, 2})
}
