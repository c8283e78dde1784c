package sfapi

import (
	"bytes"
	"net/url"
	"strings"
)

// looksLikeHTML is whether a body that begins with '<' is a page for people.
func looksLikeHTML(b []byte, contentType string) bool {
	head := b[:min(len(b), 1<<10)]
	var buf [1 << 10]byte
	text := string(lowerText(buf[:0], head))
	if (strings.Contains(text, "<?xml") || strings.Contains(text, "envelope")) && !strings.Contains(text, "<html") {
		return false
	}
	if hasAny(text, "<!doctype", "<html", "<head", "<body", "<title", "<h1", "<h2", "<h3", "<p>", "<div", "<script", "<center", "<pre", "<table", "<br", "<!-- ..") {
		return true
	}
	return containsFold(contentType, "text/html")
}

// htmlMeaning reads a page. Pages come from the edge, a proxy, a login host or
// a servlet container, and only a few of them say something about the org.
// "Down for maintenance" is not one of those: the same page was once the answer
// to an over-long URL while the org was fine.
func htmlMeaning(b []byte, status int) (meaning, bool) {
	text := string(lowerText(nil, b))
	switch {
	case hasAny(text, "bad_oauth_token", "missing_oauth_token", "session expired or invalid"):
		return meaningOf(KindSessionExpired), true
	case hasAny(text, "data not available", "inactive organization"):
		return meaningOf(KindOrgInactive), true
	case hasAny(text, "api is not enabled", "api is disabled for"):
		return meaningOf(KindAPIDisabled), true
	case hasAny(text, "oauth_app_blocked", "oauth_ec_app_not_found", "oauth_app_access_denied", "external client app is not installed", "app is blocked by admin"):
		return meaningOf(KindAppNotAllowed), true
	case strings.Contains(text, "bad message 400"):
		// A request that was right a moment ago, garbled on its way:
		// Salesforce's own source-deploy-retrieve repeats it.
		return meaningOf(KindServerUnavailable), true
	case hasAny(text, "redirect_uri_mismatch", "invalid_client_id", "error=invalid_client"):
		return meaningOf(KindClientMisconfigured), true
	case hasAny(text, "uri too long", "request-uri too", "entity too large", "payload too large", "header fields too large",
		"header too large", "header or cookie too large", "bad message 41", "bad message 43") && status < 500:
		return meaningOf(KindBadRequest), true
	}
	switch {
	case status == 401:
		return meaningOf(KindSessionExpired), true
	case status == 400:
		return meaningOf(KindBadRequest), true
	case status == 403:
		// A firewall's page says nothing about the token.
		return meaningOf(KindUnknown), true
	case status == 404:
		// The host serves no such org: an API answers in JSON or XML.
		return meaningOf(KindWrongInstance), true
	case status == 420:
		return meaningOf(KindServerUnavailable), true
	case status >= 200 && status < 300:
		switch {
		case hasAny(text, "down for maintenance", "setting things up", "interstitial", "salesforce edge", "temporarily unavailable",
			"try again later", "hit a snag", "unexpected connection error", "service unavailable", "internal server error"):
			return meaningOf(KindServerUnavailable), true
		case hasAny(text, "starturl=", "ec=302", "ec=301", "/secur/", "frontdoor.jsp", "login.salesforce.com", "test.salesforce.com", "<title>login"):
			// A login page where data was asked for.
			return meaningOf(KindWrongInstance), true
		}
		return meaningOf(KindUnknown), true
	}
	return meaning{}, false
}

// wordMeaning reads identity's and userinfo's one-word answers, and a code that
// stands alone.
// https://help.salesforce.com/s/articleView?id=xcloud.remoteaccess_using_openid.htm
func wordMeaning(endpoint Endpoint, b []byte) (meaning, bool) {
	if len(b) > maxCodeBytes {
		return meaning{}, false
	}
	if endpoint == EndpointIdentity && bytes.EqualFold(b, []byte("Inactive")) {
		return meaningOf(KindUserInactive), true
	}
	// "Forbidden" and "Conflict" are names of statuses and say no more than
	// the status does; Salesforce's words have an underscore.
	if bytes.IndexByte(b, '_') < 0 {
		return meaning{}, false
	}
	e := lookupCode(b)
	if e == nil || e.rule == ruleCollateral {
		return meaning{}, false
	}
	return readEntry(endpoint, e, &finding{code: b}), true
}

