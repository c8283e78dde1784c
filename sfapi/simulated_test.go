package sfapi_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/weirhq/weir/sfapi"
	"github.com/weirhq/weir/sfapi/sftest"
)

// grant is a TokenSource that exchanges a refresh token that rotates.
type grant struct {
	app *sfapi.App

	mu      sync.Mutex
	refresh sfapi.Secret
	token   *sfapi.Token
}

func (g *grant) Token(context.Context) (*sfapi.Token, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.token, nil
}

func (g *grant) Refresh(ctx context.Context, stale *sfapi.Token) (*sfapi.Token, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.token != nil && g.token.Generation > stale.Generation {
		return g.token, nil
	}
	fresh, err := g.app.RefreshToken(ctx, "", g.refresh)
	if err != nil {
		return nil, err
	}
	if fresh.Refresh != "" {
		g.refresh = fresh.Refresh
	}
	fresh.Generation = stale.Generation + 1
	g.token = fresh
	return fresh, nil
}

// simulate returns a client of a simulated org with so many accounts.
func simulate(t *testing.T, accounts int) (*sfapi.Client, *sftest.Org) {
	t.Helper()
	sim := sftest.New(nil)
	o := sim.AddOrg(nil)
	for i := range accounts {
		o.Insert("Account", sftest.Record{"Name": fmt.Sprintf("n%04d", i), "Description": "line\r\n\"ü\" ☃,"})
	}
	app := &sfapi.App{ClientID: sftest.DefaultClientID, ClientSecret: sftest.DefaultClientSecret, LoginURL: sim.LoginURL(), Transport: sim}
	g := &grant{app: app, refresh: sfapi.Secret(o.Grant())}
	if _, err := g.Refresh(t.Context(), &sfapi.Token{}); err != nil {
		t.Fatal(err)
	}
	c, err := sfapi.NewClient(g.token.Org, app, g, nil)
	if err != nil {
		t.Fatal(err)
	}
	return c, o
}

func TestSimulated_QueryIsComplete(t *testing.T) {
	t.Parallel()
	c, o := simulate(t, 1000)
	seen := map[string]bool{}
	for r, err := range sfapi.Query[sfapi.Record](t.Context(), c, "SELECT Id, Name, Description, Phone FROM Account", &sfapi.QueryOptions{BatchSize: 200}) {
		if err != nil {
			t.Fatal(err)
		}
		if r.String("Description") != "line\r\n\"ü\" ☃," || !r.IsNull("Phone") {
			t.Fatalf("row = %s", r.Raw())
		}
		seen[r.ID()] = true
	}
	if len(seen) != 1000 || o.Calls(sftest.OpQueryMore) != 4 {
		t.Errorf("%d rows in 1+%d pages, want 1000 in 1+4", len(seen), o.Calls(sftest.OpQueryMore))
	}
}

func TestSimulated_Faults(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]sftest.Fault{
		"truncated": {Mangle: func(r *sftest.Reply) { r.CutAfter = 100 }}, "short": sftest.ShortBody(), "malformed": sftest.MalformedJSON(),
		"dropped": sftest.DropBefore(), "html": sftest.HTMLError(502),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, o := simulate(t, 1000)
			o.Inject(fault.On("GET", "/query").After(1).Next(1))
			pages, last := 0, error(nil)
			for _, err := range sfapi.QueryPages[sfapi.Record](t.Context(), c, "SELECT Id, Name FROM Account", &sfapi.QueryOptions{BatchSize: 200}) {
				if last = err; err == nil {
					pages++
				}
			}
			if e := asError(last); e == nil || !e.Transient || e.OutcomeUnknown || pages != 1 {
				t.Errorf("%d pages, then %v; want 1 and a transient error", pages, last)
			}
		})
	}
}

func TestSimulated_ExpiredSession(t *testing.T) {
	t.Parallel()
	c, o := simulate(t, 3)
	before := o.TokenCalls()
	o.ExpireSessions()
	var callers sync.WaitGroup
	for i := range 20 {
		callers.Go(func() {
			if _, err := c.Create(t.Context(), "Account", map[string]any{"Name": fmt.Sprint("new ", i)}); err != nil {
				t.Errorf("Create: %v", err)
			}
		})
	}
	callers.Wait()
	if o.Count("Account") != 23 || o.TokenCalls()-before != 1 {
		t.Errorf("%d accounts after %d token calls, want 23 and 1", o.Count("Account"), o.TokenCalls()-before)
	}

	o.ExpireSessions()
	o.RevokeAll()
	if _, err := c.Limits(t.Context()); sfapi.KindOf(err) != sfapi.KindRevoked {
		t.Errorf("Limits: %v, want revoked", err)
	}
}

func TestSimulated_LostResponse(t *testing.T) {
	t.Parallel()
	c, o := simulate(t, 0)
	o.Inject(sftest.DropAfterCommit().On("POST", "/sobjects/Account").Next(1))
	_, err := c.Create(t.Context(), "Account", map[string]any{"Name": "x"})
	var e *sfapi.Error
	if !errors.As(err, &e) || !e.OutcomeUnknown || o.Count("Account") != 1 {
		t.Errorf("Create: %v with %d accounts, want an unknown outcome and one", err, o.Count("Account"))
	}
}
