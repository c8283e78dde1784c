package sfapi

import (
	"net/http"
	"strconv"
	"time"
)

// Endpoint is the family of Salesforce endpoint a response came from. Families
// answer the same failure differently: a 401 of the token endpoint, for one, is
// never an expired session.
type Endpoint int

const (
	// EndpointREST is the REST API, the default.
	EndpointREST Endpoint = iota
	// EndpointComposite is composite, composite batch, tree and graph.
	EndpointComposite
	// EndpointCollections is sObject Collections.
	EndpointCollections
	// EndpointBulk1 is Bulk API 1.0.
	EndpointBulk1
	// EndpointBulk2 is Bulk API 2.0: calls, job objects and result files.
	EndpointBulk2
	// EndpointSOAP is the SOAP and metadata APIs.
	EndpointSOAP
	// EndpointToken is the OAuth token endpoint and the redirect legs of the
	// authorization flow.
	EndpointToken
	// EndpointIdentity is userinfo and the identity URL.
	EndpointIdentity
	// EndpointIntrospect is token introspection.
	EndpointIntrospect

	endpointCount
)

var endpointNames = [endpointCount]string{
	EndpointREST:        "rest",
	EndpointComposite:   "composite",
	EndpointCollections: "collections",
	EndpointBulk1:       "bulk1",
	EndpointBulk2:       "bulk2",
	EndpointSOAP:        "soap",
	EndpointToken:       "token",
	EndpointIdentity:    "identity",
	EndpointIntrospect:  "introspect",
}

// String returns "rest", "bulk2" and so on.
func (e Endpoint) String() string {
	if e < 0 || e >= endpointCount {
		return "Endpoint(" + strconv.Itoa(int(e)) + ")"
	}
	return endpointNames[e]
}

// Response is what [Classify] reads. It is data only: nothing in it is changed
// or kept.
type Response struct {
	// Endpoint is the family of the endpoint that was called.
	Endpoint Endpoint

	// Method is the HTTP method of the request.
	Method string

	// Status is the HTTP status code. Zero means that no response arrived.
	Status int

	// Header holds the response's header fields, in any capitalization.
	Header http.Header

	// Body is the response's body as received, still compressed where
	// Content-Encoding says so. A body that the caller cut short reads like
	// one that was cut short in transit.
	Body []byte

	// ReadOnly says that the call cannot have written, a query sent by POST
	// for instance. GET and HEAD need not set it.
	ReadOnly bool
}

// Classification is what a response means.
type Classification struct {
	// Kind is [KindNone] when the response reports no failure.
	Kind Kind

	// Scope is what the failure affects.
	Scope Scope

	// Transient says that the same call can succeed later without anybody
	// changing configuration.
	Transient bool

	// Code is Salesforce's code for the root cause, as received:
	// "INVALID_FIELD", "InvalidSessionId", "invalid_grant". It is empty where
	// the response carries none.
	Code string

	// Message is Salesforce's message for the root cause, bounded. It may echo
	// customer data and tokens: [Error] holds a redacted copy.
	Message string

	// RetryAfter is how long the server asked us to wait. Zero means that it
	// did not ask.
	RetryAfter time.Duration
}
