package breaker

import "time"

// whyReauthStays is what an operator hears who resumes or probes a revoked org.
const whyReauthStays = "the grant is gone, and no call can be made with it: connect the org again; resuming does not end this hold"

func (t *turn) operatorHold(lanes Lanes) {
	h := t.s.Hold(ReasonOperator)
	if h == nil {
		t.place(ReasonOperator, lanes)
		return
	}
	if h.Lanes.Contains(lanes) {
		return
	}
	t.changed = true
	h.Lanes = h.Lanes.Union(lanes)
	h.addEvidence(t.obs.Evidence)
}

// operatorResume takes the lanes out of the operator's hold, unless the hold
// is younger than the wish to end it.
func (t *turn) operatorResume(lanes Lanes) {
	h := t.s.Hold(ReasonOperator)
	if h == nil || h.Lanes.Intersect(lanes).Empty() || t.obs.At.Before(h.Since) {
		return
	}
	if h.Lanes.Minus(lanes).Empty() {
		t.lift(t.index(ReasonOperator))
		return
	}
	t.changed = true
	h.Lanes = h.Lanes.Minus(lanes)
}

// probeNow makes every hold that can be asked about due.
func (t *turn) probeNow() {
	if t.s.Revoked() {
		t.notes = append(t.notes, HoldKept{Reason: ReasonReauth, Why: whyReauthStays})
	}
	for i := range t.s.Holds {
		h := &t.s.Holds[i]
		if h.Reason.Rule().Probe == ProbeNone {
			continue
		}
		at := t.now
		if h.Reason == ReasonDailyLimit {
			// The call that met the limit, and each probe, is the one call that
			// may reach the org in its minute.
			at = later(at, later(h.LastProbe, h.Since).Add(dailyProbeFloor))
		}
		if h.NextProbe.IsZero() || at.Before(h.NextProbe) {
			t.changed = true
			h.NextProbe = at
		}
	}
	t.overdue()
}

// queuePaused takes a pause that is not ours for an operator's hold. A queue
// whose lane is held is paused already, and nobody can have pressed it.
func (t *turn) queuePaused() {
	if !t.obs.Lane.Valid() || t.s.Covers(t.obs.Lane) != nil {
		return
	}
	for _, e := range t.s.Ended {
		if t.obs.At.Before(e.At) { // Our own pause, seen before it was undone.
			return
		}
	}
	if len(t.obs.Evidence) == 0 {
		t.obs.Evidence = []string{"the queue was paused in River UI"}
	}
	t.operatorHold(LanesOf(t.obs.Lane))
}

// queueResumed takes a resume in River UI for "this operator's hold is over"
// and "ask about the others now". A lane that stays held gets its queue paused
// again, since our State is the truth and the queue its picture.
func (t *turn) queueResumed() {
	if !t.obs.Lane.Valid() || t.s.Covers(t.obs.Lane) == nil {
		return
	}
	t.operatorResume(LanesOf(t.obs.Lane))
	t.probeNow()
	if h := t.s.Covers(t.obs.Lane); h != nil {
		t.repairs = append(t.repairs, PauseLane{Lane: t.obs.Lane, Reason: h.Reason})
	}
}

// reconnected ends what a new grant ends, and asks about the rest.
func (t *turn) reconnected() {
	if t.obs.Generation <= t.s.Generation {
		return
	}
	t.changed = true
	t.s.Generation = t.obs.Generation
	t.s.ReauthSent = false
	for i := len(t.s.Holds) - 1; i >= 0; i-- {
		if t.s.Holds[i].Reason.Rule().Exits.Has(ByReconnect) {
			t.lift(i)
		}
	}
	t.probeNow()
}

// tick ends what ends by time, and asks for a probe that should have come.
func (t *turn) tick() {
	for i := len(t.s.Holds) - 1; i >= 0; i-- {
		if until := t.s.Holds[i].Until; !until.IsZero() && !until.After(t.now) {
			t.lift(i)
		}
	}
	t.overdue()
}

// overdue asks once more for a probe that should have come: its job may be
// lost.
func (t *turn) overdue() {
	if next := t.s.NextProbe(); !next.IsZero() && !next.After(t.now) {
		t.repairs = append(t.repairs, ScheduleProbe{At: next})
	}
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
