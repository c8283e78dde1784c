package token_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirhq/weir/runner/internal/token"
	"github.com/weirhq/weir/sfapi/sftest"
)

// An org whose sessions are short is known from its first token on, where the
// app may introspect: none of its sessions dies in use.
func TestIntrospectsTheSessionsEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, newMemory())
		w.org.SetSessionTimeout(15 * time.Minute)
		m := w.process(func(c *token.Config) { c.Introspect = true })
		start(t, m)
		for minute := range 3 * 60 {
			w.token(m)
			if minute%20 == 0 {
				if err := w.call(t.Context(), m.Source(w.id)); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(time.Minute)
		}
		reasons := w.reasons()
		for _, r := range reasons {
			if r != token.ReasonAhead {
				t.Errorf("a token call because of %q", r)
			}
		}
		if len(reasons) == 0 {
			t.Error("sessions of 15 minutes were not refreshed in three hours")
		}
	})
}

// A session that slides is not refreshed while it is used.
func TestIntrospectsSlidingSessions(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, newMemory())
		m := w.process(func(c *token.Config) { c.Introspect = true })
		start(t, m)
		for range 10 * 60 {
			if err := w.call(t.Context(), m.Source(w.id)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
		}
		if n := w.org.TokenCalls(); n != 0 {
			t.Errorf("%d token calls for a session that never stood still", n)
		}
		if n := w.org.Calls(sftest.OpIntrospect); n == 0 || n > 10*60/15 {
			t.Errorf("%d introspections in ten hours", n)
		}
	})
}
