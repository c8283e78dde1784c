package jobs

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/riverqueue/river"

	"github.com/weirhq/weir/breaker"
	"github.com/weirhq/weir/sfapi"
)

const (
	// maxRowAttempts is how often a row is sent whose error says that the same
	// row may succeed later: a lock held for long ends as a dead letter.
	maxRowAttempts = 6

	// lookupGrace is how long after its request left an insert whose answer
	// was lost is looked up: a request that is still being processed shows no
	// record yet.
	lookupGrace = 5 * time.Second

	// rowsAhead is how many rows are read from the log at once: more than a
	// call carries, so that updates of one record can be merged.
	rowsAhead = 5 * maxBatchRecords
)

// writeWorker works WriteArgs.
type writeWorker[TTx any] struct {
	river.WorkerDefaults[WriteArgs]

	env *Env[TTx]
}

// Timeout lets a drain last: slices bound it.
func (w *writeWorker[TTx]) Timeout(*river.Job[WriteArgs]) time.Duration { return -1 }

// Work drains the write log of one object of one org for a slice.
func (w *writeWorker[TTx]) Work(ctx context.Context, job *river.Job[WriteArgs]) error {
	a := &job.Args
	epoch, err := w.env.Store.BeginDrain(ctx, a.Org, a.Object, job.ID)
	if errors.Is(err, ErrBusy) {
		return nil // the job that drains has yet to look for the last time
	}
	if err != nil {
		return fmt.Errorf("write %s of org %s: %w", a.Object, a.Org, err)
	}
	// Jobs that wait have nothing to do that this one does not: what they
	// stand for was committed before them.
	if _, err := w.env.Store.CompleteWaiting(ctx, a.Kind(), a.Org, a.Object, job.ID); err != nil {
		return errors.Join(err, w.release(ctx, a, epoch))
	}
	d := &drain[TTx]{env: w.env, args: a, epoch: epoch, slice: w.env.newSlice(), pause: newRowBackOff()}
	if err = d.work(ctx); err != nil && !errors.Is(err, ErrLeaseLost) {
		return errors.Join(err, w.release(ctx, a, epoch))
	}
	return err
}

func (w *writeWorker[TTx]) release(ctx context.Context, a *WriteArgs, epoch int64) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishTimeout)
	defer cancel()
	return w.env.Store.ReleaseDrain(ctx, a.Org, a.Object, epoch)
}

// newRowBackOff paces the calls that only carry rows sent before.
func newRowBackOff() *backoff.ExponentialBackOff {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval = 200 * time.Millisecond
	b.MaxInterval = 10 * time.Second
	b.MaxElapsedTime = 0 // Attempts bound it
	return b
}

// drain is one slice of draining.
type drain[TTx any] struct {
	env    *Env[TTx]
	args   *WriteArgs
	epoch  int64
	client *sfapi.Client
	slice  slice
	pause  *backoff.ExponentialBackOff
}

func (d *drain[TTx]) work(ctx context.Context) error {
	var err error
	if d.client, err = d.env.Client(ctx, d.args.Org, breaker.Write); err != nil {
		return err
	}
	for {
		rows, err := d.env.Store.NextRows(ctx, d.args.Org, d.args.Object, rowsAhead)
		if err != nil {
			return err
		}
		if len(rows) == 0 {
			released, err := d.env.Store.EndDrain(ctx, d.args.Org, d.args.Object, d.epoch)
			if err != nil || released {
				return err
			}
			continue
		}
		if d.slice.over() {
			return ErrYield
		}
		b, err := nextBatch(rows)
		if err != nil {
			return err
		}
		if err := d.pace(ctx, b); err != nil {
			return err
		}
		if err := d.send(ctx, b); err != nil {
			return err
		}
	}
}

// pace waits before a call whose rows have all been refused before.
func (d *drain[TTx]) pace(ctx context.Context, b *batch) error {
	for _, r := range b.rows {
		if r.Attempts == 0 {
			d.pause.Reset()
			return nil
		}
	}
	t := time.NewTimer(d.pause.NextBackOff())
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-d.env.Draining:
		return ErrYield
	case <-ctx.Done():
		return ctx.Err()
	}
}

// send marks a batch sent, sends it and records what became of each row. Rows
// that were marked by a request whose answer is not known are settled first.
func (d *drain[TTx]) send(ctx context.Context, b *batch) error {
	resent := b.rows[0].Status == WriteSent
	if resent && b.operation == sfapi.OpInsert {
		return d.findInserted(ctx, b)
	}
	if err := d.env.Store.MarkSent(ctx, d.args.Org, d.args.Object, d.epoch, b.ids(), b.merged, b.payloads); err != nil {
		return err
	}
	return d.call(ctx, b)
}

