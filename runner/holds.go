package runner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weirhq/weir/breaker"
	"github.com/weirhq/weir/jobs"
	"github.com/weirhq/weir/runner/internal/store"
	"github.com/weirhq/weir/sfapi"
)

// holds is the circuit breaker of every org as this process knows it. The
// org's row is the truth: what happens is judged against it, under its lock,
// and what follows is written in the same transaction. The copies here serve
// the question before each call.
type holds[TTx any] struct {
	runner   *Runner[TTx]
	breaker  *breaker.Breaker
	counters *breaker.Counters
	changes  *orgChanges
	budget   budget

	mu   sync.Mutex // protects orgs
	orgs map[sfapi.OrgID]*orgHolds
}

// orgHolds is what this process knows of one org.
type orgHolds struct {
	state atomic.Pointer[breaker.State]

	// lastWorked and lastMaintenance are Unix times in nanoseconds, 0 for
	// never: memory for a diagnosis.
	lastWorked, lastMaintenance atomic.Int64

	usage orgUsage
}

func newHolds[TTx any](r *Runner[TTx]) (*holds[TTx], error) {
	b, err := breaker.New(&breaker.Config{ProbeMin: r.config.ProbeMin, ProbeMax: r.config.ProbeMax})
	if err != nil {
		return nil, err
	}
	return &holds[TTx]{
		runner: r, breaker: b, counters: breaker.NewCounters(b), changes: newOrgChanges(), orgs: make(map[sfapi.OrgID]*orgHolds),
		budget: budget{reserve: r.config.APIReserve, writes: r.config.WriteReserve},
	}, nil
}

// org returns what this process knows of an org, loading it first.
func (h *holds[TTx]) org(ctx context.Context, id sfapi.OrgID) (*orgHolds, error) {
	h.mu.Lock()
	o := h.orgs[id]
	if o == nil {
		o = &orgHolds{}
		h.orgs[id] = o
	}
	h.mu.Unlock()
	if o.state.Load() != nil {
		return o, nil
	}
	return o, h.reload(ctx, id, o)
}

// reload reads an org's row again.
func (h *holds[TTx]) reload(ctx context.Context, id sfapi.OrgID, o *orgHolds) error {
	row, err := h.runner.store.Org(ctx, id)
	if err != nil {
		return fmt.Errorf("breaker of org %s: %w", id, err)
	}
	state, err := h.decode(row)
	if err != nil {
		return err
	}
	h.publish(o, state)
	return nil
}

// publish gives calls the newest state. An older one than they have is late.
func (h *holds[TTx]) publish(o *orgHolds, state *breaker.State) {
	for {
		have := o.state.Load()
		if have != nil && have.Version > state.Version {
			return
		}
		if o.state.CompareAndSwap(have, state) {
			h.counters.Follow(state)
			return
		}
	}
}

// decode reads the breaker's state from an org's row.
func (h *holds[TTx]) decode(row *store.Org) (*breaker.State, error) {
	state := &breaker.State{Org: row.ID}
	if len(row.Breaker) > 0 {
		if err := json.Unmarshal(row.Breaker, state); err != nil {
			return nil, fmt.Errorf("breaker of org %s: %w", row.ID, err)
		}
	}
	state.Org = row.ID
	state.Limits.Sync.Full, state.Limits.Write.Full = h.runner.config.SyncWindow, h.runner.config.WriteWindow
	return state, nil
}

// outcome is what an observation led to.
type outcome struct {
	state   *breaker.State
	effects []breaker.Effect
}

// observe judges an observation in a transaction of its own, and finishes what
// cannot be done in one.
func (h *holds[TTx]) observe(ctx context.Context, id sfapi.OrgID, obs breaker.Observation) (*outcome, error) {
	var out *outcome
	err := h.runner.store.InTx(ctx, func(ctx context.Context, tx TTx) (err error) {
		out, err = h.observeTx(ctx, tx, id, obs)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("breaker of org %s: %w", id, err)
	}
	h.settle(ctx, id, out)
	return out, nil
}

// observeTx judges an observation against the org's row, under its lock, and
// writes the new state and its effects. After the commit the caller calls
// settle.
func (h *holds[TTx]) observeTx(ctx context.Context, tx TTx, id sfapi.OrgID, obs breaker.Observation) (*outcome, error) {
	row, err := h.runner.store.OrgTx(ctx, tx, id, true)
	if err != nil {
		return nil, err
	}
	before, err := h.decode(row)
	if err != nil {
		return nil, err
	}
	obs.Jitter = rand.Float64()
	after, effects := h.breaker.Next(*before, obs, time.Now())
	if after.Version != before.Version {
		if row.Breaker, err = json.Marshal(after); err != nil {
			return nil, err
		}
		if after.Revoked() && row.State == store.OrgConnected {
			row.State = store.OrgRevoked
		}
		saved, err := h.runner.store.UpdateOrgTx(ctx, tx, row)
		if err != nil {
			return nil, err
		}
		if !saved {
			return nil, errors.New("row changed under its lock")
		}
	}
	if err := h.applyTx(ctx, tx, &after, effects); err != nil {
		return nil, err
	}
	return &outcome{&after, effects}, nil
}

// settle makes the new state known in this process, and does what takes more
// than one transaction. A process that dies before is made good for by the
// reconciliation.
func (h *holds[TTx]) settle(ctx context.Context, id sfapi.OrgID, out *outcome) {
	h.mu.Lock()
	o := h.orgs[id]
	if o == nil {
		o = &orgHolds{}
		h.orgs[id] = o
	}
	h.mu.Unlock()
	h.publish(o, out.state)
	for _, e := range out.effects {
		h.log(ctx, id, e)
		if _, ok := e.(breaker.CancelJobs); ok {
			h.runner.startCancelling(ctx)
		}
	}
}

func (h *holds[TTx]) log(ctx context.Context, id sfapi.OrgID, e breaker.Effect) {
	switch e := e.(type) {
	case breaker.HoldPlaced:
		h.runner.logger.WarnContext(ctx, "org held", "org", id, "reason", e.Hold.Reason, "lanes", e.Hold.Lanes.String(), "evidence", e.Hold.Evidence)
	case breaker.HoldLifted:
		h.runner.logger.InfoContext(ctx, "org resumed", "org", id, "reason", e.Hold.Reason, "since", e.Hold.Since)
	}
}

// orgError gives an error of an org's row the name that callers know.
func orgError(id sfapi.OrgID, err error) error {
	if errors.Is(err, jobs.ErrNotFound) {
		return fmt.Errorf("org %s: %w", id, ErrOrgNotFound)
	}
	return err
}
