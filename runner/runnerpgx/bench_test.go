package runnerpgx_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/weirhq/weir/runner/internal/pgtest"
	"github.com/weirhq/weir/runner/internal/store"
	"github.com/weirhq/weir/runner/internal/store/storetest"
	"github.com/weirhq/weir/runner/runnerpgx"
)

func BenchmarkStore(b *testing.B) {
	storetest.Bench(b, func(b *testing.B) store.Store[pgx.Tx] {
		return runnerpgx.New(pgtest.Pool(b)).Store()
	})
}

// BenchmarkCopy is what "upsert 2000x20" is measured against: COPY of the same
// rows, as text, into a table of texts without a key.
func BenchmarkCopy(b *testing.B) {
	pool := pgtest.Pool(b)
	t, rows := storetest.BenchMirror()
	names := []string{"org", "id"}
	for _, c := range t.Columns {
		names = append(names, c.Name)
	}
	if _, err := pool.Exec(b.Context(), "CREATE TABLE plain ("+strings.Join(names, " text, ")+" text)"); err != nil {
		b.Fatal(err)
	}
	n := 0
	for b.Loop() {
		source := pgx.CopyFromSlice(len(rows), func(i int) ([]any, error) {
			values := append(make([]any, 0, len(names)), "00D000000000001AAA", fmt.Sprintf("003%012dAAA", n))
			n++
			for _, v := range rows[i].Values {
				values = append(values, v)
			}
			return values, nil
		})
		if _, err := pool.CopyFrom(b.Context(), pgx.Identifier{"plain"}, names, source); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(len(rows))*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
}
