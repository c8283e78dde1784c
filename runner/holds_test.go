package runner_test

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river/rivertype"

	"github.com/weirhq/weir/breaker"
	"github.com/weirhq/weir/jobs"
	"github.com/weirhq/weir/runner"
	"github.com/weirhq/weir/sfapi/sftest"
)

// events collects what OnEvent is told.
type events struct {
	mu  sync.Mutex
	all []runner.Event
}

func (e *events) on(_ context.Context, ev *runner.Event) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.all = append(e.all, *ev)
	return nil
}

// kinds are the types and reasons of the events so far.
func (e *events) kinds() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	var out []string
	for _, ev := range e.all {
		out = append(out, fmt.Sprint(ev.Type, " ", ev.Reason))
	}
	slices.Sort(out)
	return out
}

// quickProbes makes holds end within a test's patience.
func quickProbes[TTx any](c *runner.Config[TTx]) {
	c.ProbeMin, c.ProbeMax = 50*time.Millisecond, 200*time.Millisecond
}

func (f *fixture[TTx]) get(t *testing.T, r *runner.Runner[TTx]) *runner.Org {
	t.Helper()
	org, err := r.Orgs().Get(t.Context(), f.orgID)
	if err != nil {
		t.Fatal(err)
	}
	return org
}

func (f *fixture[TTx]) waitForHold(t *testing.T, r *runner.Runner[TTx], reason breaker.Reason) breaker.Hold {
	t.Helper()
	var hold breaker.Hold
	eventually(t, fmt.Sprintf("the org is held for %s", reason), func() bool {
		for _, h := range f.get(t, r).Holds {
			if h.Reason == reason {
				hold = h
				return true
			}
		}
		return false
	})
	return hold
}

func (f *fixture[TTx]) waitForOpen(t *testing.T, r *runner.Runner[TTx]) {
	t.Helper()
	eventually(t, "no hold is left", func() bool { return len(f.get(t, r).Holds) == 0 })
}

// noAttemptBurned checks that no job of the lanes spent more than the one
// attempt it ended with, and that none has an error.
func (f *fixture[TTx]) noAttemptBurned(t *testing.T) {
	t.Helper()
	for _, row := range f.table(t, "SELECT id, kind, state, attempt, errors FROM river_job WHERE kind IN ('salesforce_sync', 'salesforce_write')") {
		if errs := row["errors"]; *row["attempt"] > "1" || errs != nil && *errs != "" && *errs != "[]" && *errs != "null" {
			t.Errorf("job %s %s is %s with attempt %s, errors %v", *row["id"], *row["kind"], *row["state"], *row["attempt"], row["errors"])
		}
	}
}

// Read-only mode stops the org's writes at the first refusal; its reads go on;
// the writes go on by themselves when it is over.
func TestMaintenance(t *testing.T) {
	t.Parallel()
	onBoth(t, testMaintenance[*sql.Tx], testMaintenance[pgx.Tx])
}

