package sftest_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirhq/weir/sfapi/sftest"
)

// oauthError is the token endpoint's error and its description.
func oauthError(t *testing.T, body string) string {
	t.Helper()
	var e struct {
		Error       string `json:"error"`
		Description string `json:"error_description"`
	}
	if err := json.Unmarshal([]byte(body), &e); err != nil {
		t.Fatalf("decode %s: %v", body, err)
	}
	return e.Error + ": " + e.Description
}

func refreshForm(token string) url.Values {
	return url.Values{"grant_type": {"refresh_token"}, "client_id": {sftest.DefaultClientID},
		"client_secret": {sftest.DefaultClientSecret}, "refresh_token": {token}}
}

func TestTokenResponse(t *testing.T) {
	t.Parallel()
	org, c := setup(t)
	before := time.Now().UnixMilli()
	_, body := c.form("/services/oauth2/token", refreshForm(c.refresh))
	var a map[string]any
	c.decode(body, &a)
	var issued int64
	if _, err := fmt.Sscan(a["issued_at"].(string), &issued); err != nil || issued < before {
		t.Errorf("issued_at = %v", a["issued_at"])
	}
	if !strings.HasPrefix(a["access_token"].(string), org.ID()[:15]+"!") {
		t.Errorf("access_token = %v", a["access_token"])
	}
	for _, k := range []string{"access_token", "signature", "issued_at"} {
		delete(a, k)
	}
	want := map[string]any{"instance_url": "https://org1.my.salesforce.com", "scope": "refresh_token api id", "token_type": "Bearer",
		"id": "https://login.salesforce.com/id/" + org.ID() + "/" + string(org.Users()[0].ID)}
	if fmt.Sprint(a) != fmt.Sprint(want) {
		t.Errorf("got %v\nwant %v", a, want)
	}
}

func TestRefusedTokenRequests(t *testing.T) {
	t.Parallel()
	org, c := setup(t)
	with := func(k, v string) url.Values {
		f := refreshForm(c.refresh)
		if v == "" {
			f.Del(k)
		} else {
			f.Set(k, v)
		}
		return f
	}
	tests := []struct {
		name string
		form url.Values
		want string
	}{
		{"no grant type", with("grant_type", ""), "invalid_request: missing required parameter: grant_type"},
		{"unknown grant type", with("grant_type", "password"), "unsupported_grant_type: grant type not supported"},
		{"no client id", with("client_id", ""), "invalid_request: missing required parameter: client_id"},
		{"unknown client", with("client_id", "nope"), "invalid_client_id: client identifier invalid"},
		{"wrong secret", with("client_secret", "nope"), "invalid_client: invalid client credentials"},
		{"no secret", with("client_secret", ""), "invalid_client: invalid client credentials"},
		{"no token", with("refresh_token", ""), "invalid_request: missing required parameter: refresh_token"},
		{"unknown token", with("refresh_token", "5Aep861nope"), "invalid_grant: expired access/refresh token"},
		{"scope", with("scope", "api"), "invalid_request: scope parameter not supported"},
		{"client credentials at the login host", with("grant_type", "client_credentials"), "invalid_grant: request not supported on this domain"},
		{"broken assertion", with("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"), "invalid_grant: invalid assertion"},
		{"unknown code", with("grant_type", "authorization_code"), "invalid_request: missing required parameter: code"},
	}
	for _, tt := range tests {
		status, body := c.form("/services/oauth2/token", tt.form)
		if got := oauthError(t, body); status != 400 || got != tt.want {
			t.Errorf("%s: got %d %s, want %s", tt.name, status, got, tt.want)
		}
	}
	if _, body := c.form("/services/oauth2/token", with("format", "xml")); strings.Contains(body, "<") {
		t.Errorf("a good answer in XML is not simulated, got %s", body)
	}
	form := with("refresh_token", "nope")
	form.Set("format", "xml")
	if _, body := c.form("/services/oauth2/token", form); !strings.Contains(body, "<error>invalid_grant</error>") {
		t.Errorf("XML error: %s", body)
	}
	if n := org.Grants(); n != 1 {
		t.Errorf("%d grants are live, want 1", n)
	}
}