// formError returns error and error_description of an urlencoded text: a token
// endpoint's answer or the query or fragment of a redirect.
func formError(form string) (code, description string) {
	for len(form) > 0 && len(code)+len(description) == 0 || len(form) > 0 && (code == "" || description == "") {
		var pair string
		pair, form, _ = cutAny(form, "&;")
		key, value, ok := cutAny(pair, "=")
		if !ok {
			continue
		}
		var buf [maxCodeBytes]byte
		switch string(normalizeCode(buf[:0], []byte(key))) {
		case "ERROR", "ERRORCODE":
			if code == "" {
				code = unquoteForm(value)
			}
		case "ERRORDESCRIPTION":
			if description == "" {
				description = unquoteForm(value)
			}
		}
	}
	return code, description
}

func cutAny(s, seps string) (before, after string, found bool) {
	for i := range len(s) {
		if s[i] == seps[0] || len(seps) > 1 && s[i] == seps[1] {
			return s[:i], s[i+1:], true
		}
	}
	return s, "", false
}

func unquoteForm(s string) string {
	if len(s) > maxScanBytes {
		s = s[:maxScanBytes]
	}
	if t, err := url.QueryUnescape(s); err == nil {
		return t
	}
	return s
}

// csvErrors reads the error cells of a Bulk result file and reports whether b
// is such a file. A file without a column of errors has none.
func csvErrors(b []byte, v *verdict, endpoint Endpoint) bool {
	delim := byte(',')
	if nl := bytes.IndexByte(b, '\n'); nl >= 0 {
		delim = csvDelimiter(b[:nl])
	}
	column, at, header := -1, 0, 0
	next := 0
	var cell []byte
	for end := false; next < len(b) && !end; at++ {
		cell, next, end = csvCell(b, next, delim)
		switch string(bytes.TrimSpace(cell)) {
		case "sf__Error":
			column = at
			header++
		case "Error":
			if column < 0 {
				column = at
			}
		case "sf__Id", "Success", "Created":
			header++
		}
	}
	if column < 0 || header == 0 {
		return false
	}
	for at = 0; next < len(b); {
		var end bool
		cell, next, end = csvCell(b, next, delim)
		if at == column && len(cell) > 0 {
			code, message, _ := splitBulkError(cell)
			v.add(endpoint, &finding{code: code, message: message, row: true})
		}
		if at++; end {
			at = 0
		}
	}
	return true
}

func csvDelimiter(head []byte) byte {
	for _, d := range []byte{',', '\t', ';', '|', '^', '`'} {
		if bytes.IndexByte(head, d) >= 0 {
			return d
		}
	}
	return ','
}

// csvCell reads the cell at i and says where the next begins and whether the
// row ended. Quotes inside the cell stay doubled: codes have none.
func csvCell(b []byte, i int, delim byte) (cell []byte, next int, end bool) {
	if i < len(b) && b[i] == '"' {
		start := i + 1
		for j := start; j < len(b); j++ {
			if b[j] != '"' {
				continue
			}
			if j+1 < len(b) && b[j+1] == '"' {
				j++
				continue
			}
			cell = b[start:j]
			i = j + 1
			for i < len(b) && b[i] != delim && b[i] != '\n' {
				i++
			}
			return cell, i + 1, i >= len(b) || b[i] == '\n'
		}
		return b[start:], len(b), true
	}
	start := i
	for i < len(b) && b[i] != delim && b[i] != '\n' {
		i++
	}
	return bytes.TrimSuffix(b[start:i], []byte("\r")), i + 1, i >= len(b) || b[i] == '\n'
}

// splitBulkError splits "CODE:message:fields --". The message may hold colons,
// newlines and quotes; the fields are separated by commas or blanks.
func splitBulkError(cell []byte) (code, message, fields []byte) {
	cell = bytes.TrimSpace(cell)
	code, message, ok := bytes.Cut(cell, []byte(":"))
	if !ok {
		if lookupCode(cell) == nil && bytes.IndexByte(cell, ' ') >= 0 {
			return nil, cell, nil
		}
		return cell, nil, nil
	}
	code = bytes.TrimSpace(code)
	if bytes.IndexByte(code, ' ') >= 0 && lookupCode(code) == nil {
		return nil, cell, nil
	}
	message = bytes.TrimSpace(message)
	if !bytes.HasSuffix(message, []byte("--")) {
		return code, message, nil
	}
	message = bytes.TrimRight(message[:len(message)-2], " ")
	if i := bytes.LastIndexByte(message, ':'); i >= 0 {
		if fields = bytes.TrimSpace(message[i+1:]); isFieldList(fields) {
			return code, bytes.TrimSpace(message[:i]), fields
		}
	}
	return code, message, nil
}

// isFieldList is whether text can be a list of field names.
func isFieldList(text []byte) bool {
	for _, c := range text {
		if !isCodeByte(c) && c != ' ' && c != ',' && c != '.' && c != '\n' && c != '\r' {
			return false
		}
	}
	return true
}
