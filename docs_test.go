package weir_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/weirhq/weir/breaker"
)

// The runbook has a page for each reason, and what it says of lanes, ends and
// probes is what the breaker does.
func TestRunbook(t *testing.T) {
	t.Parallel()
	headings := []string{"## What happened", "## What Weir does", "## What the operator does", "## What the customer's admin does"}
	index := readDoc(t, "docs/runbook/README.md")
	var want []string
	for _, rule := range breaker.ReasonRules() {
		name := string(rule.Reason) + ".md"
		want = append(want, name)
		page := readDoc(t, "docs/runbook/"+name)
		for _, h := range headings {
			_, text, ok := strings.Cut(page, h+"\n\n")
			if text, _, _ = strings.Cut(text, "\n\n#"); !ok || len(text) < len("Nothing.") {
				t.Errorf("%s: nothing under %q", name, h)
			}
		}
		lanes := regexp.QuoteMeta(rule.Lanes.String())
		if rule.Lanes.Empty() { // said in words
			lanes = "[a-z ]+"
		}
		facts := fmt.Sprintf(`\| %s \| %s \| %s \|`, lanes, regexp.QuoteMeta(rule.Exits.String()), rule.Probe)
		if !regexp.MustCompile(facts).MatchString(page) {
			t.Errorf("%s does not say %s", name, facts)
		}
		if !strings.Contains(index, "]("+name+")") {
			t.Errorf("the index has no link to %s", name)
		}
	}
	files, err := filepath.Glob("docs/runbook/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if name := filepath.Base(file); name != "README.md" && !slices.Contains(want, name) {
			t.Errorf("%s is of no reason", name)
		}
	}
}

func readDoc(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// docs are the pages for people.
func docs(t *testing.T) []string {
	t.Helper()
	out, err := exec.Command("git", "ls-files", "-co", "--exclude-standard", "*.md").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(out))
}

// Links between files of the project lead somewhere.
func TestLinks(t *testing.T) {
	t.Parallel()
	for _, name := range docs(t) {
		for _, m := range regexp.MustCompile(`\]\(([^)\s]+)\)`).FindAllStringSubmatch(readDoc(t, name), -1) {
			target, _, _ := strings.Cut(m[1], "#")
			if target == "" || strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
				continue
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(name), target)); err != nil {
				t.Errorf("%s: link to %s: %v", name, m[1], err)
			}
		}
	}
}

// The Go code in the pages compiles. The fragments of a page follow each other,
// in a function whose arguments are what a reader brings.
func TestDocumentedCode(t *testing.T) {
	t.Parallel()
	const dir = ".docs-test" // in the module, for its versions
	if err := errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o755)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	pages := 0
	for _, name := range docs(t) {
		var body strings.Builder
		for _, m := range regexp.MustCompile("(?s)```go\n(.*?)\n```").FindAllStringSubmatch(readDoc(t, name), -1) {
			body.WriteString(m[1] + "\n")
		}
		if body.Len() == 0 {
			continue
		}
		pages++
		file := filepath.Join(dir, fmt.Sprint("page", pages, ".go"))
		if err := os.WriteFile(file, []byte(documented+body.String()+"return errors.Join(err, use(receipt))\n}\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("go", "vet", file).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
	if pages == 0 {
		t.Error("no code in the pages")
	}
}

const documented = `package main

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/weirhq/weir/jobs"
	"github.com/weirhq/weir/runner"
	"github.com/weirhq/weir/runner/runnerpgx"
	"github.com/weirhq/weir/sfapi"
)

func main() {}

func use(...any) error { return nil }

const upsertCustomer = "INSERT INTO customer VALUES ($1, $2, $3) ON CONFLICT (id) DO UPDATE SET name = excluded.name, phone = excluded.phone"

func page(ctx context.Context, pool *pgxpool.Pool, tx pgx.Tx, aead tink.AEAD, id string, secret, refreshToken sfapi.Secret, contacts []map[string]string) error {
`
