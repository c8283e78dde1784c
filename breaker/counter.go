package breaker

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/sony/gobreaker/v2"

	"github.com/weirhq/weir/sfapi"
)

// ErrTripped is wrapped by the error of [Counters.Begin] while too many calls
// in a row have found the org unavailable.
var ErrTripped = errors.New("too many calls in a row found the org unavailable")

var (
	errUnavailable  = errors.New("unavailable")
	errInconclusive = errors.New("inconclusive")
)

// Counters counts, for each org and lane, the calls in a row of this process
// that found the org unavailable, each in a gobreaker of its own.
//
// The count goes into [Observation.Consecutive], and Next turns it into a hold
// of the whole fleet. Until that hold is saved and has come back, and for as
// long as the database is away, the gobreaker stops this process by itself: it
// opens at [Config.FailureThreshold], and lets [Config.TrialSuccesses] calls
// through on trial after [Config.ProbeMin].
//
// An org that never failed costs nothing. Counters does no I/O and is safe for
// use by several goroutines.
type Counters struct {
	cfg    Config
	failed atomic.Int64 // len(lanes), to keep healthy fleets off the lock

	mu    sync.RWMutex
	lanes map[laneKey]*laneCounter // guarded by mu
}

type laneKey struct {
	org  sfapi.OrgID
	lane Lane
}

// laneCounter is one gobreaker and what it told us. gobreaker holds its mutex
// while its callbacks run, so these only store numbers.
type laneCounter struct {
	breaker     *gobreaker.TwoStepCircuitBreaker[struct{}]
	consecutive atomic.Uint32
	// epoch tells calls that began before the lane was last reset from later
	// ones. It is set once.
	epoch uint64
	phase Phase
	held  bool
	// since is PhaseSince of the hold that was last followed, in nanoseconds.
	since int64
}

// NewCounters returns Counters with the settings of b.
func NewCounters(b *Breaker) *Counters {
	return &Counters{cfg: b.cfg, lanes: make(map[laneKey]*laneCounter)}
}

func (c *Counters) newLane(epoch uint64) *laneCounter {
	l := &laneCounter{epoch: epoch}
	threshold := uint32(c.cfg.FailureThreshold)
	l.breaker = gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
		MaxRequests: uint32(c.cfg.TrialSuccesses),
		Timeout:     c.cfg.ProbeMin,
		ReadyToTrip: func(counts gobreaker.Counts) bool {
			l.consecutive.Store(counts.ConsecutiveFailures)
			return counts.ConsecutiveFailures >= threshold
		},
		OnStateChange: func(_ string, from, to gobreaker.State) {
			switch {
			case to == gobreaker.StateClosed:
				l.consecutive.Store(0)
			case from == gobreaker.StateHalfOpen:
				// A refused trial is as good as the row of failures before it.
				l.consecutive.Store(threshold)
			}
		},
		IsExcluded: func(err error) bool { return errors.Is(err, errInconclusive) },
	})
	return l
}

// Call is one call in progress. End it exactly once. The zero value is a call
// that is not counted.
type Call struct {
	c    *Counters
	key  laneKey
	lane *laneCounter // nil where the lane had not failed when the call began
	done func(error)
}

// Begin asks whether a call may go out. The error wraps [ErrTripped].
func (c *Counters) Begin(org sfapi.OrgID, l Lane) (Call, error) {
	call := Call{c: c, key: laneKey{org, l}}
	if c.failed.Load() == 0 {
		return call, nil
	}
	c.mu.RLock()
	call.lane = c.lanes[call.key]
	c.mu.RUnlock()
	if call.lane == nil {
		return call, nil
	}
	done, err := call.lane.breaker.Allow()
	if err != nil {
		return Call{}, fmt.Errorf("org %s: %s: %w (%w)", org, l, ErrTripped, err)
	}
	call.done = done
	return call, nil
}

// End takes in what the call's answer meant, KindNone for a success, and
// returns how many calls in a row, this one included, found the lane
// unavailable: zero when this one did not. Kinds that say nothing about
// availability neither add to the count nor end it.
func (call Call) End(kind sfapi.Kind) int {
	if call.c == nil {
		return 0
	}
	var outcome error
	switch rule := ruleOf(kind); {
	case rule.Action == HoldWhenCounted:
		outcome = errUnavailable
	case rule.Proof == ProvesNothing:
		outcome = errInconclusive
	}
	if call.done == nil {
		lane := call.c.first(call.key, outcome)
		if lane == nil {
			return 0
		}
		done, err := lane.breaker.Allow()
		if err != nil {
			// Calls that began together tripped it: this one is one more.
			if errors.Is(outcome, errUnavailable) {
				return max(int(lane.consecutive.Load()), call.c.cfg.FailureThreshold)
			}
			return 0
		}
		call.lane, call.done = lane, done
	}
	call.done(outcome)
	if !errors.Is(outcome, errUnavailable) {
		return 0
	}
	return int(call.lane.consecutive.Load())
}

// first returns the counter of a lane that had none when the call began. It is
// made at the first failure, and nil when there is nothing to count or when
// the lane was reset while the call was under way.
func (c *Counters) first(key laneKey, outcome error) *laneCounter {
	if c.failed.Load() == 0 && outcome == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	lane := c.lanes[key]
	switch {
	case lane != nil && lane.epoch > 0:
		return nil
	case lane == nil && errors.Is(outcome, errUnavailable):
		lane = c.newLane(0)
		c.lanes[key] = lane
		c.failed.Store(int64(len(c.lanes)))
	}
	return lane
}

// Follow takes in a new State of an org, as it was saved. When the hold of an
// unavailable lane is placed, goes on trial, is sent back or ends, counting
// starts afresh, and calls from before are not counted: the fleet's hold rules
// from there on.
func (c *Counters) Follow(s *State) {
	hold := s.Hold(ReasonUnavailable)
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, l := range AllLanes() {
		key := laneKey{s.Org, l}
		lane := c.lanes[key]
		var held bool
		var phase Phase
		var since int64
		if hold != nil && hold.Lanes.Has(l) {
			held, phase, since = true, hold.Phase, hold.PhaseSince.UnixNano()
		}
		if lane == nil && !held || lane != nil && lane.held == held && lane.phase == phase && lane.since == since {
			continue
		}
		var epoch uint64 = 1
		if lane != nil {
			epoch = lane.epoch + 1
		}
		fresh := c.newLane(epoch)
		fresh.held, fresh.phase, fresh.since = held, phase, since
		c.lanes[key] = fresh
	}
	c.failed.Store(int64(len(c.lanes)))
}

// Forget drops what is known of an org that is disconnected.
func (c *Counters) Forget(org sfapi.OrgID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, l := range AllLanes() {
		delete(c.lanes, laneKey{org, l})
	}
	c.failed.Store(int64(len(c.lanes)))
}
