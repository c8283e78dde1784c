package sfapi_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weirhq/weir/sfapi"
)

func ExampleClassify() {
	c := sfapi.Classify(&sfapi.Response{
		Endpoint: sfapi.EndpointREST,
		Method:   http.MethodPatch,
		Status:   http.StatusForbidden,
		Body:     []byte(`[{"message":"ConcurrentRequests (Concurrent API Requests) Limit exceeded.","errorCode":"REQUEST_LIMIT_EXCEEDED"}]`),
	})
	fmt.Println(c.Kind, c.Scope, c.Transient, c.Code)
	// Output: concurrent_limit org true REQUEST_LIMIT_EXCEEDED
}

func TestClassify_NilAndZero(t *testing.T) {
	t.Parallel()
	if got := sfapi.Classify(nil); got == nil || got.Kind != sfapi.KindUnknown {
		t.Errorf("nil response: got %+v", got)
	}
	if got := sfapi.Classify(&sfapi.Response{}); got.Kind != sfapi.KindServerUnavailable || !got.Transient {
		t.Errorf("no response: got %+v", got)
	}
}

func TestClassify_WholeAnswer(t *testing.T) {
	t.Parallel()
	date := http.Header{"Date": {"Sat, 10 Jan 2026 04:00:00 GMT"}, "retry-after": {"Sat, 10 Jan 2026 04:02:30 GMT"}}
	tests := map[string]struct {
		r    sfapi.Response
		want sfapi.Classification
	}{
		"seconds": {
			sfapi.Response{Status: 503, Header: http.Header{"Retry-After": {"120"}}, Body: []byte(`[{"errorCode":"SERVER_UNAVAILABLE","message":"busy"}]`)},
			sfapi.Classification{Kind: sfapi.KindServerUnavailable, Scope: sfapi.ScopeOrg, Transient: true, Code: "SERVER_UNAVAILABLE", Message: "busy", RetryAfter: 2 * time.Minute},
		},
		"date, relative to the response's": {
			sfapi.Response{Status: 429, Header: date},
			sfapi.Classification{Kind: sfapi.KindConcurrentLimit, Scope: sfapi.ScopeOrg, Transient: true, RetryAfter: 150 * time.Second},
		},
		"nonsense": {
			sfapi.Response{Status: 429, Header: http.Header{"Retry-After": {"-5"}}},
			sfapi.Classification{Kind: sfapi.KindConcurrentLimit, Scope: sfapi.ScopeOrg, Transient: true},
		},
		"a year": {
			sfapi.Response{Status: 429, Header: http.Header{"Retry-After": {"31536000"}}},
			sfapi.Classification{Kind: sfapi.KindConcurrentLimit, Scope: sfapi.ScopeOrg, Transient: true, RetryAfter: 24 * time.Hour},
		},
		"namespace prefix": {
			sfapi.Response{Endpoint: sfapi.EndpointSOAP, Status: 500, Body: []byte(`<Envelope><Body><Fault><faultcode>sf:INVALID_SESSION_ID</faultcode><faultstring>Session &lt;x&gt; expired</faultstring></Fault></Body></Envelope>`)},
			sfapi.Classification{Kind: sfapi.KindSessionExpired, Scope: sfapi.ScopeUser, Transient: true, Code: "INVALID_SESSION_ID", Message: "Session <x> expired"},
		},
		"escapes": {
			sfapi.Response{Status: 400, Body: []byte(`[{"errorCode":"INVALID_FIELD","message":"No such column \u0027é\u0027\n\"x\""}]`)},
			sfapi.Classification{Kind: sfapi.KindBadRequest, Scope: sfapi.ScopeRequest, Code: "INVALID_FIELD", Message: "No such column 'é'\n\"x\""},
		},
		"ISO-8859-1": {
			sfapi.Response{Status: 400, Body: []byte("[{\"errorCode\":\"STRING_TOO_LONG\",\"message\":\"Pr\xe9nom\"}]")},
			sfapi.Classification{Kind: sfapi.KindValidation, Scope: sfapi.ScopeRecord, Code: "STRING_TOO_LONG", Message: "Prénom"},
		},
		"a coding that nobody asked for": {
			sfapi.Response{Method: http.MethodPost, Status: 200, Header: http.Header{"content-encoding": {"br"}}, Body: []byte("\x0b\x05\x80{\"id\"\x03")},
			sfapi.Classification{Kind: sfapi.KindServerUnavailable, Scope: sfapi.ScopeOrg, Transient: true},
		},
		"code of a job": {
			sfapi.Response{Endpoint: sfapi.EndpointBulk2, Status: 200, Body: []byte(`{"state":"Failed","errorMessage":"ExceededQuota : ApiBatchItems Limit exceeded."}`)},
			sfapi.Classification{Kind: sfapi.KindDailyLimit, Scope: sfapi.ScopeOrg, Transient: true, Code: "ExceededQuota", Message: "ExceededQuota : ApiBatchItems Limit exceeded."},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(&tt.want, sfapi.Classify(&tt.r)); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

// variants returns the bodies that say the same as body: members shuffled and
// added, arrays of errors reordered, white space and ids changed.
func variants(t *testing.T, rnd *rand.Rand, body []byte) [][]byte {
	t.Helper()
	if !json.Valid(body) {
		return nil
	}
	var v any
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	if d.Decode(&v) != nil {
		return nil
	}
	var out [][]byte
	for range 12 {
		out = append(out, appendJSON(nil, rnd, v, 0))
	}
	return out
}

var unknownMembers = []string{
	`"weirTraceId":"8f7e"`, `"extendedErrorDetails":null`, `"severity":7`, `"links":["https://help.example/1"]`,
	`"context":{"pod":"CS1","depth":{"more":[1,2,3]}}`, `"localizedTitle":"Ein Fehler"`, `"messageParameters":["a","b"]`,
}

func appendJSON(dst []byte, rnd *rand.Rand, v any, depth int) []byte {
	space := func() {
		dst = append(dst, []string{"", "", " ", "\n\t", "\r\n  "}[rnd.IntN(5)]...)
	}
	space()
	switch v := v.(type) {
	case map[string]any:
		keys := make([]string, 0, len(v))
		for k := range v {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		rnd.Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
		dst = append(dst, '{')
		for i, k := range keys {
			if i > 0 {
				dst = append(dst, ',')
			}
			if rnd.IntN(3) == 0 {
				dst = append(append(dst, unknownMembers[rnd.IntN(len(unknownMembers))]...), ',')
			}
			space()
			name, _ := json.Marshal(k)
			dst = append(append(dst, name...), ':')
			dst = appendJSON(dst, rnd, v[k], depth+1)
		}
		space()
		dst = append(dst, '}')
	case []any:
		v = slices.Clone(v)
		rnd.Shuffle(len(v), func(i, j int) { v[i], v[j] = v[j], v[i] })
		dst = append(dst, '[')
		for i, e := range v {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = appendJSON(dst, rnd, e, depth+1)
		}
		space()
		dst = append(dst, ']')
	default:
		raw, _ := json.Marshal(v)
		dst = append(dst, raw...)
	}
	space()
	return dst
}

var recordID = regexp.MustCompile(`\b([0-9a-zA-Z]{3})xx0000[0-9A-Za-z]{6,9}\b`)

func TestClassify_FormDoesNotMatter(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(1, 2))
	lines := append(readLines(t, "corpus/errors.dev.jsonl"), readLines(t, "bodies.jsonl")...)
	tried := 0
	for _, l := range lines {
		r := l.response(t)
		want := sfapi.Classify(r)
		check := func(what string, body []byte) {
			t.Helper()
			tried++
			changed := *r
			changed.Body = body
			changed.Header = r.Header.Clone()
			changed.Header.Del("Content-Length")
			got := sfapi.Classify(&changed)
			if got.Kind != want.Kind || got.Scope != want.Scope || got.Transient != want.Transient {
				t.Errorf("%s: %s: got %v %v %v, want %v %v %v, body\n%s", l.ID, what, got.Kind, got.Scope, got.Transient, want.Kind, want.Scope, want.Transient, body)
			}
		}
		for _, body := range variants(t, rnd, r.Body) {
			check("another form", body)
		}
		if r.Header.Get("Content-Length") != "" && want.Kind != sfapi.KindSessionExpired {
			// That it was cut short shows in its length only.
			continue
		}
		check("other ids", recordID.ReplaceAll(r.Body, []byte("${1}8d00003QpZ7tAAF")))
		if !bytes.HasPrefix(r.Body, []byte{0x1f, 0x8b}) && len(r.Body) > 0 {
			var zipped bytes.Buffer
			w := gzip.NewWriter(&zipped)
			_, _ = w.Write(r.Body)
			_ = w.Close()
			check("gzip", zipped.Bytes())
		}
	}
	if tried < 2000 {
		t.Errorf("only %d variants were tried", tried)
	}
}

func TestClassify_WordingAroundACodeDoesNotMatter(t *testing.T) {
	t.Parallel()
	// Codes whose message is part of the code, by the vendor's own lists.
	shared := map[string]bool{
		"REQUEST_LIMIT_EXCEEDED": true, "UNKNOWN_EXCEPTION": true, "invalid_grant": true, "INVALID_AUTH_HEADER": true, "API_ERROR": true,
		"CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY": true, "CANNOT_EXECUTE_FLOW_TRIGGER": true, "SYSTEM_ERROR": true, "INVALID_GRANT": true,
		"APEX_ERROR": true, "InternalServerError": true, "INTERNAL_ERROR": true, "Unknown": true,
	}
	wordings := []string{"", "Es ist ein Fehler aufgetreten.", "エラーが発生しました", "Something else went wrong: please see the manual (page 12).", strings.Repeat("very long ", 2000)}
	tried := 0
	for _, l := range append(readLines(t, "corpus/errors.dev.jsonl"), readLines(t, "bodies.jsonl")...) {
		if l.Class == "ok" {
			continue
		}
		r := l.response(t)
		want := sfapi.Classify(r)
		if want.Code == "" || want.Message == "" || shared[want.Code] || slices.Contains(l.Accept, "unknown") {
			continue
		}
		if strings.Contains(want.Message, want.Code) {
			// A job says its code in the message itself.
			continue
		}
		old, _ := json.Marshal(want.Message)
		for _, w := range wordings {
			replacement, _ := json.Marshal(w)
			changed := *r
			changed.Body = bytes.ReplaceAll(r.Body, old, replacement)
			if bytes.Equal(changed.Body, r.Body) {
				continue
			}
			tried++
			got := sfapi.Classify(&changed)
			if label := got.Kind.String(); label != l.Class && !slices.Contains(l.Accept, label) && !sharedMeaning(want.Code, got.Kind, want.Kind) {
				t.Errorf("%s: %.40q: got %v, want %v", l.ID, w, got.Kind, want.Kind)
			}
		}
	}
	if tried < 300 {
		t.Errorf("only %d wordings were tried", tried)
	}
}

// sharedMeaning allows the second meaning that a code has when its message says
// nothing that is understood.
func sharedMeaning(code string, got, want sfapi.Kind) bool {
	switch code {
	case "INVALID_SESSION_ID": // an agent's token, a support login
		return (want == sfapi.KindAppNotAllowed || want == sfapi.KindPermission) && got == sfapi.KindSessionExpired
	case "FUNCTIONALITY_NOT_ENABLED":
		return got == sfapi.KindAPIDisabled
	case "INVALID_FIELD": // of a row
		return got == sfapi.KindValidation
	case "invalid_client", "invalid_request":
		return got == sfapi.KindClientMisconfigured
	case "INVALID_CROSS_REFERENCE_KEY":
		return got == sfapi.KindNotFound
	}
	return false
}

func TestClassify_TruncatedBodies(t *testing.T) {
	t.Parallel()
	// Wherever a body is cut, the answer is the right one, or one that makes
	// no claim: never a revocation, a dead org or a success that was not.
	harmless := []sfapi.Kind{sfapi.KindUnknown, sfapi.KindServerUnavailable}
	for _, l := range append(readLines(t, "corpus/errors.dev.jsonl"), readLines(t, "bodies.jsonl")...) {
		r := l.response(t)
		whole := sfapi.Classify(r)
		for n := range r.Body {
			cut := *r
			cut.Body = r.Body[:n]
			got := sfapi.Classify(&cut)
			if got.Kind == whole.Kind || slices.Contains(harmless, got.Kind) {
				continue
			}
			if got.Kind == sfapi.KindRevoked && !strings.Contains(string(cut.Body), "invalid_grant") || got.Kind == sfapi.KindOrgInactive && l.Status != 420 {
				t.Errorf("%s cut at %d: got %v, want %v: %s", l.ID, n, got.Kind, whole.Kind, cut.Body)
			}
		}
	}
}

func TestClassify_AllocatesInProportion(t *testing.T) {
	bodies := map[string][]byte{
		"brackets":        bytes.Repeat([]byte("["), 1<<17),
		"braces":          bytes.Repeat([]byte(`{"a":`), 1<<15),
		"errors nested":   bytes.Repeat([]byte(`{"errors":[`), 1<<14),
		"escapes":         []byte(`[{"errorCode":"API_ERROR","message":"` + strings.Repeat(`\u0041`, 1<<14) + `"}]`),
		"codes":           []byte(`[{"errorCode":"API_ERROR","message":"` + strings.Repeat(`API_ERROR `, 1<<13) + `"}]`),
		"many errors":     []byte(`[` + strings.Repeat(`{"errorCode":"API_ERROR","message":"a\nUNABLE_TO_LOCK_ROW"},`, 1<<11) + `{}]`),
		"XML":             bytes.Repeat([]byte("<message><![CDATA["), 1<<13),
		"XML entities":    []byte("<Errors><Error><message>" + strings.Repeat("&amp;", 1<<14)),
		"HTML":            append([]byte("<html>"), bytes.Repeat([]byte("<title>"), 1<<14)...),
		"text":            bytes.Repeat([]byte("INVALID_SESSION "), 1<<13),
		"CSV":             append([]byte("sf__Id,sf__Error\n"), bytes.Repeat([]byte("x,\"API_ERROR:\"\"\n\"\n"), 1<<13)...),
		"form":            bytes.Repeat([]byte("error=%61&"), 1<<14),
		"zero bytes":      make([]byte, 1<<17),
		"gzip, expanding": gzipped(make([]byte, 16<<20)),
	}
	for name, body := range bodies {
		for _, e := range []sfapi.Endpoint{sfapi.EndpointREST, sfapi.EndpointBulk2, sfapi.EndpointToken} {
			for _, status := range []int{200, 400} {
				r := &sfapi.Response{Endpoint: e, Status: status, Body: body, Method: http.MethodPost}
				if got, limit := allocated(func() { sfapi.Classify(r) }), allocationLimit(len(body)); got > limit {
					t.Errorf("%s, %v %d: %d bytes allocated for a body of %d", name, e, status, got, len(body))
				}
			}
		}
		if got, limit := allocated(func() { sfapi.RedactBytes(body) }), allocationLimit(len(body)); got > limit {
			t.Errorf("%s: redaction allocated %d bytes for %d", name, got, len(body))
		}
	}
}

// allocationLimit is the most that n bytes of input may make us allocate. The
// multiple is that of inflating, the constant that of a fresh gzip reader.
func allocationLimit(n int) uint64 { return uint64(n)*80 + 128<<10 }

func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

func gzipped(b []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, _ = w.Write(b)
	_ = w.Close()
	return out.Bytes()
}

func BenchmarkClassify(b *testing.B) {
	bodies := map[string]*sfapi.Response{
		"session":  {Status: 401, Body: []byte(`[{"message":"Session expired or invalid","errorCode":"INVALID_SESSION_ID"}]`)},
		"field":    {Status: 400, Body: []byte(`[{"message":"\nSELECT Id, foo FROM Account\n           ^\nERROR at Row:1:Column:12\nNo such column 'foo' on entity 'Account'.","errorCode":"INVALID_FIELD"}]`)},
		"rule":     {Status: 400, Method: "POST", Body: []byte(`[{"message":"Please give a phone number.","errorCode":"FIELD_CUSTOM_VALIDATION_EXCEPTION","fields":["Phone"]}]`)},
		"limit":    {Status: 403, Body: []byte(`[{"message":"TotalRequests Limit exceeded.","errorCode":"REQUEST_LIMIT_EXCEEDED"}]`)},
		"trigger":  {Status: 400, Method: "PATCH", Body: []byte(`[{"message":"Trg: execution of AfterUpdate caused by: System.DmlException: Update failed. First exception on row 0; first error: UNABLE_TO_LOCK_ROW, unable to obtain exclusive access to this record: []","errorCode":"CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY","fields":[]}]`)},
		"grant":    {Endpoint: sfapi.EndpointToken, Status: 400, Body: []byte(`{"error":"invalid_grant","error_description":"expired access/refresh token"}`)},
		"200 rows": {Endpoint: sfapi.EndpointCollections, Status: 200, Body: []byte("[" + strings.TrimSuffix(strings.Repeat(`{"success":false,"errors":[{"statusCode":"REQUIRED_FIELD_MISSING","message":"Required fields are missing: [LastName]","fields":["LastName"]}]},`, 200), ",") + "]")},
	}
	for name, r := range bodies {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(r.Body)))
			for b.Loop() {
				sfapi.Classify(r)
			}
		})
	}
}

