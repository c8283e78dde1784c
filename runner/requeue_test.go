package runner_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"

	"github.com/weirhq/weir/breaker"
	"github.com/weirhq/weir/jobs"
	"github.com/weirhq/weir/runner"
	"github.com/weirhq/weir/sfapi"
)

// A reconnect with Requeue puts everything back that the revocation cancelled:
// each record is written once, in the order of submission, before newer ones.
func TestReconnectRequeues(t *testing.T) {
	t.Parallel()
	onBoth(t, testReconnectRequeues[*sql.Tx], testReconnectRequeues[pgx.Tx])
}

func testReconnectRequeues[TTx any](t *testing.T, f *fixture[TTx]) {
	const writes, each, newer = 5, 1000, 10
	var worked atomic.Int64
	jobs.AddWorker(f.handlers, func(context.Context, *sfapi.Client, *river.Job[blocked]) error {
		worked.Add(1)
		return nil
	})
	r := f.running(t)
	ctx := t.Context()
	if _, err := r.Orgs().Hold(ctx, f.orgID); err != nil {
		t.Fatal(err)
	}
	n := 0
	write := func(records int) int64 {
		t.Helper()
		var list []contact
		for range records {
			list = append(list, contact{"Ext__c": fmt.Sprint("k-", n), "LastName": strconv.Itoa(n)})
			n++
		}
		receipt, err := r.Write(ctx, &jobs.Write{Org: f.orgID, Object: "Contact", Operation: jobs.Insert, ExternalID: "Ext__c", Records: list})
		if err != nil {
			t.Fatal(err)
		}
		return receipt.ID
	}
	var receipts []int64
	for range writes {
		receipts = append(receipts, write(each))
	}
	job, err := r.Insert(ctx, blocked{Org: f.orgID}, nil)
	if err != nil {
		t.Fatal(err)
	}
	f.org.ExpireSessions()
	f.org.RevokeAll()
	if err := runner.Probe(r, ctx, f.orgID); err == nil {
		t.Fatal("a revoked org answers")
	}
	f.waitForHold(t, r, breaker.ReasonReauth)
	eventually(t, "all is cancelled", func() bool { return len(f.reauths(t, r)) == 1 })
	if e := f.reauths(t, r)[0]; e.WritesCancelled != writes*each || e.JobsCancelled != writes+1 {
		t.Errorf("event %+v", e)
	}
	org, created, err := r.Orgs().Connect(ctx, &runner.ConnectParams{RefreshToken: sfapi.Secret(f.org.Grant()), Org: f.orgID, Requeue: true})
	if err != nil || created || org.State != runner.OrgConnected {
		t.Fatalf("connect: %+v, %v", org, err)
	}
	for _, h := range org.Holds {
		if h.Reason != breaker.ReasonOperator {
			t.Errorf("after the reconnect: hold %s", h.Reason)
		}
	}
	receipts = append(receipts, write(newer))
	if _, err := r.Orgs().Resume(ctx, f.orgID); err != nil {
		t.Fatal(err)
	}
	for _, id := range receipts {
		for _, row := range f.settled(t, r, id) {
			if row.Status != jobs.WriteDone {
				t.Fatalf("row %+v", row)
			}
		}
	}
	if got := f.ended(t, r, job.Job.ID); got.State != rivertype.JobStateCompleted || worked.Load() != 1 {
		t.Errorf("job is %s, ran %d times", got.State, worked.Load())
	}
	rows := f.org.Rows("Contact")
	if len(rows) != writes*each+newer {
		t.Fatalf("the org has %d records", len(rows))
	}
	last := int64(0)
	for i := range n {
		log := f.org.Writes(fmt.Sprint("k-", i))
		if len(log) == 0 {
			log = f.org.Writes(string(f.byExt(t, "Contact")[fmt.Sprint("k-", i)].ID))
		}
		if len(log) != 1 || log[0].Seq <= last {
			t.Fatalf("record %d was written %d times, %+v after %d", i, len(log), log, last)
		}
		last = log[0].Seq
	}
}

