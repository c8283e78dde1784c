package runner

import (
	"context"
	"sync"

	"github.com/weirhq/weir/breaker"
)

// trail is what the calls of one job left to be judged: a call that writes many
// rows is answered with success even where every row was refused, so that only
// the job knows whether it proves that the org takes writes.
type trail struct {
	mu      sync.Mutex // protects pending
	pending *breaker.Observation
}

type trailKey struct{}

func withTrail(ctx context.Context) (context.Context, *trail) {
	t := &trail{}
	return context.WithValue(ctx, trailKey{}, t), t
}

// trailOf returns the trail of the job that makes a call, nil outside jobs.
func trailOf(ctx context.Context) *trail {
	t, _ := ctx.Value(trailKey{}).(*trail)
	return t
}

func (t *trail) leave(obs *breaker.Observation) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pending = obs
}

// take returns what was left, once.
func (t *trail) take() *breaker.Observation {
	if t == nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	obs := t.pending
	t.pending = nil
	return obs
}
