package runner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/riverqueue/river"

	"github.com/weirhq/weir/breaker"
	"github.com/weirhq/weir/jobs"
	"github.com/weirhq/weir/runner/internal/store"
	"github.com/weirhq/weir/sfapi"
)

// EventVersion is the version of the JSON of an [Event]. Fields may be added
// within a version.
const EventVersion = 1

// Event is a change of an org's state that people or other systems act on. It
// holds no secrets.
type Event struct {
	// ID is the same however often and by whatever way the event is told. Ids
	// rise, with gaps.
	ID      int64       `json:"id"`
	Version int         `json:"version"`
	Type    EventType   `json:"type"`
	Org     sfapi.OrgID `json:"org"`
	At      time.Time   `json:"at"` // of the change

	Reason breaker.Reason `json:"reason,omitempty"`
	Lanes  breaker.Lanes  `json:"lanes,omitempty"`
	Since  time.Time      `json:"since,omitzero"`

	// Cause says why a grant must be renewed, JobsCancelled and
	// WritesCancelled what was cancelled for it, for EventReauthRequired. Jobs
	// that ran are counted when they are told to end.
	Cause           breaker.Cause `json:"cause,omitempty"`
	JobsCancelled   int           `json:"jobs_cancelled"`
	WritesCancelled int           `json:"writes_cancelled"`

	// Object is what EventSchemaChanged and EventWriteFailed are about, Schema
	// and Write what happened to it.
	Object string             `json:"object,omitempty"`
	Schema *jobs.SchemaChange `json:"schema,omitempty"`
	Write  *jobs.WriteFailure `json:"write,omitempty"`
}

// MarshalJSON implements json.Marshaler: only EventReauthRequired has counts,
// zero or not.
func (e Event) MarshalJSON() ([]byte, error) {
	type plain Event
	out := struct {
		plain
		JobsCancelled   *int `json:"jobs_cancelled,omitempty"`
		WritesCancelled *int `json:"writes_cancelled,omitempty"`
	}{plain: plain(e)}
	if e.Type == EventReauthRequired {
		out.JobsCancelled, out.WritesCancelled = &e.JobsCancelled, &e.WritesCancelled
	}
	return json.Marshal(out)
}

// EventType is the type of an event.
type EventType = breaker.EventType

// The types of events: a hold was placed, a hold ended, an org needs a new
// grant, which is told when the org's work has been cancelled. The fields of a
// synced object changed, as far as the org's user can see them. A write has all
// its outcomes, and some of its records have failed or are unknown: once for the
// write, and again when its retry ends so.
const (
	EventOrgHeld                  = breaker.EventOrgHeld
	EventOrgResumed               = breaker.EventOrgResumed
	EventReauthRequired           = breaker.EventReauthRequired
	EventSchemaChanged  EventType = "schema.changed"
	EventWriteFailed    EventType = "write.failed"
)

// maxEventPage bounds a page of Events.
const maxEventPage = 1000

