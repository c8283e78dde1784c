package breaker

import (
	"fmt"
	"slices"
	"strings"

	"github.com/weirhq/weir/sfapi"
)

// Action is what a failed call does to the org.
type Action uint8

const (
	// Nothing leaves the org alone: the record or the job has the problem.
	Nothing Action = iota
	// HoldAtOnce places a hold at the first error.
	HoldAtOnce
	// HoldWhenCounted places a hold after [Config.FailureThreshold] errors in a
	// row.
	HoldWhenCounted
	// Shrink halves the org's parallelism and holds nothing.
	Shrink
)

// String returns the action in a word or two.
func (a Action) String() string {
	switch a {
	case HoldAtOnce:
		return "hold"
	case HoldWhenCounted:
		return "count"
	case Shrink:
		return "shrink"
	default:
		return "nothing"
	}
}

// Proof is what an answer proves about an org that is being tried after a
// hold.
type Proof uint8

const (
	// ProvesNothing: the call may never have reached the org's data.
	ProvesNothing Proof = iota
	// ProvesServing: the org took the call and judged it, so it is available.
	ProvesServing
	// ProvesWriting: the org got as far as its own rules for the record, which
	// it applies after it has accepted to write at all.
	ProvesWriting
)

// KindRule is one row of the table of what an answer does.
type KindRule struct {
	Kind   sfapi.Kind
	Action Action
	// Reason is the hold that HoldAtOnce and HoldWhenCounted place.
	Reason Reason
	// Proof counts where the org is on trial.
	Proof Proof
}

// KindRules returns what each Kind does to the org, one row a Kind.
//
// Session errors come here only after a refresh and a replay, with a
// diagnosis ([Observation.Diagnosis]) whose row then applies; without one the
// row below does. A revocation that nobody confirmed is undetermined, too:
// https://help.salesforce.com/s/articleView?id=xcloud.remoteaccess_oauth_flow_errors.htm
// lists invalid_grant for causes that are no revocation.
func KindRules() []KindRule { return slices.Clone(kindRules) }

var kindRules = []KindRule{
	{sfapi.KindNone, Nothing, "", ProvesWriting},
	{sfapi.KindSessionExpired, HoldAtOnce, ReasonUndetermined, ProvesNothing},
	{sfapi.KindWrongInstance, HoldAtOnce, ReasonWrongInstance, ProvesNothing},
	{sfapi.KindIPRestricted, HoldAtOnce, ReasonIPRestricted, ProvesNothing},
	{sfapi.KindAppNotAllowed, HoldAtOnce, ReasonAppNotAllowed, ProvesNothing},
	{sfapi.KindRevoked, HoldAtOnce, ReasonReauth, ProvesNothing},
	{sfapi.KindUserInactive, HoldAtOnce, ReasonUserInactive, ProvesNothing},
	{sfapi.KindOrgInactive, HoldAtOnce, ReasonOrgInactive, ProvesNothing},
	{sfapi.KindMaintenance, HoldAtOnce, ReasonMaintenance, ProvesServing},
	{sfapi.KindServerUnavailable, HoldWhenCounted, ReasonUnavailable, ProvesNothing},
	{sfapi.KindDailyLimit, HoldAtOnce, ReasonDailyLimit, ProvesServing},
	{sfapi.KindConcurrentLimit, Shrink, "", ProvesNothing},
	{sfapi.KindLoginRateLimited, HoldAtOnce, ReasonLoginRate, ProvesNothing},
	{sfapi.KindRowLock, Nothing, "", ProvesWriting},
	{sfapi.KindQueryTimeout, Nothing, "", ProvesServing},
	{sfapi.KindInvalidQueryLocator, Nothing, "", ProvesServing},
	{sfapi.KindBadRequest, Nothing, "", ProvesServing},
	{sfapi.KindNotFound, Nothing, "", ProvesServing},
	{sfapi.KindPermission, Nothing, "", ProvesServing},
	{sfapi.KindValidation, Nothing, "", ProvesWriting},
	{sfapi.KindDuplicate, Nothing, "", ProvesWriting},
	{sfapi.KindStorageLimit, HoldAtOnce, ReasonStorageLimit, ProvesWriting},
	{sfapi.KindConflict, Nothing, "", ProvesServing},
	{sfapi.KindAPIDisabled, HoldAtOnce, ReasonAPIDisabled, ProvesNothing},
	{sfapi.KindVersionRetired, Nothing, "", ProvesServing},
	{sfapi.KindClientMisconfigured, HoldAtOnce, ReasonClientConfig, ProvesNothing},
	{sfapi.KindUnknown, Nothing, "", ProvesNothing},
}

