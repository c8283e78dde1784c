// Hours of virtual time take the race detector minutes: `make test` runs these
// tests by themselves, without it.

//go:build !race

package runner_test

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/riverqueue/river"

	"github.com/weirhq/weir/breaker"
	"github.com/weirhq/weir/jobs"
	"github.com/weirhq/weir/sfapi"
	"github.com/weirhq/weir/sfapi/sftest"
)

// What Organization.IsReadOnly says during a window is not documented. Where it
// says false, one write a probe finds out, and the probes go on backing off.
func TestTimeTravelMaintenanceUnseenByTheProbe(t *testing.T) {
	inBubble(t, func(t *testing.T, w *timeTravel) {
		start(t, w.runner)
		lie := w.org.Inject(sftest.Fault{
			Name:  "says that it can write",
			Match: func(r *http.Request) bool { return strings.Contains(r.URL.RawQuery, "IsReadOnly") },
			Mangle: func(r *sftest.Reply) {
				r.Body = bytes.ReplaceAll(r.Body, []byte(`"IsReadOnly":true`), []byte(`"IsReadOnly":false`))
			},
		})
		w.org.SetReadOnly(sftest.ReadOnly)
		want := map[string][]string{}
		for i := range 4 {
			key := fmt.Sprint("key-", i)
			w.upsert(t, key, "v")
			want[key] = []string{"v"}
			time.Sleep(5 * time.Minute)
			w.onlyProbeJob(t, breaker.ReasonMaintenance)
		}
		hold := w.mustHold(t, breaker.ReasonMaintenance)
		probes := w.calls(hold.Since, isProbeOfOrganization)
		// The wait begins when the write that was let through is refused.
		w.backsOff(t, hold.Since, probes, resumed)
		if lie.Hits() == 0 || len(probes) < 4 {
			t.Fatalf("%d probes", len(probes))
		}
		if trials := len(w.calls(w.begin, isWrite)) - 1; trials > len(probes) {
			t.Errorf("%d writes on trial after %d probes", trials, len(probes))
		}
		w.org.SetReadOnly(sftest.ReadWrite)
		time.Sleep(time.Until(hold.NextProbe) + resumed)
		w.inOrder(t, want)
		w.noAttemptBurned(t)
		w.noProbeJob(t)
		w.wantEvents(t, "org.held maintenance", "org.resumed maintenance")
	})
}

// Sessions that die with the maintenance are part of it: the org is not asked
// for a new grant, its jobs are not cancelled, and its token is not refreshed
// again and again.
func TestTimeTravelSessionsFlipInMaintenance(t *testing.T) {
	inBubble(t, func(t *testing.T, w *timeTravel) {
		start(t, w.runner)
		w.org.SetReadOnly(sftest.ReadOnlySessions)
		closed := time.Now()
		w.upsert(t, "key", "v")
		time.Sleep(time.Minute)
		read := w.insertSync(t)
		time.Sleep(20 * time.Minute)
		hold := w.mustHold(t, breaker.ReasonMaintenance)
		if org := w.get(t, w.runner); len(org.Holds) != 1 || org.State != "connected" || hold.Lanes != breaker.BothLanes {
			t.Errorf("the org is %s, held by %+v", org.State, org.Holds)
		}
		w.onlyProbeJob(t, breaker.ReasonMaintenance)
		probes := w.calls(hold.Since, isProbeOfOrganization)
		// The first read, its replay and at most one refresh for each probe.
		if tokens, limit := len(w.calls(closed, isToken)), len(probes)+2; tokens > limit {
			t.Errorf("%d token requests in the maintenance, want at most %d", tokens, limit)
		}
		w.org.SetReadOnly(sftest.ReadWrite)
		// On trial the sync lane opens by steps, for which there is too little to
		// do: a second probe ends it.
		time.Sleep(time.Until(hold.NextProbe) + resumed + 2*time.Minute)
		if job := w.ended(t, w.runner, read); job.State != "completed" {
			t.Errorf("the sync is %s", job.State)
		}
		w.inOrder(t, map[string][]string{"key": {"v"}})
		w.noAttemptBurned(t)
		if holds := w.get(t, w.runner).Holds; len(holds) != 0 {
			t.Errorf("held after the maintenance: %+v", holds)
		}
		w.noProbeJob(t)
		w.wantEvents(t, "org.held maintenance", "org.resumed maintenance")
	})
}

