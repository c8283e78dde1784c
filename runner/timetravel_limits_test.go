// Hours of virtual time take the race detector minutes: `make test` runs these
// tests by themselves, without it.

//go:build !race

package runner_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weirhq/weir/breaker"
	"github.com/weirhq/weir/sfapi/sftest"
)

// The daily limit is a rolling window: what was used at ten past midnight is
// free at ten past midnight. Until then at most one call a minute finds out.
func TestTimeTravelDailyLimit(t *testing.T) {
	inBubble(t, func(t *testing.T, w *timeTravel) {
		time.Sleep(10 * time.Minute)
		w.org.SetDailyLimit(1000)
		w.org.SetDailyUsage(1000)
		free := time.Now().Add(24 * time.Hour)
		time.Sleep(23*time.Hour + 40*time.Minute) // to ten minutes to midnight
		start(t, w.runner)
		first := w.insertSync(t)
		time.Sleep(time.Minute)
		hold := w.mustHold(t, breaker.ReasonDailyLimit)
		if hold.Lanes != breaker.BothLanes {
			t.Errorf("held %s", hold.Lanes)
		}
		w.upsert(t, "a", "1")
		for time.Until(free) > 0 {
			time.Sleep(4 * time.Minute)
			if time.Until(free) > 0 {
				w.onlyProbeJob(t, breaker.ReasonDailyLimit)
				if _, err := w.runner.Orgs().Probe(t.Context(), w.orgID); err != nil { // an impatient operator
					t.Fatal(err)
				}
			}
		}
		calls := w.calls(hold.Since, func(e *sftest.Entry) bool { return isDataCall(e) && e.Time.After(hold.Since) && e.Time.Before(free) })
		last := hold.Since
		for i, c := range calls {
			if gap := c.Time.Sub(last); gap < time.Minute {
				t.Errorf("call %d, %s, came %v after the one before", i, c.Path, gap)
			}
			if !isProbeOfLimits(&c) {
				t.Errorf("call %d is %s", i, c.Path)
			}
			last = c.Time
		}
		if len(calls) < 3 {
			t.Errorf("%d probes in 20 minutes", len(calls))
		}
		time.Sleep(15*time.Minute + resumed + time.Minute)
		if job := w.ended(t, w.runner, first); job.State != "completed" {
			t.Errorf("the sync is %s", job.State)
		}
		w.inOrder(t, map[string][]string{"a": {"1"}})
		w.noAttemptBurned(t)
		w.noProbeJob(t)
		w.wantEvents(t, "org.held daily_limit", "org.resumed daily_limit")
	})
}

// As an org's requests run low syncs leave them to writes, and with what is
// reserved for the customer's other uses left the org is held: Salesforce has to
// refuse nothing. What others use counts as well.
func TestTimeTravelBudget(t *testing.T) {
	inBubble(t, func(t *testing.T, w *timeTravel) {
		start(t, w.runner)
		w.org.SetDailyLimit(1000)
		w.org.SetDailyUsage(800)
		if job := w.ended(t, w.runner, w.insertSync(t)); job.State != "completed" {
			t.Fatalf("with 20%% left the sync is %s", job.State)
		}
		w.org.SetDailyUsage(860) // others were busy
		low := time.Now()
		w.upsert(t, "a", "1") // its answer tells
		time.Sleep(time.Minute)
		read := w.insertSync(t)
		time.Sleep(3 * time.Minute)
		w.upsert(t, "a", "2")
		time.Sleep(4 * time.Minute)
		if n := len(w.calls(low, isDataCall)); n > 2+2 { // the writes, and what syncs look up before they read
			t.Errorf("%d calls of syncs that wait", n)
		}
		if job, err := w.runner.River().JobGet(t.Context(), read); err != nil || job.FinalizedAt != nil {
			t.Errorf("with 14%% left the sync is %+v, %v", job, err)
		}
		if org := w.get(t, w.runner); len(org.Holds) != 0 || org.APIUsed < 860 || org.APILimit != 1000 {
			t.Errorf("org %+v", org)
		}
		w.inOrder(t, map[string][]string{"a": {"1", "2"}})

		w.org.SetDailyUsage(949)
		w.upsert(t, "b", "1")
		time.Sleep(time.Minute)
		hold := w.mustHold(t, breaker.ReasonDailyLimit)
		if hold.Lanes != breaker.BothLanes || !strings.Contains(hold.Evidence[0], "950 of 1000") {
			t.Errorf("hold %+v", hold)
		}
		w.upsert(t, "b", "2")
		time.Sleep(2 * time.Hour)
		w.onlyProbeJob(t, breaker.ReasonDailyLimit)
		for _, e := range w.calls(low, isDataCall) {
			if slices.Contains(e.Codes, "REQUEST_LIMIT_EXCEEDED") {
				t.Fatalf("Salesforce refused %s", e.Path)
			}
		}
		w.org.SetDailyUsage(10)
		time.Sleep(15*time.Minute + resumed + 7*time.Minute)
		if job := w.ended(t, w.runner, read); job.State != "completed" {
			t.Errorf("the sync is %s", job.State)
		}
		w.inOrder(t, map[string][]string{"a": {"1", "2"}, "b": {"1", "2"}})
		w.noAttemptBurned(t)
		w.noProbeJob(t)
		w.wantEvents(t, "org.held daily_limit", "org.resumed daily_limit")
	})
}

