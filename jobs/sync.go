package jobs

import (
	"errors"
	"fmt"
	"regexp"

	"github.com/riverqueue/river"

	"github.com/weirhq/weir/breaker"
	"github.com/weirhq/weir/sfapi"
)

// SyncMode says how much a sync reads.
type SyncMode string

const (
	// Incremental reads what changed since the last run, and everything in
	// the first one. It is the default.
	Incremental SyncMode = "incremental"
	// Full reads every row again, from the start.
	Full SyncMode = "full"
)

// Sync is the job that reads one object of one org through the handler that
// the worker has for it (AddSync, AddMirror).
type Sync struct {
	Org    sfapi.OrgID `json:"org"`
	Object string      `json:"object"`
	// Mode defaults to Incremental.
	Mode SyncMode `json:"mode,omitempty"`
	// Fields narrows what a mirror keeps; empty means every described field
	// that is not compound or base64. Typed handlers ignore it: their struct
	// says which fields they read. A field that joins later is filled in for
	// rows that changed since; a Full sync fills in the others.
	Fields []string `json:"fields,omitempty"`
}

// Kind is the job kind in River.
func (Sync) Kind() string { return "salesforce_sync" }

// OrgID returns the org whose lane the job waits in.
func (s Sync) OrgID() sfapi.OrgID { return s.Org }

// Lane is the lane that the job waits in.
func (Sync) Lane() breaker.Lane { return breaker.Sync }

// InsertOpts puts the job into its org's sync lane.
func (s Sync) InsertOpts() river.InsertOpts {
	return river.InsertOpts{Queue: breaker.Sync.Queue(s.Org), Tags: []string{string(s.Org)}}
}

// namePattern matches API names; none is nearly as long as this allows.
var namePattern = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_]{0,254}$`)

// Validate reports every field of s that cannot be right.
func (s *Sync) Validate() error {
	var errs []error
	if _, err := sfapi.ParseOrgID(string(s.Org)); err != nil {
		errs = append(errs, &FieldError{"Org", err.Error()})
	}
	if !namePattern.MatchString(s.Object) {
		errs = append(errs, &FieldError{"Object", fmt.Sprintf("%q is not an API name", s.Object)})
	}
	switch s.Mode {
	case "", Incremental, Full:
	default:
		errs = append(errs, &FieldError{"Mode", fmt.Sprintf("%q is neither %q nor %q", string(s.Mode), Incremental, Full)})
	}
	for i, f := range s.Fields {
		if !namePattern.MatchString(f) {
			errs = append(errs, &FieldError{fmt.Sprintf("Fields[%d]", i), fmt.Sprintf("%q is not an API name", f)})
		}
	}
	return errors.Join(errs...)
}

// FieldError says which field of a request is wrong, and why.
type FieldError struct {
	Field   string // Object, Records[3].Ext__c
	Message string
}

// Error implements error.
func (e *FieldError) Error() string { return e.Field + ": " + e.Message }

func (m SyncMode) orDefault() SyncMode {
	if m == "" {
		return Incremental
	}
	return m
}
