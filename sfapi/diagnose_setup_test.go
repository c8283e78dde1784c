package sfapi_test

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/weirhq/weir/sfapi"
	"github.com/weirhq/weir/sfapi/sftest"
)

// connection is a grant of a simulated org with all that a runner keeps of it:
// a TokenSource that refreshes, and the Client of it.
type connection struct {
	sim    *sftest.Sim
	org    *sftest.Org
	app    *sfapi.App
	client *sfapi.Client

	mu      sync.Mutex
	token   sfapi.Token
	grant   sfapi.Secret
	secrets []string           // every token there ever was
	adjust  func(*sfapi.Token) // changes what the token endpoint answered
}

func (c *connection) Token(context.Context) (*sfapi.Token, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.token
	return &t, nil
}

func (c *connection) Refresh(ctx context.Context, stale *sfapi.Token) (*sfapi.Token, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.token.Generation <= stale.Generation {
		fresh, err := c.app.RefreshToken(ctx, "", c.grant)
		if err != nil {
			return nil, err
		}
		fresh.Generation = c.token.Generation + 1
		if c.adjust != nil {
			c.adjust(fresh)
		}
		c.token = *fresh
		c.secrets = append(c.secrets, fresh.Access.Reveal())
	}
	t := c.token
	return &t, nil
}

func connect(t testing.TB, apps ...sftest.App) *connection {
	t.Helper()
	c := &connection{sim: sftest.New(&sftest.Config{Apps: apps})}
	c.org = c.sim.AddOrg(nil)
	c.app = &sfapi.App{ClientID: sftest.DefaultClientID, ClientSecret: sftest.DefaultClientSecret, LoginURL: c.sim.LoginURL(), Transport: c.sim}
	c.grant = sfapi.Secret(c.org.Grant())
	c.secrets = []string{c.grant.Reveal(), c.app.ClientSecret.Reveal()}
	if _, err := c.Refresh(t.Context(), &sfapi.Token{}); err != nil {
		t.Fatal(err)
	}
	c.use(t, nil)
	if err := c.work(t.Context()); err != nil {
		// Some apps may never work.
		t.Logf("first call: %v", err)
	}
	return c
}

// use makes the connection's Client.
func (c *connection) use(t testing.TB, cfg *sfapi.ClientConfig) {
	t.Helper()
	var err error
	if c.client, err = sfapi.NewClient(sfapi.OrgID(c.org.ID()), c.app, c, cfg); err != nil {
		t.Fatal(err)
	}
}

// work is what a job does: it reads.
func (c *connection) work(ctx context.Context) error {
	_, err := c.client.QueryCount(ctx, "SELECT COUNT() FROM Account")
	return err
}

// write is the other thing a job does.
func (c *connection) write(ctx context.Context) error {
	_, err := c.client.Create(ctx, "Account", map[string]any{"Name": "Acme"})
	return err
}

// sessionRefused is the answer to a dead session, whatever the truth is.
func sessionRefused() sftest.Fault {
	return sftest.APIError(http.StatusUnauthorized, "INVALID_SESSION_ID", "Session expired or invalid").On("", "/services/data/v")
}

// calls returns the endpoints that the simulator was asked at since mark.
func (c *connection) calls(mark int) string {
	var called []string
	for _, e := range c.sim.Audit()[mark:] {
		name := e.Path[strings.LastIndexByte(e.Path, '/')+1:]
		if strings.HasPrefix(e.Path, "/id/") {
			name = "identity"
		}
		called = append(called, name)
	}
	return strings.Join(called, " ")
}
