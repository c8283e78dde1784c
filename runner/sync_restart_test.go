package runner_test

import (
	"context"
	"database/sql"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"

	"github.com/weirhq/weir/jobs"
	"github.com/weirhq/weir/runner"
	"github.com/weirhq/weir/sfapi/sftest"
)

type widget struct {
	ID  string `json:"Id"`
	Ext string `json:"Ext__c"`
}

// Rows that changed while the first sync runs lie beyond its cursor. When it
// starts again there, they are not handled twice.
func TestFirstSyncRepeatsNoRow(t *testing.T) {
	t.Parallel()
	onBoth(t, testFirstSyncRepeatsNoRow[*sql.Tx], testFirstSyncRepeatsNoRow[pgx.Tx])
}

func testFirstSyncRepeatsNoRow[TTx any](t *testing.T, f *fixture[TTx]) {
	var old, recent []sftest.ID
	for i := range 4500 {
		id := f.org.Insert("Widget__c", sftest.Record{"Ext__c": fmt.Sprint("w", i)})
		if i < 1000 {
			old = append(old, id)
		} else {
			recent = append(recent, id)
		}
	}
	f.org.SetStamp("Widget__c", time.Now().Add(-time.Hour), old...)
	f.org.SetStamp("Widget__c", time.Now().Add(time.Minute), recent...) // after any query of this test
	var pages atomic.Int64
	times := make(map[string]int)
	jobs.AddSync(f.handlers, "Widget__c", func(_ context.Context, _ TTx, page *jobs.Page[widget]) error {
		for _, w := range page.Records {
			times[w.ID]++
		}
		if pages.Add(1) == 2 {
			f.org.CloseCursors()
		}
		return nil
	})
	r := f.running(t)
	f.completed(t, r, jobs.Sync{Object: "Widget__c"})
	if len(times) != 4500 {
		t.Errorf("%d rows were handled, the org has 4500", len(times))
	}
	for id, n := range times {
		if n != 1 {
			t.Fatalf("%s was handled %d times", id, n)
		}
	}
}

// A value that does not move the stamp, as a formula's does not, arrives
// whatever it was before.
func TestSyncSeesEachVersion(t *testing.T) {
	t.Parallel()
	onBoth(t, testSyncSeesEachVersion[*sql.Tx], testSyncSeesEachVersion[pgx.Tx])
}

func testSyncSeesEachVersion[TTx any](t *testing.T, f *fixture[TTx]) {
	id := f.org.Insert("Widget__c", sftest.Record{"Ext__c": "one"})
	jobs.AddMirror(f.handlers, "Widget__c", nil)
	r := f.running(t)
	f.completed(t, r, jobs.Sync{Object: "Widget__c"})
	for _, value := range []string{"two", "one", "two"} {
		f.org.UpdateQuietly("Widget__c", id, sftest.Record{"Ext__c": value})
		if s := f.completed(t, r, jobs.Sync{Object: "Widget__c"}); s.LastRun.Rows != 1 {
			t.Errorf("%s: the run applied %d rows", value, s.LastRun.Rows)
		}
		f.mirrorEqualsOrg(t, "Widget__c")
	}
}

// A field that goes away is left out from the next query on: the describe that
// still names it is forgotten.
func TestSyncFieldGoes(t *testing.T) {
	t.Parallel()
	onBoth(t, testSyncFieldGoes[*sql.Tx], testSyncFieldGoes[pgx.Tx])
}

func testSyncFieldGoes[TTx any](t *testing.T, f *fixture[TTx]) {
	f.org.DefineObject(sftest.Object{Name: "Gadget__c", Fields: []sftest.Field{{Name: "A__c"}, {Name: "B__c"}}})
	f.org.Insert("Gadget__c", sftest.Record{"A__c": "a", "B__c": "b"})
	jobs.AddMirror(f.handlers, jobs.AnyObject, nil)
	r := f.running(t)
	f.completed(t, r, jobs.Sync{Object: "Gadget__c"})
	f.org.RemoveField("Gadget__c", "B__c")
	f.org.Insert("Gadget__c", sftest.Record{"A__c": "c"})
	f.completed(t, r, jobs.Sync{Object: "Gadget__c"})
	if n := len(f.table(t, "SELECT id FROM salesforce_gadget__c")); n != 2 {
		t.Errorf("%d rows, want 2", n)
	}
}

