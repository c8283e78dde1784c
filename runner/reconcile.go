package runner

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/weirhq/weir/breaker"
	"github.com/weirhq/weir/jobs"
	"github.com/weirhq/weir/runner/internal/store"
	"github.com/weirhq/weir/sfapi"
)

const (
	// reconcileEvery is how often River's rows are compared with ours, beside
	// whenever somebody presses a button in River UI.
	reconcileEvery = 20 * time.Second

	// heldPage is how many held orgs are read at a time: maintenance of an
	// instance holds hundreds.
	heldPage = 500
)

// reconcile keeps River's queue rows what our rows say, and takes a pause or
// resume that somebody pressed in River UI for what it means. It also finishes
// what a process that died left undone.
func (h *holds[TTx]) reconcile(ctx context.Context, pressed <-chan string) {
	for {
		t := time.NewTimer(reconcileEvery + rand.N(reconcileEvery/2))
		var err error
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case queue := <-pressed:
			err = h.compare(ctx, []string{queue})
		case <-t.C:
			err = h.reconcileAll(ctx)
		}
		t.Stop()
		if err != nil && ctx.Err() == nil {
			h.runner.logger.ErrorContext(ctx, "reconcile holds with River's queues", "error", err)
		}
	}
}

func (h *holds[TTx]) reconcileAll(ctx context.Context) error {
	var queues []string
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
					queues = append(queues, lane.Queue(row.ID))
				}
			}
		}
		if len(rows) < heldPage {
			break
		}
	}
	return h.compare(ctx, queues)
}

// restore gives a held org its probe job back where it is gone, and goes on
// cancelling the jobs of a revoked one.
func (h *holds[TTx]) restore(ctx context.Context, row *store.Org, state *breaker.State) error {
	if row.State == store.OrgRevoked {
		if err := h.runner.cancelWork(ctx, row.ID, string(breaker.ReasonReauth)); err != nil {
			return err
		}
	}
	if next := state.NextProbe(); !next.IsZero() && time.Until(next) < -reconcileEvery {
		// The probe is overdue: its job is gone, or its schedule lags behind.
		_, err := h.observe(ctx, row.ID, breaker.Observation{Event: breaker.Tick})
		return err
	}
	return nil
}

// compare looks at River's rows of the named queues, and of all that are
// paused. A difference counts only where our row stayed the same while River's
// was read: both change in one transaction.
func (h *holds[TTx]) compare(ctx context.Context, queues []string) error {
	lanes, err := h.runner.store.LaneQueues(ctx, queues)
	if err != nil {
		return err
	}
	seen := make(map[string]bool, len(lanes))
	for _, q := range lanes {
		seen[q.Name] = true
		if err := h.compareOne(ctx, q.Name); err != nil {
			return err
		}
	}
	for _, name := range queues {
		if !seen[name] {
			if err := h.compareOne(ctx, name); err != nil {
				return err
			}
		}
	}
	return nil
}

// compareOne compares River's row of one lane with ours.
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
	rows, err := h.runner.store.LaneQueues(ctx, []string{queue})
	if err != nil {
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
	var row *store.LaneQueue
	for _, q := range rows {
		if q.Name == queue {
			row = q
		}
	}
	hold := state.Covers(lane)
	paused := row != nil && !row.PausedAt.IsZero()
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
