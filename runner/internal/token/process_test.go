package token_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"

	"github.com/weirhq/weir/runner/internal/pgtest"
	"github.com/weirhq/weir/runner/internal/store"
	"github.com/weirhq/weir/runner/internal/token"
	"github.com/weirhq/weir/runner/runnerpgx"
	"github.com/weirhq/weir/sfapi"
	"github.com/weirhq/weir/sfapi/sftest"
)

const workerVar = "WEIR_TOKEN_TEST_WORKER"

// TestMain is a worker process of its own where a test started it as one.
func TestMain(m *testing.M) {
	if spec := os.Getenv(workerVar); spec != "" {
		if err := work(spec, os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// worker says what a worker process does.
type worker struct {
	Database, Login, Keyset string
	Org                     sfapi.OrgID
	Stop                    string // the point at which it stops, for its killer
}

// The points of a refresh at which a worker stops.
const (
	stopRecorded = "attempt recorded, nothing sent"
	stopAnswered = "answer received, nothing saved"
	stopSaved    = "saved, not used"
	stopWaiting  = "waiting for a sibling"
)

// stopping says where it is, and stays there.
type stopping struct {
	store.Credentials
	at  string
	out io.Writer
}

func (s stopping) stop(at string) {
	if s.at == at {
		fmt.Fprintln(s.out, "stopped")
		select {}
	}
}

func (s stopping) BeginRefresh(ctx context.Context, id sfapi.OrgID, stale int64, owner string, lease time.Duration, take bool) (*store.Credential, store.RefreshClaim, error) {
	c, claim, err := s.Credentials.BeginRefresh(ctx, id, stale, owner, lease, take)
	if claim == store.RefreshTaken {
		s.stop(stopRecorded)
	}
	return c, claim, err
}

func (s stopping) Credential(ctx context.Context, id sfapi.OrgID) (*store.Credential, error) {
	c, err := s.Credentials.Credential(ctx, id)
	if err == nil && c.Attempt.Owner != "" {
		s.stop(stopWaiting)
	}
	return c, err
}

func (s stopping) SaveRefresh(ctx context.Context, c *store.Credential, owner string) (int64, error) {
	s.stop(stopAnswered)
	generation, err := s.Credentials.SaveRefresh(ctx, c, owner)
	s.stop(stopSaved)
	return generation, err
}

// work reads commands, one a line, and answers each with a line: "load" loads
// the token, "calls n" makes n calls at once and answers how many failed.
func work(spec string, in io.Reader, out io.Writer) error {
	var cfg worker
	if err := json.Unmarshal([]byte(spec), &cfg); err != nil {
		return err
	}
	ctx := context.Background()
	pool, err := pgxpool.New(ctx, cfg.Database)
	if err != nil {
		return err
	}
	defer pool.Close()
	handle, err := insecurecleartextkeyset.Read(keyset.NewJSONReader(strings.NewReader(cfg.Keyset)))
	if err != nil {
		return err
	}
	sealer, err := aead.New(handle)
	if err != nil {
		return err
	}
	app := &sfapi.App{ClientID: "client", ClientSecret: "client-secret", LoginURL: cfg.Login}
	db := runnerpgx.New(pool).Store()
	m, err := token.New(stopping{db, cfg.Stop, out}, app, sealer, nil)
	if err != nil {
		return err
	}
	if err := m.Start(ctx); err != nil {
		return err
	}
	listen, stop := context.WithCancel(ctx)
	var listening sync.WaitGroup
	listening.Go(func() { _ = db.ListenOrgs(listen, m.Changed) })
	defer listening.Wait()
	defer stop()
	src := m.Source(cfg.Org)
	for lines := bufio.NewScanner(in); lines.Scan(); {
		command, arg, _ := strings.Cut(lines.Text(), " ")
		switch command {
		case "load":
			_, err := src.Token(ctx)
			fmt.Fprintln(out, or(err, "loaded"))
		case "calls":
			n, err := strconv.Atoi(arg)
			if err != nil {
				return err
			}
			client, err := sfapi.NewClient(cfg.Org, app, src, nil)
			if err != nil {
				return err
			}
			var calls sync.WaitGroup
			failed := make(chan error, n)
			for range n {
				calls.Go(func() {
					if _, err := client.Limits(ctx); err != nil {
						failed <- err
					}
				})
			}
			calls.Wait()
			close(failed)
			fmt.Fprintln(out, len(failed), "failed", or(<-failed, ""))
		}
	}
	return m.Close(ctx)
}

func or(err error, def string) string {
	if err != nil {
		return strings.ReplaceAll(err.Error(), "\n", " ")
	}
	return def
}

// process is a running worker.
type process struct {
	t   *testing.T
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Scanner
}

func (p *process) send(command string) {
	p.t.Helper()
	if _, err := fmt.Fprintln(p.in, command); err != nil {
		p.t.Fatal(err)
	}
}

func (p *process) receive(want string) {
	p.t.Helper()
	if !p.out.Scan() {
		p.t.Fatalf("worker ended: %s", p.cmd.Stderr)
	}
	if got := strings.TrimSpace(p.out.Text()); got != want {
		p.t.Fatalf("worker says %q, want %q", got, want)
	}
}

// kill ends the process with SIGKILL.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}

// fleet is a world on Postgres and on a listener, for worker processes.
type fleet struct {
	*world
	pool *pgxpool.Pool
	spec worker
}

func newFleet(t *testing.T) *fleet {
	t.Helper()
	url := pgtest.URL(t)
	pool := openPool(t, url)
	db := database[pgx.Tx]{runnerpgx.New(pool).Store()}
	if err := db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	handle, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		t.Fatal(err)
	}
	var clear bytes.Buffer
	if err := insecurecleartextkeyset.Write(handle, keyset.NewJSONWriter(&clear)); err != nil {
		t.Fatal(err)
	}
	sealer, err := aead.New(handle)
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, db)
	server := httptest.NewServer(w.sim)
	t.Cleanup(server.Close)
	w.sim.SetBaseURL(server.URL)
	w.sealer = sealer
	w.connect(w.org)
	return &fleet{w, pool, worker{Database: url, Login: server.URL, Keyset: clear.String(), Org: w.id}}
}

func (f *fleet) worker(t *testing.T, stop string) *process {
	t.Helper()
	spec := f.spec
	spec.Stop = stop
	env, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), workerVar+"="+string(env))
	cmd.Stderr = &bytes.Buffer{}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{t, cmd, in, bufio.NewScanner(out)}
	t.Cleanup(p.kill)
	p.send("load")
	p.receive("loaded")
	return p
}

