package storetest

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/weirhq/weir/jobs"
	"github.com/weirhq/weir/runner/internal/store"
	"github.com/weirhq/weir/sfapi"
)

// sampleStamp has the microseconds that a store keeps.
var sampleStamp = time.Date(2026, 2, 28, 23, 59, 59, 123456000, time.UTC)

// ignoreClock leaves out the times that the database's clock sets.
var ignoreClock = cmpopts.IgnoreFields(store.Org{}, "ConnectedAt", "CreatedAt", "UpdatedAt")

func (s *suite[TTx]) reconnect(t *testing.T, o *store.Org, c *store.Credential) (created bool) {
	t.Helper()
	s.inTx(t, func(ctx context.Context, tx TTx) (err error) {
		created, err = s.store.ConnectOrgTx(ctx, tx, o, c)
		return err
	})
	return created
}

func sampleOrg(i int) (*store.Org, *store.Credential) {
	o := &store.Org{
		ID: riverOrg(i), Label: "Ångström & Söhne\n“100%_”", LoginURL: "https://login.salesforce.com",
		InstanceURL: "https://x.my.salesforce.com", UserID: "005000000000001AAA",
	}
	c := &store.Credential{
		Org: o.ID, Access: []byte{0, 1, 255}, Refresh: []byte("r\x00"), IssuedAt: sampleStamp, Scope: "api refresh_token",
	}
	return o, c
}

func testConnect[TTx any](t *testing.T, s *suite[TTx]) {
	o, c := sampleOrg(1)
	if !s.reconnect(t, o, c) {
		t.Error("a new org was not reported as new")
	}
	want := &store.Org{
		ID: riverOrg(1), Label: o.Label, LoginURL: o.LoginURL, InstanceURL: o.InstanceURL, UserID: o.UserID,
		State: store.OrgConnected, Generation: 1, Version: 1,
	}
	diffAt(t, "the org given to ConnectOrgTx", o, want, ignoreClock)
	got, err := s.store.Org(t.Context(), o.ID)
	must(t, err)
	diff(t, "org", got, o)
	if got.ConnectedAt.IsZero() || !got.ConnectedAt.Equal(got.CreatedAt) || got.UpdatedAt.IsZero() {
		t.Errorf("times: %v, %v, %v", got.ConnectedAt, got.CreatedAt, got.UpdatedAt)
	}
	wantCredential := &store.Credential{
		Org: o.ID, LoginURL: o.LoginURL, InstanceURL: o.InstanceURL, UserID: o.UserID, Generation: 1,
		Access: []byte{0, 1, 255}, Refresh: []byte("r\x00"), IssuedAt: sampleStamp, Scope: "api refresh_token",
	}
	credential, err := s.store.Credential(t.Context(), o.ID)
	must(t, err)
	diff(t, "credential", credential, wantCredential)

	_, _, err = s.store.BeginRefresh(t.Context(), o.ID, 1, "p", time.Hour, false)
	must(t, err)
	o2, c2 := sampleOrg(1)
	o2.Label, o2.InstanceURL = "", "https://y.my.salesforce.com"
	c2.Refresh = nil
	if s.reconnect(t, o2, c2) {
		t.Error("a known org was reported as new")
	}
	want.InstanceURL, want.Generation, want.Version = o2.InstanceURL, 2, 2
	diffAt(t, "org after a reconnect without a label", o2, want, ignoreClock)
	if !o2.CreatedAt.Equal(o.CreatedAt) || o2.ConnectedAt.Before(o.ConnectedAt) {
		t.Errorf("times after a reconnect: %v, %v", o2.CreatedAt, o2.ConnectedAt)
	}
	wantCredential.InstanceURL, wantCredential.Generation, wantCredential.Refresh = o2.InstanceURL, 2, nil
	credential, err = s.store.Credential(t.Context(), o.ID)
	must(t, err)
	diff(t, "credential after a reconnect", credential, wantCredential)

	_, err = s.store.Org(t.Context(), riverOrg(9))
	isErr(t, "Org", err, jobs.ErrNotFound)
	_, err = s.store.Credential(t.Context(), riverOrg(9))
	isErr(t, "Credential", err, jobs.ErrNotFound)
}

