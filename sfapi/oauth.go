package sfapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	tokenPath      = "/services/oauth2/token"
	authorizePath  = "/services/oauth2/authorize"
	revokePath     = "/services/oauth2/revoke"
	introspectPath = "/services/oauth2/introspect"

	// tokenTimeout bounds token calls whose context has no deadline.
	tokenTimeout = 30 * time.Second

	maxTokenBodyBytes = 256 << 10
)

// RefreshToken exchanges a refresh token. An empty loginURL means the App's.
//
// Where refresh tokens rotate, the one that was sent is spent as soon as
// Salesforce has seen it, so the Token's Refresh must be stored before anything
// else. It is empty where the token was not rotated. An answer that carries one
// and is unusable otherwise is returned along with the error.
//
// https://help.salesforce.com/s/articleView?id=sf.remoteaccess_oauth_refresh_token_flow.htm
func (a *App) RefreshToken(ctx context.Context, loginURL string, refresh Secret) (*Token, error) {
	if refresh == "" {
		return nil, errors.New("refresh token: the refresh token is empty")
	}
	// No scope: sending one is refused even where it is the granted one.
	return a.exchange(ctx, "refresh token", loginURL, url.Values{
		"grant_type":    {"refresh_token"},
		"refresh_token": {refresh.Reveal()},
	}, true)
}

// ExchangeCode exchanges the code that an authorization returned. verifier is
// the PKCE verifier whose challenge AuthorizeURL was given.
//
// https://help.salesforce.com/s/articleView?id=sf.remoteaccess_oauth_web_server_flow.htm
func (a *App) ExchangeCode(ctx context.Context, loginURL, code, redirectURI, verifier string) (*Token, error) {
	if code == "" {
		return nil, errors.New("exchange code: the code is empty")
	}
	form := url.Values{
		"grant_type":   {"authorization_code"},
		"code":         {code},
		"redirect_uri": {redirectURI},
	}
	if verifier != "" {
		form.Set("code_verifier", verifier)
	}
	return a.exchange(ctx, "exchange code", loginURL, form, true)
}

// ClientCredentials gets a token of the app's run-as user. It works at an org's
// My Domain host alone; there is no refresh token.
//
// https://help.salesforce.com/s/articleView?id=sf.remoteaccess_oauth_client_credentials_flow.htm
func (a *App) ClientCredentials(ctx context.Context, myDomainURL string) (*Token, error) {
	u, err := parseBaseURL(myDomainURL)
	if err != nil {
		return nil, fmt.Errorf("client credentials: My Domain URL: %w", err)
	}
	if host := u.Hostname(); host == "login.salesforce.com" || host == "test.salesforce.com" {
		return nil, fmt.Errorf("client credentials: %w: %s is not an org's My Domain", ErrInvalidURL, host)
	}
	return a.exchange(ctx, "client credentials", myDomainURL, url.Values{"grant_type": {"client_credentials"}}, true)
}

// AuthorizeURL returns the URL to send an org's admin to. challenge is the S256
// PKCE challenge of a verifier that ExchangeCode will be given; NewPKCE makes
// both.
func (a *App) AuthorizeURL(loginURL, redirectURI, state, challenge string, scopes ...string) (string, error) {
	base, err := parseBaseURL(a.loginURL(loginURL))
	if err != nil {
		return "", fmt.Errorf("authorize: login URL: %w", err)
	}
	if redirectURI == "" || state == "" {
		return "", errors.New("authorize: redirect URI and state are required")
	}
	q := url.Values{
		"response_type": {"code"},
		"client_id":     {a.ClientID},
		"redirect_uri":  {redirectURI},
		"state":         {state},
	}
	if challenge != "" {
		q.Set("code_challenge", challenge)
		q.Set("code_challenge_method", "S256")
	}
	if len(scopes) > 0 {
		q.Set("scope", strings.Join(scopes, " "))
	}
	return base.String() + authorizePath + "?" + q.Encode(), nil
}

// Revoke ends a grant, given its refresh token, or a session, given an access
// token.
//
// https://help.salesforce.com/s/articleView?id=sf.remoteaccess_revoke_token.htm
func (a *App) Revoke(ctx context.Context, loginURL string, token Secret) error {
	base, err := parseBaseURL(a.loginURL(loginURL))
	if err != nil {
		return fmt.Errorf("revoke: login URL: %w", err)
	}
	_, err = a.post(ctx, a.transport(), "revoke", "", base, revokePath, EndpointToken, url.Values{"token": {token.Reveal()}})
	return err
}

// Introspect returns what the login host says of a token of this app.
//
// https://help.salesforce.com/s/articleView?id=sf.remoteaccess_oidc_token_introspection.htm
func (a *App) Introspect(ctx context.Context, loginURL string, token Secret) (*Introspection, error) {
	base, err := parseBaseURL(a.loginURL(loginURL))
	if err != nil {
		return nil, fmt.Errorf("introspect: login URL: %w", err)
	}
	return a.introspect(ctx, a.transport(), base, "", token)
}