func TestRotation(t *testing.T) {
	t.Parallel()
	org, c := setup(t)
	org.SetRotation(true)
	first, oldToken := c.refresh, c.token
	if status, _ := c.refreshNow(); status != 200 || c.refresh == first {
		t.Fatalf("refresh did not rotate: %d", status)
	}
	if got := org.CurrentRefreshToken(first); got != c.refresh {
		t.Errorf("current token of the first one = %q", got)
	}
	second := c.token
	c.token = oldToken
	if status, _ := c.do("GET", "/limits", ""); status != 401 {
		t.Errorf("the older access token answers %d after rotation, want 401", status)
	}
	c.token = second
	if status, _ := c.do("GET", "/limits", ""); status != 200 {
		t.Errorf("the new access token answers %d", status)
	}
	status, body := c.form("/services/oauth2/token", refreshForm(first))
	if status != 400 || oauthError(t, body) != "invalid_grant: expired access/refresh token" {
		t.Errorf("spent token: %d %s", status, body)
	}
	if status, _ := c.do("GET", "/limits", ""); status != 401 {
		t.Errorf("access token survived the reuse of a spent refresh token: %d", status)
	}
	if status, _ := c.refreshNow(); status != 400 || org.Grants() != 0 {
		t.Errorf("grant survived the reuse of a spent refresh token: %d", status)
	}
}

func TestRotationCanKeepSessions(t *testing.T) {
	t.Parallel()
	org, c := setup(t)
	org.SetRotation(true)
	org.SetSessionsSurviveRotation(true)
	old := c.token
	c.refreshNow()
	c.token = old
	if status, _ := c.do("GET", "/limits", ""); status != 200 {
		t.Errorf("older access token answers %d", status)
	}
}

func TestSixthGrantDropsTheOldest(t *testing.T) {
	t.Parallel()
	org, c := setup(t)
	for range 4 {
		org.Grant()
	}
	if status, _ := c.refreshNow(); status != 200 {
		t.Fatalf("first of five grants answers %d", status)
	}
	org.Grant()
	if status, body := c.refreshNow(); status != 400 || oauthError(t, body) != "invalid_grant: expired access/refresh token" {
		t.Errorf("first of six grants: %d %s", status, body)
	}
	if status, _ := c.do("GET", "/limits", ""); status != 401 {
		t.Errorf("its session answers %d", status)
	}
}

func TestSessionTimeoutSlides(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, c := setup(t)
		for range 3 {
			time.Sleep(119 * time.Minute)
			if status, _ := c.do("GET", "/limits", ""); status != 200 {
				t.Fatalf("session in use answers %d", status)
			}
		}
		time.Sleep(2 * time.Hour)
		status, body := c.do("GET", "/limits", "")
		if want := `[{"message":"Session expired or invalid","errorCode":"INVALID_SESSION_ID"}]`; status != 401 || body != want {
			t.Errorf("idle session: %d %s", status, body)
		}
	})
}

func TestLoginRateIsPerHour(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		org, c := setup(t)
		org.SetLoginRate(3)
		c.refreshNow()
		c.refreshNow()
		if _, body := c.refreshNow(); oauthError(t, body) != "invalid_grant: login rate exceeded" {
			t.Errorf("fourth login: %s", body)
		}
		time.Sleep(time.Hour)
		if status, _ := c.refreshNow(); status != 200 {
			t.Errorf("an hour later: %d", status)
		}
	})
}

func TestBusyRefresh(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		org, c := setup(t)
		org.SetBusyRefresh(true)
		org.Inject(sftest.Hold(time.Second).On("POST", "/services/oauth2/token").Next(1))
		answers := make(chan string, 2)
		for range 2 {
			go func() {
				_, body := c.form("/services/oauth2/token", refreshForm(c.refresh))
				answers <- body
			}()
		}
		first, second := <-answers, <-answers
		if got := oauthError(t, first); got != "invalid_grant: Token request is already being processed" {
			t.Errorf("the sibling got %s", got)
		}
		if !strings.Contains(second, "access_token") {
			t.Errorf("the first got %s", second)
		}
	})
}

func TestClientCredentials(t *testing.T) {
	t.Parallel()
	org, c := setup(t)
	c.login = org.InstanceURL()
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {sftest.DefaultClientID}, "client_secret": {sftest.DefaultClientSecret}}
	if _, body := c.form("/services/oauth2/token", form); oauthError(t, body) != "invalid_grant: no client credentials user enabled" {
		t.Errorf("without a user: %s", body)
	}
	org.SetClientCredentialsUser("", "")
	status, body := c.form("/services/oauth2/token", form)
	if status != 200 || strings.Contains(body, "refresh_token\":") {
		t.Errorf("with a user: %d %s", status, body)
	}
}

