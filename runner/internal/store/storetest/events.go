package storetest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/weirhq/weir/breaker"
	"github.com/weirhq/weir/jobs"
	"github.com/weirhq/weir/runner/internal/store"
)

func sampleEvent(i int) *store.Event {
	return &store.Event{Org: riverOrg(i), Type: "org.held", At: sampleStamp, Payload: []byte(fmt.Sprintf(`{"n": %d, "text":"Ångström"}`, i))}
}

func (s *suite[TTx]) emit(t *testing.T, e *store.Event) {
	t.Helper()
	s.inTx(t, func(ctx context.Context, tx TTx) error { return s.store.InsertEventTx(ctx, tx, e) })
}

func testEvents[TTx any](t *testing.T, s *suite[TTx]) {
	list, err := s.store.Events(t.Context(), 0, 10)
	must(t, err)
	if len(list) != 0 {
		t.Errorf("%d events at first", len(list))
	}
	var want []*store.Event
	for i := range 3 {
		e := sampleEvent(i)
		s.emit(t, e)
		want = append(want, e)
	}
	if want[0].ID <= 0 || want[1].ID <= want[0].ID || want[2].ID <= want[1].ID {
		t.Errorf("ids %d, %d, %d", want[0].ID, want[1].ID, want[2].ID)
	}
	list, err = s.store.Events(t.Context(), 0, 10)
	must(t, err)
	diff(t, "all events", list, want)
	list, err = s.store.Events(t.Context(), want[0].ID, 1)
	must(t, err)
	diff(t, "the one after the first", list, want[1:2])
	one, err := s.store.Event(t.Context(), want[1].ID)
	must(t, err)
	diff(t, "one event", one, want[1])
	_, err = s.store.Event(t.Context(), want[2].ID+1)
	isErr(t, "an event that is not there", err, jobs.ErrNotFound)

	_, err = s.store.PruneEvents(t.Context(), time.Now().Add(-time.Hour), 10)
	must(t, err)
	for i, wantMore := range []bool{true, false} {
		more, err := s.store.PruneEvents(t.Context(), time.Now().Add(time.Hour), 2)
		must(t, err)
		if more != wantMore {
			t.Errorf("prune %d: more is %v", i, more)
		}
	}
	last := sampleEvent(3)
	s.emit(t, last)
	list, err = s.store.Events(t.Context(), 0, 10)
	must(t, err)
	diff(t, "after pruning", list, []*store.Event{last})
	if last.ID <= want[2].ID {
		t.Errorf("id %d was used again", last.ID)
	}
}

