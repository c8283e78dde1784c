package breaker_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weirhq/weir/breaker"
	"github.com/weirhq/weir/sfapi"
)

func TestNextFirstFailureOfEachKind(t *testing.T) {
	t.Parallel()
	both, write := breaker.BothLanes, breaker.LanesOf(breaker.Write)
	held := []breaker.EventType{breaker.EventOrgHeld}
	reauth := []breaker.EventType{breaker.EventOrgHeld, breaker.EventReauthRequired}
	type row struct {
		Kind    sfapi.Kind
		Reason  breaker.Reason
		Lanes   breaker.Lanes
		Wait    time.Duration // until the hold is looked at again; 0: a person ends it
		Cancels bool
		Events  []breaker.EventType
		Window  int // of the sync lane
	}
	want := []row{
		{Kind: sfapi.KindNone, Window: 4},
		{sfapi.KindSessionExpired, breaker.ReasonUndetermined, both, 5 * time.Minute, false, held, 0},
		{sfapi.KindWrongInstance, breaker.ReasonWrongInstance, both, 5 * time.Minute, false, held, 0},
		{sfapi.KindIPRestricted, breaker.ReasonIPRestricted, both, 5 * time.Minute, false, held, 0},
		{sfapi.KindAppNotAllowed, breaker.ReasonAppNotAllowed, both, 5 * time.Minute, false, held, 0},
		{sfapi.KindRevoked, breaker.ReasonReauth, both, 0, true, reauth, 0},
		{sfapi.KindUserInactive, breaker.ReasonUserInactive, both, 5 * time.Minute, false, reauth, 0},
		{sfapi.KindOrgInactive, breaker.ReasonOrgInactive, both, 5 * time.Minute, true, held, 0},
		{sfapi.KindMaintenance, breaker.ReasonMaintenance, write, 30 * time.Second, false, held, 4},
		{Kind: sfapi.KindServerUnavailable, Window: 4},
		{sfapi.KindDailyLimit, breaker.ReasonDailyLimit, both, time.Minute, false, held, 0},
		{Kind: sfapi.KindConcurrentLimit, Window: 2},
		{sfapi.KindLoginRateLimited, breaker.ReasonLoginRate, both, 15 * time.Minute, false, held, 0},
		{Kind: sfapi.KindRowLock, Window: 4},
		{Kind: sfapi.KindQueryTimeout, Window: 4},
		{Kind: sfapi.KindInvalidQueryLocator, Window: 4},
		{Kind: sfapi.KindBadRequest, Window: 4},
		{Kind: sfapi.KindNotFound, Window: 4},
		{Kind: sfapi.KindPermission, Window: 4},
		{Kind: sfapi.KindValidation, Window: 4},
		{Kind: sfapi.KindDuplicate, Window: 4},
		{sfapi.KindStorageLimit, breaker.ReasonStorageLimit, write, 5 * time.Minute, false, held, 4},
		{Kind: sfapi.KindConflict, Window: 4},
		{sfapi.KindAPIDisabled, breaker.ReasonAPIDisabled, both, 5 * time.Minute, false, held, 0},
		{Kind: sfapi.KindVersionRetired, Window: 4},
		{sfapi.KindClientMisconfigured, breaker.ReasonClientConfig, both, 5 * time.Minute, false, held, 0},
		{Kind: sfapi.KindUnknown, Window: 4},
	}
	var got []row
	for _, rule := range breaker.KindRules() {
		x := setup(t)
		obs := breaker.Failed(breaker.Write, breaker.Mutate, rule.Kind)
		obs.Confirmed, obs.Consecutive = true, 1
		effects := x.do(obs)
		r := row{
			Kind: rule.Kind, Window: x.state.Window(breaker.Sync), Events: events(effects),
			Cancels: len(has[breaker.CancelJobs](effects)) > 0,
		}
		for _, h := range x.state.Holds {
			r.Reason, r.Lanes = h.Reason, h.Lanes
			if due := h.Due(); !due.IsZero() {
				r.Wait = due.Sub(start)
			}
			if h.Kind != rule.Kind || h.Advice != h.Reason.Advice() {
				t.Errorf("%s: the hold says kind %s, advice %q", rule.Kind, h.Kind, h.Advice)
			}
		}
		got = append(got, r)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("effect of the first failure (-want +got):\n%s", diff)
	}
}

func TestKindRulesCoverEveryKind(t *testing.T) {
	t.Parallel()
	rules := breaker.KindRules()
	for k := sfapi.KindNone; ; k++ {
		if _, err := k.MarshalText(); err != nil {
			if int(k) != len(rules) {
				t.Errorf("%d Kinds, %d rules", int(k), len(rules))
			}
			return
		}
		if int(k) >= len(rules) || rules[k].Kind != k {
			t.Fatalf("%s has no rule in its place", k)
		}
		if reason := rules[k].Reason; reason != "" && !reason.Valid() {
			t.Errorf("%s: no reason is called %q", k, reason)
		}
	}
}

