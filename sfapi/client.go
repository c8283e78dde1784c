package sfapi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"
)

// ErrWrongOrg is wrapped by the error of a call whose token belongs to another
// org than the Client.
var ErrWrongOrg = errors.New("token belongs to another org")

// ClientConfig is how a Client works. The zero value is ready to use.
type ClientConfig struct {
	// Transport sends the requests. Defaults to the App's.
	Transport http.RoundTripper

	// Logger gets what no caller is told, refreshed sessions for instance.
	// Defaults to discarding.
	Logger *slog.Logger

	// MaxBodyBytes bounds a response's body, decompressed. Defaults to 64 MiB;
	// at most 4 GiB - 1.
	MaxBodyBytes int64

	// Timeout bounds each request whose context has no deadline, its answer's
	// body included. Defaults to 2 minutes, the time Salesforce allows a query;
	// -1 switches it off.
	Timeout time.Duration

	// CompressOverBytes is the size from which on request bodies are sent
	// compressed. It pays across a WAN and costs CPU beside the org. Defaults to
	// never.
	CompressOverBytes int

	// Before is asked before each request. An error refuses the request
	// locally: nothing is sent, and the call returns that error, wrapped. It is
	// called concurrently.
	Before func(ctx context.Context, call *Call) error

	// After is told of each request that was sent, once its answer was read or
	// had failed. It is called concurrently and must not keep call.
	After func(ctx context.Context, call *Call)
}

// Client calls one org. Make one with NewClient. It is safe for concurrent use
// and holds no connection of its own, so that there is nothing to close.
//
// A call whose token is refused refreshes it and is sent once more with the
// same body; AfterRefresh tells an error that comes even so. Errors of
// Salesforce and of the network are an *Error.
type Client struct {
	org          OrgID
	app          *App
	tokens       TokenSource
	transport    http.RoundTripper
	logger       *slog.Logger
	before       func(context.Context, *Call) error
	after        func(context.Context, *Call)
	data         string // "/services/data/v66.0"
	userAgent    string
	maxBodyBytes int64
	timeout      time.Duration
	compressOver int

	usage atomic.Pointer[Usage]
	base  atomic.Pointer[instance]
}

// instance is a token's instance URL, checked once.
type instance struct {
	raw string
	url *url.URL
}

// NewClient returns a Client of org. The error names every unusable argument.
func NewClient(org OrgID, app *App, tokens TokenSource, cfg *ClientConfig) (*Client, error) {
	if cfg == nil {
		cfg = &ClientConfig{}
	}
	var errs []error
	if id, err := ParseOrgID(string(org)); err != nil {
		errs = append(errs, fmt.Errorf("org: %w", err))
	} else {
		org = id
	}
	if err := app.Validate(); err != nil {
		errs = append(errs, fmt.Errorf("app: %w", err))
	}
	if tokens == nil {
		errs = append(errs, errors.New("tokens is required"))
	}
	if cfg.MaxBodyBytes < 0 || cfg.MaxBodyBytes >= 1<<32 {
		errs = append(errs, fmt.Errorf("config: MaxBodyBytes is %d, want at most 4 GiB - 1", cfg.MaxBodyBytes))
	}
	if cfg.Timeout < -1 {
		errs = append(errs, fmt.Errorf("config: Timeout is %s, want 0 or more, or -1", cfg.Timeout))
	}
	if cfg.CompressOverBytes < 0 {
		errs = append(errs, fmt.Errorf("config: CompressOverBytes is %d, want 0 or more", cfg.CompressOverBytes))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("new client: %w", err)
	}
	c := &Client{
		org: org, app: app, tokens: tokens,
		transport: cfg.Transport, logger: cfg.Logger, before: cfg.Before, after: cfg.After,
		data: app.dataPath(), userAgent: app.userAgent(),
		maxBodyBytes: cfg.MaxBodyBytes, timeout: cfg.Timeout, compressOver: cfg.CompressOverBytes,
	}
	if c.transport == nil {
		c.transport = app.transport()
	}
	if c.logger == nil {
		c.logger = slog.New(slog.DiscardHandler)
	}
	if c.maxBodyBytes == 0 {
		c.maxBodyBytes = defaultMaxBodyBytes
	}
	if c.timeout == 0 {
		c.timeout = defaultTimeout
	}
	return c, nil
}

// Org returns the org that the Client calls.
func (c *Client) Org() OrgID { return c.org }

// call sends req, and once more with a fresh token if the one in use was
// refused.
func (c *Client) call(ctx context.Context, req *request) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s on org %s: %w", req.op, c.org, err)
	}
	tok, err := c.tokens.Token(ctx)
	if err != nil {
		return fmt.Errorf("token of org %s: %w", c.org, err)
	}
	refused, err := c.attempt(ctx, req, tok, false)
	if !refused || !mayRefresh(ctx) {
		return err
	}
	fresh, refreshErr := c.tokens.Refresh(ctx, tok)
	switch {
	case errors.Is(refreshErr, ErrNoRefresh):
		return err
	case refreshErr != nil:
		return fmt.Errorf("refresh org %s: %w", c.org, refreshErr)
	case fresh == nil || fresh.Generation <= tok.Generation && fresh.Access == tok.Access:
		return fmt.Errorf("refresh org %s: token source returned no newer token: %w", c.org, err)
	}
	c.logger.LogAttrs(ctx, slog.LevelInfo, "session refreshed",
		slog.String("org", string(c.org)), slog.String("op", req.op),
		slog.String("kind", KindOf(err).String()), slog.Int64("generation", fresh.Generation))
	refused, err = c.attempt(ctx, req, fresh, true)
	if refused {
		return &refusedAgainError{err}
	}
	return err
}

