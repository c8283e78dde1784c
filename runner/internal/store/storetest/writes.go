package storetest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/riverqueue/river"

	"github.com/weirhq/weir/breaker"
	"github.com/weirhq/weir/jobs"
	"github.com/weirhq/weir/sfapi"
)

// ignoreRowClock leaves out what the database's clock sets.
var ignoreRowClock = cmpopts.IgnoreFields(jobs.WriteRow{}, "SentAt")

// append appends a batch in a transaction of its own.
func (s *suite[TTx]) append(t *testing.T, b *jobs.WriteBatch) (receipt *jobs.WriteReceipt) {
	t.Helper()
	s.inTx(t, func(ctx context.Context, tx TTx) (err error) {
		receipt, err = s.store.AppendTx(ctx, tx, b)
		return err
	})
	return receipt
}

func (s *suite[TTx]) writeRows(t *testing.T, id int64) []*jobs.WriteRow {
	t.Helper()
	rows, err := s.store.WriteRows(t.Context(), riverOrg(1), id, &jobs.WriteQuery{})
	must(t, err)
	return rows
}

func (s *suite[TTx]) counts(t *testing.T, id int64, want jobs.WriteCounts) {
	t.Helper()
	got, err := s.store.WriteCounts(t.Context(), riverOrg(1), id)
	must(t, err)
	diff(t, fmt.Sprintf("counts of write %d", id), *got, want)
}

func testWriteRoundTrip[TTx any](t *testing.T, s *suite[TTx]) {
	payloads := []string{
		`{"Name":"Ångström 😀\r\n\"x\" \u0000 \ud83d\ude00","Empty":"","Null":null}`,
		`{ "z" : 1.50, "a":12345678901234567890.123456789 , "e":1E5, "a":"twice"}`,
		`{"Big":"` + strings.Repeat("ü", 100_000) + `"}`,
		`{}`,
	}
	b := batch(riverOrg(1), payloads...)
	b.Keys = []string{"ключ/ 1\n", "", "k'\"\\", "0"}
	b.BodyHash = [32]byte{1, 2, 3}
	receipt := s.append(t, b)
	if receipt.Accepted != 4 || receipt.Repeated || receipt.ID <= 0 {
		t.Errorf("receipt %+v", receipt)
	}
	rows := s.writeRows(t, receipt.ID)
	var want []*jobs.WriteRow
	for i := range payloads {
		want = append(want, &jobs.WriteRow{
			ID: rows[0].ID + int64(i), WriteID: receipt.ID, Index: i, Org: riverOrg(1), Object: object,
			Operation: sfapi.OpUpsert, ExternalID: "Ext__c", Key: b.Keys[i], Payload: json.RawMessage(payloads[i]), Status: jobs.WritePending,
		})
	}
	// Without it cmp looks at each byte by itself.
	sameBytes := cmp.Comparer(func(a, b json.RawMessage) bool { return bytes.Equal(a, b) })
	diffAt(t, "rows", rows, want, sameBytes)
	next, err := s.store.NextRows(t.Context(), riverOrg(1), object, 10)
	must(t, err)
	diffAt(t, "next rows", next, want, sameBytes)
	s.counts(t, receipt.ID, jobs.WriteCounts{Accepted: 4, Pending: 4})

	for name, org := range map[string]sfapi.OrgID{"another org": riverOrg(2), "an unknown write": riverOrg(1)} {
		id := receipt.ID
		if org == riverOrg(1) {
			id += 100
		}
		_, err := s.store.WriteCounts(t.Context(), org, id)
		isErr(t, "counts of "+name, err, jobs.ErrNotFound)
		rows, err := s.store.WriteRows(t.Context(), org, id, &jobs.WriteQuery{})
		must(t, err)
		diff(t, "rows of "+name, rows, []*jobs.WriteRow{})
		err = s.store.InTx(t.Context(), func(ctx context.Context, tx TTx) error {
			_, _, err := s.store.RetryWriteTx(ctx, tx, org, id)
			return err
		})
		isErr(t, "retry of "+name, err, jobs.ErrNotFound)
	}
}

