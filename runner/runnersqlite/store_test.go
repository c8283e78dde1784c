package runnersqlite_test

import (
	"database/sql"
	"path/filepath"
	"testing"

	"github.com/weirhq/weir/runner/internal/store"
	"github.com/weirhq/weir/runner/internal/store/storetest"
	"github.com/weirhq/weir/runner/runnersqlite"
)

func TestStore(t *testing.T) {
	t.Parallel()
	for name, path := range map[string]func(t *testing.T) string{
		"file":   func(t *testing.T) string { return filepath.Join(t.TempDir(), "a b?c#d%20.db") },
		"memory": func(*testing.T) string { return ":memory:" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			storetest.Run(t, func(t *testing.T) store.Store[*sql.Tx] { return openStore(t, path(t)) })
		})
	}
}

func TestTwoProcesses(t *testing.T) {
	t.Parallel()
	storetest.RunProcesses(t, func(t *testing.T) (a, b store.Store[*sql.Tx]) {
		path := filepath.Join(t.TempDir(), "weir.db")
		return openStore(t, path), openStore(t, path)
	})
}

func openStore(t *testing.T, path string) store.Store[*sql.Tx] {
	t.Helper()
	return runnersqlite.New(openPool(t, path)).Store()
}

func openPool(t *testing.T, path string) *sql.DB {
	t.Helper()
	pool, err := runnersqlite.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := pool.Close(); err != nil {
			t.Error(err)
		}
	})
	return pool
}
