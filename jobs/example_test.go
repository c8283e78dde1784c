package jobs_test

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"

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

// work connects a simulated org to a runner with the handlers, works one job to
// its end and returns the org.
func work(handlers *jobs.Handlers[*sql.Tx], db *sql.DB, seed func(*sftest.Org), args func(sfapi.OrgID) river.JobArgs) *sftest.Org {
	ctx := context.Background()
	sim := sftest.New(nil)
	org := sim.AddOrg(nil)
	seed(org)
	keys, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	check(err)
	sealer, err := aead.New(keys)
	check(err)
	weir, err := runner.New(runnersqlite.New(db), &runner.Config[*sql.Tx]{
		App:       &sfapi.App{ClientID: sftest.DefaultClientID, ClientSecret: sftest.DefaultClientSecret},
		Transport: sim, Sealer: sealer, Handlers: handlers, Logger: slog.New(slog.DiscardHandler),
	})
	check(err)
	check(weir.Migrate(ctx))
	connected, _, err := weir.Orgs().Connect(ctx, &runner.ConnectParams{RefreshToken: sfapi.Secret(org.Grant())})
	check(err)
	done, cancel := weir.River().Subscribe(river.EventKindJobCompleted)
	defer cancel()
	check(weir.Start(ctx))
	_, err = weir.Insert(ctx, args(connected.ID), nil)
	check(err)
	<-done
	check(weir.Stop(ctx))
	return org
}

func open() *sql.DB {
	db, err := runnersqlite.Open(":memory:")
	check(err)
	return db
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

// A typed handler: the struct says what is read, and what the handler does in
// the transaction commits together with the cursor.
func ExampleAddSync() {
	type Account struct {
		ID        string `json:"Id"`
		Name      string
		Employees *int `json:"NumberOfEmployees"` // nil for null
		Owner     *struct{ Name string }
	}
	db := open()
	defer db.Close()
	_, err := db.Exec(`CREATE TABLE customer (id TEXT PRIMARY KEY, name TEXT)`)
	check(err)

	handlers := jobs.NewHandlers[*sql.Tx]()
	jobs.AddSync(handlers, "Account", func(ctx context.Context, tx *sql.Tx, page *jobs.Page[Account]) error {
		for _, a := range page.Records {
			if _, err := tx.ExecContext(ctx, `INSERT OR REPLACE INTO customer VALUES (?, ?)`, a.ID, a.Name); err != nil {
				return err
			}
		}
		for _, id := range page.Deleted {
			if _, err := tx.ExecContext(ctx, `DELETE FROM customer WHERE id = ?`, id); err != nil {
				return err
			}
		}
		return nil
	})
	work(handlers, db, func(org *sftest.Org) {
		org.Insert("Account", sftest.Record{"Name": "Acme"})
		gone := org.Insert("Account", sftest.Record{"Name": "Gone"})
		org.Delete("Account", gone)
	}, func(org sfapi.OrgID) river.JobArgs { return jobs.Sync{Org: org, Object: "Account"} })

	var names string
	check(db.QueryRow(`SELECT group_concat(name) FROM customer`).Scan(&names))
	fmt.Println(names)
	// Output: Acme
}

// A mirror keeps a table with the fields that are asked for, or with all.
func ExampleAddMirror() {
	db := open()
	defer db.Close()
	handlers := jobs.NewHandlers[*sql.Tx]()
	jobs.AddMirror(handlers, "Account", &jobs.MirrorOptions{Fields: []string{"Name", "Phone"}})
	work(handlers, db, func(org *sftest.Org) {
		org.Insert("Account", sftest.Record{"Name": "Acme", "Phone": nil})
		org.Insert("Account", sftest.Record{"Name": "Bücher", "Phone": "+49 30"})
	}, func(org sfapi.OrgID) river.JobArgs { return jobs.Sync{Org: org, Object: "Account"} })

	rows, err := db.Query(`SELECT name, phone IS NULL, is_deleted FROM ` + jobs.MirrorTableName("Account") + ` ORDER BY name`)
	check(err)
	defer rows.Close()
	for rows.Next() {
		var name string
		var noPhone, deleted bool
		check(rows.Scan(&name, &noPhone, &deleted))
		fmt.Println(name, noPhone, deleted)
	}
	check(rows.Err())
	// Output:
	// Acme true false
	// Bücher false false
}

// Welcome is a job of the app's own, in the write lane of its org.
type Welcome struct {
	Org     sfapi.OrgID `json:"org"`
	Contact string      `json:"contact"`
}

// Kind is the job kind in River.
func (Welcome) Kind() string { return "app_welcome" }

// OrgID says for which org the job runs, Lane in which of its lanes.
func (w Welcome) OrgID() sfapi.OrgID { return w.Org }
func (Welcome) Lane() breaker.Lane   { return breaker.Write }

// A job of the app's own gets a client that is bound to its org.
func ExampleAddWorker() {
	db := open()
	defer db.Close()
	handlers := jobs.NewHandlers[*sql.Tx]()
	jobs.AddWorker(handlers, func(ctx context.Context, client *sfapi.Client, job *river.Job[Welcome]) error {
		_, err := client.Create(ctx, "Contact", map[string]string{"LastName": job.Args.Contact})
		return err
	})
	org := work(handlers, db, func(*sftest.Org) {}, func(org sfapi.OrgID) river.JobArgs {
		return Welcome{Org: org, Contact: "Noether"}
	})
	fmt.Println(org.Rows("Contact")[0].Fields["LastName"])
	// Output: Noether
}
