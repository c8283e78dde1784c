package sfapi

import (
	"bytes"
	"strconv"
	"unicode/utf8"
)

// xmlEnvelope reads errors out of XML: <Errors><Error>, Bulk API's <error> and
// <batchInfo>, SOAP faults and results, and the token endpoint's <OAuth>. Like
// jsonEnvelope it does not validate; a document that ends early is read as far
// as it goes.
type xmlEnvelope struct {
	endpoint Endpoint
	ok       bool
	status   int
	broken   bool
	failed   bool // a fault, an errors element or a failed result was seen
	verdict  verdict
	scratch  []byte
	code     []byte
	message  []byte
	row      bool
	job      bool // the document is a Bulk job or batch that failed
	login    bool // the document answers a login
}

func (w *xmlEnvelope) flush() {
	if len(w.code) > 0 || len(w.message) > 0 && (!w.ok || w.failed) {
		w.verdict.add(w.endpoint, &finding{code: w.code, message: w.message, status: w.status, row: w.row, job: w.job})
	}
	w.code, w.message, w.row = nil, nil, false
}

func (w *xmlEnvelope) read(b []byte) {
	depth := 0
	leaf := false // the last tag opened an element
	for i := 0; i < len(b); {
		lt := bytes.IndexByte(b[i:], '<')
		if lt < 0 {
			break
		}
		i += lt
		rest := b[i:]
		switch {
		case bytes.HasPrefix(rest, []byte("<!--")):
			end := bytes.Index(rest, []byte("-->"))
			if end < 0 {
				w.broken = true
				w.flush()
				return
			}
			i += end + 3
			continue
		case bytes.HasPrefix(rest, []byte("<![CDATA[")):
			end := bytes.Index(rest, []byte("]]>"))
			if end < 0 {
				i = len(b)
			} else {
				i += end + 3
			}
			continue
		}
		end := bytes.IndexByte(rest, '>')
		if end < 0 {
			w.broken = true
			break
		}
		tag := rest[1:end]
		i += end + 1
		if len(tag) == 0 || tag[0] == '?' || tag[0] == '!' {
			continue
		}
		if tag[0] == '/' {
			depth--
			// The end of an element that held others closes an error.
			if !leaf {
				w.flush()
			}
			leaf = false
			continue
		}
		name := localName(tag)
		if tag[len(tag)-1] == '/' {
			continue
		}
		depth++
		leaf = true
		w.element(name, b[i:])
	}
	if depth > 0 {
		w.broken = true
	}
	w.flush()
}

// localName returns the name of a tag without namespace prefix and attributes.
func localName(tag []byte) []byte {
	if i := bytes.IndexAny(tag, " \t\r\n/"); i >= 0 {
		tag = tag[:i]
	}
	if i := bytes.IndexByte(tag, ':'); i >= 0 {
		tag = tag[i+1:]
	}
	return tag
}

func (w *xmlEnvelope) element(name, rest []byte) {
	switch string(name) {
	case "Fault", "errors", "Errors", "Error", "error_description":
		w.failed = true
	case "success":
		if bytes.HasPrefix(bytes.TrimSpace(w.content(rest)), []byte("false")) {
			w.failed = true
		}
	case "passwordExpired":
		// A login that succeeds in form: its session may set a password and
		// nothing else.
		// https://developer.salesforce.com/docs/atlas.en-us.api.meta/api/sforce_api_calls_login_loginresult.htm
		if w.endpoint == EndpointSOAP && w.login && string(bytes.TrimSpace(w.content(rest))) == "true" {
			w.verdict.add(w.endpoint, &finding{code: []byte("PASSWORD_EXPIRED"), status: w.status})
		}
	case "loginResponse":
		w.login = true
	case "state":
		if string(bytes.TrimSpace(w.content(rest))) == "Failed" {
			w.failed, w.job = true, true
		}
	case "errorCode", "exceptionCode", "faultcode", "statusCode", "error", "Value", "code":
		text := bytes.TrimSpace(w.content(rest))
		if len(text) == 0 || bytes.IndexByte(text, '<') >= 0 {
			return
		}
		if string(name) == "code" && lookupCode(text) == nil || string(name) == "Value" && lookupCode(text) == nil {
			return
		}
		if w.ok && !w.failed && w.endpoint != EndpointToken && string(name) != "exceptionCode" && string(name) != "errorCode" {
			return
		}
		if len(w.code) > 0 {
			w.flush()
		}
		w.code, w.row = text, string(name) == "statusCode"
	case "message", "exceptionMessage", "faultstring", "errorMessage", "stateMessage", "Text", "reason":
		w.text(rest)
	}
	if string(name) == "error_description" {
		w.text(rest)
	}
}

func (w *xmlEnvelope) text(rest []byte) {
	text := bytes.TrimSpace(w.content(rest))
	if len(text) == 0 {
		return
	}
	if len(w.message) > 0 && len(w.code) > 0 {
		w.flush()
	}
	if len(w.message) == 0 {
		w.message = text
	}
}

// content returns the text up to the next tag, with entities and CDATA
// resolved.
func (w *xmlEnvelope) content(rest []byte) []byte {
	if trimmed := bytes.TrimLeft(rest, " \r\n\t"); bytes.HasPrefix(trimmed, []byte("<![CDATA[")) {
		text := trimmed[len("<![CDATA["):]
		text = text[:min(len(text), maxScanBytes)]
		if end := bytes.Index(text, []byte("]]>")); end >= 0 {
			text = text[:end]
		}
		return text
	}
	if i := bytes.IndexByte(rest, '<'); i >= 0 {
		rest = rest[:i]
	}
	if bytes.IndexByte(rest, '&') < 0 {
		return rest
	}
	if len(rest) > maxScanBytes {
		rest = rest[:maxScanBytes]
	}
	start := len(w.scratch)
	w.scratch = appendEntities(w.scratch, rest)
	return w.scratch[start:len(w.scratch):len(w.scratch)]
}

// appendEntities appends text with its character references resolved.
func appendEntities(dst, text []byte) []byte {
	for i := 0; i < len(text); i++ {
		if text[i] != '&' {
			dst = append(dst, text[i])
			continue
		}
		end := bytes.IndexByte(text[i:min(len(text), i+12)], ';')
		if end < 0 {
			dst = append(dst, '&')
			continue
		}
		r, ok := entity(text[i+1 : i+end])
		if !ok {
			dst = append(dst, '&')
			continue
		}
		dst = utf8.AppendRune(dst, r)
		i += end
	}
	return dst
}

// entity returns the character of a reference's name: "amp", "#39", "#x27".
func entity(name []byte) (rune, bool) {
	switch string(name) {
	case "lt":
		return '<', true
	case "gt":
		return '>', true
	case "amp":
		return '&', true
	case "quot":
		return '"', true
	case "apos":
		return '\'', true
	case "nbsp":
		return ' ', true
	}
	if len(name) < 2 || name[0] != '#' {
		return 0, false
	}
	base, digits := 10, name[1:]
	if digits[0] == 'x' || digits[0] == 'X' {
		base, digits = 16, digits[1:]
	}
	n, err := strconv.ParseUint(string(digits), base, 32)
	if err != nil || n > utf8.MaxRune {
		return 0, false
	}
	return rune(n), true
}
