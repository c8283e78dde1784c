package sftest_test

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weirhq/weir/sfapi/sftest"
)

func TestQueryPagesThroughEverything(t *testing.T) {
	t.Parallel()
	org, c := setup(t)
	org.Seed("Account", 4500, 1)
	org.ResetAudit()
	got := c.query("SELECT Id, Name FROM Account ORDER BY SystemModstamp, Id")
	var want []string
	for _, r := range org.Rows("Account") {
		want = append(want, string(r.ID))
	}
	if diff := cmp.Diff(want, ids(got)); diff != "" {
		t.Errorf("ids (-want +got):\n%s", diff)
	}
	if n := org.Calls(sftest.OpQuery, sftest.OpQueryMore); n != 3 {
		t.Errorf("4500 rows took %d calls, want 3", n)
	}
	if got := c.pages("/query?q="+url.QueryEscape("SELECT Id FROM Account LIMIT 450"), "Sforce-Query-Options", "batchSize=200"); len(got) != 450 {
		t.Errorf("got %d rows", len(got))
	}
	if n := org.Calls(sftest.OpQuery, sftest.OpQueryMore); n != 6 {
		t.Errorf("450 rows by 200 made %d calls, want 3", n-3)
	}
}

func TestQueryRendersEachType(t *testing.T) {
	t.Parallel()
	org, c := setup(t)
	acc := org.Insert("Account", sftest.Record{"Name": "Parent"})
	id := org.Insert("Contact", sftest.Record{"FirstName": "Zoë", "LastName": "Å\r\n\"x\"", "AccountId": acc, "Score__c": 12.0,
		"Budget__c": 350000000.0, "Visits__c": 7, "Birthdate": "1990-02-03", "HasOptedOutOfEmail": true,
		"LastCall__c": time.Date(2026, 1, 2, 3, 4, 5, 6e6, time.UTC), "MailingCity": "Köln", "Photo__c": "YQ==",
		"SystemModstamp": time.Date(2026, 1, 2, 3, 4, 5, 999e6, time.UTC)})
	_, body := c.do("GET", "/query?q="+url.QueryEscape("SELECT Id, Name, LastName, Score__c, Budget__c, Visits__c, Birthdate, HasOptedOutOfEmail, "+
		"LastCall__c, Email, SystemModstamp, MailingAddress, Photo__c, Account.Name, Owner.Username, Account.Owner.Username FROM Contact"), "")
	want := `{"totalSize":1,"done":true,"records":[{"attributes":{"type":"Contact","url":"/services/data/v66.0/sobjects/Contact/` + string(id) + `"},` +
		`"Id":"` + string(id) + `","Name":"Zoë Å\r\n\"x\"","LastName":"Å\r\n\"x\"","Score__c":12.0,"Budget__c":3.5E8,"Visits__c":7,"Birthdate":"1990-02-03",` +
		`"HasOptedOutOfEmail":true,"LastCall__c":"2026-01-02T03:04:05.006+0000","Email":null,"SystemModstamp":"2026-01-02T03:04:05.000+0000",` +
		`"MailingAddress":{"city":"Köln","country":null,"postalCode":null,"state":null,"street":null,"geocodeAccuracy":null,"latitude":null,"longitude":null},` +
		`"Photo__c":"/services/data/v66.0/sobjects/Contact/` + string(id) + `/Photo__c",` +
		`"Account":{"attributes":{"type":"Account","url":"/services/data/v66.0/sobjects/Account/` + string(acc) + `"},"Name":"Parent","Owner":` + owner(org) + `},` +
		`"Owner":` + owner(org) + `}]}`
	if diff := cmp.Diff(want, body); diff != "" {
		t.Errorf("page (-want +got):\n%s", diff)
	}
}

func owner(org *sftest.Org) string {
	u := org.Users()[0]
	return `{"attributes":{"type":"User","url":"/services/data/v66.0/sobjects/User/` + string(u.ID) + `"},"Username":"` + u.Username + `"}`
}

