package sfapi

// facts is evidence as a set, so that neither order nor repetition counts.
type facts map[fact]bool

type fact struct{ test, result string }

func factsOf(evidence []Evidence) facts {
	f := make(facts, 2*len(evidence))
	for _, e := range evidence {
		f[fact{e.Test, e.Result}] = true
		f[fact{e.Test, ""}] = true
	}
	return f
}

// is reports whether test has one of the results.
func (f facts) is(test string, results ...string) bool {
	for _, r := range results {
		if f[fact{test, r}] {
			return true
		}
	}
	return false
}

// asked reports whether test has any result.
func (f facts) asked(test string) bool { return f[fact{test, ""}] }

// any reports whether one of the tests has the result.
func (f facts) any(result string, tests ...string) bool {
	for _, t := range tests {
		if f[fact{t, result}] {
			return true
		}
	}
	return false
}

// refreshRefused is whether the token endpoint refused.
func (f facts) refreshRefused() bool {
	return f.asked(testRefresh) && !f.is(testRefresh, resOK, resNotTried)
}

// freshRefused is whether a token that had just been issued was refused as if
// its session had ended.
func (f facts) freshRefused() bool {
	return f.is(testRefresh, resOK) && f.is(testRefusal, resRefused, resRefusedAPI)
}

// refusedAgain is whether the newest token is refused by the data API while it
// is known to be alive: what policies and read-only mode look like.
func (f facts) refusedAgain() bool {
	return f.freshRefused() && f.alive() && f.is(testQuery, resRefused, resRefusedAPI)
}

// worksNow is whether the REST API takes the newest token, after it had refused
// it or an older one.
func (f facts) worksNow() bool {
	return !f.refreshRefused() && f.is(testRefusal, resRefused, resRefusedAPI) && f.is(testQuery, resWritable, resAnswered)
}

// alive is whether anything accepts the token.
func (f facts) alive() bool {
	return f.any(resAccepted, testUserInfo, testIdentity) || f.is(testIntrospect, resActive, resActiveNoAPI)
}

// forAPI is whether a refusal said that the session is not for the REST API,
// which is what refreshing seldom cures. It is a hint: messages are localized.
//
// https://github.com/jsforce/jsforce/blob/main/src/connection.ts
func (f facts) forAPI() bool { return f.any(resRefusedAPI, testRefusal, testQuery) }

// recentMaintenance is the one thing that tells maintenance from a revocation
// where sessions are refused as well. Another connection that works speaks
// against it, since read-only mode knows no exceptions.
//
// https://github.com/forcedotcom/SalesforceMobileSDK-iOS/issues/2464
func (f facts) recentMaintenance() bool {
	return f.is(testMaintenance, resRecent) && !f.is(testSameOrg, resAllWorking, resMixed)
}

// diagnosisRule is one way to a verdict.
type diagnosisRule struct {
	cause  Cause
	advice string // instead of the cause's own
	holds  func(f facts) bool
}

func label(k Kind) string { return k.String() }

// certainRules settle the cause; the first that holds does. The token
// endpoint's verdicts stand first, since it alone knows the grant; then whose
// token it is; then what the answers' codes say; then what follows.
var certainRules = []diagnosisRule{
	{cause: CauseOrgInactive, holds: func(f facts) bool { return f.is(testRefresh, label(KindOrgInactive)) }},
	{cause: CauseUserInactive, holds: func(f facts) bool { return f.is(testRefresh, label(KindUserInactive)) }},
	{cause: CauseAppNotAllowed, holds: func(f facts) bool { return f.is(testRefresh, label(KindAppNotAllowed)) }},
	{cause: CauseIPRestricted, holds: func(f facts) bool { return f.is(testRefresh, label(KindIPRestricted)) }},
	{cause: CauseRevoked, holds: func(f facts) bool {
		return f.is(testRefresh, label(KindRevoked)) && f.is(testStored, resUnchanged)
	}},
	{cause: CauseWrongInstance, advice: adviceWrongOrg, holds: func(f facts) bool {
		return f.any(resWrongOrg, testToken, testUserInfo, testIdentity)
	}},
	{cause: CauseMaintenance, holds: func(f facts) bool {
		return f.any(label(KindMaintenance), testRefusal, testQuery) || f.is(testQuery, resReadOnly)
	}},
	{cause: CauseOrgInactive, holds: coded(KindOrgInactive)},
	{cause: CauseUserInactive, holds: coded(KindUserInactive)},
	{cause: CauseIPRestricted, holds: coded(KindIPRestricted)},
	{cause: CauseAppNotAllowed, holds: coded(KindAppNotAllowed)},
	{cause: CauseWrongInstance, holds: func(f facts) bool {
		return f.any(label(KindWrongInstance), testRefusal, testQuery) || f.is(testRequestHost, resOtherHost)
	}},
	{cause: CauseMaintenance, holds: func(f facts) bool { return f.freshRefused() && f.recentMaintenance() }},
	{cause: CauseExpired, holds: func(f facts) bool { return f.worksNow() && !f.forAPI() && !f.is(testEndpoint, resBulk) }},
	{cause: CauseIPRestricted, holds: func(f facts) bool { return f.freshRefused() && f.is(testOtherEgress, resAccepted) }},
	{cause: CauseAppNotAllowed, advice: adviceScope, holds: func(f facts) bool {
		return f.freshRefused() && (f.is(testScope, resNoAPI) || f.is(testIntrospect, resActiveNoAPI))
	}},
}

