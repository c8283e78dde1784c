package runner

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/weirhq/weir/breaker"
	"github.com/weirhq/weir/sfapi"
)

// holdNote is what River shows of a hold: in the paused queue's metadata, and
// in the metadata and output of the probe job.
type holdNote struct {
	Org       sfapi.OrgID `json:"org"`
	Reason    string      `json:"reason"`
	Lanes     []string    `json:"lanes"`
	Since     time.Time   `json:"since"`
	NextProbe *time.Time  `json:"next_probe"` // nil when only a person can end the hold
	Evidence  []string    `json:"evidence"`
	Advice    string      `json:"advice"`
}

func noteOf(org sfapi.OrgID, h *breaker.Hold) holdNote {
	n := holdNote{Org: org, Reason: string(h.Reason), Since: h.Since.UTC(), Evidence: h.Evidence, Advice: h.Advice}
	for _, l := range h.Lanes.Slice() {
		n.Lanes = append(n.Lanes, l.String())
	}
	if due := h.Due(); !due.IsZero() {
		due = due.UTC()
		n.NextProbe = &due
	}
	return n
}

// notesOf are the notes of all holds of an org.
func notesOf(s *breaker.State) []holdNote {
	notes := make([]holdNote, len(s.Holds))
	for i := range s.Holds {
		notes[i] = noteOf(s.Org, &s.Holds[i])
	}
	return notes
}

// applyTx writes what follows from a change of state, in its transaction.
func (h *holds[TTx]) applyTx(ctx context.Context, tx TTx, s *breaker.State, effects []breaker.Effect) error {
	var touched, noted breaker.Lanes
	promised := promisedEvents(effects)
	for _, e := range effects {
		var err error
		switch e := e.(type) {
		case breaker.PauseLane:
			touched = touched.Union(breaker.LanesOf(e.Lane))
			noted = noted.Union(breaker.LanesOf(e.Lane))
			_, err = h.runner.store.ReturnAdmittedTx(ctx, tx, s.Org, e.Lane)
		case breaker.ResumeLane:
			touched = touched.Union(breaker.LanesOf(e.Lane))
			err = h.runner.store.ResumeLaneTx(ctx, tx, e.Lane.Queue(s.Org))
		case breaker.SetWindow:
			touched = touched.Union(breaker.LanesOf(e.Lane))
		case breaker.HoldChanged:
			noted = noted.Union(e.Hold.Lanes)
		case breaker.HoldLifted:
			noted = noted.Union(e.Hold.Lanes) // another hold may cover them still
		case breaker.CancelJobs:
			_, err = h.runner.orderCancelTx(ctx, tx, s.Org, string(e.Reason), promised.of(s.Org, e.Reason))
		case breaker.EmitEvent:
			if promised.of(s.Org, e.Reason) == nil || e.Type != EventReauthRequired {
				err = h.runner.emitTx(ctx, tx, newEvent(s.Org, e))
			}
		case breaker.ScheduleProbe:
			err = h.scheduleProbeTx(ctx, tx, s, e.At)
		case breaker.CancelProbe:
			err = h.endProbeTx(ctx, tx, s, effects)
		}
		if err != nil {
			return fmt.Errorf("%T: %w", e, err)
		}
	}
	for _, lane := range noted.Slice() {
		if hold := s.Covers(lane); hold != nil {
			if err := h.pauseTx(ctx, tx, s, lane, hold); err != nil {
				return err
			}
		}
	}
	for _, lane := range touched.Slice() {
		if err := h.runner.store.SetLaneTx(ctx, tx, s.Org, lane, h.window(s, lane), s.Covers(lane) != nil); err != nil {
			return fmt.Errorf("lane %s: %w", lane, err)
		}
	}
	return nil
}

// promises are the events that say how much was cancelled: they go out once
// that is known.
type promises map[breaker.Reason]breaker.EmitEvent

func promisedEvents(effects []breaker.Effect) promises {
	cancels := make(map[breaker.Reason]bool)
	p := make(promises)
	for _, e := range effects {
		switch e := e.(type) {
		case breaker.CancelJobs:
			cancels[e.Reason] = true
		case breaker.EmitEvent:
			if e.Type == EventReauthRequired {
				p[e.Reason] = e
			}
		}
	}
	for reason := range p {
		if !cancels[reason] {
			delete(p, reason)
		}
	}
	return p
}

func (p promises) of(org sfapi.OrgID, reason breaker.Reason) *Event {
	e, ok := p[reason]
	if !ok {
		return nil
	}
	return newEvent(org, e)
}

// pauseTx shows a hold in River's row of a lane's queue.
func (h *holds[TTx]) pauseTx(ctx context.Context, tx TTx, s *breaker.State, lane breaker.Lane, hold *breaker.Hold) error {
	note, err := json.Marshal(noteOf(s.Org, hold))
	if err != nil {
		return err
	}
	if err := h.runner.store.PauseLaneTx(ctx, tx, lane.Queue(s.Org), note); err != nil {
		return fmt.Errorf("pause lane %s: %w", lane, err)
	}
	return nil
}

// window is the lane's window as the gate takes it: -1 for the configured one.
func (h *holds[TTx]) window(s *breaker.State, lane breaker.Lane) int {
	w := s.Window(lane)
	if s.Covers(lane) == nil && w == h.configured(lane) {
		return -1
	}
	return w
}

func (h *holds[TTx]) configured(lane breaker.Lane) int {
	if lane == breaker.Write {
		return h.runner.config.WriteWindow
	}
	return h.runner.config.SyncWindow
}