func TestWhereAndOrder(t *testing.T) {
	t.Parallel()
	org, c := setup(t)
	at := func(s string) time.Time {
		v, err := time.Parse(time.RFC3339, s)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	byName := map[string]sftest.ID{}
	for _, r := range []sftest.Record{
		{"Name": "alpha", "Score__c": 1.5, "NumberOfEmployees": 10, "Active__c": true, "Founded__c": "2001-01-01", "LastReview__c": at("2026-01-01T10:00:00Z"), "SystemModstamp": at("2026-03-01T00:00:00Z")},
		{"Name": "Beta_1", "Score__c": -2.0, "NumberOfEmployees": 20, "Founded__c": "2002-01-01", "LastReview__c": at("2026-01-01T12:00:00Z"), "SystemModstamp": at("2026-03-01T00:00:00Z")},
		{"Name": "gam'ma\n", "Industry": "Energy", "Phone": "", "SystemModstamp": at("2026-03-02T00:00:00Z")},
		{"Name": `del\ta%`, "Industry": "Banking", "Active__c": true, "SystemModstamp": at("2026-03-03T00:00:00Z")},
	} {
		byName[r["Name"].(string)] = org.Insert("Account", r)
	}
	a, b, g, d := "alpha", "Beta_1", "gam'ma\n", `del\ta%`
	tests := []struct {
		where string
		want  []string
	}{
		{"WHERE Name = 'ALPHA'", []string{a}},
		{"WHERE Name != 'alpha' ORDER BY Name", []string{b, d, g}},
		{"WHERE Name < 'c' ORDER BY Name DESC", []string{b, a}},
		{"WHERE Name LIKE '%a' ORDER BY Name", []string{a}},
		{`WHERE Name LIKE 'beta\_%'`, []string{b}},
		{`WHERE Name LIKE '%\%'`, []string{d}},
		{"WHERE Name LIKE '_lpha'", []string{a}},
		{`WHERE Name = 'gam\'ma\n'`, []string{g}},
		{`WHERE Name = 'del\\ta%'`, []string{d}},
		{`WHERE Name = '\u0061lpha'`, []string{a}},
		{"WHERE Name IN ('alpha', 'beta_1') ORDER BY Name", []string{a, b}},
		{"WHERE Name NOT IN ('alpha', 'beta_1') ORDER BY Name", []string{d, g}},
		{"WHERE Industry = null ORDER BY Name", []string{a, b}},
		{"WHERE Industry != NULL ORDER BY Name", []string{d, g}},
		{"WHERE Industry != 'Energy' ORDER BY Name", []string{a, b, d}},
		{"WHERE Phone = '' AND Name LIKE 'gam%'", []string{g}},
		{"WHERE Score__c > -2", []string{a}},
		{"WHERE Score__c >= -2.0 ORDER BY Score__c", []string{b, a}},
		{"WHERE NumberOfEmployees IN (20, 30)", []string{b}},
		{"WHERE Active__c = true ORDER BY Name", []string{a, d}},
		{"WHERE Active__c != TRUE ORDER BY Name", []string{b, g}},
		{"WHERE Founded__c > 2001-06-01", []string{b}},
		{"WHERE LastReview__c = 2026-01-01T12:00:00+02:00", []string{a}},
		{"WHERE LastReview__c > 2026-01-01T10:00:00.000Z", []string{b}},
		{"WHERE LastReview__c < 2026-01-01T12:00:00.000+0000", []string{a}},
		{"WHERE SystemModstamp > 2026-03-01T00:00:00Z ORDER BY SystemModstamp, Id", []string{g, d}},
		{"WHERE SystemModstamp >= 2026-03-01T00:00:00Z AND SystemModstamp < 2026-03-03T00:00:00Z ORDER BY SystemModstamp, Id", []string{a, b, g}},
		{"WHERE (SystemModstamp > 2026-03-01T00:00:00Z OR (SystemModstamp = 2026-03-01T00:00:00Z AND Id > '" + string(byName[a]) + "')) ORDER BY SystemModstamp ASC, Id ASC LIMIT 2", []string{b, g}},
		{"WHERE NOT (Active__c = true) AND Name != null ORDER BY Name", []string{b, g}},
		{"WHERE (Name = 'alpha' OR Name = 'beta_1') AND Score__c < 0", []string{b}},
		{"WHERE Id = '" + byName[a].Short() + "'", []string{a}},
		{"WHERE Id IN ('" + string(byName[a]) + "','" + byName[d].Short() + "') ORDER BY Name", []string{a, d}},
		{"WHERE Owner.Username LIKE 'sync@%' ORDER BY Name LIMIT 1", []string{a}},
		{"ORDER BY Industry NULLS LAST, Name", []string{d, g, a, b}},
		{"ORDER BY Industry, Name", []string{a, b, d, g}},
		{"ORDER BY Name LIMIT 2 OFFSET 1", []string{b, d}},
		{"WHERE CreatedDate = TODAY ORDER BY Name", []string{}},
	}
	// The records carry stamps of the past as their CreatedDate.
	for _, tt := range tests {
		got := []string{}
		for _, r := range c.query("SELECT Name FROM Account " + tt.where) {
			got = append(got, r["Name"].(string))
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.where, diff)
		}
	}
}

