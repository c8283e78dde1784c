package sfapi_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weirhq/weir/sfapi"
)

// see reads evidence written as "test=result test=result".
func see(s string) []sfapi.Evidence {
	var out []sfapi.Evidence
	for f := range strings.FieldsSeq(s) {
		test, result, _ := strings.Cut(f, "=")
		out = append(out, sfapi.Evidence{Test: test, Result: result})
	}
	return out
}

// What most cases begin with: a fresh token that was refused with one message
// or the other, and is alive all the same.
const (
	again    = "refusal=refused refresh=ok userinfo=accepted scope=api organization_query=refused "
	againAPI = "refusal=refused_for_api refresh=ok userinfo=accepted scope=api organization_query=refused_for_api "
)

var decisions = []struct {
	seen string
	want string // cause, confidence, kind, candidates
}{
	// The token endpoint has the last word on the grant.
	{"refresh=org_inactive", "org_inactive certain org_inactive"},
	{"refresh=user_inactive maintenance_code=recent", "user_inactive certain user_inactive"},
	{"refresh=app_not_allowed", "app_not_allowed certain app_not_allowed"},
	{"refresh=ip_restricted", "ip_restricted certain ip_restricted"},
	{"refresh=revoked stored_token=unchanged", "revoked certain revoked"},
	{"refresh=revoked", "undetermined weak unknown revoked user_inactive expired"},
	{"refresh=revoked userinfo=user_inactive", "user_inactive certain user_inactive"},
	{"refresh=unavailable", "undetermined weak server_unavailable"},
	{"refresh=login_rate_limited", "undetermined weak login_rate_limited"},
	{"refresh=client_misconfigured userinfo=refused", "undetermined weak client_misconfigured app_not_allowed user_inactive ip_restricted expired"},
	{"refresh=no_such_host", "wrong_instance likely wrong_instance"},

	// A refused session never is a revocation.
	{"refusal=refused refresh=not_tried userinfo=refused introspect=inactive organization_query=refused stored_token=unchanged", "undetermined weak unknown expired revoked ip_restricted app_not_allowed"},
	{"refusal=revoked refresh=ok", "undetermined weak unknown"},

	// Whose token, and which host.
	{again + "userinfo=wrong_org", "wrong_instance certain wrong_instance"},
	{"token=wrong_org", "wrong_instance certain wrong_instance"},
	{"refusal=refused refresh=ok request_host=other_host", "wrong_instance certain wrong_instance"},
	{"refusal=wrong_instance refresh=ok", "wrong_instance certain wrong_instance"},
	{again + "instance_url=other_host", "wrong_instance likely wrong_instance"},
	{again + "instance_url=changed", "undetermined weak unknown wrong_instance ip_restricted app_not_allowed maintenance"},

	// Maintenance.
	{"refusal=refused_for_api refresh=ok maintenance_code=recent", "maintenance certain maintenance_readonly"},
	{"refusal=refused_for_api refresh=ok maintenance_code=recent same_org=all_refused", "maintenance certain maintenance_readonly"},
	{againAPI + "maintenance_code=recent same_org=mixed", "undetermined weak unknown app_not_allowed ip_restricted wrong_instance"},
	{"refusal=refused refresh=ok organization_query=read_only", "maintenance certain maintenance_readonly"},
	{"refusal=maintenance_readonly refresh=ok", "maintenance certain maintenance_readonly"},
	{againAPI + "ever_worked=yes trust_site=maintenance", "maintenance likely maintenance_readonly"},
	{"trust_site=maintenance", "undetermined weak unknown maintenance"},
	{again + "ever_worked=yes trust_site=maintenance egress_address=changed", "undetermined weak unknown ip_restricted maintenance app_not_allowed wrong_instance"},
	{againAPI + "ever_worked=yes maintenance_code=old same_org=all_refused", "maintenance likely maintenance_readonly"},
	{againAPI + "same_org=all_refused", "undetermined weak unknown maintenance app_not_allowed ip_restricted wrong_instance"},

	// Network address.
	{"refusal=refused refresh=ok other_egress=accepted", "ip_restricted certain ip_restricted"},
	{again + "ever_worked=yes egress_address=changed", "ip_restricted likely ip_restricted"},
	{again + "ever_worked=yes egress_address=changed other_egress=refused", "undetermined weak unknown maintenance app_not_allowed wrong_instance"},
	{againAPI + "ever_worked=yes egress_address=changed", "undetermined weak unknown ip_restricted app_not_allowed maintenance wrong_instance"},
	{again + "ever_worked=yes", "undetermined weak unknown ip_restricted maintenance app_not_allowed wrong_instance"},
	{again + "egress_address=changed", "undetermined weak unknown ip_restricted app_not_allowed maintenance wrong_instance"},

	// The app.
	{againAPI + "ever_worked=no", "app_not_allowed likely app_not_allowed"},
	{again + "ever_worked=no", "app_not_allowed likely app_not_allowed"},
	{againAPI + "ever_worked=no same_org=all_working", "app_not_allowed likely app_not_allowed"},
	{again + "ever_worked=no same_org=all_working", "undetermined weak unknown app_not_allowed ip_restricted wrong_instance"},
	{againAPI + "ever_worked=no same_org=all_refused", "undetermined weak unknown app_not_allowed maintenance wrong_instance"},
	{againAPI + "ever_worked=yes", "undetermined weak unknown app_not_allowed maintenance ip_restricted wrong_instance"},
	{"refusal=refused_for_api refresh=ok scope=no_api", "app_not_allowed certain app_not_allowed"},
	{"refusal=refused refresh=ok introspect=active_no_api", "app_not_allowed certain app_not_allowed"},
	{"refusal=refused refresh=ok organization_query=app_not_allowed", "app_not_allowed certain app_not_allowed"},

	// It works again.
	{"refusal=refused refresh=ok organization_query=writable", "expired certain session_expired_or_invalid"},
	{"refusal=refused refresh=not_tried organization_query=answered", "expired certain session_expired_or_invalid"},
	{"refusal=refused_for_api refresh=ok organization_query=writable", "expired likely session_expired_or_invalid"},
	{"refusal=refused endpoint=bulk refresh=ok organization_query=writable", "undetermined weak unknown maintenance ip_restricted app_not_allowed wrong_instance"},
	{"refusal=unknown refresh=ok organization_query=writable", "undetermined weak unknown"},

	// Something else.
	{"refusal=refused refresh=ok userinfo=accepted organization_query=daily_limit", "undetermined weak daily_limit ip_restricted app_not_allowed maintenance wrong_instance"},
	{"refusal=refused refresh=ok userinfo=unavailable versions=unavailable", "undetermined weak server_unavailable ip_restricted app_not_allowed maintenance wrong_instance"},
	{"refusal=refused refresh=ok userinfo=edge_420 versions=edge_420", "undetermined weak unknown org_inactive ip_restricted app_not_allowed maintenance"},
	{"", "undetermined weak unknown"},
}

