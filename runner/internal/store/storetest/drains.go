package storetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/weirhq/weir/jobs"
)

func (s *suite[TTx]) beginDrain(t *testing.T, jobID int64) int64 {
	t.Helper()
	epoch, err := s.store.BeginDrain(t.Context(), riverOrg(1), object, jobID)
	must(t, err)
	return epoch
}

func (s *suite[TTx]) nextRows(t *testing.T, limit int) []*jobs.WriteRow {
	t.Helper()
	rows, err := s.store.NextRows(t.Context(), riverOrg(1), object, limit)
	must(t, err)
	return rows
}

func (s *suite[TTx]) mark(t *testing.T, epoch int64, ids []int64, merged map[int64]int64, payloads map[int64]json.RawMessage) {
	t.Helper()
	must(t, s.store.MarkSent(t.Context(), riverOrg(1), object, epoch, ids, merged, payloads))
}

func (s *suite[TTx]) settle(t *testing.T, epoch int64, outcomes ...jobs.WriteOutcome) {
	t.Helper()
	must(t, s.store.Settle(t.Context(), riverOrg(1), object, epoch, outcomes, nil))
}

func testNextRowsBytes[TTx any](t *testing.T, s *suite[TTx]) {
	const each = 3 << 20
	payload := `{"Big":"` + strings.Repeat("x", each-10) + `"}`
	s.append(t, batch(riverOrg(1), payload, `{"n":1}`, payload, payload, payload, payload, payload, `{"n":2}`))
	rows := s.nextRows(t, 100)
	if n := len(rows); n != 7 { // six large ones, of which the sixth is the first to reach 16 MiB
		t.Errorf("%d rows", n)
	}
	diff(t, "a small limit counts too", len(s.nextRows(t, 3)), 3)
}

func testDrain[TTx any](t *testing.T, s *suite[TTx]) {
	epoch := s.beginDrain(t, 1)
	diff(t, "rows of an empty log", s.nextRows(t, 10), []*jobs.WriteRow{})
	first := s.append(t, batch(riverOrg(1), `{"n":0}`, `{"n":1}`, `{"n":2}`)).ID
	account := batch(riverOrg(1), `{}`)
	account.Object = "Account"
	s.append(t, account)
	s.append(t, batch(riverOrg(2), `{}`))
	second := s.append(t, batch(riverOrg(1), `{"n":3}`, `{"n":4}`)).ID
	want := append(s.writeRows(t, first), s.writeRows(t, second)...)
	diff(t, "rows in order of submission", s.nextRows(t, 10), want)
	diff(t, "limited rows", s.nextRows(t, 4), want[:4])

	ids := []int64{want[0].ID, want[1].ID, want[2].ID, want[3].ID}
	s.mark(t, epoch, ids, nil, nil)
	s.counts(t, first, jobs.WriteCounts{Accepted: 3, Sent: 3})
	s.counts(t, second, jobs.WriteCounts{Accepted: 2, Sent: 1, Pending: 1})
	sent := s.nextRows(t, 10)
	for _, r := range sent[:4] {
		if r.SentAt.IsZero() {
			t.Errorf("sent row %d has no time", r.ID)
		}
	}
	for _, r := range want[:4] {
		r.Status = jobs.WriteSent
	}
	diffAt(t, "sent rows stay in order", sent, want, ignoreRowClock)

	s.settle(t, epoch,
		jobs.WriteOutcome{ID: ids[0], Status: jobs.WriteDone, SalesforceID: "003A", Created: true},
		jobs.WriteOutcome{ID: ids[1], Status: jobs.WriteFailed, ErrorCode: "E\x00", ErrorMessage: "“no”\n\x00\xff", ErrorFields: []string{"A__c", "b,\"{}\x00"}},
		jobs.WriteOutcome{ID: ids[2], Status: jobs.WritePending, CountAttempt: true, ErrorCode: "UNABLE_TO_LOCK_ROW"},
		jobs.WriteOutcome{ID: ids[3], Status: jobs.WriteUnknown, ErrorMessage: "answer lost", ErrorFields: []string{}},
	)
	done, failed, again, unknown := want[0], want[1], want[2], want[3]
	done.Status, done.SalesforceID, done.Created = jobs.WriteDone, "003A", true
	failed.Status, failed.ErrorCode, failed.ErrorMessage = jobs.WriteFailed, "E\uFFFD", "“no”\n\uFFFD\uFFFD"
	failed.ErrorFields = []string{"A__c", "b,\"{}\uFFFD"}
	again.Status, again.Attempts, again.ErrorCode = jobs.WritePending, 1, "UNABLE_TO_LOCK_ROW"
	unknown.Status, unknown.ErrorMessage, unknown.ErrorFields = jobs.WriteUnknown, "answer lost", []string{}
	diffAt(t, "settled rows", append(s.writeRows(t, first), s.writeRows(t, second)...), want, ignoreRowClock)
	diffAt(t, "rows that are left", s.nextRows(t, 10), []*jobs.WriteRow{again, want[4]}, ignoreRowClock)

	// What is settled stays as it is.
	s.settle(t, epoch, jobs.WriteOutcome{ID: ids[0], Status: jobs.WriteFailed, ErrorCode: "LATE"}, jobs.WriteOutcome{ID: again.ID, Status: jobs.WriteDone})
	again.Status, again.ErrorCode = jobs.WriteDone, ""
	diffAt(t, "rows settled twice", append(s.writeRows(t, first), s.writeRows(t, second)...), want, ignoreRowClock)
	s.counts(t, first, jobs.WriteCounts{Accepted: 3, Done: 2, Failed: 1})
}

