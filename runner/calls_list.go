package runner

import (
	"context"
	"fmt"
	"time"

	"github.com/weirhq/weir/jobs"
	"github.com/weirhq/weir/sfapi"
)

// CallCount is how many calls of an org succeeded and failed within an hour,
// token requests included.
type CallCount struct {
	Hour              time.Time // its begin, in UTC
	Succeeded, Failed int64
}

// ErrorCount is how many calls of an org failed with a code within an hour.
type ErrorCount struct {
	// Code is Salesforce's, "INVALID_SESSION_ID" for instance; where an answer
	// had none, or none came, it is the name of the sfapi.Kind.
	Code  string
	Hour  time.Time // its begin, in UTC
	Count int64
}

// FailedCall is a call that Salesforce refused or did not answer. A write that
// was answered with success while its rows were refused for a cause of the
// org's, read-only mode for instance, is one too; it has counted as a success
// before.
type FailedCall struct {
	ID           int64
	At           time.Time // when it was sent
	UserID       string    // whom it acted for, 18 characters
	JobID        int64     // the River job that made it, 0 when none did
	Op           string    // in our words, "query" for instance
	Method, Path string    // without the query, which holds customer data
	Status       int       // 0 when no answer came
	Kind         string    // the name of the sfapi.Kind
	Code         string    // as in ErrorCount
	Message      string
	RequestID    string // Salesforce's, for their support
	Body         string // secrets redacted, at most 2 KiB
}

// TokenCall is a request for a token: an attempt to refresh.
type TokenCall struct {
	ID         int64
	At         time.Time // when it was sent
	UserID     string
	Generation int64 // of the credential that was exchanged

	// Reason says why a token was asked for: "refused" (the access token was,
	// or there was none), "ahead" of its end, "replay" of a request whose
	// answer is unknown, "confirm" a refusal, "retry".
	Reason string

	// Outcome is "token", or the name of the sfapi.Kind of the refusal.
	Outcome string

	Code, Message string // as of FailedCall; empty for a token
	Took          time.Duration
}

// Calls returns how many calls of an org succeeded and failed in each hour that
// had any and ends after since, oldest first. Counts are seconds behind.
func (o *Orgs[TTx]) Calls(ctx context.Context, id sfapi.OrgID, since time.Time) ([]CallCount, error) {
	id, err := sfapi.ParseOrgID(string(id))
	if err != nil {
		return nil, err
	}
	counts, err := o.runner.store.CallCounts(ctx, id, since)
	if err != nil {
		return nil, err
	}
	out := []CallCount{}
	for _, c := range counts {
		if n := len(out); n == 0 || !out[n-1].Hour.Equal(c.Hour) {
			out = append(out, CallCount{Hour: c.Hour})
		}
		if hour := &out[len(out)-1]; c.Code == "" {
			hour.Succeeded += c.Calls
		} else {
			hour.Failed += c.Calls
		}
	}
	return out, nil
}

// Errors returns how many calls of an org failed, by hour and code, in the
// hours that end after since, oldest first. Counts are seconds behind.
func (o *Orgs[TTx]) Errors(ctx context.Context, id sfapi.OrgID, since time.Time) ([]ErrorCount, error) {
	id, err := sfapi.ParseOrgID(string(id))
	if err != nil {
		return nil, err
	}
	counts, err := o.runner.store.CallCounts(ctx, id, since)
	if err != nil {
		return nil, err
	}
	out := []ErrorCount{}
	for _, c := range counts {
		if c.Code != "" {
			out = append(out, ErrorCount{Code: c.Code, Hour: c.Hour, Count: c.Calls})
		}
	}
	return out, nil
}

// FailedCalls returns an org's newest failed calls, newest first. Limit 0 means
// 100, and 1,000 is the most.
func (o *Orgs[TTx]) FailedCalls(ctx context.Context, id sfapi.OrgID, limit int) ([]FailedCall, error) {
	id, limit, err := callsOf(id, limit)
	if err != nil {
		return nil, err
	}
	rows, err := o.runner.store.FailedCalls(ctx, id, limit)
	if err != nil {
		return nil, err
	}
	out := make([]FailedCall, len(rows))
	for i, c := range rows {
		out[i] = FailedCall{
			ID: c.ID, At: c.At, UserID: c.UserID, JobID: c.JobID, Op: c.Op, Method: c.Method, Path: c.Path,
			Status: c.Status, Kind: c.Kind, Code: c.Code, Message: c.Message, RequestID: c.RequestID, Body: c.Body,
		}
	}
	return out, nil
}

// TokenCalls returns an org's newest token requests, newest first. Limit is as
// that of FailedCalls.
func (o *Orgs[TTx]) TokenCalls(ctx context.Context, id sfapi.OrgID, limit int) ([]TokenCall, error) {
	id, limit, err := callsOf(id, limit)
	if err != nil {
		return nil, err
	}
	rows, err := o.runner.store.TokenCalls(ctx, id, limit)
	if err != nil {
		return nil, err
	}
	out := make([]TokenCall, len(rows))
	for i, c := range rows {
		out[i] = TokenCall{
			ID: c.ID, At: c.At, UserID: c.UserID, Generation: c.Generation, Reason: c.Reason,
			Outcome: c.Outcome, Code: c.Code, Message: c.Message, Took: c.Took,
		}
	}
	return out, nil
}

// maxCallList bounds a list of calls.
const maxCallList = 1000

// callsOf checks what the lists of calls are asked with.
func callsOf(id sfapi.OrgID, limit int) (sfapi.OrgID, int, error) {
	id, err := sfapi.ParseOrgID(string(id))
	if err != nil {
		return "", 0, err
	}
	if limit < 0 || limit > maxCallList {
		return "", 0, &jobs.FieldError{Field: "limit", Message: fmt.Sprintf("%d is not between 1 and %d", limit, maxCallList)}
	}
	if limit == 0 {
		limit = 100
	}
	return id, limit, nil
}