func testUpdateOrg[TTx any](t *testing.T, s *suite[TTx]) {
	id := s.connect(t, 1)[0]
	o, err := s.store.Org(t.Context(), id)
	must(t, err)
	stale := *o
	update := func(o *store.Org) (ok bool) {
		s.inTx(t, func(ctx context.Context, tx TTx) error {
			locked, err := s.store.OrgTx(ctx, tx, id, true)
			must(t, err)
			if locked.ID != id {
				t.Errorf("locked %v", locked)
			}
			ok, err = s.store.UpdateOrgTx(ctx, tx, o)
			return err
		})
		return ok
	}
	o.Label, o.State, o.Breaker = "new", store.OrgRevoked, json.RawMessage(`{"holds":[{"reason":"maintenance"}],"note":"ü\n\"","n":1}`)
	if !update(o) {
		t.Error("the update was refused")
	}
	got, err := s.store.Org(t.Context(), id)
	must(t, err)
	diffAt(t, "org", got, o, sameJSON)
	if got.Version != 2 || got.Generation != 1 {
		t.Errorf("version %d, generation %d after an update", got.Version, got.Generation)
	}
	if update(&stale) || stale.Version != 1 {
		t.Error("an update of a stale version was taken")
	}
	o.Breaker = nil
	if !update(o) {
		t.Error("the second update was refused")
	}
	got, err = s.store.Org(t.Context(), id)
	must(t, err)
	diff(t, "org without a breaker", got, o)
}

// sameJSON compares JSON by its meaning: a database may keep it in a form of
// its own.
var sameJSON = cmp.Comparer(func(a, b json.RawMessage) bool {
	var x, y any
	if len(a) == 0 || len(b) == 0 {
		return len(a) == len(b)
	}
	return json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && cmp.Equal(x, y)
})

func testDisconnect[TTx any](t *testing.T, s *suite[TTx]) {
	id := s.connect(t, 1)[0]
	c, _, err := s.store.BeginRefresh(t.Context(), id, 1, "p", time.Hour, false)
	must(t, err)
	s.inTx(t, func(ctx context.Context, tx TTx) error { return s.store.DisconnectOrgTx(ctx, tx, id) })
	o, err := s.store.Org(t.Context(), id)
	must(t, err)
	if o.State != store.OrgDisconnected || o.Version != 2 {
		t.Errorf("state %s, version %d", o.State, o.Version)
	}
	got, err := s.store.Credential(t.Context(), id)
	must(t, err)
	diff(t, "credential", got, &store.Credential{
		Org: id, LoginURL: o.LoginURL, InstanceURL: o.InstanceURL, UserID: o.UserID, Generation: 1,
	})
	_, err = s.store.SaveRefresh(t.Context(), c, "p")
	isErr(t, "SaveRefresh", err, jobs.ErrLeaseLost)
	_, _, err = s.store.BeginRefresh(t.Context(), id, 1, "p", time.Hour, false)
	isErr(t, "BeginRefresh", err, jobs.ErrNotFound)
	err = s.store.InTx(t.Context(), func(ctx context.Context, tx TTx) error { return s.store.DisconnectOrgTx(ctx, tx, riverOrg(9)) })
	isErr(t, "DisconnectOrgTx of an unknown org", err, jobs.ErrNotFound)
}

