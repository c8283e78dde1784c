package breaker

import (
	"time"

	"github.com/cenkalti/backoff/v4"
)

const (
	// dailyProbeFloor keeps the promise that at most one call a minute reaches
	// an org whose daily allocation is used up.
	dailyProbeFloor = time.Minute
	// slowFactor is how many times ProbeMin the first slow probe waits.
	slowFactor = 10
	// jitterFraction is how much of a wait chance may take off. Only off:
	// ProbeMax stays the longest wait, and an org is asked within one interval.
	// Maintenance holds hundreds of orgs in the same second, and their probes
	// must not come back in the same second.
	jitterFraction = 0.2
	// maxBackoffSteps bounds the loop below; every sane schedule has reached
	// its longest wait long before.
	maxBackoffSteps = 64
)

// The longest Retry-After that is believed. A rolling 24-hour allocation can
// take a day; a proxy that asks for a week would leave the org held for a week.
const (
	maxDailyRetryAfter = 24 * time.Hour
	maxRetryAfter      = time.Hour
)

// ProbeDelay returns the wait before the next probe of a hold: it doubles with
// each step, from the pace's first wait to its longest, and never ends. step
// counts the refusals so far; jitter, in [0, 1), takes up to a fifth off. It
// returns 0 for [PaceNone].
func (b *Breaker) ProbeDelay(pace Pace, step int, jitter float64) time.Duration {
	first, longest := b.paceBounds(pace)
	if first <= 0 {
		return 0
	}
	// The package's own randomization draws from a global source, which would
	// make Next impure: it is switched off, and the jitter applied here. And
	// MaxElapsedTime must be 0: by default the schedule ends after 15 minutes
	// with a wait of -1, for which river.JobSnooze panics.
	schedule := backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(first),
		backoff.WithMaxInterval(longest),
		backoff.WithMultiplier(2),
		backoff.WithRandomizationFactor(0),
		backoff.WithMaxElapsedTime(0),
	)
	wait := schedule.NextBackOff()
	for range min(max(step, 0), maxBackoffSteps) {
		wait = schedule.NextBackOff()
	}
	wait -= time.Duration(clampJitter(jitter) * jitterFraction * float64(wait))
	if pace == PaceDaily {
		wait = max(wait, dailyProbeFloor)
	}
	return wait
}

func (b *Breaker) paceBounds(pace Pace) (first, longest time.Duration) {
	switch pace {
	case PaceNormal:
		return b.cfg.ProbeMin, b.cfg.ProbeMax
	case PaceDaily:
		first = max(dailyProbeFloor, 2*b.cfg.ProbeMin)
		return first, max(first, b.cfg.ProbeMax)
	case PaceSlow:
		return min(slowFactor*b.cfg.ProbeMin, b.cfg.ProbeMax), b.cfg.ProbeMax
	default:
		return 0, 0
	}
}

// clampJitter maps what is no number in [0, 1) to the nearest that is.
func clampJitter(j float64) float64 {
	if !(j > 0) { // Negative or NaN.
		return 0
	}
	return min(j, 1)
}

// believed returns how much of a Retry-After header the breaker follows.
func believed(r Reason, retryAfter time.Duration) time.Duration {
	if r == ReasonDailyLimit {
		return min(max(retryAfter, 0), maxDailyRetryAfter)
	}
	return min(max(retryAfter, 0), maxRetryAfter)
}