func TestCountAndAggregates(t *testing.T) {
	t.Parallel()
	org, c := setup(t)
	org.Seed("Account", 30, 2)
	tests := []struct{ soql, want string }{
		{"SELECT COUNT() FROM Account", `{"totalSize":30,"done":true,"records":[]}`},
		{"SELECT count() FROM Account WHERE Name = 'none'", `{"totalSize":0,"done":true,"records":[]}`},
		{"SELECT COUNT(Id) n FROM Account", `{"totalSize":1,"done":true,"records":[{"attributes":{"type":"AggregateResult"},"n":30}]}`},
		{"SELECT COUNT(Id), MAX(Name) FROM Account WHERE Name = 'none'", `{"totalSize":1,"done":true,"records":[{"attributes":{"type":"AggregateResult"},"expr0":0,"expr1":null}]}`},
	}
	for _, tt := range tests {
		if _, got := c.do("GET", "/query?q="+url.QueryEscape(tt.soql), ""); got != tt.want {
			t.Errorf("%s\n got %s\nwant %s", tt.soql, got, tt.want)
		}
	}
}

func TestRefusedQueries(t *testing.T) {
	t.Parallel()
	_, c := setup(t)
	deep := "SELECT Id FROM Account WHERE " + strings.Repeat("(", 5000) + "Name = 'a'"
	tests := []struct{ soql, code string }{
		{"", "MALFORMED_QUERY"},
		{"SELEC Id FROM Account", "MALFORMED_QUERY"},
		{"SELECT Id FORM Account", "MALFORMED_QUERY"},
		{"SELECT * FROM Account", "MALFORMED_QUERY"},
		{"SELECT Id, FROM Account", "MALFORMED_QUERY"},
		{"SELECT Id FROM Account WHERE", "MALFORMED_QUERY"},
		{"SELECT Id FROM Account WHERE Name", "MALFORMED_QUERY"},
		{"SELECT Id FROM Account WHERE Name = ", "MALFORMED_QUERY"},
		{"SELECT Id FROM Account WHERE Name = 'open", "MALFORMED_QUERY"},
		{"SELECT Id FROM Account WHERE Name = 'a' AND Name = 'b' OR Name = 'c'", "MALFORMED_QUERY"},
		{`SELECT Id FROM Account WHERE Name = 'bad \q escape'`, "MALFORMED_QUERY"},
		{"SELECT Id FROM Account WHERE Name IN ()", "MALFORMED_QUERY"},
		{"SELECT Id FROM Account LIMIT many", "MALFORMED_QUERY"},
		{"SELECT Id FROM Account; DROP", "MALFORMED_QUERY"},
		{"SELECT Id FROM Account ORDER Name", "MALFORMED_QUERY"},
		{"SELECT Id, COUNT(Id) FROM Account", "MALFORMED_QUERY"},
		{"SELECT FIELDS(ALL) FROM Account", "MALFORMED_QUERY"},
		{deep, "MALFORMED_QUERY"},
		{"SELECT Id FROM Account OFFSET 2001", "NUMBER_OUTSIDE_VALID_RANGE"},
		{"SELECT Id FROM Nope", "INVALID_TYPE"},
		{"SELECT Id, Nope FROM Account", "INVALID_FIELD"},
		{"SELECT Id, Nope.Name FROM Account", "INVALID_FIELD"},
		{"SELECT Id, Name, name FROM Account", "INVALID_FIELD"},
		{"SELECT Id FROM Account WHERE Nope = 1", "INVALID_FIELD"},
		{"SELECT Id FROM Account WHERE Name = 1", "INVALID_FIELD"},
		{"SELECT Id FROM Account WHERE Score__c = '1'", "INVALID_FIELD"},
		{"SELECT Id FROM Account WHERE Active__c = 'true'", "INVALID_FIELD"},
		{"SELECT Id FROM Account WHERE CreatedDate > '2026-01-01T00:00:00Z'", "INVALID_FIELD"},
		{"SELECT Id FROM Account WHERE CreatedDate > 2026-01-01", "INVALID_FIELD"},
		{"SELECT Id FROM Account WHERE Description = 'x'", "INVALID_FIELD"},
		{"SELECT Id FROM Account ORDER BY BillingAddress", "INVALID_FIELD"},
		{"SELECT IsDeleted FROM User", "INVALID_FIELD"},
		{"SELECT Id FROM Account WHERE CreatedDate > 2026-99-01T00:00:00Z", "MALFORMED_QUERY"},
		{"SELECT Id FROM Account WHERE CreatedDate > 2026-01-01T00:00:00", "MALFORMED_QUERY"},
		{"SELECT Id FROM Account WHERE Id = 'zzz'", "INVALID_QUERY_FILTER_OPERATOR"},
		{"SELECT Id FROM Account WHERE Id LIKE '001%'", "INVALID_QUERY_FILTER_OPERATOR"},
		{"SELECT Id FROM Account WHERE Active__c > true", "INVALID_QUERY_FILTER_OPERATOR"},
	}
	for _, tt := range tests {
		status, body := c.do("GET", "/query?q="+url.QueryEscape(tt.soql), "")
		if got := c.code(body); status != 400 || got != tt.code {
			t.Errorf("%.80s: got %d %s, want 400 %s", tt.soql, status, got, tt.code)
		}
	}
}

