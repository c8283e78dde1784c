package sfapi

import (
	"bytes"
	"net/http"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Classify says what r means. It is pure: the same response always gives the
// same answer, nothing is kept, and no clock is read. It never panics, takes
// time in proportion to the body and allocates little more than the code and
// the message it returns.
//
// The answer is never nil. Its Kind is [KindNone] for a response that reports
// no failure, [KindUnknown] for one that nobody can justify a reading of.
//
// Codes decide before messages and messages before the status, whatever the
// envelope: REST array or object, XML, collections, composite, batch, graph,
// Bulk jobs, batches and result files, SOAP faults and results, OAuth answers
// in JSON, XML, urlencoded or in a redirect, identity's one-word answers, pages
// of the edge, plain text, nothing. All errors at all levels are read, and
// those that only report another one's failure are skipped.
func Classify(r *Response) *Classification {
	if r == nil {
		return &Classification{Kind: KindUnknown}
	}
	d := decodedBody(r)
	c := reading{r: r, body: d.text, truncated: d.truncated, capped: d.capped}
	c.ok = r.Status >= 200 && r.Status < 300 || r.Status == 304
	switch {
	case !d.ok:
		c.unreadable()
	case c.redirect():
	case len(c.body) == 0:
		c.empty()
	default:
		c.text()
	}
	switch {
	case c.kind == KindSessionExpired && c.r.Endpoint == EndpointToken:
		// There is no session to expire at a token endpoint.
		c.set(meaningOf(KindClientMisconfigured))
	case c.kind == KindRevoked && bearsToken(c.r.Endpoint):
		// And nobody but a token endpoint can say that a grant is gone.
		c.set(meaningOf(KindSessionExpired))
	}
	out := &Classification{Kind: c.kind, Scope: c.scope, Transient: c.transient, RetryAfter: retryAfter(r.Header)}
	if c.kind != KindNone {
		out.Code, out.Message = c.code(), cleanText(c.message)
	}
	return out
}

// reading is one response being classified.
type reading struct {
	r         *Response
	body      []byte
	ok        bool // the status says success
	truncated bool // the body is known to be cut off
	capped    bool // we read no more of it
	verdict
}

func (c *reading) set(m meaning) { c.meaning = m }

// bearsToken is whether calls of endpoint authenticate by an access token.
func bearsToken(endpoint Endpoint) bool {
	return endpoint != EndpointToken && endpoint != EndpointIntrospect
}

// code returns the code as received, without a namespace prefix, and without a
// copy where it is spelt as in our table. A code that was cut off, or that
// stood in a message only, comes in its usual spelling.
func (c *reading) code() string {
	received := c.verdict.code
	if i := bytes.LastIndexByte(received, ':'); i >= 0 {
		received = received[i+1:]
	}
	switch {
	case string(received) == c.name, c.name != "" && lookupCode(received) == nil:
		return c.name
	case len(received) > maxCodeBytes:
		return ""
	}
	return cleanText(received)
}

// unreadable is a body that cannot be decoded at all: nobody knows what it
// said, whatever the status.
func (c *reading) unreadable() {
	c.set(meaningOf(KindServerUnavailable))
	if !c.ok {
		c.set(statusMeaning(c.r.Endpoint, c.r.Status, false))
	}
}

// cutShort is whether the header promised more than arrived.
func (c *reading) cutShort() bool {
	if c.truncated {
		return true
	}
	v := headerValue(c.r.Header, "Content-Length")
	if v == "" || c.r.Method == http.MethodHead || headerValue(c.r.Header, "Content-Encoding") != "" {
		return false
	}
	n, err := strconv.Atoi(v)
	return err == nil && n > len(c.r.Body)
}

// redirect reads a 3xx with a Location: a leg of the authorization flow, or an
// API call sent to a host that does not serve the org.
func (c *reading) redirect() bool {
	if c.r.Status < 300 || c.r.Status >= 400 || c.r.Status == 304 {
		return false
	}
	location := headerValue(c.r.Header, "Location")
	if location == "" {
		return false
	}
	if code, description := formErrorOf(location); code != "" || description != "" {
		c.add(EndpointToken, &finding{code: []byte(code), message: []byte(description), status: c.r.Status})
		if c.tier == tierNone {
			c.set(meaningOf(KindUnknown))
		}
		return true
	}
	switch {
	case c.r.Endpoint == EndpointToken && hasParameter(location, "code"), c.r.Endpoint == EndpointToken && hasParameter(location, "access_token"):
		// The flow goes on.
		c.set(meaning{})
	case containsFold(location, "maintenance") || containsFold(location, "status.salesforce.com"):
		c.set(meaningOf(KindServerUnavailable))
	case c.r.Status == 300:
		return false
	default:
		c.set(meaningOf(KindWrongInstance))
	}
	return true
}

// formErrorOf looks for an OAuth error in the query and the fragment of a URL:
// the user-agent flow answers in the latter.
func formErrorOf(location string) (code, description string) {
	_, rest, ok := strings.Cut(location, "?")
	if !ok {
		_, rest, _ = strings.Cut(location, "#")
		return formError(rest)
	}
	query, fragment, _ := strings.Cut(rest, "#")
	if code, description = formError(query); code == "" && description == "" {
		code, description = formError(fragment)
	}
	return code, description
}

func hasParameter(location, name string) bool {
	for _, sep := range [...]string{"?", "&", "#"} {
		if strings.Contains(location, sep+name+"=") {
			return true
		}
	}
	return false
}

// empty reads a response without a body.
func (c *reading) empty() {
	switch {
	case !c.ok:
		c.set(statusMeaning(c.r.Endpoint, c.r.Status, true))
	case c.cutShort(),
		c.r.Endpoint == EndpointToken && c.r.Status == 200 && c.r.Method == http.MethodPost,
		c.r.Endpoint == EndpointIntrospect && c.r.Status == 200:
		// The answer was lost on its way.
		c.set(meaningOf(KindServerUnavailable))
	}
}

// text reads a body.
func (c *reading) text() {
	contentType := headerValue(c.r.Header, "Content-Type")
	switch first := c.body[0]; {
	case first == '{' || first == '[' || first == '"' && !c.isCSV(contentType) || bytes.Equal(c.body, []byte("null")):
		c.json()
	case first == '<':
		if looksLikeHTML(c.body, contentType) {
			c.html()
		} else {
			c.xml()
		}
	case c.isCSV(contentType) && csvErrors(c.body, &c.verdict, c.r.Endpoint):
		c.conclude(false)
	case c.r.Endpoint == EndpointToken && c.form():
	default:
		c.plain()
	}
}

// isCSV is whether the body may be a Bulk result file.
func (c *reading) isCSV(contentType string) bool {
	return c.ok && (c.r.Endpoint == EndpointBulk1 || c.r.Endpoint == EndpointBulk2 || containsFold(contentType, "text/csv"))
}

func (c *reading) json() {
	w := jsonEnvelope{endpoint: c.r.Endpoint, ok: c.ok}
	w.read(c.body, c.r.Status)
	if w.verdict.tier == tierNone && !c.ok {
		// No envelope or no code that we know: look into every member.
		w.deep = true
		w.read(c.body, c.r.Status)
	}
	if c.r.Endpoint == EndpointIntrospect && c.ok && w.inactive && !w.verdict.found {
		// Weak evidence: an app that may not introspect gets it too.
		// https://salesforce.stackexchange.com/questions/305477
		c.set(meaningOf(KindSessionExpired))
		return
	}
	c.verdict = w.verdict
	if w.broken && c.tier != tierCode {
		// Half a body: whatever code or text is left may still tell.
		if m, name, ok := embeddedMeaning(c.r.Endpoint, c.body, false); ok {
			c.verdict.meaning, c.tier, c.found, c.name = m, tierCode, true, name
		} else if m, ok := phraseMeaning(c.body); ok && c.tier != tierMessage && !c.ok {
			c.verdict.meaning, c.tier, c.found = m, tierMessage, true
		}
	}
	c.conclude(w.broken)
}

func (c *reading) xml() {
	w := xmlEnvelope{endpoint: c.r.Endpoint, ok: c.ok, status: c.r.Status}
	w.read(c.body)
	c.verdict = w.verdict
	c.conclude(w.broken)
}

// conclude turns the findings into an answer.
func (c *reading) conclude(broken bool) {
	broken = broken && !c.capped
	switch {
	case !c.found && c.ok:
		if broken || c.cutShort() {
			c.set(meaningOf(KindServerUnavailable))
		} else {
			c.set(meaning{})
		}
	case !c.found || c.tier == tierNone:
		status := c.r.Status
		if c.verdict.status != 0 {
			status = c.verdict.status
		}
		c.set(statusMeaning(c.r.Endpoint, status, false))
		if broken && c.ok {
			c.set(meaningOf(KindServerUnavailable))
		}
	case c.r.Status == 410 && c.kind == KindNotFound:
		c.set(meaningOf(KindVersionRetired))
	}
}

func (c *reading) html() {
	c.message = title(c.body)
	if m, ok := htmlMeaning(c.body, c.r.Status); ok {
		c.set(m)
		return
	}
	c.set(statusMeaning(c.r.Endpoint, c.r.Status, false))
}

// title returns the text of a page's title or first heading.
func title(b []byte) []byte {
	b = b[:min(len(b), maxScanBytes)]
	for _, tag := range [...]string{"title", "h1", "h2", "h3"} {
		for _, open := range [...]string{"<" + tag + ">", "<" + strings.ToUpper(tag) + ">"} {
			if _, rest, ok := bytes.Cut(b, []byte(open)); ok {
				text, _, _ := bytes.Cut(rest, []byte("<"))
				if text = bytes.TrimSpace(text); len(text) > 0 {
					return text
				}
			}
		}
	}
	return nil
}

// form reads an urlencoded answer of the token endpoint, and reports whether
// it was one.
func (c *reading) form() bool {
	head := c.body[:min(len(c.body), 64)]
	eq := bytes.IndexByte(head, '=')
	if eq <= 0 || bytes.ContainsAny(head[:eq], " \n<") {
		return false
	}
	code, description := formError(string(c.body[:min(len(c.body), maxScanBytes)]))
	if code == "" {
		c.conclude(false)
		return true
	}
	c.add(EndpointToken, &finding{code: []byte(code), message: []byte(description), status: c.r.Status})
	c.conclude(false)
	return true
}

func (c *reading) plain() {
	if m, ok := wordMeaning(c.r.Endpoint, c.body); ok && (!c.ok || c.r.Endpoint == EndpointIdentity) {
		c.set(m)
		c.verdict.code = c.body
		if e := lookupCode(c.body); e != nil {
			c.name = e.name
		}
		return
	}
	if c.ok {
		c.conclude(false)
		return
	}
	c.message = c.body
	if m, name, ok := embeddedMeaning(c.r.Endpoint, c.body, false); ok {
		c.set(m)
		c.name = name
		return
	}
	if m, ok := phraseMeaning(c.body); ok {
		c.set(m)
		return
	}
	c.set(statusMeaning(c.r.Endpoint, c.r.Status, false))
}

// maxMessageBytes bounds Classification.Message.
const maxMessageBytes = 2 << 10

// cleanText copies b, bounded, as valid UTF-8. What is not UTF-8 is taken for
// ISO-8859-1, which some proxies and older endpoints send.
func cleanText(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	cut := len(b) > maxMessageBytes
	if cut {
		b = b[:maxMessageBytes]
		for range utf8.UTFMax {
			if r, n := utf8.DecodeLastRune(b); r != utf8.RuneError || n != 1 {
				break
			}
			b = b[:len(b)-1]
		}
	}
	if utf8.Valid(b) {
		return string(b)
	}
	var s strings.Builder
	s.Grow(len(b) + len(b)/4)
	for _, c := range b {
		s.WriteRune(rune(c))
	}
	return s.String()
}
