package sftest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weirhq/weir/sfapi/sftest"
)

func TestLastingConditions(t *testing.T) {
	t.Parallel()
	const (
		expired  = `401 [{"message":"Session expired or invalid","errorCode":"INVALID_SESSION_ID"}]`
		notValid = `401 [{"message":"This session is not valid for use with the REST API","errorCode":"INVALID_SESSION_ID"}]`
		refused  = `[{"message":"Updates can't be made during maintenance. Try again when maintenance is complete.","errorCode":"INSERT_UPDATE_DELETE_NOT_ALLOWED_DURING_MAINTENANCE","fields":[]}]`
		ok       = "200"
		made     = "201"
	)
	tests := []struct {
		name                 string
		set                  func(*sftest.Org)
		read, write, refresh string // prefixes of status and body
	}{
		{"healthy", func(*sftest.Org) {}, ok, made, ok},
		{"read-only", func(o *sftest.Org) { o.SetReadOnly(sftest.ReadOnly) }, ok, "400 " + refused, ok},
		{"read-only with another status", func(o *sftest.Org) { o.SetReadOnly(sftest.ReadOnly); o.SetReadOnlyStatus(503) }, ok, "503 " + refused, ok},
		{"read-only with flipping sessions", func(o *sftest.Org) { o.SetReadOnly(sftest.ReadOnlySessions) }, notValid, "400 " + refused, ok},
		{"expired sessions", func(o *sftest.Org) { o.ExpireSessions() }, expired, expired, ok},
		{"revoked", func(o *sftest.Org) { o.RevokeAll() }, expired, expired, `400 {"error":"invalid_grant","error_description":"expired access/refresh token"}`},
		{"IP-locked sessions", func(o *sftest.Org) { o.SetIPLock(sftest.IPSessions) }, expired, expired, ok},
		{"IP-restricted login", func(o *sftest.Org) { o.SetIPLock(sftest.IPLogin) }, expired, expired, `400 {"error":"invalid_grant","error_description":"ip restricted"}`},
		{"API access control", func(o *sftest.Org) { o.BlockApp(sftest.DefaultClientID, sftest.AppDataRefused) }, notValid, notValid, ok},
		{"another app is blocked", func(o *sftest.Org) { o.BlockApp("other", sftest.AppDataRefused) }, ok, made, ok},
		{"app not installed", func(o *sftest.Org) { o.BlockApp("", sftest.AppNotInstalled) }, notValid, notValid, `400 {"error":"app_not_found"`},
		{"app not approved", func(o *sftest.Org) { o.BlockApp("", sftest.AppNotApproved) }, ok, made, `400 {"error":"invalid_app_access"`},
		{"inactive user", func(o *sftest.Org) { o.SetUserActive("", false) }, expired, expired, `400 {"error":"inactive_user"`},
		{"inactive org", func(o *sftest.Org) { o.SetActive(false) }, expired, expired, `400 {"error":"inactive_org"`},
		{"API disabled", func(o *sftest.Org) { o.SetAPIEnabled(false) }, `403 [{"message":"The REST API is not enabled for this Organization.","errorCode":"API_DISABLED_FOR_ORG"}]`, "403", ok},
		{"storage full", func(o *sftest.Org) { o.SetStorageFull(true) }, ok, `403 [{"message":"storage limit exceeded","errorCode":"STORAGE_LIMIT_EXCEEDED","fields":[]}]`, ok},
		{"daily limit", func(o *sftest.Org) { o.SetDailyLimit(0) }, `403 [{"message":"TotalRequests Limit exceeded.","errorCode":"REQUEST_LIMIT_EXCEEDED"}]`, "403", ok},
		{"row lock", func(o *sftest.Org) { o.LockRows(1) }, ok, `400 [{"message":"unable to obtain exclusive access to this record","errorCode":"UNABLE_TO_LOCK_ROW","fields":[]}]`, ok},
		{"moved", func(o *sftest.Org) { o.MoveInstance("https://moved.my.salesforce.com", sftest.MoveURLNotReset) }, `400 [{"message":"Destination URL not reset. The URL returned from login must be set","errorCode":"URL_NOT_RESET"}]`, "400", ok},
		{"moved, session refused", func(o *sftest.Org) { o.MoveInstance("https://moved.my.salesforce.com", sftest.MoveInvalidSession) }, expired, expired, ok},
		{"moved, page not found", func(o *sftest.Org) { o.MoveInstance("https://moved.my.salesforce.com", sftest.MoveNotFound) }, "404 \n<!DOCTYPE HTML>", "404", ok},
		{"moved, redirect", func(o *sftest.Org) { o.MoveInstance("https://moved.my.salesforce.com", sftest.MoveRedirect) }, "302 ", "302 ", ok},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			org, c := setup(t)
			tt.set(org)
			got := func(status int, body string) string { return fmt.Sprintf("%d %s", status, body) }
			read := got(c.do("GET", "/query?q="+url.QueryEscape("SELECT Id FROM Account"), ""))
			write := got(c.do("POST", "/sobjects/Account", `{"Name":"x"}`))
			refresh := got(c.form("/services/oauth2/token", refreshForm(c.refresh)))
			for _, pair := range [][3]string{{"read", tt.read, read}, {"write", tt.write, write}, {"refresh", tt.refresh, refresh}} {
				if !strings.HasPrefix(pair[2], pair[1]) {
					t.Errorf("%s: got %s, want %s", pair[0], pair[2], pair[1])
				}
			}
		})
	}
}

