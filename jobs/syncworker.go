package jobs

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver"

	"github.com/weirhq/weir/breaker"
	"github.com/weirhq/weir/sfapi"
)

// maxDeadLocators is how many queries in a row may die without one page
// applied before a run reports it: a locator ends with its session, so one
// that dies at once, again and again, is another trouble.
const maxDeadLocators = 3

// finishTimeout bounds what a job saves after its context ended.
const finishTimeout = 10 * time.Second

// clockDoubt is by how much our clock may be ahead of the server's, where an
// answer came without the server's time. To be early costs rows that are read
// again; to be late would cost rows.
const clockDoubt = 5 * time.Minute

// syncWorker works Sync.
type syncWorker[TTx any] struct {
	river.WorkerDefaults[Sync]

	env       *Env[TTx]
	handlers  *Handlers[TTx]
	describes *describeCache
}

// Timeout lets a run last: slices bound it.
func (w *syncWorker[TTx]) Timeout(*river.Job[Sync]) time.Duration { return -1 }

// Work runs one slice of a sync.
func (w *syncWorker[TTx]) Work(ctx context.Context, job *river.Job[Sync]) error {
	args := &job.Args
	handler := w.handlers.forObject(args.Object)
	if handler == nil {
		// Not cancelled: while a new version is rolled out, another worker may
		// have one.
		return fmt.Errorf("sync %s of org %s: this worker has no handler for the object", args.Object, args.Org)
	}
	st, err := w.env.Store.BeginSync(ctx, args.Org, args.Object, job.ID, args.Mode.orDefault())
	if err != nil {
		return fmt.Errorf("sync %s of org %s: %w", args.Object, args.Org, err)
	}
	run := &syncRun[TTx]{worker: w, job: job, args: args, handler: handler, st: st, slice: w.env.newSlice()}
	err = run.work(ctx)
	if err == nil || errors.Is(err, ErrLeaseLost) {
		return err
	}
	// The lease goes back whatever ended the job, so that the next one need
	// not wait until River notices.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishTimeout)
	defer cancel()
	if errors.Is(err, ErrYield) || errors.Is(err, context.Canceled) {
		return errors.Join(err, w.env.Store.ReleaseSync(ctx, st))
	}
	return errors.Join(err, w.env.Store.FailSync(ctx, st, err.Error()))
}

// syncRun is one slice of a run.
type syncRun[TTx any] struct {
	worker  *syncWorker[TTx]
	job     *river.Job[Sync]
	args    *Sync
	handler syncHandler[TTx]
	st      *SyncState
	plan    *syncPlan
	slice   slice
	calls   int64 // API calls not yet counted in st
}

func (r *syncRun[TTx]) work(ctx context.Context) error {
	env := r.worker.env
	client, err := env.Client(ctx, r.args.Org, breaker.Sync)
	if err != nil {
		return err
	}
	for {
		described, err := r.choose(ctx, client)
		if err != nil {
			return err
		}
		err = r.run(ctx, client)
		if sfapi.KindOf(err) != sfapi.KindBadRequest {
			return err
		}
		// Most likely a field that went away since the describe was cached.
		r.worker.describes.forget(r.args.Org, r.args.Object)
		if described {
			return err
		}
	}
}

// choose says which fields to read, and whether the describe that it went by
// is of this moment.
func (r *syncRun[TTx]) choose(ctx context.Context, client *sfapi.Client) (described bool, err error) {
	asked := time.Now()
	describe, called, err := r.worker.describes.get(ctx, client, r.args.Object)
	if called {
		r.calls++
	}
	if err != nil {
		return called, err
	}
	if describe.Name != r.args.Object {
		// Salesforce would answer all the same. But a cursor belongs to a name,
		// and two cursors would feed one mirror in no order.
		return called, river.JobCancel(fmt.Errorf("sync %s of org %s: the org spells it %s", r.args.Object, r.args.Org, describe.Name))
	}
	if _, ok := describe.Field("SystemModstamp"); !ok {
		return called, river.JobCancel(fmt.Errorf("sync %s of org %s: the object has no SystemModstamp to follow changes by", r.args.Object, r.args.Org))
	}
	if called {
		if err := r.worker.env.noteSchema(ctx, r.args.Org, describe, asked); err != nil {
			r.worker.describes.forget(r.args.Org, r.args.Object) // to be noted by the next
			return called, err
		}
	}
	if r.plan, err = r.handler.plan(describe, r.args); err != nil {
		return called, river.JobCancel(fmt.Errorf("sync %s of org %s: %w", r.args.Object, r.args.Org, err))
	}
	return called, nil
}

// run reads to the end of what changed, and ends the run.
func (r *syncRun[TTx]) run(ctx context.Context, client *sfapi.Client) error {
	for dead := 0; ; {
		pages, err := r.read(ctx, client)
		if err == nil {
			return r.finish(ctx)
		}
		if sfapi.KindOf(err) != sfapi.KindInvalidQueryLocator {
			return err
		}
		// The locator is gone, with its session or by age: the next query
		// starts at the cursor, which was saved with the last page.
		if pages > 0 {
			dead = 0
		}
		if dead++; dead >= maxDeadLocators {
			return err
		}
	}
}

