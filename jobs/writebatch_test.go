package jobs_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weirhq/weir/jobs"
	"github.com/weirhq/weir/sfapi"
)

// rec is a pending row.
func rec(id int64, op sfapi.Operation, key, payload string) *jobs.WriteRow {
	r := &jobs.WriteRow{ID: id, Operation: op, Key: key, Payload: json.RawMessage(payload), Status: jobs.WritePending}
	if op == jobs.Upsert {
		r.ExternalID = "Ext__c"
	}
	return r
}

func TestNextBatch(t *testing.T) {
	t.Parallel()
	again := func(r *jobs.WriteRow) *jobs.WriteRow { r.Attempts = 1; return r }
	sent := func(r *jobs.WriteRow) *jobs.WriteRow { r.Status = jobs.WriteSent; return r }
	many := make([]*jobs.WriteRow, 300)
	for i := range many {
		many[i] = rec(int64(i+1), jobs.Upsert, fmt.Sprint("k", i), `{}`)
	}
	first200 := make([]int64, 200)
	for i := range first200 {
		first200[i] = int64(i + 1)
	}
	large := `{"D":"` + strings.Repeat("x", 3<<20) + `"}`
	for name, c := range map[string]struct {
		rows    []*jobs.WriteRow
		sent    []int64
		merged  map[int64]int64
		records []string
		waiting []int64
	}{
		"one operation only": {
			rows: []*jobs.WriteRow{rec(1, jobs.Upsert, "a", `{"A":1}`), rec(2, jobs.Update, "b", `{"A":1}`), rec(3, jobs.Upsert, "c", `{"A":1}`)},
			sent: []int64{1}, merged: map[int64]int64{}, records: []string{`{"A":1}`},
		},
		"200 records": {rows: many, sent: first200, merged: map[int64]int64{}},
		"updates of one record are merged": {
			rows: []*jobs.WriteRow{
				rec(1, jobs.Upsert, "a", `{"Ext__c":"a","X":1,"Y":1}`), rec(2, jobs.Upsert, "b", `{"Ext__c":"b"}`),
				rec(3, jobs.Upsert, "a", `{"Ext__c":"a","Y":2}`), rec(4, jobs.Upsert, "a", `{"ext__c":"a","z":null}`),
			},
			sent: []int64{4, 2}, merged: map[int64]int64{1: 4, 3: 4},
			records: []string{`{"X":1,"Y":2,"ext__c":"a","z":null}`, `{"Ext__c":"b"}`},
		},
		"a refused one goes by itself": {
			rows: []*jobs.WriteRow{again(rec(1, jobs.Update, "a", `{"X":1}`)), rec(2, jobs.Update, "b", `{"X":1}`), rec(3, jobs.Update, "a", `{"X":2}`)},
			sent: []int64{1, 2}, merged: map[int64]int64{}, records: []string{`{"X":1}`, `{"X":1}`},
		},
		"inserts are never merged": {
			rows: []*jobs.WriteRow{rec(1, jobs.Insert, "", `{"X":1}`), rec(2, jobs.Insert, "", `{"X":1}`)},
			sent: []int64{1, 2}, merged: map[int64]int64{}, records: []string{`{"X":1}`, `{"X":1}`},
		},
		"a record is deleted once in a call": {
			rows: []*jobs.WriteRow{rec(1, jobs.Delete, "a", `{"Id":"a"}`), rec(2, jobs.Delete, "b", `{"Id":"b"}`), rec(3, jobs.Delete, "a", `{"Id":"a"}`)},
			sent: []int64{1, 2}, merged: map[int64]int64{}, records: []string{`{"Id":"a"}`, `{"Id":"b"}`},
		},
		"what may have arrived goes before what has not": {
			rows: []*jobs.WriteRow{sent(rec(1, jobs.Update, "a", `{"X":1}`)), rec(2, jobs.Update, "a", `{"X":2}`)},
			sent: []int64{1}, merged: map[int64]int64{}, records: []string{`{"X":1}`},
		},
		"keys that differ in case are not in one call": {
			rows: []*jobs.WriteRow{rec(1, jobs.Upsert, "a", `{"Ext__c":"a"}`), rec(2, jobs.Upsert, "b", `{"Ext__c":"b"}`), rec(3, jobs.Upsert, "A", `{"Ext__c":"A"}`)},
			sent: []int64{1, 2}, merged: map[int64]int64{}, records: []string{`{"Ext__c":"a"}`, `{"Ext__c":"b"}`},
		},
		"a row that waits holds back its record only": {
			rows: []*jobs.WriteRow{
				again(rec(1, jobs.Upsert, "a", `{"X":1}`)), rec(2, jobs.Upsert, "b", `{"X":1}`), rec(3, jobs.Upsert, "a", `{"X":2}`),
				rec(4, jobs.Upsert, "c", `{"X":1}`), rec(5, jobs.Delete, "d", `{"Id":"d"}`),
			},
			waiting: []int64{1}, sent: []int64{2, 4}, merged: map[int64]int64{}, records: []string{`{"X":1}`, `{"X":1}`},
		},
		"another operation waits too": {
			rows:    []*jobs.WriteRow{again(rec(1, jobs.Upsert, "a", `{"X":1}`)), rec(2, jobs.Delete, "b", `{"Id":"b"}`)},
			waiting: []int64{1}, sent: []int64{}, merged: map[int64]int64{},
		},
		"large records go alone": {
			rows: []*jobs.WriteRow{rec(1, jobs.Update, "a", large), rec(2, jobs.Update, "b", large)},
			sent: []int64{1}, merged: map[int64]int64{}, records: []string{large},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, err := jobs.NextBatch(c.rows, func(r *jobs.WriteRow) bool { return slices.Contains(c.waiting, r.ID) })
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.sent, b.Sent()); diff != "" {
				t.Errorf("sent (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(c.merged, b.Merged()); diff != "" {
				t.Errorf("merged (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(c.records, b.Records()); c.records != nil && diff != "" {
				t.Errorf("records (-want +got):\n%.2000s", diff)
			}
		})
	}
	if b, err := jobs.NextBatch(nil, nil); b != nil || err != nil {
		t.Errorf("of nothing: %v, %v", b, err)
	}
}