func TestReadOnlyShowsInOrganization(t *testing.T) {
	t.Parallel()
	org, c := setup(t)
	ask := func() any {
		return c.query("SELECT IsReadOnly, InstanceName, IsSandbox FROM Organization")[0]["IsReadOnly"]
	}
	org.SetReadOnly(sftest.ReadOnly)
	during := ask()
	_, body := c.do("PATCH", "/composite/sobjects/Account/Ext__c", records(false, "Account", map[string]any{"Ext__c": "a", "Name": "x"}, map[string]any{"Ext__c": "b", "Name": "x"}))
	org.SetReadOnly(sftest.ReadWrite)
	if after := ask(); during != true || after != false {
		t.Errorf("IsReadOnly = %v, then %v", during, after)
	}
	code := "INSERT_UPDATE_DELETE_NOT_ALLOWED_DURING_MAINTENANCE"
	if diff := cmp.Diff([]string{code, code}, c.outcome(body)); diff != "" {
		t.Errorf("collections (-want +got):\n%s", diff)
	}
}

func TestMovedOrgWorksAtItsNewHost(t *testing.T) {
	t.Parallel()
	org, c := setup(t)
	org.MoveInstance("https://moved.my.salesforce.com", sftest.MoveURLNotReset)
	c.refreshNow()
	if c.base != "https://moved.my.salesforce.com" {
		t.Errorf("instance_url = %s", c.base)
	}
	if status, body := c.do("GET", "/limits", ""); status != 200 {
		t.Errorf("new host: %d %s", status, body)
	}
}

func TestWrongHosts(t *testing.T) {
	t.Parallel()
	sim := sftest.New(nil)
	one, two := sim.AddOrg(nil), sim.AddOrg(nil)
	c := connect(t, one, sim.Client())
	for base, want := range map[string]int{one.InstanceURL(): 200, two.InstanceURL(): 401, sim.LoginURL(): 400, "https://nobody.my.salesforce.com": 404} {
		c.base = base
		if status, body := c.do("GET", "/limits", ""); status != want {
			t.Errorf("%s: %d %s, want %d", base, status, body, want)
		}
	}
}