func TestJWTBearer(t *testing.T) {
	t.Parallel()
	org, c := setup(t)
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	sim := sftest.New(&sftest.Config{Apps: []sftest.App{{ClientID: "jwt", PublicKey: &key.PublicKey}}})
	org = sim.AddOrg(nil)
	c.http = sim.Client()
	sign := func(k *rsa.PrivateKey, claims map[string]any) string {
		p, err := json.Marshal(claims)
		if err != nil {
			t.Fatal(err)
		}
		text := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"RS256"}`)) + "." + base64.RawURLEncoding.EncodeToString(p)
		sum := sha256.Sum256([]byte(text))
		sig, err := rsa.SignPKCS1v15(rand.Reader, k, crypto.SHA256, sum[:])
		if err != nil {
			t.Fatal(err)
		}
		return text + "." + base64.RawURLEncoding.EncodeToString(sig)
	}
	claims := func(k string, v any) map[string]any {
		m := map[string]any{"iss": "jwt", "sub": org.Users()[0].Username, "aud": "https://login.salesforce.com", "exp": time.Now().Add(time.Minute).Unix()}
		m[k] = v
		return m
	}
	ask := func(assertion string) (int, string) {
		return c.form("/services/oauth2/token", url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:jwt-bearer"}, "assertion": {assertion}})
	}
	if _, body := ask(sign(key, claims("x", 1))); oauthError(t, body) != "invalid_grant: user hasn't approved this consumer" {
		t.Errorf("before the approval: %s", body)
	}
	org.GrantFor("", "jwt")
	if status, body := ask(sign(key, claims("x", 1))); status != 200 {
		t.Errorf("good assertion: %d %s", status, body)
	}
	tests := map[string]struct{ assertion, want string }{
		"wrong key":      {sign(other, claims("x", 1)), "invalid_grant: invalid assertion"},
		"unknown app":    {sign(key, claims("iss", "nope")), "invalid_client_id: client identifier invalid"},
		"expired":        {sign(key, claims("exp", time.Now().Add(-time.Minute).Unix())), "invalid_grant: assertion expired"},
		"too long":       {sign(key, claims("exp", time.Now().Add(time.Hour).Unix())), "invalid_grant: assertion validity is too long"},
		"wrong audience": {sign(key, claims("aud", "https://example.com")), "invalid_grant: audience is invalid"},
		"unknown user":   {sign(key, claims("sub", "nobody")), "invalid_grant: user hasn't approved this consumer"},
	}
	for name, tt := range tests {
		if _, body := ask(tt.assertion); oauthError(t, body) != tt.want {
			t.Errorf("%s: got %s, want %s", name, oauthError(t, body), tt.want)
		}
	}
}

func TestAuthorizationCode(t *testing.T) {
	t.Parallel()
	org, c := setup(t)
	c.base, c.token = c.login, ""
	verifier := strings.Repeat("v", 64)
	sum := sha256.Sum256([]byte(verifier))
	ask := url.Values{"response_type": {"code"}, "client_id": {sftest.DefaultClientID}, "redirect_uri": {"http://127.0.0.1:9/cb"}, "state": {"s&1"},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(sum[:])}, "code_challenge_method": {"S256"}}
	status, page := c.do("GET", "/services/oauth2/authorize?"+ask.Encode(), "")
	if status != 200 || !strings.Contains(page, org.Users()[0].Username) || !strings.Contains(page, `value="s&amp;1"`) {
		t.Fatalf("consent page: %d %s", status, page)
	}
	decide := func(decision string) url.Values {
		t.Helper()
		form := url.Values{"username": {org.Users()[0].Username}, "decision": {decision}}
		for k, v := range ask {
			form[k] = v
		}
		_, _, h := c.send("POST", "/services/oauth2/authorize", form.Encode(), "Content-Type", "application/x-www-form-urlencoded")
		u, err := url.Parse(h.Get("Location"))
		if err != nil || u.Host != "127.0.0.1:9" || u.Query().Get("state") != "s&1" {
			t.Fatalf("redirect to %s: %v", h.Get("Location"), err)
		}
		return u.Query()
	}
	if got := decide("deny").Get("error"); got != "access_denied" {
		t.Errorf("denied: %s", got)
	}
	trade := func(code, verifier, redirect string) (int, string) {
		return c.form("/services/oauth2/token", url.Values{"grant_type": {"authorization_code"}, "client_id": {sftest.DefaultClientID},
			"client_secret": {sftest.DefaultClientSecret}, "code": {code}, "code_verifier": {verifier}, "redirect_uri": {redirect}})
	}
	code := decide("allow").Get("code")
	status, body := trade(code, verifier, "http://127.0.0.1:9/cb")
	if status != 200 || !strings.Contains(body, `"refresh_token":"5Aep861`) {
		t.Fatalf("exchange: %d %s", status, body)
	}
	if _, body := trade(code, verifier, "http://127.0.0.1:9/cb"); oauthError(t, body) != "invalid_grant: expired authorization code" {
		t.Errorf("second use: %s", body)
	}
	if _, body := trade(decide("allow").Get("code"), "wrong", "http://127.0.0.1:9/cb"); oauthError(t, body) != "invalid_grant: invalid code verifier" {
		t.Errorf("wrong verifier: %s", body)
	}
	if _, body := trade(decide("allow").Get("code"), verifier, "http://127.0.0.1:9/other"); oauthError(t, body) != "redirect_uri_mismatch: redirect_uri must match configuration" {
		t.Errorf("wrong redirect: %s", body)
	}
	org.BlockApp("", sftest.AppNotInstalled)
	if got := decide("allow").Get("error"); got != "OAUTH_EC_APP_NOT_FOUND" {
		t.Errorf("app that is not installed: %s", got)
	}
	ask.Set("redirect_uri", "https://evil.example/cb")
	if status, body := c.do("GET", "/services/oauth2/authorize?"+ask.Encode(), ""); status != 400 || !strings.Contains(body, "redirect_uri_mismatch") {
		t.Errorf("foreign redirect: %d %s", status, body)
	}
}

