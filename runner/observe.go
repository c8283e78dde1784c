package runner

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/weirhq/weir/breaker"
	"github.com/weirhq/weir/runner/internal/token"
	"github.com/weirhq/weir/sfapi"
)

// watch sees each call of one org's client for one lane: before it leaves,
// refusing it while the org is held, and once it was answered.
type watch[TTx any] struct {
	holds *holds[TTx]
	org   sfapi.OrgID
	lane  breaker.Lane
	usage usageSampler

	calls sync.Map // *sfapi.Call → breaker.Call, while the call is under way
}

// use is what a call does, as the breaker asks.
func (w *watch[TTx]) use(c *sfapi.Call) breaker.Use {
	switch {
	case c.Bulk && c.ReadOnly:
		return breaker.BulkRead
	case c.ReadOnly:
		return breaker.Read
	default:
		return breaker.Mutate
	}
}

// before implements sfapi.ClientConfig.Before.
func (w *watch[TTx]) before(ctx context.Context, c *sfapi.Call) error {
	if isProbing(ctx) {
		return nil
	}
	if err := w.holds.runner.pulse.check(ctx); err != nil {
		return err
	}
	o, err := w.holds.org(ctx, w.org)
	if err != nil {
		return err
	}
	// A job that goes on to its next call was content with the rows of the
	// last.
	if obs := trailOf(ctx).take(); obs != nil {
		w.holds.note(ctx, w.org, *obs)
	}
	if err := o.state.Load().Refuse(w.lane, w.use(c)); err != nil {
		return err
	}
	if w.lane == breaker.Sync {
		if err := w.holds.budget.refuse(w.org, &o.usage, time.Now()); err != nil {
			return err
		}
	}
	counted, err := w.holds.counters.Begin(w.org, w.lane)
	if err != nil {
		return err
	}
	w.calls.Store(c, counted)
	return nil
}

// after implements sfapi.ClientConfig.After.
func (w *watch[TTx]) after(ctx context.Context, c *sfapi.Call) {
	w.usage.see(ctx, c)
	w.holds.runner.calls.called(ctx, c)
	w.holds.runner.tell.called(ctx, c)
	consecutive := 0
	if v, ok := w.calls.LoadAndDelete(c); ok {
		consecutive = v.(breaker.Call).End(c.Kind)
	}
	o, err := w.holds.org(ctx, w.org)
	if err != nil {
		return // before has told, or will
	}
	now := time.Now()
	if c.Usage != nil {
		o.usage.see(c.Usage)
	}
	switch c.Kind {
	case sfapi.KindNone:
		o.lastWorked.Store(now.UnixNano())
	case sfapi.KindMaintenance:
		o.lastMaintenance.Store(now.UnixNano())
	}
	if isProbing(ctx) {
		return // the prober tells what it learned
	}
	w.spend(ctx, o, c, now)
	state := o.state.Load()
	obs := breaker.Succeeded(w.lane, w.use(c))
	if c.Kind != sfapi.KindNone {
		if c.Kind == sfapi.KindSessionExpired || c.Kind == sfapi.KindWrongInstance {
			return // the client refreshes; what that does not cure is diagnosed
		}
		obs = breaker.Failed(w.lane, w.use(c), c.Kind)
		obs.Consecutive = consecutive
		if e, ok := errors.AsType[*sfapi.Error](c.Err); ok {
			obs.RetryAfter = e.RetryAfter
		}
		obs.Evidence = []string{fmt.Sprintf("%s: %s", c.Op, describe(c.Err))}
	}
	obs.At, obs.Generation = now.Add(-c.Duration), c.Generation
	if c.Kind == sfapi.KindNone && !w.holds.breaker.WantsSuccess(state, w.lane, now) ||
		c.Kind != sfapi.KindNone && !w.holds.breaker.WantsFailure(state, obs, now) {
		return
	}
	if t := trailOf(ctx); t != nil && c.Kind == sfapi.KindNone && !c.ReadOnly && c.Endpoint == sfapi.EndpointCollections {
		t.leave(&obs) // its rows are still to be judged
		return
	}
	w.holds.note(ctx, w.org, obs)
}

