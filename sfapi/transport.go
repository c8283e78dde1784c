package sfapi

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	defaultMaxBodyBytes = 64 << 20
	maxErrorBodyBytes   = 64 << 10
	defaultTimeout      = 2 * time.Minute
)

var (
	// ErrBodyTooLarge is wrapped by the error of a response that is longer than
	// ClientConfig.MaxBodyBytes.
	ErrBodyTooLarge = errors.New("response body too large")

	// ErrIncompleteResult is wrapped by the error of a result that is cut,
	// malformed, or has more or fewer rows than it announced.
	ErrIncompleteResult = errors.New("incomplete result")

	// ErrTimeout is wrapped by the error of a request that got no complete
	// answer within ClientConfig.Timeout.
	ErrTimeout = errors.New("no answer in time")
)

// sharedTransport returns the transport of Apps that have none of their own.
// Go's default keeps two idle connections a host, so that a window of parallel
// calls to one org would open and close connections all the time.
var sharedTransport = sync.OnceValue(func() http.RoundTripper {
	dialer := &net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           dialer.DialContext,
		ForceAttemptHTTP2:     true,
		MaxIdleConns:          1024,
		MaxIdleConnsPerHost:   16,
		IdleConnTimeout:       90 * time.Second,
		TLSHandshakeTimeout:   10 * time.Second,
		ExpectContinueTimeout: time.Second,
		DisableCompression:    true, // receive decompresses, whatever the transport.
		ReadBufferSize:        32 << 10,
	}
})

// reply is a response that was read to its end.
type reply struct {
	status int
	header http.Header
	body   []byte
}

func (r *reply) ok() bool { return r.status >= 200 && r.status < 300 }

// response returns what Classify reads.
func (r *reply) response(endpoint Endpoint, method string, readOnly bool) *Response {
	return &Response{Endpoint: endpoint, Method: method, Status: r.status, Header: r.header, Body: r.body, ReadOnly: readOnly}
}

// send sends req and reads the answer into buf or, where that is too small, new
// memory: at most limit bytes of a success, and the beginning of anything else.
// It follows no redirect. Its timeout holds only where ctx has no deadline.
func send(ctx context.Context, rt http.RoundTripper, req *http.Request, buf []byte, limit int64, timeout time.Duration) (*reply, error) {
	attempt := ctx
	if _, ok := ctx.Deadline(); !ok && timeout > 0 {
		var cancel context.CancelFunc
		attempt, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	rep, err := receive(rt, req.WithContext(attempt), buf, limit)
	switch {
	case err == nil:
		return rep, nil
	case ctx.Err() != nil && !errors.Is(err, ctx.Err()):
		return nil, fmt.Errorf("%w: %w", ctx.Err(), err)
	case ctx.Err() == nil && attempt.Err() != nil:
		return nil, fmt.Errorf("%w (%s)", ErrTimeout, timeout)
	}
	return nil, err
}

func receive(rt http.RoundTripper, req *http.Request, buf []byte, limit int64) (*reply, error) {
	// Asked for by hand, so that the bound below counts decompressed bytes
	// with every transport.
	req.Header.Set("Accept-Encoding", "gzip")
	res, err := rt.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	rep := &reply{status: res.StatusCode, header: res.Header}
	if !rep.ok() {
		// What could be read of an error is enough to classify it.
		rep.body, _ = readBody(res, nil, maxErrorBodyBytes)
		rep.header = withoutEncoding(res.Header)
		return rep, nil
	}
	rep.body, err = readBody(res, buf, limit)
	if errors.Is(err, ErrBodyTooLarge) {
		return nil, fmt.Errorf("%w: over %d bytes", err, limit)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: read body: %w", ErrIncompleteResult, err)
	}
	return rep, nil
}

// withoutEncoding returns h as it fits a decompressed body.
func withoutEncoding(h http.Header) http.Header {
	if h.Get("Content-Encoding") == "" {
		return h
	}
	h = h.Clone()
	h.Del("Content-Encoding")
	h.Del("Content-Length")
	return h
}

var gzipReaders sync.Pool

// readBody returns the decompressed body, in buf's memory where it fits. Past
// limit it returns the beginning and ErrBodyTooLarge.
func readBody(res *http.Response, buf []byte, limit int64) ([]byte, error) {
	var src io.Reader = res.Body
	size := res.ContentLength
	if strings.EqualFold(res.Header.Get("Content-Encoding"), "gzip") && size != 0 {
		zr, _ := gzipReaders.Get().(*gzip.Reader)
		if zr == nil {
			zr = new(gzip.Reader)
		}
		defer gzipReaders.Put(zr)
		if err := zr.Reset(src); err != nil {
			if errors.Is(err, io.EOF) { // no byte at all: an empty body
				return buf[:0], nil
			}
			return nil, err
		}
		src, size = zr, 0
	}
	buf = buf[:0]
	if size > 0 && size <= limit {
		// One byte more lets the read that finds the end need no growth.
		buf = slices.Grow(buf, int(size)+1)
	}
	for {
		if len(buf) == cap(buf) {
			buf = slices.Grow(buf, max(8<<10, len(buf)))
		}
		n, err := src.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if int64(len(buf)) > limit {
			return buf[:limit], ErrBodyTooLarge
		}
		if err == io.EOF {
			return buf, nil
		}
		if err != nil {
			return buf, err
		}
	}
}

// isHTML reports whether an answer is a page for people rather than data.
func isHTML(r *reply) bool {
	body := bytes.TrimLeft(r.body, " \t\r\n\ufeff")
	if len(body) == 0 {
		return false
	}
	start := bytes.ToLower(body[:min(len(body), 16)])
	return bytes.HasPrefix(start, []byte("<!doctype html")) || bytes.HasPrefix(start, []byte("<html")) ||
		strings.Contains(strings.ToLower(r.header.Get("Content-Type")), "text/html")
}

var gzipWriters = sync.Pool{New: func() any {
	w, _ := gzip.NewWriterLevel(nil, gzip.BestSpeed)
	return w
}}

// compress returns body compressed.
func compress(body []byte) []byte {
	var out bytes.Buffer
	out.Grow(len(body) / 4)
	w := gzipWriters.Get().(*gzip.Writer)
	defer gzipWriters.Put(w)
	w.Reset(&out)
	_, _ = w.Write(body) // a bytes.Buffer takes everything
	_ = w.Close()
	return out.Bytes()
}
