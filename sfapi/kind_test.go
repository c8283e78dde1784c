package sfapi_test

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weirhq/weir/sfapi"
)

func ExampleKindOf() {
	err := fmt.Errorf("sync contacts: %w", sfapi.NewError("query", "00Dxx0000001gPLEAY", &sfapi.Response{
		Method: http.MethodGet, Status: 400, Body: []byte(`[{"errorCode":"INVALID_QUERY_LOCATOR","message":"invalid query locator"}]`),
	}))
	fmt.Println(sfapi.KindOf(err), sfapi.Retryable(err), sfapi.CountsAgainstOrg(err))
	// Output: invalid_query_locator false false
}

func ExampleError() {
	err := sfapi.NewError("query", "00Dxx0000001gPLEAY", &sfapi.Response{
		Method: http.MethodGet, Status: 400, Body: []byte(`[{"errorCode":"INVALID_FIELD","message":"No such column 'foo'"}]`),
	})
	fmt.Println(err)
	// Output: query org 00Dxx0000001gPLEAY: INVALID_FIELD: No such column 'foo' (bad_request, HTTP 400)
}

func TestKind_LabelsAreThoseOfTheCorpus(t *testing.T) {
	t.Parallel()
	for k := range sfapi.Kinds() {
		text, err := k.MarshalText()
		if err != nil {
			t.Fatal(err)
		}
		var back sfapi.Kind
		if err := back.UnmarshalText(text); err != nil || back != k {
			t.Errorf("%v comes back as %v, %v", k, back, err)
		}
	}
	for _, l := range readLines(t, "corpus/errors.dev.jsonl") {
		for _, label := range append(l.Accept, l.Class) {
			if _, err := sfapi.ParseKind(label); err != nil {
				t.Error(err)
			}
		}
		if _, err := sfapi.ParseScope(l.Scope); err != nil {
			t.Error(err)
		}
	}
	if _, err := sfapi.ParseKind("nonsense"); err == nil {
		t.Error("nonsense is a kind")
	}
	k := sfapi.KindRowLock
	if err := k.UnmarshalText([]byte("nonsense")); err == nil || k != sfapi.KindRowLock {
		t.Errorf("nonsense was taken: %v", k)
	}
	if got := sfapi.Kind(99).String() + sfapi.Scope(99).String() + sfapi.Endpoint(-1).String(); got != "Kind(99)Scope(99)Endpoint(-1)" {
		t.Error(got)
	}
	if _, err := json.Marshal(sfapi.Kind(99)); err == nil {
		t.Error("kind 99 was marshalled")
	}
	var s sfapi.Scope
	if raw, err := json.Marshal(sfapi.ScopeOrg); err != nil || json.Unmarshal(raw, &s) != nil || s != sfapi.ScopeOrg {
		t.Errorf("scope: %s, %v", raw, s)
	}
}

// TestKinds_TableInTheCommentIsTrue reads the table that people check against
// the vendor's documentation and compares it with the code.
func TestKinds_TableInTheCommentIsTrue(t *testing.T) {
	t.Parallel()
	src, err := os.ReadFile("predicates.go")
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile(`(?m)^//\t([a-z_]+) +(yes|-) +(yes|-) +(yes|-) +(yes|-)$`)
	got := map[string]sfapi.KindPolicy{}
	for _, m := range row.FindAllStringSubmatch(string(src), -1) {
		got[m[1]] = sfapi.KindPolicy{Retry: m[2] == "yes", Refresh: m[3] == "yes", Org: m[4] == "yes", Reauth: m[5] == "yes"}
	}
	want := map[string]sfapi.KindPolicy{}
	for k, p := range sfapi.Kinds() {
		want[k.String()] = p
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-code +comment\n%s", diff)
	}
}

