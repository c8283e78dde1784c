package breaker_test

import (
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/weirhq/weir/breaker"
	"github.com/weirhq/weir/sfapi"
)

// observationBytes is how many bytes of the fuzzer's input make one
// observation.
const observationBytes = 10

func observationOf(p []byte, now time.Time) breaker.Observation {
	obs := breaker.Observation{
		Event:       breaker.Event(p[0] % 15),
		Lane:        breaker.Lane(p[1] % 4),
		Use:         breaker.Use(p[1] >> 4 % 3),
		Lanes:       breaker.Lanes(p[1] >> 2),
		Kind:        sfapi.Kind(int(p[2]%30) - 1),
		Diagnosis:   sfapi.Kind(p[3] % 28),
		Confirmed:   p[3] >= 128,
		Generation:  int64(p[4] % 6),
		Consecutive: int(p[5] % 8),
		Window:      int(p[5]>>3) - 2,
		Jitter:      float64(p[6])/200 - 0.1,
		RetryAfter:  time.Duration(int8(p[7])) * time.Duration(p[7]) * time.Minute,
	}
	if i := int(p[8]) % (len(breaker.Reasons()) + 1); i > 0 {
		obs.Reason = breaker.Reasons()[i-1]
	}
	switch p[9] % 4 {
	case 0:
		obs.At = now.Add(-time.Duration(p[9]) * time.Second)
	case 1:
		obs.At = now.Add(time.Minute)
	case 2:
		obs.Evidence = []string{string(p)}
	}
	return obs
}

func FuzzNext(f *testing.F) {
	event := func(e breaker.Event, rest ...byte) []byte {
		return append([]byte{byte(e)}, append(rest, make([]byte, observationBytes-1-len(rest))...)...)
	}
	lane, mutate := byte(breaker.Write), byte(breaker.Mutate)<<4
	maintenance := []byte{lane | mutate, byte(sfapi.KindMaintenance) + 1}
	f.Add(slices.Concat(
		event(breaker.OperatorHold), event(breaker.CallFailed, maintenance...),
		event(breaker.ProbeOK, 0, 0, 0, 0, 0, 0, 0, 1), event(breaker.CallSucceeded, lane|mutate),
		event(breaker.OperatorResume)))
	f.Add(slices.Concat(
		event(breaker.CallFailed, byte(breaker.Sync), byte(sfapi.KindServerUnavailable)+1, 0, 0, 5),
		event(breaker.ProbeOK, 0, 0, 0, 0, 0, 0, 0, 2),
		event(breaker.CallFailed, byte(breaker.Sync), byte(sfapi.KindServerUnavailable)+1, 0, 0, 1),
		event(breaker.ProbeFailed, 0, byte(sfapi.KindDailyLimit)+1, 0, 0, 0, 0, 0, 2)))
	f.Add(slices.Concat(
		event(breaker.CallFailed, lane, byte(sfapi.KindRevoked)+1, 128, 2),
		event(breaker.Reconnected, 0, 0, 0, 3), event(breaker.Tick)))
	b, err := breaker.New(&breaker.Config{TrialSuccesses: 2})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, input []byte) {
		state, now := breaker.State{Org: org}, start
		pausedByOperator := breaker.Lanes(0)
		for len(input) >= observationBytes {
			p := input[:observationBytes]
			input = input[observationBytes:]
			now = now.Add(time.Duration(p[4])*time.Duration(p[6])*time.Second - time.Second)
			obs := observationOf(p, now)
			// A process may look at the clock before or after another did.
			next, effects := b.Next(state, obs, now)
			if err := check(state, next, obs, effects, now); err != nil {
				t.Fatalf("at %v, %+v: %v\nbefore %+v\nafter %+v", now, obs, err, state, next)
			}
			if again, same := b.Next(state, obs, now); !reflect.DeepEqual(next, again) || !reflect.DeepEqual(effects, same) {
				t.Fatalf("%+v: Next is not pure", obs)
			}
			if obs.Event == breaker.CallSucceeded && next.Version != state.Version && !b.WantsSuccess(&state, obs.Lane, now) {
				t.Fatalf("a success changed what WantsSuccess did not want: %+v", obs)
			}
			if obs.Event == breaker.CallFailed && next.Version != state.Version && !b.WantsFailure(&state, obs, now) {
				t.Fatalf("a failure changed what WantsFailure did not want: %+v", obs)
			}
			// An operator's word holds until an operator takes it back.
			switch {
			case obs.Event == breaker.OperatorHold || obs.Event == breaker.QueuePaused,
				obs.Event == breaker.OperatorResume || obs.Event == breaker.QueueResumed:
				pausedByOperator = 0
				if h := next.Hold(breaker.ReasonOperator); h != nil {
					pausedByOperator = h.Lanes
				}
			default:
				for _, l := range pausedByOperator.Slice() {
					if next.Window(l) != 0 {
						t.Fatalf("%+v resumed %s, which an operator paused", obs, l)
					}
				}
			}
			state = next
		}
		drain(t, b, state, now)
	})
}

// drain lets Salesforce be well from now on: probes alone must end every hold
// but those that wait for a person.
func drain(t *testing.T, b *breaker.Breaker, state breaker.State, now time.Time) {
	state, _ = b.Next(state, breaker.Connected(state.Generation+1), now)
	for range 200 {
		next := state.NextProbe()
		if next.IsZero() {
			break
		}
		if next.After(now) {
			now = next
		}
		state, _ = b.Next(state, breaker.Observation{Event: breaker.Tick}, now)
		for _, r := range state.DueProbes(now) {
			state, _ = b.Next(state, breaker.Probed(r, true), now)
		}
	}
	for _, h := range state.Holds {
		if h.Reason != breaker.ReasonOperator {
			t.Fatalf("the %s hold does not end: %+v", h.Reason, h)
		}
	}
}