func TestEdgeAnswers(t *testing.T) {
	t.Parallel()
	tests := []struct {
		fault       sftest.Fault
		status      int
		contentType string
		body        string
	}{
		{sftest.HTMLError(502), 502, "text/html", "An unexpected connection error occurred"},
		{sftest.NoHealthyUpstream(), 503, "text/plain", "no healthy upstream"},
		{sftest.EdgeEmpty406(), 406, "", ""},
		{sftest.Edge420(), 420, "text/html", "We are setting things up"},
		{sftest.ServerUnavailable(30 * time.Second), 503, "application/json;charset=UTF-8", "SERVER_UNAVAILABLE"},
		{sftest.APIError(400, "QUERY_TIMEOUT", "Your query request was running for too long."), 400, "application/json;charset=UTF-8", "QUERY_TIMEOUT"},
		{sftest.MalformedJSON(), 200, "application/json;charset=UTF-8", `{"]{`},
		{sftest.ShortBody(), 200, "application/json;charset=UTF-8", `{"`},
	}
	for _, tt := range tests {
		org, c := setup(t)
		i := org.Inject(tt.fault.Next(1))
		status, body, h := c.send("GET", "/limits", "")
		if status != tt.status || h.Get("Content-Type") != tt.contentType || !strings.Contains(body, tt.body) {
			t.Errorf("%s: %d %s %s", tt.fault.Name, status, h.Get("Content-Type"), body)
		}
		if tt.fault.Name == "server_unavailable" && h.Get("Retry-After") != "30" {
			t.Errorf("Retry-After = %q", h.Get("Retry-After"))
		}
		if status, body := c.do("GET", "/limits", ""); status != 200 || i.Hits() != 1 {
			t.Errorf("%s: next call answers %d %s after %d hits", tt.fault.Name, status, body, i.Hits())
		}
	}
}

func TestFaultsMatchAndCount(t *testing.T) {
	t.Parallel()
	org, c := setup(t)
	i := org.Inject(sftest.HTMLError(503).On("GET", "/limits").After(1).Next(2))
	var got []int
	for range 5 {
		status, _ := c.do("GET", "/limits", "")
		got = append(got, status)
		c.do("GET", "/sobjects", "")
	}
	if diff := cmp.Diff([]int{200, 503, 503, 200, 200}, got); diff != "" {
		t.Errorf("statuses (-want +got):\n%s", diff)
	}
	if i.Hits() != 2 {
		t.Errorf("%d hits, want 2", i.Hits())
	}
	always := org.Inject(sftest.OAuthError("invalid_grant", "authentication failure"))
	if _, body := c.refreshNow(); oauthError(t, body) != "invalid_grant: authentication failure" {
		t.Errorf("token fault: %s", body)
	}
	always.Remove()
	if status, _ := c.refreshNow(); status != 200 {
		t.Errorf("after Remove: %d", status)
	}
}