// call sends rows that are marked.
func (d *drain[TTx]) call(ctx context.Context, b *batch) error {
	by := ""
	if b.operation == sfapi.OpUpsert {
		by = b.externalID // an insert's is only for looking it up
	}
	results, err := d.client.Collection(ctx, b.operation, d.args.Object, by, b.records())
	if err == nil {
		return d.settleResults(ctx, b, results)
	}
	if sfapi.OutcomeUnknown(err) {
		return err // the rows stay marked: the next slice finds out
	}
	var answered *sfapi.Error
	switch kind := sfapi.KindOf(err); {
	case ctx.Err() != nil || !errors.As(err, &answered) || sfapi.CountsAgainstOrg(err) || sfapi.Retryable(err):
		return errors.Join(err, d.settleAll(ctx, b, WriteOutcome{Status: WritePending}))
	case len(b.rows) > 1 && kind != sfapi.KindNotFound && kind != sfapi.KindPermission && kind != sfapi.KindVersionRetired:
		// One record can spoil the request of all: look for it.
		left, right := b.split()
		if err := d.call(ctx, left); err != nil {
			return errors.Join(err, d.settleAll(ctx, right, WriteOutcome{Status: WritePending}))
		}
		return d.call(ctx, right)
	default:
		code, message := describeError(err)
		return d.settleAll(ctx, b, WriteOutcome{Status: WriteFailed, ErrorCode: code, ErrorMessage: message})
	}
}

func describeError(err error) (code, message string) {
	var e *sfapi.Error
	if errors.As(err, &e) {
		return e.Code, e.Message
	}
	return "", err.Error()
}

// settleAll gives every row of a batch the same outcome, whatever ended ctx.
func (d *drain[TTx]) settleAll(ctx context.Context, b *batch, o WriteOutcome) error {
	outcomes := make([]WriteOutcome, len(b.rows))
	for i, r := range b.rows {
		outcomes[i] = o
		outcomes[i].ID = r.ID
	}
	return d.settle(ctx, outcomes)
}

// settle records outcomes. A request has been answered by now, so the answer
// is saved even when the job is being cancelled.
func (d *drain[TTx]) settle(ctx context.Context, outcomes []WriteOutcome) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishTimeout)
	defer cancel()
	return d.env.Store.Settle(ctx, d.args.Org, d.args.Object, d.epoch, outcomes)
}

// settleResults records a collection's results. An error of the org's, not of
// the record's, puts its row back and ends the job with it.
func (d *drain[TTx]) settleResults(ctx context.Context, b *batch, results []sfapi.SaveResult) error {
	outcomes := make([]WriteOutcome, len(b.rows))
	var orgErr error
	for i, r := range b.rows {
		var err error
		if outcomes[i], err = d.outcome(r, &results[i]); err != nil && orgErr == nil {
			orgErr = err
		}
		if outcomes[i].Status == WriteFailed && b.carries(r.ID) {
			outcomes[i] = WriteOutcome{ID: r.ID, Status: WritePending, CountAttempt: true}
		}
	}
	return errors.Join(orgErr, d.settle(ctx, outcomes))
}

// outcome is what a result says of a row; the error is the org's.
func (d *drain[TTx]) outcome(r *WriteRow, res *sfapi.SaveResult) (WriteOutcome, error) {
	o := WriteOutcome{ID: r.ID, Status: WriteDone, SalesforceID: res.ID, Created: res.Created || r.Operation == sfapi.OpInsert}
	if r.Operation == sfapi.OpUpdate || r.Operation == sfapi.OpDelete {
		o.SalesforceID = r.Key
	}
	if res.Success {
		return o, nil
	}
	c := sfapi.ClassifyRecord(res.Errors)
	o = WriteOutcome{ID: r.ID, Status: WriteFailed, ErrorCode: c.Code, ErrorMessage: c.Message, ErrorFields: c.Fields}
	switch {
	case c.Kind.Policy().Org:
		o.Status = WritePending
		return o, fmt.Errorf("%w: %w", ErrRowsRefused, &sfapi.Error{
			Op: string(r.Operation) + " " + d.args.Object, Org: string(d.args.Org), Method: "POST", Status: 200,
			Kind: c.Kind, Scope: sfapi.ScopeOrg, Transient: true, Code: c.Code, Message: c.Message,
		})
	case c.Kind == sfapi.KindNotFound && r.Operation == sfapi.OpDelete && c.Code == "ENTITY_IS_DELETED":
		o = WriteOutcome{ID: r.ID, Status: WriteDone, SalesforceID: r.Key}
	case c.Code == "DUPLICATE_VALUE" && r.Operation == sfapi.OpInsert && r.ExternalID != "" && r.Attempts > 0 && r.Attempts+1 < maxRowAttempts:
		// The first request was still under way when the record was looked
		// up: the duplicate is most likely this very record.
		o.Status, o.CountAttempt = WriteSent, true
	case c.Retry && r.Attempts+1 < maxRowAttempts:
		o.Status, o.CountAttempt = WritePending, true
	}
	return o, nil
}

