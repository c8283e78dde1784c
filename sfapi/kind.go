package sfapi

import (
	"fmt"
	"strconv"
)

// Kind is what a response means: the classifier's answer. The zero value is
// [KindNone], a response that reports no failure.
//
// A Kind says what happened; what may be done about it is its [Kind.Policy],
// whose table stands at [Kinds].
type Kind int

const (
	// KindNone means that the response reports no failure.
	KindNone Kind = iota

	// KindSessionExpired means that the access token was refused and that this
	// response alone cannot say why: refresh once, replay once, then diagnose.
	KindSessionExpired

	// KindWrongInstance means that the token is right and the host is wrong:
	// take instance_url from the newest token response.
	KindWrongInstance

	// KindIPRestricted means that a network or login-hours policy refused us.
	KindIPRestricted

	// KindAppNotAllowed means that the org blocks the OAuth app, has not
	// installed or approved it, or gave it too few scopes.
	KindAppNotAllowed

	// KindRevoked means that the refresh token is dead. Only a token endpoint
	// says so, and only after the stored token was read again is it believed:
	// a sibling may have rotated it seconds ago.
	KindRevoked

	// KindUserInactive means that the integration user is deactivated, locked
	// or has an expired password.
	KindUserInactive

	// KindOrgInactive means that the org is suspended, expired or deleted.
	KindOrgInactive

	// KindMaintenance means that the org is in read-only or maintenance mode:
	// writes and Bulk reads are refused, REST queries go on.
	KindMaintenance

	// KindServerUnavailable means trouble in the platform, the edge or a proxy.
	KindServerUnavailable

	// KindDailyLimit means that a rolling 24-hour allocation is used up.
	KindDailyLimit

	// KindConcurrentLimit means that too many requests are in flight.
	KindConcurrentLimit

	// KindLoginRateLimited means that too many tokens were asked for.
	KindLoginRateLimited

	// KindRowLock means contention for a record's lock.
	KindRowLock

	// KindQueryTimeout means that a query or request ran too long, or would
	// have had to look at too much.
	KindQueryTimeout

	// KindInvalidQueryLocator means that a server-side cursor is gone: restart
	// from a checkpoint.
	KindInvalidQueryLocator

	// KindBadRequest means that the call itself is wrong: schema, syntax, size
	// or method.
	KindBadRequest

	// KindNotFound means that a resource or record is absent or deleted.
	KindNotFound

	// KindPermission means that the user may not do this.
	KindPermission

	// KindValidation means that the data was refused.
	KindValidation

	// KindDuplicate means a unique or duplicate rule, or an external id that
	// matches several records.
	KindDuplicate

	// KindStorageLimit means that the org is out of data storage.
	KindStorageLimit

	// KindConflict means an optimistic lock, an approval lock or a job in the
	// wrong state.
	KindConflict

	// KindAPIDisabled means that the API is not available to the org or user.
	KindAPIDisabled

	// KindVersionRetired means that this API version is no longer served.
	KindVersionRetired

	// KindClientMisconfigured means that our own OAuth request or credentials
	// are wrong. It never means that a customer revoked anything.
	KindClientMisconfigured

	// KindUnknown means that none of the others can be justified.
	KindUnknown

	kindCount
)

var kindNames = [kindCount]string{
	KindNone:                "ok",
	KindSessionExpired:      "session_expired_or_invalid",
	KindWrongInstance:       "wrong_instance",
	KindIPRestricted:        "ip_restricted",
	KindAppNotAllowed:       "app_not_allowed",
	KindRevoked:             "revoked",
	KindUserInactive:        "user_inactive",
	KindOrgInactive:         "org_inactive",
	KindMaintenance:         "maintenance_readonly",
	KindServerUnavailable:   "server_unavailable",
	KindDailyLimit:          "daily_limit",
	KindConcurrentLimit:     "concurrent_limit",
	KindLoginRateLimited:    "login_rate_limited",
	KindRowLock:             "row_lock",
	KindQueryTimeout:        "query_timeout",
	KindInvalidQueryLocator: "invalid_query_locator",
	KindBadRequest:          "bad_request",
	KindNotFound:            "not_found",
	KindPermission:          "permission",
	KindValidation:          "validation",
	KindDuplicate:           "duplicate",
	KindStorageLimit:        "storage_limit",
	KindConflict:            "conflict",
	KindAPIDisabled:         "api_disabled",
	KindVersionRetired:      "version_retired",
	KindClientMisconfigured: "client_misconfigured",
	KindUnknown:             "unknown",
}

// String returns the label of k, such as "daily_limit", and "ok" for
// [KindNone]. Labels are stable: they are stored and logged.
func (k Kind) String() string {
	if k < 0 || k >= kindCount {
		return "Kind(" + strconv.Itoa(int(k)) + ")"
	}
	return kindNames[k]
}

// ParseKind is the inverse of [Kind.String]. It accepts labels only, exactly as
// String prints them.
func ParseKind(label string) (Kind, error) {
	for k, name := range kindNames {
		if name == label {
			return Kind(k), nil
		}
	}
	return KindUnknown, fmt.Errorf("parse kind: no kind is called %q", label)
}

// MarshalText returns the label of k and fails for a value that is no Kind.
func (k Kind) MarshalText() ([]byte, error) {
	if k < 0 || k >= kindCount {
		return nil, fmt.Errorf("marshal kind: %d is no kind", int(k))
	}
	return []byte(kindNames[k]), nil
}

// UnmarshalText sets k from a label and leaves it alone when the label is
// unknown.
func (k *Kind) UnmarshalText(text []byte) error {
	parsed, err := ParseKind(string(text))
	if err != nil {
		return err
	}
	*k = parsed
	return nil
}
