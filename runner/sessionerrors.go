package runner

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/weirhq/weir/sfapi"
)

const (
	// sessionSlot and sessionSlots make the hour that is counted.
	sessionSlot  = 10 * time.Minute
	sessionSlots = 6

	// worstOrgs is how many orgs are named: a metric's labels must be few.
	worstOrgs = 10
)

// sessionErrors counts INVALID_SESSION_ID answers by org over the last hour. A
// rise on one org is what a mistaken cause looks like from outside.
type sessionErrors struct {
	mu   sync.Mutex // protects orgs
	orgs map[sfapi.OrgID]*sessionSlotsOf
}

type sessionSlotsOf struct {
	last   int64 // the newest slot's number
	counts [sessionSlots]int
}

type sessionCount struct {
	org   sfapi.OrgID
	count int
}

func newSessionErrors() *sessionErrors {
	return &sessionErrors{orgs: make(map[sfapi.OrgID]*sessionSlotsOf)}
}

func slotOf(at time.Time) int64 { return at.Unix() / int64(sessionSlot/time.Second) }

// roll forgets what is older than the hour that ends with slot.
func (s *sessionSlotsOf) roll(slot int64) {
	for n := max(s.last+1, slot-sessionSlots+1); n <= slot; n++ {
		s.counts[n%sessionSlots] = 0
	}
	s.last = max(s.last, slot)
}

func (s *sessionErrors) add(org sfapi.OrgID, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.orgs[org]
	if o == nil {
		o = &sessionSlotsOf{last: slotOf(at)}
		s.orgs[org] = o
	}
	o.roll(slotOf(at))
	o.counts[slotOf(at)%sessionSlots]++
}

// worst returns the orgs with the most, most first, and forgets those that have
// none any more.
func (s *sessionErrors) worst(now time.Time) []sessionCount {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []sessionCount
	for org, o := range s.orgs {
		o.roll(slotOf(now))
		n := 0
		for _, c := range o.counts {
			n += c
		}
		if n == 0 {
			delete(s.orgs, org)
			continue
		}
		out = append(out, sessionCount{org, n})
	}
	slices.SortFunc(out, func(a, b sessionCount) int {
		return cmp.Or(cmp.Compare(b.count, a.count), cmp.Compare(a.org, b.org))
	})
	return out[:min(len(out), worstOrgs)]
}
