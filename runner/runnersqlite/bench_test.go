package runnersqlite_test

import (
	"database/sql"
	"path/filepath"
	"testing"

	"github.com/weirhq/weir/runner/internal/store"
	"github.com/weirhq/weir/runner/internal/store/storetest"
	"github.com/weirhq/weir/runner/runnersqlite"
)

func BenchmarkStore(b *testing.B) {
	storetest.Bench(b, func(b *testing.B) store.Store[*sql.Tx] {
		pool, err := runnersqlite.Open(filepath.Join(b.TempDir(), "weir.db"))
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() {
			if err := pool.Close(); err != nil {
				b.Error(err)
			}
		})
		return runnersqlite.New(pool).Store()
	})
}
