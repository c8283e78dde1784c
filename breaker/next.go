package breaker

import (
	"slices"
	"time"

	"github.com/weirhq/weir/sfapi"
)

// Next returns the State that follows from an observation, and what is to be
// done about it, to be applied in the transaction that saves the State. It is
// pure, and never changes s.
//
// The State's Version has risen if and only if anything in it changed; when it
// has not, there may still be effects, which need no save: a HoldKept, or a
// projection that must be put right.
//
// An observation that is older than the change it speaks about, or that was
// made with an older credential than the one it speaks about, changes nothing.
func (b *Breaker) Next(s State, obs Observation, now time.Time) (State, []Effect) {
	now = now.Round(0).UTC()
	if obs.At.IsZero() || obs.At.After(now) {
		obs.At = now
	}
	t := turn{b: b, s: s, obs: obs, now: now}
	t.s.Holds = slices.Clone(s.Holds)
	t.s.Ended = slices.Clone(s.Ended)
	switch obs.Event {
	case CallSucceeded:
		t.succeeded()
	case CallFailed:
		t.failed()
	case ProbeOK, ProbeStill, ProbeFailed:
		t.probed()
	case OperatorHold:
		t.operatorHold(orBoth(obs.Lanes))
	case OperatorResume:
		t.operatorResume(orBoth(obs.Lanes))
		t.probeNow()
	case OperatorProbe:
		t.probeNow()
	case QueuePaused:
		t.queuePaused()
	case QueueResumed:
		t.queueResumed()
	case Reconnected:
		t.reconnected()
	case WindowConfigured:
		t.configured()
	case Tick:
		t.tick()
	}
	return t.result(&s)
}

// turn is one run of Next.
type turn struct {
	b       *Breaker
	s       State
	obs     Observation
	now     time.Time
	changed bool

	notes   []Effect // HoldKept
	repairs []Effect // PauseLane and ScheduleProbe without a change
	cancels []Effect
	reauths []Effect
}

// result puts the effects in their order: what happened to holds, then what
// follows for lanes, jobs, events and the probe job.
func (t *turn) result(before *State) (State, []Effect) {
	if !t.changed {
		return *before, slices.Concat(t.notes, t.repairs)
	}
	t.s.Version = before.Version + 1
	holds, lanes, events, probes := effectsOf(before, &t.s)
	if len(probes) > 0 { // It says all that a repair would.
		t.repairs = slices.DeleteFunc(t.repairs, func(e Effect) bool {
			_, ok := e.(ScheduleProbe)
			return ok
		})
	}
	return t.s, slices.Concat(t.notes, holds, lanes, t.repairs, t.cancels, events, t.reauths, probes)
}

func (t *turn) succeeded() {
	if !t.obs.Lane.Valid() {
		return
	}
	t.grow()
	proof := ProvesServing
	if t.obs.Use == Mutate {
		proof = ProvesWriting
	}
	t.tried(proof, "")
}

func (t *turn) failed() {
	if t.obs.Kind == sfapi.KindNone {
		t.succeeded()
		return
	}
	rule := t.obs.rule()
	switch rule.Action {
	case HoldAtOnce:
		t.place(rule.Reason, t.lanesOf(rule.Reason))
	case HoldWhenCounted:
		h := t.s.Hold(rule.Reason)
		onTrial := h != nil && h.Phase == Trial && h.Lanes.Has(t.obs.Lane)
		if onTrial || t.obs.Consecutive >= t.b.cfg.FailureThreshold {
			t.place(rule.Reason, t.lanesOf(rule.Reason))
		}
	case Shrink:
		t.shrink()
	}
	proof := rule.Proof
	if proof == ProvesWriting && t.obs.Use != Mutate {
		proof = ProvesServing
	}
	t.tried(proof, rule.Reason)
}

// lanesOf returns the lanes that a refused call holds.
//
// Read-only mode leaves REST reads alone, and its hold covers the Write lane.
// Yet sessions can die with it: after SalesforceMobileSDK-iOS #2464 a read was
// refused with INVALID_SESSION_ID, before and after a refresh. A lane whose
// own REST read was refused is held with the other, or it would refresh in a
// loop; the first probe that is answered lets it go.
func (t *turn) lanesOf(r Reason) Lanes {
	lanes := r.Rule().Lanes
	if lanes.Empty() {
		return LanesOf(t.obs.Lane)
	}
	if r == ReasonMaintenance && t.obs.Use == Read {
		lanes = lanes.Union(LanesOf(t.obs.Lane))
	}
	return lanes
}

