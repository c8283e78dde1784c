package sfapi

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Error is a call that failed: what Salesforce answered, or why no answer came.
// Everything in it is redacted and bounded, so it may be logged and stored.
type Error struct {
	// Op is the operation in our words, "query" for instance.
	Op string

	// Org is the org's 18-character id; empty where no org is known yet.
	Org string

	// Method and Path are those of the request. The path has no query.
	Method, Path string

	// Kind is what the failure means, Scope what it affects.
	Kind  Kind
	Scope Scope

	// Transient says that the same call can succeed later without anybody
	// changing configuration.
	Transient bool

	// Code and Message are Salesforce's for the root cause.
	Code, Message string

	// Status is the HTTP status, zero where no response arrived.
	Status int

	// RetryAfter is how long the server asked us to wait; zero: it did not.
	RetryAfter time.Duration

	// RequestID is Salesforce's id of the request, for their support.
	RequestID string

	// OutcomeUnknown says that a write may or may not have happened.
	OutcomeUnknown bool

	// Body is what was received, decoded, redacted and cut to 4 KiB.
	Body []byte

	// Err is the transport's error where no usable response arrived.
	Err error
}

// NewError classifies r and returns what it means as an error, or nil when r
// reports no failure. The caller sets Method and Path as it likes; Method is
// taken from r.
func NewError(op, org string, r *Response) *Error {
	c := Classify(r)
	if c.Kind == KindNone {
		return nil
	}
	e := &Error{
		Op: op, Org: org, Kind: c.Kind, Scope: c.Scope, Transient: c.Transient,
		Code: Redact(c.Code), Message: Redact(c.Message), RetryAfter: c.RetryAfter,
	}
	if r == nil {
		return e
	}
	e.Method, e.Status = r.Method, r.Status
	e.RequestID = requestID(r.Header)
	e.OutcomeUnknown = outcomeUnknown(r, c)
	e.Body = storedBody(decodedBody(r).text)
	return e
}

// requestID returns the id that Salesforce gave the request.
func requestID(h http.Header) string {
	for _, name := range [...]string{"X-Request-Id", "X-Sfdc-Request-Id", "Sforce-Request-Id", "X-Correlation-Id"} {
		if v := headerValue(h, name); v != "" {
			return Redact(v[:min(len(v), 128)])
		}
	}
	return ""
}

// outcomeUnknown is whether a write that was answered with r may have happened.
// A refusal with a code is an outcome; a lost or halved answer, a server that
// gave up half way and an edge that lost the server behind it are not.
func outcomeUnknown(r *Response, c *Classification) bool {
	if r.ReadOnly || r.Method == http.MethodGet || r.Method == http.MethodHead || r.Method == http.MethodOptions {
		return false
	}
	switch c.Kind {
	case KindServerUnavailable:
		if r.Status >= 400 && r.Status < 500 && r.Status != 408 && r.Status != 499 {
			// Refused before it was worked on.
			return false
		}
		return !rowOutcome(r)
	case KindQueryTimeout:
		return c.Transient && !rowOutcome(r)
	case KindUnknown:
		return (r.Status < 400 || r.Status >= 500) && !rowOutcome(r)
	}
	return false
}

// rowOutcome is whether the response was read to the end and tells each row's
// outcome, so that a failed row is known to have failed.
func rowOutcome(r *Response) bool {
	if r.Status < 200 || r.Status > 299 {
		return false
	}
	d := decodedBody(r)
	body := d.text
	if !d.ok || d.truncated || d.capped || len(body) == 0 {
		return false
	}
	var w jsonEnvelope
	switch body[0] {
	case '{', '[':
		w.read(body, r.Status)
		return !w.broken
	case '<':
		return !looksLikeHTML(body, headerValue(r.Header, "Content-Type"))
	}
	return r.Endpoint == EndpointBulk1 || r.Endpoint == EndpointBulk2
}

