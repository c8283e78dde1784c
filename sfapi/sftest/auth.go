package sftest

import (
	"net/http"
	"net/url"
	"strings"
	"time"
)

// bearer returns the access token of the Authorization header, and whether the
// header has a scheme that Salesforce takes.
func (x *exchange) bearer() (token string, ok bool) {
	h := x.header.Get("Authorization")
	if h == "" {
		return "", true
	}
	scheme, token, found := strings.Cut(h, " ")
	if !found || !strings.EqualFold(scheme, "Bearer") && !strings.EqualFold(scheme, "OAuth") {
		return "", false
	}
	return strings.TrimSpace(token), true
}

// identify finds the org that a call is for, so that its faults and its audit
// apply even when the call is refused.
func (x *exchange) identify() {
	if token, _ := x.bearer(); token != "" {
		x.org = x.sim.orgOfToken(token)
	}
	kind, hostOrg := x.sim.resolveHost(x.host)
	if x.org == nil {
		x.org = hostOrg
	}
	if !strings.HasPrefix(x.path, "/services/oauth2/") {
		return
	}
	if form, err := url.ParseQuery(string(x.body)); err == nil && x.org == nil && x.isForm() {
		for _, key := range []string{"refresh_token", "token"} {
			if o := x.sim.orgOfRefresh(form.Get(key)); o != nil {
				x.org = o
			} else if o := x.sim.orgOfToken(form.Get(key)); o != nil {
				x.org = o
			}
		}
		if o := x.sim.orgOfCode(form.Get("code")); o != nil {
			x.org = o
		}
		if orgs := x.sim.Orgs(); x.org == nil && kind == hostShared && len(orgs) == 1 && form.Get("grant_type") == "client_credentials" {
			x.org = orgs[0]
		}
	}
}

func (x *exchange) isForm() bool {
	ct, _, _ := strings.Cut(x.header.Get("Content-Type"), ";")
	return strings.EqualFold(strings.TrimSpace(ct), "application/x-www-form-urlencoded")
}

func (s *Sim) orgOfRefresh(token string) *Org {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.refresh[token]
}

func (s *Sim) orgOfCode(code string) *Org {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.codes[code]; c != nil {
		return c.org
	}
	return nil
}

func invalidSession() *Reply {
	return fail(http.StatusUnauthorized, "INVALID_SESSION_ID", "Session expired or invalid")
}

func sessionNotValid() *Reply {
	return fail(http.StatusUnauthorized, "INVALID_SESSION_ID", "This session is not valid for use with the REST API")
}

func urlNotReset() *Reply {
	return fail(http.StatusBadRequest, "URL_NOT_RESET", "Destination URL not reset. The URL returned from login must be set")
}

func errorPage() *Reply {
	return newReply(404, "text/html", []byte("\n<!DOCTYPE HTML>\n<html lang=en-US>\n<head>\n<meta charset=UTF-8>\n<title>Error Page</title>\n</head>\n<body>\n    <p>Error</p>\n</body>\n</html>\n"))
}

// enter admits a data call: host, session, policy, limits. leave must be
// called when the call is over.
func (x *exchange) enter() (leave func(), refusal *Reply) {
	leave = func() {}
	if x.path == "/services/oauth2/token" {
		return x.enterRefresh()
	}
	if !strings.HasPrefix(x.path, "/services/data/") || x.path == "/services/data/" {
		return leave, nil
	}
	token, ok := x.bearer()
	if !ok {
		return leave, fail(http.StatusUnauthorized, "INVALID_AUTH_HEADER", "INVALID_AUTH_HEADER")
	}
	kind, hostOrg := x.sim.resolveHost(x.host)
	base := x.sim.base()
	if kind == hostUnknown {
		return leave, errorPage()
	}
	if x.org == nil || token == "" {
		return leave, invalidSession()
	}
	o := x.org
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.movedHosts[x.host] {
		switch o.moveRefusal {
		case MoveInvalidSession:
			return leave, invalidSession()
		case MoveNotFound:
			return leave, errorPage()
		case MoveRedirect:
			r := newReply(http.StatusFound, "", nil)
			r.Header.Set("Location", o.instance(base)+x.path)
			return leave, r
		}
		return leave, urlNotReset()
	}
	switch {
	case kind == hostLogin,
		kind == hostShared && o.instanceURL != "" && hostOf(o.instanceURL) != x.host:
		return leave, urlNotReset()
	case hostOrg != nil && hostOrg != o, kind == hostMoved:
		return leave, invalidSession()
	}
	s := o.live(token, true)
	if s == nil {
		return leave, invalidSession()
	}
	x.session, x.user = s, s.user
	if r := o.admit(x, s); r != nil {
		return leave, r
	}
	o.state.running++
	return func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.state.running--
	}, nil
}

// admit applies the org's policy and limits to a call of a live session.
func (o *Org) admit(x *exchange, s *session) *Reply {
	now := time.Now()
	switch {
	case o.state.ipLock != IPOpen:
		return invalidSession()
	case o.block(s.app) == AppDataRefused, o.block(s.app) == AppNotInstalled, !hasScope(s.scope, "api", "full"):
		return sessionNotValid()
	case o.state.readOnly == ReadOnlySessions && (x.method == http.MethodGet || x.method == http.MethodHead):
		return sessionNotValid()
	case o.state.apiDisabled:
		return fail(http.StatusForbidden, "API_DISABLED_FOR_ORG", "The REST API is not enabled for this Organization.")
	case o.usage.used(now) >= o.usage.limit:
		return fail(http.StatusForbidden, "REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded.")
	case o.state.concurrency > 0 && o.state.running >= o.state.concurrency:
		return fail(http.StatusForbidden, "REQUEST_LIMIT_EXCEEDED", "ConcurrentRequests (Concurrent API Requests) Limit exceeded.")
	}
	o.usage.count(now, s.app)
	return nil
}

// enterRefresh refuses a refresh while another one of the same grant is under
// way, when SetBusyRefresh asks for it.
func (x *exchange) enterRefresh() (leave func(), refusal *Reply) {
	leave = func() {}
	form, err := url.ParseQuery(string(x.body))
	if err != nil || x.org == nil || form.Get("grant_type") != "refresh_token" {
		return leave, nil
	}
	o := x.org
	o.mu.Lock()
	defer o.mu.Unlock()
	g := o.tokens[form.Get("refresh_token")]
	if g == nil || !o.state.busyRefresh {
		return leave, nil
	}
	if g.busy > 0 {
		x.entry.Operation = OpToken
		return leave, oauthFail("invalid_grant", "Token request is already being processed")
	}
	g.busy++
	return func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		g.busy--
	}, nil
}
