package runner

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/weirhq/weir/breaker"
	"github.com/weirhq/weir/runner/internal/token"
	"github.com/weirhq/weir/sfapi"
)

// usageEvery is how often an org's API usage is saved: it is for people to
// look at, and each answer carries the newest.
const usageEvery = 10 * time.Second

// usageSaver is where usage is kept.
type usageSaver interface {
	SaveUsage(ctx context.Context, id sfapi.OrgID, used, limit int, at time.Time) error
}

// clients makes the clients bound to orgs, and keeps them: they share a
// transport, so what is kept is small.
type clients struct {
	app       *sfapi.App
	tokens    *token.Manager
	usage     usageSaver
	transport http.RoundTripper
	logger    *slog.Logger

	mu    sync.Mutex // protects byOrg
	byOrg map[clientKey]*sfapi.Client
}

type clientKey struct {
	org  sfapi.OrgID
	lane breaker.Lane
}

func newClients(app *sfapi.App, tokens *token.Manager, usage usageSaver, transport http.RoundTripper, logger *slog.Logger) *clients {
	return &clients{
		app: app, tokens: tokens, usage: usage, transport: transport, logger: logger,
		byOrg: make(map[clientKey]*sfapi.Client),
	}
}

// get returns the client of an org for a lane.
func (c *clients) get(_ context.Context, org sfapi.OrgID, lane breaker.Lane) (*sfapi.Client, error) {
	key := clientKey{org, lane}
	c.mu.Lock()
	defer c.mu.Unlock()
	if client := c.byOrg[key]; client != nil {
		return client, nil
	}
	o := &observer{clients: c}
	client, err := sfapi.NewClient(org, c.app, c.tokens.Source(org), &sfapi.ClientConfig{
		Transport: c.transport, Logger: c.logger, After: o.after,
	})
	if err != nil {
		return nil, err
	}
	c.byOrg[key] = client
	return client, nil
}

// observer sees each finished call of one client.
type observer struct {
	clients *clients

	mu    sync.Mutex // protects saved
	saved time.Time
}

func (o *observer) after(ctx context.Context, call *sfapi.Call) {
	if call.Usage == nil {
		return
	}
	now := time.Now()
	o.mu.Lock()
	due := now.Sub(o.saved) >= usageEvery
	if due {
		o.saved = now
	}
	o.mu.Unlock()
	if !due {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	if err := o.clients.usage.SaveUsage(ctx, call.Org, call.Usage.Used, call.Usage.Limit, call.Usage.At); err != nil {
		o.clients.logger.WarnContext(ctx, "save API usage", "org", call.Org, "error", err)
	}
}
