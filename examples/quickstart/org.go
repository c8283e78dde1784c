package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/weirhq/weir/sfapi"
	"github.com/weirhq/weir/sfapi/sftest"
)

// simulatedOrg is a Salesforce org behind real HTTP on loopback.
type simulatedOrg struct {
	sim    *sftest.Sim
	org    *sftest.Org
	server *http.Server
	served chan error
}

func startOrg(accounts, contacts int) (*simulatedOrg, error) {
	ln, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	sim := sftest.New(&sftest.Config{BaseURL: "http://" + ln.Addr().String()})
	o := &simulatedOrg{
		sim: sim, org: sim.AddOrg(nil),
		server: &http.Server{Handler: sim, ReadHeaderTimeout: 10 * time.Second},
		served: make(chan error, 1),
	}
	o.org.Seed("Account", accounts, 1)
	o.org.Seed("Contact", contacts, 2)
	go func() { o.served <- o.server.Serve(ln) }()
	return o, nil
}

func (o *simulatedOrg) close() {
	_ = o.server.Close() // its clients have stopped
	if err := <-o.served; !errors.Is(err, http.ErrServerClosed) {
		fmt.Fprintln(os.Stderr, "simulated org:", err)
	}
}

func (o *simulatedOrg) url() string { return o.sim.LoginURL() }

func (o *simulatedOrg) grant() sfapi.Secret { return sfapi.Secret(o.org.Grant()) }

func (o *simulatedOrg) app() *sfapi.App {
	return &sfapi.App{ClientID: sftest.DefaultClientID, ClientSecret: sftest.DefaultClientSecret, LoginURL: o.url()}
}

// apiCalls counts the calls that the org counts against its daily limit.
func (o *simulatedOrg) apiCalls() int { return o.org.DailyUsage() }

// change updates and deletes Accounts in the org, as its users would.
func (o *simulatedOrg) change(changed, deleted int) {
	live := 0
	for _, row := range o.org.Rows("Account") {
		switch {
		case row.Deleted:
			continue
		case live < changed:
			o.org.Update("Account", row.ID, sftest.Record{"Phone": fmt.Sprintf("+49 30 %06d", live)})
		case live < changed+deleted:
			o.org.Delete("Account", row.ID)
		default:
			return
		}
		live++
	}
}

// enterMaintenance puts the org into read-only mode once so many more write
// calls were answered.
func (o *simulatedOrg) enterMaintenance(callsBefore int) {
	o.org.Inject(sftest.Fault{Name: "maintenance begins", Respond: func(*http.Request) *http.Response {
		o.org.SetReadOnly(sftest.ReadOnly)
		return nil // this call meets it
	}}.On("", "/composite/sobjects").After(callsBefore).Next(1))
}

func (o *simulatedOrg) leaveMaintenance() { o.org.SetReadOnly(sftest.ReadWrite) }

// revoke ends the app's grant, as an admin does under Setup > Connected Apps OAuth
// Usage.
func (o *simulatedOrg) revoke() { o.org.RevokeAll() }

// refusedWrites counts the write calls that the org refused for maintenance.
func (o *simulatedOrg) refusedWrites() int {
	n := 0
	for _, call := range o.org.Audit() {
		if slices.Contains(call.Codes, "INSERT_UPDATE_DELETE_NOT_ALLOWED_DURING_MAINTENANCE") {
			n++
		}
	}
	return n
}

// probes counts the times that the org was asked whether it is read-only.
func (o *simulatedOrg) probes() int {
	n := 0
	for _, call := range o.org.Audit() {
		if strings.Contains(call.SOQL, "IsReadOnly") {
			n++
		}
	}
	return n
}

// compare reads the mirror tables and compares each row with the org's.
func (d *demo) compare(ctx context.Context, objects ...string) error {
	for _, object := range objects {
		type key struct {
			stamp   string
			deleted bool
		}
		want := make(map[string]key)
		live := 0
		for _, row := range d.org.org.Rows(object) {
			want[string(row.ID)] = key{row.Stamp.UTC().Format(time.RFC3339), row.Deleted}
			if !row.Deleted {
				live++
			}
		}
		rows, err := d.db.QueryContext(ctx, fmt.Sprintf(`SELECT id, system_modstamp, is_deleted FROM %s WHERE org = ?`, strings.ToLower("salesforce_"+object)), d.orgID)
		if err != nil {
			return err
		}
		defer rows.Close()
		mirrored, mirroredLive := 0, 0
		for rows.Next() {
			var id, stamp string
			var deleted bool
			if err := rows.Scan(&id, &stamp, &deleted); err != nil {
				return err
			}
			at, err := time.Parse(time.RFC3339, stamp)
			if err != nil {
				return err
			}
			if got := (key{at.UTC().Format(time.RFC3339), deleted}); got != want[id] {
				return fmt.Errorf("%s %s: the mirror has %v, the org %v", object, id, got, want[id])
			}
			mirrored++
			if !deleted {
				mirroredLive++
			}
		}
		if err := rows.Err(); err != nil {
			return err
		}
		if mirrored != len(want) {
			return fmt.Errorf("%s: %d rows in the mirror, %d in the org", object, mirrored, len(want))
		}
		d.printf("  %s: %d live rows in the mirror, %d in the org; %d deleted rows in both.\n", object, mirroredLive, live, mirrored-mirroredLive)
	}
	return nil
}
