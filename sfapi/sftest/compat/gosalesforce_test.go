package compat_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/http/httptest"
	"testing"

	"github.com/k-capehart/go-salesforce/v3"

	"github.com/weirhq/weir/sfapi/sftest"
)

type contact struct {
	Id        string  `json:",omitempty"` //nolint:staticcheck // the client goes by the field name
	LastName  string  `json:",omitempty"`
	FirstName string  `json:",omitempty"`
	Ext__c    string  `json:",omitempty"` //nolint:staticcheck // the client goes by the field name
	Score__c  float64 `json:",omitempty"` //nolint:staticcheck // the client goes by the field name
}

// setup serves an org over HTTP and logs in with client credentials.
func setup(t *testing.T, options ...salesforce.Option) (*sftest.Org, *salesforce.Salesforce) {
	t.Helper()
	sim := sftest.New(nil)
	server := httptest.NewServer(sim)
	t.Cleanup(server.Close)
	sim.SetBaseURL(server.URL)
	org := sim.AddOrg(nil)
	org.SetClientCredentialsUser("", "")
	sf, err := salesforce.Init(salesforce.Creds{Domain: server.URL,
		ConsumerKey: sftest.DefaultClientID, ConsumerSecret: sftest.DefaultClientSecret}, options...)
	if err != nil {
		t.Fatalf("log in: %v", err)
	}
	return org, sf
}

func TestLogins(t *testing.T) {
	t.Parallel()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	sim := sftest.New(nil)
	server := httptest.NewServer(sim)
	t.Cleanup(server.Close)
	sim.SetBaseURL(server.URL)
	org := sim.AddOrg(nil)
	sim.SetApp(sftest.App{ClientID: "jwt-app", PublicKey: &key.PublicKey})
	org.GrantFor("", "jwt-app")
	pemKey := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})

	tests := map[string]struct {
		creds salesforce.Creds
		ok    bool
	}{
		"jwt bearer": {salesforce.Creds{Domain: server.URL, Username: org.Users()[0].Username,
			ConsumerKey: "jwt-app", ConsumerRSAPem: string(pemKey)}, true},
		"access token":      {salesforce.Creds{Domain: server.URL, AccessToken: org.AccessToken()}, true},
		"dead access token": {salesforce.Creds{Domain: server.URL, AccessToken: "00D000000000001!dead"}, false},
		"client credentials without a user": {salesforce.Creds{Domain: server.URL,
			ConsumerKey: sftest.DefaultClientID, ConsumerSecret: sftest.DefaultClientSecret}, false},
		"user name and password": {salesforce.Creds{Domain: server.URL, Username: "u", Password: "p", SecurityToken: "t",
			ConsumerKey: sftest.DefaultClientID, ConsumerSecret: sftest.DefaultClientSecret}, false},
	}
	for name, tt := range tests {
		sf, err := salesforce.Init(tt.creds)
		if (err == nil) != tt.ok {
			t.Errorf("%s: error = %v", name, err)
			continue
		}
		if !tt.ok {
			continue
		}
		var got []contact
		if err := sf.Query("SELECT Id FROM Contact", &got); err != nil {
			t.Errorf("%s: query: %v", name, err)
		}
	}
}

func TestQueryPages(t *testing.T) {
	t.Parallel()
	for _, compressed := range []bool{false, true} {
		org, sf := setup(t, salesforce.WithCompressionHeaders(compressed))
		org.Seed("Contact", 4100, 7)
		var got []contact
		if err := sf.Query("SELECT Id, LastName, Score__c FROM Contact ORDER BY SystemModstamp, Id", &got); err != nil {
			t.Fatal(err)
		}
		rows := org.Rows("Contact")
		if len(got) != len(rows) {
			t.Fatalf("got %d rows, want %d", len(got), len(rows))
		}
		for i, r := range rows {
			score, _ := r.Fields["Score__c"].(float64)
			want := contact{Id: r.ID.String(), LastName: r.Fields["LastName"].(string), Score__c: score}
			if got[i] != want {
				t.Fatalf("row %d = %+v, want %+v", i, got[i], want)
			}
		}
		if n := org.Calls(sftest.OpQuery, sftest.OpQueryMore); n != 3 {
			t.Errorf("took %d calls, want 3", n)
		}
	}
}

