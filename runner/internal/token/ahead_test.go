package token_test

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weirhq/weir/runner/internal/token"
	"github.com/weirhq/weir/sfapi"
	"github.com/weirhq/weir/sfapi/sftest"
)

// An org in use never meets the end of a session, whatever the number of
// processes; one that nobody uses costs nothing.
func TestRefreshAhead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, newMemory())
		idle := w.sim.AddOrg(nil)
		w.connect(idle)
		processes := []*token.Manager{w.process(nil), w.process(nil), w.process(nil)}
		for _, m := range processes {
			start(t, m)
			if _, err := m.Source(sfapi.OrgID(idle.ID())).Token(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		w.org.Inject(sftest.Latency(5*time.Second).On("POST", tokenPath))
		for range 12 * 60 {
			for _, m := range processes {
				begun := time.Now()
				tok := w.token(m)
				if took := time.Since(begun); took > 0 {
					t.Fatalf("a caller waited %s for a background refresh", took)
				}
				if time.Since(tok.IssuedAt) > 111*time.Minute {
					t.Fatalf("a session of %s is in use", time.Since(tok.IssuedAt))
				}
			}
			time.Sleep(time.Minute)
		}
		// Twelve hours, a token each 100 to 110 minutes.
		if n := w.org.TokenCalls(); n < 6 || n > 8 {
			t.Errorf("%d token calls, want about 7", n)
		}
		if n := idle.TokenCalls(); n != 0 {
			t.Errorf("%d token calls for an org that is not in use", n)
		}
		for _, r := range w.reasons() {
			if r != token.ReasonAhead {
				t.Errorf("a token call because of %q", r)
			}
		}
	})
}

// Sessions that die earlier than expected teach how long they live.
func TestLearnsTheSessionTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, newMemory())
		m := w.process(nil)
		start(t, m)
		died := 0
		for range 6 * 60 {
			tok := w.token(m)
			// An org's policy may end sessions by age, whether they are used
			// or not.
			if time.Since(tok.IssuedAt) >= 45*time.Minute {
				died++
				w.org.ExpireSessions()
				if err := w.call(t.Context(), m.Source(w.id)); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(time.Minute)
		}
		if died != 1 {
			t.Errorf("%d sessions died in use, want only the first", died)
		}
	})
}

func TestRefreshAheadOff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, newMemory())
		m := w.process(func(c *token.Config) { c.RefreshAhead = -1 })
		start(t, m)
		for range 300 {
			w.token(m)
			time.Sleep(time.Minute)
		}
		if n := w.org.TokenCalls(); n != 0 {
			t.Errorf("%d token calls, want none", n)
		}
	})
}

// Ten thousand orgs whose sessions began in the same minute do not end in a
// stampede: neither when they are renewed in the background, nor when every
// session is dead and callers ask for all of them at once.
func TestTenThousandOrgsExpireTogether(t *testing.T) {
	t.Parallel()
	const orgs, rate = 10_000, 25
	tests := []struct {
		name string
		dead bool
	}{{"in the background", false}, {"all dead after a restart", true}}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, newMemory())
				w.sealer = plain{}
				var at []time.Time
				login := newLogin(func() { at = append(at, time.Now()) })
				w.app.Transport = login
				ids := make([]sfapi.OrgID, orgs)
				issued := time.Now().Add(-95 * time.Minute)
				for i := range ids {
					id, err := sfapi.ParseOrgID(fmt.Sprintf("00D5e%010d", i))
					if err != nil {
						t.Fatal(err)
					}
					ids[i] = id
					if err := w.db.connect(t.Context(), login.grant(id, issued)); err != nil {
						t.Fatal(err)
					}
				}
				m := w.process(func(c *token.Config) { c.Rate, c.OnCall, c.Logger = rate, nil, nil })
				start(t, m)
				failed := make(chan error, orgs)
				if tt.dead {
					for _, id := range ids {
						src := m.Source(id)
						tok, err := src.Token(t.Context())
						if err != nil {
							t.Fatal(err)
						}
						go func() {
							_, err := src.Refresh(t.Context(), tok)
							failed <- err
						}()
					}
				} else {
					for range 10 { // a call for each org every three minutes
						for _, id := range ids {
							tok, err := m.Source(id).Token(t.Context())
							if err == nil && time.Since(tok.IssuedAt) >= 2*time.Hour {
								err = fmt.Errorf("session of org %s ended in use", id)
							}
							if err != nil {
								t.Fatal(err)
							}
						}
						time.Sleep(3 * time.Minute)
					}
					close(failed)
				}
				for range orgs {
					if err := <-failed; err != nil {
						t.Fatal(err)
					}
				}
				if len(at) != orgs {
					t.Errorf("%d token calls, want %d", len(at), orgs)
				}
				busiest := 0
				for i := range at {
					j, _ := slices.BinarySearchFunc(at, at[i].Add(time.Second), time.Time.Compare)
					busiest = max(busiest, j-i)
				}
				if busiest > rate {
					t.Errorf("%d token calls in one second, want at most %d", busiest, rate)
				}
				t.Logf("%d calls in %s, at most %d a second", len(at), at[len(at)-1].Sub(at[0]), busiest)
			})
		})
	}
}

// Some stories on the pacer's own terms.
func TestPacer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		wait := token.NewPacer(10)
		begun := time.Now()
		var got []time.Duration
		for i := range 5 {
			if i == 3 {
				time.Sleep(time.Second)
			}
			if err := wait(t.Context()); err != nil {
				t.Fatal(err)
			}
			got = append(got, time.Since(begun))
		}
		ms := time.Millisecond
		if diff := cmp.Diff([]time.Duration{0, 100 * ms, 200 * ms, 1200 * ms, 1300 * ms}, got); diff != "" {
			t.Errorf("turns (-want +got):\n%s", diff)
		}
	})
}
