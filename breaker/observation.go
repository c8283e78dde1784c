package breaker

import (
	"time"

	"github.com/weirhq/weir/sfapi"
)

// Event is what was observed.
type Event uint8

const (
	// CallSucceeded: a call of a lane did what it was asked to. Sets Lane and
	// Use.
	CallSucceeded Event = iota + 1
	// CallFailed: a call of a lane failed. Sets Lane, Use and Kind.
	CallFailed
	// ProbeOK: a probe found the condition gone. Sets Reason.
	ProbeOK
	// ProbeStill: a probe was answered, and the condition is still there. Sets
	// Reason.
	ProbeStill
	// ProbeFailed: a probe got no answer to its question. Sets Reason and Kind.
	ProbeFailed
	// OperatorHold: an operator paused Lanes.
	OperatorHold
	// OperatorResume: an operator resumed Lanes: his hold of them ends, and
	// every other hold is asked about now.
	OperatorResume
	// OperatorProbe: an operator wants every hold asked about now.
	OperatorProbe
	// QueuePaused: the queue of Lane was paused in River UI.
	QueuePaused
	// QueueResumed: the queue of Lane was resumed in River UI.
	QueueResumed
	// Reconnected: the org was connected with a new grant. Sets Generation.
	Reconnected
	// WindowConfigured: the full window of Lane is now Window.
	WindowConfigured
	// Tick: time passed.
	Tick
)

// Observation is one thing that happened to an org. Make one with the
// functions of this file, and set what they leave out where it is known.
type Observation struct {
	Event Event
	// At is when the request was sent, or when the operator acted: an answer
	// says nothing about a change that came after the question. Zero, and a
	// time after now, mean now.
	At time.Time
	// Generation is that of the credential the call was made with. Zero means
	// that it is unknown or does not matter.
	Generation int64
	// Jitter is a number in [0, 1) that the caller draws afresh; it spreads the
	// probes of many orgs.
	Jitter float64

	// Lane is the lane of the call or queue.
	Lane Lane
	// Use is what the call did. On trial after maintenance only calls that
	// change data prove that the org writes again; and a refused Bulk read does
	// not stop the lane's REST reads.
	Use Use
	// Lanes are those an operator names; empty means both.
	Lanes Lanes
	// Reason is the hold that was probed.
	Reason Reason
	// Window is the configured concurrency; zero means the lane's default.
	Window int

	// Kind is what the answer means.
	Kind sfapi.Kind
	// Diagnosis is what lies behind [sfapi.KindSessionExpired] after a refresh
	// and a replay: the Kind of the cause, or KindNone when the evidence does
	// not say.
	Diagnosis sfapi.Kind
	// Confirmed says that a revocation is the token endpoint's verdict, got
	// after the stored token was read again. Without it nothing is revoked.
	Confirmed bool
	// Cause is why a confirmed grant must be renewed. Empty means revoked.
	Cause Cause
	// Consecutive is how many calls in a row found the lane unavailable, this
	// one included; see [Counters].
	Consecutive int
	// RetryAfter is what Salesforce asked for. Zero means nothing. At most a
	// day is believed for the daily limit, and an hour for all else.
	RetryAfter time.Duration
	// Evidence is kept with the hold. It must not hold secrets.
	Evidence []string
	// Advice replaces the reason's own when the hold is placed.
	Advice string
}

// Succeeded observes a call that did what it was asked to.
func Succeeded(l Lane, use Use) Observation {
	return Observation{Event: CallSucceeded, Lane: l, Use: use}
}

// Failed observes a call that failed.
func Failed(l Lane, use Use, kind sfapi.Kind) Observation {
	return Observation{Event: CallFailed, Lane: l, Use: use, Kind: kind}
}

// CredentialLost observes the token endpoint's verdict that the grant of this
// generation is dead, got after the stored token was read again, or a refresh
// whose outcome can no longer be known. It revokes.
func CredentialLost(generation int64, cause Cause) Observation {
	return Observation{Event: CallFailed, Kind: sfapi.KindRevoked, Confirmed: true, Cause: cause, Generation: generation}
}

// Probed observes the answer to a probe: over or not.
func Probed(r Reason, over bool) Observation {
	if over {
		return Observation{Event: ProbeOK, Reason: r}
	}
	return Observation{Event: ProbeStill, Reason: r}
}

// ProbeError observes a probe that failed. Its Kind also does what it would do
// to any other call, except that it is not counted.
func ProbeError(r Reason, kind sfapi.Kind) Observation {
	return Observation{Event: ProbeFailed, Reason: r, Kind: kind}
}

// Paused observes an operator's hold of the lanes; none means both.
func Paused(lanes Lanes) Observation { return Observation{Event: OperatorHold, Lanes: lanes} }

// Resumed observes an operator's resume of the lanes; none means both.
func Resumed(lanes Lanes) Observation { return Observation{Event: OperatorResume, Lanes: lanes} }

// ProbeNow observes an operator's wish to have every hold asked about now.
func ProbeNow() Observation { return Observation{Event: OperatorProbe} }

// Connected observes a new grant.
func Connected(generation int64) Observation {
	return Observation{Event: Reconnected, Generation: generation}
}

// rule returns the row that applies, after the diagnosis.
func (obs *Observation) rule() KindRule {
	kind := obs.Kind
	if kind == sfapi.KindSessionExpired {
		switch obs.Diagnosis {
		case sfapi.KindNone, sfapi.KindUnknown:
		case sfapi.KindSessionExpired:
			// It had merely expired: the job tries again and the org is well.
			return KindRule{Kind: kind}
		default:
			kind = obs.Diagnosis
		}
	}
	if kind == sfapi.KindRevoked && !obs.Confirmed {
		kind = sfapi.KindSessionExpired
	}
	return ruleOf(kind)
}
