package sftest_test

import (
	"compress/gzip"
	"encoding/json"
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

func TestUsageIsCountedAndLimited(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		sim := sftest.New(nil)
		org := sim.AddOrg(&sftest.OrgConfig{DailyLimit: 3, PerAppLimit: 250})
		org.SetSessionTimeout(100 * time.Hour)
		c := connect(t, org, sim.Client())
		var got []string
		for range 4 {
			status, _, h := c.send("GET", "/limits", "")
			got = append(got, fmt.Sprint(status, " ", h.Get("Sforce-Limit-Info")))
			c.do("GET", "/services/data", "") // costs nothing
		}
		want := []string{
			"200 api-usage=1/3; per-app-api-usage=1/250(appName=Default App)",
			"200 api-usage=2/3; per-app-api-usage=2/250(appName=Default App)",
			"200 api-usage=3/3; per-app-api-usage=3/250(appName=Default App)",
			"403 api-usage=3/3; per-app-api-usage=3/250(appName=Default App)",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("usage (-want +got):\n%s", diff)
		}
		time.Sleep(25 * time.Hour)
		_, body := c.do("GET", "/limits", "")
		var limits map[string]struct{ Max, Remaining int }
		c.decode(body, &limits)
		if got := limits["DailyApiRequests"]; got.Max != 3 || got.Remaining != 2 {
			t.Errorf("a day later: %+v", got)
		}
		org.SetDailyUsage(2)
		if org.DailyUsage() != 2 {
			t.Errorf("usage = %d", org.DailyUsage())
		}
	})
}

func TestRoutes(t *testing.T) {
	t.Parallel()
	_, c := setup(t)
	tests := []struct {
		method, path string
		header       []string
		status       int
		code         string
	}{
		{"GET", "/services/data", nil, 200, ""},
		{"GET", "", nil, 200, ""},
		{"GET", "/sobjects", nil, 200, ""},
		{"GET", "/sobjects/Account", nil, 200, ""},
		{"GET", "/services/data/v99.0/limits", nil, 404, "NOT_FOUND"},
		{"GET", "/services/data/v66/limits", nil, 404, "NOT_FOUND"},
		{"GET", "/services/data/v30.0/limits", nil, 410, "GONE"},
		{"GET", "/nope", nil, 404, "NOT_FOUND"},
		{"POST", "/jobs/ingest", nil, 404, "NOT_FOUND"},
		{"POST", "/limits", nil, 405, "METHOD_NOT_ALLOWED"},
		{"POST", "/query?q=SELECT+Id+FROM+Account", nil, 405, "METHOD_NOT_ALLOWED"},
		{"GET", "/limits", []string{"Authorization", "Basic eDp5"}, 401, "INVALID_AUTH_HEADER"},
		{"GET", "/limits", []string{"Authorization", ""}, 401, "INVALID_SESSION_ID"},
		{"GET", "/limits", []string{"Authorization", "Bearer nonsense"}, 401, "INVALID_SESSION_ID"},
		{"GET", "/query?q=SELECT+Id+FROM+Account", []string{"Sforce-Query-Options", "size=1"}, 400, "INVALID_QUERY_OPTIONS"},
	}
	for _, tt := range tests {
		status, body := c.do(tt.method, tt.path, "", tt.header...)
		code := ""
		if status >= 400 {
			code = c.code(body)
		}
		if status != tt.status || code != tt.code {
			t.Errorf("%s %s: got %d %s, want %d %s", tt.method, tt.path, status, body, tt.status, tt.code)
		}
	}
	if status, body := c.do("GET", "/query?q="+strings.Repeat("x", 17000), ""); status != 414 {
		t.Errorf("long URI: %d %s", status, body)
	}
	if status, body := c.do("GET", "/limits", "", "X-Long", strings.Repeat("x", 17000)); status != 431 {
		t.Errorf("long header: %d %s", status, body)
	}
}

