package sftest

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

const jwtBearer = "urn:ietf:params:oauth:grant-type:jwt-bearer"

// jwtToken serves the JWT bearer flow. See
// https://help.salesforce.com/s/articleView?id=xcloud.remoteaccess_oauth_jwt_flow.htm.
func (x *exchange) jwtToken(form url.Values) (*tokenAnswer, *tokenError) {
	invalid := refuse("invalid_grant", "invalid assertion")
	head, rest, ok := strings.Cut(form.Get("assertion"), ".")
	payload, sig, ok2 := strings.Cut(rest, ".")
	if !ok || !ok2 {
		return nil, invalid
	}
	var header struct {
		Alg string `json:"alg"`
	}
	var claims struct {
		Iss string `json:"iss"`
		Sub string `json:"sub"`
		Prn string `json:"prn"`
		Aud string `json:"aud"`
		// Clients send exp as a number or, just as successfully, as a string.
		Exp any `json:"exp"`
	}
	signature, err := base64.RawURLEncoding.DecodeString(sig)
	if err != nil || decodeSegment(head, &header) != nil || decodeSegment(payload, &claims) != nil || header.Alg != "RS256" {
		return nil, invalid
	}
	app := x.sim.app(claims.Iss)
	if app == nil {
		return nil, refuse("invalid_client_id", "client identifier invalid")
	}
	digest := sha256.Sum256([]byte(head + "." + payload))
	if app.PublicKey == nil || rsa.VerifyPKCS1v15(app.PublicKey, crypto.SHA256, digest[:], signature) != nil {
		return nil, invalid
	}
	now := time.Now()
	seconds, err := strconv.ParseFloat(fmt.Sprint(claims.Exp), 64)
	if err != nil {
		return nil, invalid
	}
	exp := time.Unix(int64(seconds), 0)
	switch {
	case !exp.After(now):
		return nil, refuse("invalid_grant", "assertion expired")
	case exp.Sub(now) > 5*time.Minute:
		return nil, refuse("invalid_grant", "assertion validity is too long")
	}
	o, u := x.userOf(claims.Sub + claims.Prn)
	base := x.sim.base()
	audiences := []string{"https://login.salesforce.com", "https://test.salesforce.com", base}
	if o != nil {
		audiences = append(audiences, o.InstanceURL())
	}
	if aud := strings.TrimSuffix(claims.Aud, "/"); aud == "" || !slices.Contains(audiences, aud) {
		return nil, refuse("invalid_grant", "audience is invalid")
	}
	if u == nil {
		return nil, refuse("invalid_grant", "user hasn't approved this consumer")
	}
	x.org = o
	o.mu.Lock()
	defer o.mu.Unlock()
	if bad := o.admitLogin(u, app); bad != nil {
		return nil, bad
	}
	if !slices.ContainsFunc(o.grants, func(g *grant) bool {
		return g.user == u && g.app.ClientID == app.ClientID && !g.revoked
	}) {
		return nil, refuse("invalid_grant", "user hasn't approved this consumer")
	}
	if !u.mint(o.state.loginRate) {
		return nil, refuse("invalid_grant", "login rate exceeded")
	}
	return o.answer(x, o.newSession(u, app, nil), base), nil
}

func decodeSegment(segment string, v any) error {
	raw, err := base64.RawURLEncoding.DecodeString(segment)
	if err != nil {
		return err
	}
	return json.Unmarshal(raw, v)
}

// userOf finds the user with a user name in every org.
func (x *exchange) userOf(username string) (*Org, *User) {
	for _, o := range x.sim.Orgs() {
		o.mu.Lock()
		u := o.userNamed(username)
		o.mu.Unlock()
		if u != nil {
			return o, u
		}
	}
	return nil, nil
}
