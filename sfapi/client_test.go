package sfapi_test

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/weirhq/weir/sfapi"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	testOrg  = sfapi.OrgID("00D000000000001EAA")
	testUser = "005000000000001AAA"
	expired  = `[{"message":"Session expired or invalid","errorCode":"INVALID_SESSION_ID"}]`
)

// tokens is a TokenSource whose Refresh gives the next generation.
type tokens struct {
	mu        sync.Mutex
	current   sfapi.Token
	refreshes int
	refresh   func(*sfapi.Token) error // changes the fresh token
}

func (s *tokens) Token(context.Context) (*sfapi.Token, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.current
	return &t, nil
}

func (s *tokens) Refresh(_ context.Context, stale *sfapi.Token) (*sfapi.Token, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refreshes++
	if s.current.Generation <= stale.Generation {
		s.current.Generation++
		s.current.Access = sfapi.Secret(fmt.Sprint("token-", s.current.Generation))
		if s.refresh != nil {
			if err := s.refresh(&s.current); err != nil {
				return nil, err
			}
		}
	}
	t := s.current
	return &t, nil
}

// org is a handler behind real HTTP, and a client of it.
type org struct {
	*sfapi.Client
	tokens   *tokens
	server   *httptest.Server
	requests atomic.Int64
}

func newApp() *sfapi.App { return &sfapi.App{ClientID: "app", ClientSecret: "app-secret"} }

func setup(t testing.TB, handler http.HandlerFunc, cfg *sfapi.ClientConfig) *org {
	t.Helper()
	o := &org{}
	o.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		o.requests.Add(1)
		handler(w, r)
	}))
	t.Cleanup(o.server.Close)
	if cfg == nil {
		cfg = &sfapi.ClientConfig{}
	}
	if cfg.Transport == nil {
		transport := &http.Transport{}
		t.Cleanup(transport.CloseIdleConnections)
		cfg.Transport = transport
	}
	o.tokens = &tokens{current: sfapi.Token{
		Access: "token-1", InstanceURL: o.server.URL, Org: testOrg, UserID: testUser, Generation: 1,
	}}
	var err error
	if o.Client, err = sfapi.NewClient(testOrg, newApp(), o.tokens, cfg); err != nil {
		t.Fatal(err)
	}
	return o
}

// answer writes a body.
func answer(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", "application/json;charset=UTF-8")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body)
}

func authorized(r *http.Request, generation int) bool {
	return r.Header.Get("Authorization") == fmt.Sprint("Bearer token-", generation)
}

type roundTripFunc func(*http.Request) (*http.Response, error)

func (f roundTripFunc) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestClient_RefreshesAndReplays(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var bodies []string
	var calls []sfapi.Call
	o := setup(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		bodies = append(bodies, r.Method+" "+r.URL.Path+" "+string(body))
		mu.Unlock()
		if !authorized(r, 2) {
			answer(w, 401, expired)
			return
		}
		answer(w, 201, `{"id":"001000000000001AAA","success":true,"errors":[]}`)
	}, &sfapi.ClientConfig{After: func(_ context.Context, c *sfapi.Call) {
		mu.Lock()
		defer mu.Unlock()
		calls = append(calls, *c)
	}})

	id, err := o.Create(t.Context(), "Account", map[string]any{"Name": "Ünï <&> \"q\""})
	if err != nil || id != "001000000000001AAA" {
		t.Fatalf("Create = %q, %v", id, err)
	}
	sent := `POST /services/data/v66.0/sobjects/Account {"Name":"Ünï <&> \"q\""}`
	if diff := cmp.Diff([]string{sent, sent}, bodies); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
	if o.tokens.refreshes != 1 {
		t.Errorf("refreshes = %d, want 1", o.tokens.refreshes)
	}
	got := []string{}
	for _, c := range calls {
		got = append(got, fmt.Sprint(c.Op, c.Status, c.Kind, c.Replay, c.Generation, c.UserID, c.ReadOnly, c.Path))
	}
	want := []string{
		fmt.Sprint("create", 401, sfapi.KindSessionExpired, false, 1, testUser, false, "/services/data/v66.0/sobjects/Account"),
		fmt.Sprint("create", 201, sfapi.KindNone, true, 2, testUser, false, "/services/data/v66.0/sobjects/Account"),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
}

