package sftest

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// tokenError is a refusal of the token endpoint.
type tokenError struct{ code, description string }

func refuse(code, description string) *tokenError { return &tokenError{code, description} }

// tokenAnswer is what the token endpoint sends.
type tokenAnswer struct {
	AccessToken  string `json:"access_token"`
	RefreshToken string `json:"refresh_token,omitempty"`
	Signature    string `json:"signature"`
	Scope        string `json:"scope"`
	InstanceURL  string `json:"instance_url"`
	ID           string `json:"id"`
	TokenType    string `json:"token_type"`
	IssuedAt     string `json:"issued_at"`
}

// token answers /services/oauth2/token. See
// https://help.salesforce.com/s/articleView?id=xcloud.remoteaccess_oauth_refresh_token_flow.htm.
func (x *exchange) token() *Reply {
	x.entry.Operation = OpToken
	if x.method != http.MethodPost {
		return oauthFail("invalid_request", "must use HTTP POST")
	}
	form := url.Values{}
	if x.isForm() {
		parsed, err := url.ParseQuery(string(x.body))
		if err != nil {
			return oauthFail("invalid_request", "malformed request body")
		}
		form = parsed
	}
	for k, v := range x.query {
		if _, ok := form[k]; !ok {
			form[k] = v
		}
	}
	for k, v := range form {
		if len(v) > 1 {
			return oauthFail("invalid_request", "duplicate parameter: "+k)
		}
	}
	if user, pass, ok := basicAuth(x.header); ok {
		form.Set("client_id", user)
		form.Set("client_secret", pass)
	}
	x.sim.secrets.add(form.Get("code_verifier"))
	x.sim.secrets.add(form.Get("assertion"))
	answer, bad := x.exchangeToken(form)
	if x.newRefresh != "" {
		x.sim.ownRefresh(x.newRefresh, x.org)
	}
	if bad != nil {
		r := oauthFail(bad.code, bad.description)
		switch form.Get("format") {
		case "xml":
			r.Body = []byte(`<?xml version="1.0" encoding="UTF-8"?><OAuth><error_description>` + xmlText(bad.description) +
				`</error_description><error>` + bad.code + `</error></OAuth>`)
			r.Header.Set("Content-Type", "application/xml;charset=UTF-8")
		case "urlencoded":
			r.Body = []byte(url.Values{"error": {bad.code}, "error_description": {bad.description}}.Encode())
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded;charset=UTF-8")
		}
		return r
	}
	if form.Get("format") == "urlencoded" {
		v := url.Values{"access_token": {answer.AccessToken}, "instance_url": {answer.InstanceURL}, "id": {answer.ID},
			"issued_at": {answer.IssuedAt}, "signature": {answer.Signature}, "scope": {answer.Scope}, "token_type": {answer.TokenType}}
		if answer.RefreshToken != "" {
			v.Set("refresh_token", answer.RefreshToken)
		}
		return newReply(200, "application/x-www-form-urlencoded;charset=UTF-8", []byte(v.Encode()))
	}
	return jsonReply(200, answer)
}

func xmlText(s string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(s)
}

func basicAuth(h http.Header) (user, pass string, ok bool) {
	return (&http.Request{Header: h}).BasicAuth()
}

func (x *exchange) exchangeToken(form url.Values) (*tokenAnswer, *tokenError) {
	grantType := form.Get("grant_type")
	if grantType == "" {
		return nil, refuse("invalid_request", "missing required parameter: grant_type")
	}
	if grantType == jwtBearer {
		return x.jwtToken(form)
	}
	switch grantType {
	case "refresh_token", "authorization_code", "client_credentials":
	default:
		return nil, refuse("unsupported_grant_type", "grant type not supported")
	}
	app, bad := x.client(form, grantType)
	if bad != nil {
		return nil, bad
	}
	switch grantType {
	case "refresh_token":
		return x.refreshToken(app, form)
	case "authorization_code":
		return x.codeToken(app, form)
	}
	return x.clientCredentials(app)
}

// client checks the app's credentials.
func (x *exchange) client(form url.Values, grantType string) (*App, *tokenError) {
	id, secret := form.Get("client_id"), form.Get("client_secret")
	if id == "" {
		return nil, refuse("invalid_request", "missing required parameter: client_id")
	}
	app := x.sim.app(id)
	if app == nil {
		return nil, refuse("invalid_client_id", "client identifier invalid")
	}
	optional := (app.SecretOptional || app.ClientSecret == "") && grantType != "client_credentials"
	switch {
	case secret == "" && !optional:
		return nil, refuse("invalid_client", "invalid client credentials")
	case secret != "" && app.ClientSecret != secret:
		return nil, refuse("invalid_client", "invalid client credentials")
	}
	return app, nil
}