// Four processes with fifty calls each, on one org whose session has died,
// twenty times.
func TestFourWorkerProcesses(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	var workers []*process
	for range 4 {
		workers = append(workers, f.worker(t, ""))
	}
	for round := range 20 {
		f.org.ExpireSessions()
		before := f.org.TokenCalls()
		for _, p := range workers {
			p.send("calls 50")
		}
		for _, p := range workers {
			p.receive("0 failed")
		}
		if n := f.org.TokenCalls() - before; n != 1 {
			t.Fatalf("round %d: %d token calls, want 1", round, n)
		}
	}
}

// A worker is killed at each point of a refresh, and another one goes on.
func TestKill9(t *testing.T) {
	t.Parallel()
	tests := []struct {
		stop    string
		keep    bool // the refresh token does not rotate
		calls   int64
		verdict []verdict
	}{
		{stop: stopRecorded, calls: 1},
		{stop: stopAnswered, calls: 2, verdict: []verdict{{sfapi.KindRevoked, token.CauseOutcomeUnknown}}},
		{stop: stopAnswered, keep: true, calls: 2},
		{stop: stopSaved, calls: 1},
	}
	for _, tt := range tests {
		t.Run(tt.stop, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t)
			if tt.keep {
				f.org.SetRotation(false)
				f.connect(f.org)
			}
			heir := f.process(func(c *token.Config) { c.Lease = heirLease })
			stale := f.token(heir)
			victim := f.worker(t, tt.stop)
			f.org.ExpireSessions()
			f.org.ResetAudit()
			victim.send("calls 50")
			victim.receive("stopped")
			victim.kill()
			late(t, f.pool)
			for range 3 {
				got, err := heir.Source(f.id).Refresh(t.Context(), stale)
				if tt.verdict == nil && (err != nil || !f.works(got)) {
					t.Fatalf("refresh: %v, want a token that works", err)
				}
				if tt.verdict != nil && !errors.As(err, new(*token.RefusedError)) {
					t.Fatalf("refresh: %v, want a refusal", err)
				}
			}
			if n := f.org.TokenCalls(); n != tt.calls {
				t.Errorf("%d token calls, want %d", n, tt.calls)
			}
			if diff := cmp.Diff(tt.verdict, f.judged()); diff != "" {
				t.Errorf("verdicts (-want +got):\n%s", diff)
			}
		})
	}
}

// A worker that is killed while it waits for a sibling takes nothing with it.
func TestKill9WhileWaiting(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	m := f.process(nil)
	stale := f.token(m)
	victim := f.worker(t, stopWaiting)
	f.org.ExpireSessions()
	release := make(chan struct{})
	reached := make(chan struct{})
	f.org.Inject(sftest.Fault{Name: "wait", Respond: func(*http.Request) *http.Response {
		close(reached)
		<-release
		return nil
	}}.On("POST", tokenPath).Next(1))
	result := make(chan error)
	go func() {
		_, err := m.Source(f.id).Refresh(context.Background(), stale)
		result <- err
	}()
	<-reached
	victim.send("calls 50")
	victim.receive("stopped")
	victim.kill()
	close(release)
	if err := <-result; err != nil {
		t.Errorf("refresh: %v", err)
	}
	if n := f.org.TokenCalls(); n != 1 {
		t.Errorf("%d token calls, want 1", n)
	}
}
