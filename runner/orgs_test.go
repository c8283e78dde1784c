package runner_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"net/http"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"

	"github.com/weirhq/weir/breaker"
	"github.com/weirhq/weir/jobs"
	"github.com/weirhq/weir/runner"
	"github.com/weirhq/weir/sfapi"
	"github.com/weirhq/weir/sfapi/sftest"
)

func onPage[T any](context.Context, *sql.Tx, *jobs.Page[T]) error { return nil }

// lead is a job of the app's own.
type lead struct {
	Org   sfapi.OrgID `json:"org"`
	Email string      `json:"email"`
}

func (lead) Kind() string         { return "app_lead" }
func (l lead) OrgID() sfapi.OrgID { return l.Org }
func (lead) Lane() breaker.Lane   { return breaker.Write }

func onLead(context.Context, *sfapi.Client, *river.Job[lead]) error { return nil }

var _ jobs.LaneArgs = lead{}

func TestOrgs(t *testing.T) {
	t.Parallel()
	onBoth(t, testOrgs[*sql.Tx], testOrgs[pgx.Tx])
}

func testOrgs[TTx any](t *testing.T, f *fixture[TTx]) {
	f.org.SetRotation(true)
	r := f.migrated(t)
	ctx := t.Context()
	if _, err := r.Orgs().Get(ctx, f.orgID); !errors.Is(err, runner.ErrOrgNotFound) {
		t.Errorf("before connecting: %v", err)
	}
	if _, _, err := r.Orgs().Connect(ctx, &runner.ConnectParams{RefreshToken: "5Aep861nonsense"}); sfapi.KindOf(err) != sfapi.KindRevoked {
		t.Errorf("with a token that is none: %v is %v", err, sfapi.KindOf(err))
	}
	if list, err := r.Orgs().List(ctx, nil); err != nil || len(list) != 0 {
		t.Errorf("a refused grant left %d orgs, %v", len(list), err)
	}
	grant := f.org.Grant()
	org, created, err := r.Orgs().Connect(ctx, &runner.ConnectParams{RefreshToken: sfapi.Secret(grant), Label: "Acme & Söhne"})
	if err != nil {
		t.Fatal(err)
	}
	if !created || org.ID != f.orgID || org.Label != "Acme & Söhne" || org.State != runner.OrgConnected || org.InstanceURL != f.org.InstanceURL() || org.UserID == "" {
		t.Errorf("created %v: %+v", created, org)
	}
	again, created, err := r.Orgs().Connect(ctx, &runner.ConnectParams{RefreshToken: sfapi.Secret(f.org.Grant())})
	if err != nil || created || again.Generation <= org.Generation || again.Label != org.Label {
		t.Errorf("connected again: created %v, %+v, %v", created, again, err)
	}
	list, err := r.Orgs().List(ctx, &runner.OrgListParams{Query: "söhne"})
	if err != nil || len(list) != 1 {
		t.Errorf("search found %d, %v", len(list), err)
	}
	if err := r.Orgs().Disconnect(ctx, f.orgID); err != nil {
		t.Fatal(err)
	}
	if gone, err := r.Orgs().Get(ctx, f.orgID); err != nil || gone.State != runner.OrgDisconnected {
		t.Errorf("after disconnecting: %+v, %v", gone, err)
	}
	if n := f.org.Calls(sftest.OpRevoke); n != 1 {
		t.Errorf("%d revoke calls", n)
	}
}

// No token lies in the database in clear.
func TestSecretsAreSealed(t *testing.T) {
	t.Parallel()
	onBoth(t, testSecretsAreSealed[*sql.Tx], testSecretsAreSealed[pgx.Tx])
}

