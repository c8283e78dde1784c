package sftest_test

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"testing"

	"github.com/weirhq/weir/sfapi/sftest"
)

const benchFields = "Id, Name, Type, BillingStreet, BillingCity, BillingState, BillingPostalCode, BillingCountry, Phone, Website, Industry, " +
	"AnnualRevenue, NumberOfEmployees, Rating, Active__c, Score__c, Discount__c, Founded__c, LastReview__c, SystemModstamp"

// benchGet reads one answer into the void and returns its size and its
// nextRecordsUrl.
func benchGet(b *testing.B, hc *http.Client, token, url string) (int64, string) {
	b.Helper()
	req, err := http.NewRequest("GET", url, nil)
	if err != nil {
		b.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := hc.Do(req)
	if err != nil {
		b.Fatal(err)
	}
	defer resp.Body.Close()
	head := make([]byte, 200)
	n, err := io.ReadFull(resp.Body, head)
	if err != nil || resp.StatusCode != 200 {
		b.Fatalf("%d %s %v", resp.StatusCode, head[:n], err)
	}
	rest, err := io.Copy(io.Discard, resp.Body)
	if err != nil {
		b.Fatal(err)
	}
	var next string
	var total int
	var done bool
	// The last page has no nextRecordsUrl, which ends the scan early.
	if k, err := fmt.Sscanf(string(head), `{"totalSize":%d,"done":%t,"nextRecordsUrl":%q`, &total, &done, &next); k < 2 {
		b.Fatal(err)
	}
	return int64(n) + rest, next
}

// BenchmarkQuery100k serves 100,000 rows of 20 fields, page by page.
func BenchmarkQuery100k(b *testing.B) {
	for _, over := range []string{"process", "tcp"} {
		b.Run(over, func(b *testing.B) {
			server, err := sftest.NewServer(nil)
			if err != nil {
				b.Fatal(err)
			}
			defer server.Close()
			org := server.AddOrg(nil)
			org.SetDailyLimit(1 << 30)
			org.Seed("Account", 100_000, 1)
			hc := server.Client()
			if over == "tcp" {
				hc = &http.Client{Transport: &http.Transport{DisableCompression: true}}
			}
			token := org.AccessToken()
			b.ReportAllocs()
			for b.Loop() {
				var bytes int64
				next := "/services/data/v66.0/query?q=" + url.QueryEscape("SELECT "+benchFields+" FROM Account ORDER BY SystemModstamp, Id")
				for next != "" {
					var n int64
					n, next = benchGet(b, hc, token, org.InstanceURL()+next)
					bytes += n
				}
				b.SetBytes(bytes)
			}
			b.ReportMetric(float64(b.N)*100_000/b.Elapsed().Seconds(), "rows/s")
		})
	}
}

// BenchmarkKeysetPage serves one page of 2,000 rows from the middle of 100,000.
func BenchmarkKeysetPage(b *testing.B) {
	sim := sftest.New(nil)
	org := sim.AddOrg(nil)
	org.SetDailyLimit(1 << 30)
	org.Seed("Account", 100_000, 1)
	r := org.Rows("Account")[50_000]
	stamp := r.Stamp.Format("2006-01-02T15:04:05Z")
	soql := fmt.Sprintf("SELECT %s FROM Account WHERE (SystemModstamp > %s OR (SystemModstamp = %s AND Id > '%s')) ORDER BY SystemModstamp, Id LIMIT 2000", benchFields, stamp, stamp, r.ID)
	token := org.AccessToken()
	b.ReportAllocs()
	for b.Loop() {
		benchGet(b, sim.Client(), token, org.InstanceURL()+"/services/data/v66.0/query?q="+url.QueryEscape(soql))
	}
}
