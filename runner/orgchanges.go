package runner

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/weirhq/weir/runner/internal/store"
	"github.com/weirhq/weir/sfapi"
)

// orgChanges gathers the orgs whose rows changed, in this process or another,
// until they are read again. Maintenance of an instance changes hundreds within
// a second, and a listener that lost its connection does not know which: one
// query reads what came meanwhile, so that the last is not late by the sum of
// all.
type orgChanges struct {
	wake chan struct{} // holds one: there is something to take

	mu  sync.Mutex // protects what follows
	all bool       // any may have changed
	ids map[sfapi.OrgID]struct{}
}

func newOrgChanges() *orgChanges {
	return &orgChanges{wake: make(chan struct{}, 1), ids: make(map[sfapi.OrgID]struct{})}
}

// add notes an org; "" stands for any.
func (c *orgChanges) add(ids ...sfapi.OrgID) {
	c.mu.Lock()
	for _, id := range ids {
		if id == "" {
			c.all = true
		} else {
			c.ids[id] = struct{}{}
		}
	}
	c.mu.Unlock()
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// take returns what was noted, and forgets it.
func (c *orgChanges) take() (all bool, ids []sfapi.OrgID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	all, ids = c.all, slices.Collect(maps.Keys(c.ids))
	c.all = false
	clear(c.ids)
	return all, ids
}

const (
	// changedPage is how many orgs are read again by one query.
	changedPage = 500

	// changedAgain is the wait after the database failed.
	changedAgain = time.Second
)

// follow reads the orgs again that changed, until ctx ends.
func (h *holds[TTx]) follow(ctx context.Context) {
	for {
		select {
		case <-h.changes.wake:
		case <-ctx.Done():
			return
		}
		all, ids := h.changes.take()
		known := h.known(all, ids)
		for page := range slices.Chunk(known, changedPage) {
			err := h.reloadPage(ctx, page)
			if err == nil {
				continue
			}
			if ctx.Err() != nil {
				return
			}
			h.changes.add(page...)
			h.runner.logger.WarnContext(ctx, "read breakers again", "orgs", len(page), "error", err)
			sleep(ctx, changedAgain)
		}
	}
}

// known returns those of the orgs that this process has a copy of, or is about
// to: what it reads right now may be from before the change.
func (h *holds[TTx]) known(all bool, ids []sfapi.OrgID) []sfapi.OrgID {
	h.mu.Lock()
	defer h.mu.Unlock()
	if all {
		ids = slices.Collect(maps.Keys(h.orgs))
	}
	return slices.DeleteFunc(ids, func(id sfapi.OrgID) bool { return h.orgs[id] == nil })
}

func (h *holds[TTx]) reloadPage(ctx context.Context, ids []sfapi.OrgID) error {
	rows, err := h.runner.store.ListOrgs(ctx, &store.OrgFilter{IDs: ids, Limit: len(ids)})
	if err != nil {
		return err
	}
	for _, row := range rows {
		state, err := h.decode(row)
		if err != nil {
			return fmt.Errorf("breaker of org %s: %w", row.ID, err)
		}
		h.mu.Lock()
		o := h.orgs[row.ID]
		h.mu.Unlock()
		h.publish(o, state)
	}
	return nil
}
