package storetest

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/weirhq/weir/jobs"
)

// ignoreSyncClock leaves out the times that the database's clock sets.
var ignoreSyncClock = cmp.Options{
	cmpopts.IgnoreFields(jobs.SyncState{}, "StartedAt", "UpdatedAt"),
	cmpopts.IgnoreFields(jobs.SyncRun{}, "StartedAt", "FinishedAt"),
}

// second is a SystemModstamp.
func second(n int) time.Time { return time.Date(2026, 3, 1, 0, 0, n, 0, time.UTC) }

func seenRow(id string, n int, hash byte) jobs.SeenRow {
	return jobs.SeenRow{ID: id, Stamp: second(n), Hash: [16]byte{hash, 15: 255}}
}

func (s *suite[TTx]) beginSync(t *testing.T, jobID int64, mode jobs.SyncMode) *jobs.SyncState {
	t.Helper()
	st, err := s.store.BeginSync(t.Context(), riverOrg(1), object, jobID, mode)
	must(t, err)
	s.isSaved(t, st)
	return st
}

// isSaved checks that st is what the database has.
func (s *suite[TTx]) isSaved(t *testing.T, st *jobs.SyncState) {
	t.Helper()
	list, err := s.store.Syncs(t.Context(), st.Org)
	must(t, err)
	diff(t, "saved states", list, []*jobs.SyncState{st})
}

func (s *suite[TTx]) savePage(t *testing.T, st *jobs.SyncState, p *jobs.PageProgress) {
	t.Helper()
	s.inTx(t, func(ctx context.Context, tx TTx) error { return s.store.SavePageTx(ctx, tx, st, p) })
	s.isSaved(t, st)
}

func (s *suite[TTx]) finishSync(t *testing.T, st *jobs.SyncState, nextFrom time.Time) {
	t.Helper()
	s.inTx(t, func(ctx context.Context, tx TTx) error { return s.store.FinishSyncTx(ctx, tx, st, nextFrom) })
	s.isSaved(t, st)
}

func testSyncRuns[TTx any](t *testing.T, s *suite[TTx]) {
	list, err := s.store.Syncs(t.Context(), riverOrg(1))
	must(t, err)
	diff(t, "syncs before the first", list, []*jobs.SyncState{})

	st := s.beginSync(t, 7, "")
	want := &jobs.SyncState{Org: riverOrg(1), Object: object, Epoch: 1, JobID: 7, Running: true, Mode: jobs.Incremental}
	diffAt(t, "first run", st, want, ignoreSyncClock)
	if st.StartedAt.IsZero() || st.StartedAt.Location() != time.UTC {
		t.Errorf("started at %v", st.StartedAt)
	}

	s.savePage(t, st, &jobs.PageProgress{Cursor: jobs.Cursor{Stamp: second(5), ID: "003b"}, ServerStart: sampleStamp, Rows: 10, Deleted: 2, APICalls: 3})
	s.savePage(t, st, &jobs.PageProgress{Cursor: jobs.Cursor{Stamp: second(5), ID: "003c"}, ServerStart: sampleStamp.Add(time.Hour), Rows: 1, APICalls: 1})
	want.Cursor, want.ServerStart = jobs.Cursor{Stamp: second(5), ID: "003c"}, sampleStamp
	want.Rows, want.Deleted, want.APICalls, want.TotalRows = 11, 2, 4, 11
	diffAt(t, "after two pages", st, want, ignoreSyncClock)

	before := *st
	err = s.store.InTx(t.Context(), func(ctx context.Context, tx TTx) error {
		return s.store.SavePageTx(ctx, tx, st, &jobs.PageProgress{Cursor: jobs.Cursor{Stamp: second(4), ID: "003z"}})
	})
	if err == nil {
		t.Error("a cursor that moves back was saved")
	}
	diff(t, "state after a refused page", st, &before)
	s.isSaved(t, st)

	// The next slice is another job: the run goes on.
	st = s.beginSync(t, 8, jobs.Incremental)
	want.Epoch, want.JobID = 2, 8
	diffAt(t, "the run goes on", st, want, ignoreSyncClock)
	if !st.StartedAt.Equal(before.StartedAt) {
		t.Errorf("the run's start moved from %v to %v", before.StartedAt, st.StartedAt)
	}

	s.inTx(t, func(ctx context.Context, tx TTx) error { return s.store.RestartRunTx(ctx, tx, st) })
	want.Cursor = jobs.Cursor{}
	diffAt(t, "restarted", st, want, ignoreSyncClock)
	s.isSaved(t, st)

	s.finishSync(t, st, second(3))
	want.Running, want.NextFrom = false, second(3)
	want.LastRun = &jobs.SyncRun{Mode: jobs.Incremental, Rows: 11, Deleted: 2, APICalls: 4}
	diffAt(t, "finished", st, want, ignoreSyncClock)
	if !st.LastRun.StartedAt.Equal(st.StartedAt) || st.LastRun.FinishedAt.Before(st.StartedAt) {
		t.Errorf("the run that began at %v lasted from %v to %v", st.StartedAt, st.LastRun.StartedAt, st.LastRun.FinishedAt)
	}

	st = s.beginSync(t, 9, jobs.Incremental)
	want = &jobs.SyncState{
		Org: riverOrg(1), Object: object, Epoch: 3, JobID: 9, Running: true, Mode: jobs.Incremental,
		From: second(3), NextFrom: second(3), TotalRows: 11, LastRun: want.LastRun,
	}
	diffAt(t, "second run", st, want, ignoreSyncClock)

	other, err := s.store.BeginSync(t.Context(), riverOrg(1), "Account", 9, jobs.Full)
	must(t, err)
	list, err = s.store.Syncs(t.Context(), riverOrg(1))
	must(t, err)
	diff(t, "syncs by object", list, []*jobs.SyncState{other, st})
}

