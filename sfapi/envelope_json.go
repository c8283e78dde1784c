package sfapi

import (
	"bytes"
	"strconv"
	"unicode/utf8"
)

// maxEnvelopeDepth bounds how deep envelopes are read. A graph's error sits at
// depth nine: graphs, graph, graphResponse, compositeResponse, subresponse,
// body, collections result, errors, error. Deeper values are skipped over.
const maxEnvelopeDepth = 14

// jsonEnvelope reads errors out of a JSON body of any of the shapes Salesforce
// sends, in one pass a level, without building values. It does not validate:
// what it cannot read it skips, and a body that ends early is read as far as it
// goes.
type jsonEnvelope struct {
	endpoint Endpoint
	ok       bool // the HTTP status says success: only envelopes can fail
	deep     bool // look into members whose names say nothing
	broken   bool // the text ended early or is no JSON
	inactive bool // introspection said active: false
	token    bool // an access token was there
	verdict  verdict
	scratch  []byte
}

// envelopeContext is what an error inherits from the envelope around it.
type envelopeContext struct {
	status int
	failed bool // something around it said that this failed
	row    bool // it is about one record
	errs   bool // it is an element of a list called errors
}

// read reads the whole body.
func (w *jsonEnvelope) read(b []byte, status int) {
	s, next := spanValue(b, 0)
	w.broken = s.cut || s.kind == 0
	if !w.broken {
		if rest := spanSpace(b, next); rest < len(b) {
			// Something follows the value. That is not JSON, but what was
			// read may still say what is wrong.
			w.broken = true
		}
	}
	w.value(b, s, envelopeContext{status: status}, 0)
}

func (w *jsonEnvelope) value(b []byte, s span, ctx envelopeContext, depth int) {
	if depth > maxEnvelopeDepth {
		return
	}
	switch s.kind {
	case '{':
		w.object(b, s, ctx, depth)
	case '[':
		i := s.start + 1
		for i < s.end {
			i = spanSpace(b, i)
			if i >= s.end || b[i] == ']' {
				return
			}
			e, next := spanValue(b[:s.end], i)
			switch {
			case e.kind == '{' || e.kind == '[':
				w.value(b, e, ctx, depth+1)
			case e.kind == '"' && (!w.ok || ctx.failed) && ctx.status != 300:
				w.text(e.bytes(b), e, ctx)
			}
			if next <= i {
				next = i + 1
			}
			i = next
			if i = spanSpace(b, i); i < s.end && b[i] == ',' {
				i++
			}
		}
	case '"':
		if !w.ok || ctx.failed {
			w.text(s.bytes(b), s, ctx)
		}
	}
}

// text takes a bare string for a message, or for a code where it is one.
func (w *jsonEnvelope) text(raw []byte, s span, ctx envelopeContext) {
	msg := w.unescape(raw, s.escaped)
	f := finding{message: msg, status: ctx.status, row: ctx.row}
	if !bytes.ContainsAny(msg, " \n") && lookupCode(msg) != nil {
		f.code = msg
	}
	w.verdict.add(w.endpoint, &f)
}

// member is the place a known member name has in envelopeMembers.
type member uint8

const (
	memberErrorCode member = iota
	memberExceptionCode
	memberStatusCode
	memberExtensionCode
	memberError
	memberOtherCode
	memberMessage
	memberSuccess
	memberState
	memberHTTPStatus
	memberActive
	memberAccessToken
	memberCount
)

// nested is a member whose value may hold errors.
type nested struct {
	s    span
	errs bool // it is called errors
	body bool // it is the body of a subrequest
}

// members is one object, sorted by what its members mean.
type members struct {
	known  [memberCount]span
	has    [memberCount]bool
	nested [16]nested
	n      int
	sub    bool // it has the body of a subrequest

	// relayed are texts under names that say nothing: what a proxy or managed
	// package wraps up may be a whole answer of Salesforce's.
	relayed [4]span
	relays  int
}

func (m *members) set(k member, s span) {
	m.known[k], m.has[k] = s, true
}

func (m *members) nest(n nested) {
	if n.s.kind != '{' && n.s.kind != '[' {
		return
	}
	if m.n == len(m.nested) {
		return
	}
	m.nested[m.n] = n
	m.n++
}

