package token

import (
	"context"
	"errors"
	"time"

	"github.com/weirhq/weir/sfapi"
)

// unasked is whether a token in use has not been introspected yet.
func (m *Manager) unasked(o *org, t *sfapi.Token) bool {
	if !m.introspect {
		return false
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return !o.mute && o.asked != t.Generation
}

// endOf is when the session of t ends, zero where nobody has said.
func (o *org) endOf(t *sfapi.Token) time.Time {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.asked != t.Generation {
		return time.Time{}
	}
	return o.ends
}

// ask introspects t, so that endOf knows where its session ends. The endpoint
// tells the truth about a live session only: "inactive" may mean that the app
// may not look, so it is no reason to refresh, and no reason to ask again.
//
// https://help.salesforce.com/s/articleView?id=sf.remoteaccess_oidc_token_introspection.htm
func (m *Manager) ask(ctx context.Context, o *org, t *sfapi.Token) {
	o.mu.Lock()
	mute := o.mute
	o.mu.Unlock()
	if mute {
		return
	}
	if err := m.pace.wait(ctx); err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, m.timeout)
	defer cancel()
	said, err := m.app.Introspect(ctx, t.InstanceURL, t.Access)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.asked, o.ends = t.Generation, time.Time{}
	if err != nil {
		e, ok := errors.AsType[*sfapi.Error](err)
		o.mute = ok && !e.Transient
		return
	}
	if !said.Active {
		o.mute = true
		return
	}
	o.ends = said.ExpiresAt
}
