package runner_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/jackc/pgx/v5"

	"github.com/weirhq/weir/jobs"
	"github.com/weirhq/weir/runner"
	"github.com/weirhq/weir/runner/internal/store"
	"github.com/weirhq/weir/sfapi"
)

// What an org refused, and the refresh that cured it, can be looked up after
// the process that met it has stopped, by one that only enqueues.
func TestCalls(t *testing.T) {
	t.Parallel()
	onBoth(t, testCalls[*sql.Tx], testCalls[pgx.Tx])
}

func testCalls[TTx any](t *testing.T, f *fixture[TTx]) {
	f.org.Seed("Account", 10, 1)
	jobs.AddMirror(f.handlers, "Account", nil)
	r := f.migrated(t)
	f.connect(t, r)
	if err := r.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	f.completed(t, r, jobs.Sync{Object: "Account"})
	f.org.ExpireSessions()
	job := f.sync(t, r, jobs.Sync{Object: "Account"})
	calls := f.org.Calls()
	if err := r.Stop(context.WithoutCancel(t.Context())); err != nil {
		t.Fatal(err)
	}

	other := f.migrated(t, func(c *runner.Config[TTx]) { c.Handlers = nil })
	failed, err := other.Orgs().FailedCalls(t.Context(), f.orgID, 0)
	if err != nil {
		t.Fatal(err)
	}
	if len(failed) != 1 {
		t.Fatalf("%d failed calls, want the one with the expired session: %+v", len(failed), failed)
	}
	got := failed[0]
	if !strings.Contains(got.Body, got.Code) || got.Message == "" || got.Path == "" || got.At.Before(began) || got.UserID == "" {
		t.Errorf("failed call %+v", got)
	}
	want := runner.FailedCall{JobID: job.ID, Op: got.Op, Method: "GET", Status: 401, Kind: sfapi.KindSessionExpired.String(), Code: "INVALID_SESSION_ID"}
	if d := cmp.Diff(want, got, cmpopts.IgnoreFields(runner.FailedCall{}, "ID", "At", "UserID", "Path", "Message", "RequestID", "Body")); d != "" {
		t.Errorf("failed call (-want +got):\n%s", d)
	}
	tokens, err := other.Orgs().TokenCalls(t.Context(), f.orgID, 0)
	if err != nil {
		t.Fatal(err)
	}
	wantTokens := []runner.TokenCall{{UserID: got.UserID, Generation: 1, Reason: "refused", Outcome: "token"}}
	if d := cmp.Diff(wantTokens, tokens, cmpopts.IgnoreFields(runner.TokenCall{}, "ID", "At", "Took")); d != "" {
		t.Errorf("token calls (-want +got):\n%s", d)
	}

	counts, err := other.Orgs().Errors(t.Context(), f.orgID, began)
	if err != nil {
		t.Fatal(err)
	}
	if len(counts) != 1 || counts[0].Code != "INVALID_SESSION_ID" || counts[0].Count != 1 || !counts[0].Hour.Equal(counts[0].Hour.Truncate(time.Hour)) {
		t.Errorf("errors %+v", counts)
	}
	hours, err := other.Orgs().Calls(t.Context(), f.orgID, began)
	if err != nil {
		t.Fatal(err)
	}
	var succeeded, refused int64
	for _, h := range hours { // one, or two where an hour has just begun
		succeeded, refused = succeeded+h.Succeeded, refused+h.Failed
	}
	// Connect's own exchange is the app's call, not one on a connected org.
	if refused != 1 || succeeded != calls-1-1 {
		t.Errorf("counted %d successes and %d failures of %d calls", succeeded, refused, calls)
	}
	if later, err := other.Orgs().Errors(t.Context(), f.orgID, time.Now().Add(2*time.Hour)); err != nil || len(later) != 0 {
		t.Errorf("errors of the hours to come: %v, %v", later, err)
	}
	var field *jobs.FieldError
	if _, err := other.Orgs().FailedCalls(t.Context(), f.orgID, 1001); !errors.As(err, &field) {
		t.Errorf("a list of 1,001: %v", err)
	}
}

// savedCalls is a store of calls that can be away.
type savedCalls struct {
	store.Calls

	mu      sync.Mutex
	away    error
	batches []store.CallBatch
	pruned  [][2]time.Time
}

