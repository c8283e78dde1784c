package runnerpgx_test

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/weirhq/weir/runner/internal/pgtest"
	"github.com/weirhq/weir/runner/internal/store"
	"github.com/weirhq/weir/runner/internal/store/storetest"
	"github.com/weirhq/weir/runner/runnerpgx"
)

func TestStore(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T) store.Store[pgx.Tx] {
		return runnerpgx.New(pgtest.Pool(t)).Store()
	})
}

func TestTwoProcesses(t *testing.T) {
	t.Parallel()
	storetest.RunProcesses(t, func(t *testing.T) (a, b store.Store[pgx.Tx]) {
		address := pgtest.URL(t)
		return openPool(t, address), openPool(t, address)
	})
}

func openPool(t *testing.T, address string) store.Store[pgx.Tx] {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return runnerpgx.New(pool).Store()
}
