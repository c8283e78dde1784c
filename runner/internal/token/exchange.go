package token

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/weirhq/weir/runner/internal/store"
	"github.com/weirhq/weir/sfapi"
)

// maxCalls bounds the token requests under one lease.
const maxCalls = 3

var errNoTime = errors.New("the lease has no time left to ask again")

// exchange asks for a token while the lease is held that began at begun, and
// saves it. ctx ends only when the Manager is cut off; waits ends with Close
// and bounds what may be given up.
//
// Where the answer is definite and no token, the attempt is taken off the
// record. Where a request with this refresh token may have been answered unseen
// the attempt stays, for whoever comes next to be careful.
func (m *Manager) exchange(ctx, waits context.Context, o *org, cred *store.Credential, begun time.Time, ahead bool) (*sfapi.Token, error) {
	generation := cred.Generation
	ask, err := m.asker(cred)
	if err != nil {
		m.release(ctx, cred)
		return nil, err
	}
	spends := len(cred.Refresh) > 0
	unknown := spends && (cred.Attempt.Replays > 0 || o.isUnsure(generation))
	replayed := unknown // a second replay under one lease would only be a loop
	reason := ReasonRefused
	switch {
	case unknown:
		reason = ReasonReplay
	case ahead:
		reason = ReasonAhead
	}
	for calls, refused := 1, false; ; calls++ {
		t, err := m.call(ctx, o, cred, reason, ask)
		rest := spread(m.lease / 120 << calls) // one and two seconds of a minute
		if e := (*sfapi.Error)(nil); errors.As(err, &e) {
			rest = max(rest, e.RetryAfter)
		}
		again := calls < maxCalls && time.Since(begun)+rest+m.timeout < m.lease && waits.Err() == nil
		verdict := judge(err)
		switch {
		case verdict == answerUnknown && !spends:
			verdict = answerPassing
		case err != nil && t != nil && t.Refresh != "":
			// An answer that cannot be used, but for the refresh token that
			// replaces ours.
			return nil, m.keep(ctx, o, cred, t, err)
		}
		switch verdict {
		case answerToken:
			if err := belongs(o.id, t); err != nil {
				m.release(ctx, cred)
				return nil, m.decide(ctx, o, generation, CauseOtherOrg, &sfapi.Error{
					Op: "refresh token", Org: string(o.id), Kind: sfapi.KindClientMisconfigured,
					Scope: sfapi.ScopeUser, Message: err.Error(), Err: err,
				})
			}
			return m.save(ctx, o, cred, t, ahead)

		case answerUnknown:
			o.setUnsure(generation)
			unknown = true
			if ahead {
				// The access token works: nothing need be risked for it.
				return nil, fmt.Errorf("%w: %w", ErrOutcomeUnknown, err)
			}
			if replayed || !again {
				err = fmt.Errorf("%w: %w", ErrOutcomeUnknown, err)
				o.refuse(generation, err, passingWindow, m.lease-time.Since(begun))
				return nil, err
			}
			replayed, reason = true, ReasonReplay

		case answerRevoked:
			stored, rerr := m.creds.Credential(ctx, o.id)
			switch {
			case rerr != nil:
				m.settle(ctx, cred, unknown)
				return nil, o.undecided(generation, err, rerr)
			case stored.Generation != generation:
				return m.adopt(o, stored)
			case unknown:
				m.release(ctx, cred)
				return nil, m.decide(ctx, o, generation, CauseOutcomeUnknown, err)
			case refused:
				m.release(ctx, cred)
				return nil, m.decide(ctx, o, generation, CauseRefused, err)
			case !again:
				m.release(ctx, cred)
				return nil, o.undecided(generation, err, or(context.Cause(waits), errNoTime))
			}
			refused, reason = true, ReasonConfirm

		case answerPassing:
			if !again {
				m.settle(ctx, cred, unknown)
				o.refuse(generation, err, passingWindow, retryAfter(err))
				return nil, err
			}
			reason = ReasonRetry

		case answerLogins, answerLasting:
			m.settle(ctx, cred, unknown)
			return nil, m.decide(ctx, o, generation, CauseRefused, err)
		}

		stop := or(pause(waits, rest), m.pace.wait(waits))
		if stop == nil && time.Since(begun)+m.timeout >= m.lease {
			stop = errNoTime // the queue for a turn took what was left
		}
		if stop != nil {
			m.settle(ctx, cred, unknown)
			return nil, o.undecided(generation, err, stop)
		}
		// Whatever the answer was, a new grant may have made it pointless.
		if stored, rerr := m.creds.Credential(ctx, o.id); rerr == nil && stored.Generation != generation {
			return m.adopt(o, stored)
		}
	}
}

// asker returns the request that cred needs.
func (m *Manager) asker(cred *store.Credential) (func(context.Context) (*sfapi.Token, error), error) {
	if len(cred.Refresh) == 0 {
		return func(ctx context.Context) (*sfapi.Token, error) {
			t, err := m.mint(ctx, cred)
			if err == nil && (t == nil || t.Access == "") {
				err = errors.New("mint gave no token")
			}
			return t, err
		}, nil
	}
	refresh, err := m.box.open(cred.Org, columnRefresh, cred.Refresh)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) (*sfapi.Token, error) {
		return m.app.RefreshToken(ctx, cred.LoginURL, refresh)
	}, nil
}

// call makes one token request.
func (m *Manager) call(ctx context.Context, o *org, cred *store.Credential, reason Reason, ask func(context.Context) (*sfapi.Token, error)) (*sfapi.Token, error) {
	attempt, cancel := context.WithTimeout(ctx, m.timeout)
	defer cancel()
	at := time.Now()
	t, err := ask(attempt)
	took := time.Since(at)
	m.log.DebugContext(ctx, "token request", "org", o.id, "reason", string(reason),
		"generation", cred.Generation, "took", took, "ok", err == nil)
	if m.called != nil {
		m.called(ctx, &Call{Org: o.id, UserID: cred.UserID, Generation: cred.Generation,
			Reason: reason, At: at, Took: took, Err: err})
	}
	return t, err
}

// adopt publishes what somebody else stored.
func (m *Manager) adopt(o *org, stored *store.Credential) (*sfapi.Token, error) {
	if !granted(stored) {
		o.forget()
		return nil, ErrNoGrant
	}
	t, err := m.box.token(stored)
	if err != nil {
		return nil, err
	}
	if t.Access == "" {
		return nil, errors.New("org was connected anew: ask again")
	}
	return o.publish(t), nil
}

// settle takes the attempt off the record unless its outcome is unknown.
func (m *Manager) settle(ctx context.Context, cred *store.Credential, unknown bool) {
	if !unknown {
		m.release(ctx, cred)
	}
}

// release takes the attempt off the record. Where the database does not answer
// it stays there; then it outlives its deadline, and the next process is more
// careful than it need be.
func (m *Manager) release(ctx context.Context, cred *store.Credential) {
	for try := 1; ; try++ {
		err := m.creds.EndRefresh(ctx, cred.Org, cred.Generation, m.owner)
		if err == nil || try == 3 || pause(ctx, spread(50*time.Millisecond<<try)) != nil {
			if err != nil {
				m.log.WarnContext(ctx, "refresh attempt stays on record", "org", cred.Org, "error", err)
			}
			return
		}
	}
}

func retryAfter(err error) time.Duration {
	var e *sfapi.Error
	if errors.As(err, &e) {
		return e.RetryAfter
	}
	return 0
}
