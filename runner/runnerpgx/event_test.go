package runnerpgx_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/weirhq/weir/runner/internal/pgtest"
	"github.com/weirhq/weir/runner/internal/store"
	"github.com/weirhq/weir/runner/runnerpgx"
	"github.com/weirhq/weir/sfapi"
)

// An event that commits late, below one that is there already, is not missed by
// who reads by cursor; and nobody waits for it but the reader.
func TestEventsCommittedOutOfOrder(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t)
	db := runnerpgx.New(pool).Store()
	if err := db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	event := func() *store.Event {
		return &store.Event{Org: sfapi.OrgID("00D000000000001AAA"), Type: "t", At: time.Now(), Payload: []byte(`{}`)}
	}
	insert := func(tx pgx.Tx) int64 {
		t.Helper()
		e := event()
		if err := db.InsertEventTx(t.Context(), tx, e); err != nil {
			t.Fatal(err)
		}
		return e.ID
	}
	read := func(after int64, want ...int64) {
		t.Helper()
		list, err := db.Events(t.Context(), after, 10)
		if err != nil {
			t.Fatal(err)
		}
		var got []int64
		for _, e := range list {
			got = append(got, e.ID)
		}
		if len(got) != len(want) {
			t.Fatalf("after %d: events %v, want %v", after, got, want)
		}
		for i := range got {
			if got[i] != want[i] {
				t.Fatalf("after %d: events %v, want %v", after, got, want)
			}
		}
	}
	begin := func(p *pgxpool.Pool) pgx.Tx {
		t.Helper()
		tx, err := p.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) })
		return tx
	}
	commit := func(tx pgx.Tx) {
		t.Helper()
		if err := tx.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	slow, quick := begin(pool), begin(pool)
	a, b := insert(slow), insert(quick)
	if b <= a {
		t.Fatalf("ids %d, then %d", a, b)
	}
	commit(quick)
	read(0)
	third := begin(pool)
	c := insert(third)
	read(0)
	commit(slow)
	read(0, a, b)
	lost := begin(pool)
	insert(lost)
	commit(third)
	read(b, c)
	if err := lost.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	last := begin(pool)
	d := insert(last)
	commit(last)
	read(c, d)
}