func testSyncModes[TTx any](t *testing.T, s *suite[TTx]) {
	page := &jobs.PageProgress{Cursor: jobs.Cursor{Stamp: second(9), ID: "003"}, Rows: 1}
	st := s.beginSync(t, 1, jobs.Incremental)
	s.savePage(t, st, page)
	s.finishSync(t, st, second(5))

	for _, step := range []struct {
		name      string
		job       int64
		mode      jobs.SyncMode
		wantMode  jobs.SyncMode
		wantAnew  bool
		wantFrom  time.Time
		finishing bool
	}{
		{name: "incremental from NextFrom", job: 2, mode: jobs.Incremental, wantMode: jobs.Incremental, wantAnew: true, wantFrom: second(5)},
		{name: "full begins anew over it", job: 3, mode: jobs.Full, wantMode: jobs.Full, wantAnew: true},
		{name: "its own next slice goes on", job: 3, mode: jobs.Full, wantMode: jobs.Full},
		{name: "incremental goes on in full mode", job: 4, mode: jobs.Incremental, wantMode: jobs.Full},
		{name: "the one that began it goes on", job: 3, mode: jobs.Full, wantMode: jobs.Full},
		{name: "another full begins anew", job: 5, mode: jobs.Full, wantMode: jobs.Full, wantAnew: true, finishing: true},
		{name: "incremental after full", job: 6, mode: jobs.Incremental, wantMode: jobs.Incremental, wantAnew: true, wantFrom: second(5)},
	} {
		st := s.beginSync(t, step.job, step.mode)
		if st.Mode != step.wantMode || !st.From.Equal(step.wantFrom) || st.Cursor.IsZero() != step.wantAnew || (st.Rows == 0) != step.wantAnew {
			t.Errorf("%s: mode %s from %v at %v with %d rows", step.name, st.Mode, st.From, st.Cursor, st.Rows)
		}
		if step.wantAnew {
			s.savePage(t, st, page)
		}
		if step.finishing {
			s.finishSync(t, st, second(5))
		}
	}
}

