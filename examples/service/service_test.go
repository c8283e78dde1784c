package main_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestSQLite(t *testing.T) {
	t.Parallel()

	sim := startSimulator(t)
	testService(t, sim, 1, sqliteURL(t))
}

// Two processes, started at once on an empty database, answer and work as one.
func TestPostgres(t *testing.T) {
	t.Parallel()

	sim := startSimulator(t)
	testService(t, sim, 2, postgresURL(t))
}

func testService(t *testing.T, sim *simulator, processes int, database string) {
	seen, env := withSecrets(t, database, sim.url)
	f := startFleet(t, processes, env)
	f.secrets, f.token = seen, seen.own[0]
	org := "/orgs/" + sim.org
	for _, step := range []struct {
		name string
		run  func(t *testing.T, f *fleet, sim *simulator, org string)
	}{
		{"connect", connect},
		{"sync", syncObject},
		{"write", write},
		{"read-only mode and back", readOnly},
		{"pause and resume", pause},
		{"schedule", schedule},
		{"sessions expire", expire},
		{"revoke and reconnect", revoke},
		{"metrics are there", metricsAreThere},
		{"disconnect", disconnect},
		{"no secret in the clear", noSecretInTheClear},
	} {
		if !t.Run(step.name, func(t *testing.T) { g := *f; g.t = t; step.run(t, &g, sim, org) }) {
			return
		}
	}
}

func connect(t *testing.T, f *fleet, sim *simulator, org string) {
	f.want(http.StatusNotFound, "GET", org, "")
	refused := f.want(http.StatusUnprocessableEntity, "POST", "/orgs", `{"refresh_token":"5Aep861none"}`)
	if got := refused.text("error.code"); got != "invalid_grant" {
		t.Errorf("code %s, want Salesforce's invalid_grant", got)
	}
	away := f.want(http.StatusBadGateway, "POST", "/orgs", `{"refresh_token":"5Aep861none","login_url":"http://127.0.0.1:1"}`)
	if got := away.text("error.code"); got != "token_endpoint_unavailable" {
		t.Errorf("code %s, want token_endpoint_unavailable", got)
	}
	f.want(http.StatusNotFound, "GET", org, "")

	f.want(http.StatusCreated, "POST", "/orgs", fmt.Sprintf(`{"refresh_token":%q,"label":"Acme"}`, sim.grant(t)))
	again := f.want(http.StatusOK, "POST", "/orgs", fmt.Sprintf(`{"refresh_token":%q,"login_url":%q}`, sim.grant(t), sim.url))
	for path, want := range map[string]string{
		"org": sim.org, "label": "Acme", "state": "open", "lanes.sync": "open", "lanes.write": "open",
		"holds": "[]", "backlog.sync": "0", "backlog.write": "0", "backlog.records": "0",
	} {
		if got := again.text(path); got != want {
			t.Errorf("%s is %s, want %s", path, got, want)
		}
	}
	f.want(http.StatusOK, "GET", "/orgs/"+sim.org[:15], "")
	list := f.want(http.StatusOK, "GET", "/orgs?q=acm&limit=1", "")
	if list.text("orgs.0.org") != sim.org || list.get("next") != nil {
		t.Errorf("list %s", list.body)
	}
	if held := f.want(http.StatusOK, "GET", "/orgs?held=true", ""); held.text("orgs") != "[]" {
		t.Errorf("held orgs %s", held.body)
	}
}

