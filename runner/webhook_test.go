package runner_test

import (
	"context"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/weirhq/weir/breaker"
	"github.com/weirhq/weir/runner"
	"github.com/weirhq/weir/sfapi"
)

// whsec makes a secret of 32 equal bytes.
func whsec(b byte) sfapi.Secret {
	return sfapi.Secret("whsec_" + base64.StdEncoding.EncodeToString([]byte(strings.Repeat(string(b), 32))))
}

// receiver is a webhook's receiver. It verifies each request with the
// specification's own library, and answers as the test's script has it.
type receiver struct {
	*httptest.Server

	t       *testing.T
	secrets []sfapi.Secret // each must verify
	// answer answers the nth request, from 0.
	answer func(w http.ResponseWriter, r *http.Request, n int)

	mu  sync.Mutex
	got []delivery
}

// delivery is a request that verified.
type delivery struct {
	ID   string
	Body struct {
		Type      string          `json:"type"`
		Timestamp time.Time       `json:"timestamp"`
		Data      json.RawMessage `json:"data"`
	}
	Event runner.Event
}

func newReceiver(t *testing.T, answer func(w http.ResponseWriter, r *http.Request, n int), secrets ...sfapi.Secret) *receiver {
	t.Helper()
	r := &receiver{t: t, secrets: secrets, answer: answer}
	r.Server = httptest.NewServer(http.HandlerFunc(r.serve))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) serve(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		r.t.Errorf("read request: %v", err)
	}
	for _, secret := range r.secrets {
		verifier, err := standardwebhooks.NewWebhook(string(secret))
		if err != nil {
			r.t.Error(err)
			return
		}
		if err := verifier.Verify(body, req.Header); err != nil {
			r.t.Errorf("verify: %v", err)
		}
	}
	d := delivery{ID: req.Header.Get(standardwebhooks.HeaderWebhookID)}
	if err := json.Unmarshal(body, &d.Body); err != nil {
		r.t.Errorf("body: %v", err)
	}
	if err := json.Unmarshal(d.Body.Data, &d.Event); err != nil {
		r.t.Errorf("data: %v", err)
	}
	r.mu.Lock()
	n := len(r.got)
	r.got = append(r.got, d)
	r.mu.Unlock()
	r.answer(w, req, n)
}

func (r *receiver) deliveries() []delivery {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.got)
}

func accept(w http.ResponseWriter, _ *http.Request, _ int) { w.WriteHeader(http.StatusAccepted) }

// allEvents reads the whole feed, a few at a time.
func (f *fixture[TTx]) allEvents(t *testing.T, r *runner.Runner[TTx]) []*runner.Event {
	t.Helper()
	var all []*runner.Event
	for after := int64(0); ; {
		page, err := r.Events(t.Context(), after, 2)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			return all
		}
		all = append(all, page...)
		after = page[len(page)-1].ID
	}
}

// deliveryJobs are the jobs that deliver events, by kind and state.
func (f *fixture[TTx]) deliveryJobs(t *testing.T, r *runner.Runner[TTx], kind string) []*rivertype.JobRow {
	t.Helper()
	res, err := r.River().JobList(t.Context(), river.NewJobListParams().Kinds(kind).First(1000))
	if err != nil {
		t.Fatal(err)
	}
	return res.Jobs
}

func webhookTo(url string, secrets ...sfapi.Secret) *runner.Webhook {
	return &runner.Webhook{URL: url, Secrets: secrets, RetryMin: 10 * time.Millisecond, Timeout: 2 * time.Second}
}

// A webhook's receiver gets each event, signed with every secret, under the id
// that the feed and OnEvent have; trouble of one delivery repeats no other.
func TestWebhook(t *testing.T) {
	t.Parallel()
	onBoth(t, testWebhook[*sql.Tx], testWebhook[pgx.Tx])
}

