package runner_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river/rivertype"

	"github.com/weirhq/weir/jobs"
	"github.com/weirhq/weir/runner"
	"github.com/weirhq/weir/sfapi"
	"github.com/weirhq/weir/sfapi/sftest"
)

// sync inserts a sync and waits until its job has ended.
func (f *fixture[TTx]) sync(t testing.TB, r *runner.Runner[TTx], s jobs.Sync) *rivertype.JobRow {
	t.Helper()
	s.Org = f.orgID
	res, err := r.Insert(t.Context(), s, nil)
	if err != nil {
		t.Fatal(err)
	}
	return f.ended(t, r, res.Job.ID)
}

func (f *fixture[TTx]) ended(t testing.TB, r *runner.Runner[TTx], id int64) *rivertype.JobRow {
	t.Helper()
	var job *rivertype.JobRow
	eventually(t, fmt.Sprintf("job %d ends", id), func() bool {
		var err error
		if job, err = r.River().JobGet(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		return job.FinalizedAt != nil
	})
	return job
}

// completed is sync for one that must succeed.
func (f *fixture[TTx]) completed(t testing.TB, r *runner.Runner[TTx], s jobs.Sync) *jobs.SyncState {
	t.Helper()
	if job := f.sync(t, r, s); job.State != rivertype.JobStateCompleted {
		t.Fatalf("job is %s: %+v", job.State, job.Errors)
	}
	return f.state(t, r, s.Object)
}

func (f *fixture[TTx]) state(t testing.TB, r *runner.Runner[TTx], object string) *jobs.SyncState {
	t.Helper()
	states, err := r.Syncs(t.Context(), f.orgID)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range states {
		if s.Object == object {
			return s
		}
	}
	t.Fatalf("no state of %s", object)
	return nil
}

// mirrorEqualsOrg compares a mirror table with the org, value by value.
func (f *fixture[TTx]) mirrorEqualsOrg(t *testing.T, object string) {
	t.Helper()
	want := make(map[string]map[string]*string)
	for _, row := range f.org.Rows(object) {
		fields := make(map[string]*string)
		for name, v := range row.Fields {
			switch name {
			case "SystemModstamp":
				name = "system_modstamp"
			case "IsDeleted":
				name = "is_deleted"
			case "Logo__c":
				continue // base64: a mirror does not keep it
			}
			fields[strings.ToLower(name)] = orgText(v)
		}
		org := string(f.orgID)
		fields["org"] = &org
		want[string(row.ID)] = fields
	}
	got := make(map[string]map[string]*string)
	for _, row := range f.table(t, "SELECT * FROM salesforce_"+strings.ToLower(object)) {
		for name, v := range row {
			if v == nil {
				continue
			}
			// SQLite has no booleans and no times of its own.
			if isBool := isBoolColumn(want, name); isBool && (*v == "0" || *v == "1") {
				*v = strconv.FormatBool(*v == "1")
			} else if at, err := time.Parse(time.RFC3339Nano, *v); err == nil {
				*v = at.UTC().Format(time.RFC3339)
			}
		}
		got[*row["id"]] = row
	}
	if diff := cmp.Diff(slices.Sorted(maps.Keys(want)), slices.Sorted(maps.Keys(got))); diff != "" {
		t.Fatalf("ids of %s (-org +mirror):\n%.3000s", object, diff)
	}
	for id, w := range want {
		if diff := cmp.Diff(w, got[id]); diff != "" {
			t.Fatalf("%s %s (-org +mirror):\n%s", object, id, diff)
		}
	}
}

func isBoolColumn(rows map[string]map[string]*string, name string) bool {
	for _, r := range rows {
		if v := r[name]; v != nil {
			return *v == "true" || *v == "false"
		}
	}
	return false
}

// orgText is a value of the org in the form that texts gives.
func orgText(v any) *string {
	var s string
	switch v := v.(type) {
	case nil:
		return nil
	case string:
		s = v
	case sftest.ID:
		s = string(v)
	case bool:
		s = strconv.FormatBool(v)
	case int64:
		s = strconv.FormatInt(v, 10)
	case float64:
		s = strconv.FormatFloat(v, 'f', -1, 64)
	case time.Time:
		s = v.UTC().Format(time.RFC3339)
	default:
		s = fmt.Sprint(v)
	}
	return &s
}

func TestMirror(t *testing.T) {
	t.Parallel()
	onBoth(t, testMirror[*sql.Tx], testMirror[pgx.Tx])
}

func testMirror[TTx any](t *testing.T, f *fixture[TTx]) {
	f.org.Seed("Account", 5000, 1)
	jobs.AddMirror(f.handlers, "Account", nil)
	r := f.running(t)

	first := f.completed(t, r, jobs.Sync{Object: "Account"})
	if first.LastRun.Rows != int64(len(f.org.Rows("Account"))) {
		t.Errorf("first run applied %d rows, the org has %d", first.LastRun.Rows, len(f.org.Rows("Account")))
	}
	f.mirrorEqualsOrg(t, "Account")

	changed, deleted := 0, 0
	for _, row := range f.org.Rows("Account") {
		if row.Deleted {
			continue
		}
		switch {
		case changed < 50:
			f.org.Update("Account", row.ID, sftest.Record{"Name": fmt.Sprintf("ĉanĝita\r\n\"%d\", née — 変更", changed), "Phone": nil})
			changed++
		case deleted < 20:
			f.org.Delete("Account", row.ID)
			deleted++
		}
	}
	second := f.completed(t, r, jobs.Sync{Object: "Account"})
	if second.LastRun.Rows != 70 || second.LastRun.Deleted != 20 {
		t.Errorf("second run applied %d rows, %d deleted; want 70 and 20", second.LastRun.Rows, second.LastRun.Deleted)
	}
	f.mirrorEqualsOrg(t, "Account")

	// Everything within the overlap is read again, and nothing of it applied.
	if third := f.completed(t, r, jobs.Sync{Object: "Account"}); third.LastRun.Rows != 0 {
		t.Errorf("third run applied %d rows, nothing changed", third.LastRun.Rows)
	}
	if full := f.completed(t, r, jobs.Sync{Object: "Account", Mode: jobs.Full}); full.LastRun.Rows != first.LastRun.Rows {
		t.Errorf("full run applied %d rows, want %d", full.LastRun.Rows, first.LastRun.Rows)
	}
	f.mirrorEqualsOrg(t, "Account")
}

// A row that becomes visible late, below the cursor, is not missed; rows with
// equal stamps are not lost over pages; one changed twice in a second arrives
// with its last value.
func TestSyncLosesNoRow(t *testing.T) {
	t.Parallel()
	onBoth(t, testSyncLosesNoRow[*sql.Tx], testSyncLosesNoRow[pgx.Tx])
}

func testSyncLosesNoRow[TTx any](t *testing.T, f *fixture[TTx]) {
	now := time.Now().UTC().Truncate(time.Second)
	same := now.Add(-time.Hour)
	var ids []sftest.ID
	for i := range 4500 { // three pages of one stamp
		ids = append(ids, f.org.Insert("Widget__c", sftest.Record{"Ext__c": fmt.Sprint("w", i)}))
	}
	f.org.SetStamp("Widget__c", same, ids...)
	late := f.org.InsertHidden("Widget__c", now.Add(-2*time.Minute), sftest.Record{"Ext__c": "late"})
	f.org.Insert("Widget__c", sftest.Record{"Ext__c": "recent"})
	jobs.AddMirror(f.handlers, jobs.AnyObject, nil)
	r := f.running(t)

	if s := f.completed(t, r, jobs.Sync{Object: "Widget__c"}); s.LastRun.Rows != 4501 {
		t.Errorf("first run applied %d rows, want 4501", s.LastRun.Rows)
	}
	f.org.Reveal("Widget__c", late)
	f.org.Update("Widget__c", ids[0], sftest.Record{"Ext__c": "once"})
	if s := f.completed(t, r, jobs.Sync{Object: "Widget__c"}); s.LastRun.Rows != 2 {
		t.Errorf("second run applied %d rows, want the late and the changed one", s.LastRun.Rows)
	}
	f.org.Update("Widget__c", ids[0], sftest.Record{"Ext__c": "twice"})
	f.org.SetStamp("Widget__c", time.Now().Truncate(time.Second), ids[0])
	f.completed(t, r, jobs.Sync{Object: "Widget__c"})
	f.mirrorEqualsOrg(t, "Widget__c")
}

type account struct {
	ID          string `json:"Id"`
	Name        string
	Employees   *int `json:"NumberOfEmployees"`
	CreatedDate sfapi.DateTime
	Owner       *struct{ Name string }
}

// A typed handler's transaction also saves the cursor: when it fails, the page
// comes again; when it commits, it does not.
func TestTypedHandler(t *testing.T) {
	t.Parallel()
	onBoth(t, testTypedHandler[*sql.Tx], testTypedHandler[pgx.Tx])
}

func testTypedHandler[TTx any](t *testing.T, f *fixture[TTx]) {
	f.org.Seed("Account", 4500, 7)
	for _, row := range f.org.Rows("Account")[:3] {
		if !row.Deleted {
			f.org.Delete("Account", row.ID)
		}
	}
	var pages atomic.Int32
	jobs.AddSync(f.handlers, "Account", func(ctx context.Context, tx TTx, page *jobs.Page[account]) error {
		for _, a := range page.Records {
			if a.ID == "" || a.Name == "" || a.CreatedDate.IsZero() || a.Owner == nil || a.Owner.Name == "" {
				return fmt.Errorf("incomplete: %+v", a)
			}
			if err := f.exec(ctx, tx, fmt.Sprintf("INSERT INTO app_account VALUES (%s, %s)", f.arg(1), f.arg(2)), a.ID, a.Name); err != nil {
				return err
			}
		}
		for _, id := range page.Deleted {
			if err := f.exec(ctx, tx, "INSERT INTO app_deleted VALUES ("+f.arg(1)+")", id); err != nil {
				return err
			}
		}
		if pages.Add(1) == 2 {
			return errors.New("the app's database refuses the second page once")
		}
		return nil
	})
	r := f.migrated(t)
	if err := f.inTx(func(tx TTx) error {
		return errors.Join(
			f.exec(t.Context(), tx, "CREATE TABLE app_account (id text PRIMARY KEY, name text)"),
			f.exec(t.Context(), tx, "CREATE TABLE app_deleted (id text PRIMARY KEY)"),
		)
	}); err != nil {
		t.Fatal(err)
	}
	f.connect(t, r)
	start(t, r)
	f.completed(t, r, jobs.Sync{Object: "Account"})

	want := make(map[string]*string)
	deleted := 0
	for _, row := range f.org.Rows("Account") {
		if row.Deleted {
			deleted++
			continue
		}
		want[string(row.ID)] = orgText(row.Fields["Name"])
	}
	got := make(map[string]*string)
	for _, row := range f.table(t, "SELECT id, name FROM app_account") {
		got[*row["id"]] = row["name"]
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("accounts (-org +app):\n%.2000s", diff)
	}
	if n := len(f.table(t, "SELECT id FROM app_deleted")); n != deleted {
		t.Errorf("%d deleted rows arrived, the org has %d", n, deleted)
	}
}

// A locator that dies, with its session or by itself, costs no row and gives
// none twice.
func TestSyncSurvivesItsSession(t *testing.T) {
	t.Parallel()
	onBoth(t, testSyncSurvivesItsSession[*sql.Tx], testSyncSurvivesItsSession[pgx.Tx])
}

func testSyncSurvivesItsSession[TTx any](t *testing.T, f *fixture[TTx]) {
	f.org.SetRotation(true)
	f.org.Seed("Account", 9000, 3)
	var rows, pages atomic.Int64
	jobs.AddSync(f.handlers, "Account", func(_ context.Context, _ TTx, page *jobs.Page[account]) error {
		rows.Add(int64(len(page.Records) + len(page.Deleted)))
		if pages.Add(1)%2 == 0 {
			f.org.ExpireSessions()
		}
		return nil
	})
	r := f.running(t)
	s := f.completed(t, r, jobs.Sync{Object: "Account"})
	if want := int64(len(f.org.Rows("Account"))); rows.Load() != want || s.LastRun.Rows != want {
		t.Errorf("%d rows were handled, %d counted, the org has %d", rows.Load(), s.LastRun.Rows, want)
	}
}

// Slices end at pages; the run goes on where it stood.
func TestSyncSlices(t *testing.T) {
	t.Parallel()
	onBoth(t, testSyncSlices[*sql.Tx], testSyncSlices[pgx.Tx])
}

func testSyncSlices[TTx any](t *testing.T, f *fixture[TTx]) {
	f.org.Seed("Account", 7000, 4)
	jobs.AddMirror(f.handlers, "Account", nil)
	r := f.running(t, func(c *runner.Config[TTx]) { c.Slice = time.Millisecond })
	res, err := r.Insert(t.Context(), jobs.Sync{Org: f.orgID, Object: "Account"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	job := f.ended(t, r, res.Job.ID)
	if job.State != rivertype.JobStateCompleted || job.Attempt > 1 || len(job.Errors) > 0 {
		t.Errorf("state %s, attempt %d, errors %v; slices must cost no attempt", job.State, job.Attempt, job.Errors)
	}
	if !strings.Contains(string(job.Metadata), `"snoozes"`) {
		t.Errorf("the job never yielded: %s", job.Metadata)
	}
	f.mirrorEqualsOrg(t, "Account")
}

func TestSyncBadInput(t *testing.T) {
	t.Parallel()
	onBoth(t, testSyncBadInput[*sql.Tx], testSyncBadInput[pgx.Tx])
}

func testSyncBadInput[TTx any](t *testing.T, f *fixture[TTx]) {
	jobs.AddMirror(f.handlers, jobs.AnyObject, nil)
	r := f.running(t)
	ctx := t.Context()

	if _, err := r.Insert(ctx, jobs.Sync{Org: "00D000000000099EAA", Object: "Account"}, nil); !errors.Is(err, runner.ErrOrgNotFound) {
		t.Errorf("unknown org: %v", err)
	}
	var fe *jobs.FieldError
	if _, err := r.Insert(ctx, jobs.Sync{Org: f.orgID, Object: "Account WHERE"}, nil); !errors.As(err, &fe) || fe.Field != "Object" {
		t.Errorf("object that is no name: %v", err)
	}
	if _, err := r.Insert(ctx, jobs.Sync{Org: f.orgID, Object: "Account", Fields: []string{"Name", "a b"}}, nil); !errors.As(err, &fe) || fe.Field != "Fields[1]" {
		t.Errorf("field that is no name: %v", err)
	}
	if n := len(f.table(t, "SELECT id FROM river_job")); n != 0 {
		t.Errorf("%d jobs were stored for bad input", n)
	}
	for _, c := range []struct {
		sync jobs.Sync
		want string
	}{
		{jobs.Sync{Object: "Nonsense__c"}, "NOT_FOUND"},
		{jobs.Sync{Object: "Account", Fields: []string{"Nonsense__c"}}, "INVALID_FIELD"},
	} {
		job := f.sync(t, r, c.sync)
		if job.State != rivertype.JobStateCancelled || len(job.Errors) != 1 || !strings.Contains(job.Errors[0].Error, c.want) {
			t.Errorf("%+v: state %s, errors %+v; want one that says %s", c.sync, job.State, job.Errors, c.want)
		}
	}
	if s := f.state(t, r, "Account"); s.LastRun == nil || !strings.Contains(s.LastRun.Error, "INVALID_FIELD") {
		t.Errorf("last run %+v does not say why", s.LastRun)
	}
}

// A sync that waits is not inserted again, and a full one takes its place.
func TestSyncMerges(t *testing.T) {
	t.Parallel()
	onBoth(t, testSyncMerges[*sql.Tx], testSyncMerges[pgx.Tx])
}

func testSyncMerges[TTx any](t *testing.T, f *fixture[TTx]) {
	jobs.AddMirror(f.handlers, jobs.AnyObject, nil)
	r := f.migrated(t)
	f.connect(t, r)
	insert := func(s jobs.Sync) *rivertype.JobInsertResult {
		t.Helper()
		s.Org = f.orgID
		res, err := r.Insert(t.Context(), s, nil)
		if err != nil {
			t.Fatal(err)
		}
		return res
	}
	first := insert(jobs.Sync{Object: "Account"})
	again := insert(jobs.Sync{Object: "Account"})
	full := insert(jobs.Sync{Object: "Account", Mode: jobs.Full})
	other := insert(jobs.Sync{Object: "Contact"})
	if again.Job.ID != first.Job.ID || !again.UniqueSkippedAsDuplicate {
		t.Errorf("a second sync got job %d, the first waits as %d", again.Job.ID, first.Job.ID)
	}
	if full.Job.ID != first.Job.ID || !strings.Contains(string(full.Job.EncodedArgs), `"full"`) {
		t.Errorf("the full sync got job %d with %s", full.Job.ID, full.Job.EncodedArgs)
	}
	if other.Job.ID == first.Job.ID || other.UniqueSkippedAsDuplicate {
		t.Error("another object's sync was merged")
	}
	if want := "sf_" + f.orgID.Lower() + "_sync"; first.Job.Queue != want || !slices.Contains(first.Job.Tags, string(f.orgID)) {
		t.Errorf("queue %s, tags %v; want %s and the org", first.Job.Queue, first.Job.Tags, want)
	}
}
