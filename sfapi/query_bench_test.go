package sfapi_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/weirhq/weir/sfapi"
	"github.com/weirhq/weir/sfapi/sftest"
)

const (
	benchRows   = 100_000
	benchFields = "Id, Name, Type, BillingStreet, BillingCity, BillingState, BillingPostalCode, BillingCountry, Phone, Website, " +
		"Industry, AnnualRevenue, NumberOfEmployees, Description, Rating, Active__c, Score__c, Founded__c, Ext__c, SystemModstamp"
	benchSOQL = "SELECT " + benchFields + " FROM Account"
)

// wide is a row of 20 fields.
type wide struct {
	ID                string `json:"Id"`
	Name, Type        string
	BillingStreet     string
	BillingCity       string
	BillingState      *string
	BillingPostalCode string
	BillingCountry    string
	Phone, Website    string
	Industry          string
	AnnualRevenue     float64
	NumberOfEmployees int
	Description       string
	Rating            *string
	Active            bool    `json:"Active__c"`
	Score             float64 `json:"Score__c"`
	Founded           string  `json:"Founded__c"`
	Ext               string  `json:"Ext__c"`
	SystemModstamp    string
}

// rendered keeps the answers of a handler. Rendering and compressing rows costs
// the simulated org more than reading them costs anybody; since it runs on the
// same cores, it would hide what is compared.
type rendered struct {
	http.Handler
	mu      sync.Mutex
	answers map[string]*httptest.ResponseRecorder
}

func (h *rendered) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	key := r.Method + r.RequestURI
	h.mu.Lock()
	rec := h.answers[key]
	h.mu.Unlock()
	if rec == nil {
		rec = httptest.NewRecorder()
		h.Handler.ServeHTTP(rec, r)
		h.mu.Lock()
		h.answers[key] = rec
		h.mu.Unlock()
	}
	for name, values := range rec.Header() {
		w.Header()[name] = values
	}
	w.Header().Set("Content-Length", strconv.Itoa(rec.Body.Len()))
	w.WriteHeader(rec.Code)
	_, _ = w.Write(rec.Body.Bytes())
}

// simulatedRows is an org with benchRows accounts behind real HTTP on loopback.
func simulatedRows(b *testing.B) (base string, token sfapi.Secret, id sfapi.OrgID) {
	b.Helper()
	sim := sftest.New(nil)
	server := httptest.NewServer(&rendered{Handler: sim, answers: map[string]*httptest.ResponseRecorder{}})
	b.Cleanup(server.Close)
	sim.SetBaseURL(server.URL)
	o := sim.AddOrg(&sftest.OrgConfig{DailyLimit: 1 << 30})
	for i := range benchRows {
		o.Insert("Account", sftest.Record{
			"Name": fmt.Sprintf("Müller & Söhne %d", i), "Type": "Customer",
			"BillingStreet": fmt.Sprintf("%d Market Street\r\nSuite \"%d\"", i, i%97), "BillingCity": "São Paulo",
			"BillingPostalCode": fmt.Sprintf("%05d", i), "BillingCountry": "Brasil",
			"Phone": "+55 11 5555-0100", "Website": fmt.Sprintf("https://example.com/%d", i), "Industry": "Technology",
			"AnnualRevenue": float64(i) * 1.25, "NumberOfEmployees": int64(i),
			"Description": strings.Repeat("All work and no play. ", 4), "Active__c": i%2 == 0,
			"Score__c": float64(i) / 3, "Founded__c": "1999-12-31", "Ext__c": fmt.Sprintf("ext-%d", i),
		})
	}
	org, err := sfapi.ParseOrgID(o.ID())
	if err != nil {
		b.Fatal(err)
	}
	return server.URL, sfapi.Secret(o.AccessToken()), org
}

// BenchmarkQuery100k reads 100,000 rows of 20 fields from the simulated org,
// which runs in this process too: with net/http and encoding/json alone, page
// after page, as most clients do, and with QueryPages. peak-MB is the largest
// heap at any page, garbage and the org's rows excluded.
func BenchmarkQuery100k(b *testing.B) {
	base, token, id := simulatedRows(b)
	transport := &http.Transport{MaxIdleConnsPerHost: 16}
	b.Cleanup(transport.CloseIdleConnections)
	c, err := sfapi.NewClient(id, newApp(), sfapi.StaticToken(&sfapi.Token{Access: token, InstanceURL: base}),
		&sfapi.ClientConfig{Transport: transport})
	if err != nil {
		b.Fatal(err)
	}
	if _, err := countRows[sfapi.Record](b.Context(), c, func() {}); err != nil { // renders the answers
		b.Fatal(err)
	}
	for _, read := range []struct {
		name string
		rows func(eachPage func()) (int, error)
	}{
		{"plain", func(f func()) (int, error) { return readPlainly(b.Context(), transport, base, token, f) }},
		{"typed", func(f func()) (int, error) { return countRows[wide](b.Context(), c, f) }},
		{"record", func(f func()) (int, error) { return countRows[sfapi.Record](b.Context(), c, f) }},
	} {
		b.Run(read.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if n, err := read.rows(func() {}); n != benchRows || err != nil {
					b.Fatalf("%d rows, %v", n, err)
				}
			}
			b.ReportMetric(float64(benchRows)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
			start, peak := heapBytes(), uint64(0)
			if _, err := read.rows(func() { peak = max(peak, heapBytes()) }); err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(peak-min(start, peak))/(1<<20), "peak-MB")
		})
	}
}

func countRows[T any](ctx context.Context, c *sfapi.Client, eachPage func()) (rows int, err error) {
	for page, err := range sfapi.QueryPages[T](ctx, c, benchSOQL, nil) {
		if err != nil {
			return rows, err
		}
		rows += len(page.Records)
		eachPage()
	}
	return rows, nil
}

// readPlainly is the loop to compare with: no check of any kind.
func readPlainly(ctx context.Context, rt http.RoundTripper, base string, token sfapi.Secret, eachPage func()) (rows int, err error) {
	client := &http.Client{Transport: rt}
	next := "/services/data/v66.0/query?q=" + url.QueryEscape(benchSOQL)
	for next != "" {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+next, nil)
		if err != nil {
			return rows, err
		}
		req.Header.Set("Authorization", "Bearer "+token.Reveal())
		res, err := client.Do(req)
		if err != nil {
			return rows, err
		}
		var page struct {
			Done           bool
			NextRecordsURL string `json:"nextRecordsUrl"`
			Records        []wide
		}
		err = json.NewDecoder(res.Body).Decode(&page)
		res.Body.Close()
		if err != nil {
			return rows, err
		}
		rows += len(page.Records)
		eachPage()
		next = page.NextRecordsURL
	}
	return rows, nil
}

// heapBytes returns the bytes of the heap that are in use, garbage excluded.
func heapBytes() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
