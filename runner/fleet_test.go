package runner_test

import (
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/riverqueue/river"

	"github.com/weirhq/weir/breaker"
	"github.com/weirhq/weir/jobs"
	"github.com/weirhq/weir/sfapi/sftest"
)

// One org of fifty, and two hundred at once, go into read-only mode while three
// processes work for all: what reaches such an org is what was in flight, its
// reads and the other orgs do not notice, and when it is over every write
// arrives, once and in order.
func TestFleetMaintenance(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name          string
		orgs, flipped int
		rounds        int // of load before, while held, and after
		probes        time.Duration
	}{
		{"one of 50", 50, 1, 6, 2 * time.Second},
		{"200 at once", 200, 200, 1, 5 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFleet(t, c.orgs, c.probes)
			f.work(t, 3)
			f.testMaintenance(t, c.flipped, c.rounds)
		})
	}
}

func (f *fleet) testMaintenance(t *testing.T, flipped, rounds int) {
	held, others := f.orgs[:flipped], f.orgs[flipped:]
	f.load(t, min(rounds, 3)) // until every process has what it caches
	f.drained(t)
	began := time.Now()
	f.load(t, rounds)
	off := time.Now()
	for _, o := range held {
		o.SetReadOnly(sftest.ReadOnly)
	}
	f.load(t, rounds)
	eventually(t, "the orgs are held", func() bool {
		return f.count(t, `SELECT count(*) FROM weir_org WHERE write_held`) == len(held)
	})
	loaded := time.Now()
	eventually(t, "the other orgs got writes", func() bool {
		return !slices.ContainsFunc(others, func(o *fleetOrg) bool {
			ok, _ := o.reached(off, loaded.Add(time.Hour))
			return len(ok) == 0
		})
	})
	f.agreed(t)
	o := held[0] // reads go on
	reads := o.Calls(sftest.OpQuery)
	if _, err := f.r.Insert(t.Context(), jobs.Sync{Org: o.id(), Object: "Account"}, nil); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a sync of the held org", func() bool { return o.Calls(sftest.OpQuery) > reads+1 })
	for _, h := range f.holdsOf(t, o) {
		_, refused := o.reached(off, time.Now())
		if len(refused) == 0 {
			t.Fatal("no write was refused")
		}
		t.Logf("the first of %d refused writes came %v after the flip; the hold is of %v after; the last refused write reached the org %v after that",
			len(refused), refused[0].Time.Sub(off), h.Since.Sub(off), refused[len(refused)-1].Time.Sub(h.Since))
	}
	on := time.Now()
	for _, o := range held {
		o.SetReadOnly(sftest.ReadWrite)
	}
	f.load(t, 1)
	f.drained(t)
	eventually(t, "no org is held", func() bool {
		return f.count(t, `SELECT count(*) FROM weir_org WHERE write_held OR sync_held`) == 0
	})
	f.agreed(t)
	f.stop(t)

	var slowest, asked time.Duration
	for _, o := range held {
		_, refused := o.reached(off.Add(-time.Minute), time.Now())
		if len(refused) > 1 { // its window: no write is tried before the org says that it may be
			t.Errorf("%s refused %d writes, at most 1 was in flight", o.ID(), len(refused))
		}
		ok, _ := o.reached(on, time.Now())
		if len(ok) == 0 {
			t.Errorf("%s got no write after it was over", o.ID())
			continue
		}
		slowest = max(slowest, ok[0].Time.Sub(on))
		probes := o.probes(on, ok[0].Time)
		if n := len(probes); n > 2 { // one may have been under way
			t.Errorf("%s was asked %d times before it resumed", o.ID(), n)
		}
		if len(probes) > 0 {
			asked = max(asked, probes[0].Time.Sub(on))
		}
	}
	t.Logf("the first probe after the window came %v after it at the latest; the longest wait between probes is %v", asked, 2*f.probeEvery)
	t.Logf("the first write after the window came %v after it at the latest, %.2f of the longest wait between probes", slowest, slowest.Seconds()/(2*f.probeEvery).Seconds())
	ops := []sftest.Operation{sftest.OpQuery}
	before, while := rate(held, began, off, ops...), rate(held, off, loaded, ops...)
	t.Logf("reads of the held: %.1f a second before, %.2f of that while held", before, while/before)
	if len(others) > 0 {
		before, while := rate(others, began, off, sftest.OpCollections), rate(others, off, loaded, sftest.OpCollections)
		t.Logf("writes of the others: %.1f a second before, %.2f of that meanwhile", before, while/before)
	}
	for _, o := range f.orgs {
		if most := o.mostAtOnce(sftest.OpCollections); most > 1 {
			t.Errorf("%s had %d writes at once, its window is 1", o.ID(), most)
		}
	}
	f.noAttemptBurned(t)
	f.onceInOrder(t, 0)
}

