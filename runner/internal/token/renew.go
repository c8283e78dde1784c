package token

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/weirhq/weir/runner/internal/store"
	"github.com/weirhq/weir/sfapi"
)

// errElsewhere ends a background refresh of what another process refreshes.
var errElsewhere = errors.New("another process is refreshing")

// renew brings a token newer than stale: its own, or one that another process
// has stored. It waits for such a process until the database says that its
// lease ran out, and is cut off by Close only where no exchange is under way.
func (m *Manager) renew(ctx context.Context, o *org, stale int64, ahead bool) (*sfapi.Token, error) {
	waits, cut := context.WithCancelCause(ctx)
	defer cut(nil)
	defer context.AfterFunc(m.closing, func() { cut(ErrClosed) })()

	var sibling patience
	var take store.Attempt // the one whose outcome we may take for unknown
	for {
		cred, err := m.creds.Credential(waits, o.id)
		if err != nil {
			return nil, fmt.Errorf("read credential: %w", or(context.Cause(waits), err))
		}
		if !granted(cred) {
			o.forget()
			return nil, ErrNoGrant
		}
		if cred.Generation > stale {
			t, err := m.box.token(cred)
			if err != nil {
				return nil, err
			}
			if t.Access != "" {
				return o.publish(t), nil
			}
		} else if cred.Generation < stale {
			// The database went back in time, to a backup for instance.
			m.log.WarnContext(ctx, "stored credential is older than the one in use", "org", o.id,
				"stored", cred.Generation, "used", stale)
			o.forget()
		}
		stale = cred.Generation
		if err := o.refused(stale); err != nil {
			return nil, err
		}
		if len(cred.Refresh) == 0 && m.mint == nil {
			return nil, sfapi.ErrNoRefresh
		}
		if a := cred.Attempt; a.Owner != "" && a.Generation == stale {
			if a.Owner == m.owner && !o.isUnsure(stale) {
				// It was recorded by a BeginRefresh whose commit got no answer:
				// no request ever left.
				m.release(waits, cred)
			} else if sibling.lasts(a, m.lease) {
				if ahead {
					return nil, errElsewhere
				}
				if err := o.rest(waits, sibling.pause()); err != nil {
					return nil, err
				}
				continue
			}
		}
		// The turn comes before the lease, which must not run out in a queue.
		if err := m.pace.wait(waits); err != nil {
			return nil, err
		}
		begun := time.Now()
		minted := len(cred.Refresh) == 0 // a second token does no harm
		cred, claim, err := m.creds.BeginRefresh(waits, o.id, stale, m.owner, m.lease, minted || same(take, cred.Attempt))
		if err != nil {
			return nil, fmt.Errorf("begin refresh: %w", or(context.Cause(waits), err))
		}
		switch claim {
		case store.RefreshTaken:
			return m.exchange(ctx, waits, o, cred, begun, ahead)
		case store.RefreshNewer:
			// Read it again above.
		case store.RefreshBusy:
			if ahead {
				return nil, errElsewhere
			}
			if err := o.rest(waits, sibling.pause()); err != nil {
				return nil, err
			}
		case store.RefreshUnknown:
			o.setUnsure(cred.Generation)
			if ahead { // the access token works: nothing need be risked for it
				return nil, ErrOutcomeUnknown
			}
			wait := m.grace(cred.Attempt)
			if wait > m.lease {
				err := fmt.Errorf("%w: asked again %d times, the next is due in %s", ErrOutcomeUnknown,
					cred.Attempt.Replays+1, wait.Round(time.Second))
				o.refuse(cred.Generation, err, passingWindow, min(wait, time.Minute))
				return nil, err
			}
			if err := pause(waits, wait); err != nil {
				return nil, err
			}
			take = cred.Attempt
		default:
			return nil, fmt.Errorf("begin refresh: unknown claim %d", claim)
		}
	}
}

// grace is how long an attempt that outlived its deadline is left alone. The
// first time that is a moment, for an owner that lives and only waits for the
// database to save in. A replay that was lost too is repeated ever more seldom:
// if the token is spent no replay helps, and if it is not there is no hurry.
func (m *Manager) grace(a store.Attempt) time.Duration {
	moment := min(m.lease/8, 3*time.Second)
	moment += rand.N(moment)
	if a.Replays == 0 {
		return moment
	}
	since := max(0, time.Since(a.Deadline))
	return max(moment, min(m.lease<<min(a.Replays-1, 10), 15*time.Minute)-since)
}

// patience is the wait for another process's attempt.
type patience struct {
	attempt store.Attempt
	since   time.Time
	pauses  int
}

// lasts is whether a's lease may still run. The deadline is of the database's
// clock, so that ours may be wrong about it: after a lease's time of our own the
// database is asked.
func (p *patience) lasts(a store.Attempt, lease time.Duration) bool {
	now := time.Now()
	if !same(p.attempt, a) {
		*p = patience{attempt: a, since: now}
	}
	return now.Before(a.Deadline) && now.Sub(p.since) < lease
}

// pause is how long to wait before looking again, unless the org's row is seen
// to change: 50 ms at first, up to half a second, spread.
func (p *patience) pause() time.Duration {
	p.pauses++
	return spread(min(50*time.Millisecond<<min(p.pauses, 8), 500*time.Millisecond))
}

func same(a, b store.Attempt) bool {
	return a.Owner != "" && a.Owner == b.Owner && a.Generation == b.Generation && a.Replays == b.Replays
}

// granted is whether c has anything to get a token with. A disconnected org's
// has not; one that never had a token has an empty one, sealed.
func granted(c *store.Credential) bool { return len(c.Access) > 0 || len(c.Refresh) > 0 }

// spread returns d, give or take a quarter.
func spread(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return d*3/4 + rand.N(d/2+1)
}

// or returns the first error that is one.
func or(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