// ruleOf returns the row of k. A Kind without a row does nothing: what cannot
// be justified holds nobody and revokes nothing.
func ruleOf(k sfapi.Kind) KindRule {
	if i := int(k); i >= 0 && i < len(kindRules) && kindRules[i].Kind == k {
		return kindRules[i]
	}
	for _, r := range kindRules {
		if r.Kind == k {
			return r
		}
	}
	return KindRule{Kind: k}
}

// Exits is the set of ways in which a hold can end.
type Exits uint8

const (
	// ByProbe: a probe finds the condition gone.
	ByProbe Exits = 1 << iota
	// ByTrial: after the probe, trial calls succeed at growing windows.
	ByTrial
	// ByTime: the hold ends when its time has come.
	ByTime
	// ByReconnect: somebody grants access again.
	ByReconnect
	// ByOperator: an operator resumes the lane.
	ByOperator
)

// Has reports whether every exit of other is in the set.
func (e Exits) Has(other Exits) bool { return e&other == other }

// String returns the exits joined by "+".
func (e Exits) String() string {
	names := [...]string{"probe", "trial", "time", "reconnect", "operator"}
	var set []string
	for i, name := range names {
		if e&(1<<i) != 0 {
			set = append(set, name)
		}
	}
	return strings.Join(set, "+")
}

// Probe is the question that finds out whether a hold is over.
type Probe uint8

const (
	// ProbeNone: no call can tell.
	ProbeNone Probe = iota
	// ProbeOrganization asks SELECT IsReadOnly FROM Organization over REST.
	// Bulk reads are refused in read-only mode, so Bulk would say nothing.
	ProbeOrganization
	// ProbeLimits asks /services/data/vXX.0/limits.
	ProbeLimits
	// ProbeCall asks userinfo and makes one small REST call with the token at
	// hand, refreshed where it has expired.
	ProbeCall
	// ProbeToken asks the token endpoint for a new token and makes one small
	// REST call with it.
	ProbeToken
)

// String returns the name of the probe, as probe jobs carry it.
func (p Probe) String() string {
	switch p {
	case ProbeOrganization:
		return "organization"
	case ProbeLimits:
		return "limits"
	case ProbeCall:
		return "call"
	case ProbeToken:
		return "token"
	default:
		return "none"
	}
}

// Pace is the schedule of a hold's probes; see [Breaker.ProbeDelay].
type Pace uint8

const (
	// PaceNone: the hold is not probed by a schedule.
	PaceNone Pace = iota
	// PaceNormal starts at [Config.ProbeMin].
	PaceNormal
	// PaceDaily starts at a minute or twice ProbeMin, whichever is longer, and
	// never goes below a minute: each probe costs a call of the allocation that
	// is used up.
	PaceDaily
	// PaceSlow starts at ten times ProbeMin: a person has to change a setting.
	PaceSlow
)

// String returns the name of the pace.
func (p Pace) String() string {
	switch p {
	case PaceNormal:
		return "normal"
	case PaceDaily:
		return "daily"
	case PaceSlow:
		return "slow"
	default:
		return "none"
	}
}

// ReasonRule is one row of the table of how a hold behaves and ends.
type ReasonRule struct {
	Reason Reason
	// Lanes are the lanes the hold covers. Empty means the lane of the call, or
	// those that the operator named.
	Lanes Lanes
	Exits Exits
	Probe Probe
	Pace  Pace
	// Cancels says that the org's jobs are cancelled when the hold is placed.
	Cancels bool
	// Reauth says that the event org.reauth_required goes out with it.
	Reauth bool
	// Credential says that the condition belongs to the token the call was
	// made with: an answer to an older token places nothing, and a new grant
	// ends the hold.
	Credential bool
}

