package runnersqlite_test

import (
	"database/sql"
	"path/filepath"
	"testing"

	"github.com/weirhq/weir/runner/internal/store"
	"github.com/weirhq/weir/runner/internal/store/storetest"
	"github.com/weirhq/weir/runner/runnersqlite"
)

func TestRiver(t *testing.T) {
	t.Parallel()
	storetest.RunRiver(t, func(t *testing.T) store.Store[*sql.Tx] {
		pool, err := runnersqlite.Open(filepath.Join(t.TempDir(), "weir.db"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := pool.Close(); err != nil {
				t.Error(err)
			}
		})
		return runnersqlite.New(pool).Store()
	})
}