func testSyncLease[TTx any](t *testing.T, s *suite[TTx]) {
	holder := s.runningJob(t)
	st := s.beginSync(t, holder, jobs.Incremental)
	_, err := s.store.BeginSync(t.Context(), riverOrg(1), object, holder+1, jobs.Full)
	isErr(t, "begin while another job runs", err, jobs.ErrBusy)
	s.isSaved(t, st)
	again := s.beginSync(t, holder, jobs.Incremental) // the same job, after a crash

	lost := func(what string, st *jobs.SyncState) {
		t.Helper()
		for name, fn := range map[string]func(ctx context.Context, tx TTx) error{
			"SavePageTx": func(ctx context.Context, tx TTx) error {
				return s.store.SavePageTx(ctx, tx, st, &jobs.PageProgress{Rows: 1, Seen: []jobs.SeenRow{seenRow("003", 1, 1)}})
			},
			"RestartRunTx": func(ctx context.Context, tx TTx) error { return s.store.RestartRunTx(ctx, tx, st) },
			"FinishSyncTx": func(ctx context.Context, tx TTx) error { return s.store.FinishSyncTx(ctx, tx, st, second(1)) },
		} {
			isErr(t, what+": "+name, s.store.InTx(t.Context(), fn), jobs.ErrLeaseLost)
		}
		must(t, s.store.FailSync(t.Context(), st, "too late"))
		must(t, s.store.ReleaseSync(t.Context(), st))
	}
	lost("an older epoch of the same job", st)
	s.isSaved(t, again)
	_, err = s.store.BeginSync(t.Context(), riverOrg(1), object, holder+1, jobs.Full)
	isErr(t, "the newer epoch still has the lease", err, jobs.ErrBusy)

	s.endJob(t, holder)
	taken := s.beginSync(t, holder+1, jobs.Incremental)
	lost("taken over from a dead job", again)
	s.isSaved(t, taken)

	second := s.runningJob(t)
	held := s.beginSync(t, second, jobs.Incremental)
	must(t, s.store.ReleaseSync(t.Context(), held))
	after := s.beginSync(t, second+1, jobs.Incremental) // second still runs
	if after.Epoch != held.Epoch+1 {
		t.Errorf("epoch %d after %d", after.Epoch, held.Epoch)
	}
}

func testSeen[TTx any](t *testing.T, s *suite[TTx]) {
	st := s.beginSync(t, 1, jobs.Incremental)
	page := &jobs.PageProgress{Cursor: jobs.Cursor{Stamp: second(9)}, Seen: []jobs.SeenRow{
		seenRow("a", 1, 1), seenRow("a", 2, 2), seenRow("b", 2, 1), seenRow("c", 3, 1),
	}}
	s.savePage(t, st, &jobs.PageProgress{Seen: []jobs.SeenRow{seenRow("a", 2, 1)}}) // not the last of its stamp
	s.savePage(t, st, page)
	s.savePage(t, st, page) // the same versions again
	ask := []jobs.SeenRow{
		seenRow("a", 1, 1), seenRow("a", 2, 2), seenRow("a", 2, 1), seenRow("a", 1, 2),
		seenRow("b", 2, 1), seenRow("c", 3, 1), seenRow("d", 3, 1), seenRow("c", 3, 1),
	}
	filter := func(object string) (seen []bool) {
		s.inTx(t, func(ctx context.Context, tx TTx) (err error) {
			seen, err = s.store.FilterSeenTx(ctx, tx, riverOrg(1), object, ask)
			return err
		})
		return seen
	}
	diff(t, "seen", filter(object), []bool{true, true, false, false, true, true, false, true})
	diff(t, "seen of another object", filter("Account"), make([]bool, len(ask)))
	s.finishSync(t, st, second(2))
	diff(t, "seen after the run", filter(object), []bool{false, true, false, false, true, true, false, true})
	ask = nil
	diff(t, "seen of nothing", filter(object), []bool{})
}

func testSyncFailure[TTx any](t *testing.T, s *suite[TTx]) {
	holder := s.runningJob(t)
	st := s.beginSync(t, holder, jobs.Full)
	s.savePage(t, st, &jobs.PageProgress{Cursor: jobs.Cursor{Stamp: second(9), ID: "003"}, Rows: 5, APICalls: 2})
	must(t, s.store.FailSync(t.Context(), st, "INVALID_FIELD: “x”\n\x00\xff"))
	next := s.beginSync(t, holder+1, jobs.Incremental) // the lease is free
	want := *st
	want.Epoch, want.JobID = st.Epoch+1, holder+1
	want.LastRun = &jobs.SyncRun{Mode: jobs.Full, Rows: 5, APICalls: 2, Error: "INVALID_FIELD: “x”\n\uFFFD\uFFFD"}
	diffAt(t, "the run goes on after a failure", next, &want, ignoreSyncClock)
	s.finishSync(t, next, second(5))
	if next.LastRun.Error != "" {
		t.Errorf("the error %q outlived the run", next.LastRun.Error)
	}
}
