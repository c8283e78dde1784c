package sfapi

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Evidence is the result of one test.
//
//	test                results
//	refusal             refused, refused_for_api, or the Kind of another refusal
//	endpoint            rest or bulk: what was refused
//	refresh             ok, not_tried, or the Kind of the token endpoint's refusal
//	stored_token        unchanged
//	token               wrong_org, not_asked
//	scope               api, no_api
//	maintenance_code    recent, old
//	trust_site          maintenance
//	request_host        other_host
//	instance_url        changed, other_host
//	ever_worked         yes, no
//	egress_address      changed, unchanged
//	other_egress        accepted, refused
//	same_org, same_app  all_working, mixed, all_refused
//	userinfo, identity  accepted, wrong_org, user_inactive, refused, …
//	introspect          active, active_no_api, inactive, …
//	organization_query  writable, read_only, answered, refused, refused_for_api, …
//	versions            answered, …
//
// What a call can end with besides: unavailable, edge_420 (a page that deleted
// orgs answer, too), no_such_host, not_asked (nothing was sent), and the Kind
// of any other error.
type Evidence struct {
	// Test and Result are stable words.
	Test   string `json:"test"`
	Result string `json:"result"`

	// Detail is for people: bounded and without secrets.
	Detail string `json:"detail,omitempty"`
}

// String returns "test: result (detail)".
func (e Evidence) String() string {
	s := e.Test + ": " + e.Result
	if e.Detail != "" {
		s += " (" + e.Detail + ")"
	}
	return Redact(s)
}

// The tests.
const (
	testRefusal     = "refusal"
	testEndpoint    = "endpoint"
	testRefresh     = "refresh"
	testStored      = "stored_token"
	testToken       = "token"
	testScope       = "scope"
	testMaintenance = "maintenance_code"
	testTrust       = "trust_site"
	testRequestHost = "request_host"
	testInstance    = "instance_url"
	testWorked      = "ever_worked"
	testEgress      = "egress_address"
	testOtherEgress = "other_egress"
	testSameOrg     = "same_org"
	testSameApp     = "same_app"
	testUserInfo    = "userinfo"
	testIdentity    = "identity"
	testIntrospect  = "introspect"
	testQuery       = "organization_query"
	testVersions    = "versions"
)

// The results that are no Kind's label.
const (
	resOK           = "ok"
	resREST         = "rest"
	resBulk         = "bulk"
	resNotTried     = "not_tried"
	resUnchanged    = "unchanged"
	resChanged      = "changed"
	resRefused      = "refused"
	resRefusedAPI   = "refused_for_api"
	resAccepted     = "accepted"
	resWrongOrg     = "wrong_org"
	resNotAsked     = "not_asked"
	resUnavailable  = "unavailable"
	resEdge420      = "edge_420"
	resNoSuchHost   = "no_such_host"
	resOtherHost    = "other_host"
	resAPI          = "api"
	resNoAPI        = "no_api"
	resRecent       = "recent"
	resOld          = "old"
	resInMaint      = "maintenance"
	resYes          = "yes"
	resNo           = "no"
	resAllWorking   = "all_working"
	resMixed        = "mixed"
	resAllRefused   = "all_refused"
	resActive       = "active"
	resActiveNoAPI  = "active_no_api"
	resInactive     = "inactive"
	resWritable     = "writable"
	resReadOnly     = "read_only"
	resAnswered     = "answered"
	maxDetailBytes  = 200
	notForAPIPhrase = "not valid for use with"
)

// Fact is what is known of a yes-or-no question. The zero value is FactUnknown.
type Fact int8

const (
	// FactUnknown means that nobody knows.
	FactUnknown Fact = iota
	// FactYes means that it is so.
	FactYes
	// FactNo means that it is not so.
	FactNo
)

// Tally counts connections.
type Tally struct {
	// Working and Refused are those whose last call went through, and those
	// whose token was refused, since the trouble began.
	Working, Refused int
}

func (t Tally) result() string {
	switch {
	case t.Working <= 0 && t.Refused <= 0:
		return ""
	case t.Refused <= 0:
		return resAllWorking
	case t.Working <= 0:
		return resAllRefused
	}
	return resMixed
}

// History is what only somebody with a memory knows. The zero value says
// nothing, and each field that is set can spare a wrong or an open verdict.
type History struct {
	// EverWorked is whether a data call of this connection, with the scopes it
	// has now, ever went through.
	EverWorked Fact

	// LastWorked is when one last did; it implies EverWorked.
	LastWorked time.Time

	// MaintenanceSeen is when anything in the org was last refused with
	// KindMaintenance.
	MaintenanceSeen time.Time

	// TrustMaintenance is whether status.salesforce.com shows maintenance of the
	// org's instance now. It corroborates only: the site lags, and does not know
	// of the read-only test mode.
	TrustMaintenance bool

	// StoredTokenUnchanged says that the refresh token was read again from
	// storage after the token endpoint had refused it, and is still the one that
	// was sent. Without it nothing is diagnosed as revoked: a sibling may have
	// rotated it.
	StoredTokenUnchanged bool

	// RequestURL is where the refused request went, and PreviousInstanceURL what
	// instance_url was before the last refresh; only their hosts matter.
	RequestURL, PreviousInstanceURL string

	// EgressChanged is whether our address towards Salesforce is another one
	// than when the connection last worked, after a deployment for instance.
	EgressChanged Fact

	// OtherEgressWorks is whether the refused token goes through from another of
	// our addresses: FactNo, if it was tried and refused there as well.
	OtherEgressWorks Fact

	// SameOrg is about our other connections to this org, SameApp about those of
	// this app to other orgs.
	SameOrg, SameApp Tally
}