// tried counts an answer as a trial of every hold that is on trial on the
// lane, except the one it speaks against.
func (t *turn) tried(proof Proof, against Reason) {
	if proof == ProvesNothing || !t.obs.Lane.Valid() {
		return
	}
	for i := 0; i < len(t.s.Holds); i++ {
		h := &t.s.Holds[i]
		if h.Phase != Trial || !h.Lanes.Has(t.obs.Lane) || h.Reason == against || t.obs.At.Before(h.PhaseSince) {
			continue
		}
		if h.Reason == ReasonMaintenance && t.obs.Lane == Write && proof != ProvesWriting {
			continue
		}
		t.changed = true
		h.Tried = true
		steps := h.Trials.of(t.obs.Lane)
		steps.Done++
		if steps.Done < steps.Window*t.b.cfg.TrialSuccesses {
			continue
		}
		*steps = Steps{Window: 2 * steps.Window}
		if steps.Window < t.s.Limit(t.obs.Lane) {
			continue
		}
		*steps = Steps{}
		if h.Lanes = h.Lanes.Minus(LanesOf(t.obs.Lane)); h.Lanes.Empty() {
			// The event and the lifted hold name the lane that it still had.
			t.lift(i)
			i--
		}
	}
}

// probed takes in what a probe brought.
func (t *turn) probed() {
	if h := t.s.Hold(t.obs.Reason); h != nil {
		fresh := !t.obs.At.Before(h.PhaseSince) && !t.obs.At.Before(h.LastProbe) &&
			!(h.Reason.Rule().Credential && t.outdated())
		switch {
		case h.Reason.Rule().Probe == ProbeNone:
		case !fresh:
			// It must be asked again, and not at once.
			if !h.NextProbe.IsZero() && !h.NextProbe.After(t.now) {
				t.schedule(h)
			}
		default:
			t.changed = true
			h.LastProbe = t.obs.At.Round(0).UTC()
			h.Probes++
			h.addEvidence(t.obs.Evidence)
			t.answered(h)
		}
	}
	if t.obs.Event != ProbeFailed {
		return
	}
	rule := t.obs.rule()
	switch {
	case rule.Action == Shrink:
		t.shrink()
	case rule.Action == HoldAtOnce && rule.Reason != t.obs.Reason:
		t.place(rule.Reason, rule.Reason.Rule().Lanes)
	}
}

// answered moves a hold on after a probe that counts.
func (t *turn) answered(h *Hold) {
	over := t.obs.Event == ProbeOK
	switch {
	case over && h.Phase == Off && h.Reason.Rule().Exits.Has(ByTrial):
		h.Phase, h.PhaseSince, h.Tried = Trial, t.now, false
		h.Trials = Trials{}
		for _, l := range h.Lanes.Slice() {
			h.Trials.of(l).Window = 1
		}
		h.NextProbe = t.now.Add(t.b.ProbeDelay(h.Reason.Rule().Pace, 0, t.obs.Jitter))
	case over && h.Phase == Trial && h.Tried:
		// The lane is busy proving it; look again later.
		h.Tried = false
		h.NextProbe = t.now.Add(t.b.ProbeDelay(h.Reason.Rule().Pace, 0, t.obs.Jitter))
	case over:
		// Nothing was waiting to be tried: the probe's word is all there is.
		t.lift(t.index(h.Reason))
	default:
		refused := t.obs.Event == ProbeStill || t.obs.rule().Reason == h.Reason
		if refused && h.Phase == Trial {
			t.off(h)
		}
		if t.obs.Event == ProbeStill && h.Reason == ReasonMaintenance {
			// The org answered a query: its reads are well.
			h.Lanes = LanesOf(Write)
		}
		h.Backoff++
		t.schedule(h)
	}
}

// off sends a hold on trial back, without resetting its schedule.
func (t *turn) off(h *Hold) {
	h.Phase, h.PhaseSince, h.Tried, h.Trials = Off, t.now, false, Trials{}
}

// schedule sets the hold's next probe, or its end where it ends by time.
func (t *turn) schedule(h *Hold) {
	t.changed = true
	rule := h.Reason.Rule()
	wait := believed(h.Reason, t.obs.RetryAfter)
	if rule.Exits.Has(ByTime) {
		if wait == 0 {
			wait = t.b.cfg.LoginRateWindow
		}
		h.NextProbe, h.Until = time.Time{}, t.now.Add(wait)
		return
	}
	if rule.Probe != ProbeNone {
		h.NextProbe = t.now.Add(max(wait, t.b.ProbeDelay(rule.Pace, h.Backoff, t.obs.Jitter)))
	}
}

// outdated reports whether the observation was made with a credential that a
// newer one has replaced.
func (t *turn) outdated() bool {
	return t.obs.Generation != 0 && t.obs.Generation < t.s.Generation
}

func (t *turn) index(r Reason) int {
	return slices.IndexFunc(t.s.Holds, func(h Hold) bool { return h.Reason == r })
}

func orBoth(lanes Lanes) Lanes {
	if lanes.Empty() {
		return BothLanes
	}
	return lanes.Intersect(BothLanes)
}
