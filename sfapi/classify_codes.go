package sfapi

import "strings"

// meaning is what a code, a message or a status says on its own.
type meaning struct {
	kind      Kind
	scope     Scope
	transient bool
}

// kindMeanings gives each Kind the scope and transience it has unless a code
// says otherwise.
var kindMeanings = [kindCount]meaning{
	KindSessionExpired:      {KindSessionExpired, ScopeUser, true},
	KindWrongInstance:       {KindWrongInstance, ScopeUser, false},
	KindIPRestricted:        {KindIPRestricted, ScopeUser, false},
	KindAppNotAllowed:       {KindAppNotAllowed, ScopeApp, false},
	KindRevoked:             {KindRevoked, ScopeUser, false},
	KindUserInactive:        {KindUserInactive, ScopeUser, false},
	KindOrgInactive:         {KindOrgInactive, ScopeOrg, false},
	KindMaintenance:         {KindMaintenance, ScopeOrg, true},
	KindServerUnavailable:   {KindServerUnavailable, ScopeOrg, true},
	KindDailyLimit:          {KindDailyLimit, ScopeOrg, true},
	KindConcurrentLimit:     {KindConcurrentLimit, ScopeOrg, true},
	KindLoginRateLimited:    {KindLoginRateLimited, ScopeUser, true},
	KindRowLock:             {KindRowLock, ScopeRecord, true},
	KindQueryTimeout:        {KindQueryTimeout, ScopeRequest, true},
	KindInvalidQueryLocator: {KindInvalidQueryLocator, ScopeRequest, true},
	KindBadRequest:          {KindBadRequest, ScopeRequest, false},
	KindNotFound:            {KindNotFound, ScopeRecord, false},
	KindPermission:          {KindPermission, ScopeUser, false},
	KindValidation:          {KindValidation, ScopeRecord, false},
	KindDuplicate:           {KindDuplicate, ScopeRecord, false},
	KindStorageLimit:        {KindStorageLimit, ScopeOrg, false},
	KindConflict:            {KindConflict, ScopeRecord, false},
	KindAPIDisabled:         {KindAPIDisabled, ScopeOrg, false},
	KindVersionRetired:      {KindVersionRetired, ScopeApp, false},
	KindClientMisconfigured: {KindClientMisconfigured, ScopeApp, false},
	KindUnknown:             {KindUnknown, ScopeRequest, false},
}

// meaningOf returns the usual meaning of k.
func meaningOf(k Kind) meaning { return kindMeanings[k] }

// rule names the reading that a code shared by several causes needs.
type rule uint8

const (
	ruleCode       rule = iota // the code alone decides
	ruleCollateral             // another record's or subrequest's error is the cause
	ruleWrapper                // the platform's catch-all: the message may name the cause
	ruleTrigger                // an Apex or flow failure: the message may name a transient cause
	ruleSession
	ruleAuthHeader
	ruleGrant
	ruleBearer // at a resource it is the access token that was refused
	ruleRequestLimit
	ruleLimitExceeded
	ruleInvalidField
	ruleCrossReference
	ruleAPIDisabled
	ruleJobState
)

// codeEntry is one known code. The name is spelt as Salesforce spells it most
// often, so that a code received in that spelling needs no copy.
type codeEntry struct {
	name string
	meaning
	rule rule
}

// codeGroup is a list of codes with one meaning.
type codeGroup struct {
	kind  Kind
	rule  rule
	codes string
}

// codeTable maps normalized codes (see [normalizeCode]) to entries. One
// spelling rule unites INVALID_SESSION_ID of REST and SOAP, InvalidSessionId of
// Bulk API, and INVALIDSESSIONID of Bulk API 2.0.
var codeTable = buildCodeTable()

// codeOverrides are the codes whose scope or transience differs from that of
// their Kind.
var codeOverrides = map[string]meaning{
	// A login outside the user's hours works again when they begin.
	"LOGIN_DURING_RESTRICTED_TIME": {KindIPRestricted, ScopeUser, true},
	// The remedy is another query or a permission, never waiting.
	"OPERATION_TOO_LARGE":        {KindQueryTimeout, ScopeRequest, false},
	"DELETE_OPERATION_TOO_LARGE": {KindQueryTimeout, ScopeRequest, false},
	// Exempting the integration user ends it, so it is that user's affair.
	"TXN_SECURITY_METERING_ERROR": {KindServerUnavailable, ScopeUser, true},
	// The token endpoint's speak of one request, not of the org.
	"unknown_error":           {KindServerUnavailable, ScopeRequest, true},
	"server_error":            {KindServerUnavailable, ScopeRequest, true},
	"temporarily_unavailable": {KindServerUnavailable, ScopeRequest, true},
}

func buildCodeTable() map[string]*codeEntry {
	n := 0
	for _, g := range codeGroups {
		n += strings.Count(g.codes, "_")/2 + 1
	}
	table := make(map[string]*codeEntry, n)
	for _, g := range codeGroups {
		for _, name := range strings.Fields(g.codes) {
			m := meaningOf(g.kind)
			if o, ok := codeOverrides[name]; ok {
				m = o
			}
			var buf [maxCodeBytes]byte
			table[string(normalizeCode(buf[:0], []byte(name)))] = &codeEntry{name: name, meaning: m, rule: g.rule}
		}
	}
	return table
}

// maxCodeBytes bounds what is taken for a code. The longest known one has 54.
const maxCodeBytes = 80

// normalizeCode appends code to dst in upper case, without anything that is not
// a letter or digit and without a namespace prefix such as "sf:". It returns
// dst unchanged for what cannot be a code.
func normalizeCode(dst, code []byte) []byte {
	if len(code) > maxCodeBytes {
		return dst
	}
	for i := len(code) - 1; i > 0; i-- {
		if code[i] == ':' {
			code = code[i+1:]
			break
		}
	}
	for _, c := range code {
		switch {
		case 'a' <= c && c <= 'z':
			dst = append(dst, c-'a'+'A')
		case 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
			dst = append(dst, c)
		case c == '_', c == '-', c == ' ', c == '.', c == '\t', c == '\r', c == '\n':
		default:
			return dst[:0]
		}
	}
	return dst
}

// lookupCode returns the entry of a code as received, or nil.
func lookupCode(code []byte) *codeEntry {
	var buf [maxCodeBytes]byte
	return codeTable[string(normalizeCode(buf[:0], code))]
}

// lookupCodePrefix returns the entry that a cut-off code can only have been, or
// nil where the rest is too short to tell.
func lookupCodePrefix(code []byte) *codeEntry {
	var buf [maxCodeBytes]byte
	prefix := string(normalizeCode(buf[:0], code))
	if len(prefix) < 8 {
		return nil
	}
	var found *codeEntry
	for name, e := range codeTable {
		if !strings.HasPrefix(name, prefix) {
			continue
		}
		if found != nil && (found.meaning != e.meaning || found.rule != e.rule) {
			return nil
		}
		// The shortest name wins, so that the answer does not depend on the
		// order of the map.
		if found == nil || len(e.name) < len(found.name) || len(e.name) == len(found.name) && e.name < found.name {
			found = e
		}
	}
	return found
}