func TestReasonRulesCoverEveryReason(t *testing.T) {
	t.Parallel()
	for i, rule := range breaker.ReasonRules() {
		if rule.Reason != breaker.Reasons()[i] {
			t.Errorf("row %d is of %s, want %s", i, rule.Reason, breaker.Reasons()[i])
		}
		if rule.Exits == 0 {
			t.Errorf("%s has no exit", rule.Reason)
		}
		if rule.Exits.Has(breaker.ByProbe) != (rule.Probe != breaker.ProbeNone) {
			t.Errorf("%s: exits %s, probe %s", rule.Reason, rule.Exits, rule.Probe)
		}
		if rule.Credential != rule.Exits.Has(breaker.ByReconnect) {
			t.Errorf("%s: a condition of the credential ends by a new one, and no other does", rule.Reason)
		}
		if len(rule.Reason.Advice()) < 60 {
			t.Errorf("%s: advice is missing: %q", rule.Reason, rule.Reason.Advice())
		}
	}
}

func TestMaintenanceFromFirstRefusalToFullSpeed(t *testing.T) {
	t.Parallel()
	x := setup(t)
	refused := breaker.Failed(breaker.Write, breaker.Mutate, sfapi.KindMaintenance)
	x.do(refused)
	x.wantWindows(4, 0)
	if x.state.BulkReads() {
		t.Error("Bulk reads are open in read-only mode")
	}
	if reason, ok := x.state.Allows(breaker.Sync, breaker.BulkRead); ok || reason != breaker.ReasonMaintenance {
		t.Errorf("Bulk read: got %q, %v", reason, ok)
	}
	if _, ok := x.state.Allows(breaker.Sync, breaker.Read); !ok {
		t.Error("a REST read is refused in read-only mode")
	}
	var heldErr *breaker.HeldError
	if err := x.state.Refuse(breaker.Write, breaker.Mutate); !errors.As(err, &heldErr) || heldErr.Hold.Reason != breaker.ReasonMaintenance {
		t.Errorf("Refuse: got %v", err)
	}
	version := x.state.Version
	for range 20 { // The writes that were in flight.
		if effects := x.do(refused); len(effects) != 0 {
			t.Fatalf("a refusal in flight has effects: %v", effects)
		}
	}
	if x.state.Version != version {
		t.Error("a refusal in flight costs a save")
	}

	// Two hours of probes, 30 s doubling to 15 min.
	var waits []time.Duration
	for x.now.Before(start.Add(2 * time.Hour)) {
		due := x.state.NextProbe()
		waits = append(waits, due.Sub(x.now))
		x.now = due
		x.do(breaker.Probed(breaker.ReasonMaintenance, false))
	}
	minutes := time.Minute
	want := []time.Duration{minutes / 2, minutes, 2 * minutes, 4 * minutes, 8 * minutes, 15 * minutes, 15 * minutes}
	if diff := cmp.Diff(want, waits[:len(want)]); diff != "" {
		t.Errorf("waits (-want +got):\n%s", diff)
	}

	// The probe is answered well, but the first trial is refused.
	if effects := x.after(time.Hour).do(breaker.Probed(breaker.ReasonMaintenance, true)); len(events(effects)) != 0 {
		t.Errorf("events of a trial: %v", events(effects))
	}
	x.wantWindows(4, 1)
	stale := refused
	stale.At = x.now.Add(-time.Second)
	if effects := x.after(time.Second).do(stale); len(effects) != 0 {
		t.Errorf("a refusal from before the trial has effects: %v", effects)
	}
	if effects := x.do(refused); len(events(effects)) != 0 {
		t.Errorf("events of a refused trial: %v", events(effects))
	}
	x.wantWindows(4, 0)
	if got := x.state.NextProbe().Sub(x.now); got != 15*minutes {
		t.Errorf("a refused trial reset the schedule to %v", got)
	}

	// A read proves nothing about writing; a write does.
	x.after(15 * minutes).do(breaker.Probed(breaker.ReasonMaintenance, true))
	x.do(breaker.Succeeded(breaker.Write, breaker.Read))
	x.do(breaker.Succeeded(breaker.Sync, breaker.Read))
	x.wantHolds(breaker.ReasonMaintenance)
	effects := x.do(breaker.Failed(breaker.Write, breaker.Mutate, sfapi.KindValidation))
	x.wantHolds()
	x.wantWindows(4, 1)
	if diff := cmp.Diff([]breaker.EventType{breaker.EventOrgResumed}, events(effects)); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	if len(has[breaker.ResumeLane](effects)) != 1 || len(has[breaker.CancelProbe](effects)) != 1 {
		t.Errorf("effects of the end: %v", effects)
	}
	if x.after(time.Second).do(stale); len(x.state.Holds) != 0 {
		t.Error("a refusal from before the end placed the hold again")
	}
	if !x.state.BulkReads() {
		t.Error("Bulk reads stay closed")
	}
}