// verdict is a Diagnosis as decisions write it.
func verdict(d *sfapi.Diagnosis) string {
	s := fmt.Sprint(d.Cause, " ", d.Confidence, " ", d.Kind)
	for _, c := range d.Candidates {
		s += " " + string(c)
	}
	return s
}

func TestDecide(t *testing.T) {
	t.Parallel()
	for _, tt := range decisions {
		d := sfapi.Decide(see(tt.seen))
		if got := verdict(&d); got != tt.want {
			t.Errorf("%s:\n got %s\nwant %s", tt.seen, got, tt.want)
		}
		if d.Advice == "" {
			t.Errorf("%s: no advice", tt.seen)
		}
	}
}

// TestDecide_Order says that a verdict depends on what was seen alone.
func TestDecide_Order(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, tt := range decisions {
		for range 20 {
			seen := see(tt.seen)
			seen = append(seen, seen...)
			for i := range seen {
				seen[i].Detail = fmt.Sprint("detail ", rnd.Uint32())
			}
			rnd.Shuffle(len(seen), func(i, j int) { seen[i], seen[j] = seen[j], seen[i] })
			d := sfapi.Decide(seen)
			if got := verdict(&d); got != tt.want {
				t.Fatalf("%v:\n got %s\nwant %s", seen, got, tt.want)
			}
		}
	}
}

// hints is evidence that settles nothing alone.
var hints = see(`trust_site=maintenance ever_worked=yes ever_worked=no egress_address=changed egress_address=unchanged
	same_app=all_working same_app=mixed same_app=all_refused other_egress=refused same_org=all_refused
	introspect=inactive introspect=active introspect=unavailable userinfo=refused userinfo=unavailable userinfo=accepted
	identity=accepted identity=refused instance_url=changed instance_url=other_host scope=api versions=answered versions=unavailable
	versions=no_such_host maintenance_code=old endpoint=rest organization_query=refused organization_query=unavailable
	phase_of_moon=full userinfo=made_up`)

// TestDecide_Irrelevant says that hints never move a certain verdict.
func TestDecide_Irrelevant(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(3, 4))
	for _, tt := range decisions {
		if !strings.Contains(tt.want, "certain") {
			continue
		}
		for range 300 {
			seen := see(tt.seen)
			for range 1 + rnd.IntN(8) {
				seen = append(seen, hints[rnd.IntN(len(hints))])
			}
			d := sfapi.Decide(seen)
			if got := verdict(&d); got != tt.want {
				t.Fatalf("%v:\n got %s\nwant %s", seen, got, tt.want)
			}
		}
	}
}