func TestSingleRecords(t *testing.T) {
	t.Parallel()
	org, sf := setup(t, salesforce.WithCompressionHeaders(true))
	res, err := sf.InsertOne("Contact", contact{LastName: "Å\n\"quoted\"", Ext__c: "k1"})
	if err != nil || !res.Success {
		t.Fatalf("insert: %+v, %v", res, err)
	}
	if err := sf.UpdateOne("Contact", map[string]any{"Id": res.Id, "FirstName": "Zoë"}); err != nil {
		t.Fatalf("update: %v", err)
	}
	up, err := sf.UpsertOne("Contact", "Ext__c", map[string]any{"Ext__c": "k1", "Score__c": 2.5})
	if err != nil || up.Id != res.Id {
		t.Fatalf("upsert: %+v, %v", up, err)
	}
	row, _ := org.Row("Contact", sftest.ID(res.Id))
	got := fmt.Sprint(row.Fields["Name"], row.Fields["Score__c"])
	if want := "Zoë Å\n\"quoted\"2.5"; got != want {
		t.Errorf("row = %q, want %q", got, want)
	}
	if _, err := sf.InsertOne("Contact", contact{FirstName: "no last name"}); err == nil {
		t.Error("insert without a required field succeeded")
	}
	if err := sf.DeleteOne("Contact", contact{Id: res.Id}); err != nil {
		t.Fatalf("delete: %v", err)
	}
	if n := org.Count("Contact"); n != 0 {
		t.Errorf("%d contacts are left", n)
	}
}

func TestCollections(t *testing.T) {
	t.Parallel()
	org, sf := setup(t)
	records := make([]contact, 450)
	for i := range records {
		records[i] = contact{LastName: fmt.Sprintf("Name %d", i), Ext__c: fmt.Sprintf("k%d", i)}
	}
	inserted, err := sf.InsertCollection("Contact", records, 200)
	if err != nil || inserted.HasSalesforceErrors || len(inserted.Results) != 450 {
		t.Fatalf("insert: %d results, errors %t, %v", len(inserted.Results), inserted.HasSalesforceErrors, err)
	}
	if n := org.Calls(sftest.OpCollections); n != 3 {
		t.Errorf("450 records took %d calls, want 3", n)
	}
	changes := make([]map[string]any, 200)
	for i := range changes {
		changes[i] = map[string]any{"Id": inserted.Results[i].Id, "FirstName": "first"}
	}
	changes[3]["FirstName"] = "this first name is far too long for the forty characters of the field"
	updated, err := sf.UpdateCollection("Contact", changes, 200)
	if err != nil || !updated.HasSalesforceErrors {
		t.Fatalf("update: errors %t, %v", updated.HasSalesforceErrors, err)
	}
	for i, r := range updated.Results {
		if r.Success != (i != 3) {
			t.Errorf("row %d: success = %t, %v", i, r.Success, r.Errors)
		}
	}
	upserts := make([]map[string]any, 100)
	for i := range upserts {
		upserts[i] = map[string]any{"Ext__c": fmt.Sprintf("k%d", i+400), "LastName": "upserted"}
	}
	if res, err := sf.UpsertCollection("Contact", "Ext__c", upserts, 200); err != nil || res.HasSalesforceErrors {
		t.Fatalf("upsert: %+v, %v", res, err)
	}
	if n := org.Count("Contact"); n != 500 {
		t.Errorf("%d contacts, want 500", n)
	}
	for i := range records {
		records[i] = contact{Id: inserted.Results[i].Id}
	}
	if res, err := sf.DeleteCollection("Contact", records, 200); err != nil || res.HasSalesforceErrors {
		t.Fatalf("delete: %+v, %v", res, err)
	}
	if n := org.Count("Contact"); n != 50 {
		t.Errorf("%d contacts are left, want 50", n)
	}
}

func TestComposite(t *testing.T) {
	t.Parallel()
	org, sf := setup(t)
	records := make([]contact, 300)
	for i := range records {
		records[i] = contact{LastName: fmt.Sprintf("Name %d", i)}
	}
	if res, err := sf.InsertComposite("Contact", records, 100, false); err != nil || res.HasSalesforceErrors {
		t.Fatalf("insert: %+v, %v", res, err)
	}
	if n := org.Count("Contact"); n != 300 {
		t.Errorf("%d contacts, want 300", n)
	}
	if n := org.Calls(sftest.OpComposite); n != 1 {
		t.Errorf("took %d composite calls, want 1", n)
	}
}

func TestExpiredSessionIsRefreshed(t *testing.T) {
	t.Parallel()
	org, sf := setup(t)
	org.Seed("Contact", 5, 1)
	org.ExpireSessions()
	var got []contact
	if err := sf.Query("SELECT Id FROM Contact", &got); err != nil || len(got) != 5 {
		t.Fatalf("query after expiry: %d rows, %v", len(got), err)
	}
	if n := org.TokenCalls(); n != 2 {
		t.Errorf("%d token calls, want 2", n)
	}
}
