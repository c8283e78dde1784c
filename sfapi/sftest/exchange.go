package sftest

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// ErrConnectionDropped is what RoundTrip returns when a fault drops the
// connection. A real listener closes it instead.
var ErrConnectionDropped = errors.New("sftest: connection reset by peer")

// exchange is one call on its way through the simulator. Parts of a composite
// call are exchanges of their own.
type exchange struct {
	sim     *Sim
	ctx     context.Context //nolint:containedctx // an exchange is a request, as http.Request is
	method  string
	path    string // decoded
	raw     string // as it was sent, still escaped
	query   url.Values
	header  http.Header
	body    []byte
	host    string
	base    string // scheme and host that the client used
	remote  string
	version string // "v66.0"
	org     *Org
	user    *User
	session *session
	entry   Entry
	// newRefresh is a refresh token that this call minted.
	newRefresh string
}

// ServeHTTP implements http.Handler.
func (s *Sim) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	reply, err := s.serve(req)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	reply.write(w)
}

// RoundTrip implements http.RoundTripper: the call is served in process, on
// the caller's goroutine, and honours the request's context.
func (s *Sim) RoundTrip(req *http.Request) (*http.Response, error) {
	reply, err := s.serve(req)
	if req.Body != nil {
		err = errors.Join(err, req.Body.Close())
	}
	if err != nil {
		return nil, err
	}
	return reply.response(req), nil
}

// maxHeaderBytes bounds the URI and the headers together. See
// https://developer.salesforce.com/docs/atlas.en-us.salesforce_app_limits_cheatsheet.meta/salesforce_app_limits_cheatsheet/salesforce_app_limits_platform_api.htm.
const maxHeaderBytes = 16384

func (s *Sim) serve(req *http.Request) (*Reply, error) {
	ctx := req.Context()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	host := strings.ToLower(req.Host)
	if host == "" {
		host = strings.ToLower(req.URL.Host)
	}
	scheme := req.URL.Scheme
	if scheme == "" {
		scheme = "http"
		if req.TLS != nil {
			scheme = "https"
		}
	}
	x := &exchange{sim: s, ctx: ctx, method: req.Method, path: req.URL.Path, raw: req.URL.EscapedPath(), header: req.Header,
		host: host, base: scheme + "://" + host, remote: req.RemoteAddr}
	x.entry = Entry{Time: time.Now(), Method: req.Method, Host: host, Path: req.URL.Path, Query: req.URL.RawQuery}
	if r := x.tooLong(req); r != nil {
		return x.finish(r, nil)
	}
	var err error
	if x.query, err = url.ParseQuery(req.URL.RawQuery); err != nil {
		return x.finish(fail(400, "MALFORMED_QUERY", "invalid query string"), nil)
	}
	if req.Body != nil {
		refusal, err := x.readBody(req, s.maxBody)
		if err != nil {
			return nil, fmt.Errorf("read request body: %w", err)
		}
		if refusal != nil {
			return x.finish(refusal, nil)
		}
	}
	x.identify()
	hits := slices.Concat(s.faults.match(req, x), x.orgFaults(req))
	return x.run(req, hits)
}

// readBody reads the body, which may be compressed, up to a limit. See
// https://developer.salesforce.com/docs/atlas.en-us.api_rest.meta/api_rest/intro_rest_compression.htm.
func (x *exchange) readBody(req *http.Request, limit int64) (refusal *Reply, err error) {
	tooLarge := func() *Reply {
		return newReply(413, "text/html", []byte("<html><head><title>413 Request Entity Too Large</title></head>"+
			"<body><h1>Error: Request Entity Too Large: head</h1></body></html>"))
	}
	x.body, err = io.ReadAll(io.LimitReader(req.Body, limit+1))
	switch {
	case err != nil:
		return nil, err
	case int64(len(x.body)) > limit:
		return tooLarge(), nil
	case len(x.body) == 0 || req.Header.Get("Content-Encoding") == "":
		return nil, nil
	case !strings.EqualFold(req.Header.Get("Content-Encoding"), "gzip"):
		return fail(http.StatusUnsupportedMediaType, "UNSUPPORTED_MEDIA_TYPE", "Content-Encoding is not supported"), nil
	}
	body, ok := inflate(x.body, limit+1)
	switch {
	case !ok:
		return fail(http.StatusBadRequest, "UNKNOWN_EXCEPTION", "The request body is not in GZIP format"), nil
	case int64(len(body)) > limit:
		return tooLarge(), nil
	}
	x.body = body
	return nil, nil
}

