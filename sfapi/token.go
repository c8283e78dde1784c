package sfapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// ErrNoRefresh is returned by TokenSource.Refresh where there is nothing to
// refresh with. The Client then returns the refusal itself.
var ErrNoRefresh = errors.New("token cannot be refreshed")

// Token is a grant's access to one org. It prints without its secrets.
type Token struct {
	// Access authorizes calls until the session dies; nothing says when, since
	// Salesforce returns no expires_in.
	Access Secret

	// Refresh is the refresh token that the answer carried. It is empty where
	// the flow has none, and where the token endpoint did not rotate: the one
	// that was sent stays good then.
	Refresh Secret

	// InstanceURL is the only host to call, as the newest answer named it.
	InstanceURL string

	// Org and UserID are whom the token belongs to, both 18 characters.
	Org    OrgID
	UserID string

	// IssuedAt is the server's time of issue; zero if it gave none.
	IssuedAt time.Time

	// Scope is the granted scopes, separated by spaces.
	Scope string

	// Generation counts the credentials of an org. The flows leave it 0: who
	// stores tokens counts them.
	Generation int64
}

// LogValue shows whom the token belongs to, and no secret.
func (t *Token) LogValue() slog.Value {
	if t == nil {
		return slog.StringValue("none")
	}
	return slog.GroupValue(
		slog.String("org", string(t.Org)),
		slog.String("user", t.UserID),
		slog.String("instance_url", t.InstanceURL),
		slog.Int64("generation", t.Generation),
		slog.Time("issued_at", t.IssuedAt),
	)
}

// TokenSource gives a Client the tokens of its org. Both methods are called
// concurrently.
type TokenSource interface {
	// Token returns the current token without asking Salesforce where it can.
	// Its errors are returned to the caller as they are, wrapped.
	Token(ctx context.Context) (*Token, error)

	// Refresh returns a token newer than stale, one with a higher Generation,
	// exchanging the grant only if nobody has yet. It returns ErrNoRefresh
	// where it has nothing to refresh with, and the *Error of the token
	// endpoint where that refused.
	Refresh(ctx context.Context, stale *Token) (*Token, error)
}

// StaticToken returns a source of one token, which it cannot refresh: Refresh
// returns ErrNoRefresh.
func StaticToken(t *Token) TokenSource { return staticToken{t} }

type staticToken struct{ token *Token }

var _ TokenSource = staticToken{}

func (s staticToken) Token(context.Context) (*Token, error) {
	if s.token == nil {
		return nil, errors.New("no token")
	}
	return s.token, nil
}

func (s staticToken) Refresh(context.Context, *Token) (*Token, error) {
	return nil, fmt.Errorf("static token: %w", ErrNoRefresh)
}
