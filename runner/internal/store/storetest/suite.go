// Package storetest is the conformance suite of package store: what every
// database that Weir runs on must do.
package storetest

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weirhq/weir/breaker"
	"github.com/weirhq/weir/jobs"
	"github.com/weirhq/weir/runner/internal/store"
	"github.com/weirhq/weir/sfapi"
)

// Run proves a store's methods other than those of store.River, for which
// there is RunRiver. Open returns a store on an empty database that is closed
// when the test ends.
func Run[TTx any](t *testing.T, open func(t *testing.T) store.Store[TTx]) {
	t.Helper()
	for name, test := range map[string]func(*testing.T, *suite[TTx]){
		"InTx":                                   testInTx[TTx],
		"Now":                                    testNow[TTx],
		"Migrate/down and up":                    testMigrateDown[TTx],
		"Orgs/connect and reconnect":             testConnect[TTx],
		"Orgs/update by version":                 testUpdateOrg[TTx],
		"Orgs/disconnect":                        testDisconnect[TTx],
		"Orgs/list":                              testListOrgs[TTx],
		"Orgs/usage":                             testUsage[TTx],
		"Orgs/listen":                            testListen[TTx],
		"Credentials/one refresh at a time":      testRefreshOnce[TTx],
		"Credentials/many at once":               testRefreshMany[TTx],
		"Credentials/unknown outcome":            testRefreshUnknown[TTx],
		"Credentials/end without a token":        testEndRefresh[TTx],
		"Credentials/reseal":                     testReseal[TTx],
		"Syncs/runs":                             testSyncRuns[TTx],
		"Syncs/modes":                            testSyncModes[TTx],
		"Syncs/lease":                            testSyncLease[TTx],
		"Syncs/seen rows":                        testSeen[TTx],
		"Syncs/failure":                          testSyncFailure[TTx],
		"Syncs/fields of an object":              testSchema[TTx],
		"Writes/round trip":                      testWriteRoundTrip[TTx],
		"Writes/bad batches":                     testBadBatches[TTx],
		"Writes/idempotency key":                 testIdempotency[TTx],
		"Writes/idempotency key at once":         testIdempotencyRace[TTx],
		"Writes/pages":                           testWritePages[TTx],
		"Writes/retry":                           testRetryWrite[TTx],
		"Writes/cancel":                          testCancelWrites[TTx],
		"Writes/undrained":                       testUndrained[TTx],
		"Writes/failures are told":               testWriteFailures[TTx],
		"Drain/order and outcomes":               testDrain[TTx],
		"Drain/rows come by bytes":               testNextRowsBytes[TTx],
		"Drain/merged rows":                      testDrainMerged[TTx],
		"Drain/lease":                            testDrainLease[TTx],
		"Drain/nothing is overlooked at its end": testDrainEnd[TTx],
		"Calls/counts":                           testCallCounts[TTx],
		"Calls/failures and tokens":              testFailedCalls[TTx],
		"Calls/prune":                            testPruneCalls[TTx],
		"Mirror/every type":                      testMirrorTypes[TTx],
		"Mirror/columns are added":               testMirrorColumns[TTx],
		"Mirror/made by many at once":            testMirrorRace[TTx],
		"Mirror/refused tables and values":       testMirrorRefused[TTx],
		"Mirror/wide and long":                   testMirrorWide[TTx],
		"Events/log":                             testEvents[TTx],
		"Events/by cursor while others write":    testEventsCursor[TTx],
		"Cancellations/life":                     testCancellations[TTx],
		"Cancellations/records":                  testCancelAndRequeueWrites[TTx],
		"Cancellations/jobs in a transaction":    testCancelTx[TTx],
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, &suite[TTx]{newRiverTest(t, open(t))})
		})
	}
}

// suite is a store with tables, and River beside it.
type suite[TTx any] struct{ *riverTest[TTx] }

// object is what the tests sync and write.
const object = "Contact"

// runningJob returns the id of a job that River has in state running.
func (s *suite[TTx]) runningJob(t *testing.T) int64 {
	t.Helper()
	org := riverOrg(0)
	id := s.insert(t, breaker.Write, laneJob{Org: org}, nil)
	if got := s.fetch(t, "p", breaker.Write.Queue(org), 1); len(got) != 1 || got[0].ID != id {
		t.Fatalf("fetched %d jobs, want job %d", len(got), id)
	}
	return id
}

