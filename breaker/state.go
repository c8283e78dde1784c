package breaker

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/weirhq/weir/sfapi"
)

const (
	// DefaultSyncWindow is how many jobs of an org's sync lane run at once,
	// fleet-wide, where nothing else is configured. Salesforce lets 25 long
	// requests run at once in production orgs and 5 in developer orgs:
	// https://developer.salesforce.com/docs/atlas.en-us.salesforce_app_limits_cheatsheet.meta/salesforce_app_limits_cheatsheet/salesforce_app_limits_platform_api.htm
	DefaultSyncWindow = 4
	// DefaultWriteWindow is the same for the write lane. One keeps the jobs of
	// the lane in order.
	DefaultWriteWindow = 1
)

// stateFormat is the version of the stored form. It is raised when an older
// process could misread a newer State.
const stateFormat = 1

// ErrStateFormat is wrapped by the error of [State.UnmarshalJSON] for a State
// that a newer version of Weir wrote.
var ErrStateFormat = errors.New("unknown format of breaker state")

// Limit is the concurrency of one lane. The zero value is the lane's default,
// unshrunk.
type Limit struct {
	// Full is the configured window. Zero means the lane's default.
	Full int `json:"full,omitzero"`
	// Shrunk is the window after concurrency errors. Zero means not shrunk.
	Shrunk int `json:"shrunk,omitzero"`
	// Changed is when the window last changed.
	Changed time.Time `json:"changed,omitzero"`
}

// Limits holds the concurrency of each lane.
type Limits struct {
	Sync  Limit `json:"sync,omitzero"`
	Write Limit `json:"write,omitzero"`
}

func (l *Limits) of(lane Lane) *Limit {
	if lane == Write {
		return &l.Write
	}
	return &l.Sync
}

// Ended remembers the last hold of a reason, so that answers to calls that
// were sent before it ended do not place it again, and so that a hold that
// comes back at once goes on with its schedule.
type Ended struct {
	Reason  Reason    `json:"reason"`
	At      time.Time `json:"at"`
	Backoff int       `json:"backoff,omitzero"`
}

// State is all that the breaker knows of an org. The zero value, with an Org,
// is an org that nothing holds. A State is a value: Next never changes the one
// it is given. Reading one from several goroutines is safe.
//
// Its JSON is the stored form, one jsonb column.
type State struct {
	Org sfapi.OrgID `json:"org"`
	// Version rises by one whenever Next changes anything: a caller saves the
	// new State where the row still has the old Version.
	Version int64 `json:"version"`
	// Holds are the holds in the order in which they were placed.
	Holds []Hold `json:"holds,omitempty"`
	// Limits are the windows of the lanes before holds.
	Limits Limits `json:"limits,omitzero"`
	// Generation is the newest generation of the org's credential that changed
	// anything here; answers to older ones place and lift no hold of theirs.
	Generation int64 `json:"generation,omitzero"`
	// ReauthSent says that org.reauth_required went out for the present grant.
	ReauthSent bool    `json:"reauth_sent,omitempty"`
	Ended      []Ended `json:"ended,omitempty"`
}

// Use is what a call is about to do.
type Use uint8

const (
	// Read is a REST read.
	Read Use = iota
	// BulkRead is a Bulk query, which read-only mode refuses although it only
	// reads.
	BulkRead
	// Mutate changes data.
	Mutate
)

// Allows is the decision before each call: it returns the reason of a hold
// that refuses the call, and whether the call may go out. It takes no lock,
// allocates nothing and is meant for the hot path.
func (s *State) Allows(l Lane, use Use) (Reason, bool) {
	for i := range s.Holds {
		h := &s.Holds[i]
		if h.Phase == Off && h.Lanes.Has(l) {
			return h.Reason, false
		}
		if h.Reason == ReasonMaintenance && use != Read && (use == BulkRead || h.Phase == Off) {
			return h.Reason, false
		}
	}
	return "", true
}

// Covers returns the first hold that covers the lane, in either phase, and nil
// when the lane is open. The lane's queue is paused while it has one.
func (s *State) Covers(l Lane) *Hold {
	for i := range s.Holds {
		if s.Holds[i].Lanes.Has(l) {
			return &s.Holds[i]
		}
	}
	return nil
}

// Held returns the lanes that at least one hold covers.
func (s *State) Held() Lanes {
	var lanes Lanes
	for i := range s.Holds {
		lanes |= s.Holds[i].Lanes
	}
	return lanes
}

// Hold returns the hold of the reason, and nil when there is none.
func (s *State) Hold(r Reason) *Hold {
	for i := range s.Holds {
		if s.Holds[i].Reason == r {
			return &s.Holds[i]
		}
	}
	return nil
}

// BulkReads reports whether Bulk queries are worth sending: an org in
// read-only mode refuses them, and goes on answering REST queries.
func (s *State) BulkReads() bool { return s.Hold(ReasonMaintenance) == nil }

