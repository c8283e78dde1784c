package sftest

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// Fault disturbs calls that match it. Make one with DropBefore, Latency and
// their like, narrow it with On, Next and After, and hand it to Org.Inject or
// Sim.Inject.
type Fault struct {
	// Name appears in the audit.
	Name string
	// Times is the number of calls that the fault hits. 0 hits until it is
	// removed.
	Times int
	// Skip lets so many matching calls pass first.
	Skip int
	// Method matches one HTTP method. Empty matches all.
	Method string
	// Path matches calls whose path contains it. Empty matches all.
	Path string
	// Match, when set, must also agree.
	Match func(*http.Request) bool

	// Latency passes before the call is looked at.
	Latency time.Duration
	// Hold passes while the call counts as running.
	Hold time.Duration
	// DropBefore closes the connection before the call has any effect.
	DropBefore bool
	// DropAfter closes the connection after the call's effect is committed.
	DropAfter bool
	// Respond answers instead of the org. It may return nil to let the call
	// through.
	Respond func(*http.Request) *http.Response
	// Mangle changes the answer.
	Mangle func(*Reply)
}

// Next limits the fault to the next n matching calls.
func (f Fault) Next(n int) Fault { f.Times = n; return f }

// After lets n matching calls pass first.
func (f Fault) After(n int) Fault { f.Skip = n; return f }

// On limits the fault to a method and to paths that contain path. Either may
// be empty.
func (f Fault) On(method, path string) Fault { f.Method, f.Path = method, path; return f }

// DropBefore closes the connection before the call has any effect.
func DropBefore() Fault { return Fault{Name: "drop_before", DropBefore: true} }

// DropAfterCommit closes the connection after the call's effect is committed,
// so that the client cannot know the outcome.
func DropAfterCommit() Fault { return Fault{Name: "drop_after_commit", DropAfter: true} }

// Latency delays calls.
func Latency(d time.Duration) Fault { return Fault{Name: "latency", Latency: d} }

// Hold keeps calls running for d, where they count against a concurrency limit.
func Hold(d time.Duration) Fault { return Fault{Name: "hold", Hold: d} }

// TruncateBody ends the connection in the middle of the answer's body.
func TruncateBody() Fault {
	return Fault{Name: "truncate_body", Mangle: func(r *Reply) { r.CutAfter = max(1, len(r.Body)/2) }}
}

// ShortBody sends only the first half of the answer, as if it were whole.
func ShortBody() Fault {
	return Fault{Name: "short_body", Mangle: func(r *Reply) { r.Body = r.Body[:len(r.Body)/2] }}
}

// MalformedJSON answers bytes that are no JSON under an unchanged status and
// content type.
func MalformedJSON() Fault {
	return Fault{Name: "malformed_json", Mangle: func(r *Reply) { r.Body = append([]byte(`{"]`), r.Body...) }}
}

// HTMLError answers as the edge does in front of a broken instance, with 502
// or 503.
func HTMLError(status int) Fault {
	return Static("html_error", status, http.Header{"Server": {"sfdcedge"}, "Content-Type": {"text/html"}},
		"<!doctypehtml><html lang=en-US><meta charset=UTF-8><title>Error Page</title><body class=slds-scope>"+
			"<div class=error-container><h3>An unexpected connection error occurred</h3>"+
			"<p>Please try again. If it persists, contact Salesforce Customer Support.</div></body></html>")
}

// NoHealthyUpstream answers 503 in plain text, as the edge does.
func NoHealthyUpstream() Fault {
	return Static("no_healthy_upstream", 503, http.Header{"Server": {"sfdcedge"}, "Content-Type": {"text/plain"}}, "no healthy upstream")
}

// EdgeEmpty406 answers 406 without a body.
func EdgeEmpty406() Fault {
	return Static("edge_406", 406, http.Header{"Server": {"sfdcedge"}}, "")
}