// An operator's pause in a maintenance outlives it, and the maintenance goes
// on behind an operator's resume.
func TestTimeTravelOperatorInMaintenance(t *testing.T) {
	inBubble(t, func(t *testing.T, w *timeTravel) {
		start(t, w.runner)
		ctx, orgs := t.Context(), w.runner.Orgs()
		w.org.SetReadOnly(sftest.ReadOnly)
		w.upsert(t, "a", "1")
		time.Sleep(5 * time.Minute)
		w.mustHold(t, breaker.ReasonMaintenance)
		if _, err := orgs.Hold(ctx, w.orgID, breaker.Write); err != nil {
			t.Fatal(err)
		}
		w.upsert(t, "b", "1")
		time.Sleep(5 * time.Minute)

		// Resume ends the operator's hold and asks about the other at once.
		probes := len(w.calls(w.begin, isProbeOfOrganization))
		if _, err := orgs.Resume(ctx, w.orgID); err != nil {
			t.Fatal(err)
		}
		time.Sleep(lag)
		if n := len(w.calls(w.begin, isProbeOfOrganization)) - probes; n != 1 {
			t.Errorf("%d probes after a resume, want one", n)
		}
		w.onlyProbeJob(t, breaker.ReasonMaintenance)
		if _, err := orgs.Hold(ctx, w.orgID, breaker.Write); err != nil {
			t.Fatal(err)
		}

		w.org.SetReadOnly(sftest.ReadWrite)
		opened := time.Now()
		time.Sleep(20 * time.Minute)
		org := w.get(t, w.runner)
		if len(org.Holds) != 1 || org.Holds[0].Reason != breaker.ReasonOperator {
			t.Fatalf("some time after the maintenance the org is held by %+v", org.Holds)
		}
		if writes := w.calls(opened, isWrite); len(writes) != 0 {
			t.Errorf("%d writes left while an operator held the lane", len(writes))
		}
		w.noProbeJob(t)
		rows := w.table(t, "SELECT paused_at, json_extract(metadata, '$.reason') AS reason FROM river_queue WHERE name = '"+breaker.Write.Queue(w.orgID)+"'")
		if len(rows) != 1 || rows[0]["paused_at"] == nil || rows[0]["reason"] == nil || *rows[0]["reason"] != "operator" {
			t.Errorf("River's queue row: %v", rows)
		}
		if _, err := orgs.Resume(ctx, w.orgID, breaker.Write); err != nil {
			t.Fatal(err)
		}
		time.Sleep(resumed)
		w.inOrder(t, map[string][]string{"a": {"1"}, "b": {"1"}})
		w.noAttemptBurned(t)
		w.wantEvents(t, "org.held maintenance", "org.held operator", "org.held operator",
			"org.resumed maintenance", "org.resumed operator", "org.resumed operator")
	})
}

// export is a job of the app's own that reads by Bulk API.
type export struct {
	Org sfapi.OrgID `json:"org"`
}

func (export) Kind() string         { return "app_export" }
func (e export) OrgID() sfapi.OrgID { return e.Org }
func (export) Lane() breaker.Lane   { return breaker.Sync }

// Read-only mode refuses Bulk reads: one stops the writes, not the lane's
// other reads, and later ones wait for the hold without asking.
func TestTimeTravelBulkReadInMaintenance(t *testing.T) {
	var runs []time.Time
	worker := func(h *jobs.Handlers[*sql.Tx]) {
		jobs.AddWorker(h, func(ctx context.Context, client *sfapi.Client, _ *river.Job[export]) error {
			runs = append(runs, time.Now())
			return client.Do(ctx, "GET", "jobs/query/750000000000001/results", nil, nil)
		})
	}
	inBubble(t, func(t *testing.T, w *timeTravel) {
		refusal := sftest.APIError(400, "INSERT_UPDATE_DELETE_NOT_ALLOWED_DURING_MAINTENANCE", "Updates can't be made during maintenance.").On("GET", "/jobs/query")
		refusing := w.org.Inject(refusal)
		w.org.SetReadOnly(sftest.ReadOnly)
		start(t, w.runner)
		res, err := w.runner.Insert(t.Context(), export{Org: w.orgID}, nil)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		hold := w.mustHold(t, breaker.ReasonMaintenance)
		if hold.Lanes != breaker.LanesOf(breaker.Write) {
			t.Errorf("a refused Bulk read holds %s", hold.Lanes)
		}
		read := w.insertSync(t)
		time.Sleep(20 * time.Minute)
		if job := w.ended(t, w.runner, read); job.State != "completed" {
			t.Errorf("the sync beside it is %s", job.State)
		}
		if n := refusing.Hits(); n != 1 {
			t.Errorf("%d Bulk reads reached the org, want the first only", n)
		}
		if len(runs) > 10 {
			t.Errorf("the job that reads by Bulk API ran %d times in 20 minutes", len(runs))
		}
		refusing.Remove()
		w.org.Inject(sftest.Static("results", 200, http.Header{"Content-Type": {"text/csv"}}, "").On("GET", "/jobs/query"))
		w.org.SetReadOnly(sftest.ReadWrite)
		time.Sleep(time.Until(w.mustHold(t, breaker.ReasonMaintenance).NextProbe) + 2*time.Minute)
		job, err := w.runner.River().JobGet(t.Context(), res.Job.ID)
		if err != nil || job.State != "completed" || job.Attempt != 1 || len(job.Errors) != 0 {
			t.Errorf("after the maintenance the job is %+v, %v", job, err)
		}
		if !slices.IsSortedFunc(runs, time.Time.Compare) {
			t.Error("it ran twice at once")
		}
		w.noProbeJob(t)
		w.wantEvents(t, "org.held maintenance", "org.resumed maintenance")
	}, worker)
}