// A hold that one process places stops long writes that others have under way.
func TestFleetStops(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 3, time.Minute)
	f.sim.Inject(sftest.Latency(20*time.Millisecond).On("", "/composite/sobjects"))
	f.work(t, 3)
	ctx := t.Context()
	for _, o := range f.orgs {
		for range 16 {
			f.write(t, o, "Contact", 500)
		}
	}
	var wg sync.WaitGroup
	for _, o := range f.orgs {
		eventually(t, "a long write is under way", func() bool { return o.Calls(sftest.OpCollections) > 2 })
		wg.Go(func() {
			if _, err := f.r.Orgs().Hold(ctx, o.id(), breaker.Write); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	eventually(t, "the long writes are back in their lanes", func() bool {
		return f.count(t, `SELECT count(*) FROM river_job WHERE state = 'running' AND kind = 'salesforce_write'`) == 0
	})
	f.agreed(t)
	// The hold is dated before its commit, so that this is the longer time. Its
	// own process sends no writes: all that do must hear of it.
	var longest time.Duration
	for _, o := range f.orgs {
		since := f.holdsOf(t, o)[0].Since
		ok, _ := o.reached(since.Add(-time.Hour), time.Now())
		after, _ := o.reached(since, time.Now())
		last := ok[len(ok)-1].Time
		longest = max(longest, last.Sub(since))
		t.Logf("%s: the last of %d writes reached the org %v after the hold, %d after it", o.ID(), len(ok), last.Sub(since), len(after))
		if done := len(ok); done*200 >= o.written["Contact"] {
			t.Errorf("%s: the hold stopped nothing", o.ID())
		}
	}
	t.Logf("the last write that another process began after a hold came %v after it", longest)
	for _, o := range f.orgs {
		if _, err := f.r.Orgs().Resume(ctx, o.id()); err != nil {
			t.Fatal(err)
		}
	}
	f.drained(t)
	f.agreed(t)
	f.stop(t)
	f.noAttemptBurned(t)
	f.onceInOrder(t, 0)
}

// However many processes there are, an org never has more jobs in flight than
// its window.
func TestFleetWindow(t *testing.T) {
	t.Parallel()
	const orgs, each, window = 20, 20, 4
	f := newFleet(t, orgs, time.Minute)
	f.sim.Inject(sftest.Latency(20*time.Millisecond).On("", "/query"))
	f.work(t, 3)
	rounds := 0
	eventually(t, "every process has worked", func() bool {
		var many []river.InsertManyParams
		for n := range each {
			for _, o := range f.orgs {
				many = append(many, river.InsertManyParams{Args: ask{Org: o.id(), N: rounds*each + n}})
			}
		}
		if _, err := f.r.River().InsertManyFast(t.Context(), many); err != nil {
			t.Fatal(err)
		}
		rounds++
		f.drained(t)
		return f.count(t, `SELECT count(DISTINCT attempted_by[1]) FROM river_job WHERE kind = 'app_ask'`) == 3
	})
	f.stop(t)
	top := 0
	for _, o := range f.orgs {
		most := o.mostAtOnce(sftest.OpQuery)
		if most > window {
			t.Errorf("%s had %d calls at once, its window is %d", o.ID(), most, window)
		}
		if n := o.Calls(sftest.OpQuery); n != int64(rounds*each) {
			t.Errorf("%s had %d calls, want %d", o.ID(), n, rounds*each)
		}
		top = max(top, most)
	}
	if top < 2 {
		t.Errorf("no org had more than %d call at once", top)
	}
	t.Logf("at most %d calls of an org at once", top)
}
