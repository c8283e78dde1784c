package sfapi_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/weirhq/weir/sfapi"
)

type account struct {
	ID   string `json:"Id"`
	Name string
}

// pageBody returns a page of rows from..to of total.
func pageBody(total, from, to int, next string) string {
	var rows []string
	for i := from; i < to; i++ {
		rows = append(rows, fmt.Sprintf(`{"attributes":{"type":"Account"},"Id":"%018d","Name":"n%d"}`, i, i))
	}
	more := ""
	if next != "" {
		more = fmt.Sprintf(`"nextRecordsUrl":%q,`, next)
	}
	return fmt.Sprintf(`{"totalSize":%d,"done":%t,%s"records":[%s]}`, total, next == "", more, strings.Join(rows, ","))
}

const locator = "/services/data/v66.0/query/01g000000000001AAA-"

// threePages answers a query of 5 rows on pages of 2.
func threePages(w http.ResponseWriter, r *http.Request) {
	switch {
	case strings.HasSuffix(r.URL.Path, "-2"):
		answer(w, 200, pageBody(5, 2, 4, locator+"4"))
	case strings.HasSuffix(r.URL.Path, "-4"):
		answer(w, 200, pageBody(5, 4, 5, ""))
	default:
		answer(w, 200, pageBody(5, 0, 2, locator+"2"))
	}
}

func names[T any](t *testing.T, o *org, opts *sfapi.QueryOptions, name func(T) string) []string {
	t.Helper()
	var got []string
	for row, err := range sfapi.Query[T](t.Context(), o.Client, "SELECT Id, Name FROM Account", opts) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, name(row))
	}
	return got
}

func TestQuery(t *testing.T) {
	t.Parallel()
	o := setup(t, threePages, nil)
	want := []string{"n0", "n1", "n2", "n3", "n4"}
	for range 2 { // again, from buffers that were used
		for _, opts := range []*sfapi.QueryOptions{nil, {NoPrefetch: true}} {
			if diff := cmp.Diff(want, names(t, o, opts, func(a account) string { return a.Name })); diff != "" {
				t.Errorf("typed rows (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(want, names(t, o, opts, func(r sfapi.Record) string { return r.String("Name") })); diff != "" {
				t.Errorf("records (-want +got):\n%s", diff)
			}
		}
	}
}

func TestQueryPages_Requests(t *testing.T) {
	t.Parallel()
	var got []string
	o := setup(t, func(w http.ResponseWriter, r *http.Request) {
		got = append(got, r.URL.Path+" "+r.URL.Query().Get("q")+" "+r.Header.Get("Sforce-Query-Options"))
		w.Header().Set("Date", "Tue, 13 Jan 2026 10:00:00 GMT")
		w.Header().Set("Sforce-Limit-Info", "api-usage=18/5000")
		threePages(w, r)
	}, nil)
	soql := "SELECT Id FROM Account WHERE Name = 'a+b & c%'"
	opts := &sfapi.QueryOptions{All: true, BatchSize: 200, NoPrefetch: true}
	var pages []string
	for page, err := range sfapi.QueryPages[account](t.Context(), o.Client, soql, opts) {
		if err != nil {
			t.Fatal(err)
		}
		pages = append(pages, fmt.Sprint(page.Number, len(page.Records), page.TotalSize, page.Done, page.Next, page.ServerTime.Format("15:04")))
	}
	want := []string{
		"/services/data/v66.0/queryAll " + soql + " batchSize=200",
		locator + "2  batchSize=200",
		locator + "4  batchSize=200",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
	wantPages := []string{
		fmt.Sprint(1, 2, 5, false, locator+"2", "10:00"),
		fmt.Sprint(2, 2, 5, false, locator+"4", "10:00"),
		fmt.Sprint(3, 1, 5, true, "", "10:00"),
	}
	if diff := cmp.Diff(wantPages, pages); diff != "" {
		t.Errorf("pages (-want +got):\n%s", diff)
	}
	if u, ok := o.Usage(); !ok || u.Used != 18 || u.Limit != 5000 || u.At.IsZero() {
		t.Errorf("Usage = %+v, %t", u, ok)
	}
}

func TestQueryPages_FetchesAhead(t *testing.T) {
	t.Parallel()
	asked := make(chan struct{}, 1)
	o := setup(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "-2") {
			asked <- struct{}{}
		}
		threePages(w, r)
	}, nil)
	for page, err := range sfapi.QueryPages[sfapi.Record](t.Context(), o.Client, "SELECT Id FROM Account", nil) {
		if err != nil {
			t.Fatal(err)
		}
		if page.Number == 1 {
			<-asked // while page 1 is in use
		}
	}
}

