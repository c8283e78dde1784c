package sfapi

import "errors"

// KindPolicy is what a caller may do about a Kind. [Kinds] lists all of them.
type KindPolicy struct {
	// Retry says that the very same request may be sent again later and may
	// then succeed. A write whose outcome is unknown needs a look first: see
	// [OutcomeUnknown].
	Retry bool

	// Refresh says that a fresh token, or the host that comes with it, may
	// cure it: refresh once, replay once.
	Refresh bool

	// Org says that it is evidence about the org or the connection, which
	// other jobs of that org will meet too. Everything else is the affair of
	// one request or record and must not count against the org.
	Org bool

	// Reauth says that nothing but a new authorization or an administrator's
	// act ends it.
	Reauth bool
}

// kindPolicies is the table that [Kinds] documents.
var kindPolicies = [kindCount]KindPolicy{
	KindSessionExpired:      {Retry: true, Refresh: true, Org: true},
	KindWrongInstance:       {Refresh: true, Org: true},
	KindIPRestricted:        {Org: true, Reauth: true},
	KindAppNotAllowed:       {Org: true, Reauth: true},
	KindRevoked:             {Org: true, Reauth: true},
	KindUserInactive:        {Org: true, Reauth: true},
	KindOrgInactive:         {Org: true, Reauth: true},
	KindMaintenance:         {Retry: true, Org: true},
	KindServerUnavailable:   {Retry: true, Org: true},
	KindDailyLimit:          {Retry: true, Org: true},
	KindConcurrentLimit:     {Retry: true, Org: true},
	KindLoginRateLimited:    {Retry: true, Org: true},
	KindRowLock:             {Retry: true},
	KindQueryTimeout:        {Retry: true},
	KindInvalidQueryLocator: {},
	KindStorageLimit:        {Org: true},
	KindAPIDisabled:         {Org: true, Reauth: true},
	KindVersionRetired:      {Org: true},
	KindClientMisconfigured: {Org: true},
}

// Kinds returns every Kind but [KindNone] with what a caller may do about it.
//
//	kind                        retry  refresh  org  reauth
//	session_expired_or_invalid  yes    yes      yes  -
//	wrong_instance              -      yes      yes  -
//	ip_restricted               -      -        yes  yes
//	app_not_allowed             -      -        yes  yes
//	revoked                     -      -        yes  yes
//	user_inactive               -      -        yes  yes
//	org_inactive                -      -        yes  yes
//	maintenance_readonly        yes    -        yes  -
//	server_unavailable          yes    -        yes  -
//	daily_limit                 yes    -        yes  -
//	concurrent_limit            yes    -        yes  -
//	login_rate_limited          yes    -        yes  -
//	row_lock                    yes    -        -    -
//	query_timeout               yes    -        -    -
//	invalid_query_locator       -      -        -    -
//	bad_request                 -      -        -    -
//	not_found                   -      -        -    -
//	permission                  -      -        -    -
//	validation                  -      -        -    -
//	duplicate                   -      -        -    -
//	storage_limit               -      -        yes  -
//	conflict                    -      -        -    -
//	api_disabled                -      -        yes  yes
//	version_retired             -      -        yes  -
//	client_misconfigured        -      -        yes  -
//	unknown                     -      -        -    -
//
// A cursor that is gone is cured by starting again from a checkpoint, which is
// another request, so invalid_query_locator is not retried although it passes.
// Where a single code differs from its Kind, [Classification.Transient] says
// so and [Retryable] follows it.
func Kinds() map[Kind]KindPolicy {
	all := make(map[Kind]KindPolicy, kindCount-1)
	for k := KindNone + 1; k < kindCount; k++ {
		all[k] = kindPolicies[k]
	}
	return all
}

// Policy returns what a caller may do about k.
func (k Kind) Policy() KindPolicy {
	if k < 0 || k >= kindCount {
		return KindPolicy{}
	}
	return kindPolicies[k]
}

// KindOf returns the Kind of the [Error] in err's chain, [KindNone] for nil and
// [KindUnknown] for errors that are not ours.
func KindOf(err error) Kind {
	if err == nil {
		return KindNone
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return KindUnknown
}

// Retryable is whether the same request may be sent again, after a wait, and
// may then succeed. For a write see [OutcomeUnknown] first.
func Retryable(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && (e.Kind.Policy().Retry && e.Transient || e.Kind == KindIPRestricted && e.Transient)
}

// NeedsRefresh is whether the request may succeed with a fresh token or on the
// host that a token response names. The token endpoint's own errors never do.
func NeedsRefresh(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Kind.Policy().Refresh
}

// OutcomeUnknown is whether err leaves it open if a write happened: the
// response was lost, or the server gave up on its side. Such a write is not to
// be repeated blindly.
func OutcomeUnknown(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.OutcomeUnknown
}

// CountsAgainstOrg is whether err is evidence about the org or the connection,
// which other jobs will meet too. A caller's own cancellation never is.
func CountsAgainstOrg(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Kind.Policy().Org && e.Scope != ScopeRequest && e.Scope != ScopeRecord
}

// NeedsReauth is whether nothing but a new authorization or an administrator's
// act ends err.
func NeedsReauth(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Kind.Policy().Reauth && !e.Transient
}
