package store

import (
	"fmt"
	"time"

	"github.com/weirhq/weir/jobs"
)

// SyncRun is a sync's row: its state, and what only the store knows of it.
type SyncRun struct {
	State    jobs.SyncState
	LeaseJob int64 // the job that holds the lease, 0 when none does
	BegunBy  int64 // the job that began the run
}

// Begin gives the lease to jobID and begins a run or goes on with the one
// under way, as jobs.SyncStore says of BeginSync. The caller has found that no
// other running job holds the lease.
func (r *SyncRun) Begin(jobID int64, mode jobs.SyncMode, now time.Time) {
	st := &r.State
	if mode == "" {
		mode = jobs.Incremental
	}
	anew := !st.Running || mode == jobs.Full && r.BegunBy != jobID
	st.Epoch++
	st.JobID = jobID
	st.UpdatedAt = now
	r.LeaseJob = jobID
	if !anew {
		return
	}
	r.BegunBy = jobID
	st.Running = true
	st.Mode = mode
	st.From = time.Time{}
	if mode == jobs.Incremental {
		st.From = st.NextFrom
	}
	st.Cursor = jobs.Cursor{}
	st.ServerStart = time.Time{}
	st.StartedAt = now
	st.Rows, st.Deleted, st.APICalls = 0, 0, 0
}

// CheckProgress returns an error when p would move the cursor of st back: rows
// between the two would be taken for applied, and a row read twice for new.
func CheckProgress(st *jobs.SyncState, p *jobs.PageProgress) error {
	if p.Cursor.Stamp.Before(st.Cursor.Stamp) {
		return fmt.Errorf("save page of %s %s: cursor %s is before the saved %s",
			st.Org, st.Object, p.Cursor.Stamp.Format(time.RFC3339), st.Cursor.Stamp.Format(time.RFC3339))
	}
	return nil
}
