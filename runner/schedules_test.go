package runner_test

import (
	"database/sql"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river/rivertype"

	"github.com/weirhq/weir/breaker"
	"github.com/weirhq/weir/jobs"
	"github.com/weirhq/weir/runner"
	"github.com/weirhq/weir/sfapi"
	"github.com/weirhq/weir/sfapi/sftest"
)

func TestSchedules(t *testing.T) {
	t.Parallel()

	onBoth(t, testSchedules[*sql.Tx], testSchedules[pgx.Tx])
}

func testSchedules[TTx any](t *testing.T, f *fixture[TTx]) {
	jobs.AddMirror(f.handlers, jobs.AnyObject, nil)
	r := f.running(t)
	ctx := t.Context()
	f.org.Insert("Account", sftest.Record{"Name": "Acme"})

	set, err := r.Schedules().Set(ctx, jobs.Sync{Org: f.orgID, Object: "Account", Fields: []string{"Name"}}, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	listed, err := r.Schedules().List(ctx, f.orgID)
	if err != nil || len(listed) != 1 || listed[0].ID != set.ID || listed[0].Every != time.Second ||
		!cmp.Equal(listed[0].Sync, jobs.Sync{Org: f.orgID, Object: "Account", Fields: []string{"Name"}}) {
		t.Fatalf("schedules %+v, %v", listed, err)
	}
	ran := make(map[int64]bool)
	eventually(t, "three jobs of the schedule", func() bool {
		infos, err := r.SyncInfos(ctx, f.orgID)
		if err != nil {
			t.Fatal(err)
		}
		if infos[0].JobID != 0 {
			ran[infos[0].JobID] = true
		}
		return len(ran) >= 3
	})

	// Runs that nobody works are merged with the one that waits.
	if _, err := r.Orgs().Hold(ctx, f.orgID, breaker.Sync); err != nil {
		t.Fatal(err)
	}
	same, err := r.Schedules().Set(ctx, jobs.Sync{Org: f.orgID, Object: "Account"}, 2*time.Second)
	if err != nil || same.ID != set.ID {
		t.Fatalf("set again: %+v, %v", same, err)
	}
	var runs []time.Time
	eventually(t, "two more runs fall due", func() bool {
		list, err := r.Schedules().List(ctx, f.orgID)
		if err != nil {
			t.Fatal(err)
		}
		if n := len(runs); n == 0 || !runs[n-1].Equal(list[0].NextRun) {
			runs = append(runs, list[0].NextRun)
		}
		return len(runs) >= 4
	})
	waiting := f.table(t, `SELECT count(*) AS n FROM river_job WHERE kind = 'salesforce_sync' AND state <> 'completed'`)
	if n := *waiting[0]["n"]; n != "1" {
		t.Errorf("%s jobs wait", n)
	}
	backlogs, err := r.Orgs().Backlogs(ctx, f.orgID)
	if err != nil || backlogs[f.orgID].Sync == 0 || backlogs[f.orgID].Write != 0 {
		t.Errorf("backlogs %+v, %v", backlogs, err)
	}

	if err := r.Schedules().End(ctx, f.orgID, "Account"); err != nil {
		t.Fatal(err)
	}
	if err := r.Schedules().End(ctx, f.orgID, "Account"); !errors.Is(err, runner.ErrScheduleNotFound) {
		t.Errorf("end twice: %v", err)
	}
	_, err = r.Schedules().Set(ctx, jobs.Sync{Org: f.orgID, Object: "Account"}, time.Millisecond)
	if _, ok := errors.AsType[*jobs.FieldError](err); !ok {
		t.Errorf("every millisecond: %v", err)
	}
	if _, err := r.Schedules().Set(ctx, jobs.Sync{Org: "00D000000000062EAA", Object: "Account"}, time.Minute); !errors.Is(err, runner.ErrOrgNotFound) {
		t.Errorf("an org that was never connected: %v", err)
	}
}

func TestJobAndSyncInfos(t *testing.T) {
	t.Parallel()

	onBoth(t, testJobAndSyncInfos[*sql.Tx], testJobAndSyncInfos[pgx.Tx])
}

func testJobAndSyncInfos[TTx any](t *testing.T, f *fixture[TTx]) {
	jobs.AddMirror(f.handlers, jobs.AnyObject, nil)
	r := f.running(t)
	ctx := t.Context()
	res, err := r.Insert(ctx, jobs.Sync{Org: f.orgID, Object: "Nothing__c"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var job *rivertype.JobRow
	eventually(t, "the job has ended", func() bool {
		var org sfapi.OrgID
		if job, org, err = r.Job(ctx, res.Job.ID); err != nil || org != f.orgID {
			t.Fatalf("job of %s: %v", org, err)
		}
		return job.State == rivertype.JobStateCancelled
	})
	infos, err := r.SyncInfos(ctx, f.orgID)
	if err != nil {
		t.Fatal(err)
	}
	if len(infos) != 1 || infos[0].Status != runner.SyncFailed || infos[0].JobID != job.ID || infos[0].Error != runner.LastError(job) || infos[0].Error == "" {
		t.Errorf("infos %+v", infos[0])
	}
	if _, _, err := r.Job(ctx, job.ID+1000); !errors.Is(err, runner.ErrJobNotFound) {
		t.Errorf("a job that was never there: %v", err)
	}
}

func TestOrgsHandler(t *testing.T) {
	t.Parallel()

	onBoth(t, testOrgsHandler[*sql.Tx], testOrgsHandler[pgx.Tx])
}

func testOrgsHandler[TTx any](t *testing.T, f *fixture[TTx]) {
	r := f.migrated(t)
	f.connect(t, r)
	page := r.OrgsHandler(&runner.OrgsPage{RiverUI: "/riverui", PerPage: 1})
	ask := func(method, target string, form url.Values, headers ...string) *httptest.ResponseRecorder {
		req := httptest.NewRequestWithContext(t.Context(), method, target, strings.NewReader(form.Encode()))
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		for i := 0; i < len(headers); i += 2 {
			req.Header.Set(headers[i], headers[i+1])
		}
		w := httptest.NewRecorder()
		page.ServeHTTP(w, req)
		return w
	}
	show := func(query string, want, not []string) {
		t.Helper()
		w := ask(http.MethodGet, "/orgs.html"+query, nil)
		for _, s := range want {
			if !strings.Contains(w.Body.String(), s) {
				t.Errorf("%s: %d, the page does not say %q:\n%s", query, w.Code, s, w.Body)
			}
		}
		for _, s := range not {
			if strings.Contains(w.Body.String(), s) {
				t.Errorf("%s: the page says %q", query, s)
			}
		}
	}
	id := string(f.orgID)
	show("", []string{"Acme", id, "Pause Acme", `lang="en"`, "/riverui/queues/" + breaker.Sync.Queue(f.orgID)}, []string{"Resume Acme", "Next page"})
	show("?held=true", []string{"No orgs."}, []string{"Acme"})
	show("?q=%00&after='", []string{"Acme"}, nil)
	show("?q=nobody", []string{"No orgs."}, []string{"Pause Acme"})

	press := func(action, org string) url.Values { return url.Values{"action": {action}, "org": {org}} }
	if w := ask(http.MethodPost, "/orgs.html?held=true", press("pause", id), "Sec-Fetch-Site", "cross-site"); w.Code != http.StatusForbidden {
		t.Errorf("a page of another site: %d", w.Code)
	}
	w := ask(http.MethodPost, "/orgs.html?held=true", press("pause", id))
	if w.Code != http.StatusSeeOther || w.Header().Get("Location") != "/orgs.html?held=true#"+id {
		t.Errorf("pause: %d to %s", w.Code, w.Header().Get("Location"))
	}
	show("?held=true", []string{"Acme", "operator", "Only a person ends it.", "Resume Acme"}, []string{"Pause Acme"})
	if w := ask(http.MethodPost, "/orgs.html", press("resume", id)); w.Code != http.StatusSeeOther {
		t.Errorf("resume: %d", w.Code)
	}
	show("?held=true", []string{"No orgs."}, nil)
	for _, form := range []url.Values{press("pause", "nope"), press("explode", id), press("probe", "00D000000000062EAA")} {
		if w := ask(http.MethodPost, "/orgs.html", form); w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), `role="alert"`) {
			t.Errorf("%v: %d", form, w.Code)
		}
	}
	if w := ask(http.MethodPut, "/orgs.html", nil); w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") == "" {
		t.Errorf("PUT: %d %v", w.Code, w.Header())
	}

	// What orgs are called is text, whatever it holds, and pages follow each
	// other.
	other := f.sim.AddOrg(nil)
	if _, _, err := r.Orgs().Connect(t.Context(), &runner.ConnectParams{RefreshToken: sfapi.Secret(other.Grant()), Label: "<script>x"}); err != nil {
		t.Fatal(err)
	}
	first := ask(http.MethodGet, "/orgs.html", nil).Body.String()
	_, link, found := strings.Cut(first, `<a href="?after=`)
	if !found {
		t.Fatalf("no next page:\n%s", first)
	}
	second := ask(http.MethodGet, "/orgs.html?after="+link[:18], nil).Body.String()
	both := first + second
	if !strings.Contains(both, "Acme") || !strings.Contains(both, "&lt;script&gt;x") || strings.Contains(both, "<script>") || strings.Contains(second, "Next page") {
		t.Errorf("pages:\n%s", both)
	}
}
