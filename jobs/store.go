package jobs

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/weirhq/weir/sfapi"
)

// ErrBusy is returned by SyncStore.BeginSync and WriteStore.BeginDrain while
// another job that is still running holds the object's lease.
var ErrBusy = errors.New("another job of this object is running")

// ErrLeaseLost is returned by every fenced store method once another job took
// the lease over. What the caller was about to save is not saved: its
// transaction must be rolled back and its job must end.
var ErrLeaseLost = errors.New("lease lost to another job")

// ErrIdempotencyConflict is returned by WriteStore.AppendTx when the
// idempotency key was used before with another body.
var ErrIdempotencyConflict = errors.New("idempotency key was used before with another body")

// ErrNotFound is returned for a write, sync or org that the store does not
// have.
var ErrNotFound = errors.New("not found")

// Store is what the built-in jobs keep in the app's database. Package runner
// gives an implementation for each database; TTx is its transaction type.
//
// A method whose name ends in Tx works in the given transaction, every other
// one in a transaction of its own. All methods may be called concurrently.
type Store[TTx any] interface {
	// InTx runs fn in a transaction: committed when fn returns nil, rolled
	// back otherwise. The error of fn is returned as it is.
	InTx(ctx context.Context, fn func(ctx context.Context, tx TTx) error) error

	SyncStore[TTx]
	WriteStore[TTx]
	MirrorStore[TTx]

	// CompleteWaiting completes the jobs of this kind for (org, object) that
	// wait and were inserted before now, other than keep, whose work covers
	// theirs. It returns how many they were.
	CompleteWaiting(ctx context.Context, kind string, org sfapi.OrgID, object string, keep int64) (int, error)
}

// Cursor is a position in the order (SystemModstamp, Id): every row up to and
// with it has been applied. The zero value is the position before all rows.
type Cursor struct {
	Stamp time.Time `json:"stamp,omitzero"` // whole seconds, UTC
	ID    string    `json:"id,omitempty"`   // 18 characters
}

// IsZero reports whether c is the position before all rows.
func (c Cursor) IsZero() bool { return c.Stamp.IsZero() }

// SyncState is the state of the sync of one object of one org, and of its
// current run.
type SyncState struct {
	Org    sfapi.OrgID
	Object string

	// Epoch is the fence: each BeginSync raises it, and SavePageTx and
	// FinishSyncTx of an older epoch fail with ErrLeaseLost.
	Epoch int64

	// JobID is the River job that works the run, 0 when none ever did.
	JobID int64

	// Running is true from BeginSync of a run until FinishSyncTx.
	Running bool

	Mode SyncMode // of the run

	// From is the run's lower bound, inclusive; zero reads from the start.
	From time.Time

	// Cursor is where the run stands.
	Cursor Cursor

	// ServerStart is the server's clock at the first answer of the run, zero
	// until then.
	ServerStart time.Time

	StartedAt time.Time // our clock, when the run began

	// Rows, Deleted and APICalls count what the run applied and called.
	Rows, Deleted, APICalls int64

	// NextFrom is the From of the next incremental run, zero before the first
	// run has finished.
	NextFrom time.Time

	// TotalRows counts all rows that all runs have applied.
	TotalRows int64

	// LastRun describes the newest finished or failed run, nil before it.
	LastRun *SyncRun

	UpdatedAt time.Time
}

// SyncRun describes a finished or failed run of a sync.
type SyncRun struct {
	Mode       SyncMode  `json:"mode"`
	StartedAt  time.Time `json:"started_at"`
	FinishedAt time.Time `json:"finished_at"`
	Rows       int64     `json:"rows"`
	Deleted    int64     `json:"deleted"`
	APICalls   int64     `json:"api_calls"`
	Error      string    `json:"error,omitempty"` // empty after success
}

// SeenRow identifies one version of one row, as a sync delivered it.
type SeenRow struct {
	ID    string // 18 characters
	Stamp time.Time
	// Hash tells two versions of a row apart that carry the same stamp:
	// SystemModstamp has whole seconds.
	Hash [16]byte
}

