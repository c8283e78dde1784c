package runner_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/weirhq/weir/jobs"
	"github.com/weirhq/weir/runner"
	"github.com/weirhq/weir/sfapi/sftest"
)

type contact map[string]any

// write hands over records and waits until none is pending or sent.
func (f *fixture[TTx]) write(t *testing.T, r *runner.Runner[TTx], w jobs.Write) []*jobs.WriteRow {
	t.Helper()
	w.Org = f.orgID
	receipt, err := r.Write(t.Context(), &w)
	if err != nil {
		t.Fatal(err)
	}
	return f.settled(t, r, receipt.ID)
}

func (f *fixture[TTx]) settled(t *testing.T, r *runner.Runner[TTx], writeID int64) []*jobs.WriteRow {
	t.Helper()
	eventually(t, fmt.Sprintf("write %d is settled", writeID), func() bool {
		c, err := r.Writes().Counts(t.Context(), f.orgID, writeID)
		if err != nil {
			t.Fatal(err)
		}
		if sum := c.Pending + c.Sent + c.Done + c.Failed + c.Unknown + c.Cancelled; sum != c.Accepted {
			t.Fatalf("counters add up to %d of %d", sum, c.Accepted)
		}
		return c.Pending+c.Sent == 0
	})
	rows, err := r.Writes().Records(t.Context(), f.orgID, writeID, &jobs.WriteQuery{Limit: 2000})
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

// outcomes are the rows' states with the codes of those that failed.
func outcomes(rows []*jobs.WriteRow) []string {
	out := make([]string, len(rows))
	for i, r := range rows {
		out[i] = strings.TrimSpace(string(r.Status) + " " + r.ErrorCode)
	}
	return out
}

// byExt returns the org's live records by external id.
func (f *fixture[TTx]) byExt(t *testing.T, object string) map[string]sftest.Row {
	t.Helper()
	out := make(map[string]sftest.Row)
	for _, row := range f.org.Rows(object) {
		ext, _ := row.Fields["Ext__c"].(string)
		if ext == "" || row.Deleted {
			continue
		}
		if _, twice := out[ext]; twice {
			t.Fatalf("%s is there twice", ext)
		}
		out[ext] = row
	}
	return out
}

func TestWrite(t *testing.T) {
	t.Parallel()
	onBoth(t, testWrite[*sql.Tx], testWrite[pgx.Tx])
}

func testWrite[TTx any](t *testing.T, f *fixture[TTx]) {
	r := f.running(t)
	records := make([]contact, 1000)
	for i := range records {
		records[i] = contact{"Ext__c": fmt.Sprintf("c-%d", i), "LastName": fmt.Sprintf("Nom «%d»\r\n", i), "Phone": nil}
	}
	calls := f.org.DailyUsage()
	rows := f.write(t, r, jobs.Write{Object: "Contact", Operation: jobs.Upsert, ExternalID: "Ext__c", Records: records})
	if used := f.org.DailyUsage() - calls; used != 5 {
		t.Errorf("1,000 records took %d API calls, want 5", used)
	}
	there := f.byExt(t, "Contact")
	if len(there) != 1000 {
		t.Fatalf("the org has %d records", len(there))
	}
	for i, row := range rows {
		want := there[fmt.Sprintf("c-%d", i)]
		if row.Status != jobs.WriteDone || row.SalesforceID != string(want.ID) || !row.Created || row.Index != i {
			t.Fatalf("record %d: %+v, the org has %s", i, row, want.ID)
		}
		if want.Fields["LastName"] != records[i]["LastName"] {
			t.Fatalf("record %d arrived as %q", i, want.Fields["LastName"])
		}
	}

	// Operations follow each other in order of submission.
	id := string(there["c-0"].ID)
	f.write(t, r, jobs.Write{Object: "Contact", Operation: jobs.Update, Records: []contact{{"Id": id, "LastName": "updated"}}})
	f.write(t, r, jobs.Write{Object: "Contact", Operation: jobs.Delete, Records: []contact{{"Id": string(there["c-1"].ID)}}})
	rows = f.write(t, r, jobs.Write{Object: "Contact", Operation: jobs.Insert, Records: []contact{{"LastName": "new"}}})
	if row, ok := f.org.Row("Contact", sftest.ID(rows[0].SalesforceID)); !ok || row.Fields["LastName"] != "new" {
		t.Errorf("inserted record is %+v", row)
	}
	after := f.byExt(t, "Contact")
	if after["c-0"].Fields["LastName"] != "updated" {
		t.Error("the update did not arrive")
	}
	if _, ok := after["c-1"]; ok {
		t.Error("the delete did not arrive")
	}
}

// Writes in many transactions cost as many calls as their records fill, and a
// record's updates keep their order.
func TestWritesAreGathered(t *testing.T) {
	t.Parallel()
	onBoth(t, testWritesAreGathered[*sql.Tx], testWritesAreGathered[pgx.Tx])
}

func testWritesAreGathered[TTx any](t *testing.T, f *fixture[TTx]) {
	r := f.migrated(t)
	f.connect(t, r)
	var last int64
	for i := range 600 {
		receipt, err := r.Write(t.Context(), &jobs.Write{
			Org: f.orgID, Object: "Contact", Operation: jobs.Upsert, ExternalID: "Ext__c",
			Records: []contact{{"Ext__c": fmt.Sprintf("c-%d", i%300), "LastName": fmt.Sprint(i), "FirstName": fmt.Sprint("only in ", i/300)}},
		})
		if err != nil {
			t.Fatal(err)
		}
		last = receipt.ID
	}
	calls := f.org.DailyUsage()
	start(t, r)
	f.settled(t, r, last)
	if used := f.org.DailyUsage() - calls; used > 4 {
		t.Errorf("600 records of 300 took %d API calls", used)
	}
	for ext, row := range f.byExt(t, "Contact") {
		var k int
		fmt.Sscanf(ext, "c-%d", &k)
		if row.Fields["LastName"] != fmt.Sprint(k+300) {
			t.Fatalf("%s ended as %v", ext, row.Fields["LastName"])
		}
	}
}

func TestWriteDeadLetters(t *testing.T) {
	t.Parallel()
	onBoth(t, testWriteDeadLetters[*sql.Tx], testWriteDeadLetters[pgx.Tx])
}

func testWriteDeadLetters[TTx any](t *testing.T, f *fixture[TTx]) {
	r := f.running(t)
	rows := f.write(t, r, jobs.Write{Object: "Contact", Operation: jobs.Upsert, ExternalID: "Ext__c", Records: []contact{
		{"Ext__c": "good", "LastName": "x"},
		{"Ext__c": "nofield", "LastName": "x", "Nonsense__c": 1},
		{"Ext__c": "toolong", "LastName": strings.Repeat("x", 300)},
		{"Ext__c": "wrongtype", "LastName": "x", "Birthdate": "not a date"},
		{"Ext__c": "missing"},
		{"Ext__c": "alsogood", "LastName": "y"},
	}})
	for i, row := range rows {
		good := i == 0 || i == 5
		if good != (row.Status == jobs.WriteDone) || good != (row.ErrorCode == "" && row.ErrorMessage == "") {
			t.Errorf("record %d: %s %s %s", i, row.Status, row.ErrorCode, row.ErrorMessage)
		}
	}
	if n := len(f.byExt(t, "Contact")); n != 2 {
		t.Errorf("the org has %d records, want the 2 good ones", n)
	}
	rows = f.write(t, r, jobs.Write{Object: "Nonsense__c", Operation: jobs.Insert, Records: []contact{{"Name": "a"}, {"Name": "b"}}})
	for _, row := range rows {
		if row.Status != jobs.WriteFailed || row.ErrorCode == "" {
			t.Errorf("record of an unknown object: %+v", row)
		}
	}

	// What failed is sent again when asked, as it was submitted.
	f.org.LockKeys("locked")
	rows = f.write(t, r, jobs.Write{Object: "Contact", Operation: jobs.Upsert, ExternalID: "Ext__c", Records: []contact{
		{"Ext__c": "locked", "LastName": "x"}, {"Ext__c": "free", "LastName": "x"},
	}})
	if diff := cmp.Diff([]string{"failed UNABLE_TO_LOCK_ROW", "done"}, outcomes(rows)); diff != "" {
		t.Fatalf("outcomes (-want +got):\n%s", diff)
	}
	f.org.UnlockKeys()
	n, err := r.Writes().Retry(t.Context(), f.orgID, rows[0].WriteID)
	if n != 1 || err != nil {
		t.Fatalf("retry put back %d: %v", n, err)
	}
	if diff := cmp.Diff([]string{"done", "done"}, outcomes(f.settled(t, r, rows[0].WriteID))); diff != "" {
		t.Errorf("outcomes after retry (-want +got):\n%s", diff)
	}
	if _, err := r.Writes().Retry(t.Context(), f.orgID, 99999); !errors.Is(err, runner.ErrWriteNotFound) {
		t.Errorf("retry of an unknown write: %v", err)
	}
}

// An answer that is lost after the org committed duplicates nothing and loses
// nothing.
func TestWriteLostAnswer(t *testing.T) {
	t.Parallel()
	onBoth(t, testWriteLostAnswer[*sql.Tx], testWriteLostAnswer[pgx.Tx])
}

func testWriteLostAnswer[TTx any](t *testing.T, f *fixture[TTx]) {
	r := f.running(t)
	existing := f.org.Insert("Contact", sftest.Record{"LastName": "x", "Ext__c": "existing"})
	doomed := f.org.Insert("Contact", sftest.Record{"LastName": "x"})
	for name, w := range map[string]jobs.Write{
		"upsert":          {Operation: jobs.Upsert, ExternalID: "Ext__c", Records: []contact{{"Ext__c": "u1", "LastName": "a"}, {"Ext__c": "u2", "LastName": "b"}}},
		"insert with key": {Operation: jobs.Insert, ExternalID: "Ext__c", Records: []contact{{"Ext__c": "i1", "LastName": "a"}, {"Ext__c": "i'2", "LastName": "b"}}},
		"update":          {Operation: jobs.Update, Records: []contact{{"Id": string(existing), "LastName": "c"}}},
		"delete":          {Operation: jobs.Delete, Records: []contact{{"Id": string(doomed)}}},
	} {
		w.Object = "Contact"
		f.org.Inject(sftest.DropAfterCommit().On("", "/composite/sobjects").Next(1))
		for i, row := range f.write(t, r, w) {
			if row.Status != jobs.WriteDone {
				t.Errorf("%s: record %d: %s %s %s", name, i, row.Status, row.ErrorCode, row.ErrorMessage)
			}
		}
	}
	there := f.byExt(t, "Contact")
	for _, ext := range []string{"u1", "u2", "i1", "i'2"} {
		if _, ok := there[ext]; !ok {
			t.Errorf("%s is not in the org", ext)
		}
	}
	f.org.Inject(sftest.DropAfterCommit().On("POST", "/composite/sobjects").Next(1))
	before := f.org.Count("Contact")
	rows := f.write(t, r, jobs.Write{Object: "Contact", Operation: jobs.Insert, Records: []contact{{"LastName": "no key"}}})
	if rows[0].Status != jobs.WriteUnknown || rows[0].ErrorCode != jobs.CodeOutcomeUnknown {
		t.Errorf("insert without a key: %+v", rows[0])
	}
	if n := f.org.Count("Contact"); n != before+1 {
		t.Errorf("the org has %d records more", n-before)
	}
}

func TestWriteTx(t *testing.T) {
	t.Parallel()
	onBoth(t, testWriteTx[*sql.Tx], testWriteTx[pgx.Tx])
}

func testWriteTx[TTx any](t *testing.T, f *fixture[TTx]) {
	r := f.migrated(t)
	f.connect(t, r)
	ctx := t.Context()
	w := &jobs.Write{
		Org: f.orgID, Object: "Contact", Operation: jobs.Upsert, ExternalID: "Ext__c", IdempotencyKey: "k",
		Records: []contact{{"Ext__c": "a", "LastName": "x"}},
	}
	rolledBack := errors.New("the app changed its mind")
	if err := f.inTx(func(tx TTx) error {
		if _, err := r.WriteTx(ctx, tx, w); err != nil {
			return err
		}
		return rolledBack
	}); !errors.Is(err, rolledBack) {
		t.Fatal(err)
	}
	if n := len(f.table(t, "SELECT id FROM river_job")) + len(f.table(t, "SELECT id FROM weir_write_record")); n != 0 {
		t.Fatalf("%d rows after a rollback", n)
	}
	first, err := r.Write(ctx, w)
	if err != nil {
		t.Fatal(err)
	}
	second, err := r.Write(ctx, w)
	if err != nil || second.ID != first.ID || !second.Repeated {
		t.Errorf("same key and body: %+v, %v; first was %+v", second, err, first)
	}
	w.Records = []contact{{"Ext__c": "a", "LastName": "other"}}
	if _, err := r.Write(ctx, w); !errors.Is(err, jobs.ErrIdempotencyConflict) {
		t.Errorf("same key, another body: %v", err)
	}
	w.Org, w.IdempotencyKey = "00D000000000099EAA", ""
	if _, err := r.Write(ctx, w); !errors.Is(err, runner.ErrOrgNotFound) {
		t.Errorf("org not connected: %v", err)
	}
	if n := len(f.table(t, "SELECT id FROM weir_write_record")); n != 1 {
		t.Errorf("%d records are stored, want 1", n)
	}
	if err := r.Orgs().Disconnect(ctx, f.orgID); err != nil {
		t.Fatal(err)
	}
	w.Org = f.orgID
	if _, err := r.Write(ctx, w); !errors.Is(err, runner.ErrReauthRequired) {
		t.Errorf("disconnected org: %v", err)
	}
	c, err := r.Writes().Counts(ctx, f.orgID, first.ID)
	if err != nil || c.Cancelled != 1 {
		t.Errorf("after disconnecting: %+v, %v", c, err)
	}
}

// Stop interrupts nothing that it need not, and what it interrupts goes on in
// the next process.
func TestStopLosesNothing(t *testing.T) {
	t.Parallel()
	onBoth(t, testStopLosesNothing[*sql.Tx], testStopLosesNothing[pgx.Tx])
}

func testStopLosesNothing[TTx any](t *testing.T, f *fixture[TTx]) {
	f.org.Seed("Account", 9000, 5)
	reached := make(chan struct{}, 100)
	jobs.AddSync(f.handlers, "Account", func(ctx context.Context, tx TTx, page *jobs.Page[account]) error {
		for _, a := range page.Records {
			if err := f.exec(ctx, tx, "INSERT INTO app_account VALUES ("+f.arg(1)+")", a.ID); err != nil {
				return err
			}
		}
		for _, id := range page.Deleted {
			if err := f.exec(ctx, tx, "INSERT INTO app_account VALUES ("+f.arg(1)+")", id); err != nil {
				return err
			}
		}
		reached <- struct{}{}
		return nil
	})
	r := f.migrated(t)
	if err := f.inTx(func(tx TTx) error {
		return f.exec(t.Context(), tx, "CREATE TABLE app_account (id text PRIMARY KEY)")
	}); err != nil {
		t.Fatal(err)
	}
	f.connect(t, r)
	if err := r.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	res, err := r.Insert(t.Context(), jobs.Sync{Org: f.orgID, Object: "Account"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	<-reached
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := r.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	rows := f.table(t, "SELECT state, attempt FROM river_job")
	if state := *rows[0]["state"]; state == "running" {
		t.Errorf("after Stop the job is %s", state)
	}
	next := f.migrated(t)
	start(t, next)
	f.ended(t, next, res.Job.ID)
	if got, want := len(f.table(t, "SELECT id FROM app_account")), len(f.org.Rows("Account")); got != want {
		t.Errorf("%d rows arrived, the org has %d", got, want)
	}
}
