package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weirhq/weir/jobs"
	"github.com/weirhq/weir/runner/internal/store"
	"github.com/weirhq/weir/sfapi"
)

// ignoreDeadline leaves out what the database's clock sets.
var ignoreDeadline = cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".Deadline" }, cmp.Ignore())

func (s *suite[TTx]) begin(t *testing.T, id sfapi.OrgID, stale int64, owner string, lease time.Duration, takeUnknown bool, want store.RefreshClaim) *store.Credential {
	t.Helper()
	c, claim, err := s.store.BeginRefresh(t.Context(), id, stale, owner, lease, takeUnknown)
	must(t, err)
	if claim != want {
		t.Errorf("%s got claim %d, want %d", owner, claim, want)
	}
	committed, err := s.store.Credential(t.Context(), id)
	must(t, err)
	diff(t, "credential returned and committed", c, committed)
	return c
}

func testRefreshOnce[TTx any](t *testing.T, s *suite[TTx]) {
	id := s.connect(t, 1)[0]
	before, err := s.store.Now(t.Context())
	must(t, err)
	c := s.begin(t, id, 1, "a", time.Hour, false, store.RefreshTaken)
	diffAt(t, "attempt", c.Attempt, store.Attempt{Generation: 1, Owner: "a"}, ignoreDeadline)
	if c.Attempt.Deadline.Before(before.Add(time.Hour)) {
		t.Errorf("deadline %v, an hour after %v or later", c.Attempt.Deadline, before)
	}
	s.begin(t, id, 1, "b", time.Hour, true, store.RefreshBusy)
	s.begin(t, id, 1, "a", time.Hour, true, store.RefreshBusy)

	c.Access, c.Refresh, c.InstanceURL, c.IssuedAt, c.Scope = []byte("a2"), nil, "https://z.my.salesforce.com", sampleStamp, "api"
	_, err = s.store.SaveRefresh(t.Context(), c, "b")
	isErr(t, "save by another owner", err, jobs.ErrLeaseLost)
	generation, err := s.store.SaveRefresh(t.Context(), c, "a")
	must(t, err)
	if generation != 2 {
		t.Errorf("generation %d, want 2", generation)
	}
	_, err = s.store.SaveRefresh(t.Context(), c, "a")
	isErr(t, "second save", err, jobs.ErrLeaseLost)

	got := s.begin(t, id, 1, "b", time.Hour, false, store.RefreshNewer)
	want := *c
	want.Generation, want.Refresh, want.Attempt = 2, []byte("sealed"), store.Attempt{}
	diff(t, "credential after a refresh that kept its refresh token", got, &want)

	c = s.begin(t, id, 2, "b", time.Hour, false, store.RefreshTaken)
	c.Refresh = []byte("r3")
	_, err = s.store.SaveRefresh(t.Context(), c, "b")
	must(t, err)
	got, err = s.store.Credential(t.Context(), id)
	must(t, err)
	if string(got.Refresh) != "r3" || got.Generation != 3 {
		t.Errorf("refresh token %q of generation %d after a rotation", got.Refresh, got.Generation)
	}
	o, err := s.store.Org(t.Context(), id)
	must(t, err)
	if o.Version != 1 || o.InstanceURL != c.InstanceURL {
		t.Errorf("version %d, instance %s after refreshes", o.Version, o.InstanceURL)
	}

	_, _, err = s.store.BeginRefresh(t.Context(), riverOrg(9), 1, "a", time.Hour, false)
	isErr(t, "refresh of an unknown org", err, jobs.ErrNotFound)
	if _, _, err = s.store.BeginRefresh(t.Context(), id, 3, "", 0, false); err == nil {
		t.Error("an attempt without owner and lease was taken")
	}
}

