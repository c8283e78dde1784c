// Command quickstart runs Weir's main job on a machine with nothing but Go: it
// mirrors two objects of a simulated Salesforce org into a SQLite file, picks
// up what changed, and writes records that an app handed over in its own
// transaction, while the org goes into read-only mode and comes out of it. At
// the end the grant is revoked, and the org connected again. The demo reads
// every figure that it prints back from where it claims it to be, and exits with
// 1 when one of them is wrong.
package main

import (
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/riverqueue/river/rivertype"
	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"

	"github.com/weirhq/weir/jobs"
	"github.com/weirhq/weir/runner"
	"github.com/weirhq/weir/runner/runnersqlite"
	"github.com/weirhq/weir/sfapi"
)

func main() {
	serve := flag.Bool("serve", false, "stay up afterwards, with River UI at -addr")
	addr := flag.String("addr", "127.0.0.1:8080", "loopback address of River UI with -serve")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	d := &demo{out: os.Stdout, accounts: 5000, contacts: 2000, writes: 1000}
	if *serve {
		d.serve = *addr
	}
	if info, err := os.Stdout.Stat(); err == nil {
		d.terminal = info.Mode()&os.ModeCharDevice != 0
	}
	if err := d.run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "quickstart:", err)
		os.Exit(1)
	}
}

// demo is one run.
type demo struct {
	out                        io.Writer
	accounts, contacts, writes int
	serve                      string // address of River UI; "" to end after the run
	terminal                   bool   // out is one

	org    *simulatedOrg
	db     *sql.DB
	runner *runner.Runner[*sql.Tx]
	orgID  sfapi.OrgID
}

func (d *demo) run(ctx context.Context) (err error) {
	dir, err := os.MkdirTemp("", "weir-quickstart-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }() // the system empties its temporary folder too
	d.org, err = startOrg(d.accounts, d.contacts)
	if err != nil {
		return err
	}
	defer d.org.close()
	d.printf("A simulated Salesforce org at %s: %d Accounts, %d Contacts.\n", d.org.url(), d.accounts, d.contacts)

	if err := d.start(ctx, filepath.Join(dir, "app.db")); err != nil {
		return err
	}
	defer func() {
		// The context of the run may be over: stopping needs one of its own.
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
		defer cancel()
		err = errors.Join(err, d.runner.Stop(stop), d.db.Close())
	}()
	for _, step := range []func(context.Context) error{d.mirror, d.mirrorChanges, d.writeThroughMaintenance, d.showErrors, d.revokeAndReconnect} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	d.printf("Done: every figure above was read back, and is right.\n")
	if d.serve != "" {
		return d.serveUI(ctx)
	}
	return nil
}

// logger shows errors. That an org is held is a warning, which the demo brings
// about and prints itself.
func (d *demo) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
}

func (d *demo) printf(format string, args ...any) { fmt.Fprintf(d.out, format, args...) }

// start opens the database, makes the runner as an app would, and connects the
// org.
func (d *demo) start(ctx context.Context, file string) error {
	var err error
	if d.db, err = runnersqlite.Open(file); err != nil {
		return err
	}
	// A service keeps its keyset in a secret store; this run's tokens end with
	// the run, so a new key will do.
	keys, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		return err
	}
	sealer, err := aead.New(keys)
	if err != nil {
		return err
	}
	handlers := jobs.NewHandlers[*sql.Tx]()
	jobs.AddMirror(handlers, "Account", nil)
	jobs.AddMirror(handlers, "Contact", nil)

	d.runner, err = runner.New(runnersqlite.New(d.db), &runner.Config[*sql.Tx]{
		App:      d.org.app(),
		Sealer:   sealer,
		Handlers: handlers,
		// Maintenance lasts hours; here it is over in a moment.
		ProbeMin: 250 * time.Millisecond,
		ProbeMax: 5 * time.Second,
		Logger:   d.logger(),
	})
	if err != nil {
		return err
	}
	if err := d.runner.Migrate(ctx); err != nil {
		return err
	}
	org, _, err := d.runner.Orgs().Connect(ctx, &runner.ConnectParams{RefreshToken: d.org.grant(), Label: "Acme"})
	if err != nil {
		return err
	}
	d.orgID = org.ID
	d.printf("Connected org %s; its tokens lie sealed in %s.\n", org.ID, file)
	return d.runner.Start(ctx)
}

