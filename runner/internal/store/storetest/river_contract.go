package storetest

import (
	"context"
	"encoding/json"
	"slices"
	"testing"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver"

	"github.com/weirhq/weir/breaker"
	"github.com/weirhq/weir/runner/internal/store"
)

// testNotifications compares what the store sends with what River sends for
// the same change, heard by River's own listener.
func testNotifications[TTx any](t *testing.T, rt *riverTest[TTx]) {
	org := rt.connect(t, 1)[0]
	lane, run := breaker.Sync.Queue(org), breaker.Sync.RunQueue()
	heard := rt.listen(t, "river_insert", "river_control")
	hear := func(what string, want ...string) {
		t.Helper()
		got := make([]string, len(want))
		for i := range want {
			got[i], want[i] = canonical(t, receive(t, heard)), canonical(t, want[i])
		}
		slices.Sort(got)
		slices.Sort(want)
		diff(t, what, got, want)
	}
	note := func(topic, payload string) string { return `{"topic":"` + topic + `","payload":` + payload + `}` }

	rt.insert(t, breaker.Sync, laneJob{Org: org}, nil)
	hear("River inserts", note("river_insert", `{"queue":"`+lane+`"}`))
	rt.admit(t, store.AdmitParams{Window: 9})
	hear("the gate inserts", note("river_insert", `{"queue":"`+run+`"}`))

	pause := note("river_control", `{"action":"pause","queue":"`+lane+`"}`)
	resume := note("river_control", `{"action":"resume","queue":"`+lane+`"}`)
	rt.inTx(t, func(ctx context.Context, tx TTx) error { return rt.store.PauseLaneTx(ctx, tx, lane, nil) })
	hear("we pause", pause)
	must(t, rt.client.QueuePause(t.Context(), lane, nil))
	hear("River pauses", pause)
	rt.inTx(t, func(ctx context.Context, tx TTx) error { return rt.store.ResumeLaneTx(ctx, tx, lane) })
	hear("we resume, and wake the gate", resume, note("river_insert", `{"queue":"`+lane+`"}`))
	must(t, rt.client.QueueResume(t.Context(), lane, nil))
	hear("River resumes", resume)

	cancel := func(id int64) string {
		return note("river_control", `{"action":"cancel","job_id":`+jsonOf(t, id)+`,"queue":"`+run+`"}`)
	}
	id := rt.fetch(t, "p", run, 1)[0].ID
	b, err := rt.store.CancelOrgBatch(t.Context(), org, revoked, 10)
	must(t, err)
	diff(t, "cancelled", *b, store.CancelledBatch{Signalled: 1})
	hear("we cancel a running job", cancel(id))
	id = rt.insert(t, breaker.Sync, laneJob{Org: org}, &river.InsertOpts{Queue: run})
	hear("River inserts into a run queue", note("river_insert", `{"queue":"`+run+`"}`))
	rt.fetch(t, "p", run, 1)
	_, err = rt.client.JobCancel(t.Context(), id)
	must(t, err)
	hear("River cancels a running job", cancel(id))
}

func jsonOf(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	must(t, err)
	return string(b)
}

// canonical returns JSON in one spelling.
func canonical(t *testing.T, text string) string {
	t.Helper()
	var v any
	decode(t, []byte(text), &v)
	return jsonOf(t, v)
}

// listen returns what is sent under the topics, each {"topic":…,"payload":…}.
func (rt *riverTest[TTx]) listen(t *testing.T, topics ...string) <-chan string {
	t.Helper()
	l := rt.store.Driver().GetListener(&riverdriver.GetListenenerParams{})
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	must(t, l.Connect(ctx))
	for _, topic := range topics {
		must(t, l.Listen(ctx, topic))
	}
	heard := make(chan string, 100)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			n, err := l.WaitForNotification(ctx)
			if err != nil {
				if ctx.Err() == nil {
					t.Error(err)
				}
				return
			}
			heard <- `{"topic":"` + n.Topic + `","payload":` + n.Payload + `}`
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-done
		_ = l.Close(context.WithoutCancel(t.Context())) // a cancelled wait may have closed it
	})
	return heard
}