func TestDroppedConnections(t *testing.T) {
	t.Parallel()
	server, err := sftest.NewServer(nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	sim := sftest.New(nil)
	over := map[string]*client{
		"in process": connect(t, sim.AddOrg(nil), sim.Client()),
		"over TCP":   connect(t, server.AddOrg(nil), &http.Client{Transport: &http.Transport{}}),
	}
	orgs := map[string]*sftest.Org{"in process": sim.Orgs()[0], "over TCP": server.Orgs()[0]}
	for name, c := range over {
		org := orgs[name]
		org.Inject(sftest.DropBefore().On("POST", "").Next(1))
		if resp, err := c.try("POST", "/sobjects/Account", `{"Name":"x"}`); err == nil {
			t.Errorf("%s: dropped call answers %d", name, resp.StatusCode)
		}
		if n := org.Count("Account"); n != 0 {
			t.Errorf("%s: call dropped before left %d rows", name, n)
		}
		org.Inject(sftest.DropAfterCommit().On("POST", "").Next(1))
		_, err := c.try("POST", "/sobjects/Account", `{"Name":"x"}`)
		if err == nil {
			t.Errorf("%s: no error", name)
		}
		if name == "in process" && !errors.Is(err, sftest.ErrConnectionDropped) {
			t.Errorf("error = %v", err)
		}
		if n := org.Count("Account"); n != 1 {
			t.Errorf("%s: call dropped after commit left %d rows", name, n)
		}
		org.Seed("Account", 100, 1)
		org.Inject(sftest.TruncateBody().Next(1))
		resp, err := c.try("GET", "/query?q="+url.QueryEscape("SELECT Id, Name FROM Account"), "")
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if b, err := io.ReadAll(resp.Body); !errors.Is(err, io.ErrUnexpectedEOF) || len(b) == 0 {
			t.Errorf("%s: truncated body gave %d bytes and %v", name, len(b), err)
		}
		resp.Body.Close()
		var dropped int
		for _, e := range org.Audit() {
			if e.Dropped {
				dropped++
			}
		}
		if dropped != 2 {
			t.Errorf("%s: audit shows %d dropped calls, want 2", name, dropped)
		}
	}
}

func TestLatencyHonoursTheContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		org, c := setup(t)
		org.Inject(sftest.Latency(time.Minute))
		start := time.Now()
		if status, _ := c.do("GET", "/limits", ""); status != 200 || time.Since(start) != time.Minute {
			t.Errorf("status %d after %s", status, time.Since(start))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, "GET", c.base+"/services/data", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+c.token)
		if _, err := c.http.Do(req); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 61*time.Second {
			t.Errorf("error %v after %s", err, time.Since(start))
		}
	})
}

func TestConcurrencyLimit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		org, c := setup(t)
		org.SetConcurrency(2)
		org.Inject(sftest.Hold(time.Second))
		results := make(chan string, 3)
		for range 3 {
			go func() {
				status, body := c.do("GET", "/limits", "")
				results <- fmt.Sprintf("%d %.40s", status, body)
			}()
		}
		want := `403 [{"message":"ConcurrentRequests (Concurr`
		if got := <-results; got != want {
			t.Errorf("first to return: %s, want %s", got, want)
		}
		for range 2 {
			if got := <-results; !strings.HasPrefix(got, "200") {
				t.Errorf("others: %s", got)
			}
		}
	})
}

func TestRowLocksAreByKey(t *testing.T) {
	t.Parallel()
	org, c := setup(t)
	id := org.Insert("Account", sftest.Record{"Name": "A", "Ext__c": "a"})
	org.LockKeys("a", "b")
	body := records(false, "Account", map[string]any{"Ext__c": "a", "Name": "1"}, map[string]any{"Ext__c": "b", "Name": "2"}, map[string]any{"Ext__c": "c", "Name": "3"})
	_, got := c.do("PATCH", "/composite/sobjects/Account/Ext__c", body)
	if diff := cmp.Diff([]string{"UNABLE_TO_LOCK_ROW", "UNABLE_TO_LOCK_ROW", "created"}, c.outcome(got)); diff != "" {
		t.Errorf("locked (-want +got):\n%s", diff)
	}
	org.UnlockKeys()
	_, got = c.do("PATCH", "/composite/sobjects/Account/Ext__c", body)
	if diff := cmp.Diff([]string{"updated", "created", "updated"}, c.outcome(got)); diff != "" {
		t.Errorf("unlocked (-want +got):\n%s", diff)
	}
	if n := len(org.Writes(string(id))); n != 1 {
		t.Errorf("%d writes of the locked record, want 1", n)
	}
}

func TestHealEndsEverything(t *testing.T) {
	t.Parallel()
	org, c := setup(t)
	org.SetReadOnly(sftest.ReadOnlySessions)
	org.SetIPLock(sftest.IPLogin)
	org.BlockApp("", sftest.AppNotInstalled)
	org.Inject(sftest.HTMLError(503))
	org.Heal()
	if status, body := c.do("POST", "/sobjects/Account", `{"Name":"x"}`); status != 201 {
		t.Errorf("after Heal: %d %s", status, body)
	}
}
