package sfapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// maxExtraCalls bounds the requests of one diagnosis.
const maxExtraCalls = 4

// gathering is one diagnosis being made.
type gathering struct {
	config   DiagnoserConfig
	client   *Client
	evidence []Evidence
}

func (g *gathering) add(test, result, detail string) {
	g.evidence = append(g.evidence, Evidence{test, result, detail})
}

// run gathers evidence, what costs nothing first, until it is conclusive or
// nothing is left to ask. Its error is ctx's.
func (g *gathering) run(ctx context.Context, refused error, h *History) (*Diagnosis, error) {
	g.evidence = append(g.evidence, refusalEvidence(refused)...)
	if h.StoredTokenUnchanged {
		g.add(testStored, resUnchanged, "")
	}
	g.evidence = append(g.evidence, h.evidence(time.Now(), g.config.MaintenanceWindow)...)
	ready := g.token(ctx, h)
	for range maxExtraCalls {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if !ready || decide(g.evidence).Confidence == ConfidenceCertain {
			break
		}
		test := nextTest(g.evidence, g.config.NoIntrospect)
		if test == "" {
			break
		}
		g.ask(ctx, test)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	result := decide(g.evidence)
	result.Org = g.client.org
	return &result, nil
}

// token looks at the newest token, and reports whether it can be asked with.
func (g *gathering) token(ctx context.Context, h *History) bool {
	tok, err := g.client.tokens.Token(ctx)
	if err != nil {
		g.add(testToken, resNotAsked, detailText(err.Error()))
		return false
	}
	if _, err := g.client.instance(tok); err != nil {
		result := resNotAsked
		if errors.Is(err, ErrWrongOrg) {
			result = resWrongOrg
		}
		g.add(testToken, result, detailText(err.Error()))
		return false
	}
	if tok.Scope != "" {
		result := resNoAPI
		if allowsAPI(tok.Scope) {
			result = resAPI
		}
		g.add(testScope, result, detailText(tok.Scope))
	}
	if host := hostOf(h.RequestURL); host != "" && host != hostOf(tok.InstanceURL) {
		g.add(testRequestHost, resOtherHost, detailText("the request went to "+host+", the token is for "+hostOf(tok.InstanceURL)))
	}
	if host := hostOf(h.PreviousInstanceURL); host != "" && host != hostOf(tok.InstanceURL) {
		g.add(testInstance, resChanged, detailText(host+" became "+hostOf(tok.InstanceURL)))
	}
	return true
}

// allowsAPI is whether a list of scopes lets a token call the REST API.
//
// https://help.salesforce.com/s/articleView?id=sf.remoteaccess_oauth_tokens_scopes.htm
func allowsAPI(scopes string) bool {
	for scope := range strings.FieldsSeq(scopes) {
		if scope == "api" || scope == "full" {
			return true
		}
	}
	return false
}

// hostOf returns the host of a URL in lower case, or "" where it has none.
func hostOf(raw string) string {
	// The paths that userinfo gives hold braces, so only what is before them
	// is parsed.
	scheme, rest, ok := strings.Cut(raw, "://")
	if !ok {
		return ""
	}
	host, _, _ := strings.Cut(rest, "/")
	u, err := url.Parse(scheme + "://" + host)
	if err != nil {
		return ""
	}
	return strings.ToLower(u.Host)
}

// nextTest returns the call that tells most, given what was seen, or "". It is
// pure, and asks no test twice.
func nextTest(evidence []Evidence, noIntrospect bool) string {
	f := factsOf(evidence)
	if f.refreshRefused() {
		// Without a fresh token only the token's user can be asked about, and
		// only where the token endpoint left that open.
		if !f.asked(testUserInfo) && (f.is(testRefresh, KindRevoked.String()) || f.is(testRefresh, KindClientMisconfigured.String())) {
			return testUserInfo
		}
		return ""
	}
	switch {
	case !f.asked(testUserInfo):
		return testUserInfo
	case f.is(testUserInfo, resNotAsked):
		return "" // refused by our own side, as the others would be
	case !f.asked(testVersions) && f.is(testUserInfo, resUnavailable, resEdge420, resNoSuchHost, KindWrongInstance.String()):
		return testVersions
	case f.is(testVersions, resUnavailable, resEdge420, resNoSuchHost):
		return "" // nobody is there to be asked; and 420 is to be met twice at most
	case !f.asked(testIdentity) && !f.asked(testVersions) && !f.is(testUserInfo, resAccepted, resRefused, resRefusedAPI):
		return testIdentity
	case !noIntrospect && !f.asked(testIntrospect) && !(f.alive() && f.asked(testScope)):
		return testIntrospect
	case !f.asked(testQuery):
		return testQuery
	case !f.asked(testVersions) && !f.asked(testIdentity) && f.is(testQuery, resUnavailable, resEdge420, resNoSuchHost):
		return testVersions
	}
	return ""
}

// ask makes one call and notes what came of it.
func (g *gathering) ask(ctx context.Context, test string) {
	ctx, cancel := context.WithTimeout(WithoutRefresh(ctx), g.config.CallTimeout)
	defer cancel()
	switch test {
	case testUserInfo:
		u, err := g.client.UserInfo(ctx)
		if err != nil {
			g.failed(test, err)
			return
		}
		g.user(test, u.OrganizationID, u.Active, u.URLs)
	case testIdentity:
		id, err := g.client.Identity(ctx)
		if err != nil {
			g.failed(test, err)
			return
		}
		g.user(test, id.OrganizationID, id.Active, id.URLs)
	case testIntrospect:
		answer, err := g.client.Introspect(ctx)
		switch {
		case err != nil:
			g.failed(test, err)
		case !answer.Active:
			g.add(test, resInactive, "")
		case answer.Scope != "" && !allowsAPI(answer.Scope):
			g.add(test, resActiveNoAPI, detailText(answer.Scope))
		default:
			g.add(test, resActive, detailText(answer.Scope))
		}
	case testQuery:
		result, err := g.client.readOnlyMode(ctx)
		if err != nil {
			g.failed(test, err)
			return
		}
		g.add(test, result, "")
	case testVersions:
		if err := g.client.versions(ctx); err != nil {
			g.failed(test, err)
			return
		}
		g.add(test, resAnswered, "")
	}
}

// failed notes a call that returned err. A refusal of the query that is about
// the query, with a code of the API, proves that the session was taken.
func (g *gathering) failed(test string, err error) {
	result, detail := callResult(err)
	var e *Error
	if test == testQuery && errors.As(err, &e) && e.Code != "" && e.Scope != ScopeOrg && e.Scope != ScopeApp {
		switch e.Kind {
		case KindBadRequest, KindPermission, KindNotFound, KindQueryTimeout:
			result = resAnswered
		}
	}
	g.add(test, result, detail)
}

// user notes what userinfo or identity say of the token's user.
func (g *gathering) user(test, org string, active bool, urls map[string]string) {
	id, err := ParseOrgID(org)
	if err != nil {
		g.add(test, KindUnknown.String(), detailText(err.Error()))
		return
	}
	if id != g.client.org {
		g.add(test, resWrongOrg, detailText("the token is of org "+org))
		return
	}
	if !active {
		g.add(test, KindUserInactive.String(), "active is false")
		return
	}
	g.add(test, resAccepted, "")
	base := g.client.base.Load()
	if host := hostOf(urls["rest"]); host != "" && base != nil && host != base.url.Host {
		g.add(testInstance, resOtherHost, detailText(test+" names "+host+", the token is used at "+base.url.Host))
	}
}

// readOnlyMode asks the org itself whether it is in read-only mode. A row
// without the field says only that the session is good.
//
// https://developer.salesforce.com/docs/atlas.en-us.object_reference.meta/object_reference/sforce_api_objects_organization.htm
func (c *Client) readOnlyMode(ctx context.Context) (string, error) {
	result := resAnswered
	err := c.call(ctx, &request{
		op: "query organization", method: http.MethodGet, readOnly: true,
		path: c.data + "/query?q=" + url.QueryEscape("SELECT IsReadOnly FROM Organization"),
		decode: func(rep *reply) error {
			var page struct {
				Records []struct{ IsReadOnly *bool } `json:"records"`
			}
			if err := into(&page)(rep); err != nil {
				return err
			}
			if len(page.Records) != 1 || page.Records[0].IsReadOnly == nil {
				return nil
			}
			result = resWritable
			if *page.Records[0].IsReadOnly {
				result = resReadOnly
			}
			return nil
		},
	})
	return result, err
}

// versions asks the token's host for the API versions it serves, which needs no
// token: whether it is there, and Salesforce. It is sent without the token.
//
// https://developer.salesforce.com/docs/atlas.en-us.api_rest.meta/api_rest/resources_versions.htm
func (c *Client) versions(ctx context.Context) error {
	const op, path = "versions", "/services/data"
	tok, err := c.tokens.Token(ctx)
	if err != nil {
		return fmt.Errorf("token of org %s: %w", c.org, err)
	}
	base, err := c.instance(tok)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base.String()+path, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", c.userAgent)
	rep, err := send(ctx, c.transport, req, nil, maxTokenBodyBytes, c.timeout)
	if err != nil {
		return NewTransportError(op, string(c.org), http.MethodGet, path, true, err)
	}
	var list []struct {
		Version string `json:"version"`
	}
	if rep.ok() && json.Unmarshal(rep.body, &list) == nil && len(list) > 0 && list[0].Version != "" {
		return nil
	}
	if e := NewError(op, string(c.org), rep.response(EndpointREST, http.MethodGet, true)); e != nil {
		e.Path = path
		return e
	}
	return NewTransportError(op, string(c.org), http.MethodGet, path, true,
		fmt.Errorf("%w: status %d with a body that lists no versions", ErrIncompleteResult, rep.status))
}