// endJob completes a job.
func (s *suite[TTx]) endJob(t *testing.T, id int64) {
	t.Helper()
	s.finish(t, s.job(t, id))
}

// isErr checks that err is target.
func isErr(t *testing.T, what string, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Errorf("%s: got error %v, want %v", what, err, target)
	}
}

var errRollback = errors.New("roll back")

func testInTx[TTx any](t *testing.T, s *suite[TTx]) {
	err := s.store.InTx(t.Context(), func(ctx context.Context, tx TTx) error {
		_, err := s.store.AppendTx(ctx, tx, batch(riverOrg(1), "{}"))
		must(t, err)
		return errRollback
	})
	isErr(t, "InTx", err, errRollback)
	if err != nil && err.Error() != errRollback.Error() {
		t.Errorf("the error was wrapped: %v", err)
	}
	rows, err := s.store.NextRows(t.Context(), riverOrg(1), object, 10)
	must(t, err)
	if len(rows) != 0 {
		t.Errorf("%d rows after a rollback", len(rows))
	}

	ctx, cancel := context.WithCancel(t.Context())
	err = s.store.InTx(ctx, func(ctx context.Context, tx TTx) error {
		_, err := s.store.AppendTx(ctx, tx, batch(riverOrg(1), "{}"))
		must(t, err)
		cancel()
		return nil
	})
	if err == nil {
		t.Error("committed under a cancelled context")
	}
	rows, err = s.store.NextRows(t.Context(), riverOrg(1), object, 10)
	must(t, err)
	if len(rows) != 0 {
		t.Errorf("%d rows after a cancelled transaction", len(rows))
	}
}

func testNow[TTx any](t *testing.T, s *suite[TTx]) {
	must(t, s.store.Ping(t.Context()))
	first, err := s.store.Now(t.Context())
	must(t, err)
	second, err := s.store.Now(t.Context())
	must(t, err)
	if first.IsZero() || second.Before(first) || first.Location().String() != "UTC" {
		t.Errorf("Now gave %v, then %v", first, second)
	}
}

func testMigrateDown[TTx any](t *testing.T, s *suite[TTx]) {
	s.connect(t, 1)
	must(t, s.store.Migrate(t.Context())) // nothing to do
	if _, err := s.store.Org(t.Context(), riverOrg(0)); err != nil {
		t.Errorf("after a second Migrate: %v", err)
	}
	if err := s.store.MigrateDown(t.Context(), 1000); err == nil {
		t.Error("went down to version 1000")
	}
	for range 2 {
		must(t, s.store.MigrateDown(t.Context(), 0))
		if _, err := s.store.Org(t.Context(), riverOrg(0)); err == nil || errors.Is(err, jobs.ErrNotFound) {
			t.Errorf("read an org without tables: %v", err)
		}
		must(t, s.store.Migrate(t.Context()))
		_, err := s.store.Org(t.Context(), riverOrg(0))
		isErr(t, "read an org from new tables", err, jobs.ErrNotFound)
	}
	s.connect(t, 1)
}

// RunProcesses proves that two processes may migrate an empty database at once.
// Open returns two stores on the same empty database, as two processes have
// them.
func RunProcesses[TTx any](t *testing.T, open func(t *testing.T) (a, b store.Store[TTx])) {
	t.Helper()
	a, b := open(t)
	for range 3 {
		start, errs := make(chan struct{}), make(chan error, 2)
		for _, s := range []store.Store[TTx]{a, b} {
			go func() {
				<-start
				errs <- s.Migrate(t.Context())
			}()
		}
		close(start)
		if err := errors.Join(<-errs, <-errs); err != nil {
			t.Fatal(err)
		}
		_, err := a.Org(t.Context(), riverOrg(0))
		isErr(t, "read an org", err, jobs.ErrNotFound)
		must(t, b.MigrateDown(t.Context(), 0))
	}
}

// diffAt compares two values of the same meaning and cuts neither short.
func diffAt[T any](t *testing.T, what string, got, want T, opts ...cmp.Option) {
	t.Helper()
	if d := cmp.Diff(want, got, opts...); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}

// batch is a write of Contacts to org, one record a payload.
func batch(org sfapi.OrgID, payloads ...string) *jobs.WriteBatch {
	b := &jobs.WriteBatch{Org: org, Object: object, Operation: sfapi.OpUpsert, ExternalID: "Ext__c"}
	for _, p := range payloads {
		b.Keys = append(b.Keys, "")
		b.Payloads = append(b.Payloads, []byte(p))
	}
	return b
}
