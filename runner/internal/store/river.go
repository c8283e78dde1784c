package store

import (
	"context"
	"encoding/json"
	"time"

	"github.com/weirhq/weir/breaker"
	"github.com/weirhq/weir/sfapi"
)

// AdmitParams bounds one step of the gate.
type AdmitParams struct {
	Lane   breaker.Lane
	Window int // jobs in flight an org, unless SetLaneTx gave it its own
	Max    int // jobs in the run queue over all orgs, running ones included

	// After is where the step before stopped ([Admission].After): the lanes
	// behind it come first, so that Max starves none. "" begins anywhere.
	After string
}

// ControlSchedule says when the job of a kind that an org has one of is due.
type ControlSchedule struct {
	Kind     string
	Org      sfapi.OrgID
	At       time.Time
	Metadata json.RawMessage // a JSON object, merged into the job's
	Tags     []string
}

// Admission is what one step of the gate did.
type Admission struct {
	Jobs  int    // moved into the run queue
	After string // for the next step
	Busy  bool   // another process was at the gate: nothing was done
}

// CancelledBatch is what one batch of cancelling an org's jobs did.
type CancelledBatch struct {
	Cancelled int // jobs that waited: they are cancelled now
	Signalled int // jobs that run: their workers were told to end them
	More      bool
}

// LaneQueue is River's queue row of a lane: what River UI shows of it.
type LaneQueue struct {
	Name     string
	PausedAt time.Time // zero while it is not paused
	Metadata json.RawMessage
}