// PageProgress is what applying one page changed.
type PageProgress struct {
	Cursor      Cursor    // the new position; never before the old one
	ServerStart time.Time // server's clock at the first answer of the run; kept once set
	Rows        int64     // rows applied by this page, the deleted ones included
	Deleted     int64
	APICalls    int64
	Seen        []SeenRow // to remember, for the next run's overlap
}

// SyncStore keeps the cursors of syncs.
type SyncStore[TTx any] interface {
	// BeginSync takes the lease of the object's sync for a River job and
	// begins a run, or goes on with the one that is under way:
	//
	//   - no state yet, or the last run has finished: a new run. Incremental:
	//     From = NextFrom. Full: From zero. Cursor zero, counters zero.
	//   - an unfinished run of this job or of an earlier one: it goes on where
	//     it stands, in its own mode, except that a full job which did not
	//     begin that run begins a full run anew.
	//
	// It returns ErrBusy when the lease belongs to another job that River
	// still has in state running.
	BeginSync(ctx context.Context, org sfapi.OrgID, object string, jobID int64, mode SyncMode) (*SyncState, error)

	// SavePageTx saves progress in the transaction that applied the page.
	// It returns ErrLeaseLost when st.Epoch is no longer the newest, and
	// updates st otherwise; after a rollback st must be thrown away.
	SavePageTx(ctx context.Context, tx TTx, st *SyncState, p *PageProgress) error

	// RestartRunTx puts the cursor back to the run's start (From).
	RestartRunTx(ctx context.Context, tx TTx, st *SyncState) error

	// FilterSeenTx reports for each row whether this very version of it has
	// been applied before, and no other with the same stamp since.
	FilterSeenTx(ctx context.Context, tx TTx, org sfapi.OrgID, object string, rows []SeenRow) ([]bool, error)

	// FinishSyncTx ends the run: LastRun is set, NextFrom is set to nextFrom,
	// remembered rows with a stamp before nextFrom are forgotten, the lease
	// is released. It returns ErrLeaseLost as SavePageTx does.
	FinishSyncTx(ctx context.Context, tx TTx, st *SyncState, nextFrom time.Time) error

	// FailSync records the error of a run in LastRun and releases the lease.
	// The run stays unfinished: a later job goes on with it. It does nothing
	// when st's lease is lost.
	FailSync(ctx context.Context, st *SyncState, message string) error

	// ReleaseSync releases the lease, the run stays as it is. It does nothing
	// when st's lease is lost.
	ReleaseSync(ctx context.Context, st *SyncState) error

	// Syncs returns the states of all syncs of an org, by object.
	Syncs(ctx context.Context, org sfapi.OrgID) ([]*SyncState, error)

	// SwapSchemaTx remembers the fields that an object had at a time, and
	// returns those that it took the place of: nil when it took none's,
	// because there were none, because they are the same, or because what is
	// remembered is from a later time.
	SwapSchemaTx(ctx context.Context, tx TTx, org sfapi.OrgID, object string, fields []SchemaField, at time.Time) ([]SchemaField, error)
}

// WriteStatus is the state of a record in the write log.
type WriteStatus string

// The states of a record in the write log.
const (
	WritePending   WriteStatus = "pending"   // waits to be sent
	WriteSent      WriteStatus = "sent"      // a request with it left, its outcome is not recorded yet
	WriteDone      WriteStatus = "done"      // Salesforce has it
	WriteFailed    WriteStatus = "failed"    // Salesforce refused it: a dead letter with code and message
	WriteUnknown   WriteStatus = "unknown"   // sent, answer lost, and no way to find out: a dead letter
	WriteCancelled WriteStatus = "cancelled" // not sent: the org was revoked or disconnected
)

// WriteBatch is one call of Write: records in submission order.
type WriteBatch struct {
	Org            sfapi.OrgID
	Object         string
	Operation      sfapi.Operation
	ExternalID     string // field name; "" when none
	IdempotencyKey string // "" when none; unique in an org
	BodyHash       [32]byte
	Keys           []string          // per record: external id value or record id; "" when it has none
	Payloads       []json.RawMessage // per record: a flat JSON object
}

