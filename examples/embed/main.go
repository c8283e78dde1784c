// Command embed is a service that had River before it had Weir: a worker, a
// queue and a periodic job of its own, on its own pool. Weir is added to that
// client, so that one River works both, and one transaction enqueues both.
//
//	DATABASE_URL=postgres://… go run ./examples/embed
//
// The org is a simulated one. It exits with 1 when something is not as it says.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"

	"github.com/weirhq/weir/jobs"
	"github.com/weirhq/weir/runner"
	"github.com/weirhq/weir/runner/runnerpgx"
	"github.com/weirhq/weir/sfapi"
	"github.com/weirhq/weir/sfapi/sftest"
)

// SendInvoice is a job that the service had before.
type SendInvoice struct {
	Number string `json:"number"`
}

// Kind implements river.JobArgs.
func (SendInvoice) Kind() string { return "send_invoice" }

type invoiceWorker struct {
	river.WorkerDefaults[SendInvoice]
}

// Work implements river.Worker.
func (*invoiceWorker) Work(_ context.Context, job *river.Job[SendInvoice]) error {
	fmt.Println("invoice", job.Args.Number, "is sent")
	return nil
}

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "embed:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) (err error) {
	pool, err := pgxpool.New(ctx, os.Getenv("DATABASE_URL"))
	if err != nil {
		return err
	}
	defer pool.Close()

	// What the service had: before Weir this went to river.NewClient.
	workers := river.NewWorkers()
	river.AddWorker(workers, &invoiceWorker{})
	before := &river.Config{
		Workers: workers,
		Queues:  map[string]river.QueueConfig{"billing": {MaxWorkers: 2}},
		PeriodicJobs: []*river.PeriodicJob{river.NewPeriodicJob(
			river.PeriodicInterval(time.Hour),
			func() (river.JobArgs, *river.InsertOpts) {
				return SendInvoice{Number: "monthly"}, &river.InsertOpts{Queue: "billing"}
			},
			&river.PeriodicJobOpts{RunOnStart: true},
		)},
	}

	// Now it goes to Weir, which adds its own workers and queues.
	keys, err := keyset.NewHandle(aead.AES256GCMKeyTemplate()) // a service keeps its keyset in a secret store
	if err != nil {
		return err
	}
	sealer, err := aead.New(keys)
	if err != nil {
		return err
	}
	const accounts = 25
	sim := sftest.New(nil)
	salesforce := sim.AddOrg(nil)
	salesforce.Seed("Account", accounts, 1)
	handlers := jobs.NewHandlers[pgx.Tx]()
	jobs.AddMirror(handlers, "Account", nil)
	weir, err := runner.New(runnerpgx.New(pool), &runner.Config[pgx.Tx]{
		App:    &sfapi.App{ClientID: sftest.DefaultClientID, ClientSecret: sftest.DefaultClientSecret, LoginURL: sim.LoginURL()},
		Sealer: sealer, Handlers: handlers, Transport: sim, River: before,
	})
	if err != nil {
		return err
	}
	if err := weir.Migrate(ctx); err != nil { // River's tables too; where they are there they stay
		return err
	}
	client := weir.River() // what the service used before is this client now
	done, stop := client.Subscribe(river.EventKindJobCompleted)
	defer stop()
	if err := weir.Start(ctx); err != nil { // in place of client.Start
		return err
	}
	defer func() { err = errors.Join(err, weir.Stop(context.WithoutCancel(ctx))) }()

	org, _, err := weir.Orgs().Connect(ctx, &runner.ConnectParams{RefreshToken: sfapi.Secret(salesforce.Grant()), Label: "Acme"})
	if err != nil {
		return err
	}
	err = pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		_, err := client.InsertTx(ctx, tx, SendInvoice{Number: "2026-0042"}, &river.InsertOpts{Queue: "billing"})
		if err != nil {
			return err
		}
		_, err = weir.InsertTx(ctx, tx, jobs.Sync{Org: org.ID, Object: "Account"}, nil)
		return err
	})
	if err != nil {
		return err
	}

	for waiting := map[string]int{"send_invoice": 2, "salesforce_sync": 1}; len(waiting) > 0; {
		select {
		case e, open := <-done:
			if !open {
				return errors.New("the runner stopped")
			}
			if waiting[e.Job.Kind]--; waiting[e.Job.Kind] <= 0 {
				delete(waiting, e.Job.Kind)
			}
		case <-ctx.Done():
			return fmt.Errorf("jobs did not complete: %v: %w", waiting, ctx.Err())
		}
	}
	var rows int
	if err := pool.QueryRow(ctx, `SELECT count(*) FROM salesforce_account WHERE org = $1`, string(org.ID)).Scan(&rows); err != nil {
		return err
	}
	if rows != accounts {
		return fmt.Errorf("%d accounts are mirrored, the org has %d", rows, accounts)
	}
	fmt.Println(rows, "accounts are mirrored")
	return nil
}