// Many write at once, in transactions that last, and some roll back. Who reads
// by cursor meanwhile gets every event once, in order of the ids.
func testEventsCursor[TTx any](t *testing.T, s *suite[TTx]) {
	const writers, each = 6, 25
	var (
		mu        sync.Mutex
		committed = make(map[int64]bool)
		wg        sync.WaitGroup
	)
	for w := range writers {
		wg.Go(func() {
			random := rand.New(rand.NewPCG(uint64(w), 1))
			for i := range each {
				var ids []int64
				err := s.store.InTx(t.Context(), func(ctx context.Context, tx TTx) error {
					for range 1 + random.IntN(2) {
						e := sampleEvent(i)
						if err := s.store.InsertEventTx(ctx, tx, e); err != nil {
							return err
						}
						ids = append(ids, e.ID)
					}
					pause := time.NewTimer(time.Duration(random.Int64N(int64(4 * time.Millisecond))))
					defer pause.Stop()
					<-pause.C
					if random.IntN(5) == 0 {
						return errRollback
					}
					return nil
				})
				if err != nil {
					if !errors.Is(err, errRollback) {
						t.Error(err)
					}
					continue
				}
				mu.Lock()
				for _, id := range ids {
					committed[id] = true
				}
				mu.Unlock()
			}
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	got := make(map[int64]bool)
	cursor := int64(0)
	for last := false; ; {
		list, err := s.store.Events(t.Context(), cursor, 7)
		must(t, err)
		for _, e := range list {
			if e.ID <= cursor {
				t.Fatalf("event %d after %d", e.ID, cursor)
			}
			cursor, got[e.ID] = e.ID, true
		}
		if last && len(list) == 0 {
			break
		}
		select {
		case <-done:
			last = true
		default:
		}
	}
	diff(t, "events read", got, committed)
}

func testCancellations[TTx any](t *testing.T, s *suite[TTx]) {
	begin := func(c *store.Cancellation) *store.Cancellation {
		t.Helper()
		s.inTx(t, func(ctx context.Context, tx TTx) error { return s.store.BeginCancellationTx(ctx, tx, c) })
		return c
	}
	save := func(c *store.Cancellation) {
		t.Helper()
		s.inTx(t, func(ctx context.Context, tx TTx) error { return s.store.UpdateCancellationTx(ctx, tx, c) })
	}
	open := func(after int64, since time.Time, limit int) []*store.Cancellation {
		t.Helper()
		list, err := s.store.OpenCancellations(t.Context(), after, since, limit)
		must(t, err)
		return list
	}
	a := begin(&store.Cancellation{Org: riverOrg(1), Reason: "reauth", Event: []byte(`{"a": 1}`)})
	b := begin(&store.Cancellation{Org: riverOrg(2), Reason: "disconnected"})
	if a.State != store.Cancelling || b.ID <= a.ID {
		t.Errorf("began %+v, %+v", a, b)
	}
	hourAgo, later := time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	diff(t, "open", open(0, hourAgo, 10), []*store.Cancellation{a, b})
	diff(t, "open, a page", open(0, hourAgo, 1), []*store.Cancellation{a})
	diff(t, "open, the next", open(a.ID, hourAgo, 1), []*store.Cancellation{b})
	a.State, a.Event, a.Jobs, a.Writes = store.Cancelled, nil, 7, 9
	save(a)
	diff(t, "with one just done", open(0, hourAgo, 10), []*store.Cancellation{a, b})
	diff(t, "with one done long ago", open(0, later, 10), []*store.Cancellation{b})
	s.inTx(t, func(ctx context.Context, tx TTx) error {
		got, err := s.store.CancellationTx(ctx, tx, a.ID)
		must(t, err)
		diff(t, "by id", got, a)
		list, err := s.store.OrgCancellationsTx(ctx, tx, riverOrg(1))
		must(t, err)
		diff(t, "of the org", list, []*store.Cancellation{a})
		_, err = s.store.CancellationTx(ctx, tx, b.ID+1)
		isErr(t, "one that is not there", err, jobs.ErrNotFound)
		return nil
	})
	b.State = store.Closed
	save(b)
	diff(t, "with one closed", open(0, hourAgo, 10), []*store.Cancellation{a})
	_, err := s.store.PruneEvents(t.Context(), later, 10)
	must(t, err)
	s.inTx(t, func(ctx context.Context, tx TTx) error {
		if _, err := s.store.CancellationTx(ctx, tx, a.ID); err != nil {
			t.Errorf("one that is open was pruned: %v", err)
		}
		_, err := s.store.CancellationTx(ctx, tx, b.ID)
		isErr(t, "one that was pruned", err, jobs.ErrNotFound)
		return nil
	})
}

func testCancelAndRequeueWrites[TTx any](t *testing.T, s *suite[TTx]) {
	org := riverOrg(1)
	first := s.append(t, batch(org, `{"n":0}`, `{"n":1}`, `{"n":2}`)).ID
	account := batch(org, `{"a":1}`)
	account.Object = "Account"
	s.append(t, account)
	other := s.append(t, batch(riverOrg(2), `{}`)).ID
	epoch, err := s.store.BeginDrain(t.Context(), org, object, 1)
	must(t, err)
	rows := s.writeRows(t, first)
	must(t, s.store.MarkSent(t.Context(), org, object, epoch, []int64{rows[0].ID}, nil, nil))
	before, err := s.store.NextRows(t.Context(), org, object, 10)
	must(t, err)

	cancel := func(cancellation int64, limit, want int) {
		t.Helper()
		s.inTx(t, func(ctx context.Context, tx TTx) error {
			n, err := s.store.CancelWritesTx(ctx, tx, org, cancellation, limit)
			if n != want {
				t.Errorf("cancelled %d, want %d", n, want)
			}
			return err
		})
	}
	cancel(5, 2, 2)
	cancel(5, 2, 1)
	cancel(5, 2, 0)
	s.counts(t, first, jobs.WriteCounts{Accepted: 3, Sent: 1, Cancelled: 2})
	c, err := s.store.WriteCounts(t.Context(), riverOrg(2), other)
	must(t, err)
	diff(t, "counts of another org", *c, jobs.WriteCounts{Accepted: 1, Pending: 1})

	requeue := func(cancellation int64, limit, want int, wantObjects ...string) {
		t.Helper()
		s.inTx(t, func(ctx context.Context, tx TTx) error {
			n, objects, err := s.store.RequeueWritesTx(ctx, tx, cancellation, limit)
			if n != want || fmt.Sprint(objects) != fmt.Sprint(wantObjects) {
				t.Errorf("requeued %d of %v, want %d of %v", n, objects, want, wantObjects)
			}
			return err
		})
	}
	requeue(6, 10, 0) // of another cancellation
	requeue(5, 2, 2, object)
	requeue(5, 2, 1, "Account")
	requeue(5, 2, 0)
	after, err := s.store.NextRows(t.Context(), org, object, 10)
	must(t, err)
	diff(t, "rows to send", after, before)
	cancel(7, 10, 3)
	requeue(5, 10, 0)
}

func testCancelTx[TTx any](t *testing.T, s *suite[TTx]) {
	org := s.connect(t, 1)[0]
	waits := s.insert(t, breaker.Sync, laneJob{Org: org}, nil)
	runs := s.insert(t, breaker.Write, laneJob{Org: org}, nil)
	s.fetch(t, "p", breaker.Write.Queue(org), 1)
	err := s.store.InTx(t.Context(), func(ctx context.Context, tx TTx) error {
		_, err := s.store.CancelOrgBatchTx(ctx, tx, org, revoked, 10)
		must(t, err)
		return errRollback
	})
	isErr(t, "InTx", err, errRollback)
	if got := s.job(t, waits).State; got != "available" {
		t.Errorf("after a rollback the job is %s", got)
	}
	s.inTx(t, func(ctx context.Context, tx TTx) error {
		b, err := s.store.CancelOrgBatchTx(ctx, tx, org, revoked, 10)
		must(t, err)
		diff(t, "batch", b, &store.CancelledBatch{Cancelled: 1, Signalled: 1})
		return nil
	})
	count := func(reason string, want int) {
		t.Helper()
		n, err := s.store.CancelledRunning(t.Context(), org, reason)
		must(t, err)
		if n != want {
			t.Errorf("%d jobs end for %s, want %d", n, reason, want)
		}
	}
	count(revoked, 1)
	count("another", 0)
	s.finish(t, s.job(t, runs))
	count(revoked, 0)
}
