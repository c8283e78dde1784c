package token

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/weirhq/weir/jobs"
	"github.com/weirhq/weir/runner/internal/store"
	"github.com/weirhq/weir/sfapi"
)

// save stores t, the answer to exchanging cred, and publishes it after the
// commit. The refresh token that made t is spent, so save does not give up
// before the Manager is cut off: not while the database is away, and not when
// another process took the lease over meanwhile.
func (m *Manager) save(ctx context.Context, o *org, cred *store.Credential, t *sfapi.Token, ahead bool) (*sfapi.Token, error) {
	o.setUnsure(cred.Generation) // until it is stored, for the case that we are cut off
	for try := 0; ; try++ {
		stored, err := m.store(ctx, o, cred, t)
		if err == nil {
			if !ahead && stored.Generation == cred.Generation+1 {
				o.learn(time.Now())
			}
			if stored.Access == "" { // see keep
				return stored, nil
			}
			return o.publish(stored), nil
		}
		if errors.Is(err, ErrNoGrant) || errors.Is(err, jobs.ErrNotFound) {
			o.forget() // disconnected meanwhile: there is nowhere to save to
			return nil, err
		}
		if ctx.Err() != nil {
			m.log.ErrorContext(ctx, "a new token could not be saved before the end", "org", o.id,
				"generation", cred.Generation, "error", err)
			return nil, fmt.Errorf("save token: %w: %w", ErrClosed, err)
		}
		if try%20 == 0 { // about three times a minute
			m.log.WarnContext(ctx, "a new token cannot be saved yet", "org", o.id,
				"generation", cred.Generation, "error", err)
		}
		// Ends early only where ctx did, which the next round reports.
		_ = o.rest(ctx, spread(min(50*time.Millisecond<<min(try, 10), time.Second)))
	}
}

// keep stores the refresh token of an answer that is unusable otherwise, and
// returns the answer's error, which stands for a while.
func (m *Manager) keep(ctx context.Context, o *org, cred *store.Credential, t *sfapi.Token, err error) error {
	stored, serr := m.save(ctx, o, cred, &sfapi.Token{Refresh: t.Refresh}, true)
	if serr != nil {
		return fmt.Errorf("%w, after: %w", serr, err)
	}
	o.refuse(stored.Generation, err, passingWindow, 0)
	return err
}

// store makes one attempt to save t and returns the token that is then stored:
// t, or a newer one.
func (m *Manager) store(ctx context.Context, o *org, cred *store.Credential, t *sfapi.Token) (*sfapi.Token, error) {
	// A database that hangs is as good as one that is away.
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	c, err := m.Seal(o.id, t)
	if err != nil {
		return nil, err
	}
	c.Generation = cred.Generation
	c.InstanceURL = orDefault(c.InstanceURL, cred.InstanceURL)
	c.UserID = orDefault(c.UserID, cred.UserID)
	c.Scope = orDefault(c.Scope, cred.Scope)
	if c.IssuedAt.IsZero() {
		c.IssuedAt = time.Now()
	}
	generation, err := m.creds.SaveRefresh(ctx, c, m.owner)
	if errors.Is(err, jobs.ErrLeaseLost) {
		return m.reclaim(ctx, o, cred, err)
	}
	if err != nil {
		return nil, err
	}
	return &sfapi.Token{
		Access: t.Access, InstanceURL: c.InstanceURL, Org: o.id, UserID: c.UserID,
		IssuedAt: c.IssuedAt, Scope: c.Scope, Generation: generation,
	}, nil
}

// reclaim is called with a token that could not be saved because the lease is
// lost. Either the row moved on: by our own save whose answer was lost, by
// another process, or by a new grant; then what is stored is newer. Or another
// process is at it with the refresh token that we have spent; then ours is the
// only good one, and is saved as soon as that process lets go.
func (m *Manager) reclaim(ctx context.Context, o *org, cred *store.Credential, lost error) (*sfapi.Token, error) {
	stored, claim, err := m.creds.BeginRefresh(ctx, o.id, cred.Generation, m.owner, m.lease, true)
	if err != nil {
		return nil, err
	}
	if claim == store.RefreshNewer {
		if !granted(stored) {
			return nil, fmt.Errorf("%w: %w", ErrNoGrant, lost)
		}
		return m.box.token(stored)
	}
	return nil, lost // Taken: the next round saves. Busy: it asks again.
}
