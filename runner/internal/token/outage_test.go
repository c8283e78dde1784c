package token_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	pgserver "github.com/weirhq/weir/runner/internal/pgtest/cluster"
	"github.com/weirhq/weir/runner/runnerpgx"
	"github.com/weirhq/weir/sfapi"
)

// PostgreSQL crashes between Salesforce's answer and the save, and is away for
// twenty seconds: the rotated token is not lost, and not used before it is
// stored.
func TestPostgresAwayDuringTheSave(t *testing.T) {
	t.Parallel()
	server, err := pgserver.Start(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	pool := openPool(t, server.URL())
	db := database[pgx.Tx]{runnerpgx.New(pool).Store()}
	if err := db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, db)
	unstable := &shaky{Credentials: db}
	m := w.processOn(unstable, nil)
	stale := w.token(m)
	w.org.ExpireSessions()
	before := w.org.TokenCalls()

	var once sync.Once
	away := make(chan error, 1)
	failed := 0 // the saves are one after the other
	unstable.set(func(s *shaky) {
		s.save = func(save func() error) error {
			once.Do(func() { away <- server.Stop(t.Context()) })
			err := save()
			if err != nil {
				failed++
			}
			return err
		}
	})
	type answer struct {
		token *sfapi.Token
		err   error
	}
	answers := make(chan answer, 50)
	for range cap(answers) {
		go func() {
			got, err := m.Source(w.id).Refresh(context.WithoutCancel(t.Context()), stale)
			answers <- answer{got, err}
		}()
	}
	if err := <-away; err != nil {
		t.Fatal(err)
	}
	<-time.After(20 * time.Second)
	if got := w.token(m); got.Generation != stale.Generation {
		t.Errorf("generation %d is used before it is stored", got.Generation)
	}
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range cap(answers) {
		a := <-answers
		if a.err != nil {
			t.Fatal(a.err)
		}
		if a.token.Generation != stale.Generation+1 || !w.works(a.token) {
			t.Errorf("generation %d after %d, want the next, and that it works", a.token.Generation, stale.Generation)
		}
	}
	if n := w.org.TokenCalls() - before; n != 1 {
		t.Errorf("%d token calls, want 1", n)
	}
	if failed == 0 {
		t.Error("no save met the outage")
	}
	t.Logf("saved after %d saves that failed", failed)

	// Another process goes on with what was stored.
	w.org.ExpireSessions()
	next := w.process(nil)
	got, err := next.Source(w.id).Refresh(t.Context(), w.token(next))
	if err != nil || !w.works(got) {
		t.Errorf("the stored grant: %v", err)
	}
	w.clean()
}
