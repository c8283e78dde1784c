package breaker

import (
	"errors"
	"fmt"
	"time"

	"github.com/weirhq/weir/sfapi"
)

// Config tunes a [Breaker]. The zero value is ready to use.
type Config struct {
	// ProbeMin is the first wait between probes of a hold. Defaults to 30
	// seconds.
	ProbeMin time.Duration
	// ProbeMax is the longest wait between probes of a hold, but for a
	// Retry-After that Salesforce itself gave. Defaults to 15 minutes.
	ProbeMax time.Duration
	// FailureThreshold is how many calls in a row must find the org unavailable
	// before the lane is held. Defaults to 5.
	FailureThreshold int
	// TrialSuccesses is how many calls must succeed, for each that may run at
	// once, before a lane on trial takes its next step. Defaults to 1.
	TrialSuccesses int
	// GrowAfter is how long a lane that was shrunk by concurrency errors goes
	// without one before it grows by one. Defaults to 30 seconds.
	GrowAfter time.Duration
	// LoginRateWindow is how long a login rate hold lasts when Salesforce names
	// no time. Salesforce counts 3,600 log-ins an hour and advises to wait for
	// one; part of that hour has passed by then, and asking early costs a single
	// log-in. Defaults to ProbeMax.
	// https://help.salesforce.com/s/articleView?id=000381578
	LoginRateWindow time.Duration
}

// Breaker holds the settings that decisions depend on. It has no state and is
// safe for use by several goroutines.
type Breaker struct {
	cfg Config
}

// New returns a Breaker. A nil config means the defaults. The error joins one
// for each bad field.
func New(config *Config) (*Breaker, error) {
	var cfg Config
	if config != nil {
		cfg = *config
	}
	if cfg.ProbeMin == 0 {
		cfg.ProbeMin = 30 * time.Second
	}
	if cfg.ProbeMax == 0 {
		cfg.ProbeMax = max(15*time.Minute, cfg.ProbeMin)
	}
	if cfg.FailureThreshold == 0 {
		cfg.FailureThreshold = 5
	}
	if cfg.TrialSuccesses == 0 {
		cfg.TrialSuccesses = 1
	}
	if cfg.GrowAfter == 0 {
		cfg.GrowAfter = 30 * time.Second
	}
	if cfg.LoginRateWindow == 0 {
		cfg.LoginRateWindow = cfg.ProbeMax
	}
	var errs []error
	positive := func(name string, ok bool, value any) {
		if !ok {
			errs = append(errs, fmt.Errorf("breaker: %s must be positive, not %v", name, value))
		}
	}
	positive("ProbeMin", cfg.ProbeMin > 0, cfg.ProbeMin)
	positive("ProbeMax", cfg.ProbeMax > 0, cfg.ProbeMax)
	positive("FailureThreshold", cfg.FailureThreshold > 0, cfg.FailureThreshold)
	positive("TrialSuccesses", cfg.TrialSuccesses > 0, cfg.TrialSuccesses)
	positive("GrowAfter", cfg.GrowAfter > 0, cfg.GrowAfter)
	positive("LoginRateWindow", cfg.LoginRateWindow > 0, cfg.LoginRateWindow)
	if cfg.ProbeMin > 0 && cfg.ProbeMax > 0 && cfg.ProbeMin > cfg.ProbeMax {
		errs = append(errs, fmt.Errorf("breaker: ProbeMin %v is longer than ProbeMax %v", cfg.ProbeMin, cfg.ProbeMax))
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return &Breaker{cfg: cfg}, nil
}

// Config returns the settings with their defaults filled in.
func (b *Breaker) Config() Config { return b.cfg }

// WantsSuccess reports whether a call that succeeded on the lane changes
// anything, so that the caller need tell [Breaker.Next] about it. It is false
// for an org in good health, whose successes are not worth a transaction.
func (b *Breaker) WantsSuccess(s *State, l Lane, now time.Time) bool {
	limit := s.Limits.of(l)
	if limit.Shrunk > 0 && !now.Before(limit.Changed.Add(b.cfg.GrowAfter)) {
		return true
	}
	return s.OnTrial(l)
}

// WantsFailure reports whether a failure can change anything, so that the
// caller need tell [Breaker.Next] about it. It errs on the side of true.
func (b *Breaker) WantsFailure(s *State, obs Observation, now time.Time) bool {
	if obs.Kind == sfapi.KindNone {
		return b.WantsSuccess(s, obs.Lane, now)
	}
	rule := obs.rule()
	switch rule.Action {
	case HoldAtOnce, Shrink:
		return true
	case HoldWhenCounted:
		return obs.Consecutive >= b.cfg.FailureThreshold || s.OnTrial(obs.Lane)
	default:
		return rule.Proof != ProvesNothing && s.OnTrial(obs.Lane)
	}
}