func TestTrialWindowsGrow(t *testing.T) {
	t.Parallel()
	x := setup(t)
	x.do(breaker.Observation{Event: breaker.WindowConfigured, Lane: breaker.Write, Window: 8})
	x.do(breaker.Failed(breaker.Write, breaker.Mutate, sfapi.KindMaintenance))
	x.after(time.Minute).do(breaker.Probed(breaker.ReasonMaintenance, true))
	var windows []int
	for len(x.state.Holds) > 0 {
		windows = append(windows, x.state.Window(breaker.Write))
		x.do(breaker.Succeeded(breaker.Write, breaker.Mutate))
	}
	if diff := cmp.Diff([]int{1, 2, 2, 4, 4, 4, 4}, windows); diff != "" {
		t.Errorf("windows at each trial (-want +got):\n%s", diff)
	}
	x.wantWindows(4, 8)
}

func TestTrialOfIdleLaneEndsByTheNextGoodProbe(t *testing.T) {
	t.Parallel()
	x := setup(t)
	x.do(breaker.Failed(breaker.Write, breaker.Mutate, sfapi.KindMaintenance))
	x.after(time.Minute).do(breaker.Probed(breaker.ReasonMaintenance, true))
	x.wantHolds(breaker.ReasonMaintenance)
	if got := x.state.NextProbe().Sub(x.now); got != 30*time.Second {
		t.Errorf("next probe of a trial in %v", got)
	}
	x.after(30 * time.Second).do(breaker.Probed(breaker.ReasonMaintenance, true))
	x.wantHolds()
}

func TestMaintenanceThatRefusesReadsLetsThemGoAtTheFirstAnswer(t *testing.T) {
	t.Parallel()
	x := setup(t)
	dead := breaker.Failed(breaker.Sync, breaker.Read, sfapi.KindSessionExpired)
	dead.Diagnosis = sfapi.KindMaintenance
	x.do(dead)
	x.wantHolds(breaker.ReasonMaintenance)
	x.wantWindows(0, 0)
	effects := x.after(30 * time.Second).do(breaker.Probed(breaker.ReasonMaintenance, false))
	x.wantWindows(4, 0)
	if diff := cmp.Diff([]breaker.ResumeLane{{Lane: breaker.Sync}}, has[breaker.ResumeLane](effects)); diff != "" {
		t.Errorf("resumed (-want +got):\n%s", diff)
	}

	y := setup(t)
	y.do(breaker.Failed(breaker.Sync, breaker.BulkRead, sfapi.KindMaintenance))
	y.wantWindows(4, 0)
}

func TestUnavailable(t *testing.T) {
	t.Parallel()
	x := setup(t)
	down := breaker.Failed(breaker.Sync, breaker.Read, sfapi.KindServerUnavailable)
	for down.Consecutive = 1; down.Consecutive < 5; down.Consecutive++ {
		if effects := x.do(down); len(effects) != 0 {
			t.Fatalf("failure %d has effects %v", down.Consecutive, effects)
		}
	}
	down.RetryAfter = 2 * time.Minute
	x.do(down)
	x.wantHolds(breaker.ReasonUnavailable)
	x.wantWindows(0, 1)
	if got := x.state.NextProbe().Sub(x.now); got != 2*time.Minute {
		t.Errorf("Retry-After of two minutes: next probe in %v", got)
	}
	down.RetryAfter = 0
	x.after(2 * time.Minute).do(breaker.ProbeError(breaker.ReasonUnavailable, sfapi.KindServerUnavailable))
	if got := x.state.NextProbe().Sub(x.now); got != time.Minute {
		t.Errorf("second probe in %v", got)
	}
	x.after(time.Minute).do(breaker.Probed(breaker.ReasonUnavailable, true))
	x.wantWindows(1, 1)
	down.Consecutive = 1
	x.after(time.Second).do(down) // One failure on trial is enough.
	x.wantWindows(0, 1)
	if got := x.state.NextProbe().Sub(x.now); got != 2*time.Minute {
		t.Errorf("after a refused trial, next probe in %v", got)
	}
	x.after(2 * time.Minute).do(breaker.Probed(breaker.ReasonUnavailable, true))
	for _, window := range []int{1, 2, 2} {
		if got := x.state.Window(breaker.Sync); got != window {
			t.Fatalf("window on trial: got %d, want %d", got, window)
		}
		x.do(breaker.Failed(breaker.Sync, breaker.Read, sfapi.KindBadRequest)) // Any judgement will do.
	}
	x.wantHolds()
}
