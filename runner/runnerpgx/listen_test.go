package runnerpgx_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/weirhq/weir/runner/internal/pgtest"
	"github.com/weirhq/weir/runner/internal/store"
	"github.com/weirhq/weir/runner/runnerpgx"
	"github.com/weirhq/weir/sfapi"
)

func TestListenOrgsReconnects(t *testing.T) {
	t.Parallel()
	const org = sfapi.OrgID("00D000000000001AAA")
	pool := pgtest.Pool(t)
	s := runnerpgx.New(pool).Store()
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	heard, ended := make(chan sfapi.OrgID), make(chan error, 1)
	go func() {
		ended <- s.ListenOrgs(ctx, func(id sfapi.OrgID) {
			select {
			case heard <- id:
			case <-ctx.Done():
			}
		})
	}()
	hear := func(want sfapi.OrgID) {
		t.Helper()
		select {
		case got := <-heard:
			if got != want {
				t.Errorf("heard %q, want %q", got, want)
			}
		case <-t.Context().Done():
			t.Fatal("heard nothing")
		}
	}
	hear("")
	for range 2 {
		var killed bool
		err := pool.QueryRow(t.Context(), `
			SELECT coalesce(bool_and(pg_terminate_backend(pid)), false) FROM pg_stat_activity
			WHERE datname = current_database() AND query LIKE 'LISTEN%'`).Scan(&killed)
		if err != nil || !killed {
			t.Fatalf("the listening connection was not ended: %v", err)
		}
		hear("")
	}
	err := s.InTx(t.Context(), func(ctx context.Context, tx pgx.Tx) error {
		_, err := s.ConnectOrgTx(ctx, tx, &store.Org{ID: org}, &store.Credential{Org: org})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	hear(org)
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
