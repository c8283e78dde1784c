package jobs

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"regexp"
	"slices"
	"strings"
	"time"

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

	// firstRowPause is how long a row waits that was refused once, and may
	// succeed later. It doubles each time: a lock is held for seconds.
	firstRowPause = 200 * time.Millisecond

	// settlePatience is how long an outcome is kept while the database is
	// away: Salesforce will not tell it again.
	settlePatience = 2 * time.Minute

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
	d := &drain[TTx]{env: w.env, args: a, epoch: epoch, slice: w.env.newSlice(), waiting: make(map[int64]time.Time), refused: make(map[string]WriteOutcome)}
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

// drain is one slice of draining.
type drain[TTx any] struct {
	env    *Env[TTx]
	args   *WriteArgs
	epoch  int64
	client *sfapi.Client
	slice  slice

	waiting map[int64]time.Time     // rows that were refused → when to send them again
	refused map[string]WriteOutcome // shapes that were refused → how
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
		b, err := nextBatch(rows, d.waits)
		if err != nil {
			return err
		}
		if len(b.rows) == 0 {
			if err := d.waitUntil(ctx, d.nextDue(rows)); err != nil {
				return err
			}
			continue
		}
		if err := d.send(ctx, b); err != nil {
			return err
		}
	}
}

// waits reports whether it is too early to send a row again.
func (d *drain[TTx]) waits(r *WriteRow) bool {
	due, ok := d.waiting[r.ID]
	if ok && !time.Now().Before(due) {
		delete(d.waiting, r.ID)
		return false
	}
	return ok
}

// nextDue returns when the first of rows need wait no longer.
func (d *drain[TTx]) nextDue(rows []*WriteRow) time.Time {
	var next time.Time
	for _, r := range rows {
		if due, ok := d.waiting[r.ID]; ok && (next.IsZero() || due.Before(next)) {
			next = due
		}
	}
	return next
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
	b, err := d.refuseKnown(ctx, b)
	if err != nil || len(b.rows) == 0 {
		return err
	}
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
		o := WriteOutcome{Status: WriteFailed}
		o.ErrorCode, o.ErrorMessage = describeError(err)
		d.learn(b, o)
		outcomes := make([]WriteOutcome, len(b.rows))
		for i, r := range b.rows {
			outcomes[i] = o
			if b.mayCarry(r) {
				outcomes[i] = WriteOutcome{Status: WritePending, CountAttempt: true}
			}
			outcomes[i].ID = r.ID
		}
		return d.settle(ctx, outcomes)
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
	saving, cancel := context.WithTimeout(context.WithoutCancel(ctx), settlePatience)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(finishTimeout, cancel) })
	defer stop()
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		err := d.env.Store.Settle(saving, d.args.Org, d.args.Object, d.epoch, outcomes, d.env.WriteFailed)
		if err == nil || errors.Is(err, ErrLeaseLost) {
			return err
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-saving.Done():
			t.Stop()
			return err
		}
	}
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
		if outcomes[i].Status == WriteFailed && b.mayCarry(r) {
			outcomes[i] = WriteOutcome{ID: r.ID, Status: WritePending, CountAttempt: true}
		} else if outcomes[i].Status == WritePending && outcomes[i].CountAttempt {
			d.waiting[r.ID] = time.Now().Add(firstRowPause << r.Attempts)
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
	var answered *sfapi.Error
	if err != nil && (!errors.As(err, &answered) || sfapi.CountsAgainstOrg(err) || sfapi.Retryable(err) || sfapi.KindOf(err) == sfapi.KindInvalidQueryLocator) {
		return err
	}
	if err != nil {
		// It will be refused again, and what is behind must go on.
		_, message := describeError(err)
		for _, r := range search {
			lost = append(lost, WriteOutcome{
				ID: r.ID, Status: WriteUnknown, ErrorCode: CodeOutcomeUnknown,
				ErrorMessage: "the answer to the insert was lost, and the record cannot be looked up: " + message,
			})
		}
		return d.settle(ctx, lost[len(lost)-len(search):])
	}
	outcomes := make([]WriteOutcome, len(search))
	for i, r := range search {
		switch ids := found(r); len(ids) {
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

// numberPattern matches the external ids that are looked up as numbers.
// Without an exponent: one of nine digits would fill the memory.
var numberPattern = regexp.MustCompile(`^-?[0-9]{1,18}(\.[0-9]{1,18})?$`)

// numberKey brings a number to one form: Salesforce gives back 12 as 12.0.
func numberKey(key string) string {
	if !numberPattern.MatchString(key) {
		return ""
	}
	n, _ := new(big.Rat).SetString(key) // the pattern has checked it
	return n.RatString()
}

// lookUp returns the ids of the records that have each row's external id.
func (d *drain[TTx]) lookUp(ctx context.Context, externalID string, rows []*WriteRow) (func(*WriteRow) []string, error) {
	describe, err := d.client.Describe(ctx, d.args.Object)
	if err != nil {
		return nil, err
	}
	// Texts are compared without regard to case unless the field says
	// otherwise.
	literal, form := soqlQuote, strings.ToLower
	if f, ok := describe.Field(externalID); ok && columnType(f.Type) == ColumnNumeric {
		form, literal = numberKey, func(key string) string { return key }
		// What is no number, no record has: the insert will be refused.
		rows = slices.DeleteFunc(slices.Clone(rows), func(r *WriteRow) bool { return numberKey(r.Key) == "" })
	}
	found := make(map[string][]string)
	ids := func(r *WriteRow) []string { return found[form(r.Key)] }
	const chunk = 100 // keys of up to 255 characters keep the URL below 16 KB after that
	for len(rows) > 0 {
		var in strings.Builder
		n, size := 0, 0
		for n < len(rows) && n < chunk && size < 8000 {
			if n > 0 {
				in.WriteByte(',')
			}
			lit := literal(rows[n].Key)
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
			if key := form(rec.String(externalID)); key != "" {
				found[key] = append(found[key], id)
			}
		}
		rows = rows[n:]
	}
	return ids, nil
}

// soqlQuote quotes a text for SOQL.
//
// https://developer.salesforce.com/docs/atlas.en-us.soql_sosl.meta/soql_sosl/sforce_api_calls_soql_select_quotedstringescapes.htm
func soqlQuote(s string) string {
	return "'" + soqlEscaper.Replace(s) + "'"
}

var soqlEscaper = strings.NewReplacer(`\`, `\\`, `'`, `\'`, "\n", `\n`, "\r", `\r`, "\t", `\t`, "\b", `\b`, "\f", `\f`)
