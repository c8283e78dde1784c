package runner

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/riverqueue/river"

	"github.com/weirhq/weir/breaker"
	"github.com/weirhq/weir/jobs"
	"github.com/weirhq/weir/runner/internal/store"
	"github.com/weirhq/weir/sfapi"
)

const (
	// reconcileEvery is how often River's rows are compared with ours, beside
	// whenever somebody presses a button in River UI.
	reconcileEvery = 20 * time.Second

	// firstReconcile is within what time of its start a process does so first.
	firstReconcile = 2 * time.Second

	// heldPage is how many held orgs are read at a time: maintenance of an
	// instance holds hundreds.
	heldPage = 500
)

// reconcile keeps River's queue rows what our rows say, and takes a pause or
// resume that somebody pressed in River UI for what it means. It also finishes
// what a process that died left undone.
func (h *holds[TTx]) reconcile(ctx context.Context, pressed <-chan string) {
	// The first time is soon: the process before this one may have died.
	due := time.Now().Add(rand.N(firstReconcile))
	for {
		t := time.NewTimer(time.Until(due))
		var err error
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case queue := <-pressed:
			// Placing and lifting a hold sends this too, to every process, and
			// maintenance of an instance holds hundreds: look at this one alone.
			err = h.compareOne(ctx, queue)
		case <-t.C:
			err = h.reconcileAll(ctx)
			due = time.Now().Add(reconcileEvery + rand.N(reconcileEvery/2))
		}
		t.Stop()
		if err != nil && ctx.Err() == nil {
			h.runner.logger.ErrorContext(ctx, "reconcile holds with River's queues", "error", err)
		}
	}
}

func (h *holds[TTx]) reconcileAll(ctx context.Context) error {
	covered := make(map[string]bool) // queues of held lanes → seen paused in River
	for after := ""; ; {
		rows, err := h.runner.store.ListOrgs(ctx, &store.OrgFilter{After: after, Limit: heldPage, Held: true})
		if err != nil {
			return err
		}
		for _, row := range rows {
			after = string(row.ID)
			state, err := h.decode(row)
			if err != nil {
				return err
			}
			if err := h.restore(ctx, row, state); err != nil {
				return err
			}
			for _, lane := range breaker.AllLanes() {
				if state.Covers(lane) != nil {
					covered[lane.Queue(row.ID)] = false
				}
			}
		}
		if len(rows) < heldPage {
			break
		}
	}
	return h.compare(ctx, covered)
}

// restore gives a held org its probe job back where it is gone.
func (h *holds[TTx]) restore(ctx context.Context, row *store.Org, state *breaker.State) error {
	if next := state.NextProbe(); !next.IsZero() && time.Until(next) < -reconcileEvery {
		// The probe is overdue: its job is gone, or its schedule lags behind.
		_, err := h.observe(ctx, row.ID, breaker.Observation{Event: breaker.Tick})
		return err
	}
	return nil
}

// compare looks at River's rows of the lanes that our rows have as covered, and
// of all that are paused, and takes a closer look at those that differ.
func (h *holds[TTx]) compare(ctx context.Context, covered map[string]bool) error {
	lanes, err := h.runner.store.LaneQueues(ctx, slices.Collect(maps.Keys(covered)))
	if err != nil {
		return err
	}
	var differ []string
	for _, q := range lanes {
		_, held := covered[q.Name]
		paused := !q.PausedAt.IsZero()
		if held && paused {
			covered[q.Name] = true
		} else if paused {
			differ = append(differ, q.Name)
		}
	}
	for queue, paused := range covered {
		if !paused {
			differ = append(differ, queue)
		}
	}
	for _, queue := range differ {
		if err := h.compareOne(ctx, queue); err != nil {
			return err
		}
	}
	return nil
}

// compareOne compares River's row of one lane with ours. A difference counts
// only where our row stayed the same while River's was read: both change in one
// transaction.
func (h *holds[TTx]) compareOne(ctx context.Context, queue string) error {
	lower, lane, ok := breaker.ParseQueue(queue)
	if !ok {
		return nil
	}
	id, err := sfapi.ParseOrgID(lower)
	if err != nil {
		return nil //nolint:nilerr // a queue of somebody else's with such a name
	}
	before, err := h.runner.store.Org(ctx, id)
	if err != nil {
		return ignoreNotFound(err)
	}
	row, err := h.runner.river.QueueGet(ctx, queue)
	if err != nil && !errors.Is(err, river.ErrNotFound) {
		return err
	}
	after, err := h.runner.store.Org(ctx, id)
	if err != nil || after.Version != before.Version {
		return ignoreNotFound(err) // it changed meanwhile: the change wrote River's row too
	}
	state, err := h.decode(after)
	if err != nil {
		return err
	}
	hold := state.Covers(lane)
	paused := row != nil && row.PausedAt != nil
	switch {
	case hold != nil && row == nil:
		// River's cleaner removes rows of queues that nobody touched for a
		// day, pause and all.
		return h.runner.store.InTx(ctx, func(ctx context.Context, tx TTx) error {
			return h.pauseTx(ctx, tx, state, lane, hold)
		})
	case hold != nil && !paused:
		_, err = h.observe(ctx, id, breaker.Observation{Event: breaker.QueueResumed, Lane: lane})
	case hold == nil && paused:
		_, err = h.observe(ctx, id, breaker.Observation{Event: breaker.QueuePaused, Lane: lane})
	}
	return err
}

// ignoreNotFound is for rows of orgs that nobody connected here.
func ignoreNotFound(err error) error {
	if errors.Is(err, jobs.ErrNotFound) {
		return nil
	}
	return err
}