func testWebhook[TTx any](t *testing.T, f *fixture[TTx]) {
	secrets := []sfapi.Secret{whsec('o'), whsec('n')}
	late := make(chan struct{})
	t.Cleanup(func() { close(late) })
	hook := newReceiver(t, func(w http.ResponseWriter, r *http.Request, n int) {
		switch n {
		case 0:
			w.WriteHeader(http.StatusInternalServerError)
			fmt.Fprint(w, strings.Repeat("a long story ", 100_000))
		case 1: // dropped
			panic(http.ErrAbortHandler)
		case 2: // too late for the sender
			select {
			case <-r.Context().Done():
			case <-late:
			}
		case 3:
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		case 4: // answers twice
			conn, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			fmt.Fprint(conn, strings.Repeat("HTTP/1.1 204 No Content\r\n\r\n", 2))
			conn.Close()
		default:
			w.WriteHeader(http.StatusOK)
		}
	}, secrets...)
	var seen events
	var handled sync.Map
	var log strings.Builder
	var logMu sync.Mutex
	r := f.running(t, func(c *runner.Config[TTx]) {
		c.Webhook = webhookTo(hook.URL+"/in?key=hunter2", secrets...)
		c.Webhook.Timeout = 300 * time.Millisecond
		c.OnEvent = func(ctx context.Context, e *runner.Event) error {
			if _, again := handled.LoadOrStore(e.ID, true); !again && e.Type == runner.EventOrgResumed {
				return errors.New("the app is not ready")
			}
			return seen.on(ctx, e)
		}
		c.Logger = slog.New(slog.NewTextHandler(lockedWriter{&logMu, &log}, nil))
	})
	if _, err := r.Orgs().Hold(t.Context(), f.orgID, breaker.Write); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the webhook is delivered", func() bool {
		jobs := f.deliveryJobs(t, r, "salesforce_webhook")
		return len(jobs) == 1 && jobs[0].State == rivertype.JobStateCompleted
	})
	feed := f.allEvents(t, r)
	if len(feed) != 1 {
		t.Fatalf("feed has %d events", len(feed))
	}
	got := hook.deliveries()
	if len(got) != 5 {
		t.Errorf("%d requests, want 5", len(got))
	}
	for _, d := range got {
		if d.ID != fmt.Sprintf("evt_%d", feed[0].ID) || d.Body.Type != "org.held" || !d.Body.Timestamp.Equal(feed[0].At) {
			t.Errorf("delivery %+v", d)
		}
		if diff := cmp.Diff(*feed[0], d.Event); diff != "" {
			t.Errorf("event (-feed +webhook):\n%s", diff)
		}
	}
	eventually(t, "OnEvent was told", func() bool { return len(seen.kinds()) == 1 })

	if _, err := r.Orgs().Resume(t.Context(), f.orgID); err != nil {
		t.Fatal(err)
	}
	eventually(t, "OnEvent was told again", func() bool {
		res, err := r.River().JobList(t.Context(), river.NewJobListParams().Kinds("salesforce_event").States(rivertype.JobStateRetryable, rivertype.JobStateAvailable))
		if err != nil {
			t.Fatal(err)
		}
		for _, job := range res.Jobs { // River's first retry is after a second
			if _, err := r.River().JobRetry(t.Context(), job.ID); err != nil {
				t.Fatal(err)
			}
		}
		return len(seen.kinds()) == 2
	})
	eventually(t, "the second event is delivered", func() bool { return len(hook.deliveries()) >= 6 })
	if n := len(hook.deliveries()); n != 6 {
		t.Errorf("%d requests, want 6: OnEvent's error repeated the webhook", n)
	}
	logMu.Lock()
	defer logMu.Unlock()
	for _, secret := range []string{"hunter2", string(secrets[0]), "long story"} {
		if strings.Contains(log.String(), secret) {
			t.Errorf("the log has %q:\n%s", secret, log.String())
		}
	}
	for _, job := range f.deliveryJobs(t, r, "salesforce_webhook") {
		for _, e := range job.Errors {
			if strings.Contains(e.Error, "hunter2") || strings.Contains(e.Error, "long story") {
				t.Errorf("a job's error has a secret: %s", e.Error)
			}
		}
	}
}

