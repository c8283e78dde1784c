package token_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weirhq/weir/runner/internal/store"
	"github.com/weirhq/weir/runner/internal/token"
	"github.com/weirhq/weir/sfapi"
	"github.com/weirhq/weir/sfapi/sftest"
)

const tokenPath = "/services/oauth2/token"

// A request that was lost on its way there has not spent anything, and one whose
// answer was lost on the way back has; nobody can tell them apart but by asking
// once more.
func TestLostRequestAndLostAnswer(t *testing.T) {
	t.Parallel()
	revoked := []verdict{{sfapi.KindRevoked, token.CauseOutcomeUnknown}}
	twice := []token.Reason{token.ReasonRefused, token.ReasonReplay}
	tests := []struct {
		name    string
		fault   sftest.Fault
		rotate  bool
		reasons []token.Reason
		verdict []verdict
	}{
		{"request lost", sftest.DropBefore(), true, twice, nil},
		{"gateway gave up before", sftest.HTMLError(502), true, twice, nil},
		{"answer lost", sftest.DropAfterCommit(), true, twice, revoked},
		{"answer cut", sftest.ShortBody(), true, twice, revoked},
		{"answer lost without rotation", sftest.DropAfterCommit(), false, twice, nil},
		{"answer cut without rotation", sftest.TruncateBody(), false, twice, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, newMemory())
				w.org.SetRotation(tt.rotate)
				m := w.process(nil)
				stale := w.token(m)
				w.org.ExpireSessions()
				w.org.Inject(tt.fault.On("POST", tokenPath).Next(1))

				got, err := m.Source(w.id).Refresh(t.Context(), stale)
				if tt.verdict == nil {
					if err != nil || !w.works(got) {
						t.Errorf("refresh: %v, want a token that works", err)
					}
				} else if !errors.As(err, new(*token.RefusedError)) {
					t.Errorf("refresh: %v, want a refusal", err)
				}
				if diff := cmp.Diff(tt.reasons, w.reasons()); diff != "" {
					t.Errorf("token calls (-want +got):\n%s", diff)
				}
				if diff := cmp.Diff(tt.verdict, w.judged()); diff != "" {
					t.Errorf("verdicts (-want +got):\n%s", diff)
				}
				w.clean(errText(err))
			})
		})
	}
}

// While the network is down, requests are lost for hours. That is no reason to
// give the grant up, nor to ask without end.
func TestNetworkDownForHours(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, newMemory())
		m := w.process(nil)
		stale := w.token(m)
		w.org.ExpireSessions()
		down := w.org.Inject(sftest.DropBefore().On("POST", tokenPath))
		hours := time.Now().Add(3 * time.Hour)
		for time.Now().Before(hours) {
			_, err := m.Source(w.id).Refresh(t.Context(), stale)
			if !errors.Is(err, token.ErrOutcomeUnknown) || sfapi.KindOf(err) == sfapi.KindRevoked {
				t.Fatalf("refresh: %v, want an unknown outcome", err)
			}
			time.Sleep(10 * time.Second) // a job that is tried again and again
		}
		if n := len(w.reasons()); n > 20 {
			t.Errorf("%d token calls in three hours, want at most 20", n)
		}
		down.Remove()
		time.Sleep(15 * time.Minute)
		if got, err := m.Source(w.id).Refresh(t.Context(), stale); err != nil || !w.works(got) {
			t.Errorf("refresh when the network is back: %v, want a token that works", err)
		}
		if diff := cmp.Diff([]verdict(nil), w.judged()); diff != "" {
			t.Errorf("verdicts (-want +got):\n%s", diff)
		}
	})
}

// A background refresh whose answer was lost leaves the live session alone.
func TestLostAnswerAhead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, newMemory())
		w.org.SetSessionsSurviveRotation(true)
		m := w.process(nil)
		start(t, m)
		w.org.Inject(sftest.DropAfterCommit().On("POST", tokenPath).Next(1))
		old := w.token(m)
		for range 119 { // until just before the session would end
			time.Sleep(time.Minute)
			if got := w.token(m); got != old || !w.works(got) {
				t.Fatal("the live session was given up")
			}
		}
		if diff := cmp.Diff([]token.Reason{token.ReasonAhead}, w.reasons()); diff != "" {
			t.Errorf("token calls (-want +got):\n%s", diff)
		}
		w.org.ExpireSessions()
		_, err := m.Source(w.id).Refresh(t.Context(), old)
		if !errors.As(err, new(*token.RefusedError)) {
			t.Errorf("refresh: %v, want a refusal", err)
		}
		if diff := cmp.Diff([]token.Reason{token.ReasonReplay}, w.reasons()); diff != "" {
			t.Errorf("token calls (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]verdict{{sfapi.KindRevoked, token.CauseOutcomeUnknown}}, w.judged()); diff != "" {
			t.Errorf("verdicts (-want +got):\n%s", diff)
		}
	})
}