func TestClient_SecondRefusal(t *testing.T) {
	t.Parallel()
	o := setup(t, func(w http.ResponseWriter, r *http.Request) { answer(w, 401, expired) }, nil)
	_, err := o.Limits(t.Context())
	if !sfapi.AfterRefresh(err) || sfapi.KindOf(err) != sfapi.KindSessionExpired {
		t.Errorf("Limits: %v, want a session error after a refresh", err)
	}
	if o.tokens.refreshes != 1 || o.requests.Load() != 2 {
		t.Errorf("%d refreshes and %d requests, want 1 and 2", o.tokens.refreshes, o.requests.Load())
	}

	_, err = o.Limits(sfapi.WithoutRefresh(t.Context()))
	if sfapi.AfterRefresh(err) || sfapi.KindOf(err) != sfapi.KindSessionExpired || o.requests.Load() != 3 {
		t.Errorf("Limits without refresh: %v after %d requests", err, o.requests.Load())
	}
}

func TestClient_RefreshFails(t *testing.T) {
	t.Parallel()
	o := setup(t, func(w http.ResponseWriter, r *http.Request) { answer(w, 401, expired) }, nil)
	dead := errors.New("the grant is gone")
	o.tokens.refresh = func(*sfapi.Token) error { return dead }
	if _, err := o.Limits(t.Context()); !errors.Is(err, dead) {
		t.Errorf("Limits: %v, want the refresh's error", err)
	}

	static, err := sfapi.NewClient(testOrg, newApp(), sfapi.StaticToken(&o.tokens.current),
		&sfapi.ClientConfig{Transport: roundTripFunc(func(r *http.Request) (*http.Response, error) {
			rec := httptest.NewRecorder()
			answer(rec, 401, expired)
			return rec.Result(), nil
		})})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := static.Limits(t.Context()); sfapi.KindOf(err) != sfapi.KindSessionExpired || sfapi.AfterRefresh(err) {
		t.Errorf("Limits with a static token: %v, want the refusal", err)
	}
}

func TestClient_FollowsNoRedirect(t *testing.T) {
	t.Parallel()
	var leaked atomic.Int64
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { leaked.Add(1) }))
	t.Cleanup(elsewhere.Close)
	o := setup(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, elsewhere.URL+r.URL.Path, http.StatusFound)
	}, nil)
	_, err := o.Limits(t.Context())
	if sfapi.KindOf(err) != sfapi.KindWrongInstance || !sfapi.AfterRefresh(err) {
		t.Errorf("Limits: %v (%s), want wrong_instance after a refresh", err, sfapi.KindOf(err))
	}
	if leaked.Load() != 0 {
		t.Error("the redirect was followed")
	}
}

func TestClient_AdoptsNewInstance(t *testing.T) {
	t.Parallel()
	moved := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		answer(w, 200, `{"DailyApiRequests":{"Max":100,"Remaining":7,"Some App":{"Max":0,"Remaining":0}}}`)
	}))
	t.Cleanup(moved.Close)
	o := setup(t, func(w http.ResponseWriter, r *http.Request) {
		answer(w, 400, `[{"errorCode":"URL_NOT_RESET","message":"Destination URL not reset"}]`)
	}, nil)
	o.tokens.refresh = func(fresh *sfapi.Token) error { fresh.InstanceURL = moved.URL; return nil }
	got, err := o.Limits(t.Context())
	want := map[string]sfapi.Limit{"DailyApiRequests": {Max: 100, Remaining: 7}}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("Limits: %v (-want +got):\n%s", err, diff)
	}
}