// mirror copies both objects and compares the tables with the org.
func (d *demo) mirror(ctx context.Context) error {
	calls, began := d.org.apiCalls(), time.Now()
	if err := d.sync(ctx, map[string]int{"Account": d.accounts, "Contact": d.contacts}); err != nil {
		return err
	}
	took := time.Since(began)
	if err := d.compare(ctx, "Account", "Contact"); err != nil {
		return err
	}
	d.printf("Mirrored in %v with %s.\n", took.Round(time.Millisecond), apiCalls(d.org.apiCalls()-calls))
	return nil
}

// mirrorChanges changes the org and syncs again.
func (d *demo) mirrorChanges(ctx context.Context) error {
	const changed, deleted = 50, 20
	d.org.change(changed, deleted)
	calls := d.org.apiCalls()
	if err := d.sync(ctx, map[string]int{"Account": changed + deleted}); err != nil {
		return err
	}
	state, err := d.syncState(ctx, "Account")
	if err != nil {
		return err
	}
	if err := d.compare(ctx, "Account", "Contact"); err != nil {
		return err
	}
	d.printf("%d Accounts changed and %d were deleted in the org: the next sync applied %d rows, %d of them deleted, with %s.\n",
		changed, deleted, state.LastRun.Rows, state.LastRun.Deleted, apiCalls(d.org.apiCalls()-calls))
	return nil
}

func apiCalls(n int) string {
	if n == 1 {
		return "1 API call"
	}
	return fmt.Sprintf("%d API calls", n)
}

// sync enqueues a sync of each object and shows progress until all have ended,
// each with the rows that were expected of it.
func (d *demo) sync(ctx context.Context, want map[string]int) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	objects := slices.Sorted(maps.Keys(want))
	ids := make([]int64, len(objects))
	for i, object := range objects {
		res, err := d.runner.Insert(ctx, jobs.Sync{Org: d.orgID, Object: object}, nil)
		if err != nil {
			return err
		}
		ids[i] = res.Job.ID
	}
	for {
		ended, line := true, ""
		for i, object := range objects {
			job, err := d.runner.River().JobGet(ctx, ids[i])
			if err != nil {
				return err
			}
			state, err := d.syncState(ctx, object)
			if err != nil {
				return err
			}
			rows := state.Rows
			switch job.State {
			case rivertype.JobStateCompleted:
				if rows = state.LastRun.Rows; rows != int64(want[object]) {
					return fmt.Errorf("sync %s applied %d rows, not %d", object, rows, want[object])
				}
			case rivertype.JobStateCancelled, rivertype.JobStateDiscarded:
				return fmt.Errorf("sync %s: %s", object, state.LastRun.Error)
			default:
				ended = false
			}
			line += fmt.Sprintf("  %s: %5d of %d rows", object, rows, want[object])
		}
		d.progress(line, ended)
		if ended {
			return nil
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return fmt.Errorf("the syncs did not end: %w", err)
		}
	}
}

// progress shows a line that the next one takes the place of. Where nobody
// watches, only the last one is printed.
func (d *demo) progress(line string, last bool) {
	if d.terminal {
		d.printf("\r%s", line)
	} else if last {
		d.printf("%s", line)
	}
	if last {
		d.printf("\n")
	}
}

func (d *demo) syncState(ctx context.Context, object string) (*jobs.SyncState, error) {
	states, err := d.runner.Syncs(ctx, d.orgID)
	if err != nil {
		return nil, err
	}
	for _, s := range states {
		if s.Object == object {
			return s, nil
		}
	}
	return &jobs.SyncState{Object: object}, nil
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
