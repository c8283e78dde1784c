package sfapi

import (
	"encoding/json"
	"slices"
	"strings"
)

// RecordError is one error of one record: an element of a collections result's
// errors, of a composite subrequest's body, or an sf__Error cell of Bulk API.
type RecordError struct {
	// StatusCode is the code, "REQUIRED_FIELD_MISSING" for instance.
	StatusCode string `json:"statusCode"`

	// Message is Salesforce's message. It may echo customer data.
	Message string `json:"message"`

	// Fields names the fields that the error is about, as Salesforce gave them.
	Fields []string `json:"fields,omitempty"`
}

// Error returns the code and the message.
func (e *RecordError) Error() string {
	switch {
	case e.StatusCode == "":
		return e.Message
	case e.Message == "":
		return e.StatusCode
	}
	return e.StatusCode + ": " + e.Message
}

// UnmarshalJSON reads collections' form, whose code is called statusCode, and
// composite's, which calls it errorCode. Fields may be null, a list or, as Bulk
// API has it, one string.
func (e *RecordError) UnmarshalJSON(b []byte) error {
	var raw struct {
		StatusCode string          `json:"statusCode"`
		ErrorCode  string          `json:"errorCode"`
		Message    string          `json:"message"`
		Fields     json.RawMessage `json:"fields"`
	}
	if err := json.Unmarshal(b, &raw); err != nil {
		return err
	}
	*e = RecordError{StatusCode: raw.StatusCode, Message: raw.Message}
	if e.StatusCode == "" {
		e.StatusCode = raw.ErrorCode
	}
	var one string
	if json.Unmarshal(raw.Fields, &e.Fields) != nil && json.Unmarshal(raw.Fields, &one) == nil {
		e.Fields = splitFields(one)
	}
	if len(e.Fields) == 0 {
		e.Fields = nil
	}
	return nil
}

// ParseBulkError reads an sf__Error cell, or the Error cell of a Bulk API 1.0
// result: "CODE:message:fields --". The message may hold colons, newlines and
// quotes, and everything after the code may be missing.
// https://developer.salesforce.com/docs/atlas.en-us.api_asynch.meta/api_asynch/get_job_failed_results.htm
func ParseBulkError(cell string) RecordError {
	code, message, fields := splitBulkError([]byte(cell))
	return RecordError{StatusCode: string(code), Message: string(message), Fields: splitFields(string(fields))}
}

func splitFields(s string) []string {
	fields := strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' || r == '\n' || r == '\r' })
	if len(fields) == 0 {
		return nil
	}
	return fields
}

// RecordClassification is what the errors of one record mean together.
type RecordClassification struct {
	// Kind is that of the root cause, and [KindNone] where there is no error.
	Kind Kind

	// Scope is what the cause affects: [ScopeOrg] on a record means that all
	// records fail alike, so the set must be looked at, not the row.
	Scope Scope

	// Retry says that the same row may be sent again as it is: at once for a
	// lock, after the hold for a cause of the org's.
	Retry bool

	// Collateral says that the row itself was right: another one of the same
	// call failed and took it along.
	Collateral bool

	// Code and Message are those of the root cause.
	Code, Message string

	// Fields names the fields of all errors with that cause, each once.
	Fields []string
}

// ClassifyRecord says what the errors of one record mean together. Their order
// does not matter. A record without errors is [KindNone].
func ClassifyRecord(errs []RecordError) RecordClassification {
	var out RecordClassification
	var v verdict
	for i := range errs {
		e := &errs[i]
		message := e.Message[:min(len(e.Message), maxScanBytes)]
		before := v.found
		kind, t := v.kind, v.tier
		v.add(EndpointCollections, &finding{code: []byte(e.StatusCode), message: []byte(message), row: true})
		if !before || v.kind != kind || v.tier != t {
			out.Fields = nil
		}
		m, mt, _ := readFinding(EndpointCollections, &finding{code: []byte(e.StatusCode), message: []byte(message), row: true})
		if m.kind != v.kind || mt != v.tier {
			continue
		}
		for _, f := range e.Fields {
			if !slices.Contains(out.Fields, f) {
				out.Fields = append(out.Fields, f)
			}
		}
	}
	if !v.found {
		return out
	}
	out.Kind, out.Scope, out.Retry = v.kind, v.scope, v.transient
	if v.tier == tierCollateral {
		out.Retry, out.Collateral = true, true
	}
	if len(v.code) <= maxCodeBytes {
		out.Code = cleanText(v.code)
	}
	out.Message = cleanText(v.message)
	return out
}
