package token_test

import (
	"context"
	"testing"

	"github.com/weirhq/weir/runner/internal/store"
	"github.com/weirhq/weir/runner/internal/token"
	"github.com/weirhq/weir/sfapi"
)

// On the hot path a token costs neither memory nor a question to the database.
func TestTokenOnTheHotPath(t *testing.T) {
	w := newWorld(t, newMemory())
	reads := 0
	m := w.processOn(&shaky{Credentials: w.db, read: func(call func() error) error { reads++; return call() }}, nil)
	var src sfapi.TokenSource = m.Source(w.id)
	w.token(m)
	if n := testing.AllocsPerRun(1000, func() {
		if _, err := src.Token(context.Background()); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
	if reads != 1 {
		t.Errorf("%d reads of the database, want the first one only", reads)
	}
}

func BenchmarkToken(b *testing.B) {
	w := newWorld(b, newMemory())
	m := w.process(nil)
	w.token(m)
	bench := func(src sfapi.TokenSource) func(b *testing.B) {
		return func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := src.Token(context.Background()); err != nil {
					b.Fatal(err)
				}
			}
		}
	}
	b.Run("fresh", bench(m.Source(w.id)))
	b.Run("parallel", func(b *testing.B) {
		src := m.Source(w.id)
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if _, err := src.Token(context.Background()); err != nil {
					b.Error(err)
				}
			}
		})
	})
}

// Whoever embeds a Manager fits these together.
var (
	_ sfapi.TokenSource = (*token.Source)(nil)
	_ store.Credentials = (*shaky)(nil)
)