func syncObject(t *testing.T, f *fleet, sim *simulator, org string) {
	sim.control(t, "orgs/"+sim.org+"/seed", map[string]any{"object": "Account", "n": 250, "seed": 1}, nil)
	job := f.want(http.StatusAccepted, "POST", org+"/syncs", `{"object":"Account"}`).text("job_id")
	done := f.becomes("/jobs/"+job, "state", "completed")
	if done.text("org") != sim.org || done.text("kind") != "salesforce_sync" || done.get("error") != nil {
		t.Errorf("job %s", done.body)
	}
	sync := f.becomes(org+"/syncs", "syncs.0.status", "idle")
	for path, want := range map[string]string{
		"object": "Account", "mode": "incremental", "job_id": job, "rows": "250",
		"last_run.rows": "250", "last_run.error": "null", "every": "null", "schedule_id": "null",
	} {
		if got := sync.text("syncs.0." + path); got != want {
			t.Errorf("%s is %s, want %s", path, got, want)
		}
	}
	bad := f.want(http.StatusAccepted, "POST", org+"/syncs", `{"object":"Nothing__c","mode":"full"}`).text("job_id")
	if failed := f.becomes("/jobs/"+bad, "state", "cancelled"); failed.get("error") == nil {
		t.Errorf("job %s has no error", failed.body)
	}
	if failed := f.becomes(org+"/syncs", "syncs.1.status", "failed"); failed.get("syncs.1.last_run.error") == nil {
		t.Errorf("syncs %s", failed.body)
	}
	usage := f.want(http.StatusOK, "GET", org, "")
	if usage.get("api_usage.limit") == nil {
		t.Errorf("no API usage in %s", usage.body)
	}
}

const threeContacts = `{"object":"Contact","operation":"upsert","external_id":"Ext_Id__c","records":[
	{"Ext_Id__c":"c-1","LastName":"Curie"},{"Ext_Id__c":"c-2","LastName":"Meitner","Email":"not an address"},{"Ext_Id__c":"c-3","LastName":"Noether"}]}`

func write(t *testing.T, f *fleet, _ *simulator, org string) {
	first := f.want(http.StatusAccepted, "POST", org+"/writes", threeContacts, "Idempotency-Key", "once")
	second := f.want(http.StatusAccepted, "POST", org+"/writes", threeContacts, "Idempotency-Key", "once")
	if first.body != second.body {
		t.Errorf("the same key answered %s, then %s", first.body, second.body)
	}
	other := f.want(http.StatusConflict, "POST", org+"/writes", `{"object":"Contact","operation":"insert","records":[{"LastName":"X"}]}`, "Idempotency-Key", "once")
	if got := other.text("error.code"); got != "idempotency_conflict" {
		t.Errorf("code %s", got)
	}
	path := org + "/writes/" + first.text("write_id")
	ended := f.becomes(path, "done", "2")
	for value, want := range map[string]string{
		"accepted": "3", "pending": "0", "sent": "0", "failed": "1", "unknown": "0", "cancelled": "0", "next": "null",
		"records.0.index": "0", "records.0.key": "c-1", "records.0.status": "done", "records.0.error": "null",
		"records.1.status": "failed", "records.1.error.code": "INVALID_EMAIL_ADDRESS", "records.1.error.fields.0": "Email",
	} {
		if got := ended.text(value); got != want {
			t.Errorf("%s is %s, want %s in %s", value, got, want, ended.body)
		}
	}
	page := f.want(http.StatusOK, "GET", path+"?limit=2", "")
	rest := f.want(http.StatusOK, "GET", path+"?limit=2&after="+page.text("next"), "")
	if rest.text("records.0.index") != "2" || rest.get("next") != nil {
		t.Errorf("second page %s", rest.body)
	}
	if dead := f.want(http.StatusOK, "GET", path+"?status=failed", ""); dead.text("records.0.index") != "1" || dead.get("records.1") != nil {
		t.Errorf("failed records %s", dead.body)
	}
	f.want(http.StatusAccepted, "POST", path+"/retry", "")
	f.becomes(path, "failed", "1")
	f.want(http.StatusNotFound, "GET", org+"/writes/999999", "")
}

// events returns the types and reasons of all events of the org, following the
// cursor.
func (f *fleet) events() []string {
	f.t.Helper()
	var out []string
	for after := "0"; after != "null"; {
		page := f.want(http.StatusOK, "GET", "/events?limit=2&after="+after, "")
		for i := 0; page.get(fmt.Sprintf("events.%d", i)) != nil; i++ {
			out = append(out, page.text(fmt.Sprintf("events.%d.type", i))+" "+page.text(fmt.Sprintf("events.%d.reason", i)))
		}
		after = page.text("next")
	}
	return out
}

func count(list []string, want string) int {
	n := 0
	for _, s := range list {
		if s == want {
			n++
		}
	}
	return n
}