func (x *exchange) refreshToken(app *App, form url.Values) (*tokenAnswer, *tokenError) {
	token := form.Get("refresh_token")
	if token == "" {
		return nil, refuse("invalid_request", "missing required parameter: refresh_token")
	}
	if form.Has("scope") {
		return nil, refuse("invalid_request", "scope parameter not supported")
	}
	o := x.sim.orgOfRefresh(token)
	dead := refuse("invalid_grant", "expired access/refresh token")
	if o == nil {
		return nil, dead
	}
	x.org = o
	base := x.sim.base()
	o.mu.Lock()
	defer o.mu.Unlock()
	g := o.tokens[token]
	if g == nil || g.app.ClientID != app.ClientID {
		return nil, dead
	}
	if bad := o.admitLogin(g.user, app); bad != nil {
		return nil, bad
	}
	if g.revoked {
		return nil, dead
	}
	if g.refresh != token {
		// A spent token was used again: everything of the grant dies, at once.
		o.revoke(g)
		return nil, dead
	}
	if !g.user.mint(o.state.loginRate) {
		return nil, refuse("invalid_grant", "login rate exceeded")
	}
	rotate := app.Rotate
	if o.state.rotate != nil {
		rotate = *o.state.rotate
	}
	if rotate {
		if !o.state.keepSessions {
			o.endSessions(func(s *session) bool { return s.grant == g })
		}
		o.setRefresh(g)
	}
	s := o.newSession(g.user, app, g)
	a := o.answer(x, s, base)
	if rotate {
		a.RefreshToken = g.refresh
		x.newRefresh = g.refresh
	}
	return a, nil
}

// admitLogin applies the org's policy to a token request.
func (o *Org) admitLogin(u *User, app *App) *tokenError {
	switch {
	case o.state.inactive:
		return refuse("inactive_org", "inactive organization")
	case o.block(app) == AppNotInstalled:
		return refuse("app_not_found", "External client app is not installed in this org")
	case o.block(app) == AppNotApproved:
		return refuse("invalid_app_access", "user is not admin approved to access this app")
	case u.inactive:
		return refuse("inactive_user", "user is inactive")
	case o.state.ipLock == IPLogin:
		return refuse("invalid_grant", "ip restricted")
	}
	return nil
}

// mint counts a login against the user's hourly rate.
func (u *User) mint(rate int) bool {
	if rate == 0 {
		rate = 3600
	}
	now := time.Now()
	for len(u.mintedAt) > 0 && now.Sub(u.mintedAt[0]) >= time.Hour {
		u.mintedAt = u.mintedAt[1:]
	}
	if len(u.mintedAt) >= rate {
		return false
	}
	u.mintedAt = append(u.mintedAt, now)
	return true
}

// answer describes a new session. The org's lock must be held.
func (o *Org) answer(x *exchange, s *session, base string) *tokenAnswer {
	x.session, x.user = s, s.user
	login := base
	if login == "" {
		login = "https://login.salesforce.com"
	}
	id := login + "/id/" + string(o.id) + "/" + string(s.user.ID)
	issued := millis(s.issued)
	mac := hmac.New(sha256.New, []byte(s.app.ClientSecret))
	mac.Write([]byte(id + issued))
	return &tokenAnswer{
		AccessToken: s.token, InstanceURL: o.instanceFor(x, base), ID: id, IssuedAt: issued, TokenType: "Bearer",
		Scope: s.scope, Signature: base64.StdEncoding.EncodeToString(mac.Sum(nil)),
	}
}

// instanceFor is the instance URL of a token response. Behind a listener whose
// address nobody set, it is the address that the client used.
func (o *Org) instanceFor(x *exchange, base string) string {
	if o.instanceURL == "" && base == "" && !strings.HasSuffix(x.host, ".salesforce.com") {
		return x.base
	}
	return o.instance(base)
}

func (x *exchange) clientCredentials(app *App) (*tokenAnswer, *tokenError) {
	kind, hostOrg := x.sim.resolveHost(x.host)
	o := hostOrg
	if kind == hostShared {
		if orgs := x.sim.Orgs(); len(orgs) == 1 {
			o = orgs[0]
		}
	}
	if o == nil || kind == hostMoved || kind == hostLogin {
		return nil, refuse("invalid_grant", "request not supported on this domain")
	}
	x.org = o
	base := x.sim.base()
	o.mu.Lock()
	defer o.mu.Unlock()
	u := o.user(o.clientUser[app.ClientID])
	if u == nil {
		return nil, refuse("invalid_grant", "no client credentials user enabled")
	}
	if bad := o.admitLogin(u, app); bad != nil {
		return nil, bad
	}
	if !u.mint(o.state.loginRate) {
		return nil, refuse("invalid_grant", "login rate exceeded")
	}
	return o.answer(x, o.newSession(u, app, nil), base), nil
}

// SetClientCredentialsUser names the user that an app's client credentials
// flow runs as; without one the flow is refused. An empty client id is the
// default app, an empty name the default user. It panics on an unknown user.
func (o *Org) SetClientCredentialsUser(clientID, username string) {
	if clientID == "" {
		clientID = o.sim.defaultApp().ClientID
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	u := o.users[0]
	if username != "" {
		u = o.userNamed(username)
	}
	if u == nil {
		panic("sftest: no user " + username)
	}
	o.clientUser[clientID] = u.ID
}
