package sfapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"
)

const (
	minBatchSize = 200
	maxBatchSize = 2000

	// maxURIBytes leaves room for the host and headers: Salesforce takes 16,384
	// bytes of both together.
	//
	// https://developer.salesforce.com/docs/atlas.en-us.salesforce_app_limits_cheatsheet.meta/salesforce_app_limits_cheatsheet/salesforce_app_limits_platform_api.htm
	maxURIBytes = 16384 - 2048

	// maxSOQL is the longest statement that Salesforce takes, in characters.
	//
	// https://developer.salesforce.com/docs/atlas.en-us.salesforce_app_limits_cheatsheet.meta/salesforce_app_limits_cheatsheet/salesforce_app_limits_platform_soslsoql.htm
	maxSOQL = 100_000
)

// ErrQueryTooLong is wrapped by the error of a query that is longer than
// Salesforce takes.
var ErrQueryTooLong = errors.New("query too long")

// QueryOptions is how a query runs. The zero value is ready to use.
type QueryOptions struct {
	// All includes deleted and archived rows (queryAll).
	All bool

	// BatchSize asks for pages of so many rows, from 200 to 2,000. Salesforce
	// may send others. Defaults to its own choice, 2,000.
	BatchSize int

	// NoPrefetch fetches a page only when it is asked for. Otherwise the next
	// page is fetched and decoded while the current one is used.
	NoPrefetch bool
}

// QueryPages runs soql and returns its pages. Each range over it runs the query
// anew.
//
// Rows are decoded as json.Unmarshal does into T, or, where T is Record, left
// as they are, which costs far less. At most two pages are in memory, unless
// the caller keeps them. Leaving the loop early stops the fetching, and waits
// for it.
//
// The last pair has a nil page and an error where the result is not complete:
// one that wraps ErrIncompleteResult where rows are missing, too many or cut,
// and an *Error of KindInvalidQueryLocator where the server has lost its place.
// A result that ends without an error had exactly the rows it announced.
// SELECT COUNT() announces rows and has none: use QueryCount.
//
// https://developer.salesforce.com/docs/atlas.en-us.api_rest.meta/api_rest/resources_query.htm
func QueryPages[T any](ctx context.Context, c *Client, soql string, opts *QueryOptions) iter.Seq2[*Page[T], error] {
	if opts == nil {
		opts = &QueryOptions{}
	}
	o := *opts
	return func(yield func(*Page[T], error) bool) {
		s := &pageStream[T]{client: c, options: o}
		ctx, cancel := context.WithCancel(ctx)
		var fetching sync.WaitGroup
		// In this order, also when yield panics: nothing outlives the loop.
		defer fetching.Wait()
		defer cancel()

		first, err := c.queryRequest("query", soql, o)
		if err != nil {
			yield(nil, fmt.Errorf("query: %w", err))
			return
		}
		page, err := s.fetch(ctx, first)
		for {
			if err != nil {
				yield(nil, err)
				return
			}
			if page.Done {
				yield(page, nil)
				return
			}
			next := page.Next
			var nextPage *Page[T]
			var nextErr error
			fetchNext := func() { nextPage, nextErr = s.fetch(ctx, s.more(next)) }
			if !o.NoPrefetch {
				fetching.Go(fetchNext)
			}
			if !yield(page, nil) {
				return
			}
			if o.NoPrefetch {
				fetchNext()
			} else {
				fetching.Wait()
			}
			page, err = nextPage, nextErr
		}
	}
}

// Query runs soql and returns its rows, as QueryPages does.
func Query[T any](ctx context.Context, c *Client, soql string, opts *QueryOptions) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for page, err := range QueryPages[T](ctx, c, soql, opts) {
			if err != nil {
				var zero T
				yield(zero, err)
				return
			}
			for _, row := range page.Records {
				if !yield(row, nil) {
					return
				}
			}
		}
	}
}

