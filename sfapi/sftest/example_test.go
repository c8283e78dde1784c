package sftest_test

import (
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/weirhq/weir/sfapi/sftest"
)

// get prints the status and the body of a call of the data API.
func get(client *http.Client, org *sftest.Org, token, path string) {
	req, err := http.NewRequest(http.MethodGet, org.InstanceURL()+path, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := client.Do(req)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		fmt.Println(err)
	}
	fmt.Println(resp.StatusCode, string(body))
}

func Example() {
	sim := sftest.New(nil)
	org := sim.AddOrg(nil)
	org.Seed("Account", 100, 1)

	form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {org.Grant()},
		"client_id": {sftest.DefaultClientID}, "client_secret": {sftest.DefaultClientSecret}}
	resp, err := sim.Client().Post(sim.LoginURL()+"/services/oauth2/token",
		"application/x-www-form-urlencoded", strings.NewReader(form.Encode()))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	fmt.Println(resp.StatusCode, org.InstanceURL(), org.TokenCalls())
	// Output: 200 https://org1.my.salesforce.com 1
}

func ExampleNewServer() {
	server, err := sftest.NewServer(nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer server.Close()
	org := server.AddOrg(nil)
	get(http.DefaultClient, org, org.AccessToken(), "/services/data/v66.0/query?q=SELECT+COUNT()+FROM+Account")
	// Output: 200 {"totalSize":0,"done":true,"records":[]}
}

func ExampleOrg_Inject() {
	sim := sftest.New(nil)
	org := sim.AddOrg(nil)
	token := org.AccessToken()
	org.Inject(sftest.NoHealthyUpstream().On("GET", "/limits").Next(1))
	get(sim.Client(), org, token, "/services/data/v66.0/limits")
	org.Inject(sftest.DropBefore())
	get(sim.Client(), org, token, "/services/data")
	// Output:
	// 503 no healthy upstream
	// Get "https://org1.my.salesforce.com/services/data": sftest: connection reset by peer
}

func ExampleOrg_SetReadOnly() {
	sim := sftest.New(nil)
	org := sim.AddOrg(nil)
	token := org.AccessToken()
	org.SetReadOnly(sftest.ReadOnlySessions)
	get(sim.Client(), org, token, "/services/data/v66.0/query?q=SELECT+IsReadOnly+FROM+Organization")
	// Output: 401 [{"message":"This session is not valid for use with the REST API","errorCode":"INVALID_SESSION_ID"}]
}

func ExampleOrg_InsertHidden() {
	sim := sftest.New(nil)
	org := sim.AddOrg(nil)
	stamp := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	id := org.InsertHidden("Account", stamp, sftest.Record{"Name": "slow transaction"})
	org.Insert("Account", sftest.Record{"Name": "quick transaction"})
	fmt.Println(org.Count("Account"))
	org.Reveal("Account", id)
	rows := org.Rows("Account")
	fmt.Println(len(rows), rows[0].Fields["Name"], rows[0].Stamp.Format(time.RFC3339))
	// Output:
	// 1
	// 2 slow transaction 2026-01-02T03:04:05Z
}

func ExampleOrg_DefineObject() {
	sim := sftest.New(nil)
	org := sim.AddOrg(nil)
	org.DefineObject(sftest.Object{Name: "Invoice__c", Fields: []sftest.Field{
		{Name: "Name", Required: true},
		{Name: "Total__c", Type: sftest.TypeCurrency},
		{Name: "Number__c", ExternalID: true, Unique: true},
	}})
	org.Insert("Invoice__c", sftest.Record{"Name": "one", "Total__c": 12.5, "Number__c": "R-1"})
	get(sim.Client(), org, org.AccessToken(), "/services/data/v66.0/sobjects/Invoice__c/Number__c/R-1?fields=Total__c")
	// Output: 200 {"attributes":{"type":"Invoice__c","url":"/services/data/v66.0/sobjects/Invoice__c/a005e0000000001AAA"},"Total__c":12.5,"Id":"a005e0000000001AAA"}
}

func ExampleOrg_Writes() {
	sim := sftest.New(nil)
	org := sim.AddOrg(nil)
	req, err := http.NewRequest(http.MethodPatch, org.InstanceURL()+"/services/data/v66.0/sobjects/Account/Ext__c/k1", strings.NewReader(`{"Name":"Acme"}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	req.Header.Set("Authorization", "Bearer "+org.AccessToken())
	req.Header.Set("Content-Type", "application/json")
	resp, err := sim.Client().Do(req)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	for _, w := range org.Writes("k1") {
		fmt.Println(resp.StatusCode, w.Operation, w.Object, w.Key, w.Fields["Name"])
	}
	// Output: 201 upsert Account k1 Acme
}

// What a program logged holds none of the secrets that were about.
func ExampleLeaks() {
	sim := sftest.New(nil)
	session := sim.AddOrg(nil).AccessToken()
	logged := []byte("GET /limits with " + base64.StdEncoding.EncodeToString([]byte("Bearer "+session)))
	fmt.Println(len(sftest.Leaks(logged, sim.Secrets()...)))
	fmt.Println(len(sftest.Leaks([]byte("GET /limits with REDACTED"), sim.Secrets()...)))
	// Output:
	// 1
	// 0
}