func TestClient_RefusesTokens(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*sfapi.Token){
		"of another org":      func(k *sfapi.Token) { k.Org = "00D000000000002EAA" },
		"without instance":    func(k *sfapi.Token) { k.InstanceURL = "" },
		"for plain http":      func(k *sfapi.Token) { k.InstanceURL = "http://acme.my.salesforce.com" },
		"with a password":     func(k *sfapi.Token) { k.InstanceURL = "https://u:p@acme.my.salesforce.com" },
		"with a path":         func(k *sfapi.Token) { k.InstanceURL = "https://acme.my.salesforce.com/x" },
		"with a query":        func(k *sfapi.Token) { k.InstanceURL = "https://acme.my.salesforce.com?x" },
		"with another scheme": func(k *sfapi.Token) { k.InstanceURL = "file:///etc/passwd" },
		"without access":      func(k *sfapi.Token) { k.Access = "" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := setup(t, func(w http.ResponseWriter, r *http.Request) { answer(w, 200, `{}`) }, nil)
			change(&o.tokens.current)
			if _, err := o.Limits(t.Context()); err == nil || o.requests.Load() != 0 {
				t.Errorf("Limits: %v after %d requests, want an error and none", err, o.requests.Load())
			}
		})
	}
}

func TestClient_BeforeRefuses(t *testing.T) {
	t.Parallel()
	held := errors.New("held")
	o := setup(t, func(w http.ResponseWriter, r *http.Request) { answer(w, 200, `{}`) }, &sfapi.ClientConfig{
		Before: func(_ context.Context, c *sfapi.Call) error {
			if c.ReadOnly {
				return nil
			}
			return held
		},
	})
	if err := o.Update(t.Context(), "Account", "001000000000001AAA", map[string]any{"Name": "x"}); !errors.Is(err, held) {
		t.Errorf("Update: %v, want held", err)
	}
	if _, err := o.Limits(t.Context()); err != nil {
		t.Errorf("Limits: %v", err)
	}
	if o.requests.Load() != 1 {
		t.Errorf("%d requests, want 1", o.requests.Load())
	}
}

func TestClient_UnusableAnswers(t *testing.T) {
	t.Parallel()
	drop := func(w http.ResponseWriter) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			_ = conn.Close()
		}
	}
	for name, c := range map[string]struct {
		handler http.HandlerFunc
		wraps   error
	}{
		"html":      {func(w http.ResponseWriter, r *http.Request) { answer(w, 200, "<!DOCTYPE html><html>down</html>") }, nil},
		"not JSON":  {func(w http.ResponseWriter, r *http.Request) { answer(w, 200, `{"id":`) }, sfapi.ErrIncompleteResult},
		"not UTF-8": {func(w http.ResponseWriter, r *http.Request) { answer(w, 200, "{\"a\":\"\xff\"}") }, sfapi.ErrIncompleteResult},
		"too large": {func(w http.ResponseWriter, r *http.Request) { answer(w, 200, strings.Repeat(" ", 5000)+"{}") }, sfapi.ErrBodyTooLarge},
		"dropped":   {func(w http.ResponseWriter, r *http.Request) { drop(w) }, nil},
		"shorter than said": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "100")
			answer(w, 200, `{}`)
		}, sfapi.ErrIncompleteResult},
		"gzip bomb": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			zw := gzip.NewWriter(w)
			_, _ = zw.Write(make([]byte, 1<<20))
			_ = zw.Close()
		}, sfapi.ErrBodyTooLarge},
		"cut gzip": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			zw := gzip.NewWriter(w)
			_, _ = io.WriteString(zw, `{}`)
			_ = zw.Flush()
		}, sfapi.ErrIncompleteResult},
		"unfinished chunks": {func(w http.ResponseWriter, r *http.Request) {
			answer(w, 200, `{}`)
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}, sfapi.ErrIncompleteResult},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := setup(t, c.handler, &sfapi.ClientConfig{MaxBodyBytes: 4096})
			_, err := o.Create(t.Context(), "Account", json.RawMessage(`{"Name":"x"}`))
			var e *sfapi.Error
			if !errors.As(err, &e) || c.wraps != nil && !errors.Is(err, c.wraps) {
				t.Fatalf("Create: %v, want an *Error that wraps %v", err, c.wraps)
			}
			if !e.OutcomeUnknown {
				t.Errorf("Create: %v does not say that the outcome is unknown", err)
			}
			if err := o.Update(t.Context(), "Account", "001000000000001AAA", json.RawMessage(`{}`)); err == nil {
				t.Error("Update succeeded")
			}
			if _, err := o.Limits(t.Context()); err == nil {
				t.Error("Limits succeeded")
			} else if errors.As(err, &e) && e.OutcomeUnknown {
				t.Errorf("Limits: %v, but nothing was written", err)
			}
		})
	}
}

