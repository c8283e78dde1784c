package runner_test

import (
	"context"
	"database/sql"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/jackc/pgx/v5"

	"github.com/weirhq/weir/jobs"
	"github.com/weirhq/weir/runner"
	"github.com/weirhq/weir/sfapi"
	"github.com/weirhq/weir/sfapi/sftest"
)

// told returns the events of a type, once there are n, without what differs
// each time.
func (f *fixture[TTx]) told(t *testing.T, r *runner.Runner[TTx], kind runner.EventType, n int) (out []*runner.Event) {
	t.Helper()
	eventually(t, string(kind), func() bool {
		events, err := r.Events(t.Context(), 0, 0)
		noError(t, err)
		out = nil
		for _, e := range events {
			if e.Type == kind {
				out = append(out, e)
			}
		}
		return len(out) >= n
	})
	return out
}

var anyEvent = cmpopts.IgnoreFields(runner.Event{}, "ID", "At")

// What changed about an object's fields is told once, by whichever process
// describes it next, and by no process that sees it later.
func TestSchemaChanged(t *testing.T) {
	t.Parallel()
	onBoth(t, testSchemaChanged[*sql.Tx], testSchemaChanged[pgx.Tx])
}

func testSchemaChanged[TTx any](t *testing.T, f *fixture[TTx]) {
	f.org.Seed("Account", 3, 1)
	f.org.AddField("Account", sftest.Field{Name: "Old__c", Type: sftest.TypeString, Length: 10})
	jobs.AddMirror(f.handlers, "Account", nil)
	handled := make(chan *runner.Event, 8)
	again := func() *runner.Runner[TTx] { // a process of its own, with nothing described yet
		t.Helper()
		r := f.migrated(t, func(c *runner.Config[TTx]) {
			c.OnEvent = func(_ context.Context, e *runner.Event) error { handled <- e; return nil }
		})
		if _, err := r.Orgs().Get(t.Context(), f.orgID); err != nil {
			f.connect(t, r)
		}
		noError(t, r.Start(context.WithoutCancel(t.Context())))
		f.completed(t, r, jobs.Sync{Object: "Account"})
		return r
	}
	stop := func(r *runner.Runner[TTx]) { noError(t, r.Stop(context.WithoutCancel(t.Context()))) }
	stop(again())
	f.org.RemoveField("Account", "Old__c")
	f.org.AddField("Account", sftest.Field{Name: "New__c", Type: sftest.TypeDouble})
	stop(again())
	r := again()
	want := []*runner.Event{{
		Version: runner.EventVersion, Type: runner.EventSchemaChanged, Org: f.orgID, Object: "Account",
		Schema: &jobs.SchemaChange{
			Added: []jobs.SchemaField{{Name: "New__c", Type: "double"}}, Removed: []jobs.SchemaField{{Name: "Old__c", Type: "string"}},
			Retyped: []jobs.RetypedField{},
		},
	}}
	if diff := cmp.Diff(want, f.told(t, r, runner.EventSchemaChanged, 1), anyEvent); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	select {
	case e := <-handled:
		if diff := cmp.Diff(want[0], e, anyEvent); diff != "" {
			t.Errorf("handled (-want +got):\n%s", diff)
		}
	case <-time.After(time.Minute):
		t.Error("the event was not handled")
	}
	stop(r)
	if len(handled) > 0 {
		t.Errorf("handled again: %+v", <-handled)
	}
}

// A write with failed records is told of when it has all its outcomes, once,
// however many failed, and a write without any is not.
func TestWriteFailedIsTold(t *testing.T) {
	t.Parallel()
	onBoth(t, testWriteFailedIsTold[*sql.Tx], testWriteFailedIsTold[pgx.Tx])
}

func testWriteFailedIsTold[TTx any](t *testing.T, f *fixture[TTx]) {
	r := f.running(t)
	good := make([]contact, 450)
	for i := range good {
		good[i] = contact{"LastName": "x"}
	}
	f.write(t, r, jobs.Write{Object: "Contact", Operation: jobs.Insert, Records: good})
	mixed := make([]contact, 450) // several calls
	for i := range mixed {
		mixed[i] = contact{"LastName": "x"}
		if i%200 == 7 {
			mixed[i]["Email"] = "not an address"
		}
	}
	rows := f.write(t, r, jobs.Write{Object: "Contact", Operation: jobs.Insert, Records: mixed})
	want := &runner.Event{
		Version: runner.EventVersion, Type: runner.EventWriteFailed, Org: f.orgID, Object: "Contact",
		Write: &jobs.WriteFailure{
			WriteID: rows[0].WriteID, Operation: sfapi.OpInsert, Accepted: 450, Failed: 3, ErrorCode: "INVALID_EMAIL_ADDRESS",
		},
	}
	if diff := cmp.Diff([]*runner.Event{want}, f.told(t, r, runner.EventWriteFailed, 1), anyEvent); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	// A retry that fails again is another one.
	n, err := r.Writes().Retry(t.Context(), f.orgID, rows[0].WriteID)
	if err != nil || n != 3 {
		t.Fatalf("retried %d, %v", n, err)
	}
	if diff := cmp.Diff([]*runner.Event{want, want}, f.told(t, r, runner.EventWriteFailed, 2), anyEvent); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}
