package sfapi

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"time"
)

// assertionLifetime is how long an assertion is good for. Salesforce takes at
// most a few minutes, clock differences included.
const assertionLifetime = 3 * time.Minute

// JWTBearer gets a token for user with an assertion that signer signs (RS256);
// the app holds the certificate. loginURL is the audience too, so it is
// https://login.salesforce.com, https://test.salesforce.com or the URL of an
// Experience Cloud site. There is no refresh token, and each call counts as a
// login.
//
// https://help.salesforce.com/s/articleView?id=sf.remoteaccess_oauth_jwt_flow.htm
func (a *App) JWTBearer(ctx context.Context, loginURL, user string, signer crypto.Signer) (*Token, error) {
	if user == "" {
		return nil, errors.New("jwt bearer: user is required")
	}
	base, err := parseBaseURL(a.loginURL(loginURL))
	if err != nil {
		return nil, fmt.Errorf("jwt bearer: login URL: %w", err)
	}
	assertion, err := a.assertion(base.String(), user, signer, time.Now())
	if err != nil {
		return nil, fmt.Errorf("jwt bearer: %w", err)
	}
	return a.exchange(ctx, "jwt bearer", loginURL, url.Values{
		"grant_type": {"urn:ietf:params:oauth:grant-type:jwt-bearer"},
		"assertion":  {assertion},
	}, false)
}

func (a *App) assertion(audience, user string, signer crypto.Signer, now time.Time) (string, error) {
	if signer == nil {
		return "", errors.New("signer is required")
	}
	if _, ok := signer.Public().(*rsa.PublicKey); !ok {
		return "", fmt.Errorf("signer has a key of type %T, want RSA", signer.Public())
	}
	claims, err := json.Marshal(map[string]any{
		"iss": a.ClientID, "sub": user, "aud": audience, "exp": now.Add(assertionLifetime).Unix(),
	})
	if err != nil {
		return "", err
	}
	enc := base64.RawURLEncoding
	signed := enc.EncodeToString([]byte(`{"alg":"RS256","typ":"JWT"}`)) + "." + enc.EncodeToString(claims)
	digest := sha256.Sum256([]byte(signed))
	signature, err := signer.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		return "", fmt.Errorf("sign assertion: %w", err)
	}
	return signed + "." + enc.EncodeToString(signature), nil
}

// NewPKCE returns a fresh PKCE verifier and its S256 challenge (RFC 7636).
func NewPKCE() (verifier, challenge string) {
	var random [32]byte
	_, _ = rand.Read(random[:]) // never fails
	verifier = base64.RawURLEncoding.EncodeToString(random[:])
	digest := sha256.Sum256([]byte(verifier))
	return verifier, base64.RawURLEncoding.EncodeToString(digest[:])
}