// Edge420 answers the interstitial page of an org that is being set up.
func Edge420() Fault {
	return Static("edge_420", 420, http.Header{"Server": {"sfdcedge"}, "Content-Type": {"text/html"}},
		`<html><head><title>Salesforce</title></head><body><div class="slds-text-longform interstitial interstitial-waiting">`+
			`<h3>We are setting things up. This process can take a few minutes. This page will auto-refresh when ready.</h3></div></body></html>`)
}

// ServerUnavailable answers 503 SERVER_UNAVAILABLE. Retry-After is sent when
// retryAfter is positive.
func ServerUnavailable(retryAfter time.Duration) Fault {
	f := APIError(503, "SERVER_UNAVAILABLE", "We are experiencing high volume. Please try again later.")
	f.Name = "server_unavailable"
	if retryAfter > 0 {
		f.Mangle = func(r *Reply) { r.Header.Set("Retry-After", fmt.Sprint(int(retryAfter.Seconds()))) }
	}
	return f
}

// TokenBusy answers token requests as when a sibling is refreshing already.
func TokenBusy() Fault {
	return OAuthError("invalid_grant", "Token request is already being processed").On("POST", "/services/oauth2/token")
}

// APIError answers with one REST error.
func APIError(status int, code, message string) Fault {
	return Static(strings.ToLower(code), status, http.Header{"Content-Type": {jsonType}},
		string(fail(status, code, message).Body))
}

// OAuthError answers as the token endpoint does, with 400.
func OAuthError(code, description string) Fault {
	return Static(code, 400, http.Header{"Content-Type": {jsonType}}, string(oauthFail(code, description).Body)).
		On("", "/services/oauth2/token")
}

// Static answers fixed bytes.
func Static(name string, status int, header http.Header, body string) Fault {
	return Fault{Name: name, Respond: func(*http.Request) *http.Response {
		return &http.Response{StatusCode: status, Header: header.Clone(), Body: io.NopCloser(bytes.NewReader([]byte(body)))}
	}}
}

// Injected is a fault at work.
type Injected struct {
	set   *faultSet
	fault Fault
	// skip, left and hits are guarded by set.mu.
	skip, left int
	hits       int
}

// Remove ends the fault.
func (i *Injected) Remove() {
	i.set.mu.Lock()
	defer i.set.mu.Unlock()
	i.set.list = slices.DeleteFunc(i.set.list, func(j *Injected) bool { return i == j })
}

// Hits counts the calls that the fault has hit.
func (i *Injected) Hits() int {
	i.set.mu.Lock()
	defer i.set.mu.Unlock()
	return i.hits
}

type faultSet struct {
	mu   sync.Mutex
	list []*Injected
}

func (s *faultSet) add(f Fault) *Injected {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := &Injected{set: s, fault: f, skip: f.Skip, left: f.Times}
	if f.Times == 0 {
		i.left = -1
	}
	s.list = append(s.list, i)
	return i
}

func (s *faultSet) clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = nil
}

// match returns the faults that hit a call, and counts them.
func (s *faultSet) match(req *http.Request, x *exchange) []Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Fault
	for _, i := range s.list {
		f := i.fault
		if i.left == 0 || f.Method != "" && f.Method != x.method || !strings.Contains(x.path, f.Path) ||
			f.Match != nil && !f.Match(req) {
			continue
		}
		if i.skip > 0 {
			i.skip--
			continue
		}
		if i.left > 0 {
			i.left--
		}
		i.hits++
		out = append(out, f)
	}
	return out
}

// Inject starts a fault for every org and for calls of none.
func (s *Sim) Inject(f Fault) *Injected { return s.faults.add(f) }

// ClearFaults removes every fault that Sim.Inject started.
func (s *Sim) ClearFaults() { s.faults.clear() }

// Inject starts a fault for the org's calls, its token requests included.
func (o *Org) Inject(f Fault) *Injected { return o.faults.add(f) }

// ClearFaults removes every fault that Org.Inject started.
func (o *Org) ClearFaults() { o.faults.clear() }