func TestBodiesAreBounded(t *testing.T) {
	t.Parallel()
	sim := sftest.New(&sftest.Config{MaxBodyBytes: 1000})
	c := connect(t, sim.AddOrg(nil), sim.Client())
	if status, _ := c.do("POST", "/sobjects/Account", `{"Name":"`+strings.Repeat("x", 1000)+`"}`); status != 413 {
		t.Errorf("large body: %d", status)
	}
}

func TestGzip(t *testing.T) {
	t.Parallel()
	org, c := setup(t)
	org.Seed("Account", 50, 1)
	path := "/query?q=" + url.QueryEscape("SELECT Id, Name FROM Account")
	_, want := c.do("GET", path, "")
	resp, err := c.try("GET", path, "", "Accept-Encoding", "gzip")
	if err != nil || resp.Header.Get("Content-Encoding") != "gzip" {
		t.Fatalf("answer is not compressed: %v", err)
	}
	defer resp.Body.Close()
	zr, err := gzip.NewReader(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(zr); err != nil || string(got) != want {
		t.Errorf("decompressed %d bytes, want %d: %v", len(got), len(want), err)
	}
	var small strings.Builder
	zw := gzip.NewWriter(&small)
	if _, err := zw.Write([]byte(`{"Name":"zipped"}`)); err != nil {
		t.Fatal(err)
	}
	if err := zw.Close(); err != nil {
		t.Fatal(err)
	}
	if status, body := c.do("POST", "/sobjects/Account", small.String(), "Content-Encoding", "gzip"); status != 201 {
		t.Errorf("compressed request: %d %s", status, body)
	}
	if status, _ := c.do("POST", "/sobjects/Account", "not gzip", "Content-Encoding", "gzip"); status != 400 {
		t.Errorf("broken compression: %d", status)
	}
}

func TestDescribe(t *testing.T) {
	t.Parallel()
	org, c := setup(t)
	type field struct {
		Name, Type, RelationshipName    string
		Length                          int
		ExternalID, Unique, Nillable    bool
		Createable, Updateable, Custom  bool
		CompoundFieldName               *string
		ReferenceTo                     []string
		CaseSensitive, DeprecatedHidden bool
	}
	describe := func(object string) map[string]field {
		t.Helper()
		_, body := c.do("GET", "/sobjects/"+object+"/describe", "")
		var d struct{ Fields []field }
		c.decode(body, &d)
		m := map[string]field{}
		for _, f := range d.Fields {
			m[f.Name] = f
		}
		return m
	}
	for _, object := range []string{"Account", "Contact", "Widget__c"} {
		if n := len(describe(object)); n < 20 {
			t.Errorf("%s has %d fields, want 20", object, n)
		}
	}
	acc := describe("Account")
	compound := "BillingAddress"
	want := map[string]field{
		"Name":          {Name: "Name", Type: "string", Length: 255, Createable: true, Updateable: true, ReferenceTo: []string{}},
		"Ext__c":        {Name: "Ext__c", Type: "string", Length: 255, ExternalID: true, Unique: true, Nillable: true, Createable: true, Updateable: true, Custom: true, ReferenceTo: []string{}},
		"ParentId":      {Name: "ParentId", Type: "reference", RelationshipName: "Parent", Length: 18, Nillable: true, Createable: true, Updateable: true, ReferenceTo: []string{"Account"}},
		"BillingCity":   {Name: "BillingCity", Type: "string", Length: 40, Nillable: true, Createable: true, Updateable: true, CompoundFieldName: &compound, ReferenceTo: []string{}},
		compound:        {Name: compound, Type: "address", Nillable: true, ReferenceTo: []string{}},
		"Logo__c":       {Name: "Logo__c", Type: "base64", Nillable: true, Createable: true, Updateable: true, Custom: true, ReferenceTo: []string{}},
		"IsDeleted":     {Name: "IsDeleted", Type: "boolean", ReferenceTo: []string{}},
		"Founded__c":    {Name: "Founded__c", Type: "date", Nillable: true, Createable: true, Updateable: true, Custom: true, ReferenceTo: []string{}},
		"LastReview__c": {Name: "LastReview__c", Type: "datetime", Nillable: true, Createable: true, Updateable: true, Custom: true, ReferenceTo: []string{}},
	}
	for name, w := range want {
		if diff := cmp.Diff(w, acc[name]); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	if _, ok := describe("User")["IsDeleted"]; ok {
		t.Error("User has IsDeleted")
	}
	id := org.Insert("Account", sftest.Record{"Name": "x"})
	org.AddField("Account", sftest.Field{Name: "New__c", Default: "d"})
	org.RemoveField("Account", "Rating")
	acc = describe("Account")
	if _, gone := acc["Rating"]; gone || acc["New__c"].Type != "string" {
		t.Errorf("New__c = %+v, Rating is there: %t", acc["New__c"], gone)
	}
	if got := c.query("SELECT New__c FROM Account WHERE Id = '" + string(id) + "'"); got[0]["New__c"] != "d" {
		t.Errorf("new field of an old record = %v", got[0]["New__c"])
	}
	if status, body := c.do("GET", "/query?q="+url.QueryEscape("SELECT Rating FROM Account"), ""); status != 400 || c.code(body) != "INVALID_FIELD" {
		t.Errorf("removed field: %d %s", status, body)
	}
	org.DefineObject(sftest.Object{Name: "Part__c", Fields: []sftest.Field{{Name: "Name"}}})
	if status, body := c.do("POST", "/sobjects/Part__c", `{"Name":"p"}`); status != 201 {
		t.Errorf("object of our own: %d %s", status, body)
	}
	if status, _ := c.do("GET", "/sobjects/Nope/describe", ""); status != 404 {
		t.Errorf("unknown object: %d", status)
	}
}

func TestGetDeletedAndUpdated(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		org, c := setup(t)
		a := org.Insert("Account", sftest.Record{"Name": "a"})
		b := org.Insert("Account", sftest.Record{"Name": "b"})
		soft := org.Insert("Account", sftest.Record{"Name": "c"})
		start := time.Now().UTC()
		time.Sleep(10 * time.Minute)
		org.Delete("Account", soft)
		org.HardDelete("Account", a)
		org.Update("Account", b, sftest.Record{"Name": "b2"})
		time.Sleep(10 * time.Minute)
		window := "?start=" + url.QueryEscape(start.Add(time.Minute).Format(time.RFC3339)) + "&end=" + url.QueryEscape(time.Now().UTC().Format(time.RFC3339))
		_, body := c.do("GET", "/sobjects/Account/deleted/"+window, "")
		var d struct {
			DeletedRecords    []struct{ ID string }
			LatestDateCovered string
		}
		c.decode(body, &d)
		if got := fmt.Sprint(d.DeletedRecords); got != fmt.Sprintf("[{%s} {%s}]", soft, a) {
			t.Errorf("deleted: %s", got)
		}
		_, body = c.do("GET", "/sobjects/Account/updated/"+window, "")
		var u struct{ IDs []string }
		c.decode(body, &u)
		if diff := cmp.Diff([]string{string(b)}, u.IDs); diff != "" {
			t.Errorf("updated (-want +got):\n%s", diff)
		}
		for _, bad := range []string{"", "?start=x&end=y", "?start=2020-01-01T00:00:00Z&end=2020-01-02T00:00:00Z",
			"?start=" + url.QueryEscape(start.Format(time.RFC3339)) + "&end=" + url.QueryEscape(start.Format(time.RFC3339))} {
			if status, body := c.do("GET", "/sobjects/Account/deleted/"+bad, ""); status != 400 {
				t.Errorf("window %q: %d %s", bad, status, body)
			}
		}
	})
}