// TestQueryPages_StopsEarly relies on its bubble: a goroutine that outlives the
// loop would fail it.
func TestQueryPages_StopsEarly(t *testing.T) {
	t.Parallel()
	for name, leave := range map[string]func(cancel func()) bool{
		"break":  func(func()) bool { return true },
		"cancel": func(cancel func()) bool { cancel(); return false },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var stopped bool
				rt := roundTripFunc(func(r *http.Request) (*http.Response, error) {
					if strings.HasSuffix(r.URL.Path, "-2") { // never comes
						<-r.Context().Done()
						stopped = true
						return nil, r.Context().Err()
					}
					rec := httptest.NewRecorder()
					threePages(rec, r)
					return rec.Result(), nil
				})
				tok := sfapi.StaticToken(&sfapi.Token{Access: "t", InstanceURL: "https://acme.my.salesforce.com"})
				c, err := sfapi.NewClient(testOrg, newApp(), tok, &sfapi.ClientConfig{Transport: rt})
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				var last error
				for _, err := range sfapi.QueryPages[account](ctx, c, "SELECT Id FROM Account", nil) {
					last = err
					synctest.Wait() // the next page is on its way
					if err == nil && leave(cancel) {
						break
					}
				}
				if !stopped {
					t.Error("the fetch outlived the loop")
				}
				if name == "cancel" && !errors.Is(last, context.Canceled) {
					t.Errorf("last error = %v, want context.Canceled", last)
				}
			})
		})
	}
}

func TestQueryPages_Incomplete(t *testing.T) {
	t.Parallel()
	first := pageBody(4, 0, 2, locator+"2")
	whole := pageBody(2, 0, 2, "")
	for name, c := range map[string]struct {
		bodies []string
		pages  int // before the error
	}{
		"fewer rows":               {[]string{first, pageBody(4, 2, 3, "")}, 1},
		"more rows":                {[]string{first, pageBody(4, 2, 5, "")}, 1},
		"more rows on page 1":      {[]string{pageBody(1, 0, 2, "")}, 0},
		"not done, no next":        {[]string{strings.Replace(whole, `"done":true`, `"done":false`, 1)}, 0},
		"next is null":             {[]string{strings.Replace(whole, `"done":true`, `"done":false,"nextRecordsUrl":null`, 1)}, 0},
		"names itself":             {[]string{first, pageBody(4, 2, 3, locator+"2")}, 1},
		"page without rows":        {[]string{first, pageBody(4, 2, 2, locator+"3")}, 1},
		"total changes":            {[]string{first, pageBody(3, 2, 3, "")}, 1},
		"total is negative":        {[]string{pageBody(-1, 0, 2, "")}, 0},
		"total is missing":         {[]string{`{"done":true,"records":[]}`}, 0},
		"records are missing":      {[]string{`{"totalSize":0,"done":true}`}, 0},
		"records are there twice":  {[]string{`{"totalSize":0,"done":true,"records":[],"records":[]}`}, 0},
		"next names a host":        {[]string{pageBody(4, 0, 2, "https://evil.example/services/data/v66.0/query/x")}, 0},
		"next names a host softly": {[]string{pageBody(4, 0, 2, "//evil.example/services/data/")}, 0},
		"next is elsewhere":        {[]string{pageBody(4, 0, 2, "/secur/logout.jsp")}, 0},
		"cut between rows":         {[]string{whole[:strings.LastIndex(whole, ",{")]}, 0},
		"cut and closed":           {[]string{pageBody(5, 0, 2, "")}, 0},
		"cut in a row":             {[]string{whole[:len(whole)-10]}, 0},
		"two values":               {[]string{whole + whole}, 0},
		"not UTF-8":                {[]string{strings.Replace(whole, "n1", "\xc3(", 1)}, 0},
		"an array":                 {[]string{`[]`}, 0},
		"empty":                    {[]string{``}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := setup(t, func(w http.ResponseWriter, r *http.Request) {
				i := 0
				if strings.HasSuffix(r.URL.Path, "-2") {
					i = 1
				}
				answer(w, 200, c.bodies[i])
			}, nil)
			t.Run("typed", func(t *testing.T) { wantIncomplete[account](t, o.Client, c.pages) })
			t.Run("records", func(t *testing.T) { wantIncomplete[sfapi.Record](t, o.Client, c.pages) })
		})
	}
}

