package sftest

import (
	"crypto/sha256"
	"encoding/base64"
	"html/template"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// authCode is a code of the authorization code flow, good for one use within
// 15 minutes.
type authCode struct {
	org       *Org
	user      *User
	app       *App
	redirect  string
	challenge string
	issued    time.Time
}

var consentPage = template.Must(template.New("consent").Parse(`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Allow access? | Salesforce</title>
<meta name="viewport" content="width=device-width, initial-scale=1"></head>
<body><main><h1>Allow Access?</h1><p>{{.App}} is asking to access your data.</p>
<form method="post" action="/services/oauth2/authorize">
{{range $k, $v := .Hidden}}<input type="hidden" name="{{$k}}" value="{{$v}}">{{end}}
<p><label for="username">User</label> <select id="username" name="username">
{{range .Users}}<option value="{{.Name}}"{{if .Selected}} selected{{end}}>{{.Name}} ({{.Org}})</option>{{end}}
</select></p>
<button id="oaapprove" type="submit" name="decision" value="allow">Allow</button>
<button id="oadeny" type="submit" name="decision" value="deny">Deny</button>
</form></main></body></html>
`))

// authorize shows the consent page and, once it is answered, redirects to the
// app. See https://help.salesforce.com/s/articleView?id=xcloud.remoteaccess_oauth_web_server_flow.htm.
func (x *exchange) authorize() *Reply {
	x.entry.Operation = OpAuthorize
	params := x.query
	if x.method == http.MethodPost && x.isForm() {
		form, err := url.ParseQuery(string(x.body))
		if err != nil {
			return oauthFail("invalid_request", "malformed request body")
		}
		params = form
	} else if x.method != http.MethodGet {
		return methodNotAllowed(x.method, "GET", "POST")
	}
	app := x.sim.app(params.Get("client_id"))
	if app == nil {
		return oauthFail("invalid_client_id", "client identifier invalid")
	}
	redirect := params.Get("redirect_uri")
	if !app.accepts(redirect) {
		return oauthFail("redirect_uri_mismatch", "redirect_uri must match configuration")
	}
	back := func(v url.Values) *Reply {
		if params.Has("state") {
			v.Set("state", params.Get("state"))
		}
		r := newReply(http.StatusFound, "", nil)
		glue := "?"
		if strings.Contains(redirect, "?") {
			glue = "&"
		}
		r.Header.Set("Location", redirect+glue+v.Encode())
		return r
	}
	switch {
	case params.Get("response_type") != "code":
		return back(url.Values{"error": {"unsupported_response_type"}, "error_description": {"response type must be one of the following: code"}})
	case params.Get("code_challenge") == "" && !app.PKCEOptional:
		return back(url.Values{"error": {"invalid_request"}, "error_description": {"missing required code challenge"}})
	case params.Has("code_challenge_method") && params.Get("code_challenge_method") != "S256":
		return back(url.Values{"error": {"invalid_request"}, "error_description": {"invalid code challenge method"}})
	}
	if x.method == http.MethodGet {
		return x.consent(app, params)
	}
	if params.Get("decision") != "allow" {
		return back(url.Values{"error": {"access_denied"}, "error_description": {"end-user denied authorization"}})
	}
	o, u := x.userOf(params.Get("username"))
	if o == nil {
		return oauthFail("invalid_request", "no such user")
	}
	x.org, x.user = o, u
	o.mu.Lock()
	block, inactive := o.block(app), u.inactive || o.state.inactive
	o.mu.Unlock()
	switch {
	case block == AppNotInstalled:
		return back(url.Values{"error": {"OAUTH_EC_APP_NOT_FOUND"}, "error_description": {"External client app is not installed in this org"}})
	case block == AppNotApproved:
		return back(url.Values{"error": {"OAUTH_APP_ACCESS_DENIED"}, "error_description": {"user is not admin approved to access this app"}})
	case inactive:
		return back(url.Values{"error": {"OAUTH_APPROVAL_ERROR_GENERIC"}, "error_description": {"An unexpected error has occurred during authentication. Please try again."}})
	}
	code := "aPrx" + randomToken(80)
	x.sim.secrets.add(code)
	x.sim.mu.Lock()
	x.sim.codes[code] = &authCode{o, u, app, redirect, params.Get("code_challenge"), time.Now()}
	x.sim.mu.Unlock()
	return back(url.Values{"code": {code}})
}

// consent renders the page that asks the user. login_hint preselects a user.
func (x *exchange) consent(app *App, params url.Values) *Reply {
	type choice struct {
		Name, Org string
		Selected  bool
	}
	hidden := map[string]string{}
	for k := range params {
		hidden[k] = params.Get(k)
	}
	var users []choice
	orgs := x.sim.Orgs()
	if _, o := x.sim.resolveHost(x.host); o != nil {
		orgs = []*Org{o}
	}
	for _, o := range orgs {
		for _, u := range o.Users() {
			users = append(users, choice{u.Username, o.Name(), strings.EqualFold(u.Username, params.Get("login_hint"))})
		}
	}
	var page strings.Builder
	if err := consentPage.Execute(&page, map[string]any{"App": app.Name, "Hidden": hidden, "Users": users}); err != nil {
		panic("sftest: consent page: " + err.Error())
	}
	return newReply(200, "text/html;charset=UTF-8", []byte(page.String()))
}

// accepts reports whether the app may be called back at a URL.
func (a *App) accepts(redirect string) bool {
	if len(a.RedirectURIs) > 0 {
		return slices.Contains(a.RedirectURIs, redirect)
	}
	u, err := url.Parse(redirect)
	if err != nil || u.Host == "" || u.Fragment != "" {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	return u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
}

// codeToken exchanges a code for tokens.
func (x *exchange) codeToken(app *App, form url.Values) (*tokenAnswer, *tokenError) {
	x.sim.mu.Lock()
	c := x.sim.codes[form.Get("code")]
	delete(x.sim.codes, form.Get("code"))
	x.sim.mu.Unlock()
	switch {
	case form.Get("code") == "":
		return nil, refuse("invalid_request", "missing required parameter: code")
	case c == nil || c.app.ClientID != app.ClientID || time.Since(c.issued) > 15*time.Minute:
		return nil, refuse("invalid_grant", "expired authorization code")
	case c.redirect != form.Get("redirect_uri"):
		return nil, refuse("redirect_uri_mismatch", "redirect_uri must match configuration")
	}
	if c.challenge != "" {
		sum := sha256.Sum256([]byte(form.Get("code_verifier")))
		if base64.RawURLEncoding.EncodeToString(sum[:]) != strings.TrimRight(c.challenge, "=") {
			return nil, refuse("invalid_grant", "invalid code verifier")
		}
	}
	o := c.org
	x.org = o
	base := x.sim.base()
	o.mu.Lock()
	defer o.mu.Unlock()
	if bad := o.admitLogin(c.user, app); bad != nil {
		return nil, bad
	}
	if !c.user.mint(o.state.loginRate) {
		return nil, refuse("invalid_grant", "login rate exceeded")
	}
	g := o.newGrant(c.user, app)
	a := o.answer(x, o.newSession(c.user, app, g), base)
	a.RefreshToken = g.refresh
	x.newRefresh = g.refresh
	return a, nil
}
