package breaker_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/weirhq/weir/breaker"
)

// mayEnd reports whether the observation is an exit of the hold. One that is
// older than what it speaks about is none.
func mayEnd(h *breaker.Hold, obs breaker.Observation, now time.Time) bool {
	exits := h.Reason.Rule().Exits
	old := !obs.At.IsZero() && obs.At.Before(now) && obs.At.Before(h.PhaseSince)
	switch obs.Event {
	case breaker.Reconnected, breaker.Tick:
	default:
		if old {
			return false
		}
	}
	switch obs.Event {
	case breaker.CallSucceeded, breaker.CallFailed:
		return h.Phase == breaker.Trial && h.Lanes.Has(obs.Lane)
	case breaker.ProbeOK:
		return exits.Has(breaker.ByProbe) && obs.Reason == h.Reason
	case breaker.OperatorResume, breaker.QueueResumed:
		return exits.Has(breaker.ByOperator)
	case breaker.Reconnected:
		return exits.Has(breaker.ByReconnect)
	case breaker.Tick:
		return !h.Until.IsZero() && !now.Before(h.Until)
	default:
		return false
	}
}

// check tests what must hold of every step from one State to the next,
// without looking at how Next comes to it.
func check(before, after breaker.State, obs breaker.Observation, effects []breaker.Effect, now time.Time) error {
	if changed := !reflect.DeepEqual(before, after); changed != (after.Version == before.Version+1) || !changed && after.Version != before.Version {
		return fmt.Errorf("changed %v, version %d to %d", changed, before.Version, after.Version)
	}
	var wantHeld, wantResumed int
	for _, h := range before.Holds {
		is := after.Hold(h.Reason)
		if is == nil {
			wantResumed++
			if !mayEnd(&h, obs, now) {
				return fmt.Errorf("the %s hold was lost", h.Reason)
			}
			continue
		}
		lost := h.Lanes.Minus(is.Lanes)
		released := h.Reason == breaker.ReasonMaintenance && obs.Event == breaker.ProbeStill && lost == breaker.LanesOf(breaker.Sync)
		if !lost.Empty() && !released && !mayEnd(&h, obs, now) {
			return fmt.Errorf("the %s hold lost its lanes %s", h.Reason, lost)
		}
		if is.Backoff < h.Backoff {
			return fmt.Errorf("the %s hold forgot its backoff", h.Reason)
		}
	}
	for i, h := range after.Holds {
		if before.Hold(h.Reason) == nil {
			wantHeld++
			if h.Reason.Rule().Credential && obs.Generation != 0 && obs.Generation < before.Generation {
				return fmt.Errorf("an answer to an old credential placed the %s hold", h.Reason)
			}
			for _, e := range before.Ended {
				if e.Reason == h.Reason && !obs.At.IsZero() && obs.At.Before(now) && obs.At.Before(e.At) {
					return fmt.Errorf("an old answer placed the %s hold again", h.Reason)
				}
			}
		}
		if slices.ContainsFunc(after.Holds[:i], func(o breaker.Hold) bool { return o.Reason == h.Reason }) {
			return fmt.Errorf("two holds say %s", h.Reason)
		}
		if h.Lanes.Empty() || len(h.Evidence) > 8 || h.Advice == "" {
			return fmt.Errorf("bad hold %+v", h)
		}
		personal := h.Reason == breaker.ReasonOperator || h.Reason == breaker.ReasonReauth
		if personal != h.Due().IsZero() {
			return fmt.Errorf("the %s hold is due at %v", h.Reason, h.Due())
		}
		if d := h.Due().Sub(now); !personal && d > 24*time.Hour+time.Second && before.Hold(h.Reason) == nil {
			return fmt.Errorf("the %s hold is due in %v", h.Reason, d)
		}
		for _, l := range h.Lanes.Slice() {
			if window := after.Window(l); window > 0 && h.Phase == breaker.Off {
				return fmt.Errorf("%s has window %d under the %s hold", l, window, h.Reason)
			}
		}
		if !personal && !after.Revoked() && after.NextProbe().IsZero() {
			return fmt.Errorf("the %s hold is never looked at", h.Reason)
		}
	}
	for _, l := range breaker.AllLanes() {
		_, allowed := after.Allows(l, breaker.Read)
		if allowed != (after.Window(l) > 0) {
			return fmt.Errorf("%s: allowed %v, window %d", l, allowed, after.Window(l))
		}
		if window := after.Window(l); window > after.Limit(l) || after.Limit(l) < 1 {
			return fmt.Errorf("%s: window %d of %d", l, window, after.Limit(l))
		}
	}
	if err := checkEffects(before, after, effects, wantHeld, wantResumed); err != nil {
		return fmt.Errorf("effects %+v: %w", effects, err)
	}
	data, err := json.Marshal(after)
	if err != nil {
		return err
	}
	var read breaker.State
	if err := json.Unmarshal(data, &read); err != nil {
		return err
	}
	again, err := json.Marshal(read)
	if err != nil || string(again) != string(data) {
		return fmt.Errorf("JSON does not round-trip: %s, then %s (%w)", data, again, err)
	}
	for i := range after.Holds {
		if !after.Holds[i].Equal(&read.Holds[i]) {
			return fmt.Errorf("hold read back: got %+v, want %+v", read.Holds[i], after.Holds[i])
		}
	}
	return nil
}

