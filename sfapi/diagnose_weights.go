package sfapi

import (
	"cmp"
	"slices"
)

// rulesOut is the weight of evidence that a cause cannot stand against.
const rulesOut = -100

// maxCandidates is how many causes an undetermined verdict names.
const maxCandidates = 4

// weights is how much a result speaks for or against the causes. It orders
// candidates, and withdraws a likely verdict whose cause it rules out; it never
// makes one.
var weights = map[fact]map[Cause]int{
	{testRefusal, resRefused}:     {CauseIPRestricted: 1, CauseExpired: 1, CauseWrongInstance: 1, CauseAppNotAllowed: 1, CauseMaintenance: 1},
	{testRefusal, resRefusedAPI}:  {CauseAppNotAllowed: 3, CauseMaintenance: 2, CauseIPRestricted: 1, CauseWrongInstance: 1},
	{testQuery, resRefused}:       {CauseIPRestricted: 1, CauseExpired: -1},
	{testQuery, resRefusedAPI}:    {CauseAppNotAllowed: 1, CauseMaintenance: 1, CauseExpired: -1},
	{testQuery, resNoSuchHost}:    {CauseWrongInstance: 3},
	{testQuery, resEdge420}:       {CauseOrgInactive: 2},
	{testUserInfo, resEdge420}:    {CauseOrgInactive: 2},
	{testUserInfo, resNoSuchHost}: {CauseWrongInstance: 3},
	{testVersions, resNoSuchHost}: {CauseWrongInstance: 3},
	{testVersions, resEdge420}:    {CauseOrgInactive: 2},
	{testVersions, resAnswered}:   {CauseOrgInactive: -1},

	{testEndpoint, resBulk}: {CauseMaintenance: 2},

	{testRefresh, resOK}:                          {CauseRevoked: rulesOut, CauseOrgInactive: -2, CauseExpired: -3},
	{testRefresh, resNotTried}:                    {CauseExpired: 3, CauseRevoked: 2, CauseUserInactive: 1},
	{testRefresh, label(KindRevoked)}:             {CauseRevoked: 4, CauseUserInactive: 2, CauseExpired: 1},
	{testRefresh, label(KindClientMisconfigured)}: {CauseUserInactive: 1, CauseIPRestricted: 1, CauseAppNotAllowed: 1, CauseRevoked: rulesOut},
	{testRefresh, label(KindWrongInstance)}:       {CauseWrongInstance: 3},
	{testRefresh, resNoSuchHost}:                  {CauseWrongInstance: 3},

	{testUserInfo, resAccepted}:     {CauseExpired: -2, CauseUserInactive: rulesOut, CauseOrgInactive: rulesOut},
	{testIdentity, resAccepted}:     {CauseExpired: -2, CauseUserInactive: rulesOut, CauseOrgInactive: rulesOut},
	{testUserInfo, resRefused}:      {CauseAppNotAllowed: 1, CauseUserInactive: 1, CauseRevoked: 2, CauseExpired: 1},
	{testIntrospect, resActive}:     {CauseExpired: -2, CauseOrgInactive: -2},
	{testIntrospect, resInactive}:   {CauseExpired: 1},
	{testScope, resNoAPI}:           {CauseAppNotAllowed: 4},
	{testInstance, resOtherHost}:    {CauseWrongInstance: 4},
	{testInstance, resChanged}:      {CauseWrongInstance: 2},
	{testWorked, resYes}:            {CauseIPRestricted: 2, CauseMaintenance: 1},
	{testWorked, resNo}:             {CauseAppNotAllowed: 3, CauseIPRestricted: -1, CauseMaintenance: -1},
	{testEgress, resChanged}:        {CauseIPRestricted: 3},
	{testEgress, resUnchanged}:      {CauseIPRestricted: -2},
	{testOtherEgress, resAccepted}:  {CauseIPRestricted: 4},
	{testOtherEgress, resRefused}:   {CauseIPRestricted: rulesOut},
	{testSameOrg, resAllWorking}:    {CauseMaintenance: rulesOut, CauseOrgInactive: rulesOut, CauseAppNotAllowed: 1},
	{testSameOrg, resMixed}:         {CauseMaintenance: rulesOut, CauseOrgInactive: rulesOut, CauseIPRestricted: 1},
	{testSameOrg, resAllRefused}:    {CauseMaintenance: 3, CauseOrgInactive: 2},
	{testSameApp, resAllRefused}:    {CauseIPRestricted: 3, CauseMaintenance: -2, CauseOrgInactive: -2},
	{testMaintenance, resRecent}:    {CauseMaintenance: 4},
	{testMaintenance, resOld}:       {CauseMaintenance: 1},
	{testTrust, resInMaint}:         {CauseMaintenance: 3},
	{testRequestHost, resOtherHost}: {CauseWrongInstance: 4},
}

// causeOrder breaks ties: what an admin can see fastest goes first.
var causeOrder = []Cause{
	CauseIPRestricted, CauseAppNotAllowed, CauseMaintenance, CauseUserInactive,
	CauseWrongInstance, CauseRevoked, CauseExpired, CauseOrgInactive,
}

// weigh returns the causes that something speaks for, the likeliest first, and
// those that are ruled out.
func weigh(f facts) (candidates []Cause, out map[Cause]bool) {
	score := map[Cause]int{}
	out = map[Cause]bool{}
	for seen := range f {
		for cause, w := range weights[seen] {
			if w == rulesOut {
				out[cause] = true
			} else {
				score[cause] += w
			}
		}
	}
	for _, cause := range causeOrder {
		if score[cause] > 0 && !out[cause] {
			candidates = append(candidates, cause)
		}
	}
	slices.SortStableFunc(candidates, func(a, b Cause) int { return cmp.Compare(score[b], score[a]) })
	return candidates[:min(len(candidates), maxCandidates)], out
}