// An org without room for data is held until there is some: it is not let go
// for a write that is refused again.
func TestTimeTravelStorage(t *testing.T) {
	inBubble(t, func(t *testing.T, w *timeTravel) {
		start(t, w.runner)
		w.org.SetStorageFull(true)
		full := time.Now()
		w.upsert(t, "a", "1")
		time.Sleep(2 * time.Hour)
		if hold := w.mustHold(t, breaker.ReasonStorageLimit); hold.Lanes != breaker.LanesOf(breaker.Write) {
			t.Errorf("hold %+v", hold)
		}
		if n := len(w.calls(full, isWrite)); n != 1 {
			t.Errorf("%d writes were tried without room", n)
		}
		if job := w.ended(t, w.runner, w.insertSync(t)); job.State != "completed" {
			t.Errorf("a sync is %s", job.State)
		}
		w.org.SetStorageFull(false)
		time.Sleep(15*time.Minute + resumed)
		w.inOrder(t, map[string][]string{"a": {"1"}})
		w.noAttemptBurned(t)
		w.wantEvents(t, "org.held storage_limit", "org.resumed storage_limit")
	})
}

// Too many logins in an hour: the token endpoint is left alone until the time
// that the hold names is over, and then asked once.
func TestTimeTravelLoginRate(t *testing.T) {
	inBubble(t, func(t *testing.T, w *timeTravel) {
		w.org.SetLoginRate(1) // connecting was that one
		time.Sleep(time.Second)
		start(t, w.runner)
		w.org.ExpireSessions()
		read := w.insertSync(t)
		begun := time.Now()
		w.upsert(t, "a", "1")
		time.Sleep(time.Minute)
		hold := w.mustHold(t, breaker.ReasonLoginRate)
		if hold.Lanes != breaker.BothLanes || hold.Until.IsZero() {
			t.Errorf("hold %+v", hold)
		}
		w.onlyProbeJob(t, breaker.ReasonLoginRate)
		time.Sleep(10 * time.Minute)
		w.org.SetLoginRate(0)
		time.Sleep(20 * time.Minute)
		refused := w.calls(begun, func(e *sftest.Entry) bool { return isToken(e) && e.Status != 200 })
		wait := time.Minute
		for i := 1; i < len(refused); i++ {
			if gap := refused[i].Time.Sub(refused[i-1].Time); gap < wait {
				t.Errorf("token request %d came %v after the one before, want %v", i, gap, wait)
			}
			wait *= 2
		}
		if n := len(refused); n != 4 {
			t.Errorf("%d token requests were refused in ten minutes, want 4", n)
		}
		if job := w.ended(t, w.runner, read); job.State != "completed" {
			t.Errorf("the sync is %s", job.State)
		}
		w.inOrder(t, map[string][]string{"a": {"1"}})
		w.noAttemptBurned(t)
		w.noProbeJob(t)
		if org := w.get(t, w.runner); org.State != "connected" || len(org.Holds) != 0 {
			t.Errorf("org %+v", org)
		}
	})
}

