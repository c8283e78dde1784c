package token

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/weirhq/weir/sfapi"
)

// ErrUnconfirmed is wrapped by the errors of refusals that could not be checked
// against the stored grant. It says nothing about the org.
var ErrUnconfirmed = errors.New("refusal could not be confirmed")

// ErrOutcomeUnknown is wrapped by the errors of exchanges whose answer did not
// arrive: the refresh token may be spent. The attempt stays on record.
var ErrOutcomeUnknown = errors.New("outcome of the token request is unknown")

// Cause says why a grant was refused.
type Cause string

// The causes of a Verdict.
const (
	// CauseRefused is the token endpoint's plain answer.
	CauseRefused Cause = "refused"
	// CauseOutcomeUnknown is a grant that is gone after an exchange whose
	// answer never arrived: most likely the answer held the token that would
	// be good now.
	CauseOutcomeUnknown Cause = "refresh_outcome_unknown"
	// CauseOtherOrg is a grant that turned out to be another org's.
	CauseOtherOrg Cause = "other_org"
)

// Verdict is a refusal of an org's grant that does not pass by itself, or the
// limit on logins.
type Verdict struct {
	Org        sfapi.OrgID
	Generation int64 // of the credential that was refused

	// Kind is sfapi.KindRevoked only where the stored grant was read again and
	// is still the refused one.
	Kind  sfapi.Kind
	Cause Cause

	// RetryAfter is how long this process asks no more for this org.
	RetryAfter time.Duration

	// Err is the answer.
	Err *sfapi.Error
}

// RefusedError is a Verdict as an error.
type RefusedError struct{ Verdict *Verdict }

// Error names the kind, the cause where it is not plain, and the answer.
func (e *RefusedError) Error() string {
	v := e.Verdict
	if v.Cause == CauseRefused {
		return "grant refused (" + v.Kind.String() + "): " + v.Err.Error()
	}
	return "grant refused (" + v.Kind.String() + ", " + string(v.Cause) + "): " + v.Err.Error()
}

// Unwrap returns the *sfapi.Error of the token endpoint.
func (e *RefusedError) Unwrap() error { return e.Verdict.Err }

// unconfirmed hides a refusal from errors.As: nobody may act on it.
type unconfirmed struct {
	answer string
	err    error
}

func (e *unconfirmed) Error() string {
	return ErrUnconfirmed.Error() + ": " + e.answer + ": " + e.err.Error()
}

func (e *unconfirmed) Unwrap() []error { return []error{ErrUnconfirmed, e.err} }

// undecided is the error of an exchange that stopped before it knew what the
// answer err means for the grant. It stands for a moment.
func (o *org) undecided(generation int64, err, stop error) error {
	if judge(err) == answerRevoked {
		err = &unconfirmed{err.Error(), stop}
	} else {
		err = fmt.Errorf("%w (not tried again: %w)", err, stop)
	}
	o.refuse(generation, err, passingWindow, 0)
	return err
}

// Reason says why a token was asked for.
type Reason string

// The reasons of a Call.
const (
	ReasonRefused Reason = "refused" // the access token was refused, or is the first
	ReasonAhead   Reason = "ahead"   // its session is about to end
	ReasonReplay  Reason = "replay"  // the answer to an earlier request is unknown
	ReasonConfirm Reason = "confirm" // the refresh token was refused once
	ReasonRetry   Reason = "retry"   // the endpoint asked to try again
)

// Call is a token request that was made.
type Call struct {
	Org        sfapi.OrgID
	UserID     string
	Generation int64 // of the credential that was exchanged
	Reason     Reason
	At         time.Time
	Took       time.Duration
	Err        error // nil for a token
}

// answer is what an exchange's outcome means for the exchange.
type answer int

const (
	answerToken   answer = iota
	answerLasting        // refused, and will be: a verdict
	answerRevoked        // the refresh token is dead, if the stored one is the same
	answerLogins         // too many logins
	answerPassing        // no token was issued this time
	answerUnknown        // a token may have been issued
)

// judge says what err means. Its first question is whether the refresh token
// may be spent, its last whether the org refused us: it takes what it does not
// know for neither spent nor refused where an answer arrived, and for spent
// where none did.
func judge(err error) answer {
	if err == nil {
		return answerToken
	}
	var e *sfapi.Error
	if !errors.As(err, &e) {
		// The App returns plain errors for requests that it cannot make.
		if neverLeft(err) || errors.Is(err, sfapi.ErrInvalidURL) {
			return answerPassing
		}
		return answerUnknown
	}
	switch {
	case e.Status == 0 && neverLeft(err):
		return answerPassing
	case e.Status < 300:
		// No answer, or a success that could not be read.
		return answerUnknown
	case e.Status >= 500 && e.Status != 503:
		// A gateway that gave up, or a server that failed half-way. 503 says
		// that the request was not taken.
		return answerUnknown
	case beingProcessed(e):
		return answerPassing
	}
	switch e.Kind {
	case sfapi.KindRevoked:
		return answerRevoked
	case sfapi.KindLoginRateLimited:
		return answerLogins
	case sfapi.KindServerUnavailable, sfapi.KindConcurrentLimit, sfapi.KindMaintenance,
		sfapi.KindUnknown, sfapi.KindNone:
		return answerPassing
	}
	if e.Transient {
		return answerPassing
	}
	return answerLasting
}

// beingProcessed is whether another request with the same refresh token is
// being answered. Salesforce refuses the later one since Summer '24, under an
// error code that it shares with dead grants.
//
// https://help.salesforce.com/s/articleView?id=release-notes.rn_security_refresh_token_requests.htm&release=250&type=5
func beingProcessed(e *sfapi.Error) bool {
	return strings.Contains(strings.ToLower(e.Message), "already being processed")
}

// neverLeft is whether err came before the request could be sent.
func neverLeft(err error) bool {
	var dns *net.DNSError
	var op *net.OpError
	var cert *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	return errors.As(err, &dns) ||
		errors.As(err, &op) && op.Op == "dial" ||
		errors.As(err, &cert) || errors.As(err, &record)
}

// decide tells OnVerdict of a refusal and returns it as an error that stands
// for a while.
func (m *Manager) decide(ctx context.Context, o *org, generation int64, cause Cause, err error) error {
	var e *sfapi.Error
	if !errors.As(err, &e) {
		return err // cannot be: judge gives no verdict without one
	}
	v := &Verdict{Org: o.id, Generation: generation, Kind: e.Kind, Cause: cause, Err: e}
	refused := &RefusedError{v}
	w := lastingWindow
	if e.Kind == sfapi.KindLoginRateLimited {
		w = loginWindow
	}
	v.RetryAfter = o.refuse(generation, refused, w, e.RetryAfter)
	m.log.WarnContext(ctx, "salesforce refused a grant", "org", o.id, "kind", e.Kind.String(),
		"cause", string(cause), "code", e.Code, "message", e.Message, "generation", generation)
	if m.verdict != nil {
		m.verdict(ctx, v)
	}
	return refused
}