func testRefreshMany[TTx any](t *testing.T, s *suite[TTx]) {
	id := s.connect(t, 1)[0]
	const owners = 8
	var mu sync.Mutex
	claims := make(map[store.RefreshClaim]int)
	var wg sync.WaitGroup
	for i := range owners {
		wg.Go(func() {
			owner := fmt.Sprint("p", i)
			for {
				c, claim, err := s.store.BeginRefresh(t.Context(), id, 1, owner, time.Hour, true)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				claims[claim]++
				mu.Unlock()
				switch claim {
				case store.RefreshTaken:
					c.Access = []byte(owner)
					if _, err := s.store.SaveRefresh(t.Context(), c, owner); err != nil {
						t.Error(err)
					}
					return
				case store.RefreshNewer:
					return
				}
			}
		})
	}
	wg.Wait()
	delete(claims, store.RefreshBusy)
	diff(t, "claims", claims, map[store.RefreshClaim]int{store.RefreshTaken: 1, store.RefreshNewer: owners - 1})
}

func testRefreshUnknown[TTx any](t *testing.T, s *suite[TTx]) {
	id := s.connect(t, 1)[0]
	first := s.begin(t, id, 1, "a", time.Microsecond, false, store.RefreshTaken)
	s.begin(t, id, 1, "b", time.Hour, false, store.RefreshUnknown)
	second := s.begin(t, id, 1, "b", time.Microsecond, true, store.RefreshTaken)
	diffAt(t, "attempt taken over", second.Attempt, store.Attempt{Generation: 1, Owner: "b", Replays: 1}, ignoreDeadline)
	_, err := s.store.SaveRefresh(t.Context(), first, "a")
	isErr(t, "save by the one that was taken over", err, jobs.ErrLeaseLost)
	// A deadline that has passed does not matter while nobody has taken over.
	_, err = s.store.SaveRefresh(t.Context(), second, "b")
	must(t, err)
	s.begin(t, id, 1, "c", time.Hour, true, store.RefreshNewer)
}

func testEndRefresh[TTx any](t *testing.T, s *suite[TTx]) {
	id := s.connect(t, 1)[0]
	s.begin(t, id, 1, "a", time.Hour, false, store.RefreshTaken)
	must(t, s.store.EndRefresh(t.Context(), id, 1, "b"))
	must(t, s.store.EndRefresh(t.Context(), id, 2, "a"))
	s.begin(t, id, 1, "b", time.Hour, false, store.RefreshBusy)
	must(t, s.store.EndRefresh(t.Context(), id, 1, "a"))
	s.begin(t, id, 1, "b", time.Hour, false, store.RefreshTaken)
}

func testReseal[TTx any](t *testing.T, s *suite[TTx]) {
	orgs := s.connect(t, 3)
	rotated, kept := orgs[0], orgs[1]
	type sealed struct {
		org    sfapi.OrgID
		column string
	}
	var calls []sealed
	n, err := s.store.ResealAll(t.Context(), func(org sfapi.OrgID, column string, old []byte) ([]byte, error) {
		calls = append(calls, sealed{org, column})
		if !bytes.Equal(old, []byte("sealed")) {
			t.Errorf("%s of %s was %q", column, org, old)
		}
		if column == "access" && org != orgs[2] { // a refresh comes between
			c, _, err := s.store.BeginRefresh(t.Context(), org, 1, "p", time.Hour, false)
			must(t, err)
			c.Access, c.Refresh = []byte("newer"), nil
			if org == rotated {
				c.Refresh = []byte("newer")
			}
			_, err = s.store.SaveRefresh(t.Context(), c, "p")
			must(t, err)
		}
		return append([]byte("re"), old...), nil
	})
	must(t, err)
	if n != 3 || len(calls) != 6 {
		t.Errorf("stored %d of %v", n, calls)
	}
	for org, want := range map[sfapi.OrgID][2]string{
		rotated: {"newer", "newer"}, kept: {"newer", "resealed"}, orgs[2]: {"resealed", "resealed"},
	} {
		c, err := s.store.Credential(t.Context(), org)
		must(t, err)
		diff(t, string(org), [2]string{string(c.Access), string(c.Refresh)}, want)
	}
	bad := errors.New("key is gone")
	n, err = s.store.ResealAll(t.Context(), func(sfapi.OrgID, string, []byte) ([]byte, error) { return nil, bad })
	isErr(t, "ResealAll", err, bad)
	if n != 0 {
		t.Errorf("stored %d secrets without a key", n)
	}
}
