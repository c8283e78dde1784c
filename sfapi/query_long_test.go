package sfapi_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/weirhq/weir/sfapi"
	"github.com/weirhq/weir/sfapi/sftest"
)

// A query that fits into no URL runs all the same: its first page comes by a
// composite request, the others by their locator.
func TestSimulated_LongQuery(t *testing.T) {
	t.Parallel()
	c, o := simulate(t, 2500)
	long := func(prefix, n string) string {
		names := make([]string, 2000)
		for i := range names {
			names[i] = fmt.Sprintf("'n%04d'", i)
		}
		return "SELECT " + prefix + " FROM Account WHERE Name >= '" + n + "' AND Name NOT IN ('@{query.x}'," + strings.Join(names, ",") + ")"
	}
	if _, err := c.QueryCount(t.Context(), "SELECT COUNT() FROM Account"); err != nil {
		t.Fatal(err)
	}
	o.ResetAudit()
	rows, pages := 0, 0
	for page, err := range sfapi.QueryPages[sfapi.Record](t.Context(), c, long("Id, Name", "n0000"), &sfapi.QueryOptions{All: true, BatchSize: 200}) {
		if err != nil {
			t.Fatal(err)
		}
		if page.ServerTime.IsZero() {
			t.Error("page without the server's time")
		}
		rows, pages = rows+len(page.Records), pages+1
	}
	if rows != 500 {
		t.Errorf("%d rows, want 500", rows)
	}
	if n := o.Calls(sftest.OpComposite); n != 1 || o.Calls() != int64(pages) {
		t.Errorf("%d composite calls of %d, for %d pages", n, o.Calls(), pages)
	}
	if n, err := c.QueryCount(t.Context(), long("COUNT()", "n2400")); n != 100 || err != nil {
		t.Errorf("count is %d, %v", n, err)
	}

	// What is wrong with the query is told as it is of a short one.
	_, err := c.QueryCount(t.Context(), long("COUNT(Nonsense__c), COUNT()", "n"))
	if sfapi.KindOf(err) != sfapi.KindBadRequest {
		t.Errorf("a malformed query: %v is %v", err, sfapi.KindOf(err))
	}
	o.ExpireSessions() // and a session is refreshed
	if n, err := c.QueryCount(t.Context(), long("COUNT()", "n2400")); n != 100 || err != nil {
		t.Errorf("after the session: %d, %v", n, err)
	}
	if _, err := c.QueryCount(t.Context(), "SELECT COUNT() FROM Account WHERE Name = '"+strings.Repeat("x", 100_000)+"'"); !errors.Is(err, sfapi.ErrQueryTooLong) {
		t.Errorf("a query of 100,000 characters: %v", err)
	}
}
