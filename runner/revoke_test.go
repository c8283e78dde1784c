package runner_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"

	"github.com/weirhq/weir/breaker"
	"github.com/weirhq/weir/jobs"
	"github.com/weirhq/weir/runner"
	"github.com/weirhq/weir/runner/internal/store"
	"github.com/weirhq/weir/sfapi"
	"github.com/weirhq/weir/sfapi/sftest"
)

// reauths are the feed's events that ask for a new grant.
func (f *fixture[TTx]) reauths(t *testing.T, r *runner.Runner[TTx]) []*runner.Event {
	t.Helper()
	var out []*runner.Event
	for _, e := range f.allEvents(t, r) {
		if e.Type == runner.EventReauthRequired {
			out = append(out, e)
		}
	}
	return out
}

// blocked is a job that runs until its context ends, or that calls.
type blocked struct {
	Org  sfapi.OrgID `json:"org"`
	N    int         `json:"n"`
	Call bool        `json:"call"`
}

func (blocked) Kind() string                                { return "blocked" }
func (b blocked) OrgID() sfapi.OrgID                        { return b.Org }
func (b blocked) Lane() breaker.Lane                        { return breaker.Sync }
func (f *fixture[TTx]) rows(t *testing.T, query string) int { return len(f.table(t, query)) }

// addBlocked works blocked jobs; started counts those that began, causes gets
// why each context ended.
func (f *fixture[TTx]) addBlocked(started *atomic.Int64, causes chan error) {
	jobs.AddWorker(f.handlers, func(ctx context.Context, client *sfapi.Client, job *river.Job[blocked]) error {
		if job.Args.Call {
			_, err := client.Limits(ctx)
			return err
		}
		started.Add(1)
		<-ctx.Done()
		causes <- context.Cause(ctx)
		return ctx.Err()
	})
}

// What runs when an org is revoked is told to end, in every process; what
// waits is cancelled; the event says how much.
func TestRevocationEndsRunningJobs(t *testing.T) {
	t.Parallel()
	onBoth(t, testRevocationEndsRunningJobs[*sql.Tx], testRevocationEndsRunningJobs[pgx.Tx])
}

func testRevocationEndsRunningJobs[TTx any](t *testing.T, f *fixture[TTx]) {
	const run, wait, records = 3, 40, 7
	var started atomic.Int64
	causes := make(chan error, run)
	f.addBlocked(&started, causes)
	r := f.running(t, func(c *runner.Config[TTx]) { c.SyncWindow = run })
	ctx := t.Context()
	if _, err := r.Orgs().Hold(ctx, f.orgID, breaker.Write); err != nil {
		t.Fatal(err)
	}
	var ids []int64
	for i := range run + wait {
		res, err := r.Insert(ctx, blocked{Org: f.orgID, N: i}, nil)
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, res.Job.ID)
	}
	var contacts []contact
	for i := range records {
		contacts = append(contacts, contact{"LastName": fmt.Sprint(i)})
	}
	receipt, err := r.Write(ctx, &jobs.Write{Org: f.orgID, Object: "Contact", Operation: jobs.Insert, Records: contacts})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the window is full", func() bool { return started.Load() == run })

	// Another process finds out: this runner is never started.
	cfg := f.config(t)
	cfg.Handlers = nil
	other, err := runner.New(f.driver, cfg)
	if err != nil {
		t.Fatal(err)
	}
	f.org.RevokeAll()
	if err := runner.Call(other, ctx, f.orgID); err == nil {
		t.Fatal("a call for a revoked org succeeded")
	}
	for range run {
		if cause := <-causes; !errors.Is(cause, rivertype.ErrJobCancelledRemotely) {
			t.Errorf("a context ended for %v", cause)
		}
	}
	for _, id := range ids {
		if job := f.ended(t, r, id); job.State != rivertype.JobStateCancelled {
			t.Errorf("job %d is %s", id, job.State)
		}
	}
	if c, err := r.Writes().Counts(ctx, f.orgID, receipt.ID); err != nil || c.Cancelled != records {
		t.Errorf("records: %+v, %v", c, err)
	}
	if n := started.Load(); n != run {
		t.Errorf("%d jobs ran, want %d", n, run)
	}
	var got []*runner.Event
	eventually(t, "the event is in the feed", func() bool { got = f.reauths(t, r); return len(got) > 0 })
	want := []*runner.Event{{
		Version: 1, Type: runner.EventReauthRequired, Org: f.orgID, Reason: breaker.ReasonReauth, Lanes: breaker.BothLanes,
		Cause: breaker.CauseRevoked, JobsCancelled: run + wait + 1, WritesCancelled: records,
	}}
	if d := cmp.Diff(want, got, cmpopts.IgnoreFields(runner.Event{}, "ID", "At", "Since")); d != "" {
		t.Errorf("events (-want +got):\n%s", d)
	}
	var raw map[string]any
	encoded, err := json.Marshal(got[0])
	if err == nil {
		err = json.Unmarshal(encoded, &raw)
	}
	if err != nil || raw["jobs_cancelled"] != float64(run+wait+1) || raw["version"] != float64(1) {
		t.Errorf("JSON %s, %v", encoded, err)
	}
	for name, insert := range map[string]func() error{
		"job": func() error { _, err := r.Insert(ctx, blocked{Org: f.orgID}, nil); return err },
		"write": func() error {
			_, err := r.Write(ctx, &jobs.Write{Org: f.orgID, Object: "Contact", Operation: jobs.Insert, Records: contacts})
			return err
		},
	} {
		if err := insert(); !errors.Is(err, runner.ErrReauthRequired) {
			t.Errorf("%s for a revoked org: %v", name, err)
		}
	}
}

