package breaker_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weirhq/weir/breaker"
	"github.com/weirhq/weir/sfapi"
)

func TestHoldsCompose(t *testing.T) {
	t.Parallel()
	x := setup(t)
	x.do(breaker.Paused(breaker.LanesOf(breaker.Write)))
	x.do(breaker.Failed(breaker.Write, breaker.Mutate, sfapi.KindMaintenance))
	x.do(breaker.Failed(breaker.Sync, breaker.Read, sfapi.KindDailyLimit))
	x.wantWindows(0, 0)
	if due := x.state.DueProbes(x.now.Add(59 * time.Second)); due != nil {
		t.Errorf("while the daily limit holds, probes of %v would cost calls", due)
	}
	x.after(time.Minute)
	if diff := cmp.Diff([]breaker.Reason{breaker.ReasonDailyLimit}, x.state.DueProbes(x.now)); diff != "" {
		t.Errorf("due (-want +got):\n%s", diff)
	}
	effects := x.do(breaker.Probed(breaker.ReasonDailyLimit, true))
	x.wantWindows(4, 0)
	if got := has[breaker.ResumeLane](effects); len(got) != 1 || got[0].Lane != breaker.Sync {
		t.Errorf("resumed: %v", got)
	}
	x.do(breaker.Probed(breaker.ReasonMaintenance, true))
	x.after(time.Minute).do(breaker.Probed(breaker.ReasonMaintenance, true))
	x.wantHolds(breaker.ReasonOperator)
	x.wantWindows(4, 0)
	x.do(breaker.Connected(5))
	x.wantHolds(breaker.ReasonOperator)
	if effects := x.do(breaker.Resumed(0)); len(has[breaker.ResumeLane](effects)) != 1 {
		t.Errorf("effects of the operator's resume: %v", effects)
	}
	x.wantHolds()
}