// Events returns events with higher ids than after, ascending, at most limit
// of them (0 means 100, 1,000 is the most). Who goes on from the last id that
// he got misses none; an event shows up once no other can come before it.
// Events are kept for Config.EventRetention.
func (r *Runner[TTx]) Events(ctx context.Context, after int64, limit int) ([]*Event, error) {
	if limit == 0 {
		limit = 100
	}
	if limit < 0 || limit > maxEventPage {
		return nil, &jobs.FieldError{Field: "limit", Message: fmt.Sprintf("%d is not between 1 and %d", limit, maxEventPage)}
	}
	rows, err := r.store.Events(ctx, after, limit)
	if err != nil {
		return nil, fmt.Errorf("events: %w", err)
	}
	out := make([]*Event, len(rows))
	for i, row := range rows {
		if out[i], err = eventOf(row); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// eventOf reads an event's row.
func eventOf(row *store.Event) (*Event, error) {
	e := &Event{}
	if err := json.Unmarshal(row.Payload, e); err != nil {
		return nil, fmt.Errorf("event %d: %w", row.ID, err)
	}
	e.ID = row.ID
	return e, nil
}

// newEvent is an effect of the breaker's as an event without an id.
func newEvent(org sfapi.OrgID, e breaker.EmitEvent) *Event {
	return &Event{
		Version: EventVersion, Type: e.Type, Org: org, At: time.Now().UTC(),
		Reason: e.Reason, Lanes: e.Lanes, Since: e.Since.UTC(), Cause: e.Cause,
	}
}

func (r *Runner[TTx]) schemaChangedTx(ctx context.Context, tx TTx, c *jobs.SchemaChange) error {
	return r.emitTx(ctx, tx, &Event{
		Version: EventVersion, Type: EventSchemaChanged, Org: c.Org, At: time.Now().UTC(), Object: c.Object, Schema: c,
	})
}

func (r *Runner[TTx]) writeFailedTx(ctx context.Context, tx TTx, f *jobs.WriteFailure) error {
	return r.emitTx(ctx, tx, &Event{
		Version: EventVersion, Type: EventWriteFailed, Org: f.Org, At: time.Now().UTC(), Object: f.Object, Write: f,
	})
}

// emitTx logs an event and has it delivered, all in the transaction that
// changed the state.
//
// Both deliveries are always ordered: which of them the workers are configured
// for is not known here, in a process that may only enqueue.
func (r *Runner[TTx]) emitTx(ctx context.Context, tx TTx, e *Event) error {
	payload, err := json.Marshal(e)
	if err != nil {
		return err
	}
	row := &store.Event{Org: e.Org, Type: string(e.Type), At: e.At, Payload: payload}
	if err := r.store.InsertEventTx(ctx, tx, row); err != nil {
		return err
	}
	e.ID = row.ID
	ref := eventRef{Event: row.ID, Org: e.Org, Type: e.Type, Reason: e.Reason}
	_, err = r.river.InsertManyTx(ctx, tx, []river.InsertManyParams{{Args: eventArgs{ref}}, {Args: webhookArgs{ref}}})
	return err
}

// eventRef names an event in a job that delivers it, with what an operator
// wants to see of it.
type eventRef struct {
	Event  int64          `json:"event"`
	Org    sfapi.OrgID    `json:"org"`
	Type   EventType      `json:"type"`
	Reason breaker.Reason `json:"reason,omitempty"`
}

// insertOpts put a delivery where no hold stops it.
func (e *eventRef) insertOpts(attempts int) river.InsertOpts {
	opts := river.InsertOpts{Queue: breaker.ControlQueue, MaxAttempts: attempts, Tags: []string{string(e.Org)}}
	if e.Reason != "" {
		opts.Tags = append(opts.Tags, string(e.Reason))
	}
	return opts
}

// eventArgs is an event on its way to Config.OnEvent.
type eventArgs struct{ eventRef }

// Kind is the job kind in River.
func (eventArgs) Kind() string { return "salesforce_event" }

// InsertOpts implements river.JobArgsWithInsertOpts.
func (a eventArgs) InsertOpts() river.InsertOpts { return a.insertOpts(0) }

// eventWorker delivers events to the app.
type eventWorker[TTx any] struct {
	river.WorkerDefaults[eventArgs]

	runner *Runner[TTx]
}

// Work delivers one event; an error has it delivered again later.
func (w *eventWorker[TTx]) Work(ctx context.Context, job *river.Job[eventArgs]) error {
	r := w.runner
	noted := job.Attempt == 1 && (job.Args.Type == EventSchemaChanged || job.Args.Type == EventWriteFailed)
	if r.config.OnEvent == nil && !noted {
		return nil
	}
	e, err := r.event(ctx, job.Args.Event)
	if err != nil {
		return err
	}
	if noted {
		r.note(ctx, e)
	}
	if r.config.OnEvent == nil {
		return nil
	}
	return r.config.OnEvent(ctx, e)
}

// note logs and counts what nothing else does: here, and not where the event
// was stored, for that transaction may be rolled back and tried again.
func (r *Runner[TTx]) note(ctx context.Context, e *Event) {
	if c := e.Schema; c != nil {
		r.logger.InfoContext(ctx, "schema changed", "org", e.Org, "object", e.Object,
			"added", len(c.Added), "removed", len(c.Removed), "retyped", len(c.Retyped))
	}
	if f := e.Write; f != nil {
		r.logger.WarnContext(ctx, "write failed", "org", e.Org, "object", e.Object, "write_id", f.WriteID,
			"accepted", f.Accepted, "failed", f.Failed, "unknown", f.Unknown, "code", f.ErrorCode)
		r.tell.failed(ctx, f)
	}
}

// event reads an event that is to be delivered.
func (r *Runner[TTx]) event(ctx context.Context, id int64) (*Event, error) {
	row, err := r.store.Event(ctx, id)
	if errors.Is(err, jobs.ErrNotFound) {
		return nil, river.JobCancel(fmt.Errorf("event %d is older than Config.EventRetention", id))
	}
	if err != nil {
		return nil, err
	}
	return eventOf(row)
}

// messageID is an event's id in webhooks.
func messageID(event int64) string { return "evt_" + strconv.FormatInt(event, 10) }

const (
	pruneEvery = 30 * time.Minute
	pruneLimit = 5000
)

// pruneEvents forgets events that are older than Config.EventRetention.
func (r *Runner[TTx]) pruneEvents(ctx context.Context) {
	for sleep(ctx, jittered(pruneEvery)) {
		for more := true; more && ctx.Err() == nil; {
			var err error
			if more, err = r.store.PruneEvents(ctx, time.Now().Add(-r.config.EventRetention), pruneLimit); err != nil {
				if ctx.Err() == nil {
					r.logger.ErrorContext(ctx, "prune events", "error", err)
				}
				break
			}
		}
	}
}