func TestSeedIsRepeatableAndTricky(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		one, _ := setup(t)
		two, c := setup(t)
		one.Seed("Contact", 300, 42)
		two.Seed("Contact", 300, 42)
		rows := two.Rows("Contact")
		if diff := cmp.Diff(one.Rows("Contact"), rows); diff != "" {
			t.Fatalf("same seed, other rows:\n%.500s", diff)
		}
		stamps := map[time.Time]int{}
		var all strings.Builder
		nulls, empty := 0, 0
		for _, r := range rows {
			stamps[r.Stamp]++
			for _, v := range r.Fields {
				switch v {
				case nil:
					nulls++
				case "":
					empty++
				}
				fmt.Fprint(&all, v)
			}
		}
		for _, want := range []string{"\n", "\r\n", `"`, ",", "日本語", "🚀", `\n`, "#N/A"} {
			if !strings.Contains(all.String(), want) {
				t.Errorf("seeded data lacks %q", want)
			}
		}
		if nulls == 0 || empty == 0 || len(stamps) != 6 {
			t.Errorf("%d nulls, %d empty texts, %d stamps", nulls, empty, len(stamps))
		}
		for i, rec := range c.query("SELECT FIELDS(ALL) FROM Contact ORDER BY SystemModstamp, Id LIMIT 200") {
			for name, want := range rows[i].Fields {
				got, there := rec[name]
				switch w := want.(type) {
				case time.Time:
					want = w.Format("2006-01-02T15:04:05.000+0000")
				case int64:
					want = float64(w)
				}
				if name == "Photo__c" {
					continue // a query gives a URL
				}
				if !there || got != want {
					t.Fatalf("row %d: %s = %v, want %v", i, name, got, want)
				}
			}
		}
	})
}