// TestDecide_NeverRevoked says that nothing but the token endpoint's verdict on
// a token that was read again is a revocation, and nothing it has not said ends
// an org or a user for certain by hints.
func TestDecide_NeverRevoked(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(5, 6))
	pool := append(see(`refusal=refused refusal=refused_for_api refusal=revoked refresh=ok refresh=not_tried userinfo=revoked
		organization_query=revoked introspect=revoked stored_token=unchanged maintenance_code=recent refresh=client_misconfigured`), hints...)
	pool = append(pool, sfapi.Weighed()...)
	for range 5000 {
		var seen []sfapi.Evidence
		for range 1 + rnd.IntN(10) {
			seen = append(seen, pool[rnd.IntN(len(pool))])
		}
		d := sfapi.Decide(seen)
		confirmed := slices.ContainsFunc(seen, func(e sfapi.Evidence) bool { return e.Test == "refresh" && e.Result == "revoked" }) &&
			slices.ContainsFunc(seen, func(e sfapi.Evidence) bool { return e.Test == "stored_token" })
		if (d.Cause == sfapi.CauseRevoked || d.Kind == sfapi.KindRevoked) && !confirmed || d.Cause == sfapi.CauseOrgInactive || d.Cause == sfapi.CauseUserInactive {
			t.Fatalf("%v: %s", seen, verdict(&d))
		}
		if d.Cause != sfapi.CauseUndetermined && d.Cause.Kind() != d.Kind {
			t.Fatalf("%v: cause %s has kind %s", seen, d.Cause, d.Kind)
		}
	}
}

// TestNextTest_Bounded says that whatever is answered, at most four calls are
// made, none twice, and the query is among them where a session can be tried.
func TestNextTest_Bounded(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(7, 8))
	results := strings.Fields("accepted refused refused_for_api unavailable edge_420 no_such_host wrong_instance permission unknown active inactive answered made_up")
	for range 5000 {
		seen := see([]string{"refusal=refused refresh=ok", "refusal=refused refresh=ok scope=api", "refresh=revoked", "refusal=refused refresh=not_tried"}[rnd.IntN(4)])
		var asked []string
		for {
			test := sfapi.NextTest(seen, rnd.IntN(2) == 0)
			if test == "" {
				break
			}
			if asked = append(asked, test); len(asked) > sfapi.MaxExtraCalls || slices.Contains(asked[:len(asked)-1], test) {
				t.Fatalf("%v is asked after %v", asked, seen)
			}
			seen = append(seen, sfapi.Evidence{Test: test, Result: results[rnd.IntN(len(results))]})
		}
		gone := slices.ContainsFunc(seen, func(e sfapi.Evidence) bool {
			return e.Test == "versions" && slices.Contains([]string{"unavailable", "edge_420", "no_such_host"}, e.Result)
		})
		if !slices.Contains(asked, "organization_query") && !gone && seen[0].Test == "refusal" {
			t.Fatalf("%v: the data API was not asked", seen)
		}
	}
}

func TestAdvice(t *testing.T) {
	t.Parallel()
	for _, text := range sfapi.Advices() {
		if len(text) < 80 || len(text) >= 1000 {
			t.Errorf("%d bytes: %s", len(text), text)
		}
	}
}

func TestCause_Kind(t *testing.T) {
	t.Parallel()
	got := map[sfapi.Cause]string{}
	for _, c := range []sfapi.Cause{sfapi.CauseExpired, sfapi.CauseWrongInstance, sfapi.CauseIPRestricted, sfapi.CauseAppNotAllowed,
		sfapi.CauseRevoked, sfapi.CauseMaintenance, sfapi.CauseUserInactive, sfapi.CauseOrgInactive, sfapi.CauseUndetermined} {
		got[c] = c.Kind().String()
	}
	want := map[sfapi.Cause]string{
		"expired": "session_expired_or_invalid", "wrong_instance": "wrong_instance", "ip_restricted": "ip_restricted",
		"app_not_allowed": "app_not_allowed", "revoked": "revoked", "maintenance": "maintenance_readonly",
		"user_inactive": "user_inactive", "org_inactive": "org_inactive", "undetermined": "unknown",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("kinds (-want +got):\n%s", diff)
	}
}

func BenchmarkDecide(b *testing.B) {
	seen := see(again + "ever_worked=yes egress_address=unchanged same_org=all_refused maintenance_code=old")
	for b.Loop() {
		sfapi.Decide(seen)
	}
}