// WriteReceipt is the answer to a Write.
type WriteReceipt struct {
	ID       int64 // write_id
	Accepted int
	// Repeated is true when the idempotency key was used before with the same
	// body: nothing was stored again.
	Repeated bool
}

// WriteRow is one record of the write log.
type WriteRow struct {
	ID           int64 // order of submission over all writes
	WriteID      int64
	Index        int // in its write
	Org          sfapi.OrgID
	Object       string
	Operation    sfapi.Operation
	ExternalID   string
	Key          string
	Payload      json.RawMessage
	Status       WriteStatus
	Attempts     int       // requests that carried it and were answered with an error that let it be sent again
	SentAt       time.Time // when it was last marked sent, zero before
	SalesforceID string
	Created      bool // an upsert that created
	ErrorCode    string
	ErrorMessage string
	ErrorFields  []string
	// MergedInto is the row whose request carried this one's fields too; 0
	// when it was sent by itself. The row has that row's outcome.
	MergedInto int64
}

// WriteOutcome is what became of one row.
type WriteOutcome struct {
	ID           int64
	Status       WriteStatus // WritePending puts it back, with Attempts raised when CountAttempt
	CountAttempt bool
	SalesforceID string
	Created      bool
	ErrorCode    string
	ErrorMessage string
	ErrorFields  []string
}

// WriteCounts counts the records of a write by status.
type WriteCounts struct {
	Accepted, Pending, Sent, Done, Failed, Unknown, Cancelled int
}

// WriteFailure is a write of which every record has its outcome, and some have
// failed or are unknown. They are dead letters: they stay in the write log, and
// are sent again when somebody says so.
type WriteFailure struct {
	Org       sfapi.OrgID     `json:"-"`
	Object    string          `json:"-"`
	WriteID   int64           `json:"write_id"`
	Operation sfapi.Operation `json:"operation"`
	Accepted  int             `json:"accepted"`
	Failed    int             `json:"failed"`
	Unknown   int             `json:"unknown"`
	ErrorCode string          `json:"error_code"` // of the first such record
}

// WriteQuery selects records of a write.
type WriteQuery struct {
	Status WriteStatus // "" for all
	From   int         // records with this index or a higher one
	Limit  int         // 0 means 200; at most 2,000
}

// NextRowsBytes is where WriteStore.NextRows stops: the row that reaches it is
// the last one.
const NextRowsBytes = 16 << 20