func testSecretsAreSealed[TTx any](t *testing.T, f *fixture[TTx]) {
	f.org.Seed("Account", 10, 1)
	jobs.AddMirror(f.handlers, "Account", nil)
	var mu sync.Mutex
	var tokens []string
	r := f.running(t, func(c *runner.Config[TTx]) {
		c.Transport = roundTripper(func(req *http.Request) (*http.Response, error) {
			if auth := req.Header.Get("Authorization"); auth != "" {
				mu.Lock()
				tokens = append(tokens, auth[len("Bearer "):])
				mu.Unlock()
			}
			return f.sim.RoundTrip(req)
		})
	})
	f.completed(t, r, jobs.Sync{Object: "Account"})
	if len(tokens) == 0 {
		t.Fatal("no call carried a token")
	}
	for _, query := range []string{"SELECT * FROM weir_org", "SELECT * FROM river_job"} {
		for _, row := range f.table(t, query) {
			for name, v := range row {
				for _, token := range tokens {
					if v != nil && bytes.Contains([]byte(*v), []byte(token)) {
						t.Errorf("%s: column %s holds a token in clear", query, name)
					}
				}
			}
		}
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// A job of the app's own gets a client bound to its org, in its lane.
func TestAppJob(t *testing.T) {
	t.Parallel()
	onBoth(t, testAppJob[*sql.Tx], testAppJob[pgx.Tx])
}

func testAppJob[TTx any](t *testing.T, f *fixture[TTx]) {
	jobs.AddWorker(f.handlers, func(ctx context.Context, client *sfapi.Client, job *river.Job[lead]) error {
		if client.Org() != job.Args.Org {
			return errors.New("client of another org")
		}
		_, err := client.Create(ctx, "Contact", map[string]string{"LastName": "Lead", "Email": job.Args.Email})
		return err
	})
	r := f.running(t)
	f.org.ExpireSessions() // the client refreshes by itself
	res, err := r.Insert(t.Context(), lead{Org: f.orgID, Email: "lead@example.com"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if want := breaker.Write.Queue(f.orgID); res.Job.Queue != want {
		t.Errorf("waits in %s, want %s", res.Job.Queue, want)
	}
	if job := f.ended(t, r, res.Job.ID); job.State != rivertype.JobStateCompleted {
		t.Errorf("job is %s: %+v", job.State, job.Errors)
	}
	if n := f.org.Count("Contact"); n != 1 {
		t.Errorf("the org has %d contacts", n)
	}
	var fe *jobs.FieldError
	if _, err := r.Insert(t.Context(), lead{Org: "nonsense"}, nil); !errors.As(err, &fe) {
		t.Errorf("args without an org: %v", err)
	}
	// River's own client puts it into the lane too.
	direct, err := r.River().Insert(t.Context(), lead{Org: f.orgID, Email: "x@example.com"}, nil)
	if err != nil || direct.Job.Queue != breaker.Write.Queue(f.orgID) {
		t.Errorf("through River: %+v, %v", direct, err)
	}
}

// An app that runs River already passes its configuration: its workers and
// queues go on.
type ping struct {
	Word string `json:"word"`
}

func (ping) Kind() string { return "app_ping" }

func TestAppRiverConfig(t *testing.T) {
	t.Parallel()
	onBoth(t, testAppRiverConfig[*sql.Tx], testAppRiverConfig[pgx.Tx])
}

func testAppRiverConfig[TTx any](t *testing.T, f *fixture[TTx]) {
	workers := river.NewWorkers()
	heard := make(chan string, 1)
	river.AddWorker(workers, river.WorkFunc(func(_ context.Context, job *river.Job[ping]) error {
		heard <- job.Args.Word
		return nil
	}))
	r := f.running(t, func(c *runner.Config[TTx]) {
		c.River = &river.Config{Workers: workers, Queues: map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: 2}}}
	})
	if _, err := r.Insert(t.Context(), ping{"hello"}, nil); err != nil {
		t.Fatal(err)
	}
	if word := <-heard; word != "hello" {
		t.Errorf("heard %q", word)
	}
}

// A runner without handlers enqueues and does not start.
func TestEnqueueOnly(t *testing.T) {
	t.Parallel()
	onBoth(t, testEnqueueOnly[*sql.Tx], testEnqueueOnly[pgx.Tx])
}

func testEnqueueOnly[TTx any](t *testing.T, f *fixture[TTx]) {
	r := f.migrated(t, func(c *runner.Config[TTx]) { c.Handlers = nil })
	f.connect(t, r)
	if err := r.Start(t.Context()); !errors.Is(err, runner.ErrNoHandlers) {
		t.Errorf("start: %v", err)
	}
	if _, err := r.Insert(t.Context(), jobs.Sync{Org: f.orgID, Object: "Account"}, nil); err != nil {
		t.Error(err)
	}
	if _, err := r.Insert(t.Context(), lead{Org: f.orgID}, nil); err != nil {
		t.Error(err)
	}
	if err := r.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}

// Two runners migrating an empty database at once do not disturb each other.
func TestMigrateTogether(t *testing.T) {
	t.Parallel()
	onBoth(t, testMigrateTogether[*sql.Tx], testMigrateTogether[pgx.Tx])
}

func testMigrateTogether[TTx any](t *testing.T, f *fixture[TTx]) {
	var all sync.WaitGroup
	for range 4 {
		r, err := runner.New(f.driver, f.config(t))
		if err != nil {
			t.Fatal(err)
		}
		all.Go(func() {
			if err := r.Migrate(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}