// coded is whether a call was answered with a code of that Kind.
func coded(k Kind) func(facts) bool {
	return func(f facts) bool { return f.any(label(k), testRefusal, testUserInfo, testIdentity, testQuery) }
}

// likelyRules are what fits best. They count only where all that hold agree and
// nothing rules their cause out.
var likelyRules = []diagnosisRule{
	{cause: CauseWrongInstance, holds: func(f facts) bool {
		return f.any(resNoSuchHost, testRefusal, testRefresh, testQuery, testVersions) ||
			f.is(testRefresh, label(KindWrongInstance)) ||
			f.is(testVersions, label(KindWrongInstance)) ||
			f.refusedAgain() && f.is(testInstance, resOtherHost)
	}},
	// The newest token works, though what was refused seldom passes by itself.
	{cause: CauseExpired, holds: func(f facts) bool { return f.worksNow() && !f.is(testEndpoint, resBulk) }},
	// It worked for long, and then our address changed. Session locks answer
	// "Session expired or invalid".
	{cause: CauseIPRestricted, holds: func(f facts) bool {
		return f.refusedAgain() && f.is(testWorked, resYes) && f.is(testEgress, resChanged) && !f.forAPI()
	}},
	// It never worked: a new connection that is let in and then refused. Others
	// that work in the org speak against it, unless the message speaks for it.
	{cause: CauseAppNotAllowed, holds: func(f facts) bool {
		return f.refusedAgain() && f.is(testWorked, resNo) && !f.is(testTrust, resInMaint) &&
			!f.is(testSameOrg, resAllRefused) && (f.forAPI() || !f.asked(testSameOrg))
	}},
	// The status site alone proves nothing, but here all else is in order.
	{cause: CauseMaintenance, holds: func(f facts) bool {
		return f.refusedAgain() && !f.is(testWorked, resNo) && (f.is(testTrust, resInMaint) || f.is(testMaintenance, resOld) && f.is(testSameOrg, resAllRefused))
	}},
}

// decide returns what evidence shows. It is pure: neither the order of evidence
// nor its details matter, and tests it does not know are ignored.
func decide(evidence []Evidence) Diagnosis {
	f := factsOf(evidence)
	d := Diagnosis{Cause: CauseUndetermined, Confidence: ConfidenceWeak, Evidence: evidence}
	for _, r := range certainRules {
		if r.holds(f) {
			d.Cause, d.Kind, d.Confidence, d.Advice = r.cause, r.cause.Kind(), ConfidenceCertain, adviceOf(r)
			return d
		}
	}
	candidates, out := weigh(f)
	var likely *diagnosisRule
	agree := true
	for i := range likelyRules {
		if r := &likelyRules[i]; r.holds(f) {
			agree = agree && !out[r.cause] && (likely == nil || likely.cause == r.cause)
			likely = r
		}
	}
	if likely != nil && agree {
		d.Cause, d.Kind, d.Confidence, d.Advice = likely.cause, likely.cause.Kind(), ConfidenceLikely, adviceOf(*likely)
		return d
	}
	d.Candidates = candidates
	d.Kind = otherKind(f)
	d.Advice = openAdvice(d.Kind, candidates)
	return d
}

// otherKind returns what the answers amount to where they show none of the
// causes.
func otherKind(f facts) Kind {
	if f.is(testRefresh, resUnavailable, resEdge420) {
		return KindServerUnavailable
	}
	for _, k := range [...]Kind{KindClientMisconfigured, KindLoginRateLimited, KindDailyLimit, KindConcurrentLimit} {
		if f.is(testRefresh, label(k)) {
			return k
		}
	}
	// These are answers to a session that was accepted.
	for _, k := range [...]Kind{KindAPIDisabled, KindVersionRetired, KindDailyLimit, KindConcurrentLimit} {
		if f.is(testQuery, label(k)) {
			return k
		}
	}
	if f.is(testVersions, resUnavailable) && !f.alive() {
		return KindServerUnavailable
	}
	return KindUnknown
}
