package token_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"

	"github.com/weirhq/weir/runner/internal/store"
	"github.com/weirhq/weir/runner/internal/token"
	"github.com/weirhq/weir/sfapi"
	"github.com/weirhq/weir/sfapi/sftest"
)

// grants is what a test needs of a database.
type grants interface {
	store.Credentials
	connect(ctx context.Context, c *store.Credential) error
	disconnect(ctx context.Context, id sfapi.OrgID) error
}

// world is a simulated Salesforce whose refresh tokens rotate and whose spent
// ones kill the grant, a database, and any number of processes on it.
type world struct {
	t      testing.TB
	sim    *sftest.Sim
	org    *sftest.Org
	id     sfapi.OrgID
	app    *sfapi.App
	db     grants
	sealer token.Sealer
	logs   *logs

	mu       sync.Mutex
	verdicts []token.Verdict
	calls    []token.Call
	secrets  []string
}

func newWorld(t testing.TB, db grants) *world {
	t.Helper()
	sim := sftest.New(&sftest.Config{Apps: []sftest.App{{
		ClientID: "client", ClientSecret: "client-secret", Rotate: true,
	}}})
	w := &world{
		t: t, sim: sim, org: sim.AddOrg(nil), db: db, sealer: newSealer(t), logs: &logs{},
		app: &sfapi.App{ClientID: "client", ClientSecret: "client-secret", Transport: sim},
	}
	w.id = sfapi.OrgID(w.org.ID())
	w.connect(w.org)
	return w
}

// connect gives the database a new grant of org, with a live session.
func (w *world) connect(org *sftest.Org) {
	w.t.Helper()
	w.connectWith(org, org.Grant())
}

func (w *world) connectWith(org *sftest.Org, refresh string) {
	w.t.Helper()
	ctx := context.WithoutCancel(w.t.Context())
	tok, err := w.app.RefreshToken(ctx, org.LoginURL(), sfapi.Secret(refresh))
	if err != nil {
		w.t.Fatalf("first token: %v", err)
	}
	if tok.Refresh == "" { // not rotated: the one that was sent stays good
		tok.Refresh = sfapi.Secret(refresh)
	}
	w.keepSecrets(tok)
	w.seal(org, tok)
	org.ResetAudit()
}

func (w *world) seal(org *sftest.Org, tok *sfapi.Token) {
	w.t.Helper()
	m, err := token.New(w.db, w.app, w.sealer, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	defer m.Close(context.Background())
	cred, err := m.Seal(sfapi.OrgID(org.ID()), tok)
	if err != nil {
		w.t.Fatal(err)
	}
	cred.LoginURL = org.LoginURL()
	if err := w.db.connect(context.WithoutCancel(w.t.Context()), cred); err != nil {
		w.t.Fatal(err)
	}
}

// process is a Manager of its own, closed at the end of the test.
func (w *world) process(change func(*token.Config)) *token.Manager {
	w.t.Helper()
	return w.processOn(w.db, change)
}

func (w *world) processOn(db store.Credentials, change func(*token.Config)) *token.Manager {
	w.t.Helper()
	cfg := &token.Config{
		Owner:  "test",
		Logger: slog.New(slog.NewTextHandler(w.logs, &slog.HandlerOptions{Level: slog.LevelDebug})),
		OnVerdict: func(_ context.Context, v *token.Verdict) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.verdicts = append(w.verdicts, *v)
		},
		OnCall: func(_ context.Context, c *token.Call) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.calls = append(w.calls, *c)
		},
	}
	if change != nil {
		change(cfg)
	}
	m, err := token.New(db, w.app, w.sealer, cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { w.close(m) })
	return m
}

// close closes m as a process that ends in peace.
func (w *world) close(m *token.Manager) {
	w.t.Helper()
	if err := m.Close(context.Background()); err != nil {
		w.t.Errorf("close: %v", err)
	}
}

// kill ends m as nearly as kill -9 does: at once, whatever is under way.
func (w *world) kill(m *token.Manager) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = m.Close(ctx)
}