func wantIncomplete[T any](t *testing.T, c *sfapi.Client, wantPages int) {
	pages := 0
	var last error
	for _, err := range sfapi.QueryPages[T](t.Context(), c, "SELECT Id FROM Account", nil) {
		if last = err; err == nil {
			pages++
		}
	}
	var e *sfapi.Error
	if !errors.Is(last, sfapi.ErrIncompleteResult) || !errors.As(last, &e) || e.OutcomeUnknown || pages != wantPages {
		t.Errorf("%d pages, then %v; want %d and ErrIncompleteResult", pages, last, wantPages)
	}
}

func TestQueryPages_RefreshInTheMiddle(t *testing.T) {
	t.Parallel()
	t.Run("locator lives", func(t *testing.T) {
		t.Parallel()
		o := setup(t, func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, "-4") && !authorized(r, 2) {
				answer(w, 401, expired)
				return
			}
			threePages(w, r)
		}, nil)
		got := names(t, o, nil, func(r sfapi.Record) string { return r.String("Name") })
		if len(got) != 5 || o.tokens.refreshes != 1 {
			t.Errorf("%d rows after %d refreshes, want 5 and 1", len(got), o.tokens.refreshes)
		}
	})
	t.Run("locator died", func(t *testing.T) {
		t.Parallel()
		o := setup(t, func(w http.ResponseWriter, r *http.Request) {
			switch {
			case !strings.HasSuffix(r.URL.Path, "-4"):
				threePages(w, r)
			case authorized(r, 2):
				answer(w, 400, `[{"message":"invalid query locator","errorCode":"INVALID_QUERY_LOCATOR"}]`)
			default:
				answer(w, 401, expired)
			}
		}, nil)
		pages, last := 0, error(nil)
		for _, err := range sfapi.QueryPages[account](t.Context(), o.Client, "SELECT Id FROM Account", nil) {
			if last = err; err == nil {
				pages++
			}
		}
		if pages != 2 || sfapi.KindOf(last) != sfapi.KindInvalidQueryLocator {
			t.Errorf("%d pages, then %v; want 2 and invalid_query_locator", pages, last)
		}
	})
}

func TestQuery_WrongType(t *testing.T) {
	t.Parallel()
	o := setup(t, threePages, nil)
	for _, err := range sfapi.Query[struct{ Name int }](t.Context(), o.Client, "SELECT Name FROM Account", nil) {
		var e *sfapi.Error
		if err == nil || errors.As(err, &e) || errors.Is(err, sfapi.ErrIncompleteResult) {
			t.Errorf("error = %v, want one that blames the type", err)
		}
	}
}

func TestQuery_BadInput(t *testing.T) {
	t.Parallel()
	o := setup(t, threePages, nil)
	for name, c := range map[string]struct {
		soql string
		opts *sfapi.QueryOptions
	}{
		"empty":       {" ", nil},
		"small batch": {"SELECT Id FROM Account", &sfapi.QueryOptions{BatchSize: 199}},
		"large batch": {"SELECT Id FROM Account", &sfapi.QueryOptions{BatchSize: 2001}},
		"too long":    {"SELECT " + strings.Repeat("Field__c, ", 10_000) + "Id FROM Account", nil},
	} {
		for _, err := range sfapi.Query[account](t.Context(), o.Client, c.soql, c.opts) {
			if err == nil {
				t.Errorf("%s: no error", name)
			}
		}
	}
	if o.requests.Load() != 0 {
		t.Errorf("%d requests, want none", o.requests.Load())
	}
}

func TestQueryCount(t *testing.T) {
	t.Parallel()
	o := setup(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Query().Get("q"), "COUNT()") {
			answer(w, 200, `{"totalSize":1234,"done":true,"records":[]}`)
			return
		}
		threePages(w, r)
	}, nil)
	if n, err := o.QueryCount(t.Context(), "SELECT COUNT() FROM Account"); n != 1234 || err != nil {
		t.Errorf("QueryCount = %d, %v", n, err)
	}
	if _, err := o.QueryCount(t.Context(), "SELECT Id FROM Account"); err == nil {
		t.Error("QueryCount of rows succeeded")
	}
}