func testListOrgs[TTx any](t *testing.T, s *suite[TTx]) {
	orgs := s.connect(t, 6)
	s.inTx(t, func(ctx context.Context, tx TTx) error {
		for i, change := range map[int]func(o *store.Org){
			1: func(o *store.Org) { o.Label = "ÄRGER 100% a_b" },
			2: func(o *store.Org) { o.Breaker = json.RawMessage(`{"holds":[{"reason":"maintenance"}]}`) },
			3: func(o *store.Org) { o.Breaker = json.RawMessage(`{"holds":[]}`) },
			4: func(o *store.Org) { o.State = store.OrgRevoked },
			5: func(o *store.Org) { o.Breaker = json.RawMessage(`{}`) },
		} {
			o, err := s.store.OrgTx(ctx, tx, orgs[i], false)
			must(t, err)
			change(o)
			ok, err := s.store.UpdateOrgTx(ctx, tx, o)
			must(t, err)
			if !ok {
				t.Errorf("the update of org %d was refused", i)
			}
		}
		return nil
	})
	for name, test := range map[string]struct {
		filter store.OrgFilter
		want   []int
	}{
		"all":              {store.OrgFilter{}, []int{0, 1, 2, 3, 4, 5}},
		"a page":           {store.OrgFilter{After: string(orgs[1]), Limit: 2}, []int{2, 3}},
		"past the end":     {store.OrgFilter{After: string(orgs[5])}, []int{}},
		"held":             {store.OrgFilter{Held: true}, []int{2, 4}},
		"by label":         {store.OrgFilter{Query: "ärger"}, []int{1}},
		"by id":            {store.OrgFilter{Query: orgs[3].Lower()[4:]}, []int{3}},
		"no wildcards":     {store.OrgFilter{Query: "1%0"}, []int{}},
		"percent":          {store.OrgFilter{Query: "0% A_"}, []int{1}},
		"by ids":           {store.OrgFilter{IDs: []sfapi.OrgID{orgs[4], orgs[0], riverOrg(99)}}, []int{0, 4}},
		"held and by ids":  {store.OrgFilter{Held: true, IDs: []sfapi.OrgID{orgs[4], orgs[0]}}, []int{4}},
		"no ids":           {store.OrgFilter{IDs: []sfapi.OrgID{}}, []int{}},
		"held and by name": {store.OrgFilter{Held: true, Query: "ärger"}, []int{}},
	} {
		list, err := s.store.ListOrgs(t.Context(), &test.filter)
		must(t, err)
		got, want := []sfapi.OrgID{}, []sfapi.OrgID{}
		for _, o := range list {
			got = append(got, o.ID)
		}
		for _, i := range test.want {
			want = append(want, orgs[i])
		}
		diff(t, name, got, want)
	}
}

func testUsage[TTx any](t *testing.T, s *suite[TTx]) {
	id := s.connect(t, 1)[0]
	must(t, s.store.SaveUsage(t.Context(), id, 10, 100, sampleStamp))
	must(t, s.store.SaveUsage(t.Context(), id, 5, 100, sampleStamp.Add(-time.Microsecond)))
	o, err := s.store.Org(t.Context(), id)
	must(t, err)
	if o.UsageUsed != 10 || o.UsageLimit != 100 || !o.UsageAt.Equal(sampleStamp) || o.Version != 1 {
		t.Errorf("usage %d of %d at %v, version %d", o.UsageUsed, o.UsageLimit, o.UsageAt, o.Version)
	}
}

func testListen[TTx any](t *testing.T, s *suite[TTx]) {
	id := s.connect(t, 1)[0]
	ctx, cancel := context.WithCancel(t.Context())
	heard, ended := make(chan sfapi.OrgID), make(chan error, 1)
	go func() {
		ended <- s.store.ListenOrgs(ctx, func(id sfapi.OrgID) {
			select {
			case heard <- id:
			case <-ctx.Done():
			}
		})
	}()
	if got := receive(t, heard); got != "" {
		t.Errorf("heard %q first, want \"\"", got)
	}
	generation, version := int64(1), int64(1)
	steps := []func() error{
		func() error {
			version++
			return s.store.InTx(t.Context(), func(ctx context.Context, tx TTx) error {
				o, err := s.store.OrgTx(ctx, tx, id, true)
				must(t, err)
				_, err = s.store.UpdateOrgTx(ctx, tx, o)
				return err
			})
		},
		func() error {
			c, _, err := s.store.BeginRefresh(t.Context(), id, 1, "p", time.Hour, false)
			must(t, err)
			generation++
			_, err = s.store.SaveRefresh(t.Context(), c, "p")
			return err
		},
		func() error {
			version++
			return s.store.InTx(t.Context(), func(ctx context.Context, tx TTx) error { return s.store.DisconnectOrgTx(ctx, tx, id) })
		},
	}
	for _, step := range steps {
		must(t, step())
		if got := receive(t, heard); got != id {
			t.Errorf("heard %q, want %q", got, id)
		}
		o, err := s.store.Org(t.Context(), id)
		must(t, err)
		if o.Generation != generation || o.Version != version {
			t.Errorf("generation %d, version %d when it was heard of, want %d, %d", o.Generation, o.Version, generation, version)
		}
	}
	cancel()
	must(t, receive(t, ended))
}
