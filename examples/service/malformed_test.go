package main_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// Whatever a call is sent, the answer is a 4xx with the error body.
func TestMalformed(t *testing.T) {
	t.Parallel()

	sim := startSimulator(t)
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		testMalformed(t, sim, startFleet(t, 1, environment(t, sqliteURL(t), sim.url)))
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		testMalformed(t, sim, startFleet(t, 1, environment(t, postgresURL(t), sim.url)))
	})
}

func testMalformed(t *testing.T, sim *simulator, f *fleet) {
	f.want(http.StatusCreated, "POST", "/orgs", fmt.Sprintf(`{"refresh_token":%q}`, sim.grant(t)))
	org, other := "/orgs/"+sim.org, "/orgs/00D000000000062EAA"
	// Another customer's org knows nothing of this one's write.
	var second struct{ ID string }
	sim.control(t, "orgs", map[string]any{"config": map[string]any{"Name": "Another"}}, &second)
	another := &simulator{url: sim.url, org: second.ID}
	f.want(http.StatusCreated, "POST", "/orgs", fmt.Sprintf(`{"refresh_token":%q}`, another.grant(t)))
	foreign := f.want(http.StatusAccepted, "POST", "/orgs/"+another.org+"/writes", `{"object":"Contact","operation":"insert","records":[{"LastName":"x"}]}`).text("write_id")
	w := func(rest string) string { return `{"object":"Contact","operation":"insert",` + rest + `}` }
	record := func(r string) string { return w(`"records":[` + r + `]`) }
	for _, tt := range []struct {
		method, path, body string
		status             int
		code, field        string
		headers            []string
	}{
		{"GET", "/nothing", "", 404, "not_found", "", nil},
		{"PUT", "/orgs", "{}", 405, "method_not_allowed", "", nil},
		{"DELETE", "/events", "", 405, "method_not_allowed", "", nil},
		{"POST", "/connect", "", 405, "method_not_allowed", "", nil},
		{"POST", "/orgs", "", 415, "unsupported_media_type", "", nil},
		{"POST", "/orgs", "{}", 415, "unsupported_media_type", "", []string{"Content-Type", "text/plain"}},
		{"POST", "/orgs", "{}", 415, "unsupported_media_type", "", []string{"Content-Type", ""}},
		{"POST", "/orgs", "{", 400, "invalid_json", "", nil},
		{"POST", "/orgs", "[]", 400, "invalid_json", "", nil},
		{"POST", "/orgs", "null", 400, "invalid_json", "", nil},
		{"POST", "/orgs", "{} {}", 400, "invalid_json", "", nil},
		{"POST", "/orgs", "{}x", 400, "invalid_json", "", nil},
		{"POST", "/orgs", "{\"label\":\"\xff\"}", 400, "invalid_json", "label", nil},
		{"POST", "/orgs", `{}`, 400, "invalid_field", "refresh_token", nil},
		{"POST", "/orgs", `{"refresh_token":null}`, 400, "invalid_field", "refresh_token", nil},
		{"POST", "/orgs", `{"refresh_token":5}`, 400, "invalid_field", "refresh_token", nil},
		{"POST", "/orgs", `{"refresh_token":"x","nope":1}`, 400, "unknown_field", "nope", nil},
		{"POST", "/orgs", `{"Refresh_Token":"x"}`, 400, "unknown_field", "Refresh_Token", nil},
		{"POST", "/orgs", `{"refresh_token":"x","refresh_token":"y"}`, 400, "duplicate_field", "refresh_token", nil},
		{"POST", "/orgs", `{"refresh_token":"x","login_url":"http://evil.example"}`, 400, "invalid_field", "login_url", nil},
		{"POST", "/orgs", `{"refresh_token":"x","login_url":"https://a@b/c?d"}`, 400, "invalid_field", "login_url", nil},
		{"POST", "/orgs", `{"refresh_token":"x","label":"\u0000"}`, 400, "invalid_field", "label", nil},
		{"POST", "/orgs", `{"refresh_token":"` + strings.Repeat("x", 2<<20) + `"}`, 413, "too_large", "", nil},
		{"GET", "/orgs?held=maybe", "", 400, "invalid_field", "held", nil},
		{"GET", "/orgs?limit=x", "", 400, "invalid_field", "limit", nil},
		{"GET", "/orgs?limit=0", "", 400, "invalid_field", "limit", nil},
		{"GET", "/orgs?limit=99999999999999999999", "", 400, "invalid_field", "limit", nil},
		{"GET", "/orgs?after='--", "", 400, "invalid_field", "after", nil},
		{"GET", "/orgs?q=%00", "", 400, "invalid_field", "q", nil},
		{"GET", "/orgs?q=%ff", "", 400, "invalid_field", "q", nil},
		{"GET", "/orgs/nope", "", 404, "org_not_found", "", nil},
		{"GET", "/orgs/%00", "", 404, "org_not_found", "", nil},
		{"GET", other, "", 404, "org_not_found", "", nil},
		{"DELETE", other, "", 404, "org_not_found", "", nil},
		{"POST", other + "/pause", "", 404, "org_not_found", "", nil},
		{"POST", other + "/resume", "", 404, "org_not_found", "", nil},
		{"POST", other + "/probe", "", 404, "org_not_found", "", nil},
		{"POST", other + "/syncs", `{"object":"Account"}`, 404, "org_not_found", "", nil},
		{"POST", other + "/syncs", `{"object":"Account","every":"5m"}`, 404, "org_not_found", "", nil},
		{"GET", other + "/syncs", "", 404, "org_not_found", "", nil},
		{"DELETE", other + "/syncs/Account", "", 404, "org_not_found", "", nil},
		{"POST", other + "/writes", record(`{"LastName":"x"}`), 404, "org_not_found", "", nil},
		{"GET", other + "/writes/1", "", 404, "org_not_found", "", nil},
		{"POST", other + "/writes/1/retry", "", 404, "org_not_found", "", nil},
		{"POST", org + "/pause", `{"lane":"both"}`, 400, "invalid_field", "lane", nil},
		{"POST", org + "/pause", `{"lanes":"sync"}`, 400, "unknown_field", "lanes", nil},
		{"POST", org + "/resume", `{"lane":"sync"}`, 400, "unknown_field", "lane", nil},
		{"POST", org + "/probe", `[]`, 400, "invalid_json", "", nil},
		{"POST", org + "/syncs", `{}`, 400, "invalid_field", "object", nil},
		{"POST", org + "/syncs", `{"object":"Account'; DROP TABLE weir_org --"}`, 400, "invalid_field", "object", nil},
		{"POST", org + "/syncs", `{"object":"Account","mode":"fast"}`, 400, "invalid_field", "mode", nil},
		{"POST", org + "/syncs", `{"object":"Account","fields":["Id FROM User"]}`, 400, "invalid_field", "fields[0]", nil},
		{"POST", org + "/syncs", `{"object":"Account","fields":"Name"}`, 400, "invalid_field", "fields", nil},
		{"POST", org + "/syncs", `{"object":"Account","every":"often"}`, 400, "invalid_field", "every", nil},
		{"POST", org + "/syncs", `{"object":"Account","every":"-5m"}`, 400, "invalid_field", "every", nil},
		{"POST", org + "/syncs", `{"object":"Account","every":300}`, 400, "invalid_field", "every", nil},
		{"DELETE", org + "/syncs/Account", "", 404, "schedule_not_found", "", nil},
		{"DELETE", org + "/syncs/a%27b", "", 400, "invalid_field", "object", nil},
		{"GET", "/jobs/0", "", 404, "job_not_found", "", nil},
		{"GET", "/jobs/x", "", 404, "job_not_found", "", nil},
		{"GET", "/jobs/99999999999999999999", "", 404, "job_not_found", "", nil},
		{"POST", org + "/writes", w(`"records":[]`), 400, "invalid_field", "records", nil},
		{"POST", org + "/writes", w(`"records":{}`), 400, "invalid_field", "records", nil},
		{"POST", org + "/writes", `{"operation":"insert","records":[{"A":1}]}`, 400, "invalid_field", "object", nil},
		{"POST", org + "/writes", `{"object":"Contact","operation":"merge","records":[{"A":1}]}`, 400, "invalid_field", "operation", nil},
		{"POST", org + "/writes", record(`{"A":1},5`), 400, "invalid_field", "records[1]", nil},
		{"POST", org + "/writes", record(`{"A":1},{}`), 400, "invalid_field", "records[1]", nil},
		{"POST", org + "/writes", record(`{"A b":1}`), 400, "invalid_field", "records[0]", nil},
		{"POST", org + "/writes", record(`{"A":[1]}`), 400, "invalid_field", "records[0]", nil},
		{"POST", org + "/writes", record(`{"A":1,"A":2}`), 400, "duplicate_field", "records[0].A", nil},
		{"POST", org + "/writes", `{"object":"Contact","operation":"update","records":[{"LastName":"x"}]}`, 400, "invalid_field", "records[0]", nil},
		{"POST", org + "/writes", `{"object":"Contact","operation":"delete","records":[{"Id":"short"}]}`, 400, "invalid_field", "records[0]", nil},
		{"POST", org + "/writes", `{"object":"Contact","operation":"upsert","records":[{"E":"x"}]}`, 400, "invalid_field", "external_id", nil},
		{"POST", org + "/writes", `{"object":"Contact","operation":"upsert","external_id":"E","records":[{"E":"x"},{"E":""}]}`, 400, "invalid_field", "records[1]", nil},
		{"POST", org + "/writes", record(strings.Repeat(`{"A":1},`, 10_000) + `{"A":1}`), 413, "too_large", "records", nil},
		{"POST", org + "/writes", record(`{"A":"` + strings.Repeat("x", 17<<20) + `"}`), 413, "too_large", "", nil},
		{"POST", org + "/writes", record(`{"A":1}`), 400, "invalid_field", "Idempotency-Key", []string{"Idempotency-Key", strings.Repeat("k", 300)}},
		{"GET", org + "/writes/1", "", 404, "write_not_found", "", nil},
		{"GET", org + "/writes/" + foreign, "", 404, "write_not_found", "", nil},
		{"POST", org + "/writes/" + foreign + "/retry", "", 404, "write_not_found", "", nil},
		{"POST", org + "/writes", record(`{"A":` + strings.Repeat("[", 20_000)), 400, "invalid_json", "", nil},
		{"POST", org + "/writes", record(`{"A":` + strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000) + "}"), 400, "invalid_json", "", nil},
		{"POST", org + "/writes", record(`{"A\u0000":1}`), 400, "invalid_field", "records[0]", nil},
		{"POST", org + "/writes", record("{\"A\":\"\xff\"}"), 400, "invalid_json", "", nil},
		{"POST", org + "/writes", record(`{"A":1}`), 400, "invalid_field", "Idempotency-Key", []string{"Idempotency-Key", "\xff\xfe"}},
		{"GET", org + "/writes/-1", "", 404, "write_not_found", "", nil},
		{"GET", org + "/writes/1?status=lost", "", 400, "invalid_field", "status", nil},
		{"GET", org + "/writes/1?limit=2001", "", 400, "invalid_field", "limit", nil},
		{"GET", org + "/writes/1?after=x", "", 400, "invalid_field", "after", nil},
		{"POST", org + "/writes/1/retry", "", 404, "write_not_found", "", nil},
		{"POST", org + "/writes/1/retry", "{}{}", 400, "invalid_json", "", nil},
		{"GET", "/events?after=-1", "", 400, "invalid_field", "after", nil},
		{"GET", "/events?limit=1001", "", 400, "invalid_field", "limit", nil},
		{"GET", "/connect?login_url=http://evil.example", "", 400, "invalid_field", "login_url", nil},
		{"GET", "/connect?label=%00", "", 400, "invalid_field", "label", nil},
	} {
		a := f.call(tt.method, tt.path, tt.body, tt.headers...)
		if a.status != tt.status || a.text("error.code") != tt.code || a.text("error.message") == "null" ||
			tt.field != "" && a.text("error.field") != tt.field {
			t.Errorf("%s %s %.120s: %d %s; want %d, code %s, field %q", tt.method, tt.path, tt.body, a.status, a.body, tt.status, tt.code, tt.field)
		}
		if a.status == http.StatusMethodNotAllowed && a.header.Get("Allow") == "" {
			t.Errorf("%s %s: 405 without Allow", tt.method, tt.path)
		}
	}
}
