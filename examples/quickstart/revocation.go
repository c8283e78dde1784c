package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"

	"github.com/weirhq/weir/breaker"
	"github.com/weirhq/weir/jobs"
	"github.com/weirhq/weir/runner"
)

// revokeAndReconnect has the customer's admin revoke the app while work waits,
// and connect the org again later.
func (d *demo) revokeAndReconnect(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	const records, changed = 300, 25
	written := len(d.org.org.Writes(""))
	d.org.change(changed, 0)
	d.org.revoke()
	handed := leads("late", records)
	receipt, err := d.handOver(ctx, handed)
	if err != nil {
		return err
	}
	sync, err := d.runner.Insert(ctx, jobs.Sync{Org: d.orgID, Object: "Account"}, nil)
	if err != nil {
		return err
	}
	d.printf("The customer's admin revokes the app, while a sync of %d changes and %d Contacts to write wait.\n", changed, records)

	event, err := d.waitForReauth(ctx)
	if err != nil {
		return err
	}
	if err := d.showCancelled(ctx, event, receipt.ID, records); err != nil {
		return err
	}
	_, err = d.runner.Insert(ctx, jobs.Sync{Org: d.orgID, Object: "Contact"}, nil)
	if !errors.Is(err, runner.ErrReauthRequired) {
		return fmt.Errorf("a revoked org takes work: %w", err)
	}
	d.printf("  new work:   refused: %v\n", err)

	org, _, err := d.runner.Orgs().Connect(ctx, &runner.ConnectParams{RefreshToken: d.org.grant(), Requeue: true})
	if err != nil {
		return err
	}
	if !org.Open(breaker.Write) || !org.Open(breaker.Sync) {
		return fmt.Errorf("connected again, the org is held: %+v", org.Holds)
	}
	d.printf("Connected again, with what was cancelled put back:\n")
	if err := d.finish(ctx, receipt.ID); err != nil {
		return err
	}
	if err := d.compareWrites(handed, written); err != nil {
		return err
	}
	if err := d.completed(ctx, sync.Job.ID); err != nil {
		return err
	}
	if err := d.compare(ctx, "Account"); err != nil {
		return err
	}
	if _, err := d.waitForReauth(ctx); err != nil { // still one
		return err
	}
	d.printf("Wrote the %d Contacts, each once and in order, and mirrored the changes; one event was told in all.\n", records)
	return nil
}

// waitForReauth returns the one event that asks for a new grant.
func (d *demo) waitForReauth(ctx context.Context) (*runner.Event, error) {
	for {
		events, err := d.runner.Events(ctx, 0, 0)
		if err != nil {
			return nil, err
		}
		events = slices.DeleteFunc(events, func(e *runner.Event) bool { return e.Type != runner.EventReauthRequired })
		switch len(events) {
		case 0:
		case 1:
			return events[0], nil
		default:
			return nil, fmt.Errorf("the revocation was told %d times", len(events))
		}
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return nil, fmt.Errorf("the revocation was not told: %w", err)
		}
	}
}

// showCancelled prints what the revocation cancelled, and compares the event
// with River's jobs and the write's records.
func (d *demo) showCancelled(ctx context.Context, event *runner.Event, writeID int64, records int) error {
	text, err := json.MarshalIndent(event, "    ", "  ")
	if err != nil {
		return err
	}
	org, err := d.runner.Orgs().Get(ctx, d.orgID)
	if err != nil {
		return err
	}
	if len(org.Holds) != 1 || org.Holds[0].Reason != breaker.ReasonReauth {
		return fmt.Errorf("the org is held by %+v", org.Holds)
	}
	var lanes []string
	total := 0
	for _, lane := range breaker.AllLanes() {
		n, err := d.cancelled(ctx, lane)
		if err != nil {
			return err
		}
		lanes, total = append(lanes, fmt.Sprintf("%d in the %s lane", n, lane)), total+n
	}
	counts, err := d.runner.Writes().Counts(ctx, d.orgID, writeID)
	if err != nil {
		return err
	}
	if total == 0 || total != event.JobsCancelled || counts.Cancelled != records || event.WritesCancelled != records {
		return fmt.Errorf("cancelled are %d jobs and %d records, the event says %s", total, counts.Cancelled, text)
	}
	d.printf("Revoked: nothing more is sent for the org, and what waited is cancelled.\n")
	d.printf("  cancelled:  jobs: %s; %d records\n", strings.Join(lanes, ", "), counts.Cancelled)
	d.printf("  advice:     %s\n", org.Holds[0].Advice)
	d.printf("  event:      one, for the app's handler, webhook and feed:\n    %s\n", text)
	return nil
}

// cancelled counts the lane's cancelled jobs, once those that ran have ended.
func (d *demo) cancelled(ctx context.Context, lane breaker.Lane) (int, error) {
	jobsIn := func(states ...rivertype.JobState) (int, error) {
		list, err := d.runner.River().JobList(ctx, river.NewJobListParams().Queues(lane.Queue(d.orgID)).States(states...))
		if err != nil {
			return 0, err
		}
		return len(list.Jobs), nil
	}
	for {
		running, err := jobsIn(rivertype.JobStateRunning)
		if err != nil {
			return 0, err
		}
		if running == 0 {
			return jobsIn(rivertype.JobStateCancelled)
		}
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return 0, fmt.Errorf("%d jobs of the %s lane went on: %w", running, lane, err)
		}
	}
}

// completed waits until a job has done its work.
func (d *demo) completed(ctx context.Context, id int64) error {
	for {
		job, err := d.runner.River().JobGet(ctx, id)
		if err != nil {
			return err
		}
		switch job.State {
		case rivertype.JobStateCompleted:
			return nil
		case rivertype.JobStateCancelled, rivertype.JobStateDiscarded:
			return fmt.Errorf("job %d is %s: %+v", id, job.State, job.Errors)
		}
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return fmt.Errorf("job %d did not complete: %w", id, err)
		}
	}
}
