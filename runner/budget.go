package runner

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/weirhq/weir/breaker"
	"github.com/weirhq/weir/sfapi"
)

// ErrBudgetLow is wrapped by the error of a call of the sync lane that was
// refused here, before it was sent: few of the org's daily API requests are
// left, and Config.WriteReserve keeps them for writes. A worker returns it as it
// is. The job goes on later, without having spent an attempt.
var ErrBudgetLow = errors.New("few API requests left, which are kept for writes")

// budgetRecheck is how long the last word on an org's API requests counts.
// After it one call of the sync lane finds out whether there are more by now:
// where nothing is written nothing else would.
const budgetRecheck = 5 * time.Minute

// budget says what may be used of an org's API requests of the last 24 hours.
//
// https://developer.salesforce.com/docs/atlas.en-us.salesforce_app_limits_cheatsheet.meta/salesforce_app_limits_cheatsheet/salesforce_app_limits_platform_api.htm
type budget struct {
	reserve float64 // share that is left to the customer's other uses
	writes  float64 // further share that syncs leave to writes
}

// quota is a number of requests that may be used up: the org's, or that of one
// app.
type quota struct {
	app         string // "" is the org's
	used, limit int
}

// left returns the share that is left of the quota that is nearest to its end,
// 1 where none is known.
func (b budget) left(u *sfapi.Usage) (share float64, nearest quota) {
	share = 1
	look := func(q quota) {
		if q.limit <= 0 {
			return
		}
		if left := float64(q.limit-q.used) / float64(q.limit); left < share {
			share, nearest = left, q
		}
	}
	look(quota{"", u.Used, u.Limit})
	for _, a := range u.PerApp {
		look(quota{a.Name, a.Used, a.Limit})
	}
	return share, nearest
}

// spent reports whether what is left of an org's requests is the customer's.
func (b budget) spent(share float64) bool { return b.reserve > 0 && share <= b.reserve }

// recovered reports whether enough is left again to end a hold: a little more
// than placed it, or the next calls would place it again.
func (b budget) recovered(share float64) bool { return share > b.reserve+b.reserve/4 }

// evidence is a quota's use in words.
func (b budget) evidence(q quota) string {
	whose := "daily API requests"
	if q.app != "" {
		whose = fmt.Sprintf("API requests of the app %q", q.app)
	}
	text := fmt.Sprintf("%d of %d %s are used", q.used, q.limit, whose)
	if b.reserve > 0 {
		text += fmt.Sprintf(", %.4g%% are left to others", 100*b.reserve)
	}
	return text
}

// orgUsage is what this process knows of an org's API requests.
type orgUsage struct {
	latest atomic.Pointer[sfapi.Usage]
	asked  atomic.Int64 // when a call of the sync lane was last let through to find out, Unix nanoseconds
}

// see takes in what an answer said, unless a later one is known.
func (o *orgUsage) see(u *sfapi.Usage) {
	for {
		have := o.latest.Load()
		if have != nil && have.At.After(u.At) {
			return
		}
		if o.latest.CompareAndSwap(have, u) {
			return
		}
	}
}

// refuse returns an error for a call of the sync lane that must leave what
// there is to writes.
func (b budget) refuse(org sfapi.OrgID, o *orgUsage, now time.Time) error {
	u := o.latest.Load()
	if u == nil {
		return nil
	}
	share, q := b.left(u)
	if share > b.reserve+b.writes {
		return nil
	}
	asked := o.asked.Load()
	if now.Sub(u.At) >= budgetRecheck && now.UnixNano()-asked >= int64(budgetRecheck) &&
		o.asked.CompareAndSwap(asked, now.UnixNano()) {
		return nil
	}
	return fmt.Errorf("org %s: %w: %s", org, ErrBudgetLow, b.evidence(q))
}

// exhausted is the observation that the org's requests are used up but for the
// reserve, before Salesforce refuses one.
func (b budget) exhausted(lane breaker.Lane, q quota) breaker.Observation {
	obs := breaker.Failed(lane, breaker.Read, sfapi.KindDailyLimit)
	obs.Evidence = []string{"Sforce-Limit-Info: " + b.evidence(q)}
	obs.Advice = fmt.Sprintf("Weir has stopped before the limit: what is left of the org's API requests of 24 hours, %.4g%%, is kept for its other uses. "+
		"See Setup > Company Information (API Requests, Last 24 Hours) and Setup > System Overview for what uses them, and ask Salesforce for more calls if this recurs. "+
		"Work waits and resumes by itself as the window of 24 hours moves on.", 100*b.reserve)
	return obs
}

// budgetPause is how long a sync waits that leaves the rest to writes.
func budgetPause() time.Duration { return budgetRecheck + rand.N(budgetRecheck/5) }
