package runner_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/weirhq/weir/sfapi"
)

// The steps of hold and resume at which a worker process of a test kills
// itself, the first time that it gets there.
const (
	diesBeforeHold       = "before the hold's commit"
	diesAfterHold        = "after the hold's commit"
	diesBeforeProbe      = "before the probe's answer"
	diesAfterProbe       = "after the probe's answer"
	diesBeforeTrial      = "before the trial's commit"
	diesAfterTrial       = "after the trial's commit"
	diesAfterTrialWrite  = "after the trial write's answer"
	diesBeforeLift       = "before the lift's commit"
	diesAfterLift        = "after the lift's commit"
	diesBeforeRevocation = "before the revocation's commit"
	diesAfterRevocation  = "after the revocation's commit"
	diesBetweenBatches   = "between two batches of the cancelled"
)

// die ends this process as kill -9 does, and does not return.
func die() {
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {}
}

// dieAt has this process die at a step. It sees the steps where everybody
// could: in the statements sent to Postgres and in the requests sent to
// Salesforce.
func dieAt(step string, config *pgxpool.Config, app *sfapi.App) error {
	doomed := &doomedTransport{step: step, next: http.DefaultTransport}
	app.Transport = doomed
	watch := &doomedTracer{transactions: make(map[*pgx.Conn]*doomedTransaction)}
	commits := map[string]doomedTransaction{
		diesBeforeHold:       {held: true},
		diesAfterHold:        {held: true},
		diesBeforeTrial:      {held: true, trial: true},
		diesAfterTrial:       {held: true, trial: true},
		diesBeforeLift:       {lifted: true},
		diesAfterLift:        {lifted: true},
		diesBeforeRevocation: {held: true, revoked: true},
		diesAfterRevocation:  {held: true, revoked: true},
		diesBetweenBatches:   {cancelled: true},
	}
	commit, ok := commits[step]
	switch {
	case ok:
		watch.commit, watch.before = commit, strings.HasPrefix(step, "before")
	case step == diesBeforeProbe, step == diesAfterProbe, step == diesAfterTrialWrite:
	default:
		return fmt.Errorf("no step %q", step)
	}
	config.ConnConfig.Tracer = watch
	return nil
}

// doomedTransaction is what a transaction does to the holds of an org.
type doomedTransaction struct{ held, trial, lifted, revoked, cancelled bool }

// doomedTracer kills its process at a commit.
type doomedTracer struct {
	commit doomedTransaction // what the transaction does that is meant
	before bool              // its commit, rather than after it

	mu           sync.Mutex // protects transactions
	transactions map[*pgx.Conn]*doomedTransaction
}

type doomedKey struct{}

// TraceQueryStart implements pgx.QueryTracer.
func (d *doomedTracer) TraceQueryStart(ctx context.Context, conn *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	d.mu.Lock()
	tx := d.transactions[conn]
	if tx == nil || strings.HasPrefix(data.SQL, "begin") {
		tx = &doomedTransaction{}
		d.transactions[conn] = tx
	}
	d.mu.Unlock()
	switch {
	case strings.Contains(data.SQL, "_window = nullif($2, -1)"):
		window, held := data.Args[1].(int), data.Args[2].(bool)
		tx.held, tx.trial, tx.lifted = held, held && window > 0, !held
	case strings.Contains(data.SQL, "UPDATE weir_org SET label"):
		for _, arg := range data.Args {
			tx.revoked = tx.revoked || fmt.Sprint(arg) == "revoked"
		}
	case data.SQL == "commit" && d.commit == *tx && d.commit != (doomedTransaction{}):
		if d.before {
			die()
		}
		return context.WithValue(ctx, doomedKey{}, true)
	case strings.Contains(data.SQL, "'cancel_attempted_at', now()"):
		tx.cancelled = true
	}
	return ctx
}

// TraceQueryEnd implements pgx.QueryTracer.
func (d *doomedTracer) TraceQueryEnd(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryEndData) {
	if ctx.Value(doomedKey{}) != nil && data.Err == nil {
		die()
	}
}

// doomedTransport kills its process at a probe, or at the first write after
// one.
type doomedTransport struct {
	step string
	next http.RoundTripper

	mu     sync.Mutex // protects probed
	probed bool
}

// RoundTrip implements http.RoundTripper.
func (d *doomedTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	probe := strings.Contains(req.URL.RawQuery, "IsReadOnly")
	if probe && d.step == diesBeforeProbe {
		die()
	}
	resp, err := d.next.RoundTrip(req)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.probed = d.probed || probe
	write := strings.Contains(req.URL.Path, "/composite/sobjects")
	if probe && d.step == diesAfterProbe || write && d.probed && d.step == diesAfterTrialWrite {
		die()
	}
	return resp, err
}