// tooLong refuses a URI or headers beyond the limit.
func (x *exchange) tooLong(req *http.Request) *Reply {
	uri := len(req.URL.RequestURI())
	total := uri
	for k, vs := range req.Header {
		for _, v := range vs {
			total += len(k) + len(v) + 4
		}
	}
	switch {
	case uri > maxHeaderBytes:
		return newReply(414, "text/html;charset=iso-8859-1", []byte("<h1>Bad Message 414</h1><pre>reason: URI Too Long</pre>"))
	case total > maxHeaderBytes:
		return newReply(431, "text/html;charset=iso-8859-1", []byte("<h1>Bad Message 431</h1><pre>reason: Request Header Fields Too Large</pre>"))
	}
	return nil
}

// run applies faults around the call itself.
func (x *exchange) run(req *http.Request, hits []Fault) (*Reply, error) {
	for _, f := range hits {
		x.entry.Faults = append(x.entry.Faults, f.Name)
		if err := wait(x.ctx, f.Latency); err != nil {
			x.drop()
			return nil, err
		}
		if f.DropBefore {
			return x.finish(nil, ErrConnectionDropped)
		}
	}
	var reply *Reply
	for _, f := range hits {
		if f.Respond == nil {
			continue
		}
		if resp := f.Respond(req); resp != nil { //nolint:bodyclose // replyOf closes it
			r, err := replyOf(resp)
			if err != nil {
				return x.finish(nil, err)
			}
			reply = r
			break
		}
	}
	if reply == nil {
		leave, refusal := x.enter()
		if refusal != nil {
			reply = refusal
		} else {
			for _, f := range hits {
				// Held calls count as running, which is what a
				// concurrency limit sees.
				if err := wait(x.ctx, f.Hold); err != nil {
					leave()
					x.drop()
					return nil, err
				}
			}
			reply = x.route()
			leave()
		}
	}
	for _, f := range hits {
		if f.Mangle != nil {
			f.Mangle(reply)
		}
		if f.DropAfter {
			return x.finish(reply, ErrConnectionDropped)
		}
	}
	return x.finish(reply, nil)
}

// drop records a call whose client went away before it was served.
func (x *exchange) drop() {
	x.entry.Dropped = true
	x.record()
}

func wait(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// finish completes the answer's headers and the audit.
func (x *exchange) finish(reply *Reply, err error) (*Reply, error) {
	x.entry.Dropped = err != nil
	if reply != nil {
		x.entry.Status = reply.Status
		x.entry.Codes = reply.codes
	}
	x.record()
	if err != nil {
		return nil, err
	}
	if x.org != nil && x.session != nil && strings.HasPrefix(x.path, "/services/data/") && reply.Header.Get("Server") == "" {
		reply.Header.Set("Sforce-Limit-Info", x.org.limitInfo(x.session.app))
	}
	if reply.Header.Get("Cache-Control") == "" {
		reply.Header.Set("Cache-Control", "no-cache,must-revalidate,max-age=0,no-store,private")
	}
	reply.compress(x.header.Get("Accept-Encoding"))
	return reply, nil
}

func (x *exchange) record() {
	x.entry.Duration = time.Since(x.entry.Time)
	if x.org != nil {
		x.entry.Org = x.org.ID()
	}
	if x.user != nil {
		x.entry.User = x.user.Username
	}
	if x.session != nil {
		x.entry.ClientID = x.session.app.ClientID
		x.entry.Generation = x.session.generation
	}
	if x.entry.Operation == "" {
		x.entry.Operation = OpOther
	}
	x.entry.Seq = x.sim.audit.add(x.entry)
	if x.org != nil {
		x.org.audit.add(x.entry)
	}
}

// orgFaults picks the faults of the org that the call is for.
func (x *exchange) orgFaults(req *http.Request) []Fault {
	if x.org == nil {
		return nil
	}
	return x.org.faults.match(req, x)
}

// replyOf reads a response that a Fault.Respond made.
func replyOf(resp *http.Response) (*Reply, error) {
	r := &Reply{Status: resp.StatusCode, Header: resp.Header.Clone()}
	if r.Header == nil {
		r.Header = http.Header{}
	}
	if resp.Body == nil {
		return r, nil
	}
	defer resp.Body.Close()
	var err error
	r.Body, err = io.ReadAll(resp.Body)
	return r, err
}

// inflate returns the first most bytes of a gzip body.
func inflate(body []byte, most int64) ([]byte, bool) {
	zr, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		return nil, false
	}
	out, err := io.ReadAll(io.LimitReader(zr, most))
	return out, err == nil
}
