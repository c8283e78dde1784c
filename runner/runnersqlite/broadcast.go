package runnersqlite

import (
	"sync"

	"github.com/weirhq/weir/sfapi"
)

// broadcast tells the listeners in this process which orgs changed. The zero
// value is ready.
type broadcast struct {
	mu        sync.Mutex // guards listeners and what is in them
	listeners map[*listener]struct{}
}

// listener collects the ids of changed orgs until its owner takes them. An id
// that changes twice before that is kept once.
type listener struct {
	changed map[sfapi.OrgID]struct{}
	wake    chan struct{} // holds at most one token
}

// add registers a new listener; remove takes it away.
func (b *broadcast) add() *listener {
	l := &listener{changed: make(map[sfapi.OrgID]struct{}), wake: make(chan struct{}, 1)}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.listeners == nil {
		b.listeners = make(map[*listener]struct{})
	}
	b.listeners[l] = struct{}{}
	return l
}

func (b *broadcast) remove(l *listener) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.listeners, l)
}

// publish never waits.
func (b *broadcast) publish(id sfapi.OrgID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for l := range b.listeners {
		l.changed[id] = struct{}{}
		select {
		case l.wake <- struct{}{}:
		default:
		}
	}
}

// take returns the collected ids and empties the collection.
func (b *broadcast) take(l *listener) []sfapi.OrgID {
	b.mu.Lock()
	defer b.mu.Unlock()
	ids := make([]sfapi.OrgID, 0, len(l.changed))
	for id := range l.changed {
		ids = append(ids, id)
	}
	clear(l.changed)
	return ids
}
