package sfapi_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weirhq/weir/sfapi"
)

const tokenAnswer = `{"access_token":"00D!secret","signature":"s=","scope":"refresh_token api","instance_url":"https://acme.my.salesforce.com",` +
	`"id":"https://login.salesforce.com/id/00Dxx0000000001EAA/005xx000001SvogAAC","token_type":"Bearer","issued_at":"1767225600000"}`

// login is a token endpoint that gives one answer and keeps what it was asked.
func login(t *testing.T, status int, body string) (*sfapi.App, *[]url.Values) {
	t.Helper()
	var asked []url.Values
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		r.PostForm.Set("path", r.URL.Path)
		asked = append(asked, r.PostForm)
		answer(w, status, body)
	}))
	t.Cleanup(s.Close)
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return &sfapi.App{ClientID: "app", ClientSecret: "app-secret", LoginURL: s.URL, Transport: transport}, &asked
}

func TestApp_RefreshToken(t *testing.T) {
	t.Parallel()
	for name, rotated := range map[string]sfapi.Secret{"kept": "", "rotated": "next"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			body := tokenAnswer
			if rotated != "" {
				body = strings.Replace(body, "{", `{"refresh_token":"next",`, 1)
			}
			app, asked := login(t, 200, body)
			got, err := app.RefreshToken(t.Context(), "", "spent")
			want := &sfapi.Token{
				Access: "00D!secret", Refresh: rotated, InstanceURL: "https://acme.my.salesforce.com",
				Org: "00Dxx0000000001EAA", UserID: "005xx000001SvogAAC",
				IssuedAt: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), Scope: "refresh_token api",
			}
			if diff := cmp.Diff(want, got); diff != "" || err != nil {
				t.Errorf("RefreshToken: %v (-want +got):\n%s", err, diff)
			}
			form := url.Values{
				"path": {"/services/oauth2/token"}, "grant_type": {"refresh_token"}, "refresh_token": {"spent"},
				"client_id": {"app"}, "client_secret": {"app-secret"},
			}
			if diff := cmp.Diff([]url.Values{form}, *asked); diff != "" {
				t.Errorf("form (-want +got):\n%s", diff)
			}
			for _, shown := range []string{fmt.Sprint(got), fmt.Sprintf("%+v", got), fmt.Sprintf("%#v", got), got.LogValue().String()} {
				if strings.Contains(shown, "secret") || strings.Contains(shown, "next") {
					t.Errorf("a token shows its secrets: %s", shown)
				}
			}
		})
	}
}

func TestApp_RefreshTokenUnusable(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]string{
		"html":             "<html></html>",
		"cut":              tokenAnswer[:60],
		"no access token":  strings.Replace(tokenAnswer, "access_token", "x", 1),
		"no instance":      strings.Replace(tokenAnswer, "instance_url", "x", 1),
		"instance is http": strings.Replace(tokenAnswer, "https://acme", "http://acme", 1),
		"no id":            strings.Replace(tokenAnswer, `"id"`, `"x"`, 1),
		"id of a user":     strings.Replace(tokenAnswer, "00Dxx0000000001EAA", "005xx000001SvogAAC", 1),
	} {
		app, _ := login(t, 200, body)
		if tok, err := app.RefreshToken(t.Context(), "", "spent"); asError(err) == nil || !asError(err).OutcomeUnknown || tok != nil {
			t.Errorf("%s: RefreshToken = %v, %v, want an unknown outcome", name, tok, err)
		}
	}
	app, _ := login(t, 200, `{"refresh_token":"next"}`)
	if tok, err := app.RefreshToken(t.Context(), "", "spent"); err == nil || tok == nil || tok.Refresh != "next" {
		t.Errorf("RefreshToken = %v, %v, want an error and the rotated token", tok, err)
	}
	app, _ = login(t, 400, `{"error":"invalid_grant","error_description":"expired access/refresh token"}`)
	if _, err := app.RefreshToken(t.Context(), "", "spent"); sfapi.KindOf(err) != sfapi.KindRevoked {
		t.Errorf("RefreshToken: %v (%s), want revoked", err, sfapi.KindOf(err))
	}
	for _, bad := range []string{"http://login.salesforce.com", "https://u@login.salesforce.com", "login.salesforce.com", "https://login.salesforce.com/x"} {
		if _, err := app.RefreshToken(t.Context(), bad, "spent"); err == nil {
			t.Errorf("login URL %s was accepted", bad)
		}
	}
}

