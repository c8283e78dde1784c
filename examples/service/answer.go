package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"

	"github.com/weirhq/weir/jobs"
	"github.com/weirhq/weir/runner"
	"github.com/weirhq/weir/sfapi"
)

// problem is an answer that says what is wrong: the error body of the contract.
type problem struct {
	status int

	Code    string `json:"code"`
	Message string `json:"message"`
	Field   string `json:"field,omitempty"`
}

// Error implements error.
func (p *problem) Error() string { return p.Code + ": " + p.Message }

func badField(field, format string, args ...any) *problem {
	return &problem{status: http.StatusBadRequest, Code: "invalid_field", Message: field + ": " + fmt.Sprintf(format, args...), Field: field}
}

var (
	errOrgNotFound = &problem{status: http.StatusNotFound, Code: "org_not_found", Message: "no such org was ever connected"}
	errJobNotFound = &problem{status: http.StatusNotFound, Code: "job_not_found", Message: "no such job"}
	errUnavailable = &problem{status: http.StatusServiceUnavailable, Code: "unavailable", Message: "the database does not answer; try again"}
)

// retryAfterSeconds is when a caller should try again while the database is
// away.
const retryAfterSeconds = 2

// writeJSON answers with a body.
func writeJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	// A caller that has gone misses the answer.
	_ = json.NewEncoder(w).Encode(body)
}

func writeProblem(w http.ResponseWriter, p *problem) {
	if p.status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", strconv.Itoa(retryAfterSeconds))
	}
	writeJSON(w, p.status, map[string]*problem{"error": p})
}

// problemOf turns an error into the answer that the contract has for it.
func problemOf(r *http.Request, logger *slog.Logger, err error) *problem {
	if p, ok := errors.AsType[*problem](err); ok {
		return p
	}
	if p := fieldProblem(err); p != nil {
		return p
	}
	switch {
	case errors.Is(err, runner.ErrOrgNotFound):
		return errOrgNotFound
	case errors.Is(err, runner.ErrWriteNotFound):
		return &problem{status: http.StatusNotFound, Code: "write_not_found", Message: "the org has no such write"}
	case errors.Is(err, runner.ErrScheduleNotFound):
		return &problem{status: http.StatusNotFound, Code: "schedule_not_found", Message: "the org has no schedule for this object"}
	case errors.Is(err, runner.ErrJobNotFound):
		return errJobNotFound
	case errors.Is(err, runner.ErrReauthRequired):
		return &problem{status: http.StatusConflict, Code: "reauth_required", Message: "the org's grant is revoked: connect it again"}
	case errors.Is(err, jobs.ErrIdempotencyConflict):
		return &problem{status: http.StatusConflict, Code: "idempotency_conflict", Message: "Idempotency-Key was used before with another body"}
	}
	if e, ok := errors.AsType[*sfapi.Error](err); ok {
		return tokenProblem(e)
	}
	if databaseAway(err) {
		logger.WarnContext(r.Context(), "database away", "method", r.Method, "path", r.URL.Path, "error", err)
		return errUnavailable
	}
	logger.ErrorContext(r.Context(), "request failed", "method", r.Method, "path", r.URL.Path, "error", err)
	return &problem{status: http.StatusInternalServerError, Code: "internal", Message: "something went wrong here; the log has more"}
}

// tokenProblem says what the token endpoint answered: only connecting an org
// calls Salesforce while somebody waits.
func tokenProblem(e *sfapi.Error) *problem {
	if e.Status == 0 || e.Status >= http.StatusInternalServerError || e.Status < http.StatusMultipleChoices {
		return &problem{status: http.StatusBadGateway, Code: "token_endpoint_unavailable", Message: "the token endpoint gave no usable answer: " + e.Error()}
	}
	p := &problem{status: http.StatusUnprocessableEntity, Code: e.Code, Message: e.Message}
	if p.Code == "" {
		p.Code = "token_refused"
	}
	if p.Message == "" {
		p.Message = e.Error()
	}
	return p
}

// fieldNames are the names that a body has for the library's fields.
var fieldNames = map[string]string{
	"Org": "org", "Object": "object", "Mode": "mode", "Fields": "fields", "Every": "every",
	"Operation": "operation", "ExternalID": "external_id", "Records": "records", "IdempotencyKey": "Idempotency-Key",
	"RefreshToken": "refresh_token", "LoginURL": "login_url", "Label": "label", "Limit": "limit", "Status": "status",
}

// fieldProblem says which fields the library refused, nil when err is not
// about fields. The first one is the answer's field.
func fieldProblem(err error) *problem {
	var found []*jobs.FieldError
	collectFieldErrors(err, &found)
	if len(found) == 0 {
		return nil
	}
	p := &problem{status: http.StatusBadRequest, Code: "invalid_field"}
	var texts []string
	for i, fe := range found {
		field := jsonField(fe.Field)
		if i == 0 {
			p.Field = field
			if element, _, nested := strings.Cut(field, "]."); nested {
				p.Field = element + "]" // the record; which of its fields, the message says
			}
		}
		texts = append(texts, field+": "+fe.Message)
	}
	p.Message = strings.Join(texts, "; ")
	return p
}

func collectFieldErrors(err error, into *[]*jobs.FieldError) {
	switch e := err.(type) { //nolint:errorlint // walks the tree itself, to find all of them
	case nil:
	case *jobs.FieldError:
		*into = append(*into, e)
	case interface{ Unwrap() []error }:
		for _, err := range e.Unwrap() {
			collectFieldErrors(err, into)
		}
	case interface{ Unwrap() error }:
		collectFieldErrors(e.Unwrap(), into)
	}
}

// jsonField turns Records[3].Name into records[3].Name.
func jsonField(field string) string {
	end := strings.IndexAny(field, ".[")
	if end < 0 {
		end = len(field)
	}
	if name, ok := fieldNames[field[:end]]; ok {
		return name + field[end:]
	}
	return field
}
