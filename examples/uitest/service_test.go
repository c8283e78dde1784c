package uitest_test

import (
	"context"
	"database/sql"
	"log/slog"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/riverqueue/river"
	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"riverqueue.com/riverui"

	"github.com/weirhq/weir/breaker"
	"github.com/weirhq/weir/jobs"
	"github.com/weirhq/weir/runner"
	"github.com/weirhq/weir/runner/runnersqlite"
	"github.com/weirhq/weir/sfapi"
	"github.com/weirhq/weir/sfapi/sftest"
)

// service is an app with Weir in it that serves River UI, and its one customer.
type service struct {
	org   *sftest.Org
	orgID sfapi.OrgID
	weir  *runner.Runner[*sql.Tx]
	ui    string // base URL of River UI
}

// startService starts one until the test ends. Probes are an hour apart, so
// that whatever probes within the test was asked to.
func startService(t *testing.T) *service {
	t.Helper()
	sim := sftest.New(nil)
	s := &service{org: sim.AddOrg(nil)}
	s.orgID = sfapi.OrgID(s.org.ID())
	db, err := runnersqlite.Open(filepath.Join(t.TempDir(), "app.db"))
	check(t, err)
	t.Cleanup(func() { check(t, db.Close()) })
	keys, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	check(t, err)
	sealer, err := aead.New(keys)
	check(t, err)
	s.weir, err = runner.New(runnersqlite.New(db), &runner.Config[*sql.Tx]{
		App:       &sfapi.App{ClientID: sftest.DefaultClientID, ClientSecret: sftest.DefaultClientSecret},
		Sealer:    sealer,
		Handlers:  jobs.NewHandlers[*sql.Tx](),
		Transport: sim,
		ProbeMin:  time.Hour,
		Logger:    slog.New(slog.DiscardHandler),
	})
	check(t, err)
	check(t, s.weir.Migrate(t.Context()))
	_, _, err = s.weir.Orgs().Connect(t.Context(), &runner.ConnectParams{RefreshToken: sfapi.Secret(s.org.Grant()), Label: "Acme"})
	check(t, err)
	check(t, s.weir.Start(context.WithoutCancel(t.Context())))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		check(t, s.weir.Stop(ctx))
	})

	handler, err := riverui.NewHandler(&riverui.HandlerOpts{
		Endpoints: riverui.NewEndpoints(s.weir.River(), nil),
		Logger:    slog.New(slog.DiscardHandler),
		Prefix:    "/riverui",
	})
	check(t, err)
	check(t, handler.Start(t.Context()))
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	s.ui = server.URL + "/riverui"
	return s
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// write hands over a record, and returns the id of its write.
func (s *service) write(t *testing.T, name string) int64 {
	t.Helper()
	type contact struct {
		ExternalID string `json:"Ext__c"`
		LastName   string
	}
	receipt, err := s.weir.Write(t.Context(), &jobs.Write{
		Org: s.orgID, Object: "Contact", Operation: jobs.Upsert, ExternalID: "Ext__c", Records: []contact{{name, name}},
	})
	check(t, err)
	return receipt.ID
}

// hold waits until the org is held, and returns why.
func (s *service) hold(t *testing.T) *breaker.Hold {
	t.Helper()
	var org *runner.Org
	eventually(t, "the org is held", func() bool {
		var err error
		org, err = s.weir.Orgs().Get(t.Context(), s.orgID)
		check(t, err)
		return len(org.Holds) > 0
	})
	return &org.Holds[0]
}

// probeJob returns the id of the org's probe job.
func (s *service) probeJob(t *testing.T) int64 {
	t.Helper()
	list, err := s.weir.River().JobList(t.Context(), river.NewJobListParams().Kinds("salesforce_probe"))
	check(t, err)
	if len(list.Jobs) != 1 {
		t.Fatalf("the org has %d probe jobs, want 1", len(list.Jobs))
	}
	return list.Jobs[0].ID
}

// probes counts the times that the org was asked whether it is read-only.
func (s *service) probes() int {
	n := 0
	for _, call := range s.org.Audit() {
		if strings.Contains(call.SOQL, "IsReadOnly") {
			n++
		}
	}
	return n
}

// eventually waits until done says so.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("never: %s", what)
		}
	}
}
