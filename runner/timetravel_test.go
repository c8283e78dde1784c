// Hours of virtual time take the race detector minutes: `make test` runs these
// tests by themselves, without it.

//go:build !race

package runner_test

import (
	"cmp"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/riverqueue/river"

	"github.com/weirhq/weir/breaker"
	"github.com/weirhq/weir/jobs"
	"github.com/weirhq/weir/runner"
	"github.com/weirhq/weir/runner/runnersqlite"
	"github.com/weirhq/weir/sfapi/sftest"
)

// timeTravel is a runner, its database and its org in a synctest bubble: time
// there passes as soon as all of them wait for it.
type timeTravel struct {
	*fixture[*sql.Tx]

	runner *runner.Runner[*sql.Tx]
	events events
	begin  time.Time
}

// inBubble runs fn with a runner on a SQLite database in memory, migrated and
// connected but not started. handlers add to what it can do.
func inBubble(t *testing.T, fn func(t *testing.T, w *timeTravel), handlers ...func(*jobs.Handlers[*sql.Tx])) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		db, err := runnersqlite.Open(":memory:")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { db.Close() })
		f := newFixture(t, runnersqlite.New(db))
		f.table = func(t *testing.T, query string) []map[string]*string { return tableOf(t, db, query) }
		jobs.AddMirror(f.handlers, "Account", nil)
		for _, add := range handlers {
			add(f.handlers)
		}
		f.org.Seed("Account", 10, 1)
		w := &timeTravel{fixture: f, begin: time.Now()}
		w.runner = f.migrated(t, func(c *runner.Config[*sql.Tx]) {
			c.OnEvent = w.events.on
			// SQLite is what a virtual hour costs real time: River's listener
			// would look into it twenty times a second.
			c.River = &river.Config{Test: river.TestConfig{Time: bubbleClock{}}, PollOnly: true, FetchPollInterval: fetchPoll}
		})
		runner.SetGateTick(w.runner, gateTick)
		f.connect(t, w.runner)
		fn(t, w)
	})
}

// gateTick and fetchPoll are how often the gate and the workers look for jobs:
// seldom, since looking is all that happens in most of the time.
const (
	gateTick  = 10 * time.Second
	fetchPoll = 10 * time.Second
)

// bubbleClock is the bubble's clock for River, which otherwise reads SQLite's
// own, outside the bubble.
type bubbleClock struct{}

func (bubbleClock) Now() time.Time { return time.Now() }

func (bubbleClock) NowOrNil() *time.Time {
	now := time.Now()
	return &now
}