// Without Requeue what was cancelled stays so, and a later reconnect does not
// bring it back either.
func TestReconnectWithoutRequeue(t *testing.T) {
	t.Parallel()
	onBoth(t, testReconnectWithoutRequeue[*sql.Tx], testReconnectWithoutRequeue[pgx.Tx])
}

func testReconnectWithoutRequeue[TTx any](t *testing.T, f *fixture[TTx]) {
	f.addBlocked(new(atomic.Int64), make(chan error, 1))
	r := f.migrated(t)
	f.connect(t, r)
	ctx := t.Context()
	lose := func() int64 {
		t.Helper()
		res, err := r.Insert(ctx, blocked{Org: f.orgID}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Orgs().Disconnect(ctx, f.orgID); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Insert(ctx, blocked{Org: f.orgID}, nil); !errors.Is(err, runner.ErrReauthRequired) {
			t.Errorf("insert for a disconnected org: %v", err)
		}
		return res.Job.ID
	}
	is := func(id int64, want rivertype.JobState) {
		t.Helper()
		job, err := r.River().JobGet(ctx, id)
		if err != nil || job.State != want {
			t.Errorf("job %d is %v, want %s, %v", id, job.State, want, err)
		}
	}
	connect := func(requeue bool) {
		t.Helper()
		if _, _, err := r.Orgs().Connect(ctx, &runner.ConnectParams{RefreshToken: sfapi.Secret(f.org.Grant()), Requeue: requeue}); err != nil {
			t.Fatal(err)
		}
	}
	first := lose()
	is(first, rivertype.JobStateCancelled)
	connect(false)
	is(first, rivertype.JobStateCancelled)
	second := lose()
	connect(true)
	is(first, rivertype.JobStateCancelled)
	is(second, rivertype.JobStateAvailable)
	if n := len(f.allEvents(t, r)); n != 0 {
		t.Errorf("%d events of a disconnect", n)
	}
}

// A grant of another user is taken and noted, one of another org is not.
func TestConnectAnother(t *testing.T) {
	t.Parallel()
	onBoth(t, testConnectAnother[*sql.Tx], testConnectAnother[pgx.Tx])
}

func testConnectAnother[TTx any](t *testing.T, f *fixture[TTx]) {
	var log bytes.Buffer
	var mu sync.Mutex
	r := f.migrated(t, func(c *runner.Config[TTx]) {
		c.Logger = slog.New(slog.NewTextHandler(lockedWriter{&mu, &log}, nil))
	})
	f.connect(t, r)
	before := f.get(t, r)
	other := f.sim.AddOrg(nil)
	_, _, err := r.Orgs().Connect(t.Context(), &runner.ConnectParams{RefreshToken: sfapi.Secret(other.Grant()), Org: f.orgID})
	var mismatch *runner.OrgMismatchError
	if !errors.As(err, &mismatch) || *mismatch != (runner.OrgMismatchError{Want: f.orgID, Got: sfapi.OrgID(other.ID())}) {
		t.Errorf("a grant of another org: %v", err)
	}
	if _, err := r.Orgs().Get(t.Context(), sfapi.OrgID(other.ID())); !errors.Is(err, runner.ErrOrgNotFound) {
		t.Errorf("the other org was stored: %v", err)
	}
	if _, _, err := r.Orgs().Connect(t.Context(), &runner.ConnectParams{RefreshToken: sfapi.Secret(f.org.Grant()), Org: "x"}); err == nil {
		t.Error("an org that is none was taken")
	}
	f.org.AddUser("second@example.com")
	grant := f.org.GrantFor("second@example.com", "")
	after, created, err := r.Orgs().Connect(t.Context(), &runner.ConnectParams{RefreshToken: sfapi.Secret(grant), Org: f.orgID[:15]})
	if err != nil || created || after.UserID == before.UserID {
		t.Fatalf("a grant of another user: %+v, %v", after, err)
	}
	mu.Lock()
	defer mu.Unlock()
	if !strings.Contains(log.String(), "another user") || !strings.Contains(log.String(), before.UserID) {
		t.Errorf("nothing was noted:\n%s", log.String())
	}
}
