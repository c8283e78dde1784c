package sfapi

import (
	"maps"
	"slices"
)

// MaxExtraCalls is the bound of one diagnosis.
const MaxExtraCalls = maxExtraCalls

// Decide is the pure half of Diagnose.
func Decide(evidence []Evidence) Diagnosis { return decide(evidence) }

// NextTest is what is asked after evidence.
func NextTest(evidence []Evidence, noIntrospect bool) string { return nextTest(evidence, noIntrospect) }

// Weighed returns the evidence that has a weight, in a fixed order.
func Weighed() []Evidence {
	var all []Evidence
	for f := range maps.Keys(weights) {
		all = append(all, Evidence{Test: f.test, Result: f.result})
	}
	slices.SortFunc(all, func(a, b Evidence) int {
		if a.Test+a.Result < b.Test+b.Result {
			return -1
		}
		return 1
	})
	return all
}

// Advices returns every text for admins.
func Advices() []string {
	all := []string{adviceWrongOrg, adviceScope, openAdvice(KindUnknown, nil), openAdvice(KindUnknown, causeOrder[:maxCandidates]), openAdvice(KindUnknown, causeOrder[maxCandidates:])}
	for _, a := range causeAdvice {
		all = append(all, a.full)
	}
	return slices.AppendSeq(all, maps.Values(kindAdvice))
}
