package token

import (
	"context"
	"errors"
	"fmt"

	"github.com/weirhq/weir/sfapi"
)

// ErrNoGrant is wrapped by the errors of orgs that are disconnected.
var ErrNoGrant = errors.New("org has no grant: connect it")

// Source is the tokens of one org. All Sources of an org share their state.
type Source struct {
	manager *Manager
	org     *org
}

var _ sfapi.TokenSource = (*Source)(nil)

// Source returns the tokens of an org. It does not ask the database: an org
// that is not there is an error of the Source's methods.
func (m *Manager) Source(id sfapi.OrgID) *Source { return &Source{m, m.org(id)} }

// Token returns the current token. Once this process knows one it neither
// waits nor allocates: a token that died is found out by its use, see Refresh.
// The error wraps jobs.ErrNotFound for an unknown org and ErrNoGrant for a
// disconnected one.
func (s *Source) Token(ctx context.Context) (*sfapi.Token, error) {
	if t := s.org.current.Load(); t != nil {
		if !s.org.used.Load() { // a write each time would bounce between cores
			s.org.used.Store(true)
		}
		return t, nil
	}
	return s.manager.load(ctx, s.org)
}

// Refresh returns a token newer than stale, whose use was refused. However many
// callers and processes ask at once, one of them exchanges the grant. The
// exchange goes on when ctx ends; only the wait for it does not.
//
// An org's refusal is a *RefusedError once it is certain. It is returned again
// without another request for a while, from 30 seconds on, growing. The error
// wraps sfapi.ErrNoRefresh where there is nothing to refresh with.
func (s *Source) Refresh(ctx context.Context, stale *sfapi.Token) (*sfapi.Token, error) {
	var generation int64
	if stale != nil {
		generation = stale.Generation
	}
	s.org.used.Store(true)
	return s.manager.refresh(ctx, s.org, generation)
}

// refresh waits for flights until one gave a token newer than stale.
func (m *Manager) refresh(ctx context.Context, o *org, stale int64) (*sfapi.Token, error) {
	for {
		if t := o.current.Load(); t != nil && t.Generation > stale {
			return t, nil
		}
		f := m.board(ctx, o, stale, false)
		if f == nil {
			return nil, fmt.Errorf("refresh org %s: %w", o.id, ErrClosed)
		}
		select {
		case <-f.done:
		case <-ctx.Done():
			return nil, fmt.Errorf("refresh org %s: %w", o.id, context.Cause(ctx))
		}
		// A background flight gives up early, and one for an older token may
		// have brought the very token that was refused.
		if !f.ahead && f.stale >= stale {
			return f.token, f.err
		}
	}
}

// board returns the org's flight under way, or starts one. It returns nil once
// the Manager is closed.
func (m *Manager) board(ctx context.Context, o *org, stale int64, ahead bool) *flight {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.flight != nil {
		return o.flight
	}
	f := &flight{stale: stale, ahead: ahead, done: make(chan struct{})}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	if !m.spawn(func() {
		defer cancel()
		defer context.AfterFunc(m.killed, cancel)()
		f.token, f.err = m.renew(ctx, o, stale, ahead)
		if f.err != nil {
			f.err = fmt.Errorf("refresh org %s: %w", o.id, f.err)
		}
		o.mu.Lock()
		o.flight = nil
		o.mu.Unlock()
		close(f.done)
	}) {
		cancel()
		return nil
	}
	o.flight = f
	return f
}

// load returns the stored token, read once for all that ask at the same time.
func (m *Manager) load(ctx context.Context, o *org) (*sfapi.Token, error) {
	o.used.Store(true)
	o.mu.Lock()
	f := o.loading
	if f == nil {
		f = &flight{done: make(chan struct{})}
		ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
		if !m.spawn(func() {
			defer cancel()
			defer context.AfterFunc(m.closing, cancel)()
			f.token, f.err = m.read(ctx, o)
			if f.err != nil {
				f.err = fmt.Errorf("load token of org %s: %w", o.id, f.err)
			}
			o.mu.Lock()
			o.loading = nil
			o.mu.Unlock()
			close(f.done)
		}) {
			o.mu.Unlock()
			cancel()
			return nil, fmt.Errorf("load token of org %s: %w", o.id, ErrClosed)
		}
		o.loading = f
	}
	o.mu.Unlock()
	select {
	case <-f.done:
	case <-ctx.Done():
		return nil, fmt.Errorf("load token of org %s: %w", o.id, context.Cause(ctx))
	}
	if f.err == nil && f.token.Access == "" {
		// The grant is there, its first token is not.
		return m.refresh(ctx, o, f.token.Generation)
	}
	return f.token, f.err
}

// read publishes the stored token. Where that has no access token yet, an older
// one is not the current one any more.
func (m *Manager) read(ctx context.Context, o *org) (*sfapi.Token, error) {
	cred, err := m.creds.Credential(ctx, o.id)
	if err != nil {
		return nil, err
	}
	if !granted(cred) {
		return nil, ErrNoGrant
	}
	t, err := m.box.token(cred)
	if err != nil {
		return nil, err
	}
	if t.Access == "" {
		o.forget()
		return t, nil
	}
	return o.publish(t), nil
}
