// Package sftest is a simulated Salesforce for tests: OAuth, REST query, sObject
// records and collections, describe, limits, for several orgs at once, with
// faults on demand and an audit of every call.
//
// A simulator is an http.RoundTripper, so that a client reaches it in process,
// without a listener, also inside a testing/synctest bubble:
//
//	sim := sftest.New(nil)
//	org := sim.AddOrg(nil)
//	org.Seed("Account", 5000, 1)
//	refreshToken := org.Grant()
//	client := sim.Client() // or http.Client{Transport: sim}
//
// It is an http.Handler as well; NewServer puts it behind a loopback listener:
//
//	srv, err := sftest.NewServer(nil)
//	org := srv.AddOrg(nil) // org.InstanceURL() and srv.LoginURL() are srv.URL
//	defer srv.Close()
//
// In process each org has a host of its own, https://org1.my.salesforce.com and
// so on, and tokens come from https://login.salesforce.com. Behind one listener
// every org has its URL, and calls are told apart by access token; ListenFor
// gives an org a listener of its own.
//
// # Data
//
// A new org has Account, Contact and Widget__c, with at least 20 fields each,
// User and Organization. DefineObject adds objects, AddField and RemoveField
// change them while the org runs. Insert, Update, Delete, Undelete and HardDelete
// change records behind the API's back; Rows, Row and Count show what is there,
// to compare a mirror with. SetStamp gives many records one SystemModstamp, and
// InsertHidden with Reveal makes a record appear below a cursor.
//
// # Faults
//
// Conditions last until they are changed: SetReadOnly, SetIPLock, BlockApp,
// SetActive, SetUserActive, SetAPIEnabled, SetStorageFull, SetDailyLimit,
// SetLoginRate, SetConcurrency, LockRows, MoveInstance. ExpireSessions, RevokeGrant
// and RevokeAll end sessions and grants. A Fault disturbs calls by themselves:
//
//	org.Inject(sftest.DropAfterCommit().On("POST", "/composite/sobjects").Next(1))
//	org.Inject(sftest.Latency(50 * time.Millisecond))
//
// # What it is not
//
// It does not run Apex, triggers, validation rules or sharing. SOQL has no GROUP
// BY, TYPEOF, aliases or subqueries; such a query is refused as MALFORMED_QUERY.
// Bulk API, SOAP and the Composite Graph answer 404. Where Salesforce does not
// publish a behaviour, the stricter one was chosen.
package sftest
