package sftest

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// maxCursors is the number of cursors that one user may have open; one more
// closes the oldest.
const maxCursors = 10

// cursorLifetime is how long an unused cursor lives.
const cursorLifetime = 48 * time.Hour

// cursor is the server's side of a nextRecordsUrl. It belongs to the session
// that opened it and dies with it.
type cursor struct {
	id      string
	result  *queryResult
	session *session
	size    int
	opened  time.Time
}

// openCursor gives a result a locator.
func (o *Org) openCursor(c *cursor) {
	o.locatorSeq++
	c.id = string(makeID("01g", "5e", o.locatorSeq))
	u := c.session.user
	for len(u.cursors) >= maxCursors {
		o.closeCursor(u.cursors[0].id, u.cursors[0])
	}
	u.cursors = append(u.cursors, c)
	o.locators[c.id] = c
}

func (o *Org) closeCursor(id string, c *cursor) {
	delete(o.locators, id)
	u := c.session.user
	u.cursors = slices.DeleteFunc(u.cursors, func(d *cursor) bool { return c == d })
}

// CloseCursors ends every open cursor; their nextRecordsUrl then answers
// INVALID_QUERY_LOCATOR.
func (o *Org) CloseCursors() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for id, c := range o.locators {
		o.closeCursor(id, c)
	}
}

// OpenCursors counts the cursors that are open.
func (o *Org) OpenCursors() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.locators)
}

// queryMore answers a nextRecordsUrl.
func (x *exchange) queryMore(locator string) *Reply {
	x.entry.Operation = OpQueryMore
	if x.method != http.MethodGet && x.method != http.MethodHead {
		return methodNotAllowed(x.method, "HEAD", "GET")
	}
	invalid := func() *Reply { return fail(400, "INVALID_QUERY_LOCATOR", "invalid query locator") }
	id, at, ok := strings.Cut(locator, "-")
	from, err := strconv.Atoi(at)
	if !ok || err != nil || from < 0 {
		return invalid()
	}
	size, bad := x.batchSize()
	if bad != nil {
		return bad
	}
	o := x.org
	o.mu.Lock()
	full, _ := parseID(id)
	c := o.locators[string(full)]
	switch {
	case c == nil, c.session != x.session, from >= len(c.result.rows):
		o.mu.Unlock()
		return invalid()
	case time.Since(c.opened) >= cursorLifetime:
		o.closeCursor(c.id, c)
		o.mu.Unlock()
		return invalid()
	}
	c.opened = time.Now()
	if x.header.Get("Sforce-Query-Options") != "" {
		c.size = size
	}
	x.entry.RowsRead = min(c.size, len(c.result.rows)-from)
	return o.page(x, c, from)
}

// page renders one page of a cursor. The org's lock must be held; page
// releases it, as early as it can.
func (o *Org) page(x *exchange, c *cursor, from int) *Reply {
	res, id := c.result, c.id
	to := min(from+c.size, len(res.rows))
	if to == len(res.rows) && id != "" {
		// A cursor that was read to its end can be read again, for a client that
		// lost the answer, but is the first to go when another one is opened.
		u := c.session.user
		u.cursors = slices.DeleteFunc(u.cursors, func(d *cursor) bool { return c == d })
		u.cursors = slices.Insert(u.cursors, 0, c)
	}
	if res.plan.joins {
		defer o.mu.Unlock()
	} else {
		o.mu.Unlock()
	}
	b := make([]byte, 0, 256+(to-from)*rowSize(res.plan))
	b = fmt.Appendf(b, `{"totalSize":%d,"done":%t`, res.total, to == len(res.rows))
	if to < len(res.rows) {
		b = fmt.Appendf(b, `,"nextRecordsUrl":"/services/data/%s/query/%s-%d"`, x.version, id, to)
	}
	b = append(b, `,"records":[`...)
	prefix := rowPrefix(x.version, res.plan.object)
	for i, r := range res.rows[from:to] {
		if i > 0 {
			b = append(b, ',')
		}
		b = res.plan.appendRow(b, prefix, r)
	}
	return newReply(200, jsonType, append(b, "]}"...))
}

// rowSize guesses how many bytes a rendered row takes.
func rowSize(p *plan) int { return 160 + 40*len(p.nodes) }
