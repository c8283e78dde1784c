package breaker

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/weirhq/weir/sfapi"
)

// ControlQueue is the River queue of Weir's own jobs: probes, events and
// housekeeping. No hold ever stops it, so that a held org can be asked
// whether its hold is over.
const ControlQueue = "sf_control"

const (
	queuePrefix    = "sf_"
	runQueuePrefix = "sf_run_"
	// orgIDLength is the length of the only form of an org id that stays
	// unique in lower case. The 15-character form tells ids apart by case.
	orgIDLength = 18
)

// ErrUnknownLane is returned when a text names no lane.
var ErrUnknownLane = errors.New("unknown lane")

// Lane is one of the two streams of work of an org. They are held apart
// because Salesforce refuses them apart: an org in read-only mode refuses
// writes and goes on answering REST queries. The zero value is no lane.
type Lane uint8

const (
	// Sync carries the jobs that only read from the org.
	Sync Lane = iota + 1
	// Write carries the jobs that change data in the org.
	Write
)

// AllLanes returns every lane, in the order in which they are always listed.
func AllLanes() [2]Lane { return [2]Lane{Sync, Write} }

// String returns "sync" or "write", and "lane(n)" for a value that is no lane.
func (l Lane) String() string {
	switch l {
	case Sync:
		return "sync"
	case Write:
		return "write"
	default:
		return fmt.Sprintf("lane(%d)", uint8(l))
	}
}

// Valid reports whether l is Sync or Write.
func (l Lane) Valid() bool { return l == Sync || l == Write }

// ParseLane returns the lane that s names. The error wraps [ErrUnknownLane].
func ParseLane(s string) (Lane, error) {
	switch s {
	case "sync":
		return Sync, nil
	case "write":
		return Write, nil
	default:
		return 0, fmt.Errorf("parse lane %.40q: %w", s, ErrUnknownLane)
	}
}

// MarshalText implements [encoding.TextMarshaler]. The error wraps
// [ErrUnknownLane].
func (l Lane) MarshalText() ([]byte, error) {
	if !l.Valid() {
		return nil, fmt.Errorf("marshal %s: %w", l, ErrUnknownLane)
	}
	return []byte(l.String()), nil
}

// UnmarshalText implements [encoding.TextUnmarshaler]. The error wraps
// [ErrUnknownLane].
func (l *Lane) UnmarshalText(text []byte) error {
	parsed, err := ParseLane(string(text))
	if err != nil {
		return err
	}
	*l = parsed
	return nil
}

// Queue returns the name of the River queue in which the lane's jobs of org
// wait, for instance "sf_00d5g000000abcdeaa_write". River allows only lower
// case in queue names; an 18-character org id stays unique in it.
func (l Lane) Queue(org sfapi.OrgID) string {
	return queuePrefix + org.Lower() + "_" + l.String()
}

// RunQueue returns the name of the River queue from which workers take the
// lane's jobs of all orgs, once the gate has let them through.
func (l Lane) RunQueue() string { return runQueuePrefix + l.String() }

// ParseQueue takes apart a name that [Lane.Queue] made. It reports false for
// every other name: the run queues, [ControlQueue], and queues of the app.
// The org id comes back in lower case, because a queue name has lost its case.
func ParseQueue(name string) (orgLower string, l Lane, ok bool) {
	rest, ok := strings.CutPrefix(name, queuePrefix)
	if !ok {
		return "", 0, false
	}
	orgLower, lane, ok := strings.Cut(rest, "_")
	if !ok || len(orgLower) != orgIDLength {
		return "", 0, false
	}
	for i := range len(orgLower) {
		if c := orgLower[i]; (c < '0' || c > '9') && (c < 'a' || c > 'z') {
			return "", 0, false
		}
	}
	l, err := ParseLane(lane)
	if err != nil {
		return "", 0, false
	}
	return orgLower, l, true
}

// Lanes is a set of lanes. The zero value is the empty set. It is written to
// JSON as a list of names, ["sync","write"].
type Lanes uint8

// BothLanes is the set of both lanes.
const BothLanes = Lanes(1<<Sync | 1<<Write)

// LanesOf returns the set of the given lanes. Values that are no lane are left
// out.
func LanesOf(lanes ...Lane) Lanes {
	var s Lanes
	for _, l := range lanes {
		if l.Valid() {
			s |= 1 << l
		}
	}
	return s
}

// Has reports whether l is in the set.
func (s Lanes) Has(l Lane) bool { return s&BothLanes&(1<<l) != 0 }

// Contains reports whether every lane of other is in the set.
func (s Lanes) Contains(other Lanes) bool { return s&other == other }

// Union returns the lanes that are in s, in other or in both.
func (s Lanes) Union(other Lanes) Lanes { return s | other }

// Minus returns the lanes of s that are not in other.
func (s Lanes) Minus(other Lanes) Lanes { return s &^ other }

// Intersect returns the lanes that are in both s and other.
func (s Lanes) Intersect(other Lanes) Lanes { return s & other }

// Empty reports whether the set has no lane.
func (s Lanes) Empty() bool { return s&BothLanes == 0 }

// Slice returns the lanes of the set, Sync first. It is never nil.
func (s Lanes) Slice() []Lane {
	lanes := make([]Lane, 0, 2)
	for _, l := range AllLanes() {
		if s.Has(l) {
			lanes = append(lanes, l)
		}
	}
	return lanes
}

// String returns the names of the lanes joined by "+", or "none".
func (s Lanes) String() string {
	switch s & BothLanes {
	case LanesOf(Sync):
		return "sync"
	case LanesOf(Write):
		return "write"
	case BothLanes:
		return "sync+write"
	default:
		return "none"
	}
}

// MarshalJSON implements [json.Marshaler].
func (s Lanes) MarshalJSON() ([]byte, error) { return json.Marshal(s.Slice()) }

// UnmarshalJSON implements [json.Unmarshaler]. Names may repeat and come in
// any order. The error of an unknown name wraps [ErrUnknownLane].
func (s *Lanes) UnmarshalJSON(data []byte) error {
	var lanes []Lane
	if err := json.Unmarshal(data, &lanes); err != nil {
		return fmt.Errorf("unmarshal lanes: %w", err)
	}
	*s = LanesOf(lanes...)
	return nil
}
