package token

import (
	"context"
	"sync"
	"time"
)

// pacer spaces events evenly: no two of them are closer than its interval.
// Evenly, because a burst over many orgs is a burst on one login host.
type pacer struct {
	interval time.Duration

	mu   sync.Mutex // guards next
	next time.Time  // the first free slot
}

// newPacer returns a pacer of rate events a second.
func newPacer(rate float64) *pacer {
	return &pacer{interval: time.Duration(float64(time.Second) / rate)}
}

// wait returns in its turn, or with the cause of ctx's end; a turn that was
// given up is not given to another.
func (p *pacer) wait(ctx context.Context) error {
	p.mu.Lock()
	now := time.Now()
	if p.next.Before(now) {
		p.next = now
	}
	turn := p.next
	p.next = turn.Add(p.interval)
	p.mu.Unlock()
	return pause(ctx, turn.Sub(now))
}

// pause returns after d, or with the cause of ctx's end.
func pause(ctx context.Context, d time.Duration) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	if d <= 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
