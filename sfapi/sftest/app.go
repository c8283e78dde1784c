package sftest

import "crypto/rsa"

// The app that every simulator knows when Config.Apps is empty. It accepts any
// redirect URI on a loopback host and needs its secret.
const (
	DefaultClientID     = "3MVG9sftest.default_app"
	DefaultClientSecret = "sftest-secret-5F2A"
)

// App is an external client app: the OAuth client.
type App struct {
	ClientID string
	// ClientSecret may be empty for a public client.
	ClientSecret string
	// Name appears on the consent page and in per-app limit headers.
	// Defaults to ClientID.
	Name string
	// SecretOptional accepts token requests that leave the secret out. A wrong
	// secret is refused all the same.
	SecretOptional bool
	// RedirectURIs are the callback URLs that authorize accepts. Empty accepts
	// any URL on a loopback host.
	RedirectURIs []string
	// PKCEOptional accepts the authorization code flow without a code challenge.
	PKCEOptional bool
	// Scopes that a grant gets. Defaults to "refresh_token api id".
	Scopes string
	// Rotate gives a new refresh token with each refresh and kills the old one;
	// using a spent one revokes the grant. An org can override it.
	Rotate bool
	// PublicKey verifies JWT bearer assertions. Nil refuses that flow.
	PublicKey *rsa.PublicKey
	// MaxGrants is the number of refresh tokens that one user may have approved;
	// one more drops the oldest silently. Defaults to 5.
	MaxGrants int
	// NoIntrospect answers introspection of its own tokens with inactive, as
	// for an app that may not introspect.
	NoIntrospect bool
}

func (a App) withDefaults() *App {
	if a.Name == "" {
		a.Name = a.ClientID
	}
	if a.Scopes == "" {
		a.Scopes = "refresh_token api id"
	}
	if a.MaxGrants == 0 {
		a.MaxGrants = 5
	}
	return &a
}