func TestRevocationEndsOnlyByANewGrant(t *testing.T) {
	t.Parallel()
	x := setup(t)
	guess := breaker.Failed(breaker.Sync, breaker.Read, sfapi.KindRevoked)
	if effects := x.do(guess); len(has[breaker.CancelJobs](effects)) != 0 {
		t.Error("a revocation that nobody confirmed cancels jobs")
	}
	x.wantHolds(breaker.ReasonUndetermined)
	effects := x.do(breaker.CredentialLost(7, breaker.CauseRefreshOutcomeUnknown))
	if diff := cmp.Diff([]breaker.CancelJobs{{Reason: breaker.ReasonReauth, Cause: breaker.CauseRefreshOutcomeUnknown}}, has[breaker.CancelJobs](effects)); diff != "" {
		t.Errorf("cancelled (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]breaker.EventType{breaker.EventOrgHeld, breaker.EventReauthRequired}, events(effects)); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	if !x.state.Revoked() || !x.state.NextProbe().IsZero() {
		t.Errorf("revoked %v, next probe %v", x.state.Revoked(), x.state.NextProbe())
	}
	if effects := x.do(breaker.CredentialLost(7, breaker.CauseRevoked)); len(effects) != 0 {
		t.Errorf("a second verdict has effects: %v", effects)
	}
	for _, obs := range []breaker.Observation{breaker.Resumed(0), breaker.ProbeNow(), {Event: breaker.QueueResumed, Lane: breaker.Sync}} {
		if kept := has[breaker.HoldKept](x.do(obs)); len(kept) != 1 || kept[0].Reason != breaker.ReasonReauth || kept[0].Why == "" {
			t.Errorf("%v: the operator is told %v", obs.Event, kept)
		}
	}
	x.do(breaker.Probed(breaker.ReasonReauth, true))
	x.do(breaker.Connected(7))
	if !x.state.Revoked() {
		t.Error("the grant that was revoked lifted its own revocation")
	}
	x.do(breaker.Connected(8))
	x.wantHolds()
	if x.do(breaker.CredentialLost(7, breaker.CauseRevoked)); x.state.Revoked() {
		t.Error("a late verdict about the old grant revoked the new one")
	}
	if effects := x.do(breaker.CredentialLost(8, breaker.CauseRevoked)); len(events(effects)) != 2 {
		t.Errorf("the new grant's revocation emits %v", events(effects))
	}
}

func TestDiagnosisDecides(t *testing.T) {
	t.Parallel()
	for diagnosis, want := range map[sfapi.Kind]breaker.Reason{
		sfapi.KindNone:           breaker.ReasonUndetermined,
		sfapi.KindUnknown:        breaker.ReasonUndetermined,
		sfapi.KindSessionExpired: "",
		sfapi.KindMaintenance:    breaker.ReasonMaintenance,
		sfapi.KindIPRestricted:   breaker.ReasonIPRestricted,
		sfapi.KindAppNotAllowed:  breaker.ReasonAppNotAllowed,
		sfapi.KindWrongInstance:  breaker.ReasonWrongInstance,
		sfapi.KindUserInactive:   breaker.ReasonUserInactive,
		sfapi.KindRevoked:        breaker.ReasonUndetermined,
	} {
		x := setup(t)
		obs := breaker.Failed(breaker.Write, breaker.Mutate, sfapi.KindSessionExpired)
		obs.Diagnosis = diagnosis
		if effects := x.do(obs); len(has[breaker.CancelJobs](effects)) != 0 {
			t.Errorf("diagnosis %s cancels jobs", diagnosis)
		}
		var got breaker.Reason
		if len(x.state.Holds) > 0 {
			got = x.state.Holds[0].Reason
		}
		if got != want {
			t.Errorf("diagnosis %s: held for %q, want %q", diagnosis, got, want)
		}
	}
}

func TestConcurrencyShrinksAndGrows(t *testing.T) {
	t.Parallel()
	x := setup(t)
	x.do(breaker.Observation{Event: breaker.WindowConfigured, Lane: breaker.Sync, Window: 8})
	x.after(time.Second)
	busy := breaker.Failed(breaker.Sync, breaker.Read, sfapi.KindConcurrentLimit)
	x.do(busy)
	x.wantWindows(4, 1)
	x.after(time.Second)
	late := busy
	late.At = x.now.Add(-2 * time.Second)
	x.do(late) // It was sent when eight were allowed.
	x.wantWindows(4, 1)
	for range 5 {
		x.after(time.Second).do(busy)
	}
	x.wantWindows(1, 1)
	x.wantHolds()
	if x.b.WantsSuccess(&x.state, breaker.Sync, x.now) {
		t.Error("successes count before it is time to grow")
	}
	for want := 2; want <= 8; want++ {
		x.do(breaker.Succeeded(breaker.Sync, breaker.Read))
		x.after(30 * time.Second)
		if !x.b.WantsSuccess(&x.state, breaker.Sync, x.now) {
			t.Fatal("successes do not count when it is time to grow")
		}
		x.do(breaker.Succeeded(breaker.Sync, breaker.Read))
		x.wantWindows(want, 1)
	}
	if x.b.WantsSuccess(&x.state, breaker.Sync, x.now.Add(time.Hour)) {
		t.Error("successes count at the full window")
	}
}

func TestTimeEndsLoginRate(t *testing.T) {
	t.Parallel()
	x := setup(t)
	obs := breaker.Failed(breaker.Sync, breaker.Read, sfapi.KindLoginRateLimited)
	obs.RetryAfter = 20 * time.Minute
	x.do(obs)
	if got := x.state.NextProbe().Sub(x.now); got != 20*time.Minute {
		t.Errorf("over in %v", got)
	}
	if due := x.state.DueProbes(x.now.Add(time.Hour)); due != nil {
		t.Errorf("probes of %v would ask for tokens", due)
	}
	x.after(20*time.Minute - 1).do(breaker.Observation{Event: breaker.Tick})
	x.wantHolds(breaker.ReasonLoginRate)
	x.after(1).do(breaker.Observation{Event: breaker.Tick})
	x.wantHolds()
}

func TestDailyLimitCostsAtMostACallAMinute(t *testing.T) {
	t.Parallel()
	x := setup(t)
	b, err := breaker.New(&breaker.Config{ProbeMin: time.Second, ProbeMax: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	x.b = b
	x.do(breaker.Failed(breaker.Sync, breaker.Read, sfapi.KindDailyLimit))
	asked := x.now
	for i := range 50 {
		obs := breaker.ProbeNow()
		obs.Jitter = 0.99
		x.after(7 * time.Second).do(obs)
		if len(x.state.DueProbes(x.now)) == 0 {
			continue
		}
		if gap := x.now.Sub(asked); gap < time.Minute {
			t.Fatalf("probe %d comes %v after the last call", i, gap)
		}
		asked = x.now
		still := breaker.Probed(breaker.ReasonDailyLimit, false)
		still.Jitter = 0.99
		x.do(still)
	}
	if x.hold(breaker.ReasonDailyLimit).Probes == 0 {
		t.Error("never probed")
	}
	far := breaker.Failed(breaker.Sync, breaker.Read, sfapi.KindDailyLimit)
	far.RetryAfter = 1000 * time.Hour
	x.do(far)
	if got := x.state.NextProbe().Sub(x.now); got != 24*time.Hour {
		t.Errorf("a Retry-After of 1,000 hours: next probe in %v", got)
	}
}

func TestRiverUI(t *testing.T) {
	t.Parallel()
	x := setup(t)
	effects := x.do(breaker.Observation{Event: breaker.QueuePaused, Lane: breaker.Sync})
	x.wantHolds(breaker.ReasonOperator)
	x.wantWindows(0, 1)
	if len(has[breaker.PauseLane](effects)) != 1 || !x.state.Hold(breaker.ReasonOperator).Due().IsZero() {
		t.Errorf("effects %v, hold %+v", effects, x.state.Holds)
	}
	x.do(breaker.Failed(breaker.Write, breaker.Mutate, sfapi.KindMaintenance))
	// Pressed on a lane that only Salesforce holds: probe now, paused again.
	effects = x.after(time.Second).do(breaker.Observation{Event: breaker.QueueResumed, Lane: breaker.Write})
	x.wantHolds(breaker.ReasonOperator, breaker.ReasonMaintenance)
	if diff := cmp.Diff([]breaker.PauseLane{{Lane: breaker.Write, Reason: breaker.ReasonMaintenance}}, has[breaker.PauseLane](effects)); diff != "" {
		t.Errorf("paused again (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]breaker.ScheduleProbe{{At: x.now}}, has[breaker.ScheduleProbe](effects)); diff != "" {
		t.Errorf("probe (-want +got):\n%s", diff)
	}
	x.do(breaker.Observation{Event: breaker.QueueResumed, Lane: breaker.Sync})
	x.wantHolds(breaker.ReasonMaintenance)
	x.wantWindows(4, 0)
	seen := breaker.Observation{Event: breaker.QueuePaused, Lane: breaker.Sync, At: x.now.Add(-time.Millisecond)}
	x.after(time.Second).do(seen)
	x.wantHolds(breaker.ReasonMaintenance)
}

func TestHoldThatComesBackAtOnceGoesOnWithItsSchedule(t *testing.T) {
	t.Parallel()
	x := setup(t)
	full := breaker.Failed(breaker.Write, breaker.Mutate, sfapi.KindStorageLimit)
	x.do(full)
	x.after(5 * time.Minute).do(breaker.Probed(breaker.ReasonStorageLimit, true))
	x.after(time.Second).do(full)
	if got := x.state.NextProbe().Sub(x.now); got != 10*time.Minute {
		t.Errorf("next probe in %v", got)
	}
	x.after(10 * time.Minute).do(breaker.Probed(breaker.ReasonStorageLimit, true))
	x.after(10 * time.Minute).do(full)
	if got := x.state.NextProbe().Sub(x.now); got != 5*time.Minute {
		t.Errorf("long after, next probe in %v", got)
	}
}

func TestOldObservationsChangeNothing(t *testing.T) {
	t.Parallel()
	const before = -time.Second // when the observation was made, next to the last change
	maintenance := breaker.Failed(breaker.Write, breaker.Mutate, sfapi.KindMaintenance)
	lost := breaker.CredentialLost(4, breaker.CauseRevoked)
	app := breaker.Failed(breaker.Sync, breaker.Read, sfapi.KindAppNotAllowed)
	app.Generation = 4
	over, still := breaker.Probed(breaker.ReasonMaintenance, true), breaker.Probed(breaker.ReasonMaintenance, false)
	appOver := breaker.Probed(breaker.ReasonAppNotAllowed, true)
	appOver.Generation = 3
	appLater := app
	appLater.Generation = 5
	for name, tt := range map[string]struct {
		history []breaker.Observation // a minute apart
		old     breaker.Observation
		age     time.Duration
	}{
		"a probe from before the hold":             {[]breaker.Observation{maintenance}, over, before},
		"a probe from before the last one":         {[]breaker.Observation{maintenance, still}, over, before},
		"a write from before the trial":            {[]breaker.Observation{maintenance, over}, breaker.Succeeded(breaker.Write, breaker.Mutate), before},
		"a refusal from before the trial":          {[]breaker.Observation{maintenance, over}, maintenance, before},
		"a refusal from before the end":            {[]breaker.Observation{maintenance, over, over}, maintenance, before},
		"a read's refusal from before the probe":   {[]breaker.Observation{maintenance, still}, breaker.Failed(breaker.Sync, breaker.Read, sfapi.KindMaintenance), before},
		"a resume from before the pause":           {[]breaker.Observation{breaker.Paused(0)}, breaker.Resumed(0), before},
		"a pause from before the resume":           {[]breaker.Observation{breaker.Paused(0), breaker.Resumed(0)}, breaker.Paused(0), before},
		"a revocation of an older grant":           {[]breaker.Observation{breaker.Connected(5)}, lost, 0},
		"an older grant":                           {[]breaker.Observation{lost}, breaker.Connected(4), 0},
		"a refusal of an older token":              {[]breaker.Observation{breaker.Connected(5)}, app, 0},
		"a probe with an older token than refused": {[]breaker.Observation{app}, appOver, 0},
		"a refusal in flight":                      {[]breaker.Observation{app}, appLater, 0},
	} {
		x := setup(t)
		for _, obs := range tt.history {
			x.after(time.Minute).do(obs)
		}
		want := x.state
		if tt.age != 0 {
			tt.old.At = x.now.Add(tt.age)
		}
		x.do(tt.old)
		if diff := cmp.Diff(want, x.state); diff != "" {
			t.Errorf("%s changes the state (-want +got):\n%s", name, diff)
		}
	}
}

func TestReauthIsAskedForOnceAGrant(t *testing.T) {
	t.Parallel()
	x := setup(t)
	user := breaker.Failed(breaker.Sync, breaker.Read, sfapi.KindUserInactive)
	effects := x.do(user)
	if diff := cmp.Diff([]breaker.EventType{breaker.EventOrgHeld, breaker.EventReauthRequired}, events(effects)); diff != "" {
		t.Errorf("inactive user (-want +got):\n%s", diff)
	}
	effects = x.do(breaker.CredentialLost(1, breaker.CauseRevoked))
	if diff := cmp.Diff([]breaker.EventType{breaker.EventOrgHeld}, events(effects)); diff != "" {
		t.Errorf("then revoked (-want +got):\n%s", diff)
	}
	if len(has[breaker.CancelJobs](effects)) != 1 {
		t.Error("the jobs are not cancelled")
	}
}
