package sfapi

import (
	"bytes"
)

// finding is one error of a response, as spans of the body.
type finding struct {
	code    []byte // as received, may be cut off
	cut     bool   // the body ended within the code
	message []byte // unescaped where it had to be
	status  int    // the innermost HTTP status that applies
	row     bool   // the error is of one record, not of the call
	job     bool   // the error is of one asynchronous job or batch
}

// tier says how much a finding can be trusted: codes go before messages, and
// messages before status.
type tier uint8

const (
	tierNone tier = iota
	tierCollateral
	tierMessage
	tierCode
)

// verdict is what the findings so far come to.
type verdict struct {
	meaning
	tier    tier
	found   bool // there was an error, understood or not
	name    string
	code    []byte
	message []byte
	status  int
}

// kindRank orders Kinds for responses that carry several errors. What affects
// more explains the rest: an org in maintenance fails every row alike, and a
// dead session explains nothing else. The order of the errors in the response
// never matters.
var kindRank = [kindCount]uint8{
	KindMaintenance:         26,
	KindOrgInactive:         25,
	KindUserInactive:        24,
	KindRevoked:             23,
	KindIPRestricted:        22,
	KindAppNotAllowed:       21,
	KindWrongInstance:       20,
	KindSessionExpired:      19,
	KindAPIDisabled:         18,
	KindVersionRetired:      17,
	KindLoginRateLimited:    16,
	KindDailyLimit:          15,
	KindConcurrentLimit:     14,
	KindStorageLimit:        13,
	KindServerUnavailable:   12,
	KindInvalidQueryLocator: 11,
	KindQueryTimeout:        10,
	KindClientMisconfigured: 9,
	KindPermission:          8,
	KindBadRequest:          7,
	KindConflict:            6,
	KindValidation:          5,
	KindDuplicate:           4,
	KindNotFound:            3,
	KindRowLock:             2,
	KindUnknown:             1,
}

// add weighs one more finding.
func (v *verdict) add(endpoint Endpoint, f *finding) {
	m, t, name := readFinding(endpoint, f)
	if f.job && m.kind == KindServerUnavailable {
		// One job that the server gave up on says little about the org.
		m.scope = ScopeRequest
	}
	better := !v.found || t > v.tier ||
		t == v.tier && (kindRank[m.kind] > kindRank[v.kind] ||
			kindRank[m.kind] == kindRank[v.kind] && m.transient && !v.transient)
	if !better {
		return
	}
	*v = verdict{meaning: m, tier: t, found: true, name: name, code: f.code, message: f.message, status: f.status}
}

// readFinding returns what one finding means, how sure that is, and the known
// spelling of its code.
func readFinding(endpoint Endpoint, f *finding) (meaning, tier, string) {
	e := lookupCode(f.code)
	if e == nil && f.cut {
		e = lookupCodePrefix(f.code)
	}
	if e == nil {
		// Bulk jobs put "Code : message" into one text, and the codes of
		// unknown wrappers may stand in their messages.
		if m, name, ok := embeddedMeaning(endpoint, f.message, f.row); ok {
			return m, tierCode, name
		}
		if m, ok := phraseMeaning(f.message); ok {
			return m, tierMessage, ""
		}
		return meaningOf(KindUnknown), tierNone, ""
	}
	if e.rule == ruleCollateral {
		return e.meaning, tierCollateral, e.name
	}
	return readEntry(endpoint, e, f), tierCode, e.name
}

