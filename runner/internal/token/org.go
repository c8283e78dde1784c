package token

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weirhq/weir/sfapi"
)

// org is what this process knows of one org. Nothing in it need survive the
// process: the database is the truth.
type org struct {
	id sfapi.OrgID

	// current is the newest token that was committed, as far as this process
	// knows; nil until it is first asked for. It is read without the mutex and
	// written under it, so that generations only grow.
	current atomic.Pointer[sfapi.Token]
	used    atomic.Bool // since refresh ahead last looked

	mu      sync.Mutex // guards what follows
	flight  *flight
	loading *flight
	moved   chan struct{} // closed when the row was seen to change
	refusal *refusal
	unsure  int64         // generation whose exchange had an unknown outcome
	session time.Duration // learned length of a session; 0 until one died early
	asked   int64         // generation whose token was introspected, or tried to be
	ends    time.Time     // when that token's session ends, zero where the answer did not say
	mute    bool          // the app may not introspect this org's tokens

	// These belong to the refresh-ahead loop alone.
	lastUsed, notBefore time.Time
}

func newOrg(id sfapi.OrgID) *org { return &org{id: id, moved: make(chan struct{})} }

// publish makes t the current token unless a newer one is, and returns the
// current one.
func (o *org) publish(t *sfapi.Token) *sfapi.Token {
	o.mu.Lock()
	defer o.mu.Unlock()
	if cur := o.current.Load(); cur != nil && cur.Generation >= t.Generation {
		return cur
	}
	o.current.Store(t)
	if o.refusal != nil && o.refusal.generation < t.Generation {
		o.refusal = nil
	}
	return t
}

// forget drops the current token: the grant is gone.
func (o *org) forget() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.current.Store(nil)
}

// wake ends the waits for a change of the org's row.
func (o *org) wake() {
	o.mu.Lock()
	defer o.mu.Unlock()
	close(o.moved)
	o.moved = make(chan struct{})
}

// rest returns when the org's row was seen to change, after d, or with the
// cause of ctx's end.
func (o *org) rest(ctx context.Context, d time.Duration) error {
	o.mu.Lock()
	moved := o.moved
	o.mu.Unlock()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-moved:
		return nil
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// flight is one piece of work that any number of callers wait for.
type flight struct {
	stale int64 // the generation that it replaces
	ahead bool  // in the background: it may give up where a caller would not

	done  chan struct{} // closed when the rest is set
	token *sfapi.Token
	err   error
}

// refusal is a token request that failed. Until it has passed, the same error
// is given again without another request, unless the generation has moved.
type refusal struct {
	generation int64
	err        error
	until      time.Time
	wait       time.Duration
}

// window is how long a refusal stands: first, then factor times as long with
// each one that follows it, up to most.
type window struct {
	first, most time.Duration
	factor      int
}

var (
	// lastingWindow is for what only people can change. With a factor of four
	// an org whose breaker is not told asks five times in its first hour.
	lastingWindow = window{30 * time.Second, time.Hour, 4}
	// loginWindow is for the limit on logins, 3,600 an hour and user.
	loginWindow = window{time.Minute, 15 * time.Minute, 2}
	// passingWindow is for what passes by itself.
	passingWindow = window{time.Second, 30 * time.Second, 2}
)

// refuse records err for the org's credential of this generation, for w or for
// at least floor. It returns for how long.
func (o *org) refuse(generation int64, err error, w window, floor time.Duration) time.Duration {
	o.mu.Lock()
	defer o.mu.Unlock()
	wait := w.first
	if r := o.refusal; r != nil && r.generation == generation {
		wait = min(max(r.wait*time.Duration(w.factor), w.first), w.most)
	}
	wait = max(wait, floor)
	o.refusal = &refusal{generation: generation, err: err, until: time.Now().Add(wait), wait: wait}
	return wait
}

// refused returns the error that still stands for this generation, or nil.
func (o *org) refused(generation int64) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if r := o.refusal; r != nil && r.generation == generation && time.Now().Before(r.until) {
		return r.err
	}
	return nil
}

// setUnsure remembers that the outcome of exchanging this generation's refresh
// token is unknown; isUnsure says whether that is so.
func (o *org) setUnsure(generation int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.unsure = generation
}

func (o *org) isUnsure(generation int64) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.unsure == generation
}
