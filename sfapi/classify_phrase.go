package sfapi

import "strings"

// phraseGroup is a Kind and the words, in lower case, that stand for it where
// no code does. They are Salesforce's own English texts; a localized message
// matches nothing and leaves the decision to code and status.
type phraseGroup struct {
	kind    Kind
	phrases []string
}

var lockPhrases = []string{
	"unable to obtain exclusive access", "unable_to_lock_row", "currently being modified by another user",
	"record currently unavailable", "lock failure",
}

// phraseGroups are tried in order: the specific before the general.
var phraseGroups = []phraseGroup{
	{KindMaintenance, []string{"be made during maintenance", "not allowed during maintenance", "read-only mode", "read only mode", "in readonly mode", "org is in maintenance"}},
	{KindAppNotAllowed, []string{"app is not attached", "app is not installed", "not admin approved", "approved this consumer"}},
	{KindSessionExpired, []string{"session expired or invalid", "invalid session id", "session is not valid", "session is invalid",
		"invalid session", "bad_oauth_token", "missing_oauth_token", "authentication invalid", "request requires authentication",
		"invalid access token", "expired access token", "session has expired", "session not found"}},
	{KindWrongInstance, []string{"destination url not reset", "url not reset", "wrong_org", "not owned by instance"}},
	{KindDailyLimit, []string{"totalrequests limit", "24-hour period", "24 hour period", "per 24 hrs", "apibatchitems limit", "daily limit", "daily api"}},
	{KindConcurrentLimit, []string{"concurrentrequests", "concurrentperorg", "concurrent api requests", "concurrent user limit", "concurrent requests",
		"concurrent apex", "concurrent limit", "access declined", "too many requests", "rate limit exceeded"}},
	{KindLoginRateLimited, []string{"login rate exceeded", "login rate"}},
	{KindRowLock, lockPhrases},
	{KindQueryTimeout, []string{"running for too long", "running too long", "exceeded the time limit", "retried more than",
		"failed to write query result", "query timed out", "query timeout", "distinct who/what", "retried too many times"}},
	{KindInvalidQueryLocator, []string{"query locator", "query cursor", "querylocator"}},
	{KindAPIDisabled, []string{"api is not enabled", "api is disabled", "api not enabled", "api is currently disabled",
		"services are disabled for this org", "not enabled for this organization", "api access is not enabled"}},
	{KindVersionRetired, []string{"api version is no longer", "version is no longer available", "version is no longer supported", "unsupported api version",
		"api version not supported", "version has been retired"}},
	{KindStorageLimit, []string{"storage limit exceeded"}},
	{KindOrgInactive, []string{"inactive organization", "organization is inactive", "trial has expired", "data not available"}},
	{KindUserInactive, []string{"inactive user", "user is inactive"}},
	{KindIPRestricted, []string{"ip restricted", "restricted ip", "login hours"}},
	{KindServerUnavailable, []string{"server too busy", "server is too busy", "no healthy upstream", "upstream connect error", "upstream request timeout",
		"internal server error", "internal servlet", "service unavailable", "server unavailable", "service temporarily unavailable",
		"currently unavailable", "temporarily unavailable", "bad gateway", "gateway time", "down for maintenance", "unexpected connection error",
		"connection was cancelled", "connection reset", "connection refused", "socket hang up", "setting things up", "try again later",
		"hit a snag", "security policies took too long", "retry your request", "no server is available", "overloaded"}},
	{KindNotFound, []string{"requested resource does not exist", "entity is deleted", "url no longer exists", "unable to find object"}},
	{KindBadRequest, []string{"uri too long", "request-uri too", "entity too large", "payload too large", "header fields too large", "header too large",
		"cookie too large", "bad message", "only post allowed", "method not allowed", "http method", "unsupported media type",
		"unexpected token", "no such column", "field name not found", "is not supported by the bulk api", "compound data not supported", "does not support query",
		"invalid reference specified", "no operation available", "unable to parse", "request header or cookie"}},
	{KindPermission, []string{"insufficient access", "insufficient privileges", "insufficient permission", "do not have access to", "does not have access to",
		"security evaluation for non-admin users", "denied_by_security_policy"}},
	{KindDuplicate, []string{"duplicate value found", "duplicates value on record", "use one of these records"}},
	{KindValidation, []string{"required fields are missing", "data value too large"}},
}

// phraseMeaning returns what a message without a known code means.
func phraseMeaning(message []byte) (meaning, bool) {
	if len(message) == 0 {
		return meaning{}, false
	}
	var buf [512]byte
	return phraseOf(string(lowerText(buf[:0], message)))
}

// phraseOf is phraseMeaning for text in lower case.
func phraseOf(text string) (meaning, bool) {
	for i := range phraseGroups {
		g := &phraseGroups[i]
		if !hasAny(text, g.phrases...) {
			continue
		}
		m := meaningOf(g.kind)
		switch g.kind {
		case KindQueryTimeout:
			// Only a narrower query or a permission cures this one.
			m.transient = !strings.Contains(text, "distinct who/what")
		case KindServerUnavailable:
			switch {
			case strings.Contains(text, "retry your request"):
				m.scope = ScopeRequest
			case strings.Contains(text, "security policies took too long"):
				m.scope = ScopeUser
			}
		}
		return m, true
	}
	return meaning{}, false
}

// lowerText appends the first bytes of message to dst in lower case, with the
// typographic apostrophe made plain.
func lowerText(dst, message []byte) []byte {
	if len(message) > maxScanBytes {
		message = message[:maxScanBytes]
	}
	for i := 0; i < len(message); i++ {
		c := message[i]
		switch {
		case 'A' <= c && c <= 'Z':
			c += 'a' - 'A'
		case c == 0xE2 && i+2 < len(message) && message[i+1] == 0x80 && message[i+2] == 0x99:
			c = '\''
			i += 2
		case c == '\n', c == '\r', c == '\t':
			c = ' '
		}
		dst = append(dst, c)
	}
	return dst
}

// hasAny is whether text contains one of phrases.
func hasAny(text string, phrases ...string) bool {
	for _, p := range phrases {
		if strings.Contains(text, p) {
			return true
		}
	}
	return false
}