// NewTransportError returns the error of a call that got no usable response.
// readOnly says that the call cannot have written. The result wraps err, whose
// text is redacted in Error's.
func NewTransportError(op, org, method, path string, readOnly bool, err error) *Error {
	e := &Error{Op: op, Org: org, Method: method, Path: barePath(path), Err: err}
	m := meaningOf(KindServerUnavailable)
	var (
		dns      *net.DNSError
		unsigned x509.UnknownAuthorityError
		badHost  x509.HostnameError
		badCert  x509.CertificateInvalidError
		record   tls.RecordHeaderError
	)
	switch {
	case errors.Is(err, context.Canceled):
		// Our caller gave up; the org is not to blame.
		m = meaning{KindUnknown, ScopeRequest, true}
	case errors.As(err, &dns) && dns.IsNotFound:
		// The host is gone: an org that moved or was renamed.
		m = meaningOf(KindWrongInstance)
	case errors.As(err, &badHost), errors.As(err, &unsigned), errors.As(err, &badCert), errors.As(err, &record):
		m = meaning{KindServerUnavailable, ScopeOrg, true}
	}
	e.Kind, e.Scope, e.Transient = m.kind, m.scope, m.transient
	if !readOnly && method != http.MethodGet && method != http.MethodHead {
		e.OutcomeUnknown = mayHaveBeenSent(err)
	}
	return e
}

// mayHaveBeenSent is whether the request may have reached the server. Only
// what happens before the first byte leaves is known not to.
func mayHaveBeenSent(err error) bool {
	var (
		dns      *net.DNSError
		op       *net.OpError
		unsigned x509.UnknownAuthorityError
		badHost  x509.HostnameError
		badCert  x509.CertificateInvalidError
		badURL   *url.Error
	)
	switch {
	case errors.As(err, &dns), errors.As(err, &unsigned), errors.As(err, &badHost), errors.As(err, &badCert):
		return false
	case errors.As(err, &op) && op.Op == "dial":
		return false
	case errors.As(err, &badURL) && badURL.Op == "parse":
		return false
	}
	return true
}

// barePath returns a request's path without host, query and secrets.
func barePath(path string) string {
	path, _, _ = strings.Cut(path, "?")
	path, _, _ = strings.Cut(path, "#")
	if _, rest, ok := strings.Cut(path, "://"); ok {
		if i := strings.IndexByte(rest, '/'); i >= 0 {
			path = rest[i:]
		} else {
			path = "/"
		}
	}
	return Redact(path[:min(len(path), 512)])
}

// maxErrorText bounds what Error prints of a message, in bytes.
const maxErrorText = 512

// Error names the operation, the org, the code and what it means:
//
//	query org 00Dxx0000001gPLEAY: INVALID_FIELD: No such column 'foo' (bad_request, HTTP 400)
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Op)
	if e.Org != "" {
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		b.WriteString("org " + e.Org)
	}
	for _, part := range [...]string{e.Code, shorten(e.Message)} {
		if part != "" {
			b.WriteString(": " + part)
		}
	}
	if e.Err != nil {
		b.WriteString(": " + shorten(e.Err.Error()))
	}
	b.WriteString(" (" + e.Kind.String())
	if e.Status != 0 {
		b.WriteString(", HTTP " + strconv.Itoa(e.Status))
	}
	if e.OutcomeUnknown {
		b.WriteString(", outcome unknown")
	}
	b.WriteByte(')')
	// Fields are exported, so what a caller put there is not trusted either.
	return Redact(b.String())
}

// shorten returns s on one line, cut to maxErrorText.
func shorten(s string) string {
	if len(s) > maxErrorText {
		s = strings.ToValidUTF8(s[:maxErrorText], "") + "…"
	}
	if !strings.ContainsAny(s, "\n\r\t") {
		return s
	}
	return strings.Join(strings.Fields(s), " ")
}

// Unwrap returns the transport's error.
func (e *Error) Unwrap() error { return e.Err }

// RecordErrors returns the errors of e's body one by one, where they are a
// single record's: what a REST create or update answers. It is nil for bodies
// of other forms.
func (e *Error) RecordErrors() []RecordError {
	body := bytes.TrimSpace(e.Body)
	if len(body) == 0 || body[0] != '[' {
		return nil
	}
	var errs []RecordError
	if err := json.Unmarshal(body, &errs); err != nil {
		return nil
	}
	return errs
}
