package sftest_test

import (
	"net/url"
	"testing"

	"github.com/weirhq/weir/sfapi/sftest"
)

// FuzzSOQL checks that no query brings the simulator down, and that each is
// either answered or refused with a code.
func FuzzSOQL(f *testing.F) {
	for _, s := range []string{
		"SELECT Id FROM Account",
		"SELECT Id, Owner.Name FROM Account WHERE (Name LIKE 'a%' OR NOT Phone = null) AND CreatedDate > 2026-01-01T00:00:00+02:00 ORDER BY Name DESC NULLS LAST LIMIT 5 OFFSET 1",
		"SELECT COUNT(Id) n, MAX(SystemModstamp) FROM Account WHERE Id IN ('001000000000001','001000000000001AAA')",
		`SELECT FIELDS(ALL) FROM Account WHERE Name = '\u00e9\'\\\n' AND Founded__c = LAST_N_DAYS:3 LIMIT 200`,
		"SELECT Id FROM Account WHERE Score__c > -1.5e3 AND Active__c != true",
	} {
		f.Add(s)
	}
	sim := sftest.New(nil)
	org := sim.AddOrg(nil)
	org.SetDailyLimit(1 << 30)
	org.Seed("Account", 20, 1)
	token := org.AccessToken()
	f.Fuzz(func(t *testing.T, soql string) {
		c := &client{t: t, http: sim.Client(), base: org.InstanceURL(), token: token}
		status, body := c.do("GET", "/query?q="+url.QueryEscape(soql), "")
		switch status {
		case 200:
			var p page
			c.decode(body, &p)
		case 400:
			if c.code(body) == "" {
				t.Errorf("no code in %s", body)
			}
		case 414:
		default:
			t.Errorf("%d %s", status, body)
		}
	})
}