func TestQueryAllSeesDeletedRows(t *testing.T) {
	t.Parallel()
	org, c := setup(t)
	rows := org.Seed("Account", 3, 3)
	org.Delete("Account", rows[0])
	org.HardDelete("Account", rows[1])
	if got := c.query("SELECT Id FROM Account"); len(got) != 1 {
		t.Errorf("query sees %d rows, want 1", len(got))
	}
	got := c.pages("/queryAll?q=" + url.QueryEscape("SELECT Id, IsDeleted FROM Account WHERE IsDeleted = true"))
	if diff := cmp.Diff([]string{string(rows[0])}, ids(got)); diff != "" {
		t.Errorf("deleted rows (-want +got):\n%s", diff)
	}
	org.Undelete("Account", rows[0])
	if got := c.query("SELECT Id FROM Account"); len(got) != 2 {
		t.Errorf("after undelete query sees %d rows, want 2", len(got))
	}
}

func TestCursorIsASnapshot(t *testing.T) {
	t.Parallel()
	org, c := setup(t)
	rows := org.Seed("Account", 2500, 4)
	_, body := c.do("GET", "/query?q="+url.QueryEscape("SELECT Id, Name FROM Account ORDER BY SystemModstamp, Id"), "")
	var first page
	c.decode(body, &first)
	was, _ := org.Row("Account", rows[2499])
	org.Update("Account", rows[2499], sftest.Record{"Name": "changed"})
	org.Seed("Account", 100, 5)
	org.AddField("Account", sftest.Field{Name: "Late__c"})
	_, body = c.do("GET", first.NextRecordsURL, "")
	var second page
	c.decode(body, &second)
	rest := second.Records
	if got := rest[len(rest)-1]["Name"]; got != was.Fields["Name"] {
		t.Errorf("row of an open cursor changed to %q", got)
	}
}