// readEntry applies the rule of a known code.
func readEntry(endpoint Endpoint, e *codeEntry, f *finding) meaning {
	if e.rule == ruleBearer && bearsToken(endpoint) {
		// https://www.rfc-editor.org/rfc/rfc6750#section-3.1
		return meaningOf(KindSessionExpired)
	}
	if e.rule == ruleCode || len(f.message) == 0 && !(e.rule == ruleInvalidField && f.row) {
		if e.rule == ruleSession && endpoint == EndpointToken {
			return meaningOf(KindClientMisconfigured)
		}
		return e.meaning
	}
	var buf [512]byte
	text := string(lowerText(buf[:0], f.message))
	switch e.rule {
	case ruleSession:
		switch {
		case endpoint == EndpointToken:
			// A token endpoint's refusal is never an expired session.
			return grantMeaning(text, meaningOf(KindClientMisconfigured))
		case hasAny(text, "connected app is not attached", "app is not attached"):
			return meaningOf(KindAppNotAllowed)
		case hasAny(text, "users cannot perform api operations"):
			// A support login, which no token makes an API user.
			return meaningOf(KindPermission)
		}
	case ruleAuthHeader:
		if hasAny(text, "scope") {
			return meaningOf(KindAppNotAllowed)
		}
		if hasAny(text, "header type", "header_type") {
			return meaningOf(KindClientMisconfigured)
		}
	case ruleGrant, ruleBearer:
		return grantMeaning(text, e.meaning)
	case ruleRequestLimit:
		return limitMeaning(text, e.meaning)
	case ruleLimitExceeded:
		if hasAny(text, "too many soql", "too many dml", "cpu time", "heap size", "array exceeds") {
			return meaningOf(KindValidation)
		}
		return limitMeaning(text, e.meaning)
	case ruleInvalidField:
		return fieldMeaning(text, e.meaning, f.row)
	case ruleCrossReference:
		if !hasAny(text, "invalid cross reference id", "cross-reference id") && hasAny(text, "record type", "owner", "valid for the user", "not valid for", "isn't valid") {
			return meaningOf(KindValidation)
		}
	case ruleAPIDisabled:
		if hasAny(text, "compound data", "not supported in bulk", "not supported by the bulk") {
			return meaningOf(KindBadRequest)
		}
		if hasAny(text, "this user", "for user", "the user ") && !hasAny(text, "organization", "org ") {
			m := e.meaning
			m.scope = ScopeUser
			return m
		}
	case ruleJobState:
		if hasAny(text, "already", "closed", "aborted", "completed", "not in open", "must be open", "state") {
			return meaningOf(KindConflict)
		}
	case ruleTrigger:
		if m, _, ok := embeddedMeaning(endpoint, f.message, true); ok && passesThroughTrigger(m.kind) {
			return m
		}
		if hasAny(text, lockPhrases...) {
			return meaningOf(KindRowLock)
		}
		if hasAny(text, "concurrentperorg", "concurrentrequests") {
			// The names of limits on requests in flight, which the
			// transaction met under UNKNOWN_EXCEPTION:
			// https://salesforce.stackexchange.com/questions/149335
			return meaningOf(KindConcurrentLimit)
		}
	case ruleWrapper:
		if hasAny(text, "job is closed", "job is already", "been closed", "not in open state", "multiple contents for job", "job state") {
			return meaningOf(KindConflict)
		}
		if m, _, ok := embeddedMeaning(endpoint, f.message, f.row); ok {
			return m
		}
		if m, ok := phraseOf(text); ok {
			return m
		}
	}
	return e.meaning
}

// passesThroughTrigger is whether a cause keeps its meaning when an Apex
// trigger or flow of the org wraps it. A session that died in a trigger's own
// callout, say, is not ours.
func passesThroughTrigger(k Kind) bool {
	switch k {
	case KindRowLock, KindMaintenance, KindStorageLimit, KindQueryTimeout, KindConcurrentLimit:
		return true
	}
	return false
}

// embeddedMeaning reads the codes quoted inside a message and returns the
// weightiest one, spelt as received.
func embeddedMeaning(endpoint Endpoint, message []byte, row bool) (best meaning, name string, ok bool) {
	scanCodes(message, func(code, rest []byte) {
		rest = rest[:min(len(rest), maxRestBytes)]
		e := lookupCode(code)
		if e == nil || e.rule == ruleCollateral || e.rule == ruleWrapper && e.kind == KindUnknown {
			return
		}
		var m meaning
		if e.rule == ruleWrapper || e.rule == ruleTrigger {
			// The cause stands further on and is found by itself, unless it
			// is said in words only.
			m = e.meaning
			var buf [512]byte
			if p, found := phraseOf(string(lowerText(buf[:0], rest))); found && (e.rule == ruleWrapper || passesThroughTrigger(p.kind)) {
				m = p
			}
		} else {
			// What tells the causes of a shared code apart may stand on
			// either side of it.
			around := rest
			if e.rule == ruleRequestLimit || e.rule == ruleLimitExceeded {
				around = message[:min(len(message), maxRestBytes)]
			}
			m = readEntry(endpoint, e, &finding{code: code, message: around, row: row})
		}
		if !ok || wrapsInto(best.kind, m.kind) {
			best, name, ok = m, string(code), true
		}
	})
	return best, name, ok
}

// wrapsInto is whether b, found within a message, explains more than a.
func wrapsInto(a, b Kind) bool {
	if b == KindRowLock && (a == KindValidation || a == KindBadRequest || a == KindUnknown) {
		return true
	}
	return kindRank[b] > kindRank[a]
}

// scanCodes calls f for every word of message that is spelt like a code, and
// with what follows it. A code is upper case with an underscore, or the first
// word of "InvalidBatch : Field name not found", which may itself be repeated.
func scanCodes(message []byte, f func(code, rest []byte)) {
	if len(message) > maxScanBytes {
		message = message[:maxScanBytes]
	}
	leading := true
	for i, codes := 0, 0; i < len(message) && codes < maxEmbeddedCodes; {
		c := message[i]
		if !isCodeByte(c) {
			if c != ' ' && c != ':' && c != '\n' && c != '\t' && c != '"' && c != '[' && c != '{' {
				leading = false
			}
			i++
			continue
		}
		start, upper, under := i, true, false
		for i < len(message) && isCodeByte(message[i]) {
			switch c := message[i]; {
			case 'a' <= c && c <= 'z':
				upper = false
			case c == '_':
				under = true
			}
			i++
		}
		word := message[start:i]
		rest := bytes.TrimLeft(message[i:], " :,")
		switch {
		case upper && under && len(word) >= 6:
			f(word, rest)
			codes++
			leading = false
		case leading && len(word) >= 6 && followedByColon(message[i:]):
			f(word, rest)
			codes++
		default:
			leading = false
		}
	}
}

