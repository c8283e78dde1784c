package storetest

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/riverqueue/river/rivermigrate"

	"github.com/weirhq/weir/jobs"
	"github.com/weirhq/weir/runner/internal/store"
)

// Bench measures the paths that carry records. Open returns a store on an
// empty database that is closed when the benchmark ends.
func Bench[TTx any](b *testing.B, open func(b *testing.B) store.Store[TTx]) {
	b.Helper()
	for name, bench := range map[string]func(*testing.B, store.Store[TTx]){
		"append 10000 records": benchAppend[TTx],
		"drain 10000 records":  benchDrain[TTx],
		"upsert 2000x20":       benchUpsert[TTx],
	} {
		b.Run(name, func(b *testing.B) {
			s := open(b)
			migrator, err := rivermigrate.New(s.Driver(), &rivermigrate.Config{Logger: quiet()})
			mustBench(b, err)
			_, err = migrator.Migrate(b.Context(), rivermigrate.DirectionUp, nil)
			mustBench(b, err)
			mustBench(b, s.Migrate(b.Context()))
			bench(b, s)
		})
	}
}

func mustBench(b *testing.B, err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

// benchRecords is the most records that one write takes.
const benchRecords = 10_000

func benchBatch() *jobs.WriteBatch {
	payloads := make([]string, benchRecords)
	for i := range payloads {
		payloads[i] = fmt.Sprintf(`{"Ext__c":"ext-%d","LastName":"Nachname %d","Email":"n%d@example.com","Phone":"+49 30 %08d"}`, i, i, i, i)
	}
	return batch(riverOrg(1), payloads...)
}

func perSecond(b *testing.B, n int, unit string) {
	b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), unit+"/s")
}

func benchAppend[TTx any](b *testing.B, s store.Store[TTx]) {
	records := benchBatch()
	for b.Loop() {
		mustBench(b, s.InTx(b.Context(), func(ctx context.Context, tx TTx) error {
			_, err := s.AppendTx(ctx, tx, records)
			return err
		}))
	}
	perSecond(b, benchRecords, "records")
}

// benchDrain takes 10,000 records through the log in collections of 200.
func benchDrain[TTx any](b *testing.B, s store.Store[TTx]) {
	records := benchBatch()
	ctx := b.Context()
	for b.Loop() {
		b.StopTimer()
		mustBench(b, s.InTx(ctx, func(ctx context.Context, tx TTx) error {
			_, err := s.AppendTx(ctx, tx, records)
			return err
		}))
		b.StartTimer()
		epoch, err := s.BeginDrain(ctx, riverOrg(1), object, 1)
		mustBench(b, err)
		for {
			rows, err := s.NextRows(ctx, riverOrg(1), object, 200)
			mustBench(b, err)
			if len(rows) == 0 {
				break
			}
			ids, outcomes := make([]int64, len(rows)), make([]jobs.WriteOutcome, len(rows))
			for i, r := range rows {
				ids[i] = r.ID
				outcomes[i] = jobs.WriteOutcome{ID: r.ID, Status: jobs.WriteDone, SalesforceID: "003000000000001AAA", Created: true}
			}
			mustBench(b, s.MarkSent(ctx, riverOrg(1), object, epoch, ids, map[int64]int64{}, map[int64]json.RawMessage{}))
			mustBench(b, s.Settle(ctx, riverOrg(1), object, epoch, outcomes, nil))
		}
		released, err := s.EndDrain(ctx, riverOrg(1), object, epoch)
		mustBench(b, err)
		if !released {
			b.Fatal("the drain did not end")
		}
	}
	perSecond(b, benchRecords, "records")
}

// BenchMirror is a mirror table of 20 columns and a page of 2,000 rows for it.
func BenchMirror() (*jobs.MirrorTable, []jobs.MirrorRow) {
	t := &jobs.MirrorTable{Name: "salesforce_bench"}
	types := []jobs.ColumnType{jobs.ColumnText, jobs.ColumnText, jobs.ColumnNumeric, jobs.ColumnBoolean, jobs.ColumnTimestamp}
	for i := range 20 {
		t.Columns = append(t.Columns, jobs.MirrorColumn{Name: fmt.Sprintf("f%d__c", i), Field: fmt.Sprintf("F%d__c", i), Type: types[i%len(types)]})
	}
	rows := make([]jobs.MirrorRow, 2000)
	for i := range rows {
		rows[i] = jobs.MirrorRow{ID: fmt.Sprintf("003%012dAAA", i), Values: make([]*string, len(t.Columns))}
		for j := range t.Columns {
			switch t.Columns[j].Type {
			case jobs.ColumnNumeric:
				rows[i].Values[j] = text(fmt.Sprintf("%d.%02d", i, j))
			case jobs.ColumnBoolean:
				rows[i].Values[j] = text("true")
			case jobs.ColumnTimestamp:
				rows[i].Values[j] = text(fmt.Sprintf("2026-02-28T12:%02d:00.000Z", i%60))
			default:
				if (i+j)%5 != 0 {
					rows[i].Values[j] = text(fmt.Sprintf("Müller %d/%d", i, j))
				}
			}
		}
	}
	return t, rows
}

func benchUpsert[TTx any](b *testing.B, s store.Store[TTx]) {
	t, rows := BenchMirror()
	mustBench(b, s.EnsureMirror(b.Context(), t))
	n := 0
	for b.Loop() {
		// New rows each time, as a backfill brings them.
		for i := range rows {
			rows[i].ID = fmt.Sprintf("003%012dAAA", n)
			n++
		}
		mustBench(b, s.InTx(b.Context(), func(ctx context.Context, tx TTx) error {
			return s.UpsertMirrorTx(ctx, tx, t, riverOrg(1), rows)
		}))
	}
	perSecond(b, len(rows), "rows")
}
