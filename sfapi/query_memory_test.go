package sfapi_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/weirhq/weir/sfapi"
)

// staticPages answers every page of a query in process from one body of rows.
func staticPages(tb testing.TB, pages, rows int) *sfapi.Client {
	tb.Helper()
	total := pages * rows
	body := func(next string) string {
		return strings.ReplaceAll(pageBody(total, 0, rows, next), `"Name":`, `"Text__c":"`+strings.Repeat("x", 500)+`","Name":`)
	}
	rt := roundTripFunc(func(r *http.Request) (*http.Response, error) {
		number := 0
		_, at, _ := strings.Cut(r.URL.Path, "AAA-")
		if at != "" {
			number, _ = strconv.Atoi(at)
		}
		next := ""
		if number+1 < pages {
			next = fmt.Sprint(locator, number+1)
		}
		rec := httptest.NewRecorder()
		answer(rec, 200, body(next))
		return rec.Result(), nil
	})
	c, err := sfapi.NewClient(testOrg, newApp(), sfapi.StaticToken(&sfapi.Token{Access: "t", InstanceURL: "https://acme.my.salesforce.com"}),
		&sfapi.ClientConfig{Transport: rt})
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

// TestQueryPages_MemoryDoesNotGrow is not parallel: it measures the heap.
func TestQueryPages_MemoryDoesNotGrow(t *testing.T) {
	t.Run("typed", measurePages[account])
	t.Run("records", measurePages[sfapi.Record])
}

func measurePages[T any](t *testing.T) {
	const pages, rows = 40, 500
	c := staticPages(t, pages, rows)
	var early, late uint64
	for page, err := range sfapi.QueryPages[T](t.Context(), c, "SELECT Id FROM Account", &sfapi.QueryOptions{NoPrefetch: true}) {
		if err != nil {
			t.Fatal(err)
		}
		if page.Number != 4 && page.Number != pages-1 {
			continue
		}
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		if early == 0 {
			early = m.HeapAlloc
		}
		late = m.HeapAlloc
	}
	// All pages together are 20 times as much as this allows.
	if late > early+pages*rows*500/20 {
		t.Errorf("heap grew from %d to %d bytes over %d pages", early, late, pages)
	}
}

// BenchmarkDecode is what a page costs once it is there.
func BenchmarkDecode(b *testing.B) {
	const pages, rows = 20, 2000
	b.Run("typed", func(b *testing.B) { decodePages[account](b, staticPages(b, pages, rows), pages*rows) })
	b.Run("record", func(b *testing.B) { decodePages[sfapi.Record](b, staticPages(b, pages, rows), pages*rows) })
}

func decodePages[T any](b *testing.B, c *sfapi.Client, want int) {
	b.ReportAllocs()
	for b.Loop() {
		rows := 0
		for page, err := range sfapi.QueryPages[T](b.Context(), c, "SELECT Id FROM Account", nil) {
			if err != nil {
				b.Fatal(err)
			}
			rows += len(page.Records)
		}
		if rows != want {
			b.Fatalf("%d rows, want %d", rows, want)
		}
	}
	b.ReportMetric(float64(want)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
}