func readOnly(t *testing.T, f *fleet, sim *simulator, org string) {
	sim.state(t, map[string]any{"read_only": "on"})
	id := f.want(http.StatusAccepted, "POST", org+"/writes", `{"object":"Contact","operation":"upsert","external_id":"Ext_Id__c","records":[{"Ext_Id__c":"c-4","LastName":"Hopper"}]}`).text("write_id")
	held := f.becomes(org, "lanes.write", "held")
	if held.text("state") != "held" || held.text("lanes.sync") != "open" || held.text("holds.0.reason") != "maintenance" ||
		held.get("holds.0.evidence.0") == nil || held.text("holds.0.advice") == "" || held.get("holds.0.next_probe") == nil {
		t.Errorf("org in read-only mode: %s", held.body)
	}
	if list := f.want(http.StatusOK, "GET", "/orgs?held=true", ""); list.text("orgs.0.org") != sim.org {
		t.Errorf("held orgs %s", list.body)
	}
	// Reads go on.
	job := f.want(http.StatusAccepted, "POST", org+"/syncs", `{"object":"Account"}`).text("job_id")
	f.becomes("/jobs/"+job, "state", "completed")
	f.want(http.StatusOK, "POST", org+"/probe", "")

	sim.state(t, map[string]any{"read_only": "off"})
	f.becomes(org+"/writes/"+id, "done", "1")
	f.becomes(org, "state", "open")
	f.eventually("one event for the hold and one for its end", func() bool { return count(f.events(), "org.resumed maintenance") == 1 })
	if got := f.events(); count(got, "org.held maintenance") != 1 {
		t.Errorf("events %v", got)
	}
}

func pause(t *testing.T, f *fleet, _ *simulator, org string) {
	held := f.want(http.StatusOK, "POST", org+"/pause", `{"lane":"sync"}`)
	if held.text("lanes.sync") != "held" || held.text("lanes.write") != "open" || held.text("holds.0.reason") != "operator" || held.get("holds.0.next_probe") != nil {
		t.Errorf("paused org: %s", held.body)
	}
	job := f.want(http.StatusAccepted, "POST", org+"/syncs", `{"object":"Account"}`).text("job_id")
	if again := f.want(http.StatusAccepted, "POST", org+"/syncs", `{"object":"Account","mode":"full"}`).text("job_id"); again != job {
		t.Errorf("a second sync is job %s, the first that waits is %s", again, job)
	}
	waiting := f.want(http.StatusOK, "GET", org+"/syncs", "")
	if waiting.text("syncs.0.status") != "queued" || waiting.text("syncs.0.mode") != "full" || waiting.text("syncs.0.job_id") != job {
		t.Errorf("waiting sync: %s", waiting.body)
	}
	if backlog := f.want(http.StatusOK, "GET", org, ""); backlog.text("backlog.sync") != "1" {
		t.Errorf("backlog of %s", backlog.body)
	}
	if resumed := f.want(http.StatusOK, "POST", org+"/resume", ""); resumed.text("state") != "open" {
		t.Errorf("resumed org: %s", resumed.body)
	}
	f.becomes("/jobs/"+job, "state", "completed")
}

func schedule(t *testing.T, f *fleet, sim *simulator, org string) {
	sim.control(t, "orgs/"+sim.org+"/seed", map[string]any{"object": "Widget__c", "n": 3, "seed": 2}, nil)
	id := f.want(http.StatusAccepted, "POST", org+"/syncs", `{"object":"Widget__c","every":"1s"}`).text("schedule_id")
	find := func() *answer { return f.want(http.StatusOK, "GET", org+"/syncs", "") }
	const widget = "syncs.2." // after Account and Nothing__c
	jobs := make(map[string]bool)
	f.eventually("the schedule has enqueued three jobs", func() bool {
		a := find()
		if a.text(widget+"object") == "Widget__c" && a.get(widget+"job_id") != nil {
			jobs[a.text(widget+"job_id")] = true
		}
		return len(jobs) >= 3
	})
	listed := find()
	if listed.text(widget+"schedule_id") != id || listed.text(widget+"every") != "1s" || listed.get(widget+"next_run") == nil {
		t.Errorf("scheduled sync: %s", listed.body)
	}
	f.want(http.StatusNoContent, "DELETE", org+"/syncs/Widget__c", "")
	f.want(http.StatusNotFound, "DELETE", org+"/syncs/Widget__c", "")
	f.becomes(org+"/syncs", widget+"status", "idle")
}