func TestAudit(t *testing.T) {
	t.Parallel()
	org, c := setup(t)
	org.SetRotation(true)
	c.refreshNow()
	org.Seed("Account", 3, 1)
	c.query("SELECT Id FROM Account")
	c.do("POST", "/composite/sobjects", records(false, "Account", map[string]any{"Name": "x"}, map[string]any{}))
	var got []string
	for _, e := range org.Audit() {
		got = append(got, fmt.Sprint(e.Operation, " ", e.Status, " ", e.Generation, " ", e.RowsRead, " ", e.RowsTried, " ", e.RowsWritten, " ", e.Codes, " ", e.SOQL))
	}
	want := []string{"token 200 1 0 0 0 [] ", "token 200 2 0 0 0 [] ", "query 200 2 3 0 0 [] SELECT Id FROM Account", "collections 200 2 0 2 1 [REQUIRED_FIELD_MISSING] "}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("audit (-want +got):\n%s", diff)
	}
	if org.TokenCalls() != 2 || org.Calls() != 4 {
		t.Errorf("counters: %d token calls, %d calls", org.TokenCalls(), org.Calls())
	}
	if b, err := json.Marshal(org.Audit()[0]); err != nil || strings.Contains(string(b), c.refresh) {
		t.Errorf("audit as JSON: %s, %v", b, err)
	}
}

func TestManyOrgsBehindOneListener(t *testing.T) {
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
	hc := &http.Client{}
	one, two, own := server.AddOrg(nil), server.AddOrg(nil), server.AddOrg(nil)
	base, err := server.ListenFor(own)
	if err != nil {
		t.Fatal(err)
	}
	for i, org := range []*sftest.Org{one, two, own} {
		org.Insert("Account", sftest.Record{"Name": fmt.Sprint(i)})
		c := connect(t, org, hc)
		if want := org.InstanceURL(); c.base != want {
			t.Errorf("instance_url = %s, want %s", c.base, want)
		}
		if got := c.query("SELECT Name FROM Account")[0]["Name"]; got != fmt.Sprint(i) {
			t.Errorf("org %d sees account %v", i, got)
		}
		if got := c.query("SELECT Id FROM Organization")[0]["Id"]; got != org.ID() {
			t.Errorf("org %d has id %v", i, got)
		}
	}
	if base == server.URL {
		t.Errorf("own listener has the shared address %s", base)
	}
	c := connect(t, own, hc)
	c.base = server.URL
	if status, body := c.do("GET", "/limits", ""); status != 400 || c.code(body) != "URL_NOT_RESET" {
		t.Errorf("org with a listener of its own, at the login host: %d %s", status, body)
	}
}
