package breaker

import (
	"slices"
	"time"
)

// flapWindow is how many times ProbeMin after its end a hold that comes back
// counts as the same trouble, and goes on with its schedule.
const flapWindow = 2

// place puts the lanes under a hold, which may be there already.
func (t *turn) place(r Reason, lanes Lanes) {
	rule := r.Rule()
	if lanes.Empty() || rule.Credential && t.outdated() {
		return
	}
	i := t.endedIndex(r)
	if i >= 0 && t.obs.At.Before(t.s.Ended[i].At) {
		return
	}
	if h := t.s.Hold(r); h != nil {
		t.extend(h, lanes)
		return
	}
	h := Hold{
		Reason: r, Lanes: lanes, Since: t.now, PhaseSince: t.now,
		Generation: t.obs.Generation, Advice: r.Advice(),
	}
	if r != ReasonOperator {
		h.Kind = t.obs.rule().Kind
	}
	if t.obs.Advice != "" {
		h.Advice = clip(t.obs.Advice, maxAdviceBytes)
	}
	if i >= 0 && rule.Pace != PaceNone && t.now.Sub(t.s.Ended[i].At) < flapWindow*t.b.cfg.ProbeMin {
		h.Backoff = t.s.Ended[i].Backoff + 1
	}
	h.addEvidence(t.obs.Evidence)
	t.schedule(&h)
	t.s.Holds = append(t.s.Holds, h)
	t.s.Generation = max(t.s.Generation, t.obs.Generation)
	cause := t.cause(r)
	if rule.Cancels {
		t.cancels = append(t.cancels, CancelJobs{Reason: r, Cause: cause})
	}
	if rule.Reauth && !t.s.ReauthSent {
		t.s.ReauthSent = true
		t.reauths = append(t.reauths, EmitEvent{Type: EventReauthRequired, Reason: r, Lanes: lanes, Since: t.now, Cause: cause})
	}
}

func (t *turn) cause(r Reason) Cause {
	switch {
	case r == ReasonUserInactive:
		return CauseUserInactive
	case r != ReasonReauth:
		return ""
	case t.obs.Cause != "":
		return t.obs.Cause
	default:
		return CauseRevoked
	}
}

// extend takes a further refusal into a hold that is there. Refusals of calls
// that were in flight when the hold was placed are many, and change nothing.
func (t *turn) extend(h *Hold, lanes Lanes) {
	if t.obs.At.Before(h.LastProbe) {
		return
	}
	if h.Phase == Trial {
		if t.obs.At.Before(h.PhaseSince) {
			return
		}
		t.off(h)
		h.Lanes = h.Lanes.Union(lanes)
		h.Backoff++
		h.addEvidence(t.obs.Evidence)
		t.schedule(h)
		return
	}
	if !h.Lanes.Contains(lanes) {
		t.changed = true
		h.Lanes = h.Lanes.Union(lanes)
		h.addEvidence(t.obs.Evidence)
	}
	// A second's grace: refusals of one burst all say nearly the same time.
	asked := t.now.Add(believed(h.Reason, t.obs.RetryAfter))
	switch {
	case t.obs.RetryAfter <= 0:
	case !h.Until.IsZero() && asked.Sub(h.Until) > time.Second:
		t.changed, h.Until = true, asked
	case !h.NextProbe.IsZero() && h.Until.IsZero() && asked.Sub(h.NextProbe) > time.Second:
		t.changed, h.NextProbe = true, asked
	}
}

// lift ends the hold at index i, and remembers that it did.
func (t *turn) lift(i int) {
	t.changed = true
	ended := Ended{Reason: t.s.Holds[i].Reason, At: t.now, Backoff: t.s.Holds[i].Backoff}
	t.s.Holds = slices.Delete(t.s.Holds, i, i+1)
	if j := t.endedIndex(ended.Reason); j >= 0 {
		t.s.Ended[j] = ended
		return
	}
	t.s.Ended = append(t.s.Ended, ended)
}

func (t *turn) endedIndex(r Reason) int {
	return slices.IndexFunc(t.s.Ended, func(e Ended) bool { return e.Reason == r })
}

// shrink halves the windows of both lanes: what Salesforce counts is the org's
// requests in flight. Calls that were sent before a lane was last shrunk speak
// about the window that it had then.
func (t *turn) shrink() {
	for _, l := range AllLanes() {
		limit := t.s.Limits.of(l)
		if t.obs.At.Before(limit.Changed) {
			continue
		}
		window := t.s.Limit(l)
		switch {
		case window > 1:
			limit.Shrunk, limit.Changed, t.changed = window/2, t.now, true
		case limit.Shrunk > 0 && t.now.Sub(limit.Changed) >= t.b.cfg.GrowAfter/2:
			// At the floor an error only puts growth off, and that not for
			// every single error, each of which would be a transaction.
			limit.Changed, t.changed = t.now, true
		}
	}
}

// grow gives a shrunk lane one more after a while without errors.
func (t *turn) grow() {
	limit := t.s.Limits.of(t.obs.Lane)
	if limit.Shrunk == 0 || t.obs.At.Before(limit.Changed) || t.now.Before(limit.Changed.Add(t.b.cfg.GrowAfter)) {
		return
	}
	limit.Shrunk, limit.Changed, t.changed = t.s.Limit(t.obs.Lane)+1, t.now, true
	if limit.Shrunk >= limit.full(t.obs.Lane) {
		limit.Shrunk = 0
	}
}

func (t *turn) configured() {
	if !t.obs.Lane.Valid() {
		return
	}
	limit := t.s.Limits.of(t.obs.Lane)
	if full := max(t.obs.Window, 0); full != limit.Full {
		limit.Full, limit.Changed, t.changed = full, t.now, true
	}
	if limit.Shrunk >= limit.full(t.obs.Lane) {
		limit.Shrunk, t.changed = 0, true
	}
}
