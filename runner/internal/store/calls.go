package store

import (
	"context"
	"time"

	"github.com/weirhq/weir/sfapi"
)

// CallBatch is what a process has seen of its calls since it last saved them.
type CallBatch struct {
	Counts []CallCount // one for each org, hour and code
	Failed []FailedCall
	Tokens []TokenCall
}

// CallCount is how many calls of an org ended with a code within an hour.
type CallCount struct {
	Org   sfapi.OrgID
	Hour  time.Time // its begin, in UTC
	Code  string    // "" is success
	Calls int64
}

// FailedCall is a call that Salesforce refused or did not answer.
type FailedCall struct {
	ID           int64 // set by the store; rises with the order of saving
	At           time.Time
	Org          sfapi.OrgID
	UserID       string
	JobID        int64 // the River job that made it, 0 when none did
	Op           string
	Method, Path string
	Status       int // 0 when no answer came
	Kind         string
	Code         string
	Message      string
	RequestID    string
	Body         string // redacted and cut by the caller
}

// TokenCall is a request for a token.
type TokenCall struct {
	ID         int64 // as that of a FailedCall
	At         time.Time
	Org        sfapi.OrgID
	UserID     string
	Generation int64 // of the credential that was exchanged
	Reason     string
	Outcome    string // TokenIssued, or the kind of the refusal
	Code       string
	Message    string
	Took       time.Duration // to the microsecond
}

// TokenIssued is the outcome of a request that brought a token.
const TokenIssued = "token"

// Calls keeps what calls to Salesforce came to, for people to look at. The
// texts of a batch are made storable ([Message]).
type Calls interface {
	// SaveCalls adds a batch, all of it or nothing. A power cut may take the
	// newest batches back; nothing depends on them.
	SaveCalls(ctx context.Context, b *CallBatch) error

	// CallCounts returns an org's counts of the hours that end after since,
	// by hour and code.
	CallCounts(ctx context.Context, org sfapi.OrgID, since time.Time) ([]CallCount, error)

	// FailedCalls returns an org's newest failed calls, newest first.
	FailedCalls(ctx context.Context, org sfapi.OrgID, limit int) ([]FailedCall, error)

	// TokenCalls returns an org's newest token requests, newest first.
	TokenCalls(ctx context.Context, org sfapi.OrgID, limit int) ([]TokenCall, error)

	// PruneCalls removes failed calls and token requests of before calls, and
	// counts of hours before counts, at most limit rows of each table, oldest
	// first. A zero time removes none. It reports whether there may be more.
	PruneCalls(ctx context.Context, calls, counts time.Time, limit int) (more bool, err error)
}

// clean returns the call with texts that every database can keep.
func (c FailedCall) clean() FailedCall {
	for _, s := range []*string{&c.UserID, &c.Op, &c.Method, &c.Path, &c.Kind, &c.Code, &c.Message, &c.RequestID, &c.Body} {
		*s = Message(*s)
	}
	return c
}

func (c TokenCall) clean() TokenCall {
	for _, s := range []*string{&c.UserID, &c.Reason, &c.Outcome, &c.Code, &c.Message} {
		*s = Message(*s)
	}
	return c
}

// Clean returns a copy of the batch whose texts every database can keep.
func (b *CallBatch) Clean() *CallBatch {
	out := &CallBatch{
		Counts: make([]CallCount, len(b.Counts)),
		Failed: make([]FailedCall, len(b.Failed)),
		Tokens: make([]TokenCall, len(b.Tokens)),
	}
	for i, c := range b.Counts {
		c.Code = Message(c.Code)
		out.Counts[i] = c
	}
	for i, c := range b.Failed {
		out.Failed[i] = c.clean()
	}
	for i, c := range b.Tokens {
		out.Tokens[i] = c.clean()
	}
	return out
}