// read runs one query from where the run stands to its end, and returns how
// many pages it applied.
func (r *syncRun[TTx]) read(ctx context.Context, client *sfapi.Client) (pages int, err error) {
	asked := time.Now()
	var started time.Time // the server's clock when this query began, or a little before
	opts := &sfapi.QueryOptions{All: r.hasField("IsDeleted")}
	for page, err := range sfapi.QueryPages[sfapi.Record](ctx, client, r.soql(), opts) {
		if err != nil {
			return pages, err
		}
		r.calls++
		if started.IsZero() {
			started = queryBegan(page.ServerTime, asked)
			if err := r.handler.prepare(ctx, r.worker.env, r.plan); err != nil {
				return pages, err
			}
		}
		if err := r.apply(ctx, page.Records, started); err != nil {
			return pages, err
		}
		pages++
		if !page.Done && r.slice.over() {
			return pages, ErrYield
		}
	}
	return pages, nil
}

// queryBegan returns a time by the server's clock at which a query that was
// asked at asked, by ours, had not begun yet. The answer's Date is when it was
// sent: a row that changed while the query ran is older than that, and stands
// anywhere in the answer. Without a Date (a proxy may remove it) our clock must
// do.
func queryBegan(sent, asked time.Time) time.Time {
	took := time.Since(asked)
	if sent.IsZero() {
		sent = time.Now().Add(-clockDoubt)
	}
	return sent.Add(-took).UTC().Truncate(time.Second)
}

// apply hands one page to the handler and saves the cursor with what it did.
func (r *syncRun[TTx]) apply(ctx context.Context, records []sfapi.Record, started time.Time) error {
	rows, err := r.rows(records)
	if err != nil {
		return err
	}
	progress := &PageProgress{ServerStart: started, APICalls: r.calls, Cursor: advance(r.st.Cursor, rows, started)}
	if !r.st.ServerStart.IsZero() {
		progress.ServerStart = r.st.ServerStart
	}
	remember := progress.ServerStart.Add(-r.worker.env.Overlap)
	next := *r.st
	err = r.worker.env.Store.InTx(ctx, func(ctx context.Context, tx TTx) error {
		next = *r.st
		fresh, seen, err := r.fresh(ctx, tx, rows, remember)
		if err != nil {
			return err
		}
		progress.Seen, progress.Rows, progress.Deleted = seen, int64(len(fresh)), 0
		for i := range fresh {
			if fresh[i].deleted {
				progress.Deleted++
			}
		}
		page := &rowPage{org: r.args.Org, object: r.args.Object, mode: next.Mode, rows: fresh}
		if err := r.handler.apply(ctx, r.worker.env, tx, r.plan, page); err != nil {
			return err
		}
		return r.worker.env.Store.SavePageTx(ctx, tx, &next, progress)
	})
	if err != nil {
		return err
	}
	*r.st, r.calls = next, 0
	return nil
}

// fresh leaves out the rows whose very version was delivered before, and
// returns beside them the versions to remember: those that will be read again,
// by the next run or by this one after a lost locator. A full run delivers
// what earlier runs have delivered.
func (r *syncRun[TTx]) fresh(ctx context.Context, tx TTx, rows []row, remember time.Time) (fresh []row, seen []SeenRow, err error) {
	oldest := r.st.From // of what is remembered
	if oldest.IsZero() {
		oldest = remember
	}
	versions := make([]SeenRow, len(rows))
	known := make([]bool, len(rows))
	var ask []SeenRow
	var asked []int // their places in rows
	for i := range rows {
		versions[i] = rows[i].version()
		if r.st.Mode != Full && !rows[i].stamp.Before(oldest) {
			ask, asked = append(ask, versions[i]), append(asked, i)
		}
	}
	if len(ask) > 0 {
		answers, err := r.worker.env.Store.FilterSeenTx(ctx, tx, r.args.Org, r.args.Object, ask)
		if err != nil {
			return nil, nil, err
		}
		for k, i := range asked {
			known[i] = answers[k]
		}
	}
	for i := range rows {
		if known[i] {
			continue
		}
		fresh = append(fresh, rows[i])
		if !rows[i].stamp.Before(remember) {
			seen = append(seen, versions[i])
		}
	}
	return fresh, seen, nil
}

// version identifies the row as it arrived, so that two versions with the same
// stamp are told apart.
func (r *row) version() SeenRow {
	sum := sha256.Sum256(r.rec.Raw())
	return SeenRow{ID: r.id, Stamp: r.stamp, Hash: [16]byte(sum[:16])}
}