func TestClient_Gzip(t *testing.T) {
	t.Parallel()
	o := setup(t, func(w http.ResponseWriter, r *http.Request) {
		var in io.Reader = r.Body
		if r.Header.Get("Content-Encoding") == "gzip" {
			in, _ = gzip.NewReader(r.Body)
		}
		body, _ := io.ReadAll(in)
		if r.Header.Get("Accept-Encoding") != "gzip" {
			t.Errorf("Accept-Encoding = %q", r.Header.Get("Accept-Encoding"))
		}
		w.Header().Set("Content-Encoding", "gzip")
		zw := gzip.NewWriter(w)
		defer zw.Close()
		_, _ = fmt.Fprintf(zw, `{"encoding":%q,"size":%d}`, r.Header.Get("Content-Encoding"), len(body))
	}, &sfapi.ClientConfig{CompressOverBytes: 1000})
	type seen struct {
		Encoding string
		Size     int
	}
	for size, want := range map[int]seen{10: {"", 12}, 5000: {"gzip", 5002}} {
		var got seen
		if err := o.Do(t.Context(), "POST", "composite", strings.Repeat("x", size), &got); err != nil || got != want {
			t.Errorf("Do(%d bytes) = %+v, %v, want %+v", size, got, err, want)
		}
	}
}

func TestClient_Timeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		hang := roundTripFunc(func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		})
		tok := sfapi.StaticToken(&sfapi.Token{Access: "t", InstanceURL: "https://acme.my.salesforce.com"})
		c, err := sfapi.NewClient(testOrg, newApp(), tok, &sfapi.ClientConfig{Transport: hang})
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		_, err = c.Limits(context.Background())
		if !errors.Is(err, sfapi.ErrTimeout) || time.Since(start) != 2*time.Minute {
			t.Errorf("Limits: %v after %s, want ErrTimeout after 2m0s", err, time.Since(start))
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if _, err = c.Limits(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Limits: %v, want the context's error", err)
		}
		ctx, cancel = context.WithCancel(context.Background())
		cancel()
		if _, err = c.Limits(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("Limits: %v, want the context's error", err)
		}
	})
}

func TestNewClient_NamesEveryBadArgument(t *testing.T) {
	t.Parallel()
	app := &sfapi.App{LoginURL: "http://login.salesforce.com", APIVersion: "latest", UserAgent: "a\nb"}
	_, err := sfapi.NewClient("001000000000001", app, nil, &sfapi.ClientConfig{MaxBodyBytes: -1, Timeout: -5, CompressOverBytes: -1})
	if err == nil {
		t.Fatal("NewClient accepted everything")
	}
	for _, field := range []string{"org:", "ClientID", "LoginURL", "APIVersion", "UserAgent", "tokens", "MaxBodyBytes", "Timeout", "CompressOverBytes"} {
		if !strings.Contains(err.Error(), field) {
			t.Errorf("%v\ndoes not name %s", err, field)
		}
	}
	if _, err := sfapi.NewClient(testOrg, nil, nil, nil); err == nil {
		t.Error("NewClient accepted a nil App")
	}
}
