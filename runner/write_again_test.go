package runner_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/weirhq/weir/jobs"
	"github.com/weirhq/weir/runner"
	"github.com/weirhq/weir/runner/internal/store"
	"github.com/weirhq/weir/sfapi"
	"github.com/weirhq/weir/sfapi/sftest"
)

// A record whose lock is taken waits while a backlog goes on: it does not spend
// its attempts on the calls that carry the others.
func TestWriteLockedRecordWaits(t *testing.T) {
	t.Parallel()
	onBoth(t, testWriteLockedRecordWaits[*sql.Tx], testWriteLockedRecordWaits[pgx.Tx])
}

func testWriteLockedRecordWaits[TTx any](t *testing.T, f *fixture[TTx]) {
	r := f.running(t)
	f.org.LockKeys("c-7")
	var records []contact
	for i := range 2000 {
		records = append(records, contact{"Ext__c": fmt.Sprint("c-", i), "LastName": "x"})
	}
	receipt, err := r.Write(t.Context(), &jobs.Write{
		Org: f.orgID, Object: "Contact", Operation: jobs.Upsert, ExternalID: "Ext__c", Records: append(records, contact{"Ext__c": "c-7", "LastName": "last"}),
	})
	if err != nil {
		t.Fatal(err)
	}
	// How far the others are by then is the machine's affair: the record's own
	// pauses, and so its attempts, go by the clock.
	eventually(t, "the record is refused", func() bool {
		rows, err := r.Writes().Records(t.Context(), f.orgID, receipt.ID, &jobs.WriteQuery{From: 7, Limit: 1})
		if err != nil {
			t.Fatal(err)
		}
		return len(rows) == 1 && rows[0].Attempts > 0
	})
	f.org.UnlockKeys()
	for i, row := range f.settled(t, r, receipt.ID) {
		if row.Status != jobs.WriteDone {
			t.Errorf("record %d: %s %s after %d attempts", i, row.Status, row.ErrorCode, row.Attempts)
		}
	}
	if got := f.byExt(t, "Contact")["c-7"].Fields["LastName"]; got != "last" {
		t.Errorf("the record ended as %v", got)
	}
}

// Merged records part when the call that carried them was lost and then
// refused, by the record or as a whole: only the bad one is a dead letter.
func TestWriteMergedPartWhenRefused(t *testing.T) {
	t.Parallel()
	onBoth(t, testWriteMergedPartWhenRefused[*sql.Tx], testWriteMergedPartWhenRefused[pgx.Tx])
}

func testWriteMergedPartWhenRefused[TTx any](t *testing.T, f *fixture[TTx]) {
	r := f.running(t)
	for name, bad := range map[string]contact{
		"the record": {"Ext__c": "m", "LastName": strings.Repeat("x", 300)},
		"the call":   {"Ext__c": "m", "Nonsense__c": 1},
	} {
		for _, lost := range []bool{false, true} {
			if lost {
				f.org.Inject(sftest.DropBefore().On("", "/composite/sobjects").Next(1))
			}
			rows := f.write(t, r, jobs.Write{Object: "Contact", Operation: jobs.Upsert, ExternalID: "Ext__c", Records: []contact{
				{"Ext__c": "m", "LastName": "good"}, bad, {"Ext__c": "m", "FirstName": "also good"},
			}})
			var got []string
			for _, row := range rows {
				got = append(got, string(row.Status))
			}
			if diff := cmp.Diff([]string{"done", "failed", "done"}, got); diff != "" {
				t.Errorf("%s is refused, lost before: %v (-want +got):\n%s", name, lost, diff)
			}
		}
	}
}

// Records that all name a field that is not there do not cost a call each, and
// take no other record along.
func TestWriteUnknownFieldCostsFewCalls(t *testing.T) {
	t.Parallel()
	onBoth(t, testWriteUnknownFieldCostsFewCalls[*sql.Tx], testWriteUnknownFieldCostsFewCalls[pgx.Tx])
}

func testWriteUnknownFieldCostsFewCalls[TTx any](t *testing.T, f *fixture[TTx]) {
	r := f.running(t)
	records := make([]contact, 1000)
	for i := range records {
		records[i] = contact{"Ext__c": fmt.Sprint("c-", i), "LastName": "x", "Nonsense__c": i}
		if i%100 == 50 {
			delete(records[i], "Nonsense__c")
		}
	}
	calls := f.org.DailyUsage()
	for i, row := range f.write(t, r, jobs.Write{Object: "Contact", Operation: jobs.Upsert, ExternalID: "Ext__c", Records: records}) {
		want := "failed INVALID_FIELD"
		if i%100 == 50 {
			want = "done"
		}
		if got := outcomes([]*jobs.WriteRow{row})[0]; got != want {
			t.Errorf("record %d is %s, want %s", i, got, want)
		}
	}
	if used := f.org.DailyUsage() - calls; used > 20 {
		t.Errorf("%d API calls", used)
	}
}

