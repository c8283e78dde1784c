package sfapi_test

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"testing"

	"github.com/weirhq/weir/sfapi"
)

// bodyLine is a line of testdata/corpus/errors.dev.jsonl or of
// testdata/bodies.jsonl.
type bodyLine struct {
	ID           string            `json:"id"`
	Source       string            `json:"source"`
	Endpoint     string            `json:"endpoint"`
	Method       string            `json:"method"`
	Status       int               `json:"status"`
	Headers      map[string]string `json:"headers"`
	Body         string            `json:"body"`
	BodyEncoding string            `json:"body_encoding"`
	Operation    string            `json:"operation"`
	Class        string            `json:"class"`
	Scope        string            `json:"scope"`
	Transient    bool              `json:"transient"`
	Accept       []string          `json:"accept"`
	Kind         string            `json:"kind"` // of evidence
	Note         string            `json:"note"`
}

func (l *bodyLine) response(tb testing.TB) *sfapi.Response {
	tb.Helper()
	r := &sfapi.Response{Method: l.Method, Status: l.Status, Header: http.Header{}, Body: []byte(l.Body), ReadOnly: l.Operation == "query"}
	found := false
	for e := sfapi.EndpointREST; e <= sfapi.EndpointIntrospect; e++ {
		if e.String() == l.Endpoint {
			r.Endpoint, found = e, true
		}
	}
	if !found {
		tb.Fatalf("%s: endpoint %q is unknown", l.ID, l.Endpoint)
	}
	for k, v := range l.Headers {
		r.Header[k] = []string{v}
	}
	if l.BodyEncoding == "base64" {
		b, err := base64.StdEncoding.DecodeString(l.Body)
		if err != nil {
			tb.Fatalf("%s: %v", l.ID, err)
		}
		r.Body = b
	}
	return r
}

func readLines(tb testing.TB, name string) []bodyLine {
	tb.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", filepath.FromSlash(name)))
	if err != nil {
		tb.Fatal(err)
	}
	var lines []bodyLine
	scanner := bufio.NewScanner(bytes.NewReader(raw))
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		if len(bytes.TrimSpace(scanner.Bytes())) == 0 {
			continue
		}
		var l bodyLine
		if err := json.Unmarshal(scanner.Bytes(), &l); err != nil {
			tb.Fatalf("%s line %d: %v", name, len(lines)+1, err)
		}
		lines = append(lines, l)
	}
	if err := scanner.Err(); err != nil {
		tb.Fatal(err)
	}
	return lines
}

// confusion counts wrong answers by label and answer.
type confusion map[[2]string][]string

func (c confusion) String() string {
	var rows []string
	for k, ids := range c {
		rows = append(rows, fmt.Sprintf("%-28s %-28s %3d  %s", k[0], k[1], len(ids), strings.Join(ids, " ")))
	}
	sort.Strings(rows)
	return fmt.Sprintf("%-28s %-28s %3s\n%s", "label", "answer", "n", strings.Join(rows, "\n"))
}

func testLines(t *testing.T, lines []bodyLine) {
	t.Helper()
	wrong := confusion{}
	for _, l := range lines {
		c := sfapi.Classify(l.response(t))
		if got := c.Kind.String(); got != l.Class && !slices.Contains(l.Accept, got) {
			key := [2]string{l.Class, got}
			wrong[key] = append(wrong[key], l.ID)
		}
		if got, want := fmt.Sprintf("%v %v", c.Scope, c.Transient), fmt.Sprintf("%v %v", l.Scope, l.Transient); got != want {
			key := [2]string{l.Class + " " + want, c.Kind.String() + " " + got}
			wrong[key] = append(wrong[key], l.ID)
		}
	}
	if len(wrong) > 0 {
		t.Errorf("%d lines, wrong answers:\n%v", len(lines), wrong)
	}
}

func TestClassify_Corpus(t *testing.T) {
	t.Parallel()
	lines := readLines(t, "corpus/errors.dev.jsonl")
	if len(lines) < 120 {
		t.Fatalf("the corpus has %d lines", len(lines))
	}
	testLines(t, lines)
}

func TestClassify_Evidence(t *testing.T) {
	t.Parallel()
	for _, l := range readLines(t, "corpus/evidence.dev.jsonl") {
		want := sfapi.KindNone
		if l.Kind == "introspect_inactive" {
			want = sfapi.KindSessionExpired
		}
		if c := sfapi.Classify(l.response(t)); c.Kind != want {
			t.Errorf("%s (%s): got %v, want %v", l.ID, l.Kind, c.Kind, want)
		}
	}
}

func TestCodes_EachListedOnce(t *testing.T) {
	t.Parallel()
	all := sfapi.CodesByKind()
	for code, kinds := range all {
		if len(kinds) != 1 {
			t.Errorf("%s stands in the lists of %v", code, kinds)
		}
	}
	if len(all) < 400 {
		t.Errorf("%d codes are known", len(all))
	}
}

func TestClassify_Bodies(t *testing.T) {
	t.Parallel()
	lines := readLines(t, "bodies.jsonl")
	if len(lines) < 150 {
		t.Fatalf("there are %d bodies", len(lines))
	}
	testLines(t, lines)
}
