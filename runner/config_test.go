package runner_test

import (
	"database/sql"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/riverqueue/river"

	"github.com/weirhq/weir/jobs"
	"github.com/weirhq/weir/runner"
	"github.com/weirhq/weir/sfapi"
)

// badFields returns the fields that an error of New names.
func badFields(err error) []string {
	var out []string
	var walk func(error)
	walk = func(err error) {
		if joined, ok := err.(interface{ Unwrap() []error }); ok {
			for _, e := range joined.Unwrap() {
				walk(e)
			}
			return
		}
		var ce *runner.ConfigError
		if errors.As(err, &ce) {
			out = append(out, ce.Field)
		}
	}
	walk(err)
	return out
}

func TestNewReportsEveryBadField(t *testing.T) {
	t.Parallel()
	_, err := runner.New(runner.Driver[*sql.Tx]{}, nil)
	if diff := cmp.Diff([]string{"Driver", "App", "Sealer"}, badFields(err)); diff != "" {
		t.Errorf("of a nil config (-want +got):\n%s\n%v", diff, err)
	}
	handlers := jobs.NewHandlers[*sql.Tx]()
	jobs.AddMirror(handlers, "Account", nil)
	jobs.AddMirror(handlers, "account", nil)
	_, err = runner.New(runner.Driver[*sql.Tx]{}, &runner.Config[*sql.Tx]{
		App:             &sfapi.App{LoginURL: "http://example.com"},
		Handlers:        handlers,
		SyncWorkers:     -1,
		WriteWindow:     -2,
		Slice:           -time.Second,
		Overlap:         -2,
		DeadWorkerAfter: time.Millisecond,
		River:           &river.Config{Schema: "x", Queues: map[string]river.QueueConfig{"sf_run_sync": {MaxWorkers: 1}}},
	})
	want := []string{"Driver", "App", "Sealer", "Handlers", "SyncWorkers", "WriteWindow", "Slice", "DeadWorkerAfter", "Overlap", "River", "River"}
	if diff := cmp.Diff(want, badFields(err)); diff != "" {
		t.Errorf("fields (-want +got):\n%s\n%v", diff, err)
	}
}

func TestHandlersRefuse(t *testing.T) {
	t.Parallel()
	type noFields struct{}
	type timed struct{ CreatedDate time.Time }
	for name, add := range map[string]func(h *jobs.Handlers[*sql.Tx]){
		"struct without fields": func(h *jobs.Handlers[*sql.Tx]) { jobs.AddSync(h, "Account", onPage[noFields]) },
		"not a struct":          func(h *jobs.Handlers[*sql.Tx]) { jobs.AddSync(h, "Account", onPage[string]) },
		"time.Time":             func(h *jobs.Handlers[*sql.Tx]) { jobs.AddSync(h, "Account", onPage[timed]) },
		"typed for any object":  func(h *jobs.Handlers[*sql.Tx]) { jobs.AddSync(h, jobs.AnyObject, onPage[account]) },
		"object is no name":     func(h *jobs.Handlers[*sql.Tx]) { jobs.AddMirror(h, "a b", nil) },
		"field is no name": func(h *jobs.Handlers[*sql.Tx]) {
			jobs.AddMirror(h, "Account", &jobs.MirrorOptions{Fields: []string{"Name;"}})
		},
		"kind twice": func(h *jobs.Handlers[*sql.Tx]) {
			jobs.AddWorker(h, onLead)
			jobs.AddWorker(h, onLead)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := jobs.NewHandlers[*sql.Tx]()
			add(h)
			var fe *jobs.FieldError
			if err := h.Validate(); !errors.As(err, &fe) || fe.Field != "Handlers" {
				t.Errorf("accepted, or an error that names no field: %v", err)
			}
		})
	}
}