func (a *App) introspect(ctx context.Context, rt http.RoundTripper, base *url.URL, org OrgID, token Secret) (*Introspection, error) {
	form := url.Values{"token": {token.Reveal()}, "token_type_hint": {"access_token"}}
	a.authenticate(form)
	rep, err := a.post(ctx, rt, "introspect", org, base, introspectPath, EndpointIntrospect, form)
	if err != nil {
		return nil, err
	}
	var answer Introspection
	if err := into(&answer)(rep); err != nil {
		return nil, NewTransportError("introspect", string(org), http.MethodPost, introspectPath, true, fmt.Errorf("%w: %w", ErrIncompleteResult, err))
	}
	return &answer, nil
}

// authenticate adds what identifies the app.
func (a *App) authenticate(form url.Values) {
	form.Set("client_id", a.ClientID)
	if a.ClientSecret != "" {
		form.Set("client_secret", a.ClientSecret.Reveal())
	}
}

// exchange posts a grant to the token endpoint.
func (a *App) exchange(ctx context.Context, op, loginURL string, form url.Values, authenticate bool) (*Token, error) {
	base, err := parseBaseURL(a.loginURL(loginURL))
	if err != nil {
		return nil, fmt.Errorf("%s: login URL: %w", op, err)
	}
	if authenticate {
		a.authenticate(form)
	}
	rep, err := a.post(ctx, a.transport(), op, "", base, tokenPath, EndpointToken, form)
	if err != nil {
		return nil, err
	}
	tok, err := readToken(rep)
	if err != nil {
		// The grant was spent, and what it was exchanged for may be lost.
		return tok, NewTransportError(op, "", http.MethodPost, tokenPath, false, err)
	}
	return tok, nil
}

// post sends a form and returns the answer, if it is a success.
func (a *App) post(ctx context.Context, rt http.RoundTripper, op string, org OrgID, base *url.URL, path string, endpoint Endpoint, form url.Values) (*reply, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", op, err)
	}
	readOnly := endpoint == EndpointIntrospect
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, base.String()+path, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", op, err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", a.userAgent())
	rep, err := send(ctx, rt, req, nil, maxTokenBodyBytes, tokenTimeout)
	if err != nil {
		return nil, NewTransportError(op, string(org), http.MethodPost, path, readOnly, err)
	}
	if rep.ok() && !isHTML(rep) {
		return rep, nil
	}
	e := NewError(op, string(org), rep.response(endpoint, http.MethodPost, readOnly))
	if e == nil || e.Kind == KindNone {
		return nil, NewTransportError(op, string(org), http.MethodPost, path, readOnly,
			fmt.Errorf("%w: status %d with a body that is not data", ErrIncompleteResult, rep.status))
	}
	if e.Path == "" {
		e.Path = path
	}
	return nil, e
}

// readToken reads the token endpoint's answer. A Token that comes with an error
// holds a refresh token that must not be lost.
func readToken(rep *reply) (*Token, error) {
	var answer struct {
		AccessToken  string          `json:"access_token"`
		RefreshToken string          `json:"refresh_token"`
		InstanceURL  string          `json:"instance_url"`
		ID           string          `json:"id"`
		IssuedAt     json.RawMessage `json:"issued_at"`
		Scope        string          `json:"scope"`
	}
	if err := into(&answer)(rep); err != nil {
		return nil, fmt.Errorf("%w: token answer: %w", ErrIncompleteResult, err)
	}
	tok := &Token{
		Access: Secret(answer.AccessToken), Refresh: Secret(answer.RefreshToken),
		IssuedAt: issuedAt(Value(answer.IssuedAt).String()), Scope: answer.Scope,
	}
	var errs []error
	if answer.AccessToken == "" {
		errs = append(errs, fmt.Errorf("%w: token answer has no access_token", ErrIncompleteResult))
	}
	if base, err := parseBaseURL(answer.InstanceURL); err != nil {
		errs = append(errs, fmt.Errorf("token answer: instance_url: %w", err))
	} else {
		tok.InstanceURL = base.String()
	}
	var err error
	if tok.Org, tok.UserID, err = parseIdentityURL(answer.ID); err != nil {
		errs = append(errs, fmt.Errorf("token answer: id: %w", err))
	}
	if len(errs) > 0 {
		if tok.Refresh == "" {
			tok = nil
		}
		return tok, errors.Join(errs...)
	}
	return tok, nil
}

// parseIdentityURL returns the org and the user that an identity URL names:
// https://login.salesforce.com/id/<org>/<user>.
func parseIdentityURL(raw string) (OrgID, string, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return "", "", fmt.Errorf("%w: identity URL does not parse", ErrInvalidURL)
	}
	parts := strings.Split(strings.Trim(u.Path, "/"), "/")
	if len(parts) != 3 || parts[0] != "id" {
		return "", "", fmt.Errorf("%w: %.100q is not an identity URL", ErrInvalidURL, raw)
	}
	org, err := ParseOrgID(parts[1])
	if err != nil {
		return "", "", err
	}
	user, err := ID18(parts[2])
	if err != nil {
		return "", "", err
	}
	return org, user, nil
}

// issuedAt reads issued_at, milliseconds written as a string.
func issuedAt(s string) time.Time {
	ms, err := strconv.ParseInt(s, 10, 64)
	if err != nil || ms <= 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}