// A name in another case is another cursor: it is refused, not synced twice.
func TestSyncObjectSpelledOtherwise(t *testing.T) {
	t.Parallel()
	onBoth(t, testSyncObjectSpelledOtherwise[*sql.Tx], testSyncObjectSpelledOtherwise[pgx.Tx])
}

func testSyncObjectSpelledOtherwise[TTx any](t *testing.T, f *fixture[TTx]) {
	jobs.AddMirror(f.handlers, jobs.AnyObject, nil)
	r := f.running(t)
	job := f.sync(t, r, jobs.Sync{Object: "account"})
	if job.State != rivertype.JobStateCancelled || len(job.Errors) != 1 || !strings.Contains(job.Errors[0].Error, "the org spells it Account") {
		t.Errorf("job is %s: %+v", job.State, job.Errors)
	}
}

// A mirror of an object with so many fields that no URL holds their names.
func TestMirrorOfManyFields(t *testing.T) {
	t.Parallel()
	onBoth(t, testMirrorOfManyFields[*sql.Tx], testMirrorOfManyFields[pgx.Tx])
}

func testMirrorOfManyFields[TTx any](t *testing.T, f *fixture[TTx]) {
	fields := make([]sftest.Field, 400)
	for i := range fields {
		fields[i].Name = fmt.Sprintf("A_field_with_a_name_of_forty_letters_%03d__c", i)
	}
	f.org.DefineObject(sftest.Object{Name: "Wide__c", Fields: fields})
	for i := range 2100 {
		f.org.Insert("Wide__c", sftest.Record{fields[i%len(fields)].Name: fmt.Sprint(i)})
	}
	jobs.AddMirror(f.handlers, "Wide__c", nil)
	r := f.running(t)
	f.completed(t, r, jobs.Sync{Object: "Wide__c"})
	f.mirrorEqualsOrg(t, "Wide__c")
}

// A sync that is meant for later is not dropped because one waits now, nor the
// other way round.
func TestSyncForLater(t *testing.T) {
	t.Parallel()
	onBoth(t, testSyncForLater[*sql.Tx], testSyncForLater[pgx.Tx])
}

func testSyncForLater[TTx any](t *testing.T, f *fixture[TTx]) {
	jobs.AddMirror(f.handlers, jobs.AnyObject, nil)
	r := f.migrated(t)
	f.connect(t, r)
	s := jobs.Sync{Org: f.orgID, Object: "Account"}
	ids := make(map[int64]bool)
	for _, opts := range []*river.InsertOpts{nil, {ScheduledAt: time.Now().Add(time.Hour)}, nil} {
		res, err := r.Insert(t.Context(), s, opts)
		if err != nil {
			t.Fatal(err)
		}
		ids[res.Job.ID] = true
	}
	if len(ids) != 2 {
		t.Errorf("%d jobs, want one for now and one for later", len(ids))
	}
	if _, err := r.Insert(t.Context(), (*jobs.Sync)(nil), nil); err == nil {
		t.Error("no sync at all was inserted")
	}
}

// Without the server's clock a run begins early by ours, and loses nothing.
func TestSyncWithoutDate(t *testing.T) {
	t.Parallel()
	onBoth(t, testSyncWithoutDate[*sql.Tx], testSyncWithoutDate[pgx.Tx])
}

func testSyncWithoutDate[TTx any](t *testing.T, f *fixture[TTx]) {
	f.org.Seed("Account", 100, 1)
	jobs.AddMirror(f.handlers, "Account", nil)
	r := f.running(t, func(c *runner.Config[TTx]) {
		c.Overlap = -1
		c.Transport = roundTripper(func(req *http.Request) (*http.Response, error) {
			res, err := f.sim.RoundTrip(req)
			if err == nil {
				res.Header.Del("Date")
			}
			return res, err
		})
	})
	f.completed(t, r, jobs.Sync{Object: "Account"})
	late := f.org.InsertHidden("Account", time.Now().Add(-time.Minute), sftest.Record{"Name": "late"})
	f.org.Reveal("Account", late)
	if s := f.completed(t, r, jobs.Sync{Object: "Account"}); s.LastRun.Rows != 1 {
		t.Errorf("second run applied %d rows, want 1", s.LastRun.Rows)
	}
	f.mirrorEqualsOrg(t, "Account")
}
