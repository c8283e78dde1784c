package storetest

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/weirhq/weir/runner/internal/store"
)

func testCallCounts[TTx any](t *testing.T, s *suite[TTx]) {
	a, b := riverOrg(1), riverOrg(2)
	hour := time.Date(2026, 2, 28, 23, 0, 0, 0, time.UTC)
	next := hour.Add(time.Hour)
	const odd = "BAD\x00 \xff"
	must(t, s.store.SaveCalls(t.Context(), &store.CallBatch{}))
	var wg sync.WaitGroup
	const processes = 8 // each counts in the same rows, in an order of its own
	for i := range processes {
		counts := []store.CallCount{
			{Org: a, Hour: hour, Code: "", Calls: 5}, {Org: b, Hour: hour, Code: "", Calls: 1},
			{Org: a, Hour: hour, Code: "INVALID_SESSION_ID", Calls: 2}, {Org: a, Hour: next, Code: "", Calls: 3},
			{Org: a, Hour: next, Code: odd, Calls: 1}, {Org: a, Hour: next, Code: store.Message(odd), Calls: 1},
		}
		if i%2 == 1 {
			counts[0], counts[3], counts[1], counts[2] = counts[3], counts[0], counts[2], counts[1]
		}
		wg.Go(func() {
			if err := s.store.SaveCalls(t.Context(), &store.CallBatch{Counts: counts}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	all := []store.CallCount{
		{Org: a, Hour: hour, Code: "", Calls: 5 * processes}, {Org: a, Hour: hour, Code: "INVALID_SESSION_ID", Calls: 2 * processes},
		{Org: a, Hour: next, Code: "", Calls: 3 * processes}, {Org: a, Hour: next, Code: store.Message(odd), Calls: 2 * processes},
	}
	for name, test := range map[string]struct {
		since time.Time
		want  []store.CallCount
	}{
		"from ever":                  {time.Time{}, all},
		"from within the first hour": {hour.Add(59 * time.Minute), all},
		"from the second hour":       {next, all[2:]},
		"from later":                 {next.Add(time.Hour), []store.CallCount{}},
	} {
		got, err := s.store.CallCounts(t.Context(), a, test.since)
		must(t, err)
		diff(t, name, got, test.want)
	}
}

func testFailedCalls[TTx any](t *testing.T, s *suite[TTx]) {
	org := riverOrg(1)
	failed := func(i int) store.FailedCall {
		return store.FailedCall{
			At: sampleStamp.Add(time.Duration(i) * time.Second), Org: org, UserID: "005000000000001AAA", JobID: int64(i),
			Op: "query", Method: "GET", Path: "/services/data/v66.0/query", Status: 401, Kind: "session_expired",
			Code: "INVALID_SESSION_ID", Message: "Session expired or invalid “ü”", RequestID: "req", Body: `[{"errorCode":"INVALID_SESSION_ID"}]`,
		}
	}
	asked := func(i int) store.TokenCall {
		return store.TokenCall{
			At: sampleStamp.Add(time.Duration(i) * time.Second), Org: org, UserID: "005000000000001AAA", Generation: int64(i),
			Reason: "refused", Outcome: store.TokenIssued, Took: 1234567 * time.Microsecond,
		}
	}
	b := &store.CallBatch{}
	for i := range 5 {
		b.Failed, b.Tokens = append(b.Failed, failed(i)), append(b.Tokens, asked(i))
	}
	b.Failed[3].Body, b.Tokens[3].Message = "cut \x00\xff", "\x00"
	other := failed(9)
	other.Org = riverOrg(2)
	b.Failed = append(b.Failed, other)
	must(t, s.store.SaveCalls(t.Context(), b))
	if b.Failed[3].Body != "cut \x00\xff" {
		t.Error("the caller's batch was changed")
	}

	gotFailed, err := s.store.FailedCalls(t.Context(), org, 3)
	must(t, err)
	wantFailed := []store.FailedCall{failed(4), failed(3), failed(2)}
	wantFailed[1].Body = store.Message(b.Failed[3].Body)
	diffAt(t, "failed calls", gotFailed, wantFailed, cmpopts.IgnoreFields(store.FailedCall{}, "ID"))
	gotTokens, err := s.store.TokenCalls(t.Context(), org, 3)
	must(t, err)
	wantTokens := []store.TokenCall{asked(4), asked(3), asked(2)}
	wantTokens[1].Message = store.Message("\x00")
	diffAt(t, "token calls", gotTokens, wantTokens, cmpopts.IgnoreFields(store.TokenCall{}, "ID"))
	for i := 1; i < len(gotFailed); i++ {
		if gotFailed[i].ID >= gotFailed[i-1].ID || gotTokens[i].ID >= gotTokens[i-1].ID {
			t.Errorf("ids do not rise with the order of saving: %v, %v", gotFailed, gotTokens)
		}
	}
}

func testPruneCalls[TTx any](t *testing.T, s *suite[TTx]) {
	org := riverOrg(1)
	hour := sampleStamp.Truncate(time.Hour)
	b := &store.CallBatch{}
	for i := range 10 {
		at := hour.Add(time.Duration(i) * time.Hour)
		b.Counts = append(b.Counts, store.CallCount{Org: org, Hour: at, Code: fmt.Sprint("C", i), Calls: 1})
		b.Failed = append(b.Failed, store.FailedCall{At: at, Org: org})
		b.Tokens = append(b.Tokens, store.TokenCall{At: at, Org: org})
	}
	must(t, s.store.SaveCalls(t.Context(), b))
	left := func() [3]int {
		counts, err := s.store.CallCounts(t.Context(), org, time.Time{})
		must(t, err)
		failed, err := s.store.FailedCalls(t.Context(), org, 100)
		must(t, err)
		tokens, err := s.store.TokenCalls(t.Context(), org, 100)
		must(t, err)
		return [3]int{len(counts), len(failed), len(tokens)}
	}
	for _, step := range []struct {
		name          string
		calls, counts time.Time
		more          bool
		want          [3]int
	}{
		{name: "nothing asked for", want: [3]int{10, 10, 10}},
		{name: "nothing old enough", calls: hour, counts: hour, want: [3]int{10, 10, 10}},
		{name: "a full batch", calls: hour.Add(5 * time.Hour), more: true, want: [3]int{10, 6, 6}},
		{name: "the rest", calls: hour.Add(5 * time.Hour), want: [3]int{10, 5, 5}},
		{name: "counts", counts: hour.Add(3 * time.Hour), want: [3]int{7, 5, 5}},
	} {
		more, err := s.store.PruneCalls(t.Context(), step.calls, step.counts, 4)
		must(t, err)
		if got := left(); more != step.more || !cmp.Equal(got, step.want) {
			t.Errorf("%s: left %v with more %v, want %v with %v", step.name, got, more, step.want, step.more)
		}
	}
	got, err := s.store.FailedCalls(t.Context(), org, 1)
	must(t, err)
	if !got[0].At.Equal(hour.Add(9 * time.Hour)) {
		t.Errorf("the newest of what is left is of %v", got[0].At)
	}
}
