package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/riverqueue/river"

	"github.com/weirhq/weir/breaker"
	"github.com/weirhq/weir/runner"
)

// writeThroughMaintenance writes records while the org enters read-only mode
// and leaves it, as Salesforce's orgs do for maintenance.
func (d *demo) writeThroughMaintenance(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	const callsBefore, perCall = 2, 200
	d.org.enterMaintenance(callsBefore)
	began := time.Now()
	handed := leads("lead", d.writes)
	receipt, err := d.handOver(ctx, handed)
	if err != nil {
		return err
	}
	d.printf("Handed over %d Contacts to write; the org turns read-only after %d calls.\n", d.writes, callsBefore)

	hold, err := d.waitForHold(ctx)
	if err != nil {
		return err
	}
	if err := d.showHold(ctx, hold); err != nil {
		return err
	}
	waiting, err := d.countWaiting(ctx, receipt.ID)
	if err != nil {
		return err
	}
	if want := d.writes - callsBefore*perCall; waiting != want {
		return fmt.Errorf("%d records wait while the org is held, not %d", waiting, want)
	}

	// Reads go on: the mirror takes in what changes meanwhile.
	const changed = 30
	d.org.change(changed, 0)
	if err := d.sync(ctx, map[string]int{"Account": changed}); err != nil {
		return err
	}
	if err := d.compare(ctx, "Account"); err != nil {
		return err
	}
	if still, err := d.countWaiting(ctx, receipt.ID); err != nil || still != waiting {
		return fmt.Errorf("%d records wait after the sync, not %d: %w", still, waiting, err)
	}
	if n := d.org.refusedWrites(); n != 1 {
		return fmt.Errorf("the org refused %d writes: the first one should have stopped them", n)
	}
	d.printf("Reads went on: %d Accounts changed and were mirrored, while %d records waited and none was sent.\n", changed, waiting)

	d.org.leaveMaintenance()
	left := time.Now()
	if err := d.waitForOpen(ctx); err != nil {
		return err
	}
	d.printf("Maintenance over: probe %d saw it, a trial write went through, and the lane resumed by itself %v later.\n",
		d.org.probes(), time.Since(left).Round(time.Millisecond))
	if err := d.finish(ctx, receipt.ID); err != nil {
		return err
	}
	if err := d.compareWrites(handed, 0); err != nil {
		return err
	}
	if err := d.oneAttempt(ctx); err != nil {
		return err
	}
	d.printf("Wrote %d Contacts in %v: the org has each of them once, in order, and no job spent a second attempt.\n",
		d.writes, time.Since(began).Round(time.Millisecond))
	return nil
}

// waitForHold returns the hold of the org's write lane.
func (d *demo) waitForHold(ctx context.Context) (*breaker.Hold, error) {
	for {
		org, err := d.runner.Orgs().Get(ctx, d.orgID)
		if err != nil {
			return nil, err
		}
		if len(org.Holds) > 0 {
			return d.checkHold(org)
		}
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return nil, fmt.Errorf("the org was not held: %w", err)
		}
	}
}

// checkHold compares the hold with what maintenance is: writes stop, reads go
// on, and a person can read why.
func (d *demo) checkHold(org *runner.Org) (*breaker.Hold, error) {
	hold := &org.Holds[0]
	if len(org.Holds) != 1 || hold.Reason != breaker.ReasonMaintenance || org.Open(breaker.Write) || !org.Open(breaker.Sync) {
		return nil, fmt.Errorf("the org is held for something else: %+v", org.Holds)
	}
	if hold.Since.IsZero() || hold.NextProbe.IsZero() || hold.Advice == "" || len(hold.Evidence) == 0 {
		return nil, fmt.Errorf("the hold does not say enough: %+v", hold)
	}
	return hold, nil
}

// showHold prints what Orgs().Get says of a hold, and checks that River shows
// the lane paused.
func (d *demo) showHold(ctx context.Context, hold *breaker.Hold) error {
	queue, err := d.runner.River().QueueGet(ctx, breaker.Write.Queue(d.orgID))
	if err != nil {
		return err
	}
	if queue.PausedAt == nil {
		return fmt.Errorf("queue %s is not paused in River", queue.Name)
	}
	d.printf("Paused: the %s lane is held for %s.\n", breaker.Write, hold.Reason)
	d.printf("  since:      %s\n", hold.Since.Local().Format(time.TimeOnly))
	d.printf("  next probe: %v later (by default 30s doubling to 15m; short here)\n", hold.NextProbe.Sub(hold.Since).Round(time.Millisecond))
	d.printf("  evidence:   %s\n", hold.Evidence[0])
	d.printf("  advice:     %s\n", hold.Advice)
	return nil
}

// waitForOpen waits until nothing holds the org.
func (d *demo) waitForOpen(ctx context.Context) error {
	for {
		org, err := d.runner.Orgs().Get(ctx, d.orgID)
		if err != nil {
			return err
		}
		if len(org.Holds) == 0 {
			return nil
		}
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return fmt.Errorf("the org was not resumed: %w", err)
		}
	}
}

func (d *demo) countWaiting(ctx context.Context, writeID int64) (int, error) {
	c, err := d.runner.Writes().Counts(ctx, d.orgID, writeID)
	if err != nil {
		return 0, err
	}
	return c.Pending, nil
}

// showErrors prints the error codes that were counted, which are saved a moment
// after the calls.
func (d *demo) showErrors(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		counts, err := d.runner.Orgs().Errors(ctx, d.orgID, time.Now().Add(-time.Hour))
		if err != nil {
			return err
		}
		var codes []string
		total := 0
		for _, c := range counts {
			codes = append(codes, fmt.Sprintf("%d × %s", c.Count, c.Code))
			total += int(c.Count)
		}
		if total == d.org.refusedWrites() {
			slices.Sort(codes)
			d.printf("Errors of this org in the last hour, as counted: %s.\n", strings.Join(codes, ", "))
			return nil
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return fmt.Errorf("%v were counted, the org refused %d calls: %w", counts, d.org.refusedWrites(), err)
		}
	}
}

// showHeldOrg puts the org into read-only mode again, with writes waiting, and
// says where River UI shows it.
func (d *demo) showHeldOrg(ctx context.Context, ui string) error {
	starting, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	d.org.enterMaintenance(0)
	const writes, records = 5, 100
	for i := range writes {
		if _, err := d.handOver(starting, leads(fmt.Sprint("next-", i), records)); err != nil {
			return err
		}
		if i > 0 {
			continue
		}
		// The first one meets the org; the others come while it is held.
		if _, err := d.waitForHold(starting); err != nil {
			return err
		}
	}
	probes, err := d.runner.River().JobList(starting, river.NewJobListParams().Kinds("salesforce_probe").OrderBy(river.JobListOrderByID, river.SortOrderDesc).First(1))
	if err != nil {
		return err
	}
	if len(probes.Jobs) == 0 {
		return errors.New("no probe job of the held org in River")
	}
	d.printf("\nRiver UI: %s/ (Ctrl-C ends). The org is in read-only mode again, and %d records wait:\n", ui, writes*records)
	d.printf("  the paused lane and its jobs:      %s/queues/%s\n", ui, breaker.Write.Queue(d.orgID))
	d.printf("  why, next probe and what to do:    %s/jobs/%d\n", ui, probes.Jobs[0].ID)
	d.printf("  Resume pressed there means \"probe now\": while the org is read-only, the lane is paused again.\n")
	return nil
}