func testDrainMerged[TTx any](t *testing.T, s *suite[TTx]) {
	id := s.append(t, batch(riverOrg(1), `{"a":1}`, `{"b":2}`, `{"c":3}`, `{"d":4}`)).ID
	epoch := s.beginDrain(t, 1)
	rows := s.writeRows(t, id)
	a, b, c, d := rows[0].ID, rows[1].ID, rows[2].ID, rows[3].ID
	view := func() (lines []string) {
		for _, r := range s.writeRows(t, id) {
			lines = append(lines, fmt.Sprintf("%s %s %d into %d", r.Status, r.Payload, r.Attempts, max(r.MergedInto-a+1, 0)))
		}
		return lines
	}
	next := func() (lines []string) {
		for _, r := range s.nextRows(t, 10) {
			lines = append(lines, fmt.Sprintf("%d %s %s", r.ID-a+1, r.Status, r.Payload))
		}
		return lines
	}

	s.mark(t, epoch, []int64{a, b, d}, map[int64]int64{a: b}, map[int64]json.RawMessage{b: []byte(`{"a":1,"b":2}`)})
	diff(t, "a in b", view(), []string{`sent {"a":1} 0 into 2`, `sent {"b":2} 0 into 0`, `pending {"c":3} 0 into 0`, `sent {"d":4} 0 into 0`})
	diff(t, "next with a in b", next(), []string{`2 sent {"a":1,"b":2}`, `3 pending {"c":3}`, `4 sent {"d":4}`})
	s.mark(t, epoch, []int64{b}, nil, nil)
	diff(t, "next after b was sent again", next(), []string{`2 sent {"a":1,"b":2}`, `3 pending {"c":3}`, `4 sent {"d":4}`})
	s.settle(t, epoch, jobs.WriteOutcome{ID: b, Status: jobs.WriteSent})
	diff(t, "next after b stayed sent", next(), []string{`2 sent {"a":1,"b":2}`, `3 pending {"c":3}`, `4 sent {"d":4}`})

	// b, which carries a, goes into c.
	s.mark(t, epoch, []int64{c}, map[int64]int64{b: c}, map[int64]json.RawMessage{c: []byte(`{"a":1,"b":2,"c":3}`)})
	diff(t, "a and b in c", view(), []string{`sent {"a":1} 0 into 3`, `sent {"b":2} 0 into 3`, `sent {"c":3} 0 into 0`, `sent {"d":4} 0 into 0`})
	diff(t, "next with a and b in c", next(), []string{`3 sent {"a":1,"b":2,"c":3}`, `4 sent {"d":4}`})

	s.settle(t, epoch, jobs.WriteOutcome{ID: c, Status: jobs.WritePending, CountAttempt: true})
	diff(t, "parted", view(), []string{`pending {"a":1} 1 into 0`, `pending {"b":2} 1 into 0`, `pending {"c":3} 1 into 0`, `sent {"d":4} 0 into 0`})
	diff(t, "next when parted", next(), []string{`1 pending {"a":1}`, `2 pending {"b":2}`, `3 pending {"c":3}`, `4 sent {"d":4}`})

	s.mark(t, epoch, []int64{c}, map[int64]int64{a: c, b: c}, map[int64]json.RawMessage{c: []byte(`{"all":true}`)})
	s.settle(t, epoch, jobs.WriteOutcome{ID: c, Status: jobs.WriteFailed, ErrorCode: "X", ErrorFields: []string{"a"}}, jobs.WriteOutcome{ID: d, Status: jobs.WriteDone, SalesforceID: "003D"})
	diff(t, "failed together", view(), []string{`failed {"a":1} 1 into 3`, `failed {"b":2} 1 into 3`, `failed {"c":3} 1 into 0`, `done {"d":4} 0 into 0`})
	for _, r := range s.writeRows(t, id)[:3] {
		if r.ErrorCode != "X" || len(r.ErrorFields) != 1 {
			t.Errorf("row %d has error %q %q", r.Index, r.ErrorCode, r.ErrorFields)
		}
	}
}

