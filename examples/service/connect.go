package main

import (
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/weirhq/weir/jobs"
	"github.com/weirhq/weir/runner"
	"github.com/weirhq/weir/sfapi"
)

const (
	connectCookie   = "weir_connect"
	connectLifetime = 15 * time.Minute
	connectPurpose  = "weir service connect"
	callbackPath    = "/oauth/callback"
)

// scopes are what the orgs' admins are asked to grant.
var scopes = []string{"api", "refresh_token"}

// connecting is an authorization under way. The browser that began it keeps it,
// sealed: so the answer counts in that browser only, and any process with the
// keyset can serve it.
type connecting struct {
	State    string    `json:"state"`
	Verifier string    `json:"verifier"`
	LoginURL string    `json:"login_url"`
	Redirect string    `json:"redirect"`
	Label    string    `json:"label"`
	Requeue  bool      `json:"requeue"`
	Until    time.Time `json:"until"`
}

// baseURL is this service as the browser names it. A proxy that ends TLS says
// so in X-Forwarded-Proto; what else it could say there would only be refused
// by Salesforce, which knows the callback URLs.
func baseURL(r *http.Request) string {
	if r.TLS != nil || strings.EqualFold(r.Header.Get("X-Forwarded-Proto"), "https") {
		return "https://" + r.Host
	}
	return "http://" + r.Host
}

// startConnect sends the browser to Salesforce's consent page.
func (a *api[TTx]) startConnect(w http.ResponseWriter, r *http.Request) error {
	label, err := queryText(r, "label")
	if err != nil {
		return err
	}
	requeue, err := queryBool(r, "requeue")
	if err != nil {
		return err
	}
	login := r.URL.Query().Get("login_url")
	if login == "" {
		login = a.config.LoginURL
	}
	verifier, challenge := sfapi.NewPKCE()
	c := connecting{
		State: rand.Text(), Verifier: verifier, LoginURL: login, Redirect: baseURL(r) + callbackPath,
		Label: label, Requeue: requeue, Until: time.Now().Add(connectLifetime),
	}
	target, err := a.config.app.AuthorizeURL(login, c.Redirect, c.State, challenge, scopes...)
	if err != nil {
		return badField("login_url", "%v", err)
	}
	value, err := sealJSON(a.config.sealer, connectPurpose, &c)
	if err != nil {
		return err
	}
	if len(value) > 3500 { // browsers drop longer cookies
		return badField("label", "is too long")
	}
	http.SetCookie(w, newCookie(r, connectCookie, value, connectLifetime))
	w.Header().Set("Cache-Control", "no-store")
	http.Redirect(w, r, target, http.StatusSeeOther)
	return nil
}

// finishConnect takes Salesforce's answer, and the grant.
func (a *api[TTx]) finishConnect(w http.ResponseWriter, r *http.Request) error {
	refuse := func(status int, text ...string) error {
		writePage(w, status, messagePage, message{Title: "Not connected", Text: text, Link: "/connect", LinkText: "Try again"})
		return nil
	}
	var c connecting
	cookie, err := r.Cookie(connectCookie)
	if err == nil {
		err = openJSON(a.config.sealer, connectPurpose, cookie.Value, &c)
	}
	q := r.URL.Query()
	if err != nil || time.Now().After(c.Until) || c.Redirect == "" ||
		subtle.ConstantTimeCompare([]byte(q.Get("state")), []byte(c.State)) != 1 {
		return refuse(http.StatusBadRequest, "This answer belongs to no connection that this browser began in the last 15 minutes.")
	}
	http.SetCookie(w, newCookie(r, connectCookie, "", -time.Second)) // good for one answer
	if code := q.Get("error"); code != "" {
		return refuse(http.StatusBadRequest, "Salesforce answered: "+code, q.Get("error_description"))
	}
	if q.Get("code") == "" {
		return refuse(http.StatusBadRequest, "The answer has no code.")
	}
	// The code is spent by the exchange: better to know first that the grant can
	// be stored.
	if err := a.runner.Ping(r.Context()); err != nil {
		return refuse(http.StatusServiceUnavailable, errUnavailable.Message)
	}
	token, err := a.config.app.ExchangeCode(r.Context(), c.LoginURL, q.Get("code"), c.Redirect, c.Verifier)
	if err == nil && token.Refresh == "" {
		return refuse(http.StatusBadRequest, "The grant has no refresh token: the app needs the scope refresh_token.")
	}
	var org *runner.Org
	if err == nil {
		org, _, err = a.runner.Orgs().Connect(r.Context(), &runner.ConnectParams{
			Token: token, LoginURL: c.LoginURL, Label: c.Label, Requeue: c.Requeue,
		})
	}
	if err != nil {
		p := problemOf(r, a.logger, err)
		if _, ok := errors.AsType[*jobs.FieldError](err); ok {
			p.status = http.StatusBadGateway // Salesforce's answer is what is wrong
		}
		if p.status == http.StatusServiceUnavailable {
			w.Header().Set("Retry-After", "5")
		}
		return refuse(p.status, p.Code+": "+p.Message)
	}
	writePage(w, http.StatusOK, messagePage, message{
		Title: "Connected", Text: []string{"Org " + string(org.ID) + " is connected."}, Link: "/orgs.html", LinkText: "All orgs",
	})
	return nil
}