// Sessions that end are renewed, with refresh tokens that rotate.
func expire(t *testing.T, f *fleet, sim *simulator, org string) {
	sim.state(t, map[string]any{"rotation": true})
	for range 3 {
		sim.state(t, map[string]any{"expire_sessions": true})
		job := f.want(http.StatusAccepted, "POST", org+"/syncs", `{"object":"Account"}`).text("job_id")
		f.becomes("/jobs/"+job, "state", "completed")
	}
	if a := f.want(http.StatusOK, "GET", org, ""); a.text("state") != "open" {
		t.Errorf("org whose sessions expired: %s", a.body)
	}
}

func revoke(t *testing.T, f *fleet, sim *simulator, org string) {
	f.want(http.StatusOK, "POST", org+"/pause", `{"lane":"write"}`)
	id := f.want(http.StatusAccepted, "POST", org+"/writes", `{"object":"Contact","operation":"upsert","external_id":"Ext_Id__c","records":[{"Ext_Id__c":"c-5","LastName":"Lovelace"}]}`).text("write_id")
	sim.state(t, map[string]any{"revoke_all": true})
	f.want(http.StatusAccepted, "POST", org+"/syncs", `{"object":"Account"}`)
	f.eventually("the org needs a new grant", func() bool {
		refused := f.call("POST", org+"/syncs", `{"object":"Account"}`)
		return refused.status == http.StatusConflict && refused.text("error.code") == "reauth_required"
	})
	f.becomes(org+"/writes/"+id, "cancelled", "1")
	f.eventually("one event asks for a new grant", func() bool { return count(f.events(), "org.reauth_required reauth") == 1 })

	f.want(http.StatusOK, "POST", "/orgs", fmt.Sprintf(`{"refresh_token":%q,"requeue":true}`, sim.grant(t)))
	f.want(http.StatusOK, "POST", org+"/resume", "")
	f.becomes(org, "state", "open")
	f.becomes(org+"/writes/"+id, "done", "1")
	job := f.want(http.StatusAccepted, "POST", org+"/syncs", `{"object":"Account"}`).text("job_id")
	f.becomes("/jobs/"+job, "state", "completed")
}

func disconnect(t *testing.T, f *fleet, _ *simulator, org string) {
	f.want(http.StatusNoContent, "DELETE", org, "")
	refused := f.want(http.StatusConflict, "POST", org+"/syncs", `{"object":"Account"}`)
	if got := refused.text("error.code"); got != "reauth_required" {
		t.Errorf("code %s", got)
	}
	if gone := f.want(http.StatusOK, "GET", org, ""); gone.text("state") != "held" {
		t.Errorf("disconnected org: %s", gone.body)
	}
}

// A webhook is told of each event, signed, under the id of the feed.
func TestWebhook(t *testing.T) {
	t.Parallel()

	type delivery struct{ id, signature, body string }
	got := make(chan delivery, 16)
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got <- delivery{r.Header.Get("webhook-id"), r.Header.Get("webhook-signature"), string(body)}
	}))
	t.Cleanup(receiver.Close)
	const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	sim := startSimulator(t)
	f := startFleet(t, 1, environment(t, sqliteURL(t), sim.url, "WEBHOOK_URL="+receiver.URL, "WEBHOOK_SECRET="+secret+" "+secret))
	f.want(http.StatusCreated, "POST", "/orgs", fmt.Sprintf(`{"refresh_token":%q}`, sim.grant(t)))
	f.want(http.StatusOK, "POST", "/orgs/"+sim.org+"/pause", "")
	var d delivery
	select {
	case d = <-got:
	case <-time.After(patience):
		t.Fatal("nothing was delivered")
	}
	event := f.want(http.StatusOK, "GET", "/events", "")
	told := &answer{body: d.body}
	if d.id != "evt_"+event.text("events.0.id") || told.text("type") != "org.held" || told.text("data.org") != sim.org || told.text("data.reason") != "operator" {
		t.Errorf("delivery %+v of %s", d, event.body)
	}
	if n := strings.Count(d.signature, "v1,"); n != 2 {
		t.Errorf("%d signatures in %q, want one for each secret", n, d.signature)
	}
}