// sort reads the members of an object.
func (m *members) sort(b []byte, s span, deep bool) {
	i := s.start + 1
	for i < s.end {
		i = spanSpace(b, i)
		if i >= s.end || b[i] == '}' {
			return
		}
		if b[i] != '"' {
			i++
			continue
		}
		name, next := spanString(b[:s.end], i)
		i = spanSpace(b, next)
		if i >= s.end || b[i] != ':' {
			continue
		}
		v, next := spanValue(b[:s.end], i+1)
		if next <= i {
			next = i + 1
		}
		i = next
		m.put(name.bytes(b), v, deep)
	}
}

func (m *members) put(name []byte, v span, deep bool) {
	str := v.kind == '"'
	switch string(name) {
	case "errorCode":
		if str {
			m.set(memberErrorCode, v)
		}
	case "exceptionCode", "faultcode", "faultCode":
		if str {
			m.set(memberExceptionCode, v)
		}
	case "statusCode":
		switch v.kind {
		case '"':
			m.set(memberStatusCode, v)
		case '0':
			m.set(memberHTTPStatus, v)
		}
	case "ErrorCode", "error_code":
		if str {
			m.set(memberExtensionCode, v)
		}
	case "error":
		if str {
			m.set(memberError, v)
		} else {
			m.nest(nested{s: v, errs: true})
		}
	case "code":
		if str {
			m.set(memberOtherCode, v)
		}
	case "message", "exceptionMessage", "error_description", "errorMessage", "stateMessage", "faultstring",
		"errorDescription", "failureReason", "Message":
		if str && (!m.has[memberMessage] || m.known[memberMessage].start == m.known[memberMessage].end) {
			m.set(memberMessage, v)
		} else if !str {
			m.nest(nested{s: v})
		}
	case "success", "successful", "isSuccess", "isSuccessful":
		m.set(memberSuccess, v)
	case "state":
		if str {
			m.set(memberState, v)
		}
	case "httpStatusCode":
		m.set(memberHTTPStatus, v)
	case "active":
		m.set(memberActive, v)
	case "access_token":
		if str && v.start < v.end {
			m.set(memberAccessToken, v)
		}
	case "errors", "Errors":
		m.nest(nested{s: v, errs: true})
	case "body", "result":
		m.sub = true
		m.nest(nested{s: v, body: true})
	case "compositeResponse", "graphs", "graphResponse", "results", "batchInfo", "ext", "sfdc", "extensions",
		"output", "Error", "fault", "Fault", "detail", "response", "recordErrors", "fieldErrors", "apiFault":
		m.nest(nested{s: v})
	case "duplicateResut", "duplicateResult", "records", "attributes", "fields", "httpHeaders", "outputValues", "advice":
		// Echoes of data: what is called an error in there is not one of ours.
	default:
		switch {
		case deep && !str:
			m.nest(nested{s: v})
		case deep && m.relays < len(m.relayed):
			m.relayed[m.relays] = v
			m.relays++
		}
	}
}

func (w *jsonEnvelope) object(b []byte, s span, ctx envelopeContext, depth int) {
	var m members
	m.sort(b, s, w.deep)
	if m.has[memberAccessToken] {
		w.token = true
	}
	if m.has[memberActive] && depth == 0 && m.known[memberActive].kind == 'f' {
		w.inactive = true
	}
	if m.has[memberHTTPStatus] {
		v := m.known[memberHTTPStatus]
		if n, err := strconv.Atoi(string(v.bytes(b))); err == nil && n >= 100 && n < 600 {
			ctx.status = n
			// A subrequest's own status decides whether its body is an error.
			ctx.failed = n >= 300 && n != 304
			if !ctx.failed {
				ctx.errs = false
			}
		}
	}
	if m.has[memberSuccess] {
		v := m.known[memberSuccess]
		switch {
		case v.kind == 't' || v.kind == '"' && string(v.bytes(b)) == "true":
			return
		case v.kind == 'f' || v.kind == '"' && string(v.bytes(b)) == "false":
			ctx.failed = true
		}
	}
	if m.has[memberState] && string(m.known[memberState].bytes(b)) == "Failed" {
		ctx.failed = true
	}
	w.own(b, &m, ctx)
	for i := range m.relays {
		text := w.unescape(m.relayed[i].bytes(b), m.relayed[i].escaped)
		if _, _, ok := embeddedMeaning(w.endpoint, text, ctx.row); ok {
			w.verdict.add(w.endpoint, &finding{message: text, status: ctx.status, row: ctx.row})
		}
	}
	for i := range m.n {
		n := m.nested[i]
		c := ctx
		c.errs = n.errs || ctx.errs && !n.body
		if n.errs {
			c.failed = true
		}
		w.value(b, n.s, c, depth+1)
	}
}

