package runner_test

import (
	"context"
	"database/sql"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/weirhq/weir/jobs"
	"github.com/weirhq/weir/runner"
	"github.com/weirhq/weir/sfapi"
)

// What cannot be right is refused before a token is spent on it, and nothing is
// stored.
func TestConnectBadInput(t *testing.T) {
	t.Parallel()
	onBoth(t, testConnectBadInput[*sql.Tx], testConnectBadInput[pgx.Tx])
}

func testConnectBadInput[TTx any](t *testing.T, f *fixture[TTx]) {
	f.org.SetRotation(true)
	r := f.migrated(t)
	grant := sfapi.Secret(f.org.Grant())
	good := sfapi.Token{Org: f.orgID, Access: "x", InstanceURL: "https://acme.my.salesforce.com"}
	token := func(change func(*sfapi.Token)) *sfapi.Token {
		t := good
		change(&t)
		return &t
	}
	for field, p := range map[string]*runner.ConnectParams{
		"RefreshToken":      {},
		"Label":             {RefreshToken: grant, Label: "a\x00b"},
		"LoginURL":          {RefreshToken: grant, LoginURL: "http://login.example.com"},
		"Token.Org":         {Token: token(func(t *sfapi.Token) { t.Org = "" })},
		"Token.Access":      {Token: token(func(t *sfapi.Token) { t.Access = "" })},
		"Token.InstanceURL": {Token: token(func(t *sfapi.Token) { t.InstanceURL = "http://acme.example.com/path" })},
	} {
		var fe *jobs.FieldError
		if _, _, err := r.Orgs().Connect(t.Context(), p); !errors.As(err, &fe) || fe.Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
	if list, err := r.Orgs().List(t.Context(), nil); err != nil || len(list) != 0 {
		t.Errorf("%d orgs are stored, %v", len(list), err)
	}
	if n := f.org.TokenCalls(); n != 0 {
		t.Errorf("%d token calls", n)
	}
}

// A caller that goes away in the middle of an exchange takes no token along
// that Salesforce has rotated.
func TestConnectOutlivesItsCaller(t *testing.T) {
	t.Parallel()
	onBoth(t, testConnectOutlivesItsCaller[*sql.Tx], testConnectOutlivesItsCaller[pgx.Tx])
}

func testConnectOutlivesItsCaller[TTx any](t *testing.T, f *fixture[TTx]) {
	f.org.SetRotation(true)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r := f.migrated(t, func(c *runner.Config[TTx]) {
		c.Transport = roundTripper(func(req *http.Request) (*http.Response, error) {
			if strings.HasSuffix(req.URL.Path, "/token") {
				cancel()
			}
			return f.sim.RoundTrip(req)
		})
	})
	p := &runner.ConnectParams{RefreshToken: sfapi.Secret(f.org.Grant())}
	org, created, err := r.Orgs().Connect(ctx, p)
	if err != nil || !created || org.ID != f.orgID {
		t.Fatalf("created %v: %+v, %v", created, org, err)
	}
	p.RefreshToken = sfapi.Secret(f.org.Grant())
	if _, _, err := r.Orgs().Connect(ctx, p); !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that has ended: %v", err)
	}
}