// findInserted settles inserts whose answer was lost: by looking for the
// record where it has an external id, as unknown where it has none.
func (d *drain[TTx]) findInserted(ctx context.Context, b *batch) error {
	var lost []WriteOutcome
	var search []*WriteRow
	for _, r := range b.rows {
		if b.externalID == "" || r.Key == "" {
			lost = append(lost, WriteOutcome{
				ID: r.ID, Status: WriteUnknown, ErrorCode: CodeOutcomeUnknown,
				ErrorMessage: "the answer to the insert was lost, and without an external id there is no telling whether the record exists",
			})
			continue
		}
		search = append(search, r)
	}
	if len(lost) > 0 {
		if err := d.settle(ctx, lost); err != nil {
			return err
		}
	}
	if len(search) == 0 {
		return nil
	}
	newest := search[0].SentAt
	for _, r := range search {
		if r.SentAt.After(newest) {
			newest = r.SentAt
		}
	}
	if err := d.waitUntil(ctx, newest.Add(lookupGrace)); err != nil {
		return err
	}
	found, err := d.lookUp(ctx, b.externalID, search)
	if err != nil {
		return err
	}
	outcomes := make([]WriteOutcome, len(search))
	for i, r := range search {
		switch ids := found[strings.ToLower(r.Key)]; len(ids) {
		case 0:
			outcomes[i] = WriteOutcome{ID: r.ID, Status: WritePending, CountAttempt: true}
		case 1:
			outcomes[i] = WriteOutcome{ID: r.ID, Status: WriteDone, SalesforceID: ids[0], Created: true}
		default:
			outcomes[i] = WriteOutcome{
				ID: r.ID, Status: WriteUnknown, ErrorCode: CodeOutcomeUnknown,
				ErrorMessage: fmt.Sprintf("the answer to the insert was lost, and %d records have %s = %q", len(ids), b.externalID, r.Key),
			}
		}
	}
	return d.settle(ctx, outcomes)
}

// CodeOutcomeUnknown is the error code of rows in state unknown. It is Weir's,
// not Salesforce's.
const CodeOutcomeUnknown = "WEIR_OUTCOME_UNKNOWN"

func (d *drain[TTx]) waitUntil(ctx context.Context, at time.Time) error {
	t := time.NewTimer(time.Until(at))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-d.env.Draining:
		return ErrYield
	case <-ctx.Done():
		return ctx.Err()
	}
}

// lookUp returns the ids of the records with the rows' external ids, by key in
// lower case: Salesforce compares external ids without regard to case unless
// the field says otherwise.
func (d *drain[TTx]) lookUp(ctx context.Context, externalID string, rows []*WriteRow) (map[string][]string, error) {
	describe, err := d.client.Describe(ctx, d.args.Object)
	if err != nil {
		return nil, err
	}
	quote := true
	if f, ok := describe.Field(externalID); ok && columnType(f.Type) == ColumnNumeric {
		quote = false
	}
	found := make(map[string][]string)
	const chunk = 100 // keys of up to 255 characters keep the URL below 16 KB after that
	for len(rows) > 0 {
		var in strings.Builder
		n, size := 0, 0
		for n < len(rows) && n < chunk && size < 8000 {
			if n > 0 {
				in.WriteByte(',')
			}
			lit := rows[n].Key
			if quote {
				lit = soqlQuote(lit)
			}
			in.WriteString(lit)
			size += 3 * len(lit) // percent-encoded at worst
			n++
		}
		soql := fmt.Sprintf("SELECT Id, %s FROM %s WHERE %s IN (%s)", externalID, d.args.Object, externalID, in.String())
		for rec, err := range sfapi.Query[sfapi.Record](ctx, d.client, soql, nil) {
			if err != nil {
				return nil, err
			}
			id, err := sfapi.ID18(rec.ID())
			if err != nil {
				return nil, err
			}
			key := strings.ToLower(rec.String(externalID))
			found[key] = append(found[key], id)
		}
		rows = rows[n:]
	}
	return found, nil
}

// soqlQuote quotes a text for SOQL.
//
// https://developer.salesforce.com/docs/atlas.en-us.soql_sosl.meta/soql_sosl/sforce_api_calls_soql_select_quotedstringescapes.htm
func soqlQuote(s string) string {
	return "'" + soqlEscaper.Replace(s) + "'"
}

var soqlEscaper = strings.NewReplacer(`\`, `\\`, `'`, `\'`, "\n", `\n`, "\r", `\r`, "\t", `\t`, "\b", `\b`, "\f", `\f`)