func testMaintenance[TTx any](t *testing.T, f *fixture[TTx]) {
	f.org.Seed("Account", 100, 1)
	jobs.AddMirror(f.handlers, "Account", nil)
	var seen events
	r := f.running(t, quickProbes, func(c *runner.Config[TTx]) { c.OnEvent = seen.on })
	f.org.SetReadOnly(sftest.ReadOnly)
	receipt, err := r.Write(t.Context(), &jobs.Write{
		Org: f.orgID, Object: "Contact", Operation: jobs.Upsert, ExternalID: "Ext__c",
		Records: []contact{{"Ext__c": "a", "LastName": "x"}, {"Ext__c": "b", "LastName": "y"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	hold := f.waitForHold(t, r, breaker.ReasonMaintenance)
	if hold.Lanes != breaker.LanesOf(breaker.Write) || hold.Advice == "" || len(hold.Evidence) == 0 {
		t.Errorf("hold %+v", hold)
	}
	if org := f.get(t, r); !org.Open(breaker.Sync) || org.Open(breaker.Write) {
		t.Errorf("sync open %v, write open %v", org.Open(breaker.Sync), org.Open(breaker.Write))
	}
	queue := breaker.Write.Queue(f.orgID)
	eventually(t, "River shows the lane paused", func() bool {
		rows := f.table(t, "SELECT paused_at FROM river_queue WHERE name = '"+queue+"'")
		return len(rows) == 1 && rows[0]["paused_at"] != nil
	})
	f.completed(t, r, jobs.Sync{Object: "Account"}) // reads go on
	writes := f.org.Calls(sftest.OpCollections)
	if c, err := r.Writes().Counts(t.Context(), f.orgID, receipt.ID); err != nil || c.Pending != 2 {
		t.Errorf("while held: %+v, %v", c, err)
	}

	f.org.SetReadOnly(sftest.ReadWrite)
	f.settled(t, r, receipt.ID)
	f.waitForOpen(t, r)
	if n := len(f.byExt(t, "Contact")); n != 2 {
		t.Errorf("the org has %d records, want 2", n)
	}
	if n := f.org.Calls(sftest.OpCollections) - writes; n > 3 {
		t.Errorf("%d write calls for two records after the window", n)
	}
	f.noAttemptBurned(t)
	eventually(t, "the refusal is counted", func() bool {
		counts, err := r.Orgs().Errors(t.Context(), f.orgID, hold.Since)
		return err == nil && len(counts) > 0 && strings.Contains(counts[0].Code, "MAINTENANCE")
	})
	eventually(t, "both events arrived", func() bool { return len(seen.kinds()) >= 2 })
	if got := strings.Join(seen.kinds(), ", "); got != "org.held maintenance, org.resumed maintenance" {
		t.Errorf("events: %s", got)
	}
	eventually(t, "River shows the lane open", func() bool {
		rows := f.table(t, "SELECT paused_at FROM river_queue WHERE name = '"+queue+"'")
		return len(rows) == 1 && rows[0]["paused_at"] == nil
	})
}

// What the org refuses for other causes stops both lanes, says why, and ends
// when the cause does.
func TestHoldReasons(t *testing.T) {
	t.Parallel()
	onBoth(t, testHoldReasons[*sql.Tx], testHoldReasons[pgx.Tx])
}

func testHoldReasons[TTx any](t *testing.T, f *fixture[TTx]) {
	f.org.Seed("Account", 10, 1)
	jobs.AddMirror(f.handlers, "Account", nil)
	r := f.running(t, quickProbes)
	f.completed(t, r, jobs.Sync{Object: "Account"})
	for _, c := range []struct {
		reason breaker.Reason
		begin  func()
		end    func()
	}{
		{breaker.ReasonAPIDisabled, func() { f.org.SetAPIEnabled(false) }, func() { f.org.SetAPIEnabled(true) }},
		{breaker.ReasonUnavailable, func() { f.org.Inject(sftest.HTMLError(503)) }, f.org.ClearFaults},
	} {
		c.begin()
		res, err := r.Insert(t.Context(), jobs.Sync{Org: f.orgID, Object: "Account"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		f.waitForHold(t, r, c.reason)
		c.end()
		if job := f.ended(t, r, res.Job.ID); job.State != rivertype.JobStateCompleted {
			t.Errorf("%s: job is %s, %+v", c.reason, job.State, job.Errors)
		}
		if c.reason != breaker.ReasonUnavailable {
			f.waitForOpen(t, r)
		}
	}
	f.noAttemptBurned(t)
}

// A dead grant cancels the org's work, once, and refuses more; a new grant
// opens the org again.
func TestRevoked(t *testing.T) {
	t.Parallel()
	onBoth(t, testRevoked[*sql.Tx], testRevoked[pgx.Tx])
}

func testRevoked[TTx any](t *testing.T, f *fixture[TTx]) {
	f.org.Seed("Account", 10, 1)
	jobs.AddMirror(f.handlers, "Account", nil)
	var seen events
	r := f.running(t, quickProbes, func(c *runner.Config[TTx]) { c.OnEvent = seen.on })
	f.org.RevokeAll()
	res, err := r.Insert(t.Context(), jobs.Sync{Org: f.orgID, Object: "Account"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	f.waitForHold(t, r, breaker.ReasonReauth)
	if job := f.ended(t, r, res.Job.ID); job.State != rivertype.JobStateCancelled {
		t.Errorf("job is %s", job.State)
	}
	if _, err := r.Insert(t.Context(), jobs.Sync{Org: f.orgID, Object: "Account"}, nil); err == nil {
		t.Error("a revoked org takes jobs")
	}
	calls := f.org.Calls()
	if _, err := r.Orgs().Resume(t.Context(), f.orgID); err != nil {
		t.Fatal(err)
	}
	if org := f.get(t, r); len(org.Holds) == 0 || org.State != runner.OrgRevoked {
		t.Errorf("an operator's resume opened a revoked org: %+v", org)
	}
	if n := f.org.Calls() - calls; n != 0 {
		t.Errorf("%d calls for a revoked org", n)
	}
	f.connect(t, r)
	f.completed(t, r, jobs.Sync{Object: "Account"})
	f.waitForOpen(t, r)
	eventually(t, "all events arrived", func() bool { return len(seen.kinds()) >= 3 })
	if got := strings.Join(seen.kinds(), ", "); got != "org.held reauth, org.reauth_required reauth, org.resumed reauth" {
		t.Errorf("events: %s", got)
	}
}

// An operator's hold stops a lane until he resumes it, here or in River UI.
func TestOperatorHold(t *testing.T) {
	t.Parallel()
	onBoth(t, testOperatorHold[*sql.Tx], testOperatorHold[pgx.Tx])
}

func testOperatorHold[TTx any](t *testing.T, f *fixture[TTx]) {
	f.org.Seed("Account", 10, 1)
	jobs.AddMirror(f.handlers, "Account", nil)
	r := f.running(t, quickProbes)
	ctx := t.Context()
	org, err := r.Orgs().Hold(ctx, f.orgID, breaker.Sync)
	if err != nil {
		t.Fatal(err)
	}
	if org.Open(breaker.Sync) || !org.Open(breaker.Write) {
		t.Errorf("held sync: %+v", org.Holds)
	}
	res, err := r.Insert(ctx, jobs.Sync{Org: f.orgID, Object: "Account"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Orgs().Probe(ctx, f.orgID); err != nil {
		t.Fatal(err)
	}
	f.write(t, r, jobs.Write{Object: "Contact", Operation: jobs.Insert, Records: []contact{{"LastName": "x"}}}) // the other lane runs
	if job, err := r.River().JobGet(ctx, res.Job.ID); err != nil || job.State != rivertype.JobStateAvailable || job.Attempt != 0 {
		t.Errorf("while held the sync is %+v, %v", job, err)
	}

	// Resume in River UI means probe now; only the operator's own act ends it.
	queue := breaker.Sync.Queue(f.orgID)
	if err := r.River().QueueResume(ctx, queue, nil); err != nil {
		t.Fatal(err)
	}
	eventually(t, "River shows the lane paused again, or the hold ended", func() bool {
		rows := f.table(t, "SELECT paused_at FROM river_queue WHERE name = '"+queue+"'")
		return len(f.get(t, r).Holds) == 0 || len(rows) == 1 && rows[0]["paused_at"] != nil
	})
	if _, err := r.Orgs().Resume(ctx, f.orgID); err != nil {
		t.Fatal(err)
	}
	f.ended(t, r, res.Job.ID)
	f.waitForOpen(t, r)

	// A pause pressed in River UI is a hold of ours.
	if err := r.River().QueuePause(ctx, queue, nil); err != nil {
		t.Fatal(err)
	}
	f.waitForHold(t, r, breaker.ReasonOperator)
}

// A fresh token that is refused again is diagnosed, and the org held for what
// was found; it is never called revoked.
func TestDiagnosedHold(t *testing.T) {
	t.Parallel()
	onBoth(t, testDiagnosedHold[*sql.Tx], testDiagnosedHold[pgx.Tx])
}

func testDiagnosedHold[TTx any](t *testing.T, f *fixture[TTx]) {
	f.org.Seed("Account", 10, 1)
	jobs.AddMirror(f.handlers, "Account", nil)
	r := f.running(t, quickProbes)
	f.completed(t, r, jobs.Sync{Object: "Account"})
	f.org.SetIPLock(sftest.IPSessions)
	res, err := r.Insert(t.Context(), jobs.Sync{Org: f.orgID, Object: "Account"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var reasons []string
	eventually(t, "the org is held", func() bool {
		reasons = nil
		for _, h := range f.get(t, r).Holds {
			reasons = append(reasons, string(h.Reason))
		}
		return len(reasons) > 0
	})
	for _, reason := range reasons {
		if reason == string(breaker.ReasonReauth) || reason == string(breaker.ReasonMaintenance) {
			t.Errorf("held for %v", reasons)
		}
	}
	tokens := f.org.TokenCalls()
	f.org.SetIPLock(sftest.IPOpen)
	if job := f.ended(t, r, res.Job.ID); job.State != rivertype.JobStateCompleted {
		t.Errorf("job is %s, %+v", job.State, job.Errors)
	}
	f.waitForOpen(t, r)
	if n := f.org.TokenCalls() - tokens; n > 20 {
		t.Errorf("%d token calls while the org was held", n)
	}
	f.noAttemptBurned(t)
}

// An org that says it left read-only mode and still refuses rows is one hold,
// however often it is tried.
func TestMaintenanceLies(t *testing.T) {
	t.Parallel()
	onBoth(t, testMaintenanceLies[*sql.Tx], testMaintenanceLies[pgx.Tx])
}

func testMaintenanceLies[TTx any](t *testing.T, f *fixture[TTx]) {
	var seen events
	r := f.running(t, func(c *runner.Config[TTx]) {
		// A probe that finds nothing tried since the last one believes the org:
		// there must be time for the trial, on a busy machine too.
		c.ProbeMin, c.ProbeMax, c.OnEvent = 2*time.Second, 2*time.Second, seen.on
	})
	refused := f.org.Inject(sftest.Static("rows refused", 200, nil, `[{"success":false,"errors":[{"statusCode":"INSERT_UPDATE_DELETE_NOT_ALLOWED_DURING_MAINTENANCE","message":"Updates can't be made during maintenance. Try again when maintenance is complete.","fields":[]}]}]`).On("PATCH", "/composite/sobjects"))
	receipt, err := r.Write(t.Context(), &jobs.Write{
		Org: f.orgID, Object: "Contact", Operation: jobs.Upsert, ExternalID: "Ext__c", Records: []contact{{"Ext__c": "a", "LastName": "x"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "several trials were refused", func() bool { return refused.Hits() >= 4 })
	f.org.ClearFaults()
	f.settled(t, r, receipt.ID)
	f.waitForOpen(t, r)
	eventually(t, "both events arrived", func() bool { return len(seen.kinds()) >= 2 })
	if got := strings.Join(seen.kinds(), ", "); got != "org.held maintenance, org.resumed maintenance" {
		t.Errorf("events: %s", got)
	}
	f.noAttemptBurned(t)
}