func TestIdentityWords(t *testing.T) {
	t.Parallel()
	sim := sftest.New(nil)
	org, other := sim.AddOrg(nil), sim.AddOrg(nil)
	c := connect(t, org, sim.Client())
	user := string(org.Users()[0].ID)
	tests := []struct {
		name, path, token string
		status            int
		want              string
	}{
		{"userinfo", "/services/oauth2/userinfo", c.token, 200, `"organization_id":"` + org.ID() + `"`},
		{"identity", "/id/" + org.ID() + "/" + user, c.token, 200, `"user_id":"` + user + `"`},
		{"no token", "/services/oauth2/userinfo", "", 403, "Missing_OAuth_Token"},
		{"dead token", "/services/oauth2/userinfo", org.ID()[:15] + "!dead", 403, "Bad_OAuth_Token"},
		{"another org", "/id/" + other.ID() + "/" + user, c.token, 403, "Wrong_Org"},
		{"bad id", "/id/zz/" + user, c.token, 404, "Bad_Id"},
	}
	for _, tt := range tests {
		c.token = tt.token
		status, body := c.do("GET", tt.path, "")
		if status != tt.status || !strings.Contains(body, tt.want) {
			t.Errorf("%s: %d %s, want %d %s", tt.name, status, body, tt.status, tt.want)
		}
	}
}

func TestIntrospectAndRevoke(t *testing.T) {
	t.Parallel()
	org, c := setup(t)
	ask := func(token string) map[string]any {
		t.Helper()
		_, body := c.form("/services/oauth2/introspect", url.Values{"token": {token}, "client_id": {sftest.DefaultClientID}, "client_secret": {sftest.DefaultClientSecret}})
		var m map[string]any
		c.decode(body, &m)
		return m
	}
	live := ask(c.token)
	if live["active"] != true || live["exp"].(float64)-live["iat"].(float64) != 7200 || live["username"] != org.Users()[0].Username {
		t.Errorf("live token: %v", live)
	}
	if status, _ := c.form("/services/oauth2/introspect", url.Values{"token": {c.token}}); status != http.StatusUnauthorized && status != 400 {
		t.Errorf("without credentials: %d", status)
	}
	if status, body := c.form("/services/oauth2/revoke", url.Values{"token": {c.refresh}}); status != 200 {
		t.Errorf("revoke: %d %s", status, body)
	}
	if got := ask(c.token); len(got) != 1 || got["active"] != false {
		t.Errorf("revoked token: %v", got)
	}
	if status, body := c.form("/services/oauth2/revoke", url.Values{"token": {c.refresh}}); status != 400 || !strings.HasPrefix(oauthError(t, body), "invalid_token") {
		t.Errorf("revoke again: %d %s", status, body)
	}
	if org.Grants() != 0 || org.Sessions() != 0 {
		t.Errorf("%d grants, %d sessions are left", org.Grants(), org.Sessions())
	}
}