// QueryCount returns the number of rows of a query of the form
// SELECT COUNT() FROM ….
func (c *Client) QueryCount(ctx context.Context, soql string) (int, error) {
	req, err := c.queryRequest("query count", soql, QueryOptions{})
	if err != nil {
		return 0, fmt.Errorf("query count: %w", err)
	}
	var count int
	req.decode = func(rep *reply) error {
		rep, err := c.queryReply(req, rep)
		if err != nil {
			return err
		}
		scan, err := scanPage(rep.body, func(i int) int { return skipValue(rep.body, i, 2) })
		if err != nil {
			return err
		}
		if !scan.done || scan.rows > 0 {
			return fmt.Errorf("%d rows instead of a count: the query is not SELECT COUNT()", scan.rows)
		}
		count = scan.totalSize
		return nil
	}
	err = c.call(ctx, req)
	return count, err
}

// queryRequest returns the request that runs soql. A statement that fits into
// no request line, one that names hundreds of fields for instance, goes as the
// only part of a composite request, which still is one call.
//
// https://developer.salesforce.com/docs/atlas.en-us.api_rest.meta/api_rest/requests_composite.htm
func (c *Client) queryRequest(op, soql string, o QueryOptions) (*request, error) {
	if strings.TrimSpace(soql) == "" {
		return nil, errors.New("query is empty")
	}
	if o.BatchSize != 0 && (o.BatchSize < minBatchSize || o.BatchSize > maxBatchSize) {
		return nil, fmt.Errorf("batch size %d is not within %d and %d", o.BatchSize, minBatchSize, maxBatchSize)
	}
	if n := utf8.RuneCountInString(soql); n > maxSOQL {
		return nil, fmt.Errorf("%w: %d characters, at most %d are taken; select fewer fields", ErrQueryTooLong, n, maxSOQL)
	}
	resource := "/query?q="
	if o.All {
		resource = "/queryAll?q="
	}
	path := c.data + resource + url.QueryEscape(soql)
	if len(path) <= maxURIBytes {
		return &request{op: op, method: http.MethodGet, path: path, readOnly: true, header: o.header()}, nil
	}
	part := compositePart{Method: http.MethodGet, URL: path, ReferenceID: "query"}
	for name, values := range o.header() {
		part.Headers = map[string]string{name: values[0]}
	}
	body, err := json.Marshal(map[string][]compositePart{"compositeRequest": {part}})
	if err != nil {
		return nil, err
	}
	return &request{
		op: op, method: http.MethodPost, path: c.data + "/composite", endpoint: EndpointComposite, readOnly: true, body: body,
	}, nil
}

// compositePart is one part of a composite request.
type compositePart struct {
	Method      string            `json:"method"`
	URL         string            `json:"url"`
	ReferenceID string            `json:"referenceId"`
	Headers     map[string]string `json:"httpHeaders,omitempty"`
}

// queryReply returns the answer to the query itself, which a composite request
// has wrapped.
func (c *Client) queryReply(req *request, rep *reply) (*reply, error) {
	if req.endpoint != EndpointComposite {
		return rep, nil
	}
	var answer struct {
		Parts []struct {
			Body   json.RawMessage `json:"body"`
			Status int             `json:"httpStatusCode"`
		} `json:"compositeResponse"`
	}
	if err := json.Unmarshal(rep.body, &answer); err != nil {
		return nil, fmt.Errorf("%w: composite response: %w", ErrIncompleteResult, err)
	}
	if len(answer.Parts) != 1 {
		return nil, fmt.Errorf("%w: composite response has %d parts, want 1", ErrIncompleteResult, len(answer.Parts))
	}
	inner := &reply{status: answer.Parts[0].Status, header: rep.header, body: answer.Parts[0].Body}
	if inner.ok() {
		return inner, nil
	}
	if e := NewError(req.op, string(c.org), inner.response(EndpointREST, http.MethodGet, true)); e != nil && e.Kind != KindNone {
		return nil, e
	}
	return nil, fmt.Errorf("%w: part of a composite response with status %d", ErrIncompleteResult, inner.status)
}

