package sftest

import (
	"fmt"
	"time"
)

// usage counts API calls over a rolling 24 hours, by the minute.
type usage struct {
	limit   int
	perApp  int
	buckets []usageBucket
}

type usageBucket struct {
	minute time.Time
	calls  int
	byApp  map[string]int // by client id
}

func (u *usage) used(now time.Time) int {
	first := 0
	for first < len(u.buckets) && now.Sub(u.buckets[first].minute) >= 24*time.Hour {
		first++
	}
	u.buckets = u.buckets[first:]
	n := 0
	for _, b := range u.buckets {
		n += b.calls
	}
	return n
}

// usedBy counts an app's calls of the same 24 hours.
func (u *usage) usedBy(now time.Time, app *App) int {
	u.used(now) // forgets what is older
	n := 0
	for _, b := range u.buckets {
		n += b.byApp[app.ClientID]
	}
	return n
}

func (u *usage) count(now time.Time, app *App) {
	minute := now.Truncate(time.Minute)
	if n := len(u.buckets); n > 0 && u.buckets[n-1].minute.Equal(minute) {
		u.buckets[n-1].calls++
	} else {
		u.buckets = append(u.buckets, usageBucket{minute: minute, calls: 1})
	}
	b := &u.buckets[len(u.buckets)-1]
	if b.byApp == nil {
		b.byApp = make(map[string]int)
	}
	b.byApp[app.ClientID]++
}

// limitInfo is the Sforce-Limit-Info header. See
// https://developer.salesforce.com/docs/atlas.en-us.api_rest.meta/api_rest/headers_api_usage.htm.
func (o *Org) limitInfo(app *App) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	s := fmt.Sprintf("api-usage=%d/%d", o.usage.used(time.Now()), o.usage.limit)
	if o.usage.perApp > 0 {
		s += fmt.Sprintf("; per-app-api-usage=%d/%d(appName=%s)", o.usage.usedBy(time.Now(), app), o.usage.perApp, app.Name)
	}
	return s
}

// limits answers GET /services/data/vXX.0/limits.
func (x *exchange) limits() *Reply {
	x.entry.Operation = OpLimits
	o := x.org
	o.mu.Lock()
	used, limit := o.usage.used(time.Now()), o.usage.limit
	full := o.state.storageFull
	o.mu.Unlock()
	type pair struct {
		Max       int
		Remaining int
	}
	storage := pair{1024, 900}
	if full {
		storage.Remaining = 0
	}
	return jsonReply(200, map[string]pair{
		"DailyApiRequests":              {limit, max(0, limit-used)},
		"DailyBulkApiBatches":           {15000, 15000},
		"DailyBulkV2QueryJobs":          {10000, 10000},
		"DailyBulkV2QueryFileStorageMB": {976562, 976562},
		"ConcurrentSyncReportRuns":      {20, 20},
		"DataStorageMB":                 storage,
		"FileStorageMB":                 {1024, 1000},
		"HourlyTimeBasedWorkflow":       {1000, 1000},
	})
}