// River is the raw SQL on River's own tables. It stands in the files named
// river*.go of each dialect, pinned to River's version by a contract test.
//
// A job waits in the queue of its org's lane ([breaker.Lane.Queue]), and its
// args have its org's 18-character id under the key "org": this is how it finds
// its way back out of a run queue, which all orgs share.
//
// Jobs that another transaction has locked are passed over, never waited for.
// So none of these methods takes part in a deadlock with River's own fetching
// and completing, and a job that is left out is met again by the next call.
type River[TTx any] interface {
	// WaitingJobTx returns the id of the oldest job of this kind for
	// (org, object) that waits (available, scheduled, retryable or pending),
	// 0 when there is none. Object "" means any. A job that the app has
	// scheduled for later does not count. On Postgres the job is locked: it
	// cannot begin before the transaction ends.
	WaitingJobTx(ctx context.Context, tx TTx, kind string, org sfapi.OrgID, object string) (int64, error)

	// SetArgTx sets one top-level string in the args of a job that still
	// waits, and reports whether it did. It does not where another
	// transaction has the job.
	SetArgTx(ctx context.Context, tx TTx, jobID int64, name, value string) (bool, error)

	// CompleteWaiting completes the jobs of this kind for (org, object) that
	// wait as WaitingJobTx has it, other than keep, noting in their metadata
	// that keep does their work (key [MetadataDoneBy]). It returns how many.
	CompleteWaiting(ctx context.Context, kind string, org sfapi.OrgID, object string, keep int64) (int, error)

	// MoveRunning gives a running job another queue (RIVER.md: a job may do
	// so to its own row before it answers River). It does nothing once the
	// job no longer runs.
	MoveRunning(ctx context.Context, jobID int64, queue string) error

	// Beat records that this process lives. A process is named by the id of
	// its River client, and must have beaten before that client starts.
	Beat(ctx context.Context, process string) error

	// Retire removes this process's heartbeat.
	Retire(ctx context.Context, process string) error

	// Rescue puts jobs of Weir's queues back that have run for longer than
	// deadAfter on a process whose heartbeat is older than that or that has
	// none: into their lane, jobs of the control queue where they were. The
	// attempt that was cut off stays counted: a job that has no other left is
	// discarded, and one whose cancellation was asked for is cancelled, as
	// River's own rescue does. Retries that never found back into their lane
	// are put there too. It removes dead heartbeats, and returns how many
	// jobs it put back.
	Rescue(ctx context.Context, deadAfter time.Duration) (int, error)

	// Admit moves jobs from open lanes into the lane's run queue, at most
	// Window an org and Max in all, by priority, scheduled_at, id, and
	// notifies River. Each lane gets its first job before any gets its
	// second. In flight are the org's jobs that are in the run queue or run.
	//
	// A lane is open while its org is connected, its window has room, and
	// either a hold of ours covers it (then the window says what that lets
	// through, on trial) or its row in River's queue table is not paused: so
	// a pause pressed in River UI works at once. Admit keeps the rows of the
	// lanes that it serves among River's recently active queues.
	//
	// One process at a time acts.
	Admit(ctx context.Context, p *AdmitParams) (*Admission, error)

	// SetLaneTx tells the gate of a lane: how many of its jobs may be in
	// flight, 0 for none and -1 for AdmitParams.Window, and whether a hold of
	// ours covers it. It belongs into the transaction that changed the
	// breaker's state. It returns jobs.ErrNotFound for an unknown org.
	SetLaneTx(ctx context.Context, tx TTx, org sfapi.OrgID, lane breaker.Lane, window int, held bool) error

	// ScheduleControlTx makes the job of this kind and org in the control
	// queue, where one waits, due at a time, with other metadata and tags. It
	// reports whether there is one, waiting or running: a running one is left
	// alone.
	ScheduleControlTx(ctx context.Context, tx TTx, s *ControlSchedule) (bool, error)

	// ReturnAdmittedTx puts an org's jobs that were let through and have not
	// begun back into the lane, with the place they had, and returns how many.
	ReturnAdmittedTx(ctx context.Context, tx TTx, org sfapi.OrgID, lane breaker.Lane) (int, error)

	// PauseLaneTx makes River's queue row of a lane show a pause, with
	// metadata (a JSON object) that says why. The row is made where it is
	// missing, and River's queue cleaner leaves it alone. A lane that is
	// paused already keeps the time at which it was.
	PauseLaneTx(ctx context.Context, tx TTx, queue string, metadata json.RawMessage) error

	// ResumeLaneTx makes River's queue row of a lane show that it is open.
	ResumeLaneTx(ctx context.Context, tx TTx, queue string) error

	// LaneQueues returns River's queue rows of all lanes that are paused, and
	// of the given ones whether paused or not, by name. A row that River's
	// cleaner removed is not among them.
	LaneQueues(ctx context.Context, queues []string) ([]*LaneQueue, error)

	// CancelOrgBatch cancels up to limit jobs of an org, in its lanes and let
	// through, running ones first: those are told to end, and River finishes
	// their rows. Reason is kept in metadata (key [MetadataCancelReason]).
	// The caller repeats it while More is set. Jobs of the control queue go on.
	CancelOrgBatch(ctx context.Context, org sfapi.OrgID, reason string, limit int) (*CancelledBatch, error)

	// CancelOrgBatchTx is CancelOrgBatch in a transaction. It never waits for
	// a job: More with nothing done says that others have them all locked.
	CancelOrgBatchTx(ctx context.Context, tx TTx, org sfapi.OrgID, reason string, limit int) (*CancelledBatch, error)

	// RequeueCancelledBatch puts up to limit jobs of an org that were
	// cancelled for this reason back into their lane, oldest first, with the
	// place they had. One whose unique key has been taken since stays
	// cancelled, and loses its reason. It returns how many came back; more
	// is set while there may be others.
	RequeueCancelledBatch(ctx context.Context, org sfapi.OrgID, reason string, limit int) (n int, more bool, err error)

	// CancelledRunning counts the jobs of an org that were told to end for this
	// reason and have not yet.
	CancelledRunning(ctx context.Context, org sfapi.OrgID, reason string) (int, error)

	// Backlog counts the jobs of an org's lanes that have not begun, those
	// that were let through included.
	Backlog(ctx context.Context, org sfapi.OrgID) (sync, write int, err error)
}

// Keys of a River job's metadata that Weir sets.
const (
	MetadataDoneBy       = "weir:done_by"       // the id of the job that did this one's work
	MetadataCancelReason = "weir:cancel_reason" // why Weir cancelled the job
)
