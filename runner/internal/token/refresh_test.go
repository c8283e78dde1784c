package token_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weirhq/weir/jobs"
	"github.com/weirhq/weir/runner/internal/store"
	"github.com/weirhq/weir/runner/internal/token"
	"github.com/weirhq/weir/sfapi"
	"github.com/weirhq/weir/sfapi/sftest"
)

func TestFiftyCallersInFourProcesses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, newMemory())
		processes := []*token.Manager{w.process(nil), w.process(nil), w.process(nil), w.process(nil)}
		for round := range 20 {
			before := w.org.TokenCalls()
			if errs := w.refreshAll(processes, 50); len(errs) > 0 {
				t.Fatalf("round %d: %d of 200 calls failed, the first: %v", round, len(errs), errs[0])
			}
			if n := w.org.TokenCalls() - before; n != 1 {
				t.Fatalf("round %d: %d token calls, want 1", round, n)
			}
		}
		w.clean()
	})
}

// A sibling that waits is told of the change and looks at once.
func TestChangedWakesWaiters(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, newMemory())
		first, second := w.process(nil), w.process(nil)
		stale := w.token(first)
		w.org.ExpireSessions()
		w.org.Inject(sftest.Latency(10*time.Second).On("POST", tokenPath))
		go func() { _, _ = first.Source(w.id).Refresh(t.Context(), stale) }()
		synctest.Wait()
		result := make(chan time.Time)
		go func() {
			if _, err := second.Source(w.id).Refresh(t.Context(), stale); err != nil {
				t.Errorf("refresh: %v", err)
			}
			result <- time.Now()
		}()
		if _, err := first.Source(w.id).Refresh(t.Context(), stale); err != nil {
			t.Fatal(err)
		}
		stored := time.Now()
		second.Changed(w.id)
		if at := <-result; at.Sub(stored) > 0 {
			t.Errorf("the sibling went on %s after the save, want at once", at.Sub(stored))
		}
	})
}

func TestRefreshWithOldToken(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, newMemory())
		m, sibling := w.process(nil), w.process(nil)
		first := w.token(m)
		second, err := m.Source(w.id).Refresh(t.Context(), first)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range []*token.Manager{m, sibling} {
			got, err := p.Source(w.id).Refresh(t.Context(), first)
			if err != nil || got.Generation != second.Generation || got.Access != second.Access {
				t.Errorf("refresh of an old token: generation %v, %v, want %d", got, err, second.Generation)
			}
		}
		if n := w.org.TokenCalls(); n != 1 {
			t.Errorf("%d token calls, want 1", n)
		}
	})
}

// A caller that goes away stops waiting, and the exchange goes on without it.
func TestCallerGoesAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, newMemory())
		m := w.process(nil)
		stale := w.token(m)
		w.org.ExpireSessions()
		w.org.Inject(sftest.Latency(10*time.Second).On("POST", tokenPath).Next(1))
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, errors.New("job is over"))
		defer cancel()
		begun := time.Now()
		_, err := m.Source(w.id).Refresh(ctx, stale)
		if err == nil || time.Since(begun) != time.Second {
			t.Errorf("refresh returned %v after %s, want the context's end after 1s", err, time.Since(begun))
		}
		got, err := m.Source(w.id).Refresh(t.Context(), stale)
		if err != nil || !w.works(got) {
			t.Errorf("refresh: %v, want a token that works", err)
		}
		if n := w.org.TokenCalls(); n != 1 {
			t.Errorf("%d token calls, want 1", n)
		}
	})
}

// Close waits for the exchange under way and saves what it brings.
func TestCloseSavesWhatIsUnderWay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, newMemory())
		m := w.process(nil)
		stale := w.token(m)
		w.org.ExpireSessions()
		w.org.Inject(sftest.Latency(10*time.Second).On("POST", tokenPath).Next(1))
		ctx, cancel := context.WithCancel(t.Context())
		go func() { _, _ = m.Source(w.id).Refresh(ctx, stale) }()
		synctest.Wait()
		cancel()
		w.close(m)
		if _, err := m.Source(w.id).Refresh(t.Context(), &sfapi.Token{Generation: 99}); !errors.Is(err, token.ErrClosed) {
			t.Errorf("refresh after close: %v, want %v", err, token.ErrClosed)
		}
		got := w.token(w.process(nil))
		if got.Generation != stale.Generation+1 || !w.works(got) {
			t.Errorf("generation %d after %d, want the next one, and that it works", got.Generation, stale.Generation)
		}
	})
}

