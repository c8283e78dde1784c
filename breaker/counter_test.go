package breaker_test

import (
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sony/gobreaker/v2"

	"github.com/weirhq/weir/breaker"
	"github.com/weirhq/weir/sfapi"
)

func counters(t *testing.T) (*breaker.Breaker, *breaker.Counters) {
	t.Helper()
	b, err := breaker.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return b, breaker.NewCounters(b)
}

func call(t *testing.T, c *breaker.Counters, l breaker.Lane, kind sfapi.Kind) int {
	t.Helper()
	call, err := c.Begin(org, l)
	if err != nil {
		t.Fatal(err)
	}
	return call.End(kind)
}

func TestCountersCountARowOfFailures(t *testing.T) {
	t.Parallel()
	_, c := counters(t)
	down := sfapi.KindServerUnavailable
	var got []int
	for _, kind := range []sfapi.Kind{
		down, down, sfapi.KindNone, // A success ends the row,
		down, sfapi.KindValidation, // and so does any judgement;
		down, sfapi.KindSessionExpired, sfapi.KindUnknown, down, // what says nothing does not.
		down, down, down,
	} {
		got = append(got, call(t, c, breaker.Sync, kind))
	}
	if want := []int{1, 2, 0, 1, 0, 1, 0, 0, 2, 3, 4, 5}; !slices.Equal(got, want) {
		t.Errorf("counts: got %v, want %v", got, want)
	}
	_, err := c.Begin(org, breaker.Sync)
	if !errors.Is(err, breaker.ErrTripped) || !errors.Is(err, gobreaker.ErrOpenState) {
		t.Errorf("a tripped lane: %v", err)
	}
	if n := call(t, c, breaker.Write, down); n != 1 {
		t.Errorf("the other lane counts %d", n)
	}
	c.Forget(org)
	if n := call(t, c, breaker.Sync, down); n != 1 {
		t.Errorf("a forgotten org counts %d", n)
	}
}

func TestCountersTryByThemselvesWhileNoHoldComes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, c := counters(t)
		for range 5 {
			call(t, c, breaker.Sync, sfapi.KindServerUnavailable)
		}
		time.Sleep(31 * time.Second)
		trial, err := c.Begin(org, breaker.Sync)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Begin(org, breaker.Sync); !errors.Is(err, gobreaker.ErrTooManyRequests) {
			t.Errorf("a second call on trial: %v", err)
		}
		if n := trial.End(sfapi.KindServerUnavailable); n != 5 {
			t.Errorf("a refused trial counts %d", n)
		}
		time.Sleep(31 * time.Second)
		call(t, c, breaker.Sync, sfapi.KindNone)
		if n := call(t, c, breaker.Sync, sfapi.KindServerUnavailable); n != 1 {
			t.Errorf("after a good trial, a failure counts %d", n)
		}
	})
}

func TestCountersFollowTheHold(t *testing.T) {
	t.Parallel()
	b, c := counters(t)
	state, now := breaker.State{Org: org}, start
	down := sfapi.KindServerUnavailable
	step := func(obs breaker.Observation) {
		now = now.Add(time.Minute)
		state, _ = b.Next(state, obs, now)
		c.Follow(&state)
	}
	before, err := c.Begin(org, breaker.Sync)
	if err != nil {
		t.Fatal(err)
	}
	obs := breaker.Failed(breaker.Sync, breaker.Read, down)
	for range 5 {
		obs.Consecutive = call(t, c, breaker.Sync, down)
	}
	step(obs)
	if state.Hold(breaker.ReasonUnavailable) == nil {
		t.Fatal("five failures in a row hold nothing")
	}
	step(breaker.Probed(breaker.ReasonUnavailable, true))
	if n := before.End(down); n != 0 {
		t.Errorf("a call from before the hold counts %d", n)
	}
	if n := call(t, c, breaker.Sync, down); n != 1 {
		t.Errorf("the first failure on trial counts %d", n)
	}
	step(breaker.Failed(breaker.Sync, breaker.Read, down))
	step(breaker.Probed(breaker.ReasonUnavailable, true))
	step(breaker.Observation{Event: breaker.Tick})
	step(breaker.Probed(breaker.ReasonUnavailable, true))
	if len(state.Holds) != 0 {
		t.Fatalf("holds %+v", state.Holds)
	}
	if n := call(t, c, breaker.Sync, down); n != 1 {
		t.Errorf("after the hold, a failure counts %d", n)
	}
}

func TestCountersAreSafeForGoroutines(t *testing.T) {
	t.Parallel()
	_, c := counters(t)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			kinds := []sfapi.Kind{sfapi.KindServerUnavailable, sfapi.KindNone, sfapi.KindUnknown}
			for j := range 300 {
				if call, err := c.Begin(org, breaker.Lane(1+i%2)); err == nil {
					call.End(kinds[(i+j)%3])
				}
				if j%50 == 0 {
					c.Follow(&breaker.State{Org: org})
				}
			}
			c.Forget(org)
		})
	}
	wg.Wait()
}