// A lost insert that cannot be looked up is a dead letter, and what is behind
// it goes on.
func TestWriteLookUpRefused(t *testing.T) {
	t.Parallel()
	onBoth(t, testWriteLookUpRefused[*sql.Tx], testWriteLookUpRefused[pgx.Tx])
}

func testWriteLookUpRefused[TTx any](t *testing.T, f *fixture[TTx]) {
	f.org.DefineObject(sftest.Object{Name: "Gadget__c", Fields: []sftest.Field{
		{Name: "Number__c", Type: sftest.TypeDouble, ExternalID: true, Unique: true}, {Name: "Ext__c", ExternalID: true, Unique: true},
	}})
	r := f.running(t)
	insert := func(externalID string, records ...contact) int64 {
		t.Helper()
		receipt, err := r.Write(t.Context(), &jobs.Write{Org: f.orgID, Object: "Gadget__c", Operation: jobs.Insert, ExternalID: externalID, Records: records})
		if err != nil {
			t.Fatal(err)
		}
		return receipt.ID
	}
	// A number comes back in another form than it was sent.
	f.org.Inject(sftest.DropAfterCommit().On("", "/composite/sobjects").Next(1))
	rows := f.settled(t, r, insert("Number__c", contact{"Number__c": 12}, contact{"Number__c": 12.5}))
	for _, row := range rows {
		if row.Status != jobs.WriteDone || row.Attempts != 0 {
			t.Errorf("%s: %s %s after %d attempts more", row.Key, row.Status, row.ErrorCode, row.Attempts)
		}
	}

	f.org.Inject(sftest.DropAfterCommit().On("", "/composite/sobjects").Next(1))
	lost := insert("Ext__c", contact{"Ext__c": "lost"})
	eventually(t, "the answer is lost", func() bool { return f.org.Count("Gadget__c") == 3 })
	f.org.RemoveField("Gadget__c", "Ext__c")
	behind := insert("", contact{"Number__c": 13})
	if diff := cmp.Diff([]string{"unknown WEIR_OUTCOME_UNKNOWN"}, outcomes(f.settled(t, r, lost))); diff != "" {
		t.Errorf("the lost one (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"done"}, outcomes(f.settled(t, r, behind))); diff != "" {
		t.Errorf("the one behind it (-want +got):\n%s", diff)
	}
}

// forgetful is a database that is away when outcomes are to be recorded.
type forgetful[TTx any] struct {
	store.Store[TTx]
	refusals atomic.Int32
}

var errAway = errors.New("database is away")

func (s *forgetful[TTx]) Settle(ctx context.Context, org sfapi.OrgID, object string, epoch int64, outcomes []jobs.WriteOutcome, failed func(context.Context, TTx, *jobs.WriteFailure) error) error {
	if s.refusals.Add(-1) >= 0 {
		return errAway
	}
	return s.Store.Settle(ctx, org, object, epoch, outcomes, failed)
}

// What Salesforce answered is recorded once the database is back: nobody would
// tell it again.
func TestWriteOutcomeOutlivesOutage(t *testing.T) {
	t.Parallel()
	onBoth(t, testWriteOutcomeOutlivesOutage[*sql.Tx], testWriteOutcomeOutlivesOutage[pgx.Tx])
}

func testWriteOutcomeOutlivesOutage[TTx any](t *testing.T, f *fixture[TTx]) {
	away := &forgetful[TTx]{Store: f.driver.Store()}
	away.refusals.Store(4)
	f.driver = runner.NewDriver[TTx](away)
	r := f.running(t)
	rows := f.write(t, r, jobs.Write{Object: "Contact", Operation: jobs.Insert, Records: []contact{{"LastName": "x"}}})
	if diff := cmp.Diff([]string{"done"}, outcomes(rows)); diff != "" {
		t.Errorf("outcomes (-want +got):\n%s", diff)
	}
	if n := f.org.Count("Contact"); n != 1 {
		t.Errorf("the org has %d records", n)
	}
}
