package sfapi_test

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/weirhq/weir/sfapi"
	"github.com/weirhq/weir/sfapi/sftest"
)

// simulated returns a client of a simulated org with three accounts. Against
// Salesforce itself, App needs no Transport.
func simulated(ctx context.Context) (*sfapi.Client, *sfapi.App, *sftest.Org) {
	sim := sftest.New(nil)
	org := sim.AddOrg(nil)
	for i, name := range []string{"Acme", "Bücher & Co", "Čapek"} {
		org.Insert("Account", sftest.Record{"Name": name, "NumberOfEmployees": int64(10 * i), "Ext__c": fmt.Sprint("a-", i)})
	}
	app := &sfapi.App{
		ClientID: sftest.DefaultClientID, ClientSecret: sftest.DefaultClientSecret,
		LoginURL: sim.LoginURL(), Transport: sim,
	}
	token, err := app.RefreshToken(ctx, "", sfapi.Secret(org.Grant()))
	if err != nil {
		panic(err)
	}
	client, err := sfapi.NewClient(token.Org, app, sfapi.StaticToken(token), nil)
	if err != nil {
		panic(err)
	}
	return client, app, org
}

func ExampleParseOrgID() {
	id, err := sfapi.ParseOrgID("00D5f000000AbCd")
	fmt.Println(id, id.Lower(), err)
	id, err = sfapi.ParseOrgID(id.Lower())
	fmt.Println(id, err)
	// Output:
	// 00D5f000000AbCdEAK 00d5f000000abcdeak <nil>
	// 00D5f000000AbCdEAK <nil>
}

func ExampleID18() {
	fmt.Println(sfapi.ID18("005xx000001Svog"))
	// Output: 005xx000001SvogAAC <nil>
}

func ExampleApp_RefreshToken() {
	ctx := context.Background()
	_, app, org := simulated(ctx)
	token, err := app.RefreshToken(ctx, "", sfapi.Secret(org.Grant()))
	if err != nil {
		panic(err)
	}
	fmt.Println(token.InstanceURL == org.InstanceURL(), string(token.Org) == org.ID(), token.Access)
	// Output: true true REDACTED
}

func ExampleApp_AuthorizeURL() {
	app := &sfapi.App{ClientID: "3MVG9"}
	_, challenge := sfapi.NewPKCE()
	_, err := app.AuthorizeURL("", "https://app.example/callback", "random state", challenge, "api", "refresh_token")
	fmt.Println(err)
	_, err = app.AuthorizeURL("http://login.salesforce.com", "https://app.example/callback", "random state", challenge)
	fmt.Println(err)
	// Output:
	// <nil>
	// authorize: login URL: unusable URL: http://login.salesforce.com must use https; http is for loopback hosts only
}

func ExampleQuery() {
	ctx := context.Background()
	client, _, _ := simulated(ctx)
	type account struct {
		Name              string
		NumberOfEmployees int
	}
	soql := "SELECT Name, NumberOfEmployees FROM Account WHERE NumberOfEmployees > 0 ORDER BY Name"
	for a, err := range sfapi.Query[account](ctx, client, soql, nil) {
		if err != nil {
			panic(err)
		}
		fmt.Println(a.Name, a.NumberOfEmployees)
	}
	// Output:
	// Bücher & Co 10
	// Čapek 20
}

func ExampleQueryPages() {
	ctx := context.Background()
	client, _, _ := simulated(ctx)
	soql := "SELECT Id, Name, Owner.Username, Phone FROM Account ORDER BY Name"
	for page, err := range sfapi.QueryPages[sfapi.Record](ctx, client, soql, nil) {
		if err != nil {
			panic(err)
		}
		fmt.Println("page", page.Number, "of", page.TotalSize, "rows")
		for _, r := range page.Records {
			fmt.Println(r.Type(), r.String("Name"), r.IsNull("Phone"))
		}
	}
	// Output:
	// page 1 of 3 rows
	// Account Acme true
	// Account Bücher & Co true
	// Account Čapek true
}