// evidence returns what h shows. Facts that nobody knows are left out.
func (h *History) evidence(now time.Time, window time.Duration) []Evidence {
	var out []Evidence
	add := func(test, result, detail string) {
		if result != "" {
			out = append(out, Evidence{test, result, detail})
		}
	}
	if !h.MaintenanceSeen.IsZero() {
		result := resRecent
		if now.Sub(h.MaintenanceSeen) > window {
			result = resOld
		}
		add(testMaintenance, result, "last at "+h.MaintenanceSeen.UTC().Format(time.RFC3339))
	}
	if h.TrustMaintenance {
		add(testTrust, resInMaint, "")
	}
	switch {
	case !h.LastWorked.IsZero():
		add(testWorked, resYes, "last at "+h.LastWorked.UTC().Format(time.RFC3339))
	default:
		add(testWorked, factResult(h.EverWorked, resYes, resNo), "")
	}
	add(testEgress, factResult(h.EgressChanged, resChanged, resUnchanged), "")
	add(testOtherEgress, factResult(h.OtherEgressWorks, resAccepted, resRefused), "")
	for _, t := range [...]struct {
		test  string
		tally Tally
	}{{testSameOrg, h.SameOrg}, {testSameApp, h.SameApp}} {
		add(t.test, t.tally.result(), fmt.Sprintf("%d working, %d refused", t.tally.Working, t.tally.Refused))
	}
	return out
}

func factResult(f Fact, yes, no string) string {
	switch f {
	case FactYes:
		return yes
	case FactNo:
		return no
	}
	return ""
}

// refusalEvidence returns what the error that a call ended with shows. Only the
// token endpoint's own answer says anything about a refresh.
func refusalEvidence(refused error) []Evidence {
	if errors.Is(refused, ErrWrongOrg) {
		return []Evidence{{testToken, resWrongOrg, ""}}
	}
	result, detail := callResult(refused)
	var e *Error
	if errors.As(refused, &e) && e.Path == tokenPath {
		if result == resRefused { // no session can have expired there
			result = KindClientMisconfigured.String()
		}
		return []Evidence{{testRefresh, result, detail}}
	}
	out := []Evidence{{testRefusal, result, detail}}
	if e != nil && e.Path != "" {
		endpoint := resREST
		if of := endpointOf(e.Path); of == EndpointBulk1 || of == EndpointBulk2 {
			endpoint = resBulk
		}
		out = append(out, Evidence{testEndpoint, endpoint, detailText(e.Method + " " + e.Path)})
	}
	if AfterRefresh(refused) {
		return append(out, Evidence{testRefresh, resOK, ""})
	}
	return append(out, Evidence{testRefresh, resNotTried, ""})
}

// callResult returns how a call ended that failed with err.
func callResult(err error) (result, detail string) {
	var e *Error
	if !errors.As(err, &e) {
		return resNotAsked, detailText(err.Error())
	}
	detail = errorDetail(e)
	switch {
	case e.Kind == KindSessionExpired && strings.Contains(strings.ToLower(e.Message), notForAPIPhrase):
		return resRefusedAPI, detail
	case e.Kind == KindSessionExpired:
		return resRefused, detail
	case e.Kind == KindServerUnavailable:
		return resUnavailable, detail
	case e.Kind == KindWrongInstance && e.Status == 0:
		return resNoSuchHost, detail
	case e.Code == "Wrong_Org":
		return resWrongOrg, detail
	case e.Kind == KindOrgInactive && e.Code == "" && e.Message == "":
		// An edge's empty page is too little to write an org off.
		return resEdge420, detail
	}
	return e.Kind.String(), detail
}

// errorDetail says what e was answered with.
func errorDetail(e *Error) string {
	var parts []string
	if e.Status != 0 {
		parts = append(parts, fmt.Sprintf("HTTP %d", e.Status))
	}
	for _, s := range [...]string{e.Code, e.Message} {
		if s != "" {
			parts = append(parts, s)
		}
	}
	if e.Err != nil {
		parts = append(parts, e.Err.Error())
	}
	return detailText(strings.Join(parts, ", "))
}

// detailText returns s without secrets, on one line and bounded.
func detailText(s string) string {
	s = shorten(Redact(s))
	if len(s) > maxDetailBytes {
		s = strings.ToValidUTF8(s[:maxDetailBytes], "") + "…"
	}
	return s
}
