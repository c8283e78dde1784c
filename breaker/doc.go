// Package breaker decides what a Salesforce org's answers do to the org: which
// of its lanes are held, why, until when, and how many calls may run at once.
// It decides and does nothing: no clock, no I/O, no database.
//
// An org's [State] is a set of holds. Each [Hold] has a [Reason], stops one or
// both lanes and has its own exit; a lane runs while no hold covers it. What
// happens to the org reaches the breaker as an [Observation], and
// [Breaker.Next] returns the state that follows and the effects that take the
// world there. It is a pure function, so that the caller can run it again when
// a compare-and-set failed, and so that the rules can be read off two tables:
// [KindRules], what an answer does, and [ReasonRules], how a hold ends.
//
// Time and chance come in with the observation: every decision that depends on
// them can be replayed.
//
// [Counters] is the one part with a memory of its own: it counts, in one
// process, the calls in a row that found an org unavailable.
package breaker