func checkEffects(before, after breaker.State, effects []breaker.Effect, wantHeld, wantResumed int) error {
	var held, resumed, placed, lifted int
	paused, opened, windows := map[breaker.Lane]bool{}, map[breaker.Lane]bool{}, map[breaker.Lane]int{}
	var probe *time.Time
	for _, e := range effects {
		switch e := e.(type) {
		case breaker.HoldPlaced:
			placed++
			if h := after.Hold(e.Hold.Reason); before.Hold(e.Hold.Reason) != nil || h == nil || !h.Equal(&e.Hold) {
				return fmt.Errorf("placed %s", e.Hold.Reason)
			}
		case breaker.HoldLifted:
			lifted++
			if before.Hold(e.Hold.Reason) == nil || after.Hold(e.Hold.Reason) != nil {
				return fmt.Errorf("lifted %s", e.Hold.Reason)
			}
		case breaker.HoldChanged:
			was, is := before.Hold(e.Hold.Reason), after.Hold(e.Hold.Reason)
			if was == nil || is == nil || was.Equal(is) || !is.Equal(&e.Hold) {
				return fmt.Errorf("changed %s", e.Hold.Reason)
			}
		case breaker.HoldKept:
			if after.Hold(e.Reason) == nil {
				return fmt.Errorf("kept %s", e.Reason)
			}
		case breaker.PauseLane:
			paused[e.Lane] = true
		case breaker.ResumeLane:
			opened[e.Lane] = true
		case breaker.SetWindow:
			windows[e.Lane] = e.Window
		case breaker.CancelJobs:
			if h := after.Hold(e.Reason); h == nil || before.Hold(e.Reason) != nil || !h.Reason.Rule().Cancels {
				return fmt.Errorf("cancelled for %s", e.Reason)
			}
		case breaker.EmitEvent:
			switch e.Type {
			case breaker.EventOrgHeld:
				held++
			case breaker.EventOrgResumed:
				resumed++
			case breaker.EventReauthRequired:
				if before.ReauthSent && before.Generation == after.Generation {
					return fmt.Errorf("a second %s", e.Type)
				}
			}
		case breaker.ScheduleProbe:
			if probe != nil {
				return fmt.Errorf("two probes")
			}
			probe = &e.At
		case breaker.CancelProbe:
			probe = &time.Time{}
		}
	}
	if held != wantHeld || placed != wantHeld || resumed != wantResumed || lifted != wantResumed {
		return fmt.Errorf("%d held of %d, %d resumed of %d", held, wantHeld, resumed, wantResumed)
	}
	for _, l := range breaker.AllLanes() {
		was, is := before.Covers(l) != nil, after.Covers(l) != nil
		if paused[l] && !is || opened[l] != (was && !is) || !was && is && !paused[l] {
			return fmt.Errorf("%s: covered %v then %v, paused %v, resumed %v", l, was, is, paused[l], opened[l])
		}
		window, set := windows[l]
		if set != (before.Window(l) != after.Window(l)) || set && window != after.Window(l) {
			return fmt.Errorf("%s: window %d then %d, set to %d", l, before.Window(l), after.Window(l), window)
		}
	}
	switch next := after.NextProbe(); {
	case probe == nil && !next.Equal(before.NextProbe()):
		return fmt.Errorf("the probe at %v is not scheduled", next)
	case probe != nil && !probe.Equal(next):
		return fmt.Errorf("the probe is scheduled for %v, not %v", probe, next)
	}
	return nil
}
