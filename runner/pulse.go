package runner

import (
	"context"
	"errors"
	"sync"
	"time"
)

// ErrNoHeartbeat is wrapped by the error of a job's call that was refused here,
// before it was sent: for longer than Config.DeadWorkerAfter this process could
// not show the others that it lives, and they may do the job's work by now. A
// worker returns it as it is. The job runs again, without having spent an
// attempt.
var ErrNoHeartbeat = errors.New("runner: no heartbeat for longer than Config.DeadWorkerAfter")

// pulse is what this process knows of its own heartbeat. Others go by the
// database's clock and see each beat no earlier than it began here, so that
// this process takes itself for dead before they do.
type pulse struct {
	deadAfter time.Duration

	mu   sync.Mutex // protects what follows
	last time.Time  // when the last beat began that was recorded
	life int        // how often the others may have taken this process for dead
}

// beat notes a heartbeat that began at a time and is recorded now.
func (p *pulse) beat(began time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.silent(time.Now()) {
		p.life++
	}
	p.last = began
}

// silent reports whether the last beat is too old. The clock that runs on while
// the machine is suspended counts too.
func (p *pulse) silent(now time.Time) bool {
	return !p.last.IsZero() && max(now.Sub(p.last), now.Round(0).Sub(p.last.Round(0))) > p.deadAfter
}

type lifeKey struct{}

// begin binds a job to the present life of this process.
func (p *pulse) begin(ctx context.Context) context.Context {
	p.mu.Lock()
	defer p.mu.Unlock()
	return context.WithValue(ctx, lifeKey{}, p.life)
}

// check returns ErrNoHeartbeat in a job that is no longer this process's alone:
// there was no heartbeat for too long, now or at some time since the job began.
func (p *pulse) check(ctx context.Context) error {
	life, ok := ctx.Value(lifeKey{}).(int)
	if !ok {
		return nil // nobody takes over what is not a job
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if life != p.life || p.silent(time.Now()) {
		return ErrNoHeartbeat
	}
	return nil
}