func TestApp_OtherFlows(t *testing.T) {
	t.Parallel()
	app, asked := login(t, 200, tokenAnswer)
	ctx := t.Context()
	verifier, challenge := sfapi.NewPKCE()
	if sum := sha256.Sum256([]byte(verifier)); base64.RawURLEncoding.EncodeToString(sum[:]) != challenge {
		t.Error("the challenge is not the verifier's")
	}
	authorize, err := app.AuthorizeURL("https://test.salesforce.com", "https://us.example/cb", "st&te", challenge, "api", "refresh_token")
	wantURL := "https://test.salesforce.com/services/oauth2/authorize?client_id=app&code_challenge=" + challenge +
		"&code_challenge_method=S256&redirect_uri=https%3A%2F%2Fus.example%2Fcb&response_type=code&scope=api+refresh_token&state=st%26te"
	if authorize != wantURL || err != nil {
		t.Errorf("AuthorizeURL = %s, %v", authorize, err)
	}
	if _, err := app.ExchangeCode(ctx, "", "code", "https://us.example/cb", verifier); err != nil {
		t.Errorf("ExchangeCode: %v", err)
	}
	if _, err := app.ClientCredentials(ctx, app.LoginURL); err != nil {
		t.Errorf("ClientCredentials: %v", err)
	}
	if _, err := app.ClientCredentials(ctx, sfapi.DefaultLoginURL); err == nil {
		t.Error("ClientCredentials accepted the shared login host")
	}
	if err := app.Revoke(ctx, "", "spent"); err != nil {
		t.Errorf("Revoke: %v", err)
	}
	want := []url.Values{
		{"path": {"/services/oauth2/token"}, "grant_type": {"authorization_code"}, "code": {"code"}, "redirect_uri": {"https://us.example/cb"}, "code_verifier": {verifier}, "client_id": {"app"}, "client_secret": {"app-secret"}},
		{"path": {"/services/oauth2/token"}, "grant_type": {"client_credentials"}, "client_id": {"app"}, "client_secret": {"app-secret"}},
		{"path": {"/services/oauth2/revoke"}, "token": {"spent"}},
	}
	if diff := cmp.Diff(want, *asked); diff != "" {
		t.Errorf("forms (-want +got):\n%s", diff)
	}
}

func TestApp_JWTBearer(t *testing.T) {
	t.Parallel()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	app, asked := login(t, 200, tokenAnswer)
	if _, err := app.JWTBearer(t.Context(), "", "sync@acme.example", key); err != nil {
		t.Fatal(err)
	}
	parts := strings.Split((*asked)[0].Get("assertion"), ".")
	if len(parts) != 3 {
		t.Fatalf("assertion has %d parts", len(parts))
	}
	signature, _ := base64.RawURLEncoding.DecodeString(parts[2])
	digest := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	if err := rsa.VerifyPKCS1v15(&key.PublicKey, crypto.SHA256, digest[:], signature); err != nil {
		t.Errorf("signature: %v", err)
	}
	var claims struct {
		Iss, Sub, Aud string
		Exp           int64
	}
	raw, _ := base64.RawURLEncoding.DecodeString(parts[1])
	if err := json.Unmarshal(raw, &claims); err != nil || claims.Iss != "app" || claims.Sub != "sync@acme.example" || claims.Aud != app.LoginURL || claims.Exp == 0 {
		t.Errorf("claims = %+v, %v", claims, err)
	}

	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, signer := range []crypto.Signer{nil, other} {
		if _, err := app.JWTBearer(t.Context(), "", "sync@acme.example", signer); err == nil {
			t.Errorf("JWTBearer accepted a signer of type %T", signer)
		}
	}
}

func TestApp_Introspect(t *testing.T) {
	t.Parallel()
	app, asked := login(t, 200, `{"active":true,"scope":"api","client_id":"app","username":"u","sub":"s","exp":1767232800,"iat":1767225600}`)
	got, err := app.Introspect(t.Context(), "", "secret")
	want := &sfapi.Introspection{
		Active: true, Scope: "api", ClientID: "app", Username: "u", Subject: "s",
		IssuedAt: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), ExpiresAt: time.Date(2026, 1, 1, 2, 0, 0, 0, time.UTC),
	}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("Introspect: %v (-want +got):\n%s", err, diff)
	}
	if (*asked)[0].Get("token_type_hint") != "access_token" || (*asked)[0].Get("client_secret") != "app-secret" {
		t.Errorf("form = %v", (*asked)[0])
	}
	app, _ = login(t, 200, `{}`)
	if _, err := app.Introspect(t.Context(), "", "secret"); err == nil {
		t.Error("an answer without active was accepted")
	}
}