// The database is away when the answer comes: the token is kept, not used, and
// saved as soon as that works.
func TestSaveWaitsForTheDatabase(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, newMemory())
		db := &shaky{Credentials: w.db}
		m, sibling := w.processOn(db, nil), w.processOn(db, nil)
		stale := w.token(m)
		w.token(sibling)
		w.org.ExpireSessions()
		db.set(func(s *shaky) { s.save = func(func() error) error { return errAway } })
		results := make(chan error, 2)
		for _, p := range []*token.Manager{m, sibling} {
			go func() {
				got, err := p.Source(w.id).Refresh(t.Context(), stale)
				if err == nil && !w.works(got) {
					err = errors.New("token does not work")
				}
				results <- err
			}()
		}
		time.Sleep(20 * time.Second)
		for _, p := range []*token.Manager{m, sibling} {
			if got := w.token(p); got.Generation != stale.Generation {
				t.Errorf("generation %d is used before it is stored", got.Generation)
			}
		}
		db.set(func(s *shaky) { s.save = nil })
		for range 2 {
			if err := <-results; err != nil {
				t.Error(err)
			}
		}
		if n := w.org.TokenCalls(); n != 1 {
			t.Errorf("%d token calls, want 1", n)
		}
		w.clean()
	})
}

// A process cut off from the database for longer than its lease finds that
// another one took over. That one died; the token is saved all the same.
func TestSaveAfterTheLeaseWasLost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, newMemory())
		db := &shaky{Credentials: w.db, save: func(func() error) error { return errAway }}
		m := w.processOn(db, nil)
		stale := w.token(m)
		w.org.ExpireSessions()
		go func() { _, _ = m.Source(w.id).Refresh(t.Context(), stale) }()
		time.Sleep(61 * time.Second)
		_, claim, err := w.db.BeginRefresh(t.Context(), w.id, stale.Generation, "other", time.Minute, true)
		if claim != store.RefreshTaken || err != nil {
			t.Fatalf("take over: %v, %v", claim, err)
		}
		db.set(func(s *shaky) { s.save = nil })
		got, err := m.Source(w.id).Refresh(t.Context(), stale)
		if err != nil || !w.works(got) {
			t.Errorf("refresh: %v, want a token that works", err)
		}
		if n := w.org.TokenCalls(); n != 1 {
			t.Errorf("%d token calls, want 1", n)
		}
	})
}

// A commit whose answer is lost has happened all the same.
func TestCommitWithoutAnswer(t *testing.T) {
	t.Parallel()
	lose := func(call func() error) error { return errors.Join(call(), errAway) }
	t.Run("of the save", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, newMemory())
			db := &shaky{Credentials: w.db}
			db.save = func(call func() error) error {
				db.set(func(s *shaky) { s.save = nil })
				return lose(call)
			}
			m := w.processOn(db, nil)
			stale := w.token(m)
			got, err := m.Source(w.id).Refresh(t.Context(), stale)
			if err != nil || !w.works(got) || got.Generation != stale.Generation+1 {
				t.Errorf("refresh: %v, %v, want the next generation", got, err)
			}
			if n := w.org.TokenCalls(); n != 1 {
				t.Errorf("%d token calls, want 1", n)
			}
		})
	})
	t.Run("of the attempt", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, newMemory())
			db := &shaky{Credentials: w.db, begin: lose}
			m := w.processOn(db, nil)
			stale := w.token(m)
			if _, err := m.Source(w.id).Refresh(t.Context(), stale); !errors.Is(err, errAway) {
				t.Fatalf("refresh: %v, want %v", err, errAway)
			}
			db.set(func(s *shaky) { s.begin = nil })
			begun := time.Now()
			if _, err := m.Source(w.id).Refresh(t.Context(), stale); err != nil {
				t.Errorf("refresh: %v", err)
			}
			if took := time.Since(begun); took > time.Second {
				t.Errorf("it waited %s for itself", took)
			}
			if diff := cmp.Diff([]token.Reason{token.ReasonRefused}, w.reasons()); diff != "" {
				t.Errorf("token calls (-want +got):\n%s", diff)
			}
		})
	})
}

