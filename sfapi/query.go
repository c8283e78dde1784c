package sfapi

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
)

const (
	minBatchSize = 200
	maxBatchSize = 2000

	// maxURIBytes leaves room for the host and headers: Salesforce takes 16,384
	// bytes of both together.
	//
	// https://developer.salesforce.com/docs/atlas.en-us.salesforce_app_limits_cheatsheet.meta/salesforce_app_limits_cheatsheet/salesforce_app_limits_platform_api.htm
	maxURIBytes = 16384 - 2048
)

// ErrQueryTooLong is wrapped by the error of a query that does not fit into a
// request line. Salesforce would answer 414 or 431, or with a page about
// maintenance.
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

		path, err := c.queryPath(soql, o)
		if err != nil {
			yield(nil, fmt.Errorf("query: %w", err))
			return
		}
		page, err := s.fetch(ctx, "query", path)
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
			fetchNext := func() { nextPage, nextErr = s.fetch(ctx, "query more", next) }
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
	path, err := c.queryPath(soql, QueryOptions{})
	if err != nil {
		return 0, fmt.Errorf("query count: %w", err)
	}
	var count int
	err = c.call(ctx, &request{
		op: "query count", method: http.MethodGet, path: path, readOnly: true,
		decode: func(rep *reply) error {
			scan, err := scanPage(rep.body, func(i int) int { return skipValue(rep.body, i, 2) })
			if err != nil {
				return err
			}
			if !scan.done || scan.rows > 0 {
				return fmt.Errorf("%d rows instead of a count: the query is not SELECT COUNT()", scan.rows)
			}
			count = scan.totalSize
			return nil
		},
	})
	return count, err
}

// queryPath returns the path that runs soql.
func (c *Client) queryPath(soql string, o QueryOptions) (string, error) {
	if strings.TrimSpace(soql) == "" {
		return "", errors.New("query is empty")
	}
	if o.BatchSize != 0 && (o.BatchSize < minBatchSize || o.BatchSize > maxBatchSize) {
		return "", fmt.Errorf("batch size %d is not within %d and %d", o.BatchSize, minBatchSize, maxBatchSize)
	}
	resource := "/query?q="
	if o.All {
		resource = "/queryAll?q="
	}
	path := c.data + resource + url.QueryEscape(soql)
	if len(path) > maxURIBytes {
		return "", fmt.Errorf("%w: %d bytes, at most %d fit; select fewer fields", ErrQueryTooLong, len(path), maxURIBytes)
	}
	return path, nil
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

// fetch returns the next page, which is at path.
func (s *pageStream[T]) fetch(ctx context.Context, op, path string) (*Page[T], error) {
	buf := pageBuffers.Get().(*[]byte)
	defer func() {
		if cap(*buf) <= maxPooledBytes {
			pageBuffers.Put(buf)
		}
	}()
	var page *Page[T]
	req := &request{
		op: op, method: http.MethodGet, path: path, readOnly: true, buf: *buf,
		decode: func(rep *reply) (err error) {
			*buf = rep.body[:0]
			page, err = newPage[T](rep, s.hint())
			if err != nil {
				return err
			}
			return s.check(page, path)
		},
	}
	if s.options.BatchSize > 0 {
		req.header = http.Header{"Sforce-Query-Options": {"batchSize=" + strconv.Itoa(s.options.BatchSize)}}
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
