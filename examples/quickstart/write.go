package main

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/weirhq/weir/jobs"
)

// Lead is a row of the app's own, and what it becomes in Salesforce.
type Lead struct {
	ExternalID string `json:"Ext_Id__c"`
	LastName   string
	Email      string
}

// write hands over records in the transaction that also writes the app's own
// rows: both are there after the commit, or neither.
func (d *demo) write(ctx context.Context) error {
	if _, err := d.db.ExecContext(ctx, `CREATE TABLE app_lead (external_id TEXT PRIMARY KEY, last_name TEXT, email TEXT)`); err != nil {
		return err
	}
	calls := d.org.apiCalls()
	began := time.Now()
	receipt, err := d.handOver(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for {
		c, err := d.runner.Writes().Counts(ctx, d.orgID, receipt.ID)
		if err != nil {
			return err
		}
		ended := c.Pending+c.Sent == 0
		d.progress(fmt.Sprintf("  write %d: %4d of %d records done", receipt.ID, c.Done, c.Accepted), ended)
		if ended {
			if c.Done != d.writes {
				return fmt.Errorf("write %d ended with %+v", receipt.ID, *c)
			}
			break
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return fmt.Errorf("the writes did not finish: %w", err)
		}
	}
	took, used := time.Since(began), d.org.apiCalls()-calls
	if n := d.org.contactsWritten(); n != d.writes {
		return fmt.Errorf("the org has %d of the %d records, or has some twice", n, d.writes)
	}
	d.printf("Wrote %d Contacts in %v with %d API calls; the org has each of them once.\n", d.writes, took.Round(time.Millisecond), used)
	return nil
}

func (d *demo) handOver(ctx context.Context) (*jobs.WriteReceipt, error) {
	tx, err := d.db.BeginTx(ctx, nil)
	if err != nil {
		return nil, err
	}
	defer func() { _ = tx.Rollback() }() // does nothing after the commit
	leads := make([]Lead, d.writes)
	for i := range leads {
		leads[i] = Lead{fmt.Sprintf("lead-%04d", i), fmt.Sprintf("Lead %d", i), fmt.Sprintf("lead%d@example.com", i)}
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
