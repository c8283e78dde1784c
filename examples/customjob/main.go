// Command customjob runs a job of the app's own in the lanes of orgs: it names
// its org, gets a client that is bound to it, waits while the org is held, and
// shares the org's window with the syncs. SQLite and simulated orgs: it needs
// nothing but Go, and exits with 1 when something is not as it says.
package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/riverqueue/river"
	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"

	"github.com/weirhq/weir/breaker"
	"github.com/weirhq/weir/jobs"
	"github.com/weirhq/weir/runner"
	"github.com/weirhq/weir/runner/runnersqlite"
	"github.com/weirhq/weir/sfapi"
	"github.com/weirhq/weir/sfapi/sftest"
)

// CountContacts counts the contacts of an org's account.
type CountContacts struct {
	Org     sfapi.OrgID `json:"org"` // required: the lane is chosen by it
	Account string      `json:"account"`
}

// Kind is the job's kind in River.
func (CountContacts) Kind() string { return "count_contacts" }

// OrgID and Lane put the job into a lane of its org: it only reads.
func (a CountContacts) OrgID() sfapi.OrgID { return a.Org }

// Lane implements jobs.LaneArgs.
func (CountContacts) Lane() breaker.Lane { return breaker.Sync }

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "customjob:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) (err error) {
	dir, err := os.MkdirTemp("", "weir-customjob-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }() // the system empties its temporary folder too
	db, err := runnersqlite.Open(filepath.Join(dir, "app.db"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	keys, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		return err
	}
	sealer, err := aead.New(keys)
	if err != nil {
		return err
	}

	const orgs, contacts = 3, 7
	sim := sftest.New(nil)
	handlers := jobs.NewHandlers[*sql.Tx]()
	var counted atomic.Int64
	jobs.AddWorker(handlers, func(ctx context.Context, client *sfapi.Client, job *river.Job[CountContacts]) error {
		// An error of the client's goes back as it is: Weir knows from it what
		// to do with the org, and whether the job has spent an attempt.
		n := 0
		for _, err := range sfapi.Query[sfapi.Record](ctx, client, "SELECT Id FROM Contact", nil) {
			if err != nil {
				return err
			}
			n++
		}
		fmt.Printf("org %s has %d contacts\n", job.Args.Org, n)
		counted.Add(int64(n))
		return nil
	})
	weir, err := runner.New(runnersqlite.New(db), &runner.Config[*sql.Tx]{
		App:    &sfapi.App{ClientID: sftest.DefaultClientID, ClientSecret: sftest.DefaultClientSecret, LoginURL: sim.LoginURL()},
		Sealer: sealer, Handlers: handlers, Transport: sim,
	})
	if err != nil {
		return err
	}
	if err := weir.Migrate(ctx); err != nil {
		return err
	}
	done, stop := weir.River().Subscribe(river.EventKindJobCompleted)
	defer stop()
	if err := weir.Start(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, weir.Stop(context.WithoutCancel(ctx))) }()

	var last sfapi.OrgID
	for range orgs {
		o := sim.AddOrg(nil)
		o.Seed("Contact", contacts, 1)
		org, _, err := weir.Orgs().Connect(ctx, &runner.ConnectParams{RefreshToken: sfapi.Secret(o.Grant())})
		if err != nil {
			return err
		}
		last = org.ID
		if _, err := weir.Insert(ctx, CountContacts{Org: org.ID}, nil); err != nil {
			return err
		}
	}
	if err := wait(ctx, done, orgs); err != nil {
		return err
	}

	// Of a held org it waits, whatever it is.
	if _, err := weir.Orgs().Hold(ctx, last, breaker.Sync); err != nil {
		return err
	}
	if _, err := weir.Insert(ctx, CountContacts{Org: last}, nil); err != nil {
		return err
	}
	backlog, err := weir.Orgs().Backlogs(ctx, last)
	if err != nil {
		return err
	}
	fmt.Printf("org %s is paused: %d job waits\n", last, backlog[last].Sync)
	if _, err := weir.Orgs().Resume(ctx, last, breaker.Sync); err != nil {
		return err
	}
	if err := wait(ctx, done, 1); err != nil {
		return err
	}
	if n := counted.Load(); n != (orgs+1)*contacts {
		return fmt.Errorf("counted %d contacts, there are %d", n, (orgs+1)*contacts)
	}
	return nil
}

// wait waits for n of our jobs to complete.
func wait(ctx context.Context, done <-chan *river.Event, n int) error {
	for n > 0 {
		select {
		case e, open := <-done:
			if !open {
				return errors.New("the runner stopped")
			}
			if e.Job.Kind == (CountContacts{}).Kind() {
				n--
			}
		case <-ctx.Done():
			return fmt.Errorf("%d jobs did not complete: %w", n, ctx.Err())
		}
	}
	return nil
}
