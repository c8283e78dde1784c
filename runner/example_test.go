package runner_test

import (
	"context"
	"database/sql"
	"errors"
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

// exampleService is a service with Weir in it: SQLite in memory and a
// simulated org. A real one differs in its database, App and keyset.
type exampleService struct {
	sim  *sftest.Sim
	org  *sftest.Org
	db   *sql.DB
	weir *runner.Runner[*sql.Tx]
}

// newExampleService returns a service that is not started.
func newExampleService(handlers *jobs.Handlers[*sql.Tx]) *exampleService {
	s := &exampleService{sim: sftest.New(nil)}
	s.org = s.sim.AddOrg(&sftest.OrgConfig{ID: "00D5e0000000001"})
	keys, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	check(err)
	sealer, err := aead.New(keys)
	check(err)
	s.db, err = runnersqlite.Open(":memory:")
	check(err)
	s.weir, err = runner.New(runnersqlite.New(s.db), &runner.Config[*sql.Tx]{
		App:       &sfapi.App{ClientID: sftest.DefaultClientID, ClientSecret: sftest.DefaultClientSecret},
		Transport: s.sim, // not for production
		Sealer:    sealer,
		Handlers:  handlers,
		Logger:    slog.New(slog.DiscardHandler),
	})
	check(err)
	check(s.weir.Migrate(context.Background()))
	return s
}

func (s *exampleService) connect(ctx context.Context) sfapi.OrgID {
	org, _, err := s.weir.Orgs().Connect(ctx, &runner.ConnectParams{RefreshToken: sfapi.Secret(s.org.Grant()), Label: "Acme"})
	check(err)
	return org.ID
}

func (s *exampleService) close(ctx context.Context) {
	check(s.weir.Stop(ctx))
	check(s.db.Close())
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

// A service that mirrors Accounts: connect the org, start, enqueue a sync.
func ExampleNew() {
	ctx := context.Background()
	handlers := jobs.NewHandlers[*sql.Tx]()
	jobs.AddMirror(handlers, "Account", nil)
	s := newExampleService(handlers)
	defer s.close(ctx)
	s.org.Insert("Account", sftest.Record{"Name": "Müller & Söhne"})

	org := s.connect(ctx)
	done, cancel := s.weir.River().Subscribe(river.EventKindJobCompleted)
	defer cancel()
	check(s.weir.Start(ctx))
	_, err := s.weir.Insert(ctx, jobs.Sync{Org: org, Object: "Account"}, nil)
	check(err)
	<-done

	var name string
	check(s.db.QueryRow(`SELECT name FROM salesforce_account WHERE org = ?`, org).Scan(&name))
	fmt.Println(name)
	// Output: Müller & Söhne
}

// A config says all that is wrong with it at once.
func ExampleConfig() {
	_, err := runner.New(runner.Driver[*sql.Tx]{}, &runner.Config[*sql.Tx]{
		App:     &sfapi.App{ClientID: "3MVG9"},
		Overlap: -5,
	})
	fmt.Println(err)
	// Output:
	// runner: Config.Driver is the zero value: use runnerpgx.New or runnersqlite.New
	// runner: Config.Sealer is required: without one the orgs' tokens would lie in the database in clear
	// runner: Config.Overlap is -5ns, out of bounds
}

// The job exists when the app's transaction commits.
func ExampleRunner_InsertTx() {
	ctx := context.Background()
	s := newExampleService(nil)
	defer s.close(ctx)
	org := s.connect(ctx)

	tx, err := s.db.BeginTx(ctx, nil)
	check(err)
	first, err := s.weir.InsertTx(ctx, tx, jobs.Sync{Org: org, Object: "Account"}, nil)
	check(err)
	again, err := s.weir.InsertTx(ctx, tx, jobs.Sync{Org: org, Object: "Account"}, nil)
	check(err)
	check(tx.Commit())
	fmt.Println(first.Job.Queue)
	fmt.Println(again.Job.ID == first.Job.ID, again.UniqueSkippedAsDuplicate)
	// Output:
	// sf_00d5e0000000001eaa_sync
	// true true
}

// Records are handed over in the app's transaction, and their outcomes read
// back.
func ExampleRunner_WriteTx() {
	ctx := context.Background()
	s := newExampleService(jobs.NewHandlers[*sql.Tx]())
	defer s.close(ctx)
	org := s.connect(ctx)
	type contact struct {
		ExternalID string `json:"Ext_Id__c"`
		LastName   string
		Email      string `json:",omitempty"`
	}

	tx, err := s.db.BeginTx(ctx, nil)
	check(err)
	receipt, err := s.weir.WriteTx(ctx, tx, &jobs.Write{
		Org: org, Object: "Contact", Operation: jobs.Upsert, ExternalID: "Ext_Id__c",
		Records: []contact{{"c-1", "Curie", ""}, {"c-2", "Meitner", "not an address"}},
	})
	check(err)
	check(tx.Commit())

	done, cancel := s.weir.River().Subscribe(river.EventKindJobCompleted)
	defer cancel()
	check(s.weir.Start(ctx))
	<-done
	rows, err := s.weir.Writes().Records(ctx, org, receipt.ID, nil)
	check(err)
	for _, row := range rows {
		fmt.Println(row.Key, row.Status, row.ErrorCode, row.ErrorFields)
	}
	counts, err := s.weir.Writes().Counts(ctx, org, receipt.ID)
	check(err)
	fmt.Println(counts.Done, "of", counts.Accepted)
	// Output:
	// c-1 done  []
	// c-2 failed INVALID_EMAIL_ADDRESS [Email]
	// 1 of 2
}

// A dead letter is sent again when asked.
func ExampleWrites_Retry() {
	ctx := context.Background()
	s := newExampleService(jobs.NewHandlers[*sql.Tx]())
	defer s.close(ctx)
	org := s.connect(ctx)
	s.org.Insert("Contact", sftest.Record{"LastName": "Curie", "Ext__c": "taken"})
	write := &jobs.Write{Org: org, Object: "Contact", Operation: jobs.Insert, ExternalID: "Ext__c", Records: []map[string]string{
		{"LastName": "Curie", "Ext__c": "taken"},
	}}
	receipt, err := s.weir.Write(ctx, write)
	check(err)
	completed, cancel := s.weir.River().Subscribe(river.EventKindJobCompleted)
	defer cancel()
	written := func() {
		for e := range completed {
			if e.Job.Kind == (jobs.WriteArgs{}).Kind() {
				return
			}
		}
	}
	check(s.weir.Start(ctx))
	written()
	rows, err := s.weir.Writes().Records(ctx, org, receipt.ID, &jobs.WriteQuery{Status: jobs.WriteFailed})
	check(err)
	fmt.Println(rows[0].ErrorCode)

	s.org.Delete("Contact", s.org.Rows("Contact")[0].ID) // somebody tidies up
	n, err := s.weir.Writes().Retry(ctx, org, receipt.ID)
	check(err)
	written()
	counts, err := s.weir.Writes().Counts(ctx, org, receipt.ID)
	check(err)
	fmt.Println(n, counts.Done)
	// Output:
	// DUPLICATE_VALUE
	// 1 1
}

// Orgs are connected, listed and disconnected.
func ExampleOrgs_Connect() {
	ctx := context.Background()
	s := newExampleService(nil)
	defer s.close(ctx)

	org, created, err := s.weir.Orgs().Connect(ctx, &runner.ConnectParams{RefreshToken: sfapi.Secret(s.org.Grant()), Label: "Acme"})
	check(err)
	fmt.Println(org.ID, created, org.State)
	found, err := s.weir.Orgs().List(ctx, &runner.OrgListParams{Query: "acm"})
	check(err)
	fmt.Println(len(found), found[0].Label)
	check(s.weir.Orgs().Disconnect(ctx, org.ID))
	_, err = s.weir.Insert(ctx, jobs.Sync{Org: org.ID, Object: "Account"}, nil)
	fmt.Println(errors.Is(err, runner.ErrReauthRequired))
	// Output:
	// 00D5e0000000001EAA true connected
	// 1 Acme
	// true
}

// What a sync has done so far.
func ExampleRunner_Syncs() {
	ctx := context.Background()
	handlers := jobs.NewHandlers[*sql.Tx]()
	jobs.AddMirror(handlers, jobs.AnyObject, nil)
	s := newExampleService(handlers)
	defer s.close(ctx)
	s.org.Insert("Widget__c", sftest.Record{"Ext__c": "w-1"})
	org := s.connect(ctx)
	done, cancel := s.weir.River().Subscribe(river.EventKindJobCompleted)
	defer cancel()
	check(s.weir.Start(ctx))
	_, err := s.weir.Insert(ctx, jobs.Sync{Org: org, Object: "Widget__c"}, nil)
	check(err)
	<-done

	states, err := s.weir.Syncs(ctx, org)
	check(err)
	fmt.Println(states[0].Object, states[0].LastRun.Rows, states[0].Running)
	// Output: Widget__c 1 false
}

// An operator stops a lane, sees why an org is held, and lets it go on.
func ExampleOrgs_Hold() {
	ctx := context.Background()
	s := newExampleService(nil)
	defer s.close(ctx)
	id := s.connect(ctx)

	org, err := s.weir.Orgs().Hold(ctx, id, breaker.Write)
	check(err)
	fmt.Println(org.Open(breaker.Sync), org.Open(breaker.Write), org.Holds[0].Reason)
	org, err = s.weir.Orgs().Probe(ctx, id) // ends no operator's hold
	check(err)
	fmt.Println(org.Open(breaker.Write))
	org, err = s.weir.Orgs().Resume(ctx, id)
	check(err)
	fmt.Println(org.Open(breaker.Write))
	// Output:
	// true false operator
	// false
	// true
}