// WriteStore keeps the write log.
type WriteStore[TTx any] interface {
	// AppendTx adds the batch's records, all of them pending.
	AppendTx(ctx context.Context, tx TTx, b *WriteBatch) (*WriteReceipt, error)

	// BeginDrain takes the lease of the object's write log for a River job and
	// returns its epoch. ErrBusy as for BeginSync: that job has not looked for
	// the last time yet, so what is committed now will be seen by it.
	BeginDrain(ctx context.Context, org sfapi.OrgID, object string, jobID int64) (epoch int64, err error)

	// NextRows returns the oldest sent and pending rows in order of
	// submission, at most limit, merged ones left out, and no more once their
	// payloads come to NextRowsBytes. The Payload of a row
	// that carries merged ones is the merged payload; everywhere else it is
	// the one that was submitted.
	NextRows(ctx context.Context, org sfapi.OrgID, object string, limit int) ([]*WriteRow, error)

	// MarkSent marks rows sent before their request leaves, and gives merged
	// rows the row that carries them (merged: row id → carrier's id) with the
	// merged payload stored with the carrier (payloads: carrier's id →
	// payload). What a merged row carries itself goes to its carrier too.
	// ErrLeaseLost when epoch is no longer the newest, or when one of the rows
	// is neither pending nor sent any more because it was cancelled meanwhile:
	// then no row is marked, and nothing must be sent.
	MarkSent(ctx context.Context, org sfapi.OrgID, object string, epoch int64, ids []int64, merged map[int64]int64, payloads map[int64]json.RawMessage) error

	// Settle records outcomes; a row merged into one of them takes the same.
	// On WritePending the rows are parted again: each is pending by itself,
	// with the payload it was submitted with, and with Attempts raised when
	// CountAttempt. On WriteSent the row stays marked. ErrLeaseLost as above.
	//
	// Failed is called, in the same transaction, for each write that had its
	// last open record settled by this call and has failed or unknown ones.
	Settle(ctx context.Context, org sfapi.OrgID, object string, epoch int64, outcomes []WriteOutcome, failed func(ctx context.Context, tx TTx, f *WriteFailure) error) error

	// EndDrain releases the lease if nothing is pending or sent, and reports
	// whether it did. Both happen in one transaction that excludes a
	// concurrent BeginDrain, so a row committed before that BeginDrain's
	// ErrBusy is never overlooked.
	EndDrain(ctx context.Context, org sfapi.OrgID, object string, epoch int64) (released bool, err error)

	// ReleaseDrain releases the lease whatever is left. It does nothing when
	// epoch is no longer the newest.
	ReleaseDrain(ctx context.Context, org sfapi.OrgID, object string, epoch int64) error

	// WriteCounts counts a write's records. ErrNotFound when the org has no
	// such write.
	WriteCounts(ctx context.Context, org sfapi.OrgID, writeID int64) (*WriteCounts, error)

	// WriteRows returns a write's records by index.
	WriteRows(ctx context.Context, org sfapi.OrgID, writeID int64, q *WriteQuery) ([]*WriteRow, error)

	// RetryWriteTx puts a write's failed and unknown rows back to pending, as
	// they were when they were submitted, and returns the write's object and
	// how many they were. ErrNotFound as above.
	RetryWriteTx(ctx context.Context, tx TTx, org sfapi.OrgID, writeID int64) (object string, n int, err error)

	// Undrained returns up to limit (org, object) pairs that have had pending
	// or sent rows for longer than age while no drain job of theirs waits or
	// runs.
	Undrained(ctx context.Context, age time.Duration, limit int) ([]WriteArgs, error)
}

// ColumnType is the type of a mirror table's column.
type ColumnType string

// The types of mirror columns. SQLite has the nearest storage class.
const (
	ColumnText      ColumnType = "text"
	ColumnNumeric   ColumnType = "numeric"
	ColumnBoolean   ColumnType = "boolean"
	ColumnDate      ColumnType = "date"
	ColumnTimestamp ColumnType = "timestamptz"
)

// MirrorColumn is a column of a mirror table and the field it comes from.
type MirrorColumn struct {
	Name  string // in the table: the field's name in lower case, system_modstamp, is_deleted
	Field string // Salesforce's API name
	Type  ColumnType
}

// MirrorTable describes a mirror table. Its primary key is (org, id); the
// columns org and id are not among Columns.
type MirrorTable struct {
	Name    string
	Columns []MirrorColumn
}

// MirrorRow is one row for a mirror table. Values are in the order of
// MirrorTable.Columns, each the value's text or nil for null: numbers with the
// digits Salesforce sent, booleans true or false, dates 2006-01-02, times
// RFC 3339 in UTC.
type MirrorRow struct {
	ID     string // 18 characters
	Values []*string
}

// MirrorStore keeps mirror tables in the app's database.
type MirrorStore[TTx any] interface {
	// EnsureMirror creates the table, or adds the columns that it lacks.
	// Columns that are gone from t stay. Several processes may call it at
	// once. It returns an error for a column named org or id, and for one that
	// the table has with another type.
	EnsureMirror(ctx context.Context, t *MirrorTable) error

	// UpsertMirrorTx inserts or replaces rows of one org. An id appears at
	// most once in rows. Columns of the table that are not in t keep what they
	// have. The error for a value that does not fit its column, or for a text
	// with U+0000 or invalid UTF-8, names table, org, row and column.
	UpsertMirrorTx(ctx context.Context, tx TTx, t *MirrorTable, org sfapi.OrgID, rows []MirrorRow) error
}