// own reads the error an object may be itself.
func (w *jsonEnvelope) own(b []byte, m *members, ctx envelopeContext) {
	f := finding{status: ctx.status, row: ctx.row, job: m.has[memberState] && ctx.failed}
	key := memberCount
	for k := memberErrorCode; k <= memberOtherCode; k++ {
		v := m.known[k]
		if !m.has[k] || v.start == v.end {
			continue
		}
		// A code that nobody knows does not hide one that is known.
		if key == memberCount || lookupCode(f.code) == nil && lookupCode(v.bytes(b)) != nil {
			key, f.code, f.cut = k, v.bytes(b), v.cut
		}
	}
	if m.has[memberMessage] {
		v := m.known[memberMessage]
		f.message = w.unescape(v.bytes(b), v.escaped)
	}
	if key == memberCount && len(f.message) == 0 {
		// What failed without saying why has failed all the same.
		if ctx.failed && (m.has[memberState] || m.has[memberSuccess] || m.sub && m.has[memberHTTPStatus]) {
			w.verdict.add(w.endpoint, &f)
		}
		return
	}
	if key == memberStatusCode || w.endpoint == EndpointCollections {
		f.row = true
	}
	if key == memberError && !m.has[memberMessage] && lookupCode(f.code) == nil {
		// {"error": "some text"}: words, not a code.
		f.message, f.code = w.unescape(f.code, true), nil
	}
	if key == memberError && w.endpoint != EndpointToken && lookupCode(f.code) == nil {
		// Streaming says "403::Organization concurrent user limit exceeded".
		if status, text, ok := statusText(f.code); ok {
			f.status, f.code = status, nil
			if len(f.message) == 0 {
				f.message = text
			}
		}
	}
	if status, text, ok := statusText(f.message); ok {
		f.status, f.message = status, text
	}
	if w.ok && !ctx.failed && !ctx.errs {
		// Nothing around it says that this is an error, so its own name must:
		// data may have a member called message.
		if key == memberCount || key == memberOtherCode || key == memberError && w.endpoint != EndpointToken ||
			lookupCode(f.code) == nil && key != memberErrorCode && key != memberExceptionCode && key != memberError {
			return
		}
		if key == memberError && m.has[memberAccessToken] {
			return
		}
	}
	w.verdict.add(w.endpoint, &f)
}

// statusText splits Bayeux's "403::text" and "403:argument:text".
func statusText(b []byte) (int, []byte, bool) {
	if len(b) < 5 || b[3] != ':' {
		return 0, nil, false
	}
	n := 0
	for _, c := range b[:3] {
		if c < '0' || c > '9' {
			return 0, nil, false
		}
		n = n*10 + int(c-'0')
	}
	return n, bytes.TrimLeft(b[4:], ":"), n >= 400 && n < 600
}

// unescape returns the text of a JSON string, and raw itself where nothing is
// escaped. The text is bounded and valid until the reader is dropped.
func (w *jsonEnvelope) unescape(raw []byte, escaped bool) []byte {
	if !escaped || bytes.IndexByte(raw, '\\') < 0 {
		return raw
	}
	if len(raw) > maxScanBytes {
		raw = raw[:maxScanBytes]
	}
	if cap(w.scratch)-len(w.scratch) < len(raw) {
		// Text is never longer than what was escaped, so that growing within
		// one string is not needed.
		w.scratch = make([]byte, 0, len(raw))
	}
	start := len(w.scratch)
	w.scratch = appendUnescaped(w.scratch, raw)
	return w.scratch[start:len(w.scratch):len(w.scratch)]
}

// appendUnescaped appends the text of a JSON string. Escapes that are no JSON
// are kept as they are.
func appendUnescaped(dst, raw []byte) []byte {
	for i := 0; i < len(raw); i++ {
		if raw[i] != '\\' || i+1 >= len(raw) {
			dst = append(dst, raw[i])
			continue
		}
		i++
		switch raw[i] {
		case 'n':
			dst = append(dst, '\n')
		case 'r':
			dst = append(dst, '\r')
		case 't':
			dst = append(dst, '\t')
		case 'b', 'f':
			dst = append(dst, ' ')
		case 'u':
			if i+4 < len(raw) {
				if n, err := strconv.ParseUint(string(raw[i+1:i+5]), 16, 32); err == nil {
					dst = utf8.AppendRune(dst, rune(n))
					i += 4
					continue
				}
			}
			dst = append(dst, '\\', 'u')
		default:
			dst = append(dst, raw[i])
		}
	}
	return dst
}