func ExampleClient_QueryCount() {
	ctx := context.Background()
	client, _, _ := simulated(ctx)
	fmt.Println(client.QueryCount(ctx, "SELECT COUNT() FROM Account"))
	// Output: 3 <nil>
}

func ExampleClient_Describe() {
	ctx := context.Background()
	client, _, _ := simulated(ctx)
	d, err := client.Describe(ctx, "Account")
	if err != nil {
		panic(err)
	}
	f, _ := d.Field("ext__c")
	fmt.Println(d.Name, f.Name, f.Type, f.ExternalID, f.Unique)
	// Output: Account Ext__c string true true
}

func ExampleClient_Collection() {
	ctx := context.Background()
	client, _, _ := simulated(ctx)
	results, err := client.Collection(ctx, sfapi.OpUpsert, "Account", "Ext__c", []json.RawMessage{
		json.RawMessage(`{"Ext__c":"a-1","Name":"Books"}`),
		json.RawMessage(`{"Ext__c":"a-9","Name":"New"}`),
		json.RawMessage(`{"Ext__c":"a-2","Rating":"Lukewarm"}`),
	})
	if err != nil {
		panic(err)
	}
	for _, r := range results {
		fmt.Println(r.Success, r.Created, len(r.Errors))
	}
	// Output:
	// true false 0
	// true true 0
	// false false 1
}

func ExampleClient_Upsert() {
	ctx := context.Background()
	client, _, _ := simulated(ctx)
	id, created, err := client.Upsert(ctx, "Account", "Ext__c", "a-7", map[string]any{"Name": "Seven"})
	fmt.Println(created, err)
	var r sfapi.Record
	err = client.Get(ctx, "Account", id, []string{"Name", "Ext__c"}, &r)
	fmt.Println(r.String("Name"), r.String("Ext__c"), err)
	fmt.Println(client.Update(ctx, "Account", id, map[string]any{"Name": "VII"}))
	fmt.Println(client.Delete(ctx, "Account", id))
	// Output:
	// true <nil>
	// Seven a-7 <nil>
	// <nil>
	// <nil>
}

func ExampleClient_Limits() {
	ctx := context.Background()
	client, _, _ := simulated(ctx)
	limits, err := client.Limits(ctx)
	fmt.Println(limits["DailyApiRequests"].Max > 0, err)
	usage, ok := client.Usage()
	fmt.Println(usage.Used > 0, ok)
	// Output:
	// true <nil>
	// true true
}

func ExampleClient_UserInfo() {
	ctx := context.Background()
	client, _, org := simulated(ctx)
	info, err := client.UserInfo(ctx)
	if err != nil {
		panic(err)
	}
	fmt.Println(info.OrganizationID == org.ID())
	// Output: true
}

func ExampleClient_Do() {
	ctx := context.Background()
	client, _, _ := simulated(ctx)
	var answer struct {
		TotalSize int
	}
	err := client.Do(ctx, "GET", "query?q=SELECT Id FROM Account LIMIT 2", nil, &answer)
	fmt.Println(answer.TotalSize, err)
	// Output: 2 <nil>
}

func ExampleParseLimitInfo() {
	usage, ok := sfapi.ParseLimitInfo("api-usage=25/5000; per-app-api-usage=17/250(appName=sample-app)")
	fmt.Println(usage.Used, usage.Limit, usage.PerApp, ok)
	// Output: 25 5000 [{sample-app 17 250}] true
}

func ExampleRecord() {
	r, err := sfapi.ParseRecord([]byte(`{"Name":"Ada","Amount":12.50,"Phone":null,"Owner":{"Name":"Grace"}}`))
	if err != nil {
		panic(err)
	}
	for name, value := range r.Fields() {
		fmt.Println(name, string(value))
	}
	fmt.Println(r.String("owner.name"), r.IsNull("Phone"), r.IsNull("Fax"))
	// Output:
	// Name "Ada"
	// Amount 12.50
	// Phone null
	// Owner {"Name":"Grace"}
	// Grace true false
}
