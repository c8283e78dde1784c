package main

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"html/template"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/tink-crypto/tink-go/v2/tink"
)

const (
	sessionCookie   = "weir_session"
	sessionLifetime = 12 * time.Hour
	maxLoginBytes   = 16 << 10
	loginPath       = "/login"
)

// guard lets in who knows the API token: with it as a bearer, or in a browser
// with a session that the log-in form gave. Without a token it lets in who
// speaks to this machine by a loopback name, so that no page of another site
// reaches the service by a name that it has pointed here.
type guard struct {
	token  [sha256.Size]byte // of the API token
	open   bool              // there is no token
	sealer tink.AEAD
	next   http.Handler
}

func newGuard(token string, sealer tink.AEAD, next http.Handler) http.Handler {
	g := &guard{token: sha256.Sum256([]byte(token)), open: token == "", sealer: sealer, next: next}
	csrf := http.NewCrossOriginProtection()
	csrf.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		writeProblem(w, &problem{status: http.StatusForbidden, Code: "cross_origin", Message: "a page of another site may not do this"})
	}))
	return csrf.Handler(g)
}

// public are the paths that need no token.
var public = map[string]bool{"/healthz": true, "/readyz": true, "/oauth/callback": true}

// ServeHTTP implements http.Handler.
func (g *guard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case public[r.URL.Path]:
	case g.open:
		if !isLoopbackHost(hostOnly(r.Host)) {
			writeProblem(w, &problem{status: http.StatusForbidden, Code: "host_not_allowed", Message: "without an API_TOKEN the service answers under loopback names only"})
			return
		}
	case r.URL.Path == loginPath:
		g.login(w, r)
		return
	case !g.knows(bearer(r)) && !g.hasSession(r):
		g.refuse(w, r)
		return
	}
	g.next.ServeHTTP(w, r)
}

// knows compares in constant time, the lengths too.
func (g *guard) knows(token string) bool {
	sum := sha256.Sum256([]byte(token))
	return subtle.ConstantTimeCompare(sum[:], g.token[:]) == 1
}

func bearer(r *http.Request) string {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}

// refuse asks a browser to log in and everybody else for the token.
func (g *guard) refuse(w http.ResponseWriter, r *http.Request) {
	if (r.Method == http.MethodGet || r.Method == http.MethodHead) && strings.Contains(r.Header.Get("Accept"), "text/html") {
		writeLogin(w, http.StatusUnauthorized, r.URL.RequestURI(), "")
		return
	}
	w.Header().Set("WWW-Authenticate", "Bearer")
	writeProblem(w, &problem{status: http.StatusUnauthorized, Code: "unauthorized", Message: "the API token is missing or wrong"})
}

// login shows the form, and gives a session to who knows the token.
func (g *guard) login(w http.ResponseWriter, r *http.Request) {
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		writeLogin(w, http.StatusOK, localPath(r.URL.Query().Get("next")), "")
		return
	case http.MethodPost:
	default:
		w.Header().Set("Allow", "GET, HEAD, POST")
		writeProblem(w, &problem{status: http.StatusMethodNotAllowed, Code: "method_not_allowed", Message: "this path takes GET and POST"})
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxLoginBytes)
	if err := r.ParseForm(); err != nil {
		writeLogin(w, http.StatusBadRequest, "/", "The form did not arrive whole.")
		return
	}
	next := localPath(r.PostForm.Get("next"))
	if !g.knows(r.PostForm.Get("token")) {
		writeLogin(w, http.StatusUnauthorized, next, "That is not the API token.")
		return
	}
	value, err := sealJSON(g.sealer, g.purpose(), time.Now().Add(sessionLifetime).Unix())
	if err != nil {
		writeLogin(w, http.StatusInternalServerError, next, "No session could be made.")
		return
	}
	http.SetCookie(w, newCookie(r, sessionCookie, value, sessionLifetime))
	if path, _, _ := strings.Cut(next, "?"); path == "/connect" {
		// It leads on to Salesforce, and browsers hold the page's form-action
		// against every redirect of what a form has sent.
		writePage(w, http.StatusOK, messagePage, message{
			Title: "Logged in", Text: []string{"You are taken to Salesforce."}, Link: next, LinkText: "Continue", Refresh: true,
		})
		return
	}
	http.Redirect(w, r, next, http.StatusSeeOther)
}

// hasSession reports whether the request comes from a browser that logged in.
func (g *guard) hasSession(r *http.Request) bool {
	cookie, err := r.Cookie(sessionCookie)
	if err != nil {
		return false
	}
	var until int64
	return openJSON(g.sealer, g.purpose(), cookie.Value, &until) == nil && time.Now().Before(time.Unix(until, 0))
}

// purpose binds a session to the token: another token ends it.
func (g *guard) purpose() string { return "weir service session " + string(g.token[:]) }

// localPath returns a path of this service to go on to.
func localPath(next string) string {
	u, err := url.Parse(next)
	if err != nil || u.Scheme != "" || u.Host != "" || !strings.HasPrefix(next, "/") || strings.HasPrefix(next, "//") || strings.ContainsAny(next, "\\\r\n\t") {
		return "/orgs.html"
	}
	return next
}

func hostOnly(hostport string) string {
	if host, _, err := net.SplitHostPort(hostport); err == nil {
		return host
	}
	return strings.Trim(hostport, "[]")
}

// newCookie makes a cookie that scripts do not see and that other sites' pages
// do not send, but for following a link here.
func newCookie(r *http.Request, name, value string, lifetime time.Duration) *http.Cookie {
	return &http.Cookie{
		Name: name, Value: value, Path: "/", MaxAge: int(lifetime.Seconds()), HttpOnly: true,
		SameSite: http.SameSiteLaxMode, Secure: strings.HasPrefix(baseURL(r), "https:"),
	}
}

// sealJSON encrypts what a browser keeps for us. Every process with the keyset
// can open it, so any of them may serve the next request.
func sealJSON(sealer tink.AEAD, purpose string, v any) (string, error) {
	plain, err := json.Marshal(v)
	if err != nil {
		return "", err
	}
	sealed, err := sealer.Encrypt(plain, []byte(purpose))
	return base64.RawURLEncoding.EncodeToString(sealed), err
}

func openJSON(sealer tink.AEAD, purpose, value string, into any) error {
	sealed, err := base64.RawURLEncoding.DecodeString(value)
	if err != nil {
		return err
	}
	plain, err := sealer.Decrypt(sealed, []byte(purpose))
	if err != nil {
		return err
	}
	return json.Unmarshal(plain, into)
}

var loginPage = template.Must(template.New("login").Parse(`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Log in · Weir</title>
<meta name="viewport" content="width=device-width, initial-scale=1">` + pageStyle + `</head>
<body><main><h1>Weir</h1>
<form method="post" action="/login">
<input type="hidden" name="next" value="{{.Next}}">
<p><label for="token">API token</label><br>
<input id="token" name="token" type="password" autocomplete="current-password" required autofocus{{if .Problem}} aria-describedby="problem"{{end}}></p>
{{if .Problem}}<p id="problem" role="alert">{{.Problem}}</p>{{end}}
<p><button type="submit">Log in</button></p>
</form></main></body></html>
`))

func writeLogin(w http.ResponseWriter, status int, next, problem string) {
	writePage(w, status, loginPage, map[string]string{"Next": next, "Problem": problem})
}