// An outage: the lane trips, probes back off, a probe that is answered lets one
// call through, whose failure closes the lane again; in the end the org
// recovers and the lane runs at full speed.
func TestTimeTravelOutage(t *testing.T) {
	inBubble(t, func(t *testing.T, w *timeTravel) {
		start(t, w.runner)
		down := w.org.Inject(sftest.HTMLError(503))
		begun := time.Now()
		read := w.insertSync(t)
		w.upsert(t, "a", "1")
		time.Sleep(5 * time.Minute)
		hold := w.mustHold(t, breaker.ReasonUnavailable)
		if hold.Phase != breaker.Off {
			t.Errorf("hold %+v", hold)
		}
		w.onlyProbeJob(t, breaker.ReasonUnavailable)
		// Five in a row of each lane trip it.
		notProbes := func(e *sftest.Entry) bool { return isDataCall(e) && !isProbeOfLimits(e) }
		tripped := len(w.calls(begun, notProbes))
		if tripped > 10 {
			t.Errorf("%d calls before the lanes were held", tripped)
		}

		// The probe's question is answered again, the jobs' calls are not.
		half := w.org.Inject(sftest.Fault{Name: "half open", Respond: sftest.HTMLError(503).Respond, Match: func(r *http.Request) bool {
			return r.URL.Path != "/services/data/v66.0/limits" && r.URL.Path != "/services/oauth2/userinfo"
		}})
		down.Remove()
		halfOpen := time.Now()
		time.Sleep(15 * time.Minute)
		w.onlyProbeJob(t, breaker.ReasonUnavailable)
		trials, probes := w.calls(halfOpen, notProbes), w.calls(halfOpen, isProbeOfLimits)
		if len(trials) == 0 || len(trials) > 2*len(probes) {
			t.Errorf("%d trial calls after %d probes", len(trials), len(probes))
		}
		w.backsOff(t, hold.Since, w.calls(hold.Since, isProbeOfLimits), lag)

		half.Remove()
		due := w.mustHold(t, breaker.ReasonUnavailable).NextProbe
		time.Sleep(time.Until(due) + lag + 2*time.Minute)
		if job := w.ended(t, w.runner, read); job.State != "completed" || job.FinalizedAt.Sub(due) > resumed+30*time.Second {
			t.Errorf("the sync is %s, %v after the probe was due", job.State, job.FinalizedAt.Sub(due))
		}
		w.inOrder(t, map[string][]string{"a": {"1"}})
		w.noAttemptBurned(t)
		if holds := w.get(t, w.runner).Holds; len(holds) != 0 {
			t.Errorf("held after the outage: %+v", holds)
		}
		w.noProbeJob(t)
		w.wantEvents(t, "org.held unavailable", "org.resumed unavailable")
	})
}

// A server that takes calls and never answers is no end of the probes.
func TestTimeTravelProbeWithoutAnswer(t *testing.T) {
	inBubble(t, func(t *testing.T, w *timeTravel) {
		start(t, w.runner)
		w.org.SetReadOnly(sftest.ReadOnly)
		w.upsert(t, "a", "1")
		time.Sleep(25 * time.Second)
		hold := w.mustHold(t, breaker.ReasonMaintenance)
		silence := w.org.Inject(sftest.Latency(24 * time.Hour))
		time.Sleep(15 * time.Minute)
		h := w.mustHold(t, breaker.ReasonMaintenance)
		if h.Probes < 3 || h.Backoff != h.Probes {
			t.Errorf("after 15 minutes of silence: %+v", h)
		}
		if !h.Since.Equal(hold.Since) {
			t.Errorf("held since %v, and %v", hold.Since, h.Since)
		}
		for _, row := range w.table(t, "SELECT attempt, errors FROM river_job WHERE kind = 'salesforce_probe'") {
			if *row["attempt"] > "1" {
				t.Errorf("the probe job spent %s attempts: %v", *row["attempt"], row["errors"])
			}
		}
		silence.Remove()
		w.org.SetReadOnly(sftest.ReadWrite)
		time.Sleep(20 * time.Minute)
		w.inOrder(t, map[string][]string{"a": {"1"}})
		w.noProbeJob(t)
	})
}
