package runner

import (
	"context"
	"time"

	"github.com/riverqueue/river"

	"github.com/weirhq/weir/breaker"
	"github.com/weirhq/weir/sfapi"
)

// Event is a change of an org's state that people or other systems act on.
type Event struct {
	// ID is the same each time the event is delivered.
	ID   int64       `json:"id"`
	Type EventType   `json:"type"`
	Org  sfapi.OrgID `json:"org"`
	At   time.Time   `json:"at"`

	Reason breaker.Reason `json:"reason,omitempty"`
	Lanes  breaker.Lanes  `json:"lanes,omitempty"`
	Since  time.Time      `json:"since,omitzero"`
	// Cause says why a grant must be renewed, for EventReauthRequired.
	Cause breaker.Cause `json:"cause,omitempty"`
}

// EventType is the type of an event.
type EventType = breaker.EventType

// The types of events: a hold was placed, a hold ended, an org needs a new
// grant.
const (
	EventOrgHeld        = breaker.EventOrgHeld
	EventOrgResumed     = breaker.EventOrgResumed
	EventReauthRequired = breaker.EventReauthRequired
)

// eventArgs is an event on its way: a job inserted in the transaction that
// changed the state.
type eventArgs struct {
	Event
}

// Kind is the job kind in River.
func (eventArgs) Kind() string { return "salesforce_event" }

// InsertOpts puts the job where no hold stops it.
func (a eventArgs) InsertOpts() river.InsertOpts {
	return river.InsertOpts{Queue: breaker.ControlQueue, Tags: []string{string(a.Org), string(a.Reason)}}
}

func (r *Runner[TTx]) emitTx(ctx context.Context, tx TTx, org sfapi.OrgID, e breaker.EmitEvent) error {
	_, err := r.river.InsertTx(ctx, tx, eventArgs{Event{
		Type: e.Type, Org: org, At: time.Now().UTC(), Reason: e.Reason, Lanes: e.Lanes, Since: e.Since.UTC(), Cause: e.Cause,
	}}, nil)
	return err
}

// eventWorker delivers events to the app.
type eventWorker struct {
	river.WorkerDefaults[eventArgs]

	handle func(ctx context.Context, e *Event) error
}

// Work delivers one event; an error has it delivered again later.
func (w *eventWorker) Work(ctx context.Context, job *river.Job[eventArgs]) error {
	if w.handle == nil {
		return nil
	}
	e := job.Args.Event
	e.ID = job.ID
	return w.handle(ctx, &e)
}
