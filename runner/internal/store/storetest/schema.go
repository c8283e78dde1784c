package storetest

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weirhq/weir/jobs"
	"github.com/weirhq/weir/sfapi"
)

func (s *suite[TTx]) swapSchema(t *testing.T, org sfapi.OrgID, at time.Time, fields ...jobs.SchemaField) (was []jobs.SchemaField) {
	t.Helper()
	s.inTx(t, func(ctx context.Context, tx TTx) (err error) {
		was, err = s.store.SwapSchemaTx(ctx, tx, org, object, fields, at)
		return err
	})
	return was
}

func testSchema[TTx any](t *testing.T, s *suite[TTx]) {
	id, name, size := jobs.SchemaField{Name: "Id", Type: "id"}, jobs.SchemaField{Name: "Name", Type: "string"}, jobs.SchemaField{Name: "Size__c", Type: "double"}
	at := time.Now().UTC().Truncate(time.Microsecond)
	none := []jobs.SchemaField(nil)
	diff(t, "the first time", s.swapSchema(t, riverOrg(1), at, id, name), none)
	diff(t, "the same", s.swapSchema(t, riverOrg(1), at.Add(time.Second), id, name), none)
	diff(t, "another org", s.swapSchema(t, riverOrg(2), at, id), none)
	diff(t, "a field more", s.swapSchema(t, riverOrg(1), at.Add(2*time.Second), id, name, size), []jobs.SchemaField{id, name})
	diff(t, "an older answer that came late", s.swapSchema(t, riverOrg(1), at.Add(time.Second), id, name), none)
	diff(t, "a field less", s.swapSchema(t, riverOrg(1), at.Add(3*time.Second), id, size), []jobs.SchemaField{id, name, size})

	// Many find the same change: one tells it.
	var told atomic.Int64
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			err := s.store.InTx(t.Context(), func(ctx context.Context, tx TTx) error {
				was, err := s.store.SwapSchemaTx(ctx, tx, riverOrg(1), object, []jobs.SchemaField{id}, at.Add(4*time.Second))
				if was != nil {
					told.Add(1)
				}
				return err
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	diff(t, "told", told.Load(), int64(1))
}

// A write is told of when its last record has its outcome, and only when some
// have failed.
func testWriteFailures[TTx any](t *testing.T, s *suite[TTx]) {
	epoch := s.beginDrain(t, s.runningJob(t))
	first := s.append(t, batch(riverOrg(1), `{"n":0}`, `{"n":1}`, `{"n":2}`)).ID
	second := s.append(t, batch(riverOrg(1), `{"n":3}`)).ID
	s.append(t, batch(riverOrg(1), `{"n":4}`))
	rows := s.nextRows(t, 10)
	ids := make([]int64, len(rows))
	for i, r := range rows {
		ids[i] = r.ID
	}
	var told []*jobs.WriteFailure
	settle := func(outcomes ...jobs.WriteOutcome) {
		t.Helper()
		told = nil
		must(t, s.store.Settle(t.Context(), riverOrg(1), object, epoch, outcomes, func(_ context.Context, _ TTx, f *jobs.WriteFailure) error {
			told = append(told, f)
			return nil
		}))
	}
	failure := func(id int64, accepted, failed, unknown int, code string) *jobs.WriteFailure {
		w := batch(riverOrg(1), `{}`)
		return &jobs.WriteFailure{
			Org: riverOrg(1), Object: object, WriteID: id, Operation: w.Operation, Accepted: accepted,
			Failed: failed, Unknown: unknown, ErrorCode: code,
		}
	}
	none := []*jobs.WriteFailure(nil)
	s.mark(t, epoch, []int64{ids[0], ids[1]}, nil, nil)
	settle(jobs.WriteOutcome{ID: ids[0], Status: jobs.WriteFailed, ErrorCode: "A"}, jobs.WriteOutcome{ID: ids[1], Status: jobs.WritePending})
	diff(t, "with records open", told, none)
	// The second write's record goes with the first's last one.
	s.mark(t, epoch, []int64{ids[1], ids[2], ids[3]}, map[int64]int64{ids[3]: ids[2]}, nil)
	settle(jobs.WriteOutcome{ID: ids[1], Status: jobs.WriteDone}, jobs.WriteOutcome{ID: ids[2], Status: jobs.WriteUnknown, ErrorCode: "B"})
	diff(t, "two that ended", told, []*jobs.WriteFailure{failure(first, 3, 1, 1, "A"), failure(second, 1, 0, 1, "B")})
	s.mark(t, epoch, []int64{ids[4]}, nil, nil)
	settle(jobs.WriteOutcome{ID: ids[4], Status: jobs.WriteDone})
	diff(t, "one without failures", told, none)

	// It is told again when its retry ends so.
	s.inTx(t, func(ctx context.Context, tx TTx) error {
		_, _, err := s.store.RetryWriteTx(ctx, tx, riverOrg(1), second)
		return err
	})
	s.mark(t, epoch, []int64{ids[3]}, nil, nil)
	settle(jobs.WriteOutcome{ID: ids[3], Status: jobs.WriteFailed, ErrorCode: "C"})
	diff(t, "after a retry", told, []*jobs.WriteFailure{failure(second, 1, 1, 0, "C")})
}