// ReasonRules returns how the hold of each reason behaves, one row a reason.
func ReasonRules() []ReasonRule { return slices.Clone(reasonRules) }

var reasonRules = []ReasonRule{
	{Reason: ReasonMaintenance, Lanes: LanesOf(Write), Exits: ByProbe | ByTrial, Probe: ProbeOrganization, Pace: PaceNormal},
	{Reason: ReasonUnavailable, Exits: ByProbe | ByTrial, Probe: ProbeCall, Pace: PaceNormal},
	{Reason: ReasonDailyLimit, Lanes: BothLanes, Exits: ByProbe, Probe: ProbeLimits, Pace: PaceDaily},
	{Reason: ReasonLoginRate, Lanes: BothLanes, Exits: ByTime | ByProbe, Probe: ProbeToken},
	{Reason: ReasonReauth, Lanes: BothLanes, Exits: ByReconnect, Cancels: true, Reauth: true, Credential: true},
	{Reason: ReasonIPRestricted, Lanes: BothLanes, Exits: ByProbe | ByReconnect, Probe: ProbeCall, Pace: PaceSlow, Credential: true},
	{Reason: ReasonAppNotAllowed, Lanes: BothLanes, Exits: ByProbe | ByReconnect, Probe: ProbeCall, Pace: PaceSlow, Credential: true},
	{Reason: ReasonUserInactive, Lanes: BothLanes, Exits: ByProbe | ByReconnect, Probe: ProbeToken, Pace: PaceSlow, Reauth: true, Credential: true},
	{Reason: ReasonOrgInactive, Lanes: BothLanes, Exits: ByProbe | ByReconnect, Probe: ProbeToken, Pace: PaceSlow, Cancels: true, Credential: true},
	{Reason: ReasonAPIDisabled, Lanes: BothLanes, Exits: ByProbe | ByReconnect, Probe: ProbeCall, Pace: PaceSlow, Credential: true},
	{Reason: ReasonWrongInstance, Lanes: BothLanes, Exits: ByProbe | ByReconnect, Probe: ProbeToken, Pace: PaceSlow, Credential: true},
	{Reason: ReasonStorageLimit, Lanes: LanesOf(Write), Exits: ByProbe, Probe: ProbeLimits, Pace: PaceSlow},
	{Reason: ReasonClientConfig, Lanes: BothLanes, Exits: ByProbe | ByReconnect, Probe: ProbeToken, Pace: PaceSlow, Credential: true},
	{Reason: ReasonOperator, Exits: ByOperator},
	{Reason: ReasonUndetermined, Lanes: BothLanes, Exits: ByProbe | ByReconnect, Probe: ProbeCall, Pace: PaceSlow, Credential: true},
}

// Rule returns the row of r, and a row that nothing ends for what is no
// reason.
func (r Reason) Rule() ReasonRule {
	for i := range reasonRules {
		if reasonRules[i].Reason == r {
			return reasonRules[i]
		}
	}
	return ReasonRule{Reason: r}
}

// String returns the row as one line.
func (r KindRule) String() string {
	if r.Reason == "" {
		return fmt.Sprintf("%s: %s", r.Kind, r.Action)
	}
	return fmt.Sprintf("%s: %s %s", r.Kind, r.Action, r.Reason)
}

// String returns the row as one line.
func (r ReasonRule) String() string {
	lanes := r.Lanes.String()
	if r.Lanes.Empty() {
		lanes = "its own"
	}
	line := fmt.Sprintf("%s: lanes %s, ends by %s", r.Reason, lanes, r.Exits)
	if r.Probe != ProbeNone {
		line += ", probe " + r.Probe.String()
	}
	if r.Pace != PaceNone {
		line += ", pace " + r.Pace.String()
	}
	if r.Cancels {
		line += ", cancels jobs"
	}
	if r.Reauth {
		line += ", asks to reconnect"
	}
	return line
}
