package store

import (
	"context"
	"encoding/json"
	"time"

	"github.com/weirhq/weir/sfapi"
)

// Event is a row of the event log.
type Event struct {
	ID      int64 // set by the store, ascending
	Org     sfapi.OrgID
	Type    string
	At      time.Time       // of the change, by the caller's clock
	Payload json.RawMessage // kept as it is, without the id
}

// Events keeps what apps are told, for a bounded time.
type Events[TTx any] interface {
	// InsertEventTx adds an event and sets its ID.
	InsertEventTx(ctx context.Context, tx TTx, e *Event) error

	// Event returns jobs.ErrNotFound for an event that was never there or is
	// gone.
	Event(ctx context.Context, id int64) (*Event, error)

	// Events returns events with higher ids than after, by id. It holds back
	// every event that an unfinished transaction may still precede: who goes
	// on from the last id that he got misses none. No writer waits for that.
	Events(ctx context.Context, after int64, limit int) ([]*Event, error)

	// PruneEvents removes up to limit events that were inserted before a
	// time, and as many cancellations that were closed before it, oldest
	// first. It reports whether there may be more.
	PruneEvents(ctx context.Context, before time.Time, limit int) (more bool, err error)
}

// CancellationState says how far a cancellation is.
type CancellationState string

// The states of a cancellation.
const (
	Cancelling CancellationState = "cancelling" // jobs and records are left to cancel
	Cancelled  CancellationState = "cancelled"  // can be put back by a reconnect
	Requeueing CancellationState = "requeueing" // is being put back
	Closed     CancellationState = "closed"     // was put back, or was not wanted back
)

// Cancellation is the order to cancel an org's work. It is given in the
// transaction that makes the work pointless, and carried out by whichever
// process comes by, in as many transactions as it takes.
type Cancellation struct {
	ID     int64 // set by the store, ascending
	Org    sfapi.OrgID
	Reason string
	State  CancellationState

	// Event is to be emitted once nothing is left to cancel; empty for none.
	Event json.RawMessage

	// Jobs and Writes count what was cancelled so far.
	Jobs, Writes int
}

// Cancellations keeps the orders to cancel, and what their work takes beside
// store.River.
//
// The lock of the org's row comes before that of a cancellation's, everywhere.
type Cancellations[TTx any] interface {
	// BeginCancellationTx adds a cancellation in state Cancelling, and sets
	// its ID and State.
	BeginCancellationTx(ctx context.Context, tx TTx, c *Cancellation) error

	// CancellationTx locks and returns a cancellation.
	CancellationTx(ctx context.Context, tx TTx, id int64) (*Cancellation, error)

	// OrgCancellationsTx locks and returns an org's cancellations that are not
	// closed, by id.
	OrgCancellationsTx(ctx context.Context, tx TTx, org sfapi.OrgID) ([]*Cancellation, error)

	// UpdateCancellationTx saves State, Event, Jobs and Writes.
	UpdateCancellationTx(ctx context.Context, tx TTx, c *Cancellation) error

	// OpenCancellations returns cancellations with higher ids than after, by
	// id: those that are being worked, and those that were done since a time,
	// into which a transaction may still commit a job.
	OpenCancellations(ctx context.Context, after int64, since time.Time, limit int) ([]*Cancellation, error)

	// CancelWritesTx cancels up to limit pending records of an org for a
	// cancellation, and returns how many there were. Records that were sent
	// keep their state.
	CancelWritesTx(ctx context.Context, tx TTx, org sfapi.OrgID, cancellation int64, limit int) (int, error)

	// RequeueWritesTx makes up to limit records that a cancellation cancelled
	// pending again, with the place they had, oldest first. It returns how
	// many, and of which objects.
	RequeueWritesTx(ctx context.Context, tx TTx, cancellation int64, limit int) (n int, objects []string, err error)
}