func testDrainLease[TTx any](t *testing.T, s *suite[TTx]) {
	s.append(t, batch(riverOrg(1), `{}`))
	row := s.nextRows(t, 1)[0].ID
	holder := s.runningJob(t)
	old := s.beginDrain(t, holder)
	_, err := s.store.BeginDrain(t.Context(), riverOrg(1), object, holder+1)
	isErr(t, "begin while another job runs", err, jobs.ErrBusy)
	_, err = s.store.BeginDrain(t.Context(), riverOrg(1), "Account", holder+1)
	must(t, err)
	epoch := s.beginDrain(t, holder) // the same job, after a crash
	if epoch != old+1 {
		t.Errorf("epoch %d after %d", epoch, old)
	}

	lost := func(what string, epoch int64) {
		t.Helper()
		isErr(t, what+": MarkSent", s.store.MarkSent(t.Context(), riverOrg(1), object, epoch, []int64{row}, nil, nil), jobs.ErrLeaseLost)
		isErr(t, what+": Settle", s.store.Settle(t.Context(), riverOrg(1), object, epoch, []jobs.WriteOutcome{{ID: row, Status: jobs.WriteDone}}, nil), jobs.ErrLeaseLost)
		_, err := s.store.EndDrain(t.Context(), riverOrg(1), object, epoch)
		isErr(t, what+": EndDrain", err, jobs.ErrLeaseLost)
		must(t, s.store.ReleaseDrain(t.Context(), riverOrg(1), object, epoch))
		if r := s.nextRows(t, 1); len(r) != 1 || r[0].Status != jobs.WritePending {
			t.Errorf("%s: rows %+v", what, r)
		}
	}
	lost("an older epoch", old)
	_, err = s.store.BeginDrain(t.Context(), riverOrg(1), object, holder+1)
	isErr(t, "the newer epoch still has the lease", err, jobs.ErrBusy)
	s.endJob(t, holder)
	s.beginDrain(t, holder+1)
	lost("taken over from a dead job", epoch)

	second := s.runningJob(t)
	epoch = s.beginDrain(t, second)
	released, err := s.store.EndDrain(t.Context(), riverOrg(1), object, epoch)
	must(t, err)
	if released {
		t.Error("the drain ended before a pending row")
	}
	_, err = s.store.BeginDrain(t.Context(), riverOrg(1), object, second+1)
	isErr(t, "begin after an end that was none", err, jobs.ErrBusy)
	must(t, s.store.ReleaseDrain(t.Context(), riverOrg(1), object, epoch))
	epoch = s.beginDrain(t, second+1) // second still runs
	s.mark(t, epoch, []int64{row}, nil, nil)
	released, err = s.store.EndDrain(t.Context(), riverOrg(1), object, epoch)
	must(t, err)
	if released {
		t.Error("the drain ended before a sent row")
	}
	s.settle(t, epoch, jobs.WriteOutcome{ID: row, Status: jobs.WriteDone})
	released, err = s.store.EndDrain(t.Context(), riverOrg(1), object, epoch)
	must(t, err)
	if !released {
		t.Error("the drain of an empty log did not end")
	}
}

// Whoever appends a row and then finds the lease taken leaves the row to its
// holder. The holder must see it before it ends.
func testDrainEnd[TTx any](t *testing.T, s *suite[TTx]) {
	ctx := t.Context()
	for round := range 25 {
		holder := s.runningJob(t)
		epoch := s.beginDrain(t, holder)
		drained := make(chan error, 1)
		go func() {
			drained <- func() error {
				for {
					rows, err := s.store.NextRows(ctx, riverOrg(1), object, 10)
					if err != nil {
						return err
					}
					var outcomes []jobs.WriteOutcome
					for _, r := range rows {
						outcomes = append(outcomes, jobs.WriteOutcome{ID: r.ID, Status: jobs.WriteDone})
					}
					if err := s.store.Settle(ctx, riverOrg(1), object, epoch, outcomes, nil); err != nil {
						return err
					}
					if released, err := s.store.EndDrain(ctx, riverOrg(1), object, epoch); released || err != nil {
						return err
					}
				}
			}()
		}()
		err := s.store.InTx(ctx, func(ctx context.Context, tx TTx) error {
			_, err := s.store.AppendTx(ctx, tx, batch(riverOrg(1), `{}`))
			return err
		})
		must(t, err)
		_, err = s.store.BeginDrain(ctx, riverOrg(1), object, holder+1)
		switch {
		case errors.Is(err, jobs.ErrBusy):
			must(t, receive(t, drained))
			if left := s.nextRows(t, 10); len(left) != 0 {
				t.Fatalf("round %d: %d rows were overlooked", round, len(left))
			}
		case err != nil:
			t.Fatal(err)
		default:
			// The holder had ended; it may not even know yet.
			if err := receive(t, drained); err != nil && !errors.Is(err, jobs.ErrLeaseLost) {
				t.Fatal(err)
			}
		}
		s.endJob(t, holder)
	}
}