// attempt sends req once. refused says that Salesforce refused tok, or was not
// at tok's instance.
func (c *Client) attempt(ctx context.Context, req *request, tok *Token, replay bool) (refused bool, err error) {
	base, err := c.instance(tok)
	if err != nil {
		return false, fmt.Errorf("%s on org %s: %w", req.op, c.org, err)
	}
	call := &Call{
		Org: c.org, UserID: tok.UserID, Op: req.op, Method: req.method, Path: req.route(),
		Endpoint: req.endpoint, ReadOnly: req.readOnly,
		Bulk:       req.endpoint == EndpointBulk1 || req.endpoint == EndpointBulk2,
		Generation: tok.Generation, Replay: replay,
	}
	if c.before != nil {
		if err := c.before(ctx, call); err != nil {
			return false, fmt.Errorf("%s on org %s: %w", req.op, c.org, err)
		}
	}
	start := time.Now()
	err = c.exchange(ctx, req, tok, base, call)
	if c.after != nil {
		call.Duration, call.Err, call.Kind = time.Since(start), err, KindOf(err)
		c.after(ctx, call)
	}
	return curable(err), err
}

// exchange sends req and reads the answer, noting in call what it was.
func (c *Client) exchange(ctx context.Context, req *request, tok *Token, base *url.URL, call *Call) error {
	hr, err := c.build(ctx, req, tok, base)
	if err != nil {
		return fmt.Errorf("%s on org %s: %w", req.op, c.org, err)
	}
	rep, err := send(ctx, c.transport, hr, req.buf, c.maxBodyBytes, c.timeout)
	if err != nil {
		return NewTransportError(req.op, string(c.org), req.method, call.Path, req.readOnly, err)
	}
	call.Status = rep.status
	if usage, ok := ParseLimitInfo(rep.header.Get("Sforce-Limit-Info")); ok {
		usage.At = time.Now()
		call.Usage = &usage
		c.usage.Store(&usage)
	}
	if !rep.ok() || isHTML(rep) {
		return c.refusal(req, call, rep)
	}
	if req.decode == nil {
		return nil
	}
	err = req.decode(rep)
	switch refused := (*Error)(nil); {
	case errors.As(err, &refused):
		return refused // a part of a composite request
	case errors.Is(err, ErrIncompleteResult):
		return NewTransportError(req.op, string(c.org), req.method, call.Path, req.readOnly, err)
	case err != nil:
		return fmt.Errorf("%s on org %s: %w", req.op, c.org, err)
	}
	return nil
}

// refusal returns the error that an answer other than data stands for.
func (c *Client) refusal(req *request, call *Call, rep *reply) error {
	rep.body = bytes.Clone(rep.body) // it may be in memory that is used again
	e := NewError(req.op, string(c.org), rep.response(req.endpoint, req.method, req.readOnly))
	if e == nil || e.Kind == KindNone {
		return NewTransportError(req.op, string(c.org), req.method, call.Path, req.readOnly,
			fmt.Errorf("%w: status %d with a body that is not data", ErrIncompleteResult, rep.status))
	}
	if e.Path == "" {
		e.Path = call.Path
	}
	return e
}

// build returns the HTTP request of req.
func (c *Client) build(ctx context.Context, req *request, tok *Token, base *url.URL) (*http.Request, error) {
	var body io.Reader
	packed := c.compressOver > 0 && len(req.body) > c.compressOver
	switch {
	case packed:
		body = bytes.NewReader(compress(req.body))
	case req.body != nil:
		body = bytes.NewReader(req.body)
	}
	hr, err := http.NewRequestWithContext(ctx, req.method, base.Scheme+"://"+base.Host+req.path, body)
	if err != nil {
		return nil, err
	}
	for name, values := range req.header {
		hr.Header[name] = values
	}
	hr.Header.Set("Authorization", "Bearer "+tok.Access.Reveal())
	hr.Header.Set("User-Agent", c.userAgent)
	if hr.Header.Get("Accept") == "" {
		hr.Header.Set("Accept", "application/json")
	}
	if req.body != nil && hr.Header.Get("Content-Type") == "" {
		hr.Header.Set("Content-Type", "application/json; charset=UTF-8")
	}
	if packed {
		hr.Header.Set("Content-Encoding", "gzip")
	}
	return hr, nil
}

// instance returns the only host that tok may be sent to.
func (c *Client) instance(tok *Token) (*url.URL, error) {
	if tok == nil || tok.Access == "" {
		return nil, errors.New("token source returned no access token")
	}
	if tok.Org != "" && tok.Org != c.org {
		return nil, fmt.Errorf("%w: %s", ErrWrongOrg, tok.Org)
	}
	if known := c.base.Load(); known != nil && known.raw == tok.InstanceURL {
		return known.url, nil
	}
	u, err := parseBaseURL(tok.InstanceURL)
	if err != nil {
		return nil, fmt.Errorf("instance URL: %w", err)
	}
	c.base.Store(&instance{tok.InstanceURL, u})
	return u, nil
}