func TestPredicates(t *testing.T) {
	t.Parallel()
	type answers struct {
		Kind                                      string
		Retry, Refresh, Unknown, Org, NeedsReauth bool
	}
	post := func(status int, body string) error {
		return sfapi.NewError("create", "", &sfapi.Response{Method: http.MethodPost, Status: status, Body: []byte(body)})
	}
	at := func(e sfapi.Endpoint, method string, status int, body string) error {
		return sfapi.NewError("x", "", &sfapi.Response{Endpoint: e, Method: method, Status: status, Body: []byte(body)})
	}
	lost := func(method string, readOnly bool, err error) error {
		return sfapi.NewTransportError("create", "", method, "/x", readOnly, err)
	}
	dial := &net.OpError{Op: "dial", Err: errors.New("connection refused")}
	tests := map[string]struct {
		err  error
		want answers
	}{
		"nil":              {nil, answers{Kind: "ok"}},
		"not ours":         {io.EOF, answers{Kind: "unknown"}},
		"session":          {post(401, `[{"errorCode":"INVALID_SESSION_ID"}]`), answers{"session_expired_or_invalid", true, true, false, true, false}},
		"maintenance":      {post(400, `[{"errorCode":"INSERT_UPDATE_DELETE_NOT_ALLOWED_DURING_MAINTENANCE"}]`), answers{"maintenance_readonly", true, false, false, true, false}},
		"502 of a write":   {post(502, ""), answers{"server_unavailable", true, false, true, true, false}},
		"502 of a read":    {at(sfapi.EndpointREST, http.MethodGet, 502, ""), answers{"server_unavailable", true, false, false, true, false}},
		"406 of a write":   {post(406, ""), answers{"server_unavailable", true, false, false, true, false}},
		"500 of a write":   {post(500, `[{"errorCode":"UNKNOWN_EXCEPTION","message":"ErrorId 1"}]`), answers{"unknown", false, false, true, false, false}},
		"200 cut short":    {post(200, `{"id":"001xx`), answers{"server_unavailable", true, false, true, true, false}},
		"ran too long":     {post(400, `[{"errorCode":"REQUEST_RUNNING_TOO_LONG"}]`), answers{"query_timeout", true, false, true, false, false}},
		"too large":        {at(sfapi.EndpointREST, http.MethodGet, 400, `[{"errorCode":"OPERATION_TOO_LARGE"}]`), answers{"query_timeout", false, false, false, false, false}},
		"validation":       {post(400, `[{"errorCode":"REQUIRED_FIELD_MISSING"}]`), answers{"validation", false, false, false, false, false}},
		"revoked":          {at(sfapi.EndpointToken, http.MethodPost, 400, `{"error":"invalid_grant","error_description":"expired access/refresh token"}`), answers{"revoked", false, false, false, true, true}},
		"sibling":          {at(sfapi.EndpointToken, http.MethodPost, 400, `{"error":"invalid_grant","error_description":"token request is already being processed"}`), answers{"server_unavailable", true, false, false, false, false}},
		"login hours":      {at(sfapi.EndpointToken, http.MethodPost, 400, `{"error":"invalid_grant","error_description":"invalid login hours"}`), answers{"ip_restricted", true, false, false, true, false}},
		"token answer cut": {at(sfapi.EndpointToken, http.MethodPost, 200, `{"access_token":"00D`), answers{"server_unavailable", true, false, true, true, false}},
		"row locked":       {at(sfapi.EndpointCollections, http.MethodPost, 200, `[{"success":false,"errors":[{"statusCode":"UNABLE_TO_LOCK_ROW"}]}]`), answers{"row_lock", true, false, false, false, false}},
		"row unknown":      {at(sfapi.EndpointCollections, http.MethodPost, 200, `[{"success":false,"errors":[{"statusCode":"UNKNOWN_EXCEPTION"}]}]`), answers{"unknown", false, false, false, false, false}},
		"wrong host":       {at(sfapi.EndpointREST, http.MethodGet, 400, `[{"errorCode":"URL_NOT_RESET"}]`), answers{"wrong_instance", false, true, false, true, false}},
		"reset":            {lost(http.MethodPost, false, io.ErrUnexpectedEOF), answers{"server_unavailable", true, false, true, true, false}},
		"reset of a read":  {lost(http.MethodPost, true, io.ErrUnexpectedEOF), answers{"server_unavailable", true, false, false, true, false}},
		"timeout":          {lost(http.MethodPatch, false, context.DeadlineExceeded), answers{"server_unavailable", true, false, true, true, false}},
		"cancelled":        {lost(http.MethodPost, false, context.Canceled), answers{"unknown", false, false, true, false, false}},
		"not connected":    {lost(http.MethodPost, false, dial), answers{"server_unavailable", true, false, false, true, false}},
		"no such host":     {lost(http.MethodPost, false, &net.OpError{Op: "dial", Err: &net.DNSError{IsNotFound: true}}), answers{"wrong_instance", false, true, false, true, false}},
		"certificate":      {lost(http.MethodPost, false, x509.UnknownAuthorityError{}), answers{"server_unavailable", true, false, false, true, false}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := tt.err
			if err != nil {
				err = fmt.Errorf("wrapped: %w", err)
			}
			got := answers{sfapi.KindOf(err).String(), sfapi.Retryable(err), sfapi.NeedsRefresh(err), sfapi.OutcomeUnknown(err), sfapi.CountsAgainstOrg(err), sfapi.NeedsReauth(err)}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

func TestError_WrapsItsCause(t *testing.T) {
	t.Parallel()
	err := sfapi.NewTransportError("query", "00Dxx0000001gPLEAY", http.MethodGet, "https://acme.example/services/data/v62.0/query?q=SELECT", true, context.DeadlineExceeded)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Error("the cause is lost")
	}
	if err.Path != "/services/data/v62.0/query" {
		t.Errorf("path %q", err.Path)
	}
	for _, part := range []string{"query", "00Dxx0000001gPLEAY", "server_unavailable", "deadline"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q lacks %q", err, part)
		}
	}
	if sfapi.NewError("query", "", &sfapi.Response{Status: 204}) != nil {
		t.Error("a success became an error")
	}
}

func TestError_RecordErrors(t *testing.T) {
	t.Parallel()
	err := sfapi.NewError("create", "", &sfapi.Response{Method: http.MethodPost, Status: 400,
		Body: []byte(`[{"message":"Required fields are missing: [LastName]","errorCode":"REQUIRED_FIELD_MISSING","fields":["LastName"]}]`)})
	want := []sfapi.RecordError{{StatusCode: "REQUIRED_FIELD_MISSING", Message: "Required fields are missing: [LastName]", Fields: []string{"LastName"}}}
	if diff := cmp.Diff(want, err.RecordErrors()); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if got := sfapi.NewError("x", "", &sfapi.Response{Status: 502}).RecordErrors(); got != nil {
		t.Errorf("got %v", got)
	}
}