// Twenty jobs on three processes meet the revocation at once: one event, one
// delivery of it, each time.
func TestRevocationIsToldOnce(t *testing.T) {
	t.Parallel()
	const rounds, processes, callers = 20, 3, 20
	f := postgresFixture(t)
	hook := newReceiver(t, accept, whsec('a'))
	var started atomic.Int64
	f.addBlocked(&started, make(chan error, 1))
	change := func(c *runner.Config[pgx.Tx]) {
		c.SyncWindow, c.Webhook = callers, webhookTo(hook.URL, whsec('a'))
	}
	r := f.running(t, change)
	for range processes - 1 {
		start(t, f.migrated(t, change))
	}
	for round := range rounds {
		// The session is over and the grant dead, and each job finds out.
		f.org.ExpireSessions()
		f.org.RevokeAll()
		many := make([]int64, callers)
		err := f.inTx(func(tx pgx.Tx) error {
			for i := range many {
				res, err := r.InsertTx(t.Context(), tx, blocked{Org: f.orgID, N: i, Call: true}, nil)
				if err != nil {
					return err
				}
				many[i] = res.Job.ID
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, id := range many {
			if job := f.ended(t, r, id); job.State != rivertype.JobStateCancelled {
				t.Errorf("job %d is %s", id, job.State)
			}
		}
		eventually(t, "the event is delivered", func() bool {
			for _, job := range f.deliveryJobs(t, r, "salesforce_webhook") {
				if job.State != rivertype.JobStateCompleted {
					return false
				}
			}
			return len(f.reauths(t, r)) >= round+1
		})
		f.connect(t, r)
	}
	told := make(map[string]int)
	for _, d := range hook.deliveries() {
		if d.Body.Type == string(runner.EventReauthRequired) {
			told[d.ID]++
		}
	}
	want := make(map[string]int)
	for _, e := range f.reauths(t, r) {
		want[fmt.Sprint("evt_", e.ID)] = 1
		if e.JobsCancelled > callers {
			t.Errorf("%d jobs cancelled, there were %d", e.JobsCancelled, callers)
		}
	}
	eventually(t, "all deliveries arrived", func() bool { return len(hook.deliveries()) >= 3*rounds })
	if len(want) != rounds || !cmp.Equal(told, want) {
		t.Errorf("events %v, deliveries %v, want %d", want, told, rounds)
	}
}

// dying is a store whose process dies at a step: from there on nothing of it
// reaches the database.
type dying[TTx any] struct {
	store.Store[TTx]

	steps atomic.Int64 // left to live
}

var errDead = errors.New("the process is dead")

func (d *dying[TTx]) step() error {
	if d.steps.Add(-1) < 0 {
		return errDead
	}
	return nil
}

func (d *dying[TTx]) InTx(ctx context.Context, fn func(ctx context.Context, tx TTx) error) error {
	if err := d.step(); err != nil {
		return err
	}
	return d.Store.InTx(ctx, func(ctx context.Context, tx TTx) error {
		if err := fn(ctx, tx); err != nil {
			return err
		}
		return d.step() // dead before the commit
	})
}

func (d *dying[TTx]) OpenCancellations(ctx context.Context, after int64, since time.Time, limit int) ([]*store.Cancellation, error) {
	if err := d.step(); err != nil {
		return nil, err
	}
	return d.Store.OpenCancellations(ctx, after, since, limit)
}

// A process that dies at any step of a revocation, a disconnect or a reconnect
// changes nothing: the next finishes it.
func TestDeathWhileCancelling(t *testing.T) {
	t.Parallel()
	onBoth(t, testDeathWhileCancelling[*sql.Tx], testDeathWhileCancelling[pgx.Tx])
}

func testDeathWhileCancelling[TTx any](t *testing.T, f *fixture[TTx]) {
	const waiting, records = 6, 4
	f.addBlocked(new(atomic.Int64), make(chan error, 1))
	ctx := t.Context()
	r := f.migrated(t)
	f.connect(t, r)
	events := 0
	died := false
	for step := int64(1); ; step++ {
		// Another life: jobs and records wait, nobody works.
		for i := range waiting {
			if _, err := r.Insert(ctx, blocked{Org: f.orgID, N: i}, nil); err != nil {
				t.Fatal(err)
			}
		}
		var contacts []contact
		for i := range records {
			contacts = append(contacts, contact{"LastName": fmt.Sprint(i)})
		}
		receipt, err := r.Write(ctx, &jobs.Write{Org: f.orgID, Object: "Contact", Operation: jobs.Insert, Records: contacts})
		if err != nil {
			t.Fatal(err)
		}
		f.org.ExpireSessions()
		f.org.RevokeAll()
		mortal := &dying[TTx]{Store: f.driver.Store()}
		cfg := f.config(t)
		cfg.Handlers = nil
		dead, err := runner.New(runner.NewDriver[TTx](mortal), cfg)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := dead.Orgs().Get(ctx, f.orgID); err != nil {
			t.Fatal(err)
		}
		mortal.steps.Store(step)
		_ = runner.Call(dead, ctx, f.orgID)
		survived := mortal.steps.Load() >= 0
		died = died || !survived

		// The next process notices for itself where the other had not.
		if err := runner.Call(r, ctx, f.orgID); err == nil {
			t.Fatal("a call for a revoked org succeeded")
		}
		if err := runner.WorkCancellations(r, ctx); err != nil {
			t.Fatal(err)
		}
		events++
		all := f.reauths(t, r)
		if len(all) != events {
			t.Fatalf("step %d: %d events, want %d", step, len(all), events)
		}
		if e := all[events-1]; e.JobsCancelled != waiting+1 || e.WritesCancelled != records {
			t.Errorf("step %d: %d jobs and %d records cancelled", step, e.JobsCancelled, e.WritesCancelled)
		}
		if c, err := r.Writes().Counts(ctx, f.orgID, receipt.ID); err != nil || c.Cancelled != records {
			t.Errorf("step %d: records %+v, %v", step, c, err)
		}
		if n := f.rows(t, "SELECT id FROM river_job WHERE kind IN ('blocked', 'salesforce_write') AND state = 'available'"); n != 0 {
			t.Errorf("step %d: %d jobs wait", step, n)
		}

		// The same for the reconnect: it dies after the grant was saved.
		p := &runner.ConnectParams{RefreshToken: sfapi.Secret(f.org.Grant()), Requeue: true}
		mortal.steps.Store(2 + step%5)
		if _, _, err := dead.Orgs().Connect(ctx, p); err != nil {
			t.Fatal(err)
		}
		if err := runner.WorkCancellations(r, ctx); err != nil {
			t.Fatal(err)
		}
		if c, err := r.Writes().Counts(ctx, f.orgID, receipt.ID); err != nil || c.Pending != records {
			t.Errorf("step %d: after the reconnect records %+v, %v", step, c, err)
		}
		if n := f.rows(t, "SELECT id FROM river_job WHERE kind = 'blocked' AND state = 'available'"); n != waiting {
			t.Errorf("step %d: after the reconnect %d jobs wait, want %d", step, n, waiting)
		}
		if org := f.get(t, r); len(org.Holds) != 0 || org.State != runner.OrgConnected {
			t.Errorf("step %d: after the reconnect %+v", step, org)
		}
		if n := f.rows(t, "SELECT id FROM weir_org WHERE sync_held OR write_held"); n != 0 {
			t.Errorf("step %d: after the reconnect the gate is closed", step)
		}

		// And for the disconnect, which leaves nothing for the next life.
		mortal.steps.Store(2 + step)
		_ = dead.Orgs().Disconnect(ctx, f.orgID)
		if err := runner.WorkCancellations(r, ctx); err != nil {
			t.Fatal(err)
		}
		if n := f.rows(t, "SELECT id FROM weir_org WHERE access IS NOT NULL OR refresh IS NOT NULL"); n != 0 {
			t.Errorf("step %d: a disconnected org has secrets", step)
		}
		if org := f.get(t, r); org.State != runner.OrgDisconnected {
			t.Errorf("step %d: after the disconnect the org is %s", step, org.State)
		}
		if n := f.rows(t, "SELECT id FROM river_job WHERE kind IN ('blocked', 'salesforce_write') AND state = 'available'"); n != 0 {
			t.Errorf("step %d: %d jobs of a disconnected org wait", step, n)
		}
		if n := f.org.Calls(sftest.OpRevoke); n == 0 {
			t.Errorf("step %d: the grant was not revoked", step)
		}
		f.org.ResetAudit()
		f.connect(t, r)
		if survived {
			break
		}
	}
	if !died || events < 4 {
		t.Errorf("died %v in %d lives", died, events)
	}
}
