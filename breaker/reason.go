package breaker

import (
	"errors"
	"fmt"
	"slices"
)

// ErrUnknownReason is wrapped by the error of [ParseReason].
var ErrUnknownReason = errors.New("unknown hold reason")

// Reason names why an org is held. The values are part of the HTTP contract
// and of what is stored: they never change.
type Reason string

const (
	// ReasonMaintenance means that the org is in read-only or maintenance mode.
	ReasonMaintenance Reason = "maintenance"
	// ReasonUnavailable means that the org, or what stands before it, failed
	// several calls in a row.
	ReasonUnavailable Reason = "unavailable"
	// ReasonDailyLimit means that the rolling 24-hour API allocation is used up.
	ReasonDailyLimit Reason = "daily_limit"
	// ReasonLoginRate means that too many tokens were asked for.
	ReasonLoginRate Reason = "login_rate"
	// ReasonReauth means that the grant is dead: somebody must connect again.
	ReasonReauth Reason = "reauth"
	// ReasonIPRestricted means that a network or login-hours policy refused us.
	ReasonIPRestricted Reason = "ip_restricted"
	// ReasonAppNotAllowed means that the org blocks the OAuth app.
	ReasonAppNotAllowed Reason = "app_not_allowed"
	// ReasonUserInactive means that the integration user cannot log in.
	ReasonUserInactive Reason = "user_inactive"
	// ReasonOrgInactive means that the org is suspended, expired or deleted.
	ReasonOrgInactive Reason = "org_inactive"
	// ReasonAPIDisabled means that the org or user has no API access.
	ReasonAPIDisabled Reason = "api_disabled"
	// ReasonWrongInstance means that the org does not answer at the host its
	// newest token named.
	ReasonWrongInstance Reason = "wrong_instance"
	// ReasonStorageLimit means that the org is out of data storage.
	ReasonStorageLimit Reason = "storage_limit"
	// ReasonClientConfig means that our own client id, secret or audience is
	// wrong. It holds, and never revokes.
	ReasonClientConfig Reason = "client_config"
	// ReasonOperator means that an operator paused the lanes.
	ReasonOperator Reason = "operator"
	// ReasonUndetermined means that a fresh token is refused and the evidence
	// does not say why.
	ReasonUndetermined Reason = "undetermined"
)

var reasons = []Reason{
	ReasonMaintenance, ReasonUnavailable, ReasonDailyLimit, ReasonLoginRate, ReasonReauth,
	ReasonIPRestricted, ReasonAppNotAllowed, ReasonUserInactive, ReasonOrgInactive,
	ReasonAPIDisabled, ReasonWrongInstance, ReasonStorageLimit, ReasonClientConfig,
	ReasonOperator, ReasonUndetermined,
}

// Reasons returns every reason there is, in the order of the documentation.
func Reasons() []Reason { return slices.Clone(reasons) }

// String returns the reason as it is written.
func (r Reason) String() string { return string(r) }

// Valid reports whether r is one of [Reasons].
func (r Reason) Valid() bool { return slices.Contains(reasons, r) }

// ParseReason returns the reason that s names. The error wraps
// [ErrUnknownReason].
func ParseReason(s string) (Reason, error) {
	if r := Reason(s); r.Valid() {
		return r, nil
	}
	return "", fmt.Errorf("parse hold reason %.40q: %w", s, ErrUnknownReason)
}

// UnmarshalText implements [encoding.TextUnmarshaler]. The error wraps
// [ErrUnknownReason]: a process that does not know a reason does not know when
// its hold ends either, and must not treat the org as free.
func (r *Reason) UnmarshalText(text []byte) error {
	parsed, err := ParseReason(string(text))
	if err != nil {
		return err
	}
	*r = parsed
	return nil
}

// Cause is why a grant must be renewed, as the event org.reauth_required tells
// it.
type Cause string

const (
	// CauseRevoked means that the token endpoint declared the grant dead, after
	// the stored token had been read again.
	CauseRevoked Cause = "revoked"
	// CauseRefreshOutcomeUnknown means that a process died between asking for
	// new tokens and saving them, and that the guarded replay failed.
	CauseRefreshOutcomeUnknown Cause = "refresh_outcome_unknown"
	// CauseUserInactive means that the integration user was deactivated, locked
	// or has an expired password.
	CauseUserInactive Cause = "user_inactive"
)