func TestCursorsEndWithTheirSession(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		org, c := setup(t)
		org.SetRotation(true)
		org.SetSessionTimeout(100 * time.Hour)
		org.Seed("Account", 2500, 6)
		open := func() string {
			_, body := c.do("GET", "/query?q="+url.QueryEscape("SELECT Id FROM Account"), "")
			var p page
			c.decode(body, &p)
			return p.NextRecordsURL
		}
		dead := func(next, why string) {
			t.Helper()
			if status, body := c.do("GET", next, ""); status != 400 || c.code(body) != "INVALID_QUERY_LOCATOR" {
				t.Errorf("%s: %d %.100s", why, status, body)
			}
		}
		next := open()
		if status, _ := c.do("GET", next, ""); status != 200 {
			t.Errorf("live cursor answers %d", status)
		}
		if status, _ := c.do("GET", next, ""); status != 200 {
			t.Errorf("last page cannot be read again: %d", status)
		}
		c.refreshNow()
		dead(next, "after a rotating refresh")

		next = open()
		for range 10 {
			open()
		}
		dead(next, "after ten more cursors")
		if n := org.OpenCursors(); n != 10 {
			t.Errorf("%d cursors are open, want 10", n)
		}

		next = open()
		time.Sleep(47 * time.Hour)
		if status, _ := c.do("GET", next, ""); status != 200 {
			t.Errorf("cursor is dead after 47 hours: %d", status)
		}
		time.Sleep(48 * time.Hour)
		dead(next, "after two days")
		dead("/query/01g5e0000000zzzAAA-2000", "unknown locator")
		dead("/query/garbage", "garbage")
	})
}

func TestLateCommitAppearsBelowTheCursor(t *testing.T) {
	t.Parallel()
	org, c := setup(t)
	stamp := time.Now().Add(-time.Minute)
	late := org.InsertHidden("Account", stamp, sftest.Record{"Name": "late", "Ext__c": "k1"})
	seen := org.Insert("Account", sftest.Record{"Name": "seen"})
	if got := ids(c.query("SELECT Id FROM Account")); cmp.Diff([]string{string(seen)}, got) != "" {
		t.Errorf("hidden row is visible: %v", got)
	}
	if status, _ := c.do("GET", "/sobjects/Account/Ext__c/k1", ""); status != 404 {
		t.Errorf("hidden row can be read: %d", status)
	}
	org.Reveal("Account", late)
	if got := ids(c.query("SELECT Id FROM Account ORDER BY SystemModstamp, Id")); cmp.Diff([]string{string(late), string(seen)}, got) != "" {
		t.Errorf("got %v, want the late row first", got)
	}
	org.SetStamp("Account", stamp, late, seen)
	if got := c.query(fmt.Sprintf("SELECT Id FROM Account WHERE SystemModstamp = %s", stamp.UTC().Format("2006-01-02T15:04:05Z"))); len(got) != 2 {
		t.Errorf("%d rows share the stamp, want 2", len(got))
	}
}