func (s *savedCalls) SaveCalls(_ context.Context, b *store.CallBatch) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.away == nil {
		s.batches = append(s.batches, *b)
	}
	return s.away
}

func (s *savedCalls) PruneCalls(_ context.Context, calls, counts time.Time, _ int) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pruned = append(s.pruned, [2]time.Time{calls, counts})
	return len(s.pruned)%3 != 0, nil
}

func (s *savedCalls) set(away error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.away = away
}

// sizes are the counted calls and the failed ones of each batch.
func (s *savedCalls) sizes() (out [][2]int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range s.batches {
		var n int64
		for _, c := range b.Counts {
			n += c.Calls
		}
		out = append(out, [2]int64{n, int64(len(b.Failed))})
	}
	return out
}

func refusedCall(code string) *sfapi.Call {
	return &sfapi.Call{Org: "00D5e0000000001EAA", Op: "query", Kind: sfapi.KindUnknown, Err: &sfapi.Error{
		Code: code, Message: strings.Repeat("ü", 4000), Body: []byte(strings.Repeat("ü", 4000)),
	}}
}

// Calls are saved together within a second, at once when there are many, and
// nothing is done while there are none. While the database is away a bounded
// number waits; counts are never lost.
func TestCallLogBatches(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		saved := &savedCalls{}
		l := runner.NewCallLog(saved, slog.New(slog.DiscardHandler), time.Hour, time.Hour)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { l.Run(ctx) })
		want := func(sizes ...[2]int64) {
			t.Helper()
			synctest.Wait()
			if d := cmp.Diff(sizes, saved.sizes()); d != "" {
				t.Fatalf("batches as counted and failed (-want +got):\n%s", d)
			}
		}
		for range 5 {
			l.Called(ctx, &sfapi.Call{Org: "00D5e0000000001EAA"})
		}
		l.Called(ctx, refusedCall("A"))
		gone, giveUp := context.WithCancel(ctx)
		giveUp()
		l.Called(gone, &sfapi.Call{Org: "00D5e0000000001EAA", Err: fmt.Errorf("query: %w", context.Canceled)})
		want()
		time.Sleep(time.Second)
		first := [2]int64{6, 1}
		want(first)
		time.Sleep(time.Hour)
		want(first)
		for _, text := range []string{saved.batches[0].Failed[0].Body, saved.batches[0].Failed[0].Message} {
			if len(text) > 2048 || strings.Trim(text, "ü") != "" {
				t.Errorf("kept %d bytes of a text", len(text))
			}
		}

		for range runner.CallFlushSize {
			l.Called(ctx, refusedCall("B"))
		}
		many := [2]int64{runner.CallFlushSize, runner.CallFlushSize}
		want(first, many)

		saved.set(errors.New("away"))
		for range runner.MaxHeldCalls + 100 {
			l.Called(ctx, refusedCall("C"))
		}
		time.Sleep(time.Minute)
		l.Called(ctx, refusedCall("C"))
		want(first, many)
		saved.set(nil)
		cancel()
		wg.Wait()
		if err := l.Flush(ctx); err != nil { // as Stop does, whose context may be over
			t.Fatal(err)
		}
		want(first, many, [2]int64{runner.MaxHeldCalls + 101, runner.MaxHeldCalls})
	})
}

// Each kind of record can be switched off, and what is too old is removed.
func TestCallLogRetention(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		saved := &savedCalls{}
		for _, keep := range [][2]time.Duration{{-1, time.Hour}, {time.Hour, -1}} {
			l := runner.NewCallLog(saved, slog.New(slog.DiscardHandler), keep[0], keep[1])
			l.Called(t.Context(), refusedCall("A"))
			if err := l.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if d := cmp.Diff([][2]int64{{1, 0}, {0, 1}}, saved.sizes()); d != "" {
			t.Errorf("batches as counted and failed (-want +got):\n%s", d)
		}

		l := runner.NewCallLog(saved, slog.New(slog.DiscardHandler), time.Hour, 24*time.Hour)
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		l.Prune(ctx)
		if n := len(saved.pruned); n < 6 || n%3 != 0 {
			t.Errorf("pruned %d times in an hour, each until nothing was left", n)
		}
		for _, before := range saved.pruned {
			if !before[0].Equal(before[1].Add(23*time.Hour)) || time.Since(before[0]) > 2*time.Hour {
				t.Errorf("pruned calls of before %v, counts of before %v", before[0], before[1])
			}
		}
	})
}