// OnTrial reports whether a hold that covers the lane is on trial.
func (s *State) OnTrial(l Lane) bool {
	for i := range s.Holds {
		if s.Holds[i].Phase == Trial && s.Holds[i].Lanes.Has(l) {
			return true
		}
	}
	return false
}

// Revoked reports whether the org's grant is dead, so that no job for it can
// ever run before somebody connects it again.
func (s *State) Revoked() bool { return s.Hold(ReasonReauth) != nil }

// Limit returns the lane's window as it is without holds.
func (s *State) Limit(l Lane) int {
	limit := s.Limits.of(l)
	full := limit.full(l)
	if limit.Shrunk > 0 {
		return min(limit.Shrunk, full)
	}
	return full
}

func (limit *Limit) full(l Lane) int {
	switch {
	case limit.Full > 0:
		return limit.Full
	case l == Write:
		return DefaultWriteWindow
	default:
		return DefaultSyncWindow
	}
}

// Window returns how many jobs of the lane may run at once in the whole fleet:
// zero while a hold stops the lane, a few while it is on trial.
func (s *State) Window(l Lane) int {
	window := s.Limit(l)
	for i := range s.Holds {
		h := &s.Holds[i]
		switch {
		case !h.Lanes.Has(l):
		case h.Phase == Off:
			return 0
		default:
			window = min(window, h.Trials.of(l).Window)
		}
	}
	return window
}

// NextProbe returns when the org's probe job is due, and zero when none is.
// While the daily limit holds, only its own probe counts: the others would
// cost calls that the org does not have. While the grant is dead nothing can
// be asked.
func (s *State) NextProbe() time.Time {
	var next time.Time
	for i := range s.Holds {
		for _, t := range [...]time.Time{s.Holds[i].Until, s.probeAt(&s.Holds[i])} {
			if !t.IsZero() && (next.IsZero() || t.Before(next)) {
				next = t
			}
		}
	}
	return next
}

// DueProbes returns the reasons of the holds to ask about now, in the order in
// which they were placed. Call Next with [Tick] first: it ends the holds whose
// time is over.
func (s *State) DueProbes(now time.Time) []Reason {
	var due []Reason
	for i := range s.Holds {
		if at := s.probeAt(&s.Holds[i]); !at.IsZero() && !at.After(now) {
			due = append(due, s.Holds[i].Reason)
		}
	}
	return due
}

// probeAt returns when the hold is asked about next, and zero while another
// hold makes asking pointless or too dear.
func (s *State) probeAt(h *Hold) time.Time {
	if s.Revoked() || h.Reason != ReasonDailyLimit && s.Hold(ReasonDailyLimit) != nil {
		return time.Time{}
	}
	return h.NextProbe
}

// Refuse returns a [*HeldError] when [State.Allows] refuses the call, and nil
// otherwise.
func (s *State) Refuse(l Lane, use Use) error {
	reason, ok := s.Allows(l, use)
	if ok {
		return nil
	}
	return &HeldError{Org: s.Org, Lane: l, Hold: *s.Hold(reason)}
}

// HeldError says that a call was refused here, before it was sent, because a
// hold covers it.
type HeldError struct {
	Org  sfapi.OrgID
	Lane Lane
	Hold Hold
}

// Error implements error.
func (e *HeldError) Error() string {
	return fmt.Sprintf("org %s: %s is held since %s: %s", e.Org, e.Lane, e.Hold.Since.UTC().Format(time.RFC3339), e.Hold.Reason)
}

// storedState has State's fields and none of its methods.
type storedState State

// MarshalJSON implements [json.Marshaler].
func (s State) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Format int `json:"format"`
		storedState
	}{stateFormat, storedState(s)})
}

// UnmarshalJSON implements [json.Unmarshaler]. It fails, rather than lose a
// hold, for a State of a newer format (wrapping [ErrStateFormat]), with an
// unknown reason, or with a hold that covers no lane.
func (s *State) UnmarshalJSON(data []byte) error {
	var in struct {
		Format int `json:"format"`
		storedState
	}
	// The format is read first: the rest of a newer one may not even parse.
	var head struct {
		Format int `json:"format"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return fmt.Errorf("unmarshal breaker state: %w", err)
	}
	if head.Format != stateFormat {
		return fmt.Errorf("unmarshal breaker state of format %d: %w", head.Format, ErrStateFormat)
	}
	if err := json.Unmarshal(data, &in); err != nil {
		return fmt.Errorf("unmarshal breaker state: %w", err)
	}
	for i, h := range in.Holds {
		if h.Lanes.Empty() {
			return fmt.Errorf("unmarshal breaker state: the %s hold covers no lane", h.Reason)
		}
		if slices.ContainsFunc(in.Holds[:i], func(o Hold) bool { return o.Reason == h.Reason }) {
			return fmt.Errorf("unmarshal breaker state: two holds say %s", h.Reason)
		}
	}
	*s = State(in.storedState)
	return nil
}
