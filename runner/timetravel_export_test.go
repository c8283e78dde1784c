// Hours of virtual time take the race detector minutes: `make test` runs these
// tests by themselves, without it.

//go:build !race

package runner

import "time"

// SetGateTick changes how often the gate looks without having been woken.
func SetGateTick[TTx any](r *Runner[TTx], d time.Duration) { r.gateTick = d }
