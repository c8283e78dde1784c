package token

import (
	"context"
	"errors"
	"hash/maphash"
	"sync"
	"time"

	"github.com/weirhq/weir/sfapi"
)

const (
	// sweepInterval is how often sessions are looked at that may end soon.
	sweepInterval = 15 * time.Second

	// recently is how long after its last use an org's session is kept alive.
	recently = 30 * time.Minute

	// aheadWorkers bounds background refreshes at the same time, so that those
	// that somebody waits for get most of the turns.
	aheadWorkers = 4

	// aheadRetry is how long a background refresh that failed is left alone.
	aheadRetry = time.Minute
)

// sessionTimeouts are the lengths of session that an org may choose.
//
// https://help.salesforce.com/s/articleView?id=xcloud.admin_sessions.htm
var sessionTimeouts = []time.Duration{
	24 * time.Hour, 12 * time.Hour, 8 * time.Hour, 4 * time.Hour,
	2 * time.Hour, time.Hour, 30 * time.Minute, 15 * time.Minute,
}

// Start begins the background work: refresh ahead, and following what other
// processes store. It returns at once; Close and the end of ctx end the work.
// A Manager works without it, only less far-sightedly.
func (m *Manager) Start(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(m.closing, cancel)
	ok := m.spawnOnce(func() {
		defer cancel()
		defer stop()
		var loops sync.WaitGroup
		loops.Go(func() { m.follow(ctx) })
		if m.ahead > 0 {
			due := make(chan *org)
			loops.Go(func() { m.sweep(ctx, due) })
			for range aheadWorkers {
				loops.Go(func() { m.refreshDue(ctx, due) })
			}
		}
		loops.Wait()
	})
	if !ok {
		stop()
		cancel()
		return errors.New("token manager is started or closed already")
	}
	return nil
}

func (m *Manager) spawnOnce(fn func()) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed || m.started {
		return false
	}
	m.started = true
	m.running.Go(fn)
	return true
}

// Changed says that the row of an org was changed, by any process; with "" that
// of any org may have been. It does not block: those who wait for a sibling's
// refresh look at once, and what this process knows of the org is read again in
// the background.
func (m *Manager) Changed(id sfapi.OrgID) {
	m.mu.Lock()
	if id == "" {
		m.changedAll = true
	} else if _, known := m.orgs.Load(id); known {
		m.changed[id] = struct{}{}
	}
	m.mu.Unlock()
	select {
	case m.changedSignal <- struct{}{}:
	default:
	}
	if id != "" {
		if o, ok := m.orgs.Load(id); ok {
			o.(*org).wake()
		}
		return
	}
	m.orgs.Range(func(_, o any) bool {
		o.(*org).wake()
		return true
	})
}

// follow reads again what Changed was told of.
func (m *Manager) follow(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.changedSignal:
		}
		m.mu.Lock()
		ids, all := m.changed, m.changedAll
		m.changed, m.changedAll = make(map[sfapi.OrgID]struct{}), false
		m.mu.Unlock()
		if all {
			m.orgs.Range(func(id, _ any) bool {
				ids[id.(sfapi.OrgID)] = struct{}{}
				return true
			})
		}
		for id := range ids {
			o := m.org(id)
			if o.current.Load() == nil {
				continue // nothing to be wrong about
			}
			if _, err := m.read(ctx, o); errors.Is(err, ErrNoGrant) {
				o.forget()
			} else if err != nil && ctx.Err() == nil {
				// The token in hand is not worse for it.
				m.log.WarnContext(ctx, "stored token could not be read again", "org", id, "error", err)
			}
		}
	}
}

// sweep offers the orgs whose session is about to end.
func (m *Manager) sweep(ctx context.Context, due chan<- *org) {
	ticker := time.NewTicker(sweepInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		m.orgs.Range(func(_, v any) bool {
			o := v.(*org)
			if !m.due(o, time.Now()) {
				return true
			}
			select {
			case due <- o:
				return true
			case <-ctx.Done():
				return false
			}
		})
	}
}

// due is whether an org's session should be refreshed now. A true answer is
// given once every aheadRetry.
func (m *Manager) due(o *org, now time.Time) bool {
	if o.used.Swap(false) {
		o.lastUsed = now
	}
	t := o.current.Load()
	if t == nil || now.Sub(o.lastUsed) > recently || now.Before(o.notBefore) || o.isUnsure(t.Generation) {
		return false
	}
	if now.Before(m.turn(o, t)) && !m.unasked(o, t) {
		return false
	}
	o.notBefore = now.Add(aheadRetry)
	return true
}

// turn is when t should be refreshed in the background: between one and two
// times RefreshAhead before its session ends, at a moment that differs by org,
// so that sessions which began together are not renewed together, and by
// process, so that usually one refreshes and the others find it done.
func (m *Manager) turn(o *org, t *sfapi.Token) time.Time {
	session := m.sessionOf(o)
	if ends := o.endOf(t); !ends.IsZero() {
		session = ends.Sub(t.IssuedAt)
	}
	ahead := min(m.ahead, session/3)
	early := ahead + time.Duration(maphash.String(spreadSeed, m.owner+string(o.id))%uint64(max(ahead, 1)))
	return t.IssuedAt.Add(session - early)
}

var spreadSeed = maphash.MakeSeed()

func (m *Manager) refreshDue(ctx context.Context, due <-chan *org) {
	for {
		var o *org
		select {
		case <-ctx.Done():
			return
		case o = <-due:
		}
		t := o.current.Load()
		if t == nil {
			continue
		}
		if m.introspect {
			m.ask(ctx, o, t)
			if time.Now().Before(m.turn(o, t)) {
				continue // it was only asked about, or lives longer: sessions slide
			}
		}
		f := m.board(ctx, o, t.Generation, true)
		if f == nil {
			return
		}
		select {
		case <-ctx.Done(): // Close waits for the flight itself
			return
		case <-f.done:
		}
		if f.ahead && f.err != nil && !errors.Is(f.err, errElsewhere) && !errors.Is(f.err, ErrClosed) {
			m.log.WarnContext(ctx, "refresh ahead did not work", "org", o.id, "error", f.err)
		}
	}
}

// sessionOf is how long this org's sessions are expected to live.
func (m *Manager) sessionOf(o *org) time.Duration {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.session > 0 {
		return min(o.session, m.session)
	}
	return m.session
}

// learn is told that the current token, in place of which another was got at
// now, was found dead. A session that died at some age had a timeout of no more
// than that, so the longest possible one is kept in mind. A younger session than
// the shortest timeout was not ended by one.
func (o *org) learn(now time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	t := o.current.Load()
	if t == nil || t.IssuedAt.IsZero() {
		return
	}
	age := now.Sub(t.IssuedAt)
	for _, timeout := range sessionTimeouts {
		if timeout <= age {
			if o.session == 0 || timeout < o.session {
				o.session = timeout
			}
			return
		}
	}
}