// token gets the current token of the org.
func (w *world) token(m *token.Manager) *sfapi.Token {
	w.t.Helper()
	tok, err := m.Source(w.id).Token(context.WithoutCancel(w.t.Context()))
	if err != nil {
		w.t.Fatalf("token: %v", err)
	}
	w.keepSecrets(tok)
	return tok
}

// works is whether the org takes a token for a call.
func (w *world) works(tok *sfapi.Token) bool {
	w.t.Helper()
	req, err := http.NewRequest(http.MethodGet, tok.InstanceURL+"/services/data/v66.0/limits", nil)
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+tok.Access.Reveal())
	res, err := w.sim.RoundTrip(req)
	if err != nil {
		w.t.Fatal(err)
	}
	res.Body.Close()
	return res.StatusCode == http.StatusOK
}

// call is what the API client does: a call, one refresh, the call again.
func (w *world) call(ctx context.Context, src sfapi.TokenSource) error {
	tok, err := src.Token(ctx)
	if err != nil {
		return err
	}
	if w.works(tok) {
		return nil
	}
	if tok, err = src.Refresh(ctx, tok); err != nil {
		return err
	}
	w.keepSecrets(tok)
	if !w.works(tok) {
		return errors.New("the fresh token was refused")
	}
	return nil
}

func (w *world) keepSecrets(tok *sfapi.Token) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range []sfapi.Secret{tok.Access, tok.Refresh} {
		if s != "" {
			w.secrets = append(w.secrets, s.Reveal())
		}
	}
}

// reasons is why tokens were asked for since the last time, in order.
func (w *world) reasons() []token.Reason {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []token.Reason
	for _, c := range w.calls {
		out = append(out, c.Reason)
	}
	w.calls = nil
	return out
}

// verdict is a Verdict without what differs from run to run.
type verdict struct {
	Kind  sfapi.Kind
	Cause token.Cause
}

// judged is the verdicts since the last time.
func (w *world) judged() []verdict {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []verdict
	for _, v := range w.verdicts {
		out = append(out, verdict{v.Kind, v.Cause})
	}
	w.verdicts = nil
	return out
}

// logs keeps what was logged.
type logs struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// clean fails the test when a token got out, in a log or in an error.
func (w *world) clean(texts ...string) {
	w.t.Helper()
	all := w.logs.String() + strings.Join(texts, "\n")
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.calls {
		all += fmt.Sprintf("%v %+v", c.Err, c)
	}
	for _, v := range w.verdicts {
		all += fmt.Sprintf("%v %+v %s", v.Err, v, v.Err.Body)
	}
	if len(w.secrets) == 0 {
		w.t.Error("no secret was in play: the scan proves nothing")
	}
	for _, s := range append(w.secrets, "client-secret") {
		if strings.Contains(all, s) {
			w.t.Errorf("a clear secret got out: %.12s…", s)
		}
	}
}

func newSealer(t testing.TB) token.Sealer {
	t.Helper()
	handle, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		t.Fatal(err)
	}
	primitive, err := aead.New(handle)
	if err != nil {
		t.Fatal(err)
	}
	return primitive
}

// refreshAll has n callers at each process call the org at the same time, with
// the token that is now current, and returns what failed.
func (w *world) refreshAll(processes []*token.Manager, n int) []error {
	stale := w.token(processes[0])
	for _, m := range processes {
		w.token(m)
	}
	w.org.ExpireSessions()
	var wg sync.WaitGroup
	var mu sync.Mutex
	var errs []error
	start := make(chan struct{})
	for _, m := range processes {
		for range n {
			wg.Go(func() {
				<-start
				err := w.call(context.Background(), m.Source(w.id))
				if err == nil {
					var t *sfapi.Token
					if t, err = m.Source(w.id).Token(context.Background()); err == nil && t.Generation <= stale.Generation {
						err = fmt.Errorf("generation %d after %d", t.Generation, stale.Generation)
					}
				}
				if err != nil {
					mu.Lock()
					errs = append(errs, err)
					mu.Unlock()
				}
			})
		}
	}
	close(start)
	wg.Wait()
	return errs
}
