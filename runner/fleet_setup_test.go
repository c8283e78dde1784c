package runner_test

import (
	"context"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"

	"github.com/weirhq/weir/breaker"
	"github.com/weirhq/weir/jobs"
	"github.com/weirhq/weir/runner"
	"github.com/weirhq/weir/runner/internal/pgtest"
	"github.com/weirhq/weir/sfapi"
	"github.com/weirhq/weir/sfapi/sftest"
)

// ask is a job of the app's own that makes one call.
type ask struct {
	Org sfapi.OrgID `json:"org"`
	N   int         `json:"n"`
}

func (ask) Kind() string         { return "app_ask" }
func (a ask) OrgID() sfapi.OrgID { return a.Org }
func (ask) Lane() breaker.Lane   { return breaker.Sync }

func askOnce(ctx context.Context, client *sfapi.Client, _ *river.Job[ask]) error {
	for _, err := range sfapi.Query[sfapi.Record](ctx, client, "SELECT Id FROM Account LIMIT 1", nil) {
		if err != nil {
			return err
		}
	}
	return nil
}

// fleet is many orgs behind one listener, worker processes, and a runner that
// only enqueues.
type fleet struct {
	*fixture[pgx.Tx]

	r       *runner.Runner[pgx.Tx]
	pool    *pgxpool.Pool
	orgs    []*fleetOrg
	env     []string
	workers []*workerProcess

	probeEvery time.Duration
}

// fleetOrg is an org and what was handed over for it.
type fleetOrg struct {
	*sftest.Org

	written map[string]int // records by object
}

// fleetObjects are written in turn.
var fleetObjects = []string{"Contact", "Account", "Widget__c"}

