package breaker_test

import (
	"slices"
	"testing"
	"time"

	"github.com/weirhq/weir/breaker"
	"github.com/weirhq/weir/sfapi"
)

const org = sfapi.OrgID("00D5g000000AbCdEAK")

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// bench is one org, its breaker and a clock that the test moves.
type bench struct {
	t     *testing.T
	b     *breaker.Breaker
	state breaker.State
	now   time.Time
}

func setup(t *testing.T) *bench {
	t.Helper()
	b, err := breaker.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &bench{t: t, b: b, state: breaker.State{Org: org}, now: start}
}

func (x *bench) after(d time.Duration) *bench { x.now = x.now.Add(d); return x }

func (x *bench) do(obs breaker.Observation) []breaker.Effect {
	x.t.Helper()
	before := x.state
	state, effects := x.b.Next(x.state, obs, x.now)
	if err := check(before, state, obs, effects, x.now); err != nil {
		x.t.Fatalf("%+v: %v", obs, err)
	}
	x.state = state
	return effects
}

func (x *bench) wantHolds(want ...breaker.Reason) {
	x.t.Helper()
	var got []breaker.Reason
	for _, h := range x.state.Holds {
		got = append(got, h.Reason)
	}
	if !slices.Equal(got, want) {
		x.t.Fatalf("holds: got %v, want %v", got, want)
	}
}

func (x *bench) wantWindows(sync, write int) {
	x.t.Helper()
	got := [2]int{x.state.Window(breaker.Sync), x.state.Window(breaker.Write)}
	if want := [2]int{sync, write}; got != want {
		x.t.Fatalf("windows of sync and write: got %v, want %v", got, want)
	}
}

func (x *bench) hold(r breaker.Reason) breaker.Hold {
	x.t.Helper()
	h := x.state.Hold(r)
	if h == nil {
		x.t.Fatalf("no hold says %s", r)
	}
	return *h
}

func has[E breaker.Effect](effects []breaker.Effect) (found []E) {
	for _, e := range effects {
		if e, ok := e.(E); ok {
			found = append(found, e)
		}
	}
	return found
}

func events(effects []breaker.Effect) (types []breaker.EventType) {
	for _, e := range has[breaker.EmitEvent](effects) {
		types = append(types, e.Type)
	}
	return types
}