// header returns the header that asks for o's pages, or nil.
func (o *QueryOptions) header() http.Header {
	if o.BatchSize == 0 {
		return nil
	}
	return http.Header{"Sforce-Query-Options": {"batchSize=" + strconv.Itoa(o.BatchSize)}}
}

// pageBuffers holds memory for bodies. Pages are large and alike.
var pageBuffers = sync.Pool{New: func() any { return new([]byte) }}

// maxPooledBytes is the largest buffer worth keeping for the next page.
const maxPooledBytes = 8 << 20

// pageStream fetches the pages of one query, one after the other.
type pageStream[T any] struct {
	client  *Client
	options QueryOptions
	number  int
	total   int // announced by the first page
	rows    int // so far
	last    int // rows of the page before
}

// more returns the request for the page at path.
func (s *pageStream[T]) more(path string) *request {
	return &request{op: "query more", method: http.MethodGet, path: path, readOnly: true, header: s.options.header()}
}

// fetch returns the next page, which answers req.
func (s *pageStream[T]) fetch(ctx context.Context, req *request) (*Page[T], error) {
	buf := pageBuffers.Get().(*[]byte)
	defer func() {
		if cap(*buf) <= maxPooledBytes {
			pageBuffers.Put(buf)
		}
	}()
	var page *Page[T]
	req.buf = *buf
	req.decode = func(rep *reply) (err error) {
		*buf = rep.body[:0]
		if rep, err = s.client.queryReply(req, rep); err != nil {
			return err
		}
		page, err = newPage[T](rep, s.hint())
		if err != nil {
			return err
		}
		return s.check(page, req.path)
	}
	if err := s.client.call(ctx, req); err != nil {
		return nil, err
	}
	s.number++
	page.Number = s.number
	s.total, s.last = page.TotalSize, len(page.Records)
	s.rows += s.last
	return page, nil
}

// hint returns how many rows the next page may have.
func (s *pageStream[T]) hint() int {
	if s.number == 0 {
		return 0
	}
	return min(s.last, s.total-s.rows)
}

// check compares a page with what the query announced.
func (s *pageStream[T]) check(page *Page[T], path string) error {
	rows := s.rows + len(page.Records)
	switch {
	case s.number > 0 && page.TotalSize != s.total:
		return fmt.Errorf("%w: total of %d rows became %d", ErrIncompleteResult, s.total, page.TotalSize)
	case rows > page.TotalSize:
		return fmt.Errorf("%w: more than the announced %d rows", ErrIncompleteResult, page.TotalSize)
	case page.Done && rows != page.TotalSize:
		return fmt.Errorf("%w: %d of %d rows", ErrIncompleteResult, rows, page.TotalSize)
	case page.Done:
		page.Next = ""
		return nil
	case len(page.Records) == 0:
		return fmt.Errorf("%w: page without rows that is not the last, %d of %d rows", ErrIncompleteResult, rows, page.TotalSize)
	}
	next, err := nextPath(page.Next)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrIncompleteResult, err)
	}
	if next == path {
		return fmt.Errorf("%w: page names itself as the next", ErrIncompleteResult)
	}
	page.Next = next
	return nil
}

// nextPath returns a nextRecordsUrl as a path of the current instance. It is
// relative; one that names a host is not followed, since the token would go
// there too.
func nextPath(raw string) (string, error) {
	u, err := url.Parse(raw)
	if err != nil || u.Scheme != "" || u.Host != "" || u.User != nil || !strings.HasPrefix(raw, "/services/data/") {
		return "", fmt.Errorf("nextRecordsUrl %.100q is not a path of the REST API", raw)
	}
	return u.RequestURI(), nil
}