// newFleet connects orgs. Each call takes a while, so that there is always one
// in flight, and holds are probed often.
func newFleet(t *testing.T, orgs int, probes time.Duration) *fleet {
	t.Helper()
	url := pgtest.URL(t)
	pool, err := pgxpool.New(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	f := &fleet{fixture: fixtureOn(t, pool), pool: pool, probeEvery: probes}
	server := httptest.NewServer(f.sim)
	t.Cleanup(server.Close)
	f.sim.SetBaseURL(server.URL)
	f.sim.Inject(sftest.Latency(5*time.Millisecond).On("", "/composite/sobjects"))
	// On a busy machine a process may be silent for long, and its jobs must not
	// be taken from it: tests that kill processes set another workerDead.
	f.env = []string{
		workerDead + "=1m",
		workerDatabase + "=" + url, workerLogin + "=" + server.URL,
		workerKeyset + "=" + shareSealer(t, f.fixture), workerProbes + "=" + probes.String(),
	}
	f.r = f.migrated(t, func(c *runner.Config[pgx.Tx]) {
		c.App, c.Transport, c.Handlers = workerApp(server.URL), nil, nil
	})
	for i := range orgs {
		o := &fleetOrg{Org: f.org, written: make(map[string]int)}
		if i > 0 {
			o.Org = f.sim.AddOrg(nil)
		}
		f.orgs = append(f.orgs, o)
		if _, _, err := f.r.Orgs().Connect(t.Context(), &runner.ConnectParams{RefreshToken: sfapi.Secret(o.Grant())}); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

func (o *fleetOrg) id() sfapi.OrgID { return sfapi.OrgID(o.ID()) }

// work starts worker processes.
func (f *fleet) work(t *testing.T, processes int, env ...string) {
	t.Helper()
	for range processes {
		f.workers = append(f.workers, startWorker(t, slices.Concat(f.env, env)...))
	}
}

// stop ends the worker processes in order.
func (f *fleet) stop(t *testing.T) {
	t.Helper()
	for _, w := range f.workers {
		if err := w.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Error(err)
		}
	}
	for _, w := range f.workers {
		if err := w.cmd.Wait(); err != nil {
			t.Errorf("worker: %v\n%s", err, w.log)
		}
		if log := w.log.String(); log != "" {
			t.Logf("worker: %s", log)
		}
	}
	f.workers = nil
}

// write hands over n records for an org, numbered on.
func (f *fleet) write(t *testing.T, o *fleetOrg, object string, n int) {
	t.Helper()
	records := make([]contact, n)
	for i := range records {
		name := "Name"
		if object == "Contact" {
			name = "LastName"
		}
		seq := strconv.Itoa(o.written[object] + i)
		records[i] = contact{"Ext__c": object + "-" + seq, name: seq}
	}
	if _, err := f.r.Write(t.Context(), &jobs.Write{Org: o.id(), Object: object, Operation: jobs.Upsert, ExternalID: "Ext__c", Records: records}); err != nil {
		t.Fatal(err)
	}
	o.written[object] += n
}

// load hands over work at a pace: in each round a record for every org, of one
// object after the other, and for every other org a sync.
func (f *fleet) load(t *testing.T, rounds int) {
	t.Helper()
	pace := time.NewTicker(4 * time.Millisecond)
	defer pace.Stop()
	for round := range rounds {
		for i, o := range f.orgs {
			<-pace.C
			f.write(t, o, fleetObjects[round%len(fleetObjects)], 1)
			if (round+i)%2 == 0 {
				if _, err := f.r.Insert(t.Context(), jobs.Sync{Org: o.id(), Object: "Contact", Fields: []string{"Id", "LastName"}}, nil); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

func (f *fleet) count(t *testing.T, query string, args ...any) int {
	t.Helper()
	var n int
	if err := f.pool.QueryRow(context.WithoutCancel(t.Context()), query, args...).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// drained waits until every job but the probes has ended.
func (f *fleet) drained(t *testing.T) {
	t.Helper()
	eventually(t, "all work is done", func() bool {
		return f.count(t, `SELECT count(*) FROM river_job WHERE finalized_at IS NULL AND kind <> 'salesforce_probe'`) == 0
	})
}

// disagreements reports where our rows and River's differ: for each lane whether a
// hold covers it, whether the gate knows, and whether its queue is paused; for
// each org whether it has the probe job that it needs, once.
func (f *fleet) disagreements(t *testing.T) []string {
	t.Helper()
	rows, err := f.pool.Query(t.Context(), `
WITH lane AS (
	SELECT id, 'sync' AS lane, sync_held AS held, sync_window AS win, breaker FROM weir_org
	UNION ALL
	SELECT id, 'write', write_held, write_window, breaker FROM weir_org
), compared AS (
	SELECT lane.*,
		coalesce(jsonb_path_exists(breaker, '$.holds[*].lanes[*] ? (@ == $lane)', jsonb_build_object('lane', lane)), false) AS covered,
		coalesce(paused_at IS NOT NULL, false) AS paused
	FROM lane LEFT JOIN river_queue ON name = 'sf_' || lower(id) || '_' || lane
), probes AS (
	SELECT id, coalesce(jsonb_path_exists(breaker, '$.holds[*] ? (exists(@.next_probe))'), false) AS needed,
		(SELECT count(*) FROM river_job WHERE kind = 'salesforce_probe' AND finalized_at IS NULL AND args ->> 'org' = weir_org.id) AS n
	FROM weir_org
)
SELECT format('%s %s: covered %s, held %s with window %s, paused %s', id, lane, covered, held, win, paused)
FROM compared WHERE covered <> held OR covered <> paused OR (win IS NOT NULL) <> covered
UNION ALL
SELECT format('%s: probe needed %s, %s are there', id, needed, n) FROM probes WHERE needed <> (n = 1)`)
	if err != nil {
		t.Fatal(err)
	}
	texts, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return texts
}

// agreed waits until our rows and River's agree.
func (f *fleet) agreed(t *testing.T) {
	t.Helper()
	var last []string
	defer func() {
		if t.Failed() {
			t.Logf("our rows and River's:\n%s", strings.Join(last, "\n"))
		}
	}()
	eventually(t, "our rows and River's agree", func() bool {
		last = f.disagreements(t)
		return len(last) == 0
	})
}

// onceInOrder checks that the orgs have each record that was handed over, once
// and in order of submission. A request whose process was killed before it
// noted the answer is repeated: then the order is that of what was new, and
// repeats allows as many records as one call carries.
func (f *fleet) onceInOrder(t *testing.T, repeats int) {
	t.Helper()
	if n := f.count(t, `SELECT count(*) FROM weir_write_record WHERE status <> 'done'`); n != 0 {
		t.Errorf("%d records are not done", n)
	}
	for _, o := range f.orgs {
		next, again := make(map[string]int), 0
		for _, w := range o.Writes("") {
			object, number, ok := strings.Cut(w.Key, "-")
			seq, err := strconv.Atoi(number)
			if !ok || err != nil {
				t.Fatalf("%s has a write of %q", o.ID(), w.Key)
			}
			switch {
			case seq == next[object]:
				next[object]++
			case seq < next[object]:
				again++
			default:
				t.Fatalf("%s got %s after %d", o.ID(), w.Key, next[object]-1)
			}
		}
		if again > repeats {
			t.Errorf("%s got %d records twice", o.ID(), again)
		}
		for object, n := range o.written {
			if next[object] != n {
				t.Errorf("%s has %d of %d records of %s", o.ID(), next[object], n, object)
			}
		}
	}
}

// reached returns the write calls that reached the org and came to something
// after a time, and those that it refused.
func (o *fleetOrg) reached(from, to time.Time) (ok, refused []sftest.Entry) {
	for _, e := range o.Audit() {
		if e.Operation != sftest.OpCollections || e.Time.Before(from) || !e.Time.Before(to) {
			continue
		}
		if slices.Contains(e.Codes, "INSERT_UPDATE_DELETE_NOT_ALLOWED_DURING_MAINTENANCE") {
			refused = append(refused, e)
		} else {
			ok = append(ok, e)
		}
	}
	return ok, refused
}

// probes are those that asked the org about read-only mode.
func (o *fleetOrg) probes(from, to time.Time) []sftest.Entry {
	var asked []sftest.Entry
	for _, e := range o.Audit() {
		if strings.Contains(e.SOQL, "IsReadOnly") && !e.Time.Before(from) && e.Time.Before(to) {
			asked = append(asked, e)
		}
	}
	return asked
}

// rate is how many calls of these operations a second the orgs answered.
func rate(orgs []*fleetOrg, from, to time.Time, ops ...sftest.Operation) float64 {
	n := 0
	for _, o := range orgs {
		for _, e := range o.Audit() {
			if slices.Contains(ops, e.Operation) && e.Status == 200 && !e.Time.Before(from) && e.Time.Before(to) {
				n++
			}
		}
	}
	return float64(n) / to.Sub(from).Seconds()
}

// mostAtOnce is how many calls of these operations the org had at once.
func (o *fleetOrg) mostAtOnce(ops ...sftest.Operation) int {
	type edge struct {
		at time.Time
		by int
	}
	var edges []edge
	for _, e := range o.Audit() {
		if slices.Contains(ops, e.Operation) {
			edges = append(edges, edge{e.Time, 1}, edge{e.Time.Add(e.Duration), -1})
		}
	}
	slices.SortFunc(edges, func(a, b edge) int {
		if c := a.at.Compare(b.at); c != 0 {
			return c
		}
		return a.by - b.by
	})
	most, now := 0, 0
	for _, e := range edges {
		now += e.by
		most = max(most, now)
	}
	return most
}

func (f *fleet) holdsOf(t *testing.T, o *fleetOrg) []breaker.Hold {
	t.Helper()
	org, err := f.r.Orgs().Get(t.Context(), o.id())
	if err != nil {
		t.Fatal(err)
	}
	return org.Holds
}
