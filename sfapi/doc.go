// Package sfapi is Salesforce over HTTP: the OAuth flows, queries, sObject
// collections, single records, describe and limits, and the typed Error whose
// Kind says what a refusal means.
//
// An App is our OAuth client; its methods are the flows, which return a Token.
// A TokenSource hands tokens to a Client, which is bound to one org:
//
//	client, err := sfapi.NewClient(org, app, tokens, nil)
//	for account, err := range sfapi.Query[Account](ctx, client, "SELECT Id, Name FROM Account", nil) {
//
// A Client sends requests to the instance URL of its newest token and to no
// other host. Where a token is refused it is refreshed once and the request is
// sent once more; every other failure is returned, classified: nothing is
// retried here, since whether to retry depends on what else is happening to the
// org.
//
// What arrives is what was there. A result that is cut, or has other rows than
// it announced, is an error; a write whose answer was lost says that its outcome
// is unknown. Record keeps a row as it was sent, so that null is told from
// empty, numbers keep their digits and text its bytes.
//
// Package sftest simulates orgs for tests.
package sfapi
