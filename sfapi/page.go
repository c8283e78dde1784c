package sfapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"
	"unicode/utf8"
)

// Page is one page of a query's result. It belongs to the caller.
type Page[T any] struct {
	// Records are the page's rows, in the query's order.
	Records []T

	// TotalSize counts the rows of all pages.
	TotalSize int

	// Done says that this is the last page.
	Done bool

	// Next is the path of the next page; empty on the last.
	Next string

	// ServerTime is when the server sent the page, by its own clock and to the
	// second; zero if it did not say. Compare SystemModstamp with it, not with
	// the local clock.
	ServerTime time.Time

	// Number counts the pages from 1.
	Number int
}

// pageScan is what one pass over a page's body finds.
type pageScan struct {
	totalSize int
	done      bool
	next      string
	rows      int

	recordsAt, recordsEnd int

	seen pageMembers
}

type pageMembers uint8

const (
	sawTotalSize pageMembers = 1 << iota
	sawDone
	sawNext
	sawRecords
)

// scanPage reads the envelope of a page. row reads the row that begins at an
// index and returns the index after it or -1.
func scanPage(body []byte, row func(i int) int) (*pageScan, error) {
	if !utf8.Valid(body) {
		return nil, fmt.Errorf("%w: page: %w", ErrIncompleteResult, errNotUTF8)
	}
	s := &pageScan{}
	var bad error
	start := skipSpace(body, 0)
	end := skipMembers(body, start, 1, func(name, nameEnd, value int) int {
		end, err := s.member(body, string(body[name+1:nameEnd-1]), value, row)
		if err != nil {
			bad = err
			return -1
		}
		return end
	})
	switch {
	case bad != nil:
		return nil, fmt.Errorf("%w: page: %w", ErrIncompleteResult, bad)
	case end < 0 || skipSpace(body, end) != len(body):
		return nil, fmt.Errorf("%w: page: %w", ErrIncompleteResult, errSyntax)
	case s.seen&(sawTotalSize|sawDone|sawRecords) != sawTotalSize|sawDone|sawRecords:
		return nil, fmt.Errorf("%w: page lacks totalSize, done or records", ErrIncompleteResult)
	case !s.done && s.next == "":
		return nil, fmt.Errorf("%w: page is not the last and names no next one", ErrIncompleteResult)
	}
	return s, nil
}

// member reads one member of the envelope.
func (s *pageScan) member(body []byte, name string, value int, row func(int) int) (int, error) {
	var flag pageMembers
	switch name {
	case "totalSize":
		flag = sawTotalSize
	case "done":
		flag = sawDone
	case "nextRecordsUrl":
		flag = sawNext
	case "records":
		flag = sawRecords
	default:
		return skipValue(body, value, 1), nil
	}
	if s.seen&flag != 0 {
		return -1, fmt.Errorf("%s is there twice", name)
	}
	s.seen |= flag
	if flag == sawRecords {
		end := skipElements(body, value, 2, func(i int) int {
			s.rows++
			return row(i)
		})
		s.recordsAt, s.recordsEnd = value, end
		return end, nil
	}
	end := skipValue(body, value, 1)
	if end < 0 {
		return -1, nil
	}
	v := Value(body[value:end])
	var err error
	switch flag {
	case sawTotalSize:
		s.totalSize, err = strconv.Atoi(string(v))
		if err == nil && s.totalSize < 0 {
			err = fmt.Errorf("totalSize is %d", s.totalSize)
		}
	case sawDone:
		s.done = string(v) == "true"
		if !s.done && string(v) != "false" {
			err = fmt.Errorf("done is %.20q", string(v))
		}
	case sawNext:
		text, isText := v.Text()
		if !isText && !v.IsNull() {
			err = fmt.Errorf("nextRecordsUrl is %.40q", string(v))
		}
		s.next = text
	}
	return end, err
}

// newPage returns the page in a reply. rowsHint is how many rows to expect. The
// reply's body may be used for something else afterwards.
func newPage[T any](rep *reply, rowsHint int) (*Page[T], error) {
	page := &Page[T]{}
	if date := rep.header.Get("Date"); date != "" {
		if t, err := http.ParseTime(date); err == nil {
			page.ServerTime = t.UTC()
		}
	}
	var scan *pageScan
	var err error
	if rows, ok := any(page).(*Page[Record]); ok {
		rows.Records, scan, err = scanRecords(bytes.Clone(rep.body), rowsHint)
	} else {
		page.Records, scan, err = decodeRows[T](rep.body)
	}
	if err != nil {
		return nil, err
	}
	page.TotalSize, page.Done, page.Next = scan.totalSize, scan.done, scan.next
	return page, nil
}

// decodeRows reads the rows of a page with encoding/json.
func decodeRows[T any](body []byte) ([]T, *pageScan, error) {
	scan, err := scanPage(body, func(i int) int { return skipValue(body, i, 2) })
	if err != nil {
		return nil, nil, err
	}
	rows := make([]T, 0, scan.rows)
	if err := json.Unmarshal(body[scan.recordsAt:scan.recordsEnd], &rows); err != nil {
		return nil, nil, fmt.Errorf("decode rows: %w", err)
	}
	return rows, scan, nil
}

// fieldBlock is how many fields of Records are allocated together.
const fieldBlock = 4096

// scanRecords reads the rows of a page without decoding them. They keep body.
func scanRecords(body []byte, rowsHint int) ([]Record, *pageScan, error) {
	records := make([]Record, 0, rowsHint)
	var block, row []recordField
	scan, err := scanPage(body, func(i int) int {
		row = row[:0]
		end := scanFields(body, i, 3, &row)
		if end < 0 {
			return -1
		}
		if len(row) > cap(block)-len(block) {
			block = make([]recordField, 0, max(fieldBlock, len(row)))
		}
		at := len(block)
		block = append(block, row...)
		records = append(records, Record{raw: body[i:end:end], fields: block[at:len(block):len(block)]})
		return end
	})
	if err != nil {
		return nil, nil, err
	}
	return records, scan, nil
}