// spend holds the org when a call has used what may be used of its requests.
func (w *watch[TTx]) spend(ctx context.Context, o *orgHolds, c *sfapi.Call, now time.Time) {
	if c.Usage == nil || c.Kind == sfapi.KindDailyLimit {
		return // what Salesforce refused speaks for itself
	}
	share, q := w.holds.budget.left(c.Usage)
	if !w.holds.budget.spent(share) || o.state.Load().Hold(breaker.ReasonDailyLimit) != nil {
		return
	}
	obs := w.holds.budget.exhausted(w.lane, q)
	obs.At, obs.Generation = now.Add(-c.Duration), c.Generation
	w.holds.note(ctx, w.org, obs)
}

// noteTimeout bounds what is written about a call after its caller has gone.
const noteTimeout = 5 * time.Second

// note observes what a call met. The caller has its answer already, so trouble
// with the database is logged: the next call meets the org as this one did.
func (h *holds[TTx]) note(ctx context.Context, org sfapi.OrgID, obs breaker.Observation) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), noteTimeout)
	defer cancel()
	if _, err := h.observe(ctx, org, obs); err != nil {
		h.runner.logger.ErrorContext(ctx, "breaker", "org", org, "kind", obs.Kind.String(), "error", err)
	}
}

// refusedToken takes in the token endpoint's refusal of an org's grant.
func (h *holds[TTx]) refusedToken(ctx context.Context, v *token.Verdict) {
	obs := breaker.Observation{Event: breaker.CallFailed, Lane: breaker.Sync, Kind: v.Kind, Generation: v.Generation, RetryAfter: v.RetryAfter}
	if v.Kind == sfapi.KindRevoked {
		cause := breaker.CauseRevoked
		if v.Cause == token.CauseOutcomeUnknown {
			cause = breaker.CauseRefreshOutcomeUnknown
		}
		obs = breaker.CredentialLost(v.Generation, cause)
	}
	obs.Confirmed = true
	obs.Evidence = []string{"token endpoint: " + describe(v.Err)}
	h.note(ctx, v.Org, obs)
}

// diagnose finds out why a fresh token was refused, and tells the breaker.
func (h *holds[TTx]) diagnose(ctx context.Context, org sfapi.OrgID, lane breaker.Lane, refused error) {
	client, err := h.runner.clients.get(ctx, org, lane)
	if err != nil {
		return // it was there a moment ago
	}
	o, err := h.org(ctx, org)
	if err != nil {
		h.runner.logger.ErrorContext(ctx, "diagnose", "org", org, "error", err)
		return
	}
	sent := time.Now()
	d, err := sfapi.Diagnose(probing(ctx), client, refused, o.history())
	if err != nil {
		h.runner.logger.ErrorContext(ctx, "diagnose", "org", org, "error", err)
		return
	}
	obs := breaker.Failed(lane, breaker.Read, sfapi.KindSessionExpired)
	obs.At, obs.Diagnosis, obs.Advice = sent, d.Kind, d.Advice
	for _, e := range d.Evidence {
		obs.Evidence = append(obs.Evidence, e.String())
	}
	h.note(ctx, org, obs)
}

// history is what this process remembers of an org, for a diagnosis.
func (o *orgHolds) history() *sfapi.History {
	past := &sfapi.History{}
	if at := o.lastWorked.Load(); at != 0 {
		past.EverWorked, past.LastWorked = sfapi.FactYes, time.Unix(0, at)
	}
	if at := o.lastMaintenance.Load(); at != 0 {
		past.MaintenanceSeen = time.Unix(0, at)
	}
	if hold := o.state.Load().Hold(breaker.ReasonMaintenance); hold != nil && hold.Since.After(past.MaintenanceSeen) {
		past.MaintenanceSeen = hold.Since
	}
	return past
}
