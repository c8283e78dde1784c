package sfapi_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/weirhq/weir/sfapi"
	"github.com/weirhq/weir/sfapi/sftest"
)

// renewing is a TokenSource of the simulated org that gets a new session each time.
type renewing struct{ org *sftest.Org }

func (r renewing) Token(context.Context) (*sfapi.Token, error) {
	return &sfapi.Token{Access: sfapi.Secret(r.org.AccessToken()), InstanceURL: r.org.InstanceURL(), Scope: "api refresh_token"}, nil
}

func (r renewing) Refresh(ctx context.Context, stale *sfapi.Token) (*sfapi.Token, error) {
	fresh, err := r.Token(ctx)
	if err == nil {
		fresh.Generation = stale.Generation + 1
	}
	return fresh, err
}

func ExampleDiagnose() {
	ctx := context.Background()
	sim := sftest.New(nil)
	org := sim.AddOrg(nil)
	app := &sfapi.App{ClientID: sftest.DefaultClientID, ClientSecret: sftest.DefaultClientSecret, LoginURL: sim.LoginURL(), Transport: sim}
	client, err := sfapi.NewClient(sfapi.OrgID(org.ID()), app, renewing{org}, nil)
	if err != nil {
		panic(err)
	}

	// An admin locks sessions to the address they started from, and we move.
	org.SetIPLock(sftest.IPSessions)
	_, err = client.QueryCount(ctx, "SELECT COUNT() FROM Account")
	fmt.Println(sfapi.AfterRefresh(err), sfapi.KindOf(err))

	d, err := sfapi.Diagnose(ctx, client, err, &sfapi.History{
		LastWorked:    time.Date(2026, 1, 10, 4, 0, 0, 0, time.UTC),
		EgressChanged: sfapi.FactYes,
	})
	if err != nil {
		panic(err)
	}
	fmt.Println(d.Cause, d.Confidence, d.Kind)
	for _, e := range d.Evidence {
		fmt.Println(" ", e)
	}
	fmt.Println(d.Advice[:62])
	// Output:
	// true session_expired_or_invalid
	// ip_restricted likely ip_restricted
	//   refusal: refused (HTTP 401, INVALID_SESSION_ID, Session expired or invalid)
	//   endpoint: rest (GET /services/data/v66.0/query)
	//   refresh: ok
	//   ever_worked: yes (last at 2026-01-10T04:00:00Z)
	//   egress_address: changed
	//   scope: api (api refresh_token)
	//   userinfo: accepted
	//   organization_query: refused (HTTP 401, INVALID_SESSION_ID, Session expired or invalid)
	// Salesforce refuses this service's network address or the hour.
}

func ExampleDiagnoser_Diagnose() {
	ctx := context.Background()
	client, app, org := simulated(ctx)
	diagnoser, err := sfapi.NewDiagnoser(&sfapi.DiagnoserConfig{CallTimeout: 5 * time.Second})
	if err != nil {
		panic(err)
	}

	// The grant is gone, and the token endpoint says so. Storage was read again.
	grant := sfapi.Secret(org.Grant())
	org.RevokeAll()
	_, refused := app.RefreshToken(ctx, "", grant)
	d, err := diagnoser.Diagnose(ctx, client, refused, &sfapi.History{StoredTokenUnchanged: true})
	if err != nil {
		panic(err)
	}
	_ = json.NewEncoder(os.Stdout).Encode(d.Evidence[0])
	fmt.Println(d.Cause, d.Confidence)
	// Output:
	// {"test":"refresh","result":"revoked","detail":"HTTP 400, invalid_grant, expired access/refresh token"}
	// revoked certain
}