func testBadBatches[TTx any](t *testing.T, s *suite[TTx]) {
	good := batch(riverOrg(1), `{}`, `{}`)
	for name, spoil := range map[string]func(b *jobs.WriteBatch){
		"no records":       func(b *jobs.WriteBatch) { b.Keys, b.Payloads = nil, nil },
		"a key too few":    func(b *jobs.WriteBatch) { b.Keys = b.Keys[:1] },
		"U+0000 in a key":  func(b *jobs.WriteBatch) { b.Keys = []string{"", "a\x00b"} },
		"bytes in a key":   func(b *jobs.WriteBatch) { b.Keys = []string{"", "\xff"} },
		"an empty payload": func(b *jobs.WriteBatch) { b.Payloads = []json.RawMessage{[]byte(`{}`), nil} },
		"half a payload":   func(b *jobs.WriteBatch) { b.Payloads = []json.RawMessage{[]byte(`{}`), []byte(`{"a":`)} },
	} {
		b := *good
		spoil(&b)
		err := s.store.InTx(t.Context(), func(ctx context.Context, tx TTx) error {
			_, err := s.store.AppendTx(ctx, tx, &b)
			return err
		})
		if err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	rows, err := s.store.NextRows(t.Context(), riverOrg(1), object, 10)
	must(t, err)
	diff(t, "rows", rows, []*jobs.WriteRow{})
}

func testIdempotency[TTx any](t *testing.T, s *suite[TTx]) {
	b := batch(riverOrg(1), `{"n":1}`, `{"n":2}`)
	b.IdempotencyKey, b.BodyHash = "key", [32]byte{1}
	first := s.append(t, b)
	diff(t, "the same again", s.append(t, b), &jobs.WriteReceipt{ID: first.ID, Accepted: 2, Repeated: true})
	s.counts(t, first.ID, jobs.WriteCounts{Accepted: 2, Pending: 2})

	other := *b
	other.BodyHash = [32]byte{2}
	err := s.store.InTx(t.Context(), func(ctx context.Context, tx TTx) error {
		_, err := s.store.AppendTx(ctx, tx, &other)
		return err
	})
	isErr(t, "another body", err, jobs.ErrIdempotencyConflict)
	other.Org = riverOrg(2)
	if r := s.append(t, &other); r.Repeated || r.ID == first.ID {
		t.Errorf("another org's write with the same key: %+v", r)
	}
	b.IdempotencyKey = ""
	if a, b := s.append(t, b), s.append(t, b); a.Repeated || b.Repeated || a.ID == b.ID {
		t.Errorf("writes without a key: %+v, %+v", a, b)
	}
}

func testIdempotencyRace[TTx any](t *testing.T, s *suite[TTx]) {
	var mu sync.Mutex
	ids, repeated := make(map[int64]bool), 0
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			b := batch(riverOrg(1), `{}`)
			b.IdempotencyKey = "key"
			err := s.store.InTx(t.Context(), func(ctx context.Context, tx TTx) error {
				r, err := s.store.AppendTx(ctx, tx, b)
				if err != nil {
					return err
				}
				mu.Lock()
				defer mu.Unlock()
				ids[r.ID] = true
				if r.Repeated {
					repeated++
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if len(ids) != 1 || repeated != 5 {
		t.Errorf("writes %v, %d repeated", ids, repeated)
	}
}

func testWritePages[TTx any](t *testing.T, s *suite[TTx]) {
	payloads := make([]string, 2100)
	for i := range payloads {
		payloads[i] = fmt.Sprintf(`{"n":%d}`, i)
	}
	b := batch(riverOrg(1), payloads...)
	id := s.append(t, b).ID
	epoch, err := s.store.BeginDrain(t.Context(), riverOrg(1), object, 1)
	must(t, err)
	rows := s.writeRows(t, id)
	must(t, s.store.Settle(t.Context(), riverOrg(1), object, epoch, []jobs.WriteOutcome{
		{ID: rows[1].ID, Status: jobs.WriteFailed}, {ID: rows[7].ID, Status: jobs.WriteFailed}, {ID: rows[9].ID, Status: jobs.WriteDone},
	}, nil))
	for name, test := range map[string]struct {
		q               jobs.WriteQuery
		first, last, is int
	}{
		"default limit":     {jobs.WriteQuery{}, 0, 199, 200},
		"from an index":     {jobs.WriteQuery{From: 200, Limit: 3}, 200, 202, 3},
		"greatest limit":    {jobs.WriteQuery{Limit: 5000}, 0, 1999, 2000},
		"the end":           {jobs.WriteQuery{From: 2001, Limit: 2000}, 2001, 2099, 99},
		"by status":         {jobs.WriteQuery{Status: jobs.WriteFailed}, 1, 7, 2},
		"by status, from":   {jobs.WriteQuery{From: 2, Status: jobs.WriteFailed}, 7, 7, 1},
		"pending around it": {jobs.WriteQuery{From: 7, Limit: 2, Status: jobs.WritePending}, 8, 10, 2},
	} {
		rows, err := s.store.WriteRows(t.Context(), riverOrg(1), id, &test.q)
		must(t, err)
		if len(rows) != test.is || rows[0].Index != test.first || rows[len(rows)-1].Index != test.last {
			t.Errorf("%s: %d rows, want %d from %d to %d", name, len(rows), test.is, test.first, test.last)
		}
	}
	s.counts(t, id, jobs.WriteCounts{Accepted: 2100, Pending: 2097, Failed: 2, Done: 1})
}

func testRetryWrite[TTx any](t *testing.T, s *suite[TTx]) {
	id := s.append(t, batch(riverOrg(1), `{"n":0}`, `{"n":1}`, `{"n":2}`, `{"n":3}`)).ID
	other := s.append(t, batch(riverOrg(1), `{"n":0}`)).ID
	epoch, err := s.store.BeginDrain(t.Context(), riverOrg(1), object, 1)
	must(t, err)
	pending := append(s.writeRows(t, id), s.writeRows(t, other)...)
	ids := make([]int64, len(pending))
	for i, r := range pending {
		ids[i] = r.ID
	}
	must(t, s.store.MarkSent(t.Context(), riverOrg(1), object, epoch, ids, map[int64]int64{ids[0]: ids[1]}, map[int64]json.RawMessage{ids[1]: []byte(`{"n":"both"}`)}))
	must(t, s.store.Settle(t.Context(), riverOrg(1), object, epoch, []jobs.WriteOutcome{
		{ID: ids[1], Status: jobs.WriteFailed, CountAttempt: true, ErrorCode: "X", ErrorMessage: "no", ErrorFields: []string{"n"}},
		{ID: ids[2], Status: jobs.WriteUnknown}, {ID: ids[3], Status: jobs.WriteDone, SalesforceID: "003"}, {ID: ids[4], Status: jobs.WriteFailed},
	}, nil))
	s.counts(t, id, jobs.WriteCounts{Accepted: 4, Failed: 2, Unknown: 1, Done: 1})
	s.inTx(t, func(ctx context.Context, tx TTx) error {
		name, n, err := s.store.RetryWriteTx(ctx, tx, riverOrg(1), id)
		if name != object || n != 3 {
			t.Errorf("retried %d rows of %q", n, name)
		}
		return err
	})
	s.counts(t, id, jobs.WriteCounts{Accepted: 4, Pending: 3, Done: 1})
	s.counts(t, other, jobs.WriteCounts{Accepted: 1, Failed: 1})
	next, err := s.store.NextRows(t.Context(), riverOrg(1), object, 10)
	must(t, err)
	diff(t, "rows to send again", next, pending[:3]) // as they were at first
}

func testCancelWrites[TTx any](t *testing.T, s *suite[TTx]) {
	id := s.append(t, batch(riverOrg(1), `{"n":0}`, `{"n":1}`, `{"n":2}`)).ID
	account := batch(riverOrg(1), `{}`)
	account.Object = "Account"
	s.append(t, account)
	other := s.append(t, batch(riverOrg(2), `{}`)).ID
	epoch, err := s.store.BeginDrain(t.Context(), riverOrg(1), object, 1)
	must(t, err)
	rows := s.writeRows(t, id)
	must(t, s.store.MarkSent(t.Context(), riverOrg(1), object, epoch, []int64{rows[0].ID}, nil, nil))
	s.inTx(t, func(ctx context.Context, tx TTx) error {
		n, err := s.store.CancelWritesTx(ctx, tx, riverOrg(1), 1, 100)
		if n != 3 {
			t.Errorf("cancelled %d, want 3", n)
		}
		return err
	})
	s.counts(t, id, jobs.WriteCounts{Accepted: 3, Sent: 1, Cancelled: 2})
	c, err := s.store.WriteCounts(t.Context(), riverOrg(2), other)
	must(t, err)
	diff(t, "counts of another org", *c, jobs.WriteCounts{Accepted: 1, Pending: 1})
	// A drain that read the rows before must not send them, nor any beside them.
	for name, mark := range map[string]func() error{
		"by itself": func() error {
			return s.store.MarkSent(t.Context(), riverOrg(1), object, epoch, []int64{rows[0].ID, rows[1].ID}, nil, nil)
		},
		"merged": func() error {
			return s.store.MarkSent(t.Context(), riverOrg(1), object, epoch, []int64{rows[0].ID}, map[int64]int64{rows[1].ID: rows[0].ID},
				map[int64]json.RawMessage{rows[0].ID: []byte(`{"lost":true}`)})
		},
	} {
		isErr(t, "mark a cancelled row sent, "+name, mark(), jobs.ErrLeaseLost)
	}
	next, err := s.store.NextRows(t.Context(), riverOrg(1), object, 10)
	must(t, err)
	if len(next) != 1 || string(next[0].Payload) != `{"n":0}` {
		t.Errorf("next rows %+v", next)
	}
	// The outcome of what was sent is still taken.
	must(t, s.store.Settle(t.Context(), riverOrg(1), object, epoch, []jobs.WriteOutcome{{ID: rows[0].ID, Status: jobs.WriteDone}, {ID: rows[1].ID, Status: jobs.WriteDone}}, nil))
	s.counts(t, id, jobs.WriteCounts{Accepted: 3, Done: 1, Cancelled: 2})
}

func testUndrained[TTx any](t *testing.T, s *suite[TTx]) {
	var want []jobs.WriteArgs
	for i := range 3 {
		for _, name := range []string{"Account", object} {
			b := batch(riverOrg(i), `{}`)
			b.Object = name
			s.append(t, b)
			want = append(want, jobs.WriteArgs{Org: riverOrg(i), Object: name})
		}
	}
	undrained := func(age time.Duration, limit int) []jobs.WriteArgs {
		list, err := s.store.Undrained(t.Context(), age, limit)
		must(t, err)
		return list
	}
	const now = -time.Hour // what changed before an hour from now
	diff(t, "all", undrained(now, 10), want)
	diff(t, "limited", undrained(now, 2), want[:2])
	diff(t, "none is old enough", undrained(time.Hour, 10), []jobs.WriteArgs{})

	_, err := s.client.Insert(t.Context(), want[0], nil)
	must(t, err)
	_, err = s.client.Insert(t.Context(), want[1], &river.InsertOpts{ScheduledAt: time.Now().Add(time.Hour)})
	must(t, err)
	done, err := s.client.Insert(t.Context(), want[2], nil)
	must(t, err)
	s.endJob(t, done.Job.ID)
	s.insert(t, breaker.Write, laneJob{Org: want[3].Org, Object: want[3].Object}, nil) // of another kind
	diff(t, "without a job", undrained(now, 10), want[2:])

	epoch, err := s.store.BeginDrain(t.Context(), want[3].Org, want[3].Object, 1)
	must(t, err)
	rows, err := s.store.NextRows(t.Context(), want[3].Org, want[3].Object, 1)
	must(t, err)
	must(t, s.store.MarkSent(t.Context(), want[3].Org, want[3].Object, epoch, []int64{rows[0].ID}, nil, nil))
	diff(t, "sent rows count", undrained(now, 10), want[2:])
	must(t, s.store.Settle(t.Context(), want[3].Org, want[3].Object, epoch, []jobs.WriteOutcome{{ID: rows[0].ID, Status: jobs.WriteDone}}, nil))
	diff(t, "settled rows do not", undrained(now, 10), []jobs.WriteArgs{want[2], want[4], want[5]})
}