// A process dies at each point of a refresh; another one finds what it left.
func TestProcessDies(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		rotate  bool
		die     func(w *world, stale *sfapi.Token)
		calls   int
		verdict []verdict
	}{{
		name: "between record and request", rotate: true, calls: 1,
		die: func(w *world, stale *sfapi.Token) {
			_, claim, err := w.db.BeginRefresh(w.t.Context(), w.id, stale.Generation, "dead", time.Minute, false)
			if claim != store.RefreshTaken || err != nil {
				w.t.Fatalf("begin: %v, %v", claim, err)
			}
		},
	}, {
		name: "while the request runs", rotate: true, calls: 2,
		die: func(w *world, stale *sfapi.Token) {
			w.org.Inject(sftest.Latency(time.Hour).On("POST", tokenPath).Next(1))
			m := w.process(nil)
			go func() { _, _ = m.Source(w.id).Refresh(w.t.Context(), stale) }()
			synctest.Wait()
			w.kill(m)
		},
	}, {
		name: "between answer and save", rotate: true, calls: 2, die: dieUnsaved,
		verdict: []verdict{{sfapi.KindRevoked, token.CauseOutcomeUnknown}},
	}, {
		name: "between answer and save, without rotation", rotate: false, calls: 2, die: dieUnsaved,
	}, {
		name: "between save and use", rotate: true, calls: 1,
		die: func(w *world, stale *sfapi.Token) {
			m := w.process(nil)
			if _, err := m.Source(w.id).Refresh(w.t.Context(), stale); err != nil {
				w.t.Fatal(err)
			}
			w.kill(m)
		},
	}, {
		name: "while waiting for a sibling", rotate: true, calls: 1,
		die: func(w *world, stale *sfapi.Token) {
			w.org.Inject(sftest.Latency(5*time.Second).On("POST", tokenPath).Next(1))
			first, second := w.process(nil), w.process(nil)
			go func() { _, _ = first.Source(w.id).Refresh(w.t.Context(), stale) }()
			synctest.Wait()
			go func() { _, _ = second.Source(w.id).Refresh(w.t.Context(), stale) }()
			synctest.Wait()
			w.kill(second)
		},
	}}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, newMemory())
				w.org.SetRotation(tt.rotate)
				stale := w.token(w.process(nil))
				w.org.ExpireSessions()
				tt.die(w, stale)

				heir := w.process(nil)
				for range 5 { // it is asked again and again, and makes no loop of it
					got, err := heir.Source(w.id).Refresh(t.Context(), stale)
					if tt.verdict == nil && (err != nil || !w.works(got)) {
						t.Fatalf("refresh: %v, want a token that works", err)
					}
					if tt.verdict != nil && !errors.As(err, new(*token.RefusedError)) {
						t.Fatalf("refresh: %v, want a refusal", err)
					}
				}
				if got := len(w.reasons()); got != tt.calls {
					t.Errorf("%d token calls, want %d", got, tt.calls)
				}
				if diff := cmp.Diff(tt.verdict, w.judged()); diff != "" {
					t.Errorf("verdicts (-want +got):\n%s", diff)
				}
				w.clean()
			})
		})
	}
}

// dieUnsaved has a process die that holds an answer it cannot save.
func dieUnsaved(w *world, stale *sfapi.Token) {
	db := &shaky{Credentials: w.db, save: func(func() error) error { return errAway }}
	m := w.processOn(db, nil)
	go func() { _, _ = m.Source(w.id).Refresh(w.t.Context(), stale) }()
	synctest.Wait()
	w.kill(m)
}

func start(t *testing.T, m *token.Manager) {
	t.Helper()
	if err := m.Start(context.WithoutCancel(t.Context())); err != nil {
		t.Fatal(err)
	}
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