func FuzzClassify(f *testing.F) {
	for _, l := range append(readLines(f, "corpus/errors.dev.jsonl"), readLines(f, "bodies.jsonl")...) {
		r := l.response(f)
		f.Add(int(r.Endpoint), r.Method, r.Status, r.Header.Get("Content-Type"), r.Header.Get("Location"), r.Body)
	}
	f.Fuzz(func(t *testing.T, endpoint int, method string, status int, contentType, location string, body []byte) {
		r := &sfapi.Response{Endpoint: sfapi.Endpoint(endpoint), Method: method, Status: status, Body: body,
			Header: http.Header{"Content-Type": {contentType}, "Location": {location}}}
		before := bytes.Clone(body)
		c := sfapi.Classify(r)
		if c == nil || strings.HasPrefix(c.Kind.String(), "Kind(") || strings.HasPrefix(c.Scope.String(), "Scope(") {
			t.Fatalf("no answer: %+v", c)
		}
		if *c != *sfapi.Classify(r) {
			t.Fatal("a second answer differs")
		}
		if !bytes.Equal(before, body) {
			t.Fatal("the body was changed")
		}
		if c.Kind == sfapi.KindNone && (c.Code != "" || c.Transient) {
			t.Fatalf("no error, and yet %+v", c)
		}
		if c.Kind == sfapi.KindRevoked && r.Endpoint != sfapi.EndpointToken && status < 300 {
			t.Logf("revoked by %v %d", r.Endpoint, status)
		}
		if got, limit := allocated(func() { sfapi.Classify(r) }), allocationLimit(len(body)+len(location)+len(contentType)); got > limit {
			t.Fatalf("%d bytes allocated for a body of %d", got, len(body))
		}
		if e := sfapi.NewError("query", "00Dxx0000000001EAA", r); (e == nil) != (c.Kind == sfapi.KindNone) {
			t.Fatalf("error %v of %v", e, c.Kind)
		}
	})
}