type lockedWriter struct {
	mu *sync.Mutex
	w  io.Writer
}

func (l lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

// 410 Gone ends the delivery of an event at once.
func TestWebhookGone(t *testing.T) {
	t.Parallel()
	f := sqliteFixture(t)
	hook := newReceiver(t, func(w http.ResponseWriter, _ *http.Request, _ int) { w.WriteHeader(http.StatusGone) }, whsec('a'))
	r := f.running(t, func(c *runner.Config[*sql.Tx]) { c.Webhook = webhookTo(hook.URL, whsec('a')) })
	if _, err := r.Orgs().Hold(t.Context(), f.orgID); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the delivery is cancelled", func() bool {
		jobs := f.deliveryJobs(t, r, "salesforce_webhook")
		return len(jobs) == 1 && jobs[0].State == rivertype.JobStateCancelled
	})
	if n := len(hook.deliveries()); n != 1 {
		t.Errorf("%d requests, want 1", n)
	}
}

// What cannot be right of a webhook is said at once, and without its secrets.
func TestWebhookConfig(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		webhook runner.Webhook
		fields  string
	}{
		"all is well":           {runner.Webhook{URL: "https://example.com/x?key=1", Secrets: []sfapi.Secret{whsec('a')}}, ""},
		"http on this machine":  {runner.Webhook{URL: "http://127.0.0.1:1/x", Secrets: []sfapi.Secret{whsec('a')}}, ""},
		"http on this network":  {runner.Webhook{URL: "http://receiver:8080", Secrets: []sfapi.Secret{whsec('a')}}, ""},
		"http over the world":   {runner.Webhook{URL: "http://example.com/hunter2", Secrets: []sfapi.Secret{whsec('a')}}, "Webhook.URL"},
		"http to an IP address": {runner.Webhook{URL: "http://93.184.216.34/", Secrets: []sfapi.Secret{whsec('a')}}, "Webhook.URL"},
		"a user":                {runner.Webhook{URL: "https://u:hunter2@example.com/", Secrets: []sfapi.Secret{whsec('a')}}, "Webhook.URL"},
		"nothing":               {runner.Webhook{}, "Webhook.URL Webhook.Secrets"},
		"no prefix":             {runner.Webhook{URL: "https://example.com", Secrets: []sfapi.Secret{whsec('a')[6:]}}, "Webhook.Secrets[0]"},
		"short":                 {runner.Webhook{URL: "https://example.com", Secrets: []sfapi.Secret{whsec('a'), "whsec_aHVudGVyMg=="}}, "Webhook.Secrets[1]"},
		"no base64":             {runner.Webhook{URL: "https://example.com", Secrets: []sfapi.Secret{"whsec_hunter2hunter2hunter2hunter2hunter2!"}}, "Webhook.Secrets[0]"},
		"negative times":        {runner.Webhook{URL: "https://example.com", Secrets: []sfapi.Secret{whsec('a')}, Timeout: -1, RetryMin: -1}, "Webhook.Timeout Webhook.RetryMin"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := sqliteFixture(t)
			cfg := f.config(t)
			cfg.Webhook = &c.webhook
			_, err := runner.New(f.driver, cfg)
			var fields []string
			if joined, ok := err.(interface{ Unwrap() []error }); ok {
				for _, err := range joined.Unwrap() {
					fields = append(fields, configFields(err)...)
				}
			}
			if got := strings.Join(fields, " "); got != c.fields {
				t.Errorf("fields %q, want %q: %v", got, c.fields, err)
			}
			if err != nil && strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the error has a secret: %v", err)
			}
		})
	}
}

func configFields(err error) []string {
	var fields []string
	joined, ok := err.(interface{ Unwrap() []error })
	if e, is := errors.AsType[*runner.ConfigError](err); is && !ok {
		return []string{e.Field}
	}
	if ok {
		for _, err := range joined.Unwrap() {
			fields = append(fields, configFields(err)...)
		}
	}
	return fields
}
