package sftest

import (
	"net/http"
	"net/url"
	"strings"
)

// revokeToken answers /services/oauth2/revoke. See
// https://help.salesforce.com/s/articleView?id=xcloud.remoteaccess_revoke_token.htm.
func (x *exchange) revokeToken() *Reply {
	x.entry.Operation = OpRevoke
	token := x.query.Get("token")
	if x.method == http.MethodPost && x.isForm() {
		form, err := url.ParseQuery(string(x.body))
		if err != nil {
			return oauthFail("invalid_request", "malformed request body")
		}
		token = form.Get("token")
	}
	o := x.sim.orgOfRefresh(token)
	if o == nil {
		o = x.sim.orgOfToken(token)
	}
	invalid := oauthFail("invalid_token", "invalid token: "+clip(token, 20))
	if o == nil {
		return oauthFail("unsupported_token_type", "this token type is not supported")
	}
	x.org = o
	o.mu.Lock()
	defer o.mu.Unlock()
	if g := o.tokens[token]; g != nil {
		if g.revoked || g.refresh != token {
			return invalid
		}
		o.revoke(g)
		return newReply(200, "", nil)
	}
	s := o.live(token, false)
	if s == nil {
		return invalid
	}
	// Revoking an access token leaves its refresh token alone.
	o.endSession(s)
	return newReply(200, "", nil)
}

// introspect answers /services/oauth2/introspect. See
// https://help.salesforce.com/s/articleView?id=xcloud.remoteaccess_oidc_token_introspection.htm.
func (x *exchange) introspect() *Reply {
	x.entry.Operation = OpIntrospect
	if x.method != http.MethodPost || !x.isForm() {
		return oauthFail("invalid_request", "must use HTTP POST")
	}
	form, err := url.ParseQuery(string(x.body))
	if err != nil {
		return oauthFail("invalid_request", "malformed request body")
	}
	if user, pass, ok := basicAuth(x.header); ok {
		form.Set("client_id", user)
		form.Set("client_secret", pass)
	}
	app, bad := x.client(form, "introspect")
	if bad != nil {
		r := oauthFail(bad.code, bad.description)
		r.Status = http.StatusUnauthorized
		return r
	}
	token := form.Get("token")
	if token == "" {
		return oauthFail("invalid_request", "missing required parameter: token")
	}
	inactive := jsonReply(200, map[string]any{"active": false})
	o := x.sim.orgOfRefresh(token)
	if o == nil {
		o = x.sim.orgOfToken(token)
	}
	if o == nil || app.NoIntrospect {
		return inactive
	}
	x.org = o
	login := x.sim.LoginURL()
	o.mu.Lock()
	defer o.mu.Unlock()
	if g := o.tokens[token]; g != nil {
		if g.revoked || g.refresh != token || g.app.ClientID != app.ClientID {
			return inactive
		}
		return jsonReply(200, map[string]any{"active": true, "scope": g.app.Scopes, "client_id": g.app.ClientID,
			"username": g.user.Username, "sub": login + "/id/" + string(o.id) + "/" + string(g.user.ID), "token_type": "refresh_token"})
	}
	s := o.live(token, false)
	if s == nil || s.app.ClientID != app.ClientID {
		return inactive
	}
	return jsonReply(200, map[string]any{
		"active": true, "scope": s.scope, "client_id": s.app.ClientID, "username": s.user.Username,
		"sub": login + "/id/" + string(o.id) + "/" + string(s.user.ID), "token_type": "access_token",
		"exp": s.used.Add(o.sessionTimeout).Unix(), "iat": s.issued.Unix(), "nbf": s.issued.Unix(),
	})
}

// identityAnswer serves userinfo and the identity URL, whose failures are one
// plain word. See https://help.salesforce.com/s/articleView?id=xcloud.remoteaccess_using_openid.htm.
func (x *exchange) identityAnswer(op Operation, wantOrg, wantUser string) *Reply {
	x.entry.Operation = op
	if x.method != http.MethodGet && x.method != http.MethodPost {
		return methodNotAllowed(x.method, "GET", "POST")
	}
	token, ok := x.bearer()
	if token == "" {
		token = x.query.Get("access_token")
	}
	if !ok || token == "" {
		return word(http.StatusForbidden, "Missing_OAuth_Token")
	}
	o := x.sim.orgOfToken(token)
	if o == nil {
		return word(http.StatusForbidden, "Bad_OAuth_Token")
	}
	login, instance := x.sim.LoginURL(), o.instanceOf(x)
	o.mu.Lock()
	defer o.mu.Unlock()
	s := o.live(token, false)
	if s == nil {
		return word(http.StatusForbidden, "Bad_OAuth_Token")
	}
	x.org, x.session, x.user = o, s, s.user
	u := s.user
	if op == OpIdentity {
		id, ok := parseID(wantOrg)
		_, ok2 := parseID(wantUser)
		switch {
		case !ok || !ok2:
			return word(http.StatusNotFound, "Bad_Id")
		case id != o.id:
			return word(http.StatusForbidden, "Wrong_Org")
		}
		uid, _ := parseID(wantUser)
		if u = o.user(uid); u == nil {
			return word(http.StatusNotFound, "Bad_Id")
		}
	}
	if u.inactive || o.state.inactive {
		return word(http.StatusForbidden, "Inactive")
	}
	id := login + "/id/" + string(o.id) + "/" + string(u.ID)
	body := map[string]any{
		"sub": id, "user_id": u.ID, "organization_id": o.id, "preferred_username": u.Username, "nickname": u.Username,
		"name": "Sync User", "email": u.Username, "email_verified": true, "zoneinfo": "Europe/Berlin",
		"active": true, "user_type": "STANDARD", "language": "en_US", "locale": "en_US", "utcOffset": 3600000,
		"urls": map[string]string{
			"enterprise": instance + "/services/Soap/c/{version}/" + o.id.Short(),
			"rest":       instance + "/services/data/v{version}/",
			"sobjects":   instance + "/services/data/v{version}/sobjects/",
			"query":      instance + "/services/data/v{version}/query/",
			"profile":    instance + "/" + string(u.ID),
		},
		"is_app_installed": o.block(s.app) == AppAllowed,
	}
	if op == OpIdentity {
		delete(body, "sub")
		delete(body, "preferred_username")
		body["id"], body["asserted_user"], body["username"] = id, u == s.user, u.Username
	}
	return jsonReply(200, body)
}

// instanceOf is the instance URL as the call's token response would name it.
func (o *Org) instanceOf(x *exchange) string {
	base := x.sim.base()
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.instanceFor(x, base)
}

// identityPath splits /id/<org>/<user>.
func identityPath(path string) (org, user string, ok bool) {
	rest, ok := strings.CutPrefix(path, "/id/")
	if !ok {
		return "", "", false
	}
	org, user, ok = strings.Cut(rest, "/")
	return org, user, ok
}
