package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"

	"github.com/weirhq/weir/runner"
	"github.com/weirhq/weir/runner/runnersqlite"
	"github.com/weirhq/weir/sfapi"
	"github.com/weirhq/weir/sfapi/sftest"
)

// newFuzzed makes the API on an empty SQLite database with one org, and nobody
// who works.
func newFuzzed(f *testing.F) (http.Handler, string) {
	f.Helper()
	db, err := runnersqlite.Open(filepath.Join(f.TempDir(), "weir.db"))
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = db.Close() })
	keys, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		f.Fatal(err)
	}
	sealer, err := aead.New(keys)
	if err != nil {
		f.Fatal(err)
	}
	sim := sftest.New(nil)
	app := &sfapi.App{ClientID: sftest.DefaultClientID, ClientSecret: sftest.DefaultClientSecret, LoginURL: sim.LoginURL()}
	logger := slog.New(slog.DiscardHandler)
	weir, err := runner.New(runnersqlite.New(db), &runner.Config[*sql.Tx]{App: app, Sealer: sealer, Transport: sim, Logger: logger})
	if err != nil {
		f.Fatal(err)
	}
	if err := weir.Migrate(context.Background()); err != nil {
		f.Fatal(err)
	}
	org, _, err := weir.Orgs().Connect(context.Background(), &runner.ConnectParams{RefreshToken: sfapi.Secret(sim.AddOrg(nil).Grant())})
	if err != nil {
		f.Fatal(err)
	}
	a := &api[*sql.Tx]{runner: weir, config: &config{settings: settings{LoginURL: app.LoginURL}, app: app, sealer: sealer}, logger: logger}
	a.migrated.Store(true)
	mux := http.NewServeMux()
	a.routes(mux)
	return recovered(logger, mux), string(org.ID)
}

// Whatever is sent to any call, the answer is never a 5xx, and each refusal has
// the error body.
func FuzzAPI(f *testing.F) {
	handler, org := newFuzzed(f)
	methods := []string{http.MethodGet, http.MethodPost, http.MethodDelete, http.MethodPut}
	for _, path := range []string{
		"/orgs", "/orgs?held=true&q=a&after=&limit=5", "/orgs/ORG", "/orgs/ORG/pause", "/orgs/ORG/resume", "/orgs/ORG/probe", "/orgs/ORG/syncs",
		"/orgs/ORG/syncs/Account", "/orgs/ORG/writes", "/orgs/ORG/writes/1?status=done&after=2&limit=3", "/orgs/ORG/writes/1/retry",
		"/jobs/1", "/events?after=1&limit=2", "/connect?label=x&login_url=y", "/oauth/callback?code=x&state=y", "/readyz", "/nothing",
	} {
		for method := range methods {
			for _, body := range []string{
				"", "{}", `{"refresh_token":"x","login_url":"https://a.my.salesforce.com","label":"l","requeue":true}`, `{"lane":"sync"}`,
				`{"object":"Account","mode":"full","fields":["Name"],"every":"5m"}`,
				`{"object":"Contact","operation":"upsert","external_id":"E__c","records":[{"E__c":"a","LastName":"x","N__c":1.5,"B":true,"Z":null}]}`,
			} {
				f.Add(uint8(method), path, body, "application/json", "key")
			}
		}
	}
	f.Fuzz(func(t *testing.T, method uint8, path, body, contentType, key string) {
		target, err := url.ParseRequestURI(strings.ReplaceAll(path, "ORG", org))
		if err != nil || target.Host != "" || !strings.HasPrefix(target.Path, "/") || target.Path == "/orgs/"+org && int(method)%len(methods) == 2 {
			return // no request to this API, or the end of its org
		}
		r := httptest.NewRequestWithContext(t.Context(), methods[int(method)%len(methods)], "/", strings.NewReader(body))
		r.URL, r.RequestURI, r.Host = target, target.RequestURI(), "localhost:8080"
		r.Header = http.Header{"Content-Type": {contentType}, "Idempotency-Key": {key}}
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		if w.Code == http.StatusServiceUnavailable && target.Path == "/readyz" {
			return // nobody works here
		}
		if w.Code == http.StatusBadGateway && strings.Contains(w.Body.String(), "token_endpoint_unavailable") {
			return // a host that the simulation does not serve
		}
		if w.Code >= 500 {
			t.Fatalf("%s %s %q: %d %s", r.Method, path, body, w.Code, w.Body)
		}
		if w.Code < 400 || strings.HasPrefix(w.Header().Get("Content-Type"), "text/html") || r.Method == http.MethodHead {
			return
		}
		var refusal struct {
			Error struct{ Code, Message string }
		}
		if err := json.Unmarshal(w.Body.Bytes(), &refusal); err != nil || refusal.Error.Code == "" || refusal.Error.Message == "" {
			t.Errorf("%s %s %q: %d %s", r.Method, path, body, w.Code, w.Body)
		}
	})
}