func isCodeByte(c byte) bool {
	return 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '_'
}

func followedByColon(b []byte) bool {
	b = bytes.TrimLeft(b, " ")
	return len(b) > 0 && b[0] == ':'
}

// Bounds of the search within one message, so that no body costs more than a
// small multiple of its size.
const (
	maxScanBytes     = 8 << 10
	maxRestBytes     = 512
	maxEmbeddedCodes = 32
)

// limitMeaning tells limits apart that share a code. The daily limit says
// TotalRequests; every other one is about requests in flight.
func limitMeaning(text string, otherwise meaning) meaning {
	switch {
	case hasAny(text, "totalrequests", "24-hour", "24 hour", "24 hrs", "daily", "per day"):
		return meaningOf(KindDailyLimit)
	case hasAny(text, "concurrent", "in flight", "simultaneous"):
		return meaningOf(KindConcurrentLimit)
	case hasAny(text, "login rate"):
		return meaningOf(KindLoginRateLimited)
	}
	return otherwise
}

// fieldMeaning tells a field that does not exist, which is a fault of the call,
// from a value that one record's field refused.
func fieldMeaning(text string, otherwise meaning, row bool) meaning {
	switch {
	case hasAny(text, "no such column", "no such relation", "no such field", "didn't understand relationship", "name not found"):
		return otherwise
	case hasAny(text, "deserialize", "not a valid value", "foreign key external id", "cannot specify both an external id"):
		return meaningOf(KindValidation)
	case row:
		return meaningOf(KindValidation)
	}
	return otherwise
}

// grantMeaning reads an OAuth error_description. The codes invalid_grant and
// invalid_request are shared by a dozen causes, of which one is a revocation.
func grantMeaning(text string, otherwise meaning) meaning {
	has := func(phrases ...string) bool { return hasAny(text, phrases...) }
	switch {
	case has("login rate", "rate exceeded", "rate limit", "too many login", "too many request"):
		return meaningOf(KindLoginRateLimited)
	case has("being processed", "retry your request", "try again", "temporarily", "in progress", "server error", "unavailable"):
		return meaning{KindServerUnavailable, ScopeRequest, true}
	case has("ip restrict", "restricted ip", "ip address", "ip range", "restricted domain", "invalid ip"):
		return meaningOf(KindIPRestricted)
	case has("login hours", "restricted time"):
		return meaning{KindIPRestricted, ScopeUser, true}
	case has("security token", "challenge required", "identity verification", "verify your identity"):
		return meaningOf(KindIPRestricted)
	case has("data not available", "inactive org", "org is inactive", "organization is inactive",
		"inactive organization", "org_locked", "org is locked", "trial expired", "trial has expired", "organization expired",
		"organization has expired", "organization is suspended", "organization has been", "organization is locked", "org expired", "deleted org"):
		return meaningOf(KindOrgInactive)
	case has("inactive user", "user is inactive", "user inactive", "user is locked", "user locked", "locked out", "user is frozen",
		"user frozen", "deactivated", "password expired", "expired password", "password has expired", "password lockout",
		"user is not active", "user is disabled", "user account is disabled"):
		return meaningOf(KindUserInactive)
	case has("api is not enabled", "api is disabled", "api disabled", "api not enabled"):
		return meaningOf(KindAPIDisabled)
	case has("scope", "approved", "approval", "not installed", "must be installed", "app is blocked", "app blocked", "blocked by admin", "pre-authorized", "preauthorized",
		"app_not_found", "app not found", "not admin", "access to the app", "app access", "not allowed to access this app", "denied authorization",
		"user denied", "not authorized to use", "not assigned"):
		return meaningOf(KindAppNotAllowed)
	case has("authorization code", "auth code", "invalid code", "code verifier", "code_verifier", "code challenge", "code_challenge", "assertion",
		"audience", "authentication failure", "client credentials", "client secret", "client_secret", "client identifier", "client id",
		"client_id", "invalid client", "not supported on this domain", "not supported", "redirect", "grant type", "grant_type", "invalid password",
		"jwt", "certificate", "issuer", "subject", "missing required", "must use", "consumer key", "consumer secret", "activation secret",
		"flow disabled", "not enabled", "unsupported", "issued to", "parameter", "username", "credentials", "signature", "nonce"):
		return meaningOf(KindClientMisconfigured)
	case has("expired access/refresh token", "refresh token", "token validity", "token expired", "expired token",
		"token has expired", "token is expired", "revoked", "token is invalid", "invalid token", "token not valid", "token is not valid", "inactive token"):
		return meaningOf(KindRevoked)
	case otherwise.kind == KindRevoked && text != "" && isASCII(text) && !has("token", "grant", "expired"):
		// English that speaks of no token. It is too little to end a
		// connection by; a localized text leaves the decision to the code.
		return meaningOf(KindClientMisconfigured)
	}
	return otherwise
}

func isASCII(text string) bool {
	for i := range len(text) {
		if text[i] >= 0x80 {
			return false
		}
	}
	return true
}
