package breaker_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/sony/gobreaker/v2"

	"github.com/weirhq/weir/breaker"
	"github.com/weirhq/weir/sfapi"
)

// heldState is an org with the most holds that let a read through.
func heldState(tb testing.TB) (*breaker.Breaker, breaker.State) {
	b, err := breaker.New(nil)
	if err != nil {
		tb.Fatal(err)
	}
	state := breaker.State{Org: org}
	for _, obs := range []breaker.Observation{
		breaker.Paused(breaker.LanesOf(breaker.Write)),
		breaker.Failed(breaker.Write, breaker.Mutate, sfapi.KindMaintenance),
		breaker.Failed(breaker.Write, breaker.Mutate, sfapi.KindStorageLimit),
	} {
		state, _ = b.Next(state, obs, start)
	}
	return b, state
}

func TestDecisionDoesNotAllocate(t *testing.T) {
	_, held := heldState(t)
	free := breaker.State{Org: org}
	if n := testing.AllocsPerRun(100, func() {
		free.Allows(breaker.Write, breaker.Mutate)
		held.Allows(breaker.Sync, breaker.Read)
		held.Allows(breaker.Write, breaker.Mutate)
	}); n != 0 {
		t.Errorf("three decisions allocate %v times", n)
	}
}

// BenchmarkDecision measures the decision before a call beside gobreaker's.
func BenchmarkDecision(b *testing.B) {
	_, held := heldState(b)
	free := breaker.State{Org: org}
	for name, state := range map[string]*breaker.State{"open": &free, "three holds": &held} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, ok := state.Allows(breaker.Sync, breaker.Read); !ok {
					b.Fatal("refused")
				}
			}
		})
	}
	b.Run("open with counters", func(b *testing.B) {
		br, err := breaker.New(nil)
		if err != nil {
			b.Fatal(err)
		}
		c := breaker.NewCounters(br)
		b.ReportAllocs()
		for b.Loop() {
			if _, ok := free.Allows(breaker.Sync, breaker.Read); !ok {
				b.Fatal("refused")
			}
			call, err := c.Begin(org, breaker.Sync)
			if err != nil {
				b.Fatal(err)
			}
			call.End(sfapi.KindNone)
		}
	})
	b.Run("gobreaker", func(b *testing.B) {
		cb := gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{})
		b.ReportAllocs()
		for b.Loop() {
			done, err := cb.Allow()
			if err != nil {
				b.Fatal(err)
			}
			done(nil)
		}
	})
}

// BenchmarkNext measures a placed and a lifted hold.
func BenchmarkNext(b *testing.B) {
	br, _ := heldState(b)
	state := breaker.State{Org: org}
	b.ReportAllocs()
	for b.Loop() {
		held, _ := br.Next(state, breaker.Failed(breaker.Write, breaker.Mutate, sfapi.KindStorageLimit), start)
		open, _ := br.Next(held, breaker.Probed(breaker.ReasonStorageLimit, true), start.Add(time.Minute))
		if len(open.Holds) != 0 {
			b.Fatal(fmt.Sprint(open.Holds))
		}
	}
}
