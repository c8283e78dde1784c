package breaker

import "time"

// Effect is something to do in the transaction that saves the new State. It is
// one of the types of this file.
type Effect interface{ effect() }

// HoldPlaced says that the hold is new.
type HoldPlaced struct{ Hold Hold }

// HoldChanged says that the hold goes on with other lanes, another phase,
// another probe time or more evidence.
type HoldChanged struct{ Hold Hold }

// HoldLifted says that the hold is over. Hold is as it was last.
type HoldLifted struct{ Hold Hold }

// HoldKept answers an operator whose resume or probe cannot end the hold, and
// says why.
type HoldKept struct {
	Reason Reason
	Why    string
}

// PauseLane says that River's row of the lane's queue must be paused: the lane
// has become covered, or somebody resumed the row of one that is.
type PauseLane struct {
	Lane   Lane
	Reason Reason
}

// ResumeLane says that no hold covers the lane any more.
type ResumeLane struct{ Lane Lane }

// SetWindow says how many jobs of the lane the gate may have running from now
// on, in the whole fleet: zero when it is stopped.
type SetWindow struct {
	Lane   Lane
	Window int
}

// CancelJobs says that every unfinished job of the org, in both lanes, is to be
// cancelled.
type CancelJobs struct {
	Reason Reason
	Cause  Cause
}

// EventType is the type of an event, as webhooks carry it.
type EventType string

const (
	// EventOrgHeld goes out once for each hold, when it is placed.
	EventOrgHeld EventType = "org.held"
	// EventOrgResumed goes out once for each hold, when it is lifted.
	EventOrgResumed EventType = "org.resumed"
	// EventReauthRequired goes out at most once for each grant.
	EventReauthRequired EventType = "org.reauth_required"
)

// EmitEvent says that an event is to be inserted as a job.
type EmitEvent struct {
	Type   EventType
	Reason Reason
	Lanes  Lanes
	Since  time.Time
	// Cause is set for EventReauthRequired only.
	Cause Cause
}

// ScheduleProbe says that the org's one probe job is due at this time, whatever
// was scheduled before. The time may have passed.
type ScheduleProbe struct{ At time.Time }

// CancelProbe says that the org needs no probe job.
type CancelProbe struct{}

func (HoldPlaced) effect()    {}
func (HoldChanged) effect()   {}
func (HoldLifted) effect()    {}
func (HoldKept) effect()      {}
func (PauseLane) effect()     {}
func (ResumeLane) effect()    {}
func (SetWindow) effect()     {}
func (CancelJobs) effect()    {}
func (EmitEvent) effect()     {}
func (ScheduleProbe) effect() {}
func (CancelProbe) effect()   {}

// effectsOf returns the effects that follow from the difference of two States
// alone. Every effect that has a State behind it comes from here, so that no
// rule can change the State and forget to say so.
func effectsOf(before, after *State) (holds, lanes, events, probes []Effect) {
	for i := range before.Holds {
		h := &before.Holds[i]
		if after.Hold(h.Reason) == nil {
			holds = append(holds, HoldLifted{*h})
			events = append(events, EmitEvent{Type: EventOrgResumed, Reason: h.Reason, Lanes: h.Lanes, Since: h.Since})
		}
	}
	for i := range after.Holds {
		h := &after.Holds[i]
		switch old := before.Hold(h.Reason); {
		case old == nil:
			holds = append(holds, HoldPlaced{*h})
			events = append(events, EmitEvent{Type: EventOrgHeld, Reason: h.Reason, Lanes: h.Lanes, Since: h.Since})
		case !old.Equal(h):
			holds = append(holds, HoldChanged{*h})
		}
	}
	for _, l := range AllLanes() {
		was, is := before.Covers(l), after.Covers(l)
		switch {
		case was == nil && is != nil:
			lanes = append(lanes, PauseLane{Lane: l, Reason: is.Reason})
		case was != nil && is == nil:
			lanes = append(lanes, ResumeLane{Lane: l})
		}
		if window := after.Window(l); window != before.Window(l) {
			lanes = append(lanes, SetWindow{Lane: l, Window: window})
		}
	}
	if next := after.NextProbe(); !next.Equal(before.NextProbe()) {
		if next.IsZero() {
			probes = append(probes, CancelProbe{})
		} else {
			probes = append(probes, ScheduleProbe{At: next})
		}
	}
	return holds, lanes, events, probes
}
