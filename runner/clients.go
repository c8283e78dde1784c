package runner

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/weirhq/weir/breaker"
	"github.com/weirhq/weir/sfapi"
)

// clients makes the clients bound to orgs, and keeps them: they share a
// transport, so what is kept is small.
type clients[TTx any] struct {
	runner *Runner[TTx]

	mu    sync.Mutex // protects byOrg
	byOrg map[clientKey]*sfapi.Client
}

type clientKey struct {
	org  sfapi.OrgID
	lane breaker.Lane
}

func newClients[TTx any](r *Runner[TTx]) *clients[TTx] {
	return &clients[TTx]{runner: r, byOrg: make(map[clientKey]*sfapi.Client)}
}

// get returns the client of an org for a lane.
func (c *clients[TTx]) get(_ context.Context, org sfapi.OrgID, lane breaker.Lane) (*sfapi.Client, error) {
	key := clientKey{org, lane}
	c.mu.Lock()
	defer c.mu.Unlock()
	if client := c.byOrg[key]; client != nil {
		return client, nil
	}
	r := c.runner
	w := &watch[TTx]{holds: r.holds, org: org, lane: lane, usage: usageSampler{save: r.store.SaveUsage, logger: r.logger}}
	client, err := sfapi.NewClient(org, r.app, r.tokens.Source(org), &sfapi.ClientConfig{
		Transport: r.config.Transport, Logger: r.logger, Before: w.before, After: w.after,
	})
	if err != nil {
		return nil, err
	}
	c.byOrg[key] = client
	return client, nil
}

// usageEvery is how often an org's API usage is saved: it is for people to
// look at, and each answer carries the newest.
const usageEvery = 10 * time.Second

// usageSampler saves the API usage that answers carry, now and then.
type usageSampler struct {
	save   func(ctx context.Context, id sfapi.OrgID, used, limit int, at time.Time) error
	logger *slog.Logger

	mu    sync.Mutex // protects saved
	saved time.Time
}

func (u *usageSampler) see(ctx context.Context, call *sfapi.Call) {
	if call.Usage == nil {
		return
	}
	now := time.Now()
	u.mu.Lock()
	due := now.Sub(u.saved) >= usageEvery
	if due {
		u.saved = now
	}
	u.mu.Unlock()
	if !due {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), noteTimeout)
	defer cancel()
	if err := u.save(ctx, call.Org, call.Usage.Used, call.Usage.Limit, call.Usage.At); err != nil {
		u.logger.WarnContext(ctx, "save API usage", "org", call.Org, "error", err)
	}
}