// rows reads the keys of a page's records. Of an id that comes twice the later
// one counts.
func (r *syncRun[TTx]) rows(records []sfapi.Record) ([]row, error) {
	rows := make([]row, 0, len(records))
	at := make(map[string]int, len(records))
	for _, rec := range records {
		id, err := sfapi.ID18(rec.ID())
		if err != nil {
			return nil, fmt.Errorf("sync %s of org %s: a row without a usable Id: %w", r.args.Object, r.args.Org, err)
		}
		stamp, err := rec.Time("SystemModstamp")
		if err != nil {
			return nil, fmt.Errorf("sync %s of org %s: record %s: %w", r.args.Object, r.args.Org, id, err)
		}
		deleted, _ := rec.Get("IsDeleted")
		v := row{rec: rec, id: id, stamp: stamp.UTC(), deleted: string(deleted) == "true"}
		if i, twice := at[id]; twice {
			rows = append(rows[:i], rows[i+1:]...)
			for k, j := range at {
				if j > i {
					at[k] = j - 1
				}
			}
		}
		at[id] = len(rows)
		rows = append(rows, v)
	}
	return rows, nil
}

// advance returns the cursor after rows. It never passes a row that changed
// after the query began: such a row may stand anywhere in the order, with its
// new stamp, and rows that come after it in the answer would be skipped when
// the run has to start again at the cursor.
func advance(c Cursor, rows []row, queryStarted time.Time) Cursor {
	for i := range rows {
		key := Cursor{Stamp: rows[i].stamp, ID: rows[i].id}
		if key.Stamp.Before(queryStarted) && c.before(key) {
			c = key
		}
	}
	return c
}

func (c Cursor) before(d Cursor) bool {
	if !c.Stamp.Equal(d.Stamp) {
		return c.Stamp.Before(d.Stamp)
	}
	return c.ID[:min(len(c.ID), 15)] < d.ID[:min(len(d.ID), 15)]
}

// finish ends the run and the job in one transaction.
func (r *syncRun[TTx]) finish(ctx context.Context) error {
	nextFrom := r.st.ServerStart.Add(-r.worker.env.Overlap).Truncate(time.Second)
	return r.worker.env.Store.InTx(ctx, func(ctx context.Context, tx TTx) error {
		st := *r.st
		if err := r.worker.env.Store.FinishSyncTx(ctx, tx, &st, nextFrom); err != nil {
			return err
		}
		_, err := river.JobCompleteTx[riverdriver.Driver[TTx]](ctx, tx, r.job)
		return err
	})
}

func (r *syncRun[TTx]) hasField(name string) bool {
	_, ok := r.plan.describe.Field(name)
	return ok
}

// soql is the query from where the run stands.
func (r *syncRun[TTx]) soql() string {
	var b strings.Builder
	b.WriteString("SELECT Id, SystemModstamp")
	have := map[string]bool{"id": true, "systemmodstamp": true}
	if r.hasField("IsDeleted") {
		b.WriteString(", IsDeleted")
		have["isdeleted"] = true
	}
	for _, f := range r.plan.fields {
		if key := strings.ToLower(f); !have[key] {
			have[key] = true
			b.WriteString(", ")
			b.WriteString(f)
		}
	}
	b.WriteString(" FROM ")
	b.WriteString(r.args.Object)
	switch c := r.st.Cursor; {
	case !c.IsZero():
		at := soqlTime(c.Stamp)
		fmt.Fprintf(&b, " WHERE SystemModstamp > %s OR (SystemModstamp = %s AND Id > '%s')", at, at, c.ID)
	case !r.st.From.IsZero():
		fmt.Fprintf(&b, " WHERE SystemModstamp >= %s", soqlTime(r.st.From))
	}
	b.WriteString(" ORDER BY SystemModstamp, Id")
	return b.String()
}

// soqlTime formats a date-time literal.
//
// https://developer.salesforce.com/docs/atlas.en-us.soql_sosl.meta/soql_sosl/sforce_api_calls_soql_select_dateformats.htm
func soqlTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// describeTTL is how long a describe is taken for true: long enough that
// syncs every few minutes cost one call, short enough that a new field is read
// the same hour.
const describeTTL = 10 * time.Minute

// describeCache keeps describes of objects for the process.
type describeCache struct {
	mu      sync.Mutex // protects entries
	entries map[describeKey]describeEntry
}

type describeKey struct {
	org    sfapi.OrgID
	object string
}

type describeEntry struct {
	describe *sfapi.Describe
	until    time.Time
}

func newDescribeCache() *describeCache {
	return &describeCache{entries: make(map[describeKey]describeEntry)}
}

// get returns an object's describe, and whether that took a call.
func (c *describeCache) get(ctx context.Context, client *sfapi.Client, object string) (*sfapi.Describe, bool, error) {
	key := describeKey{client.Org(), strings.ToLower(object)}
	c.mu.Lock()
	e, ok := c.entries[key]
	c.mu.Unlock()
	if ok && time.Now().Before(e.until) {
		return e.describe, false, nil
	}
	d, err := client.Describe(ctx, object)
	if err != nil {
		return nil, true, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.entries) >= maxDescribes {
		clear(c.entries)
	}
	c.entries[key] = describeEntry{d, time.Now().Add(describeTTL)}
	return d, true, nil
}

// maxDescribes bounds the cache: a describe of a large object takes a few
// hundred kilobytes.
const maxDescribes = 500

func (c *describeCache) forget(org sfapi.OrgID, object string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.entries, describeKey{org, strings.ToLower(object)})
}
