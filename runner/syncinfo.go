package runner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"
	"github.com/tidwall/gjson"

	"github.com/weirhq/weir/breaker"
	"github.com/weirhq/weir/jobs"
	"github.com/weirhq/weir/runner/internal/store"
	"github.com/weirhq/weir/sfapi"
)

// ErrJobNotFound is returned for a job that was never there, whose time of
// retention in River is over, or that is not Weir's.
var ErrJobNotFound = errors.New("job not found")

// Job returns a job of Weir's: one that is for an org. Other jobs of the app's
// are as good as not there.
func (r *Runner[TTx]) Job(ctx context.Context, id int64) (*rivertype.JobRow, sfapi.OrgID, error) {
	job, err := r.river.JobGet(ctx, id)
	if errors.Is(err, river.ErrNotFound) {
		return nil, "", fmt.Errorf("job %d: %w", id, ErrJobNotFound)
	}
	if err != nil {
		return nil, "", fmt.Errorf("job %d: %w", id, err)
	}
	org, err := orgOfArgs(job.EncodedArgs)
	if err != nil || !slices.Contains(job.Tags, string(org)) {
		return nil, "", fmt.Errorf("job %d: %w", id, ErrJobNotFound)
	}
	return job, org, nil
}

// Backlog is what waits for an org: jobs of each lane that have not begun, and
// records whose outcome is open.
type Backlog struct{ Sync, Write, Records int }

// Backlogs counts what waits for orgs.
func (o *Orgs[TTx]) Backlogs(ctx context.Context, orgs ...sfapi.OrgID) (map[sfapi.OrgID]Backlog, error) {
	records, err := o.runner.store.OpenRecords(ctx, orgs)
	if err != nil {
		return nil, err
	}
	out := make(map[sfapi.OrgID]Backlog, len(orgs))
	for _, id := range orgs {
		b := Backlog{Records: records[id]}
		if b.Sync, b.Write, err = o.runner.store.Backlog(ctx, id); err != nil {
			return nil, err
		}
		out[id] = b
	}
	return out, nil
}

// SyncStatus says what an object's sync is doing.
type SyncStatus string

// The statuses of a sync.
const (
	SyncQueued    SyncStatus = "queued"  // its job waits
	SyncRunning   SyncStatus = "running" // its job runs
	SyncIdle      SyncStatus = "idle"    // nothing to do
	SyncFailed    SyncStatus = "failed"  // its last job ended with an error, for good
	SyncCancelled SyncStatus = "cancelled"
)

// SyncInfo is what is known of the sync of an object.
type SyncInfo struct {
	Object string
	Mode   jobs.SyncMode
	Status SyncStatus

	JobID int64  // the job that Status is about; 0 before the first one
	Error string // why Status is SyncFailed

	State    *jobs.SyncState // nil before the first run
	Schedule *Schedule       // nil when there is none
}

// maxListedJobs bounds the jobs of a lane that SyncInfos looks at.
const maxListedJobs = 1000

// SyncInfos returns what is known of each object's sync that an org has had,
// waits for or has on schedule, by object.
func (r *Runner[TTx]) SyncInfos(ctx context.Context, org sfapi.OrgID) ([]*SyncInfo, error) {
	states, err := r.Syncs(ctx, org)
	if err != nil {
		return nil, err
	}
	schedules, err := r.Schedules().List(ctx, org)
	if err != nil {
		return nil, err
	}
	infos := make(map[string]*SyncInfo)
	info := func(object string) *SyncInfo {
		if infos[object] == nil {
			infos[object] = &SyncInfo{Object: object, Mode: jobs.Incremental, Status: SyncIdle}
		}
		return infos[object]
	}
	for _, s := range schedules {
		in := info(s.Sync.Object)
		in.Schedule = s
		if s.Sync.Mode != "" {
			in.Mode = s.Sync.Mode
		}
	}
	var worked []int64
	for _, st := range states {
		in := info(st.Object)
		in.State, in.Mode, in.JobID = st, st.Mode, st.JobID
		if st.LastRun != nil && st.LastRun.Error != "" {
			in.Status, in.Error = SyncFailed, st.LastRun.Error
		}
		if st.JobID != 0 {
			worked = append(worked, st.JobID)
		}
	}
	rows, err := r.syncJobs(ctx, org, worked)
	if err != nil {
		return nil, fmt.Errorf("sync jobs of org %s: %w", org, err)
	}
	for _, job := range rows {
		var args jobs.Sync
		if err := json.Unmarshal(job.EncodedArgs, &args); err != nil || args.Org != org {
			continue
		}
		in := info(args.Object)
		in.take(job, args.Mode)
	}
	out := make([]*SyncInfo, 0, len(infos))
	for _, in := range infos {
		out = append(out, in)
	}
	slices.SortFunc(out, func(a, b *SyncInfo) int {
		if a.Object < b.Object {
			return -1
		}
		return 1
	})
	return out, nil
}

