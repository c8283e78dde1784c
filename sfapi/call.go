package sfapi

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"
)

// Call is one HTTP request of a Client, as ClientConfig.Before and After see
// it. A request that is replayed after a refresh is two Calls.
type Call struct {
	// Org and UserID are whom the request acts for. UserID is empty where the
	// token does not say.
	Org    OrgID
	UserID string

	// Op is the operation in our words: "query", "create", "collection upsert".
	Op string

	// Method and Path are the request's; Path is without the query, which holds
	// customer data.
	Method, Path string

	// Endpoint is the family of endpoint that is called.
	Endpoint Endpoint

	// ReadOnly says that the request cannot write.
	ReadOnly bool

	// Bulk says that the request is one of Bulk API, which read-only mode
	// refuses even for reads.
	Bulk bool

	// Generation is that of the token in use.
	Generation int64

	// Replay says that the request was refused before, and the token has been
	// refreshed since.
	Replay bool

	// Status is the HTTP status; 0 before the request and where no answer came.
	Status int

	// Kind is what a failure means; KindNone for a success.
	Kind Kind

	// Err is the error the call ends with, or nil.
	Err error

	// Duration is how long the answer took, its body and decoding included.
	Duration time.Duration

	// Usage is the API usage the answer reported, or nil.
	Usage *Usage
}

// request is one call as the methods of Client describe it. Its body may be
// sent more than once.
type request struct {
	op       string
	method   string
	path     string // absolute and escaped, with its query
	endpoint Endpoint
	readOnly bool
	header   http.Header
	body     []byte

	// buf is memory that the answer's body may use.
	buf []byte

	// decode reads a success. A result that is not whole wraps
	// ErrIncompleteResult. A nil decode accepts any.
	decode func(*reply) error
}

// route returns the path without its query.
func (r *request) route() string {
	path, _, _ := strings.Cut(r.path, "?")
	return path
}

// endpointOf returns the family of endpoint that serves a path.
func endpointOf(path string) Endpoint {
	path, _, _ = strings.Cut(path, "?")
	switch {
	case strings.HasPrefix(path, "/services/async/"):
		return EndpointBulk1
	case strings.HasPrefix(path, "/services/Soap/"):
		return EndpointSOAP
	case strings.HasPrefix(path, "/services/oauth2/userinfo"), strings.HasPrefix(path, "/id/"):
		return EndpointIdentity
	case strings.HasPrefix(path, "/services/oauth2/introspect"):
		return EndpointIntrospect
	case strings.HasPrefix(path, "/services/oauth2/"):
		return EndpointToken
	case !strings.HasPrefix(path, "/services/data/"):
		return EndpointREST
	}
	_, resource, _ := strings.Cut(strings.TrimPrefix(path, "/services/data/"), "/")
	switch {
	case strings.HasPrefix(resource, "composite/sobjects"):
		return EndpointCollections
	case strings.HasPrefix(resource, "composite"):
		return EndpointComposite
	case strings.HasPrefix(resource, "jobs/"):
		return EndpointBulk2
	}
	return EndpointREST
}

// refusedAgainError marks an error that a fresh token did not cure.
type refusedAgainError struct{ err error }

func (e *refusedAgainError) Error() string { return e.err.Error() + " (after a fresh token)" }
func (e *refusedAgainError) Unwrap() error { return e.err }

// AfterRefresh reports whether err is the refusal of a token that had just been
// refreshed: refreshing again will not help, Diagnose tells why.
func AfterRefresh(err error) bool {
	var again *refusedAgainError
	return errors.As(err, &again)
}

type withoutRefreshKey struct{}

// WithoutRefresh returns a context whose calls return the refusal of a token as
// it is, instead of refreshing and replaying. A diagnosis needs that.
func WithoutRefresh(ctx context.Context) context.Context {
	return context.WithValue(ctx, withoutRefreshKey{}, true)
}

func mayRefresh(ctx context.Context) bool { return ctx.Value(withoutRefreshKey{}) == nil }

// curable reports whether err is a refusal that a new token, or the
// instance_url that comes with it, may cure. Such a refusal proves that the
// request did not run, so that writes are replayed too.
func curable(err error) bool {
	var e *Error
	if !errors.As(err, &e) || e.Status == 0 {
		return false
	}
	return e.Kind == KindSessionExpired || e.Kind == KindWrongInstance
}