// Reconnecting while a refresh is under way wins over what the refresh brings.
func TestReconnectDuringRefresh(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, newMemory())
		m := w.process(nil)
		stale := w.token(m)
		w.org.ExpireSessions()
		w.org.Inject(sftest.Latency(10*time.Second).On("POST", tokenPath).Next(1))
		result := make(chan *sfapi.Token)
		go func() {
			got, err := m.Source(w.id).Refresh(t.Context(), stale)
			if err != nil {
				t.Errorf("refresh: %v", err)
			}
			result <- got
		}()
		synctest.Wait()
		w.connect(w.org)
		got := <-result
		want := w.token(w.process(nil))
		if got.Access != want.Access || got.Generation != want.Generation || !w.works(got) {
			t.Errorf("generation %d, want the new grant's %d", got.Generation, want.Generation)
		}
	})
}

func TestDisconnected(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, newMemory())
		m := w.process(nil)
		start(t, m)
		old := w.token(m)
		if err := w.db.disconnect(t.Context(), w.id); err != nil {
			t.Fatal(err)
		}
		m.Changed(w.id)
		synctest.Wait()
		if _, err := m.Source(w.id).Token(t.Context()); !errors.Is(err, token.ErrNoGrant) {
			t.Errorf("token: %v, want %v", err, token.ErrNoGrant)
		}
		if _, err := m.Source(w.id).Refresh(t.Context(), old); !errors.Is(err, token.ErrNoGrant) {
			t.Errorf("refresh: %v, want %v", err, token.ErrNoGrant)
		}
		w.connect(w.org)
		if got := w.token(m); got.Generation != old.Generation+1 {
			t.Errorf("generation %d after reconnecting, want %d", got.Generation, old.Generation+1)
		}
		if _, err := m.Source("00D000000000099AAA").Token(t.Context()); !errors.Is(err, jobs.ErrNotFound) {
			t.Errorf("token of an unknown org: %v, want %v", err, jobs.ErrNotFound)
		}
	})
}

// A change made by another process arrives, and what is in hand stays usable
// while it is read.
func TestChangedReadsAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, newMemory())
		db := &shaky{Credentials: w.db}
		m, sibling := w.processOn(db, nil), w.process(nil)
		start(t, m)
		old := w.token(m)
		fresh, err := sibling.Source(w.id).Refresh(t.Context(), old)
		if err != nil {
			t.Fatal(err)
		}
		db.set(func(s *shaky) { s.read = func(func() error) error { return errAway } })
		m.Changed("")
		synctest.Wait()
		if got := w.token(m); got != old {
			t.Errorf("generation %d while the database is away, want %d", got.Generation, old.Generation)
		}
		db.set(func(s *shaky) { s.read = nil })
		m.Changed(w.id)
		synctest.Wait()
		if got := w.token(m); got.Access != fresh.Access {
			t.Errorf("generation %d, want %d", got.Generation, fresh.Generation)
		}
	})
}

// A flow without refresh tokens mints under the same lease.
func TestMint(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, newMemory())
		w.org.SetClientCredentialsUser("client", "sync@org1.example")
		mint := func(ctx context.Context, c *store.Credential) (*sfapi.Token, error) {
			return w.app.ClientCredentials(ctx, c.LoginURL)
		}
		cred := &store.Credential{Org: w.id, LoginURL: w.org.InstanceURL()}
		sealed, err := w.process(nil).Seal(w.id, &sfapi.Token{Org: w.id})
		if err != nil {
			t.Fatal(err)
		}
		cred.Access = sealed.Access
		if err := w.db.connect(t.Context(), cred); err != nil {
			t.Fatal(err)
		}
		with := func(c *token.Config) { c.Mint = mint }
		processes := []*token.Manager{w.process(with), w.process(with), w.process(with), w.process(with)}
		if errs := w.refreshAll(processes, 50); len(errs) > 0 {
			t.Fatalf("%d of 200 calls failed, the first: %v", len(errs), errs[0])
		}
		if n := w.org.TokenCalls(); n != 2 { // the first token, and the one after it died
			t.Errorf("%d token calls, want 2", n)
		}

		// A lost answer costs another token, nothing else.
		w.org.Inject(sftest.DropAfterCommit().On("POST", tokenPath).Next(1))
		if errs := w.refreshAll(processes, 1); len(errs) > 0 {
			t.Errorf("after a lost answer: %v", errs[0])
		}
		if diff := cmp.Diff([]verdict(nil), w.judged()); diff != "" {
			t.Errorf("verdicts (-want +got):\n%s", diff)
		}
		if _, err := w.process(nil).Source(w.id).Refresh(t.Context(), w.token(processes[0])); !errors.Is(err, sfapi.ErrNoRefresh) {
			t.Errorf("refresh without Mint: %v, want %v", err, sfapi.ErrNoRefresh)
		}
	})
}
