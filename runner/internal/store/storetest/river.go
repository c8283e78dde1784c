package storetest

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver"
	"github.com/riverqueue/river/rivermigrate"
	"github.com/riverqueue/river/rivertype"

	"github.com/weirhq/weir/breaker"
	"github.com/weirhq/weir/runner/internal/store"
	"github.com/weirhq/weir/sfapi"
)

// RunRiver proves a store's SQL on River's tables against River itself. Open
// returns a store on an empty database that is closed when the test ends.
func RunRiver[TTx any](t *testing.T, open func(t *testing.T) store.Store[TTx]) {
	t.Helper()
	for name, test := range map[string]func(*testing.T, *riverTest[TTx]){
		"Admit/by priority, time and id":            testAdmitOrder[TTx],
		"Admit/windows of lanes":                    testAdmitWindows[TTx],
		"Admit/closed lanes":                        testAdmitClosed[TTx],
		"Admit/fair under the bound":                testAdmitFair[TTx],
		"Admit/a first job for all before a second": testAdmitRounds[TTx],
		"Admit/windows hold with many at the gate":  testAdmitConcurrent[TTx],
		"Admit/wakes the worker":                    testAdmitWakes[TTx],
		"Admit/lists active lanes in River":         testAdmitTouches[TTx],
		"ReturnAdmittedTx":                          testReturnAdmitted[TTx],
		"MoveRunning/snooze ends in the lane":       testMoveRunning[TTx],
		"Rescue/verdicts":                           testRescue[TTx],
		"Rescue/a rescued job is worked again":      testRescueWorks[TTx],
		"PauseLaneTx":                               testPauseLane[TTx],
		"LaneQueues":                                testLaneQueues[TTx],
		"CancelOrgBatch/every state":                testCancelStates[TTx],
		"CancelOrgBatch/running jobs":               testCancelRunning[TTx],
		"CancelOrgBatch/in batches":                 testCancelBatches[TTx],
		"RequeueCancelledBatch/order":               testRequeueOrder[TTx],
		"RequeueCancelledBatch/unique keys":         testRequeueUnique[TTx],
		"WaitingJobTx":                              testWaitingJob[TTx],
		"CompleteWaiting":                           testCompleteWaiting[TTx],
		"Backlog":                                   testBacklog[TTx],
		"notifications are River's":                 testNotifications[TTx],
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, newRiverTest(t, open(t)))
		})
	}
}

// riverTest is a store with tables, and an insert-only River client on it.
type riverTest[TTx any] struct {
	store  store.Store[TTx]
	exec   riverdriver.Executor
	client *river.Client[TTx]
}

func newRiverTest[TTx any](t *testing.T, s store.Store[TTx]) *riverTest[TTx] {
	t.Helper()
	migrator, err := rivermigrate.New(s.Driver(), &rivermigrate.Config{Logger: quiet()})
	must(t, err)
	_, err = migrator.Migrate(t.Context(), rivermigrate.DirectionUp, nil)
	must(t, err)
	must(t, s.Migrate(t.Context()))
	client, err := river.NewClient(s.Driver(), &river.Config{Logger: quiet(), FetchCooldown: time.Millisecond})
	must(t, err)
	return &riverTest[TTx]{store: s, exec: s.Driver().GetExecutor(), client: client}
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func diff[T any](t *testing.T, what string, got, want T) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}

// riverOrg returns one of many org ids.
func riverOrg(i int) sfapi.OrgID {
	org, err := sfapi.ParseOrgID(fmt.Sprintf("00D%08dEaAK", i))
	if err != nil {
		panic(err)
	}
	return org
}

// laneJob is a job of a lane, as an app may have them.
type laneJob struct {
	Org    sfapi.OrgID `json:"org"`
	Object string      `json:"object,omitempty"`
	N      int         `json:"n"`
}

func (laneJob) Kind() string { return "lane_job" }

// connect connects orgs 0 to n-1.
func (rt *riverTest[TTx]) connect(t *testing.T, n int) []sfapi.OrgID {
	t.Helper()
	orgs := make([]sfapi.OrgID, n)
	rt.inTx(t, func(ctx context.Context, tx TTx) error {
		for i := range orgs {
			orgs[i] = riverOrg(i)
			if _, err := rt.store.ConnectOrgTx(ctx, tx, &store.Org{
				ID: orgs[i], Label: "org", LoginURL: "https://login.salesforce.com", InstanceURL: "https://x.my.salesforce.com",
				UserID: "005000000000001AAA", State: store.OrgConnected,
			}, &store.Credential{
				Org: orgs[i], LoginURL: "https://login.salesforce.com", InstanceURL: "https://x.my.salesforce.com",
				UserID: "005000000000001AAA", Access: []byte("sealed"), Refresh: []byte("sealed"), IssuedAt: time.Now(),
			}); err != nil {
				return err
			}
		}
		return nil
	})
	return orgs
}