// take lets a job say what the sync is doing. A job that runs says more than
// one that waits behind it; otherwise the newest counts.
func (in *SyncInfo) take(job *rivertype.JobRow, mode jobs.SyncMode) {
	if job.ID < in.JobID && job.State != rivertype.JobStateRunning || in.Status == SyncRunning {
		return
	}
	in.JobID, in.Error = job.ID, ""
	if mode != "" {
		in.Mode = mode
	}
	switch job.State {
	case rivertype.JobStateRunning:
		in.Status = SyncRunning
	case rivertype.JobStateCompleted:
		in.Status = SyncIdle
	case rivertype.JobStateDiscarded:
		in.Status, in.Error = SyncFailed, LastError(job)
	case rivertype.JobStateCancelled:
		// A worker that gives up cancels its job and says why; what somebody
		// else cancels has no error of this kind.
		if in.Error = LastError(job); in.Error != "" && !hasCancelReason(job) {
			in.Status = SyncFailed
		} else {
			in.Status, in.Error = SyncCancelled, ""
		}
	default:
		in.Status = SyncQueued
	}
}

// LastError is what the newest failed attempt of a job ended with, "" when none
// did.
func LastError(job *rivertype.JobRow) string {
	if len(job.Errors) == 0 {
		return ""
	}
	return job.Errors[len(job.Errors)-1].Error
}

// syncJobs returns the org's sync jobs that are not completed, and those with
// the given ids, oldest first.
func (r *Runner[TTx]) syncJobs(ctx context.Context, org sfapi.OrgID, ids []int64) ([]*rivertype.JobRow, error) {
	lists := []*river.JobListParams{
		river.NewJobListParams().Queues(breaker.Sync.Queue(org)).States(
			rivertype.JobStateAvailable, rivertype.JobStatePending, rivertype.JobStateRetryable,
			rivertype.JobStateScheduled, rivertype.JobStateCancelled),
		// All orgs share the run queue, which never holds more than workers
		// can take soon.
		river.NewJobListParams().Queues(breaker.Sync.RunQueue()).States(
			rivertype.JobStateAvailable, rivertype.JobStateRetryable, rivertype.JobStateScheduled, rivertype.JobStateRunning),
	}
	if len(ids) > 0 {
		lists = append(lists, river.NewJobListParams().IDs(ids...))
	}
	byID := make(map[int64]*rivertype.JobRow)
	for _, p := range lists {
		res, err := r.river.JobList(ctx, p.Kinds(jobs.Sync{}.Kind()).OrderBy(river.JobListOrderByID, river.SortOrderDesc).First(maxListedJobs))
		if err != nil {
			return nil, err
		}
		for _, job := range res.Jobs {
			byID[job.ID] = job
		}
	}
	out := make([]*rivertype.JobRow, 0, len(byID))
	for _, job := range byID {
		out = append(out, job)
	}
	slices.SortFunc(out, func(a, b *rivertype.JobRow) int { return int(a.ID - b.ID) })
	return out, nil
}

// hasCancelReason reports whether Weir cancelled the job with its org.
func hasCancelReason(job *rivertype.JobRow) bool {
	return gjson.GetBytes(job.Metadata, gjson.Escape(store.MetadataCancelReason)).Exists()
}
