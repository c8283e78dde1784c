package runner_test

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"

	"github.com/weirhq/weir/jobs"
	"github.com/weirhq/weir/runner"
	"github.com/weirhq/weir/sfapi"
	"github.com/weirhq/weir/sfapi/sftest"
)

// Salesforce, and proxies before it, repeat in their answers what they were
// sent. None of it is found in the clear in a table, a log line, an error, a
// page or an event.
func TestNoSecretInTheClear(t *testing.T) {
	t.Parallel()
	onBoth(t,
		func(t *testing.T, f *fixture[*sql.Tx]) {
			testNoSecretInTheClear(t, f, `SELECT name FROM sqlite_schema WHERE type = 'table'`)
		},
		func(t *testing.T, f *fixture[pgx.Tx]) {
			testNoSecretInTheClear(t, f, `SELECT tablename AS name FROM pg_tables WHERE schemaname = current_schema()`)
		})
}

func testNoSecretInTheClear[TTx any](t *testing.T, f *fixture[TTx], tables string) {
	seen := new(lockedBuffer)
	hook := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintln(seen, r.Header, string(body))
	}))
	t.Cleanup(hook.Close)
	f.org.Seed("Account", 3, 1)
	jobs.AddMirror(f.handlers, "Account", nil)
	jobs.AddWorker(f.handlers, func(ctx context.Context, client *sfapi.Client, job *river.Job[ask]) error {
		err := askOnce(ctx, client, job)
		if err != nil { // an app that prints all that there is
			err = fmt.Errorf("ask %+v with %+v: %w", job.Args, client, err)
		}
		return err
	})
	secret := whsec('s')
	r := f.running(t, func(c *runner.Config[TTx]) {
		c.Logger = slog.New(slog.NewJSONHandler(seen, &slog.HandlerOptions{Level: slog.LevelDebug}))
		c.Webhook = webhookTo(hook.URL, secret)
	})
	try := func(echo *sftest.Injected, args river.JobArgs, attempts int) {
		t.Helper()
		res, err := r.Insert(t.Context(), args, &river.InsertOpts{MaxAttempts: attempts})
		noError(t, err)
		hits := echo.Hits()
		eventually(t, "the org repeats what it was sent", func() bool { return echo.Hits() > hits })
		if attempts == 1 {
			fmt.Fprintf(seen, "%+v\n", f.ended(t, r, res.Job.ID))
		}
	}

	// A call's session, in the forms that an answer may have it in.
	for _, form := range []func(authorization string) string{
		func(a string) string {
			return `[{"errorCode":"UNKNOWN_EXCEPTION","message":"no such header: ` + a + `"}]`
		},
		func(a string) string {
			return `[{"errorCode":"MALFORMED_QUERY","message":"sid=` + url.QueryEscape(strings.TrimPrefix(a, "Bearer ")) + `"}]`
		},
		func(a string) string {
			return "<html><body>Error in https://x.example/page?oauth_token=" + strings.TrimPrefix(a, "Bearer ") + "</body></html>"
		},
		func(a string) string { return "Authorization: " + a },
	} {
		echo := f.org.Inject(echoing("/query", http.StatusBadRequest, func(r *http.Request) string { return form(r.Header.Get("Authorization")) }))
		try(echo, ask{Org: f.orgID}, 1)
		try(echo, jobs.Sync{Org: f.orgID, Object: "Account"}, 0)
		echo.Remove()
	}
	// What the token endpoint was sent: trouble that passes, then a refusal.
	for _, status := range []int{http.StatusServiceUnavailable, http.StatusBadRequest} {
		f.org.ExpireSessions()
		echo := echoing("/services/oauth2/token", status, func(r *http.Request) string {
			_ = r.ParseForm()
			text, _ := json.Marshal(map[string]string{"error": "server_error", "error_description": "refresh_token=" + r.Form.Get("refresh_token") + " client_secret " + r.Form.Get("client_secret")})
			return string(text)
		})
		try(f.sim.Inject(echo.Next(1)), ask{Org: f.orgID}, 0)
	}
	f.org.RevokeAll()
	if res, err := r.Insert(t.Context(), ask{Org: f.orgID}, nil); err != nil {
		t.Fatal(err)
	} else {
		fmt.Fprintf(seen, "%+v\n", f.ended(t, r, res.Job.ID))
	}
	eventually(t, "the event", func() bool { return len(f.reauths(t, r)) == 1 })

	// All that can be asked for.
	ctx, orgs := t.Context(), r.Orgs()
	org, err := orgs.Get(ctx, f.orgID)
	noError(t, err)
	failed, err := orgs.FailedCalls(ctx, f.orgID, 0)
	noError(t, err)
	tokens, err := orgs.TokenCalls(ctx, f.orgID, 0)
	noError(t, err)
	errs, err := orgs.Errors(ctx, f.orgID, time.Time{})
	noError(t, err)
	events, err := r.Events(ctx, 0, 0)
	noError(t, err)
	for _, v := range []any{org, failed, tokens, errs, events, f.config(t).App} {
		fmt.Fprintf(seen, "%+v\n%#v\n", v, v)
		noError(t, json.NewEncoder(seen).Encode(v))
	}
	page := httptest.NewRecorder()
	r.OrgsHandler(nil).ServeHTTP(page, httptest.NewRequest(http.MethodGet, "/", nil))
	fmt.Fprintln(seen, page.Body)
	if err := r.Stop(context.WithoutCancel(ctx)); err != nil { // writes what it holds
		t.Fatal(err)
	}
	rows := 0
	for _, table := range f.table(t, tables) {
		for _, row := range f.table(t, fmt.Sprintf("SELECT * FROM %q", *table["name"])) {
			rows++
			for column, v := range row {
				if v != nil {
					fmt.Fprintln(seen, *table["name"], column, *v)
				}
			}
		}
	}
	if rows < 20 || len(failed) == 0 || len(tokens) == 0 {
		t.Fatalf("%d rows, %d failed calls, %d token calls: too little happened", rows, len(failed), len(tokens))
	}
	secrets := append(f.sim.Secrets(), strings.TrimPrefix(string(secret), "whsec_"))
	if len(secrets) < 4 {
		t.Fatalf("%d secrets", len(secrets))
	}
	for _, line := range bytes.Split(seen.Bytes(), []byte("\n")) {
		for _, leaked := range sftest.Leaks(line, secrets...) {
			t.Errorf("%.20q in the clear: %.600s", leaked, line)
		}
	}
	if !bytes.Contains(seen.Bytes(), []byte("REDACTED")) {
		t.Error("nothing that was repeated was kept")
	}
	for _, s := range secrets { // that it would be found
		for _, form := range []string{s, hex.EncodeToString([]byte(s)), base64.StdEncoding.EncodeToString([]byte("a" + s))} {
			if len(sftest.Leaks(append(seen.Bytes(), form...), s)) != 1 {
				t.Errorf("%q would not be found", form)
			}
		}
	}
}

// echoing answers calls to a path with what they sent.
func echoing(path string, status int, body func(*http.Request) string) sftest.Fault {
	return sftest.Fault{Name: "echo", Path: path, Respond: func(r *http.Request) *http.Response {
		text := body(r)
		return &http.Response{StatusCode: status, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(text))}
	}}
}

// lockedBuffer is a buffer that many write to.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) Bytes() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Clone(l.b.Bytes())
}