func (rt *riverTest[TTx]) inTx(t *testing.T, fn func(ctx context.Context, tx TTx) error) {
	t.Helper()
	must(t, rt.store.InTx(t.Context(), fn))
}

// insert inserts a job into a lane and returns its id.
func (rt *riverTest[TTx]) insert(t *testing.T, lane breaker.Lane, args laneJob, opts *river.InsertOpts) int64 {
	t.Helper()
	o := river.InsertOpts{}
	if opts != nil {
		o = *opts
	}
	if o.Queue == "" {
		o.Queue = lane.Queue(args.Org)
	}
	res, err := rt.client.Insert(t.Context(), args, &o)
	must(t, err)
	return res.Job.ID
}

// fill inserts n available jobs of each org into the lane, org by org.
func (rt *riverTest[TTx]) fill(t *testing.T, lane breaker.Lane, orgs []sfapi.OrgID, n int) {
	t.Helper()
	var many []river.InsertManyParams
	for _, org := range orgs {
		for i := range n {
			many = append(many, river.InsertManyParams{
				Args: laneJob{Org: org, N: i}, InsertOpts: &river.InsertOpts{Queue: lane.Queue(org)},
			})
		}
	}
	_, err := rt.client.InsertManyFast(t.Context(), many)
	must(t, err)
}

func (rt *riverTest[TTx]) job(t *testing.T, id int64) *rivertype.JobRow {
	t.Helper()
	job, err := rt.exec.JobGetByID(t.Context(), &riverdriver.JobGetByIDParams{ID: id})
	must(t, err)
	return job
}

// place is where a job stands.
type place struct {
	Queue string
	State rivertype.JobState
}

func (rt *riverTest[TTx]) places(t *testing.T, ids ...int64) []place {
	t.Helper()
	places := make([]place, len(ids))
	for i, id := range ids {
		job := rt.job(t, id)
		places[i] = place{job.Queue, job.State}
	}
	return places
}

// admit runs one step of the gate.
func (rt *riverTest[TTx]) admit(t *testing.T, p store.AdmitParams) *store.Admission {
	t.Helper()
	if p.Lane == 0 {
		p.Lane = breaker.Sync
	}
	if p.Max == 0 {
		p.Max = 1000
	}
	a, err := rt.store.Admit(t.Context(), &p)
	must(t, err)
	return a
}

// fetch takes up to n jobs from a queue, as a producer of River's does.
func (rt *riverTest[TTx]) fetch(t *testing.T, process, queue string, n int) []*rivertype.JobRow {
	t.Helper()
	res, err := rt.exec.JobGetAvailable(t.Context(), &riverdriver.JobGetAvailableParams{
		ClientID: process, MaxAttemptedBy: 100, MaxToLock: n, Queue: queue,
	})
	must(t, err)
	slices.SortFunc(res.Jobs, func(a, b *rivertype.JobRow) int { return int(a.ID - b.ID) })
	return res.Jobs
}

// finish completes jobs.
func (rt *riverTest[TTx]) finish(t *testing.T, jobs ...*rivertype.JobRow) {
	t.Helper()
	now := time.Now()
	for _, job := range jobs {
		_, err := rt.exec.JobUpdateFull(t.Context(), &riverdriver.JobUpdateFullParams{
			ID: job.ID, StateDoUpdate: true, State: rivertype.JobStateCompleted, FinalizedAtDoUpdate: true, FinalizedAt: &now,
		})
		must(t, err)
	}
}

// work starts a River client on the run queues that gives every job to fn. It
// never polls within a test: what it works, it was told of.
func (rt *riverTest[TTx]) work(t *testing.T, process string, fn func(ctx context.Context, job *river.Job[laneJob]) error) *river.Client[TTx] {
	t.Helper()
	workers := river.NewWorkers()
	river.AddWorker(workers, river.WorkFunc(fn))
	client, err := river.NewClient(rt.store.Driver(), &river.Config{
		ID: process, Logger: quiet(), Workers: workers, JobTimeout: -1,
		FetchCooldown: time.Millisecond, FetchPollInterval: time.Hour,
		Queues: map[string]river.QueueConfig{
			breaker.Sync.RunQueue():  {MaxWorkers: 50},
			breaker.Write.RunQueue(): {MaxWorkers: 50},
		},
	})
	must(t, err)
	must(t, client.Start(context.WithoutCancel(t.Context())))
	t.Cleanup(func() {
		if err := client.StopAndCancel(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return client
}

// receive waits for a value, for as long as the test may last.
func receive[T any](t *testing.T, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-t.Context().Done():
		t.Fatal("the test ended while it waited")
	}
	panic("unreachable")
}

// metadata returns a job's metadata.
func metadata(t *testing.T, job *rivertype.JobRow) map[string]any {
	t.Helper()
	var m map[string]any
	must(t, json.Unmarshal(job.Metadata, &m))
	return m
}
