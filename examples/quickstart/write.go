package main

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/riverqueue/river"

	"github.com/weirhq/weir/jobs"
)

// Lead is a row of the app's own, and what it becomes in Salesforce.
type Lead struct {
	ExternalID string `json:"Ext_Id__c"`
	LastName   string
	Email      string
}

// leads returns n new ones whose external ids begin with prefix.
func leads(prefix string, n int) []Lead {
	out := make([]Lead, n)
	for i := range out {
		out[i] = Lead{fmt.Sprintf("%s-%04d", prefix, i), fmt.Sprintf("Lead %d", i), fmt.Sprintf("lead%d@example.com", i)}
	}
	return out
}

// handOver hands over records in the transaction that also writes the app's
// own rows: both are there after the commit, or neither.
func (d *demo) handOver(ctx context.Context, leads []Lead) (*jobs.WriteReceipt, error) {
	tx, err := d.db.BeginTx(ctx, nil)
	if err != nil {
		return nil, err
	}
	defer func() { _ = tx.Rollback() }() // does nothing after the commit
	if _, err := tx.ExecContext(ctx, `CREATE TABLE IF NOT EXISTS app_lead (external_id TEXT PRIMARY KEY, last_name TEXT, email TEXT)`); err != nil {
		return nil, err
	}
	for i := range leads {
		if err := insertLead(ctx, tx, &leads[i]); err != nil {
			return nil, err
		}
	}
	receipt, err := d.runner.WriteTx(ctx, tx, &jobs.Write{
		Org: d.orgID, Object: "Contact", Operation: jobs.Upsert, ExternalID: "Ext_Id__c", Records: leads,
	})
	if err != nil {
		return nil, err
	}
	return receipt, tx.Commit()
}

func insertLead(ctx context.Context, tx *sql.Tx, l *Lead) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO app_lead VALUES (?, ?, ?)`, l.ExternalID, l.LastName, l.Email)
	return err
}

// finish shows a write's progress until all its records are written.
func (d *demo) finish(ctx context.Context, writeID int64) error {
	for {
		c, err := d.runner.Writes().Counts(ctx, d.orgID, writeID)
		if err != nil {
			return err
		}
		ended := c.Pending+c.Sent == 0
		d.progress(fmt.Sprintf("  Contact: %4d of %d records written", c.Done, c.Accepted), ended)
		if ended {
			if c.Done != c.Accepted {
				return fmt.Errorf("write %d ended with %+v", writeID, *c)
			}
			return nil
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return fmt.Errorf("the writes did not finish: %w", err)
		}
	}
}

// compareWrites checks in the org's own history that it has each lead from one
// call and from no other, in the order in which they were handed over, after as
// many writes as there were before.
func (d *demo) compareWrites(leads []Lead, before int) error {
	history := d.org.org.Writes("")[before:] // of this org; nobody else writes to it over the API
	if len(history) != len(leads) {
		return fmt.Errorf("the org has taken %d writes for %d records", len(history), len(leads))
	}
	for i, w := range history {
		if w.Key != leads[i].ExternalID {
			return fmt.Errorf("write %d of the org is of %s, not %s", i, w.Key, leads[i].ExternalID)
		}
	}
	return nil
}

// oneAttempt checks that the jobs of the write lane have spent one attempt each
// and met no error.
func (d *demo) oneAttempt(ctx context.Context) error {
	list, err := d.runner.River().JobList(ctx, river.NewJobListParams().Kinds(jobs.WriteArgs{}.Kind()))
	if err != nil {
		return err
	}
	for _, job := range list.Jobs {
		if job.Attempt > 1 || len(job.Errors) > 0 {
			return fmt.Errorf("job %d has spent %d attempts, with errors %+v", job.ID, job.Attempt, job.Errors)
		}
	}
	return nil
}