// tableOf reads rows as texts by the column names; nil is NULL.
func tableOf(t *testing.T, db *sql.DB, query string) []map[string]*string {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), query)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	names, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	var out []map[string]*string
	for rows.Next() {
		values, into := make([]*string, len(names)), make([]any, len(names))
		for i := range into {
			into[i] = &values[i]
		}
		if err := rows.Scan(into...); err != nil {
			t.Fatal(err)
		}
		row := make(map[string]*string)
		for i, name := range names {
			row[name] = values[i]
		}
		out = append(out, row)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

// upsert hands over one version of a record, known by its external id.
func (w *timeTravel) upsert(t *testing.T, key, version string) int64 {
	t.Helper()
	receipt, err := w.runner.Write(t.Context(), &jobs.Write{
		Org: w.orgID, Object: "Contact", Operation: jobs.Upsert, ExternalID: "Ext__c",
		Records: []contact{{"Ext__c": key, "LastName": version}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return receipt.ID
}

// sync hands over a sync and returns its job.
func (w *timeTravel) insertSync(t *testing.T) int64 {
	t.Helper()
	res, err := w.runner.Insert(t.Context(), jobs.Sync{Org: w.orgID, Object: "Account"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return res.Job.ID
}

// hold returns the org's hold of a reason, or nil.
func (w *timeTravel) hold(t *testing.T, reason breaker.Reason) *breaker.Hold {
	t.Helper()
	org := w.get(t, w.runner)
	if i := slices.IndexFunc(org.Holds, func(h breaker.Hold) bool { return h.Reason == reason }); i >= 0 {
		return &org.Holds[i]
	}
	return nil
}

// mustHold is hold where there must be one.
func (w *timeTravel) mustHold(t *testing.T, reason breaker.Reason) *breaker.Hold {
	t.Helper()
	h := w.hold(t, reason)
	if h == nil {
		t.Fatalf("%v: the org is not held for %s: %+v", w.elapsed(), reason, w.get(t, w.runner).Holds)
	}
	return h
}

func (w *timeTravel) elapsed() time.Duration { return time.Since(w.begin) }

// probeNote is what River shows of a hold.
type probeNote struct {
	Reason    string     `json:"reason"`
	Since     time.Time  `json:"since"`
	NextProbe *time.Time `json:"next_probe"`
	Evidence  []string   `json:"evidence"`
	Advice    string     `json:"advice"`
}

// probeJob is the org's probe job as River shows it.
type probeJob struct {
	id, state, tags  string
	metadata, output []probeNote
}

// probeJobs returns the probe jobs, ended ones included.
func (w *timeTravel) probeJobs(t *testing.T) []probeJob {
	t.Helper()
	var out []probeJob
	for _, row := range w.table(t, "SELECT id, state, json(tags) AS tags, json(metadata) AS metadata FROM river_job WHERE kind = 'salesforce_probe' ORDER BY id") {
		var meta struct {
			Holds  []probeNote `json:"holds"`
			Output struct {
				Holds []probeNote `json:"holds"`
			} `json:"output"`
		}
		if err := json.Unmarshal([]byte(*row["metadata"]), &meta); err != nil {
			t.Fatal(err)
		}
		out = append(out, probeJob{*row["id"], *row["state"], *row["tags"], meta.Holds, meta.Output.Holds})
	}
	return out
}

// onlyProbeJob returns the one probe job of a held org, and checks that it says
// what there is to know about the hold.
func (w *timeTravel) onlyProbeJob(t *testing.T, reason breaker.Reason) probeJob {
	t.Helper()
	all := w.probeJobs(t)
	if len(all) != 1 {
		t.Fatalf("%v: %d probe jobs: %+v", w.elapsed(), len(all), all)
	}
	job, hold := all[0], w.mustHold(t, reason)
	if job.state != "scheduled" && job.state != "available" {
		t.Errorf("%v: the probe job is %s", w.elapsed(), job.state)
	}
	if !strings.Contains(job.tags, string(reason)) || !strings.Contains(job.tags, string(w.orgID)) {
		t.Errorf("the probe job's tags are %s", job.tags)
	}
	for where, notes := range map[string][]probeNote{"metadata": job.metadata, "output": job.output} {
		if where == "output" && hold.Probes == 0 {
			continue // it has not run yet
		}
		i := slices.IndexFunc(notes, func(n probeNote) bool { return n.Reason == string(reason) })
		if i < 0 {
			t.Errorf("%v: the probe job's %s is %+v", w.elapsed(), where, notes)
			continue
		}
		n := notes[i]
		if !n.Since.Equal(hold.Since) || n.Advice != hold.Advice || len(n.Evidence) == 0 {
			t.Errorf("%v: the probe job's %s says %+v of the hold %+v", w.elapsed(), where, n, hold)
		}
		// The output is what the last run left; trials go on after it.
		if due := hold.Due(); where == "metadata" && (n.NextProbe == nil || !n.NextProbe.Equal(due) || !slices.Equal(n.Evidence, hold.Evidence)) {
			t.Errorf("%v: the probe job's metadata says %+v of the hold %+v", w.elapsed(), n, hold)
		}
	}
	return job
}

// noProbeJob checks that no probe job waits or runs.
func (w *timeTravel) noProbeJob(t *testing.T) {
	t.Helper()
	time.Sleep(2 * fetchPoll) // the last one has yet to run
	for _, job := range w.probeJobs(t) {
		if job.state != "completed" {
			t.Errorf("%v: after the holds probe job %s is %s", w.elapsed(), job.id, job.state)
		}
	}
}

// inOrder checks that the records arrived: each version at most once, in order,
// and the newest. Versions that waited together may have become one.
func (w *timeTravel) inOrder(t *testing.T, want map[string][]string) {
	t.Helper()
	got := make(map[string][]string)
	for _, c := range w.org.Writes("") {
		if c.Object == "Contact" {
			got[c.Key] = append(got[c.Key], fmt.Sprint(c.Fields["LastName"]))
		}
	}
	for key, versions := range want {
		rest := versions
		for _, v := range got[key] {
			i := slices.Index(rest, v)
			if i < 0 {
				t.Fatalf("%s was written as %v, want the order of %v", key, got[key], versions)
			}
			rest = rest[i+1:]
		}
		if len(rest) > 0 {
			t.Errorf("%s was written as %v, without %v", key, got[key], rest)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d records were written, want %d", len(got), len(want))
	}
	for _, row := range w.table(t, "SELECT id, status FROM weir_write_record WHERE status <> 'done'") {
		t.Errorf("record %s is %s", *row["id"], *row["status"])
	}
}

// calls are the calls since a time that reached the org, but for token
// requests, that match.
func (w *timeTravel) calls(since time.Time, match func(e *sftest.Entry) bool) []sftest.Entry {
	var out []sftest.Entry
	for _, e := range w.org.Audit() {
		if !e.Time.Before(since) && match(&e) {
			out = append(out, e)
		}
	}
	slices.SortStableFunc(out, func(a, b sftest.Entry) int { return cmp.Compare(a.Time.UnixNano(), b.Time.UnixNano()) })
	return out
}

// A call that was refused early is in the audit by its address alone.
func isProbeOfOrganization(e *sftest.Entry) bool { return strings.Contains(e.Query, "IsReadOnly") }

func isProbeOfLimits(e *sftest.Entry) bool { return strings.HasSuffix(e.Path, "/limits") }

func isWrite(e *sftest.Entry) bool { return e.Operation == sftest.OpCollections }

func isToken(e *sftest.Entry) bool { return e.Operation == sftest.OpToken }

func isDataCall(e *sftest.Entry) bool { return !isToken(e) }

// lag is how much later than due a probe may run: the workers poll. resumed is
// how long after a probe was due its good news must have reached the jobs.
const (
	lag     = fetchPoll
	resumed = lag + gateTick*5/4 + fetchPoll
)

// backsOff checks that probes of a hold that began at a time keep to its
// schedule: 30 seconds, doubling to 15 minutes, at most a fifth less, and no
// later than it says.
func (w *timeTravel) backsOff(t *testing.T, since time.Time, probes []sftest.Entry, late time.Duration) {
	t.Helper()
	last, wait := since, 30*time.Second
	for i, p := range probes {
		if gap := p.Time.Sub(last); gap < wait*4/5 || gap > wait+late {
			t.Errorf("probe %d came %v after what was before it, want %v less up to a fifth", i, gap, wait)
		}
		last, wait = p.Time, min(2*wait, 15*time.Minute)
	}
}

func (w *timeTravel) wantEvents(t *testing.T, want ...string) {
	t.Helper()
	time.Sleep(2 * fetchPoll) // the last one has yet to be delivered
	slices.Sort(want)
	if got := w.events.kinds(); !slices.Equal(got, want) {
		t.Errorf("events %q, want %q", got, want)
	}
}

// Two hours of read-only mode: the writes stop at the first refusal and the
// reads go on; when it is over, the writes go on within one probe interval, in
// order, each once.
func TestTimeTravelMaintenance(t *testing.T) {
	inBubble(t, func(t *testing.T, w *timeTravel) {
		start(t, w.runner)
		want := map[string][]string{}
		submit := func(version string) {
			for _, key := range []string{"hot", "only-" + version} {
				w.upsert(t, key, version)
				want[key] = append(want[key], version)
			}
		}
		submit("before")
		time.Sleep(time.Minute)
		w.inOrder(t, want)

		w.org.SetReadOnly(sftest.ReadOnly)
		closed := time.Now()
		var probe string
		for i := range 12 {
			submit(fmt.Sprintf("in-%02d", i))
			read := w.insertSync(t)
			time.Sleep(10 * time.Minute)
			if job := w.ended(t, w.runner, read); job.State != "completed" || job.FinalizedAt.Sub(job.CreatedAt) > time.Minute {
				t.Errorf("%v: the sync was %s after %v", w.elapsed(), job.State, job.FinalizedAt.Sub(job.CreatedAt))
			}
			job := w.onlyProbeJob(t, breaker.ReasonMaintenance)
			if probe != "" && job.id != probe {
				t.Errorf("the probe job was %s, and is %s", probe, job.id)
			}
			probe = job.id
		}
		hold := w.mustHold(t, breaker.ReasonMaintenance)
		if writes := w.calls(closed, isWrite); len(writes) != 1 {
			t.Errorf("%d writes reached the org in its maintenance, want the first only", len(writes))
		}
		w.backsOff(t, hold.Since, w.calls(hold.Since, isProbeOfOrganization), lag)

		w.org.SetReadOnly(sftest.ReadWrite)
		opened := time.Now()
		time.Sleep(hold.NextProbe.Sub(opened) + resumed)
		w.inOrder(t, want)
		w.noAttemptBurned(t)
		if holds := w.get(t, w.runner).Holds; len(holds) != 0 {
			t.Errorf("held after the maintenance: %+v", holds)
		}
		w.noProbeJob(t)
		w.wantEvents(t, "org.held maintenance", "org.resumed maintenance")
	})
}
