// Command enqueue is a process that only enqueues, in the transactions in which
// the app does its own work: it starts no worker, and needs no handlers. Another
// process, which it starts as "enqueue work", does what was enqueued.
//
//	DATABASE_URL=postgres://… go run ./examples/enqueue
//
// The org is a simulated one, served by the first process. It exits with 1 when
// something is not as it says.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"

	"github.com/weirhq/weir/jobs"
	"github.com/weirhq/weir/runner"
	"github.com/weirhq/weir/runner/runnerpgx"
	"github.com/weirhq/weir/sfapi"
	"github.com/weirhq/weir/sfapi/sftest"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	run := enqueue
	if len(os.Args) > 1 && os.Args[1] == "work" {
		run = work
	}
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "enqueue:", err)
		os.Exit(1)
	}
}

// newRunner makes what both processes have: without handlers it only enqueues.
func newRunner(pool *pgxpool.Pool, loginURL, keysetJSON string, handlers *jobs.Handlers[pgx.Tx]) (*runner.Runner[pgx.Tx], error) {
	keys, err := insecurecleartextkeyset.Read(keyset.NewJSONReader(bytes.NewReader([]byte(keysetJSON))))
	if err != nil {
		return nil, err
	}
	sealer, err := aead.New(keys)
	if err != nil {
		return nil, err
	}
	return runner.New(runnerpgx.New(pool), &runner.Config[pgx.Tx]{
		App:    &sfapi.App{ClientID: sftest.DefaultClientID, ClientSecret: sftest.DefaultClientSecret, LoginURL: loginURL},
		Sealer: sealer, Handlers: handlers,
	})
}

// work is the other process: it works until it is told to stop.
func work(ctx context.Context) error {
	pool, err := pgxpool.New(ctx, os.Getenv("DATABASE_URL"))
	if err != nil {
		return err
	}
	defer pool.Close()
	handlers := jobs.NewHandlers[pgx.Tx]()
	jobs.AddMirror(handlers, "Account", nil)
	weir, err := newRunner(pool, os.Getenv("LOGIN_URL"), os.Getenv("KEYSET"), handlers)
	if err != nil {
		return err
	}
	if err := weir.Start(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	<-ctx.Done()
	return weir.Stop(context.WithoutCancel(ctx))
}

func enqueue(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	sim, stop, err := serveOrg(ctx)
	if err != nil {
		return err
	}
	defer stop()
	org := sim.AddOrg(nil)
	org.Seed("Account", 10, 1)
	pool, err := pgxpool.New(ctx, os.Getenv("DATABASE_URL"))
	if err != nil {
		return err
	}
	defer pool.Close()
	keys, err := newKeyset()
	if err != nil {
		return err
	}
	weir, err := newRunner(pool, sim.LoginURL(), keys, nil)
	if err != nil {
		return err
	}
	if err := weir.Migrate(ctx); err != nil {
		return err
	}
	connected, _, err := weir.Orgs().Connect(ctx, &runner.ConnectParams{RefreshToken: sfapi.Secret(org.Grant())})
	if err != nil {
		return err
	}
	if _, err := pool.Exec(ctx, `CREATE TABLE IF NOT EXISTS customer (email text PRIMARY KEY)`); err != nil {
		return err
	}

	// The app's row, the record for Salesforce and the sync are there together,
	// or not at all.
	signUp := func(email string) (receipt *jobs.WriteReceipt, err error) {
		err = pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, `INSERT INTO customer VALUES ($1)`, email); err != nil {
				return err
			}
			receipt, err = weir.WriteTx(ctx, tx, &jobs.Write{
				Org: connected.ID, Object: "Contact", Operation: jobs.Upsert, ExternalID: "Ext_Id__c",
				Records: []map[string]string{{"Ext_Id__c": email, "LastName": "Customer", "Email": email}},
			})
			if err != nil {
				return err
			}
			if _, err := weir.InsertTx(ctx, tx, jobs.Sync{Org: connected.ID, Object: "Account"}, nil); err != nil {
				return err
			}
			if email == "nobody@example.com" {
				return errors.New("the app changed its mind")
			}
			return nil
		})
		return receipt, err
	}
	if _, err := signUp("nobody@example.com"); err == nil {
		return errors.New("the transaction was not rolled back")
	}
	if b, err := backlog(ctx, weir, connected.ID); err != nil || b != (runner.Backlog{}) {
		return fmt.Errorf("after a rollback %+v wait: %w", b, err)
	}
	fmt.Println("rolled back: nothing is enqueued")
	receipt, err := signUp("ada@example.com")
	if err != nil {
		return err
	}
	b, err := backlog(ctx, weir, connected.ID)
	if err != nil {
		return err
	}
	if b != (runner.Backlog{Sync: 1, Write: 1, Records: 1}) {
		return fmt.Errorf("after a commit %+v wait", b)
	}
	fmt.Printf("committed: %d sync and %d record wait for a worker\n", b.Sync, b.Records)

	self, err := os.Executable()
	if err != nil {
		return err
	}
	worker := exec.CommandContext(ctx, self, "work")
	worker.Env = append(os.Environ(), "LOGIN_URL="+sim.LoginURL(), "KEYSET="+keys)
	worker.Stderr = os.Stderr
	worker.Cancel = func() error { return worker.Process.Signal(syscall.SIGTERM) }
	if err := worker.Start(); err != nil {
		return err
	}
	for b != (runner.Backlog{}) {
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("%+v still wait: %w", b, ctx.Err())
		}
		if b, err = backlog(ctx, weir, connected.ID); err != nil {
			return err
		}
	}
	if err := worker.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	if err := worker.Wait(); err != nil {
		return fmt.Errorf("worker: %w", err)
	}
	counts, err := weir.Writes().Counts(ctx, connected.ID, receipt.ID)
	if err != nil {
		return err
	}
	if n := len(org.Writes("")); n != 1 || counts.Done != 1 {
		return fmt.Errorf("the org has %d writes, the log %+v", n, *counts)
	}
	fmt.Println("another process did both: the org has the record once")
	return nil
}

func backlog(ctx context.Context, weir *runner.Runner[pgx.Tx], org sfapi.OrgID) (runner.Backlog, error) {
	all, err := weir.Orgs().Backlogs(ctx, org)
	return all[org], err
}

// newKeyset returns a keyset for both processes. A service has one in its secret
// store.
func newKeyset() (string, error) {
	keys, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		return "", err
	}
	var text bytes.Buffer
	err = insecurecleartextkeyset.Write(keys, keyset.NewJSONWriter(&text))
	return text.String(), err
}

// serveOrg serves a simulated Salesforce on loopback.
func serveOrg(ctx context.Context) (sim *sftest.Sim, stop func(), err error) {
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	sim = sftest.New(&sftest.Config{BaseURL: "http://" + ln.Addr().String()})
	server := &http.Server{Handler: sim, ReadHeaderTimeout: 10 * time.Second}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(ln) // until it is closed
	}()
	return sim, func() { _ = server.Close(); <-served }, nil
}
