// These tests hold the module to its layout. They stand at the top because they
// speak of the whole module, and the directory holds no package but theirs.
package weir_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const modulePath = "github.com/weirhq/weir"

// layer is a part of the module that has rules of its own. A package belongs to
// the layer with the longest dir that is a prefix of its path.
type layer struct {
	dir string

	// imports are the layers that non-test code may import besides its own.
	imports []string

	// tests are what tests may import besides imports and their own layer.
	// Tests of a layer that leaves it nil may import any of ours: an Example
	// for jobs needs a runner.
	tests []string

	// unreachable are the modules and packages that no non-test code of the
	// layer may depend on, directly or through others.
	unreachable []string
}

// The arrows of the design: sfapi ← breaker ← jobs ← runner ← runnerpgx,
// runnersqlite ← examples. Whatever is not listed is not allowed.
var layers = []layer{
	{dir: "sfapi", tests: []string{"sfapi/sftest"}, unreachable: riverAndSQL},
	// Imports nothing of ours, so that it shares no bug with the client.
	{dir: "sfapi/sftest", tests: []string{}, unreachable: riverAndSQL},
	{dir: "breaker", imports: []string{"sfapi"}, tests: []string{"sfapi/sftest"}},
	{dir: "migrations", tests: []string{}},
	{dir: "jobs", imports: []string{"sfapi", "breaker"}, unreachable: drivers},
	{dir: "runner", imports: []string{"sfapi", "breaker", "jobs", "migrations"}, unreachable: drivers},
	// Test code that is not in test files: suites, and servers for tests.
	{dir: "runner/internal/store/storetest", imports: []string{"sfapi", "breaker", "jobs", "migrations", "runner"}},
	{dir: "runner/internal/pgtest"},
	{
		dir:     "runner/runnerpgx",
		imports: []string{"sfapi", "breaker", "jobs", "migrations", "runner"}, unreachable: []string{"modernc.org"},
	},
	{
		dir:     "runner/runnersqlite",
		imports: []string{"sfapi", "breaker", "jobs", "migrations", "runner"}, unreachable: []string{"github.com/jackc/pgx"},
	},
	{
		dir: "examples",
		imports: []string{
			"sfapi", "sfapi/sftest", "breaker", "jobs", "migrations",
			"runner", "runner/runnerpgx", "runner/runnersqlite",
		},
	},
}

var (
	riverAndSQL = []string{
		"database/sql", "github.com/jackc/pgx", "github.com/riverqueue", "modernc.org", "riverqueue.com",
	}
	drivers = []string{"github.com/jackc/pgx", "modernc.org"}
)

// listed is what `go list -json` says of a package. Test imports are direct
// ones, Deps are all that non-test code reaches.
type listed struct {
	ImportPath   string
	Imports      []string
	Deps         []string
	TestImports  []string
	XTestImports []string
}

func TestImports(t *testing.T) {
	t.Parallel()

	pkgs, err := list()
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range importProblems(pkgs) {
		t.Error(problem)
	}
}

func list() ([]listed, error) {
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports,Deps,TestImports,XTestImports", "./...")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, stderr.String())
	}
	var pkgs []listed
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var pkg listed
		err := dec.Decode(&pkg)
		if errors.Is(err, io.EOF) {
			return pkgs, nil
		}
		if err != nil {
			return nil, err
		}
		pkgs = append(pkgs, pkg)
	}
}

func importProblems(pkgs []listed) []string {
	var problems []string
	addf := func(format string, a ...any) { problems = append(problems, fmt.Sprintf(format, a...)) }

	for _, pkg := range pkgs {
		name, _ := ours(pkg.ImportPath)
		if name == "." { // These tests.
			continue
		}
		own := layerOf(name)
		if own == nil {
			addf("%s is in no layer: packages live where DESIGN says", name)
			continue
		}
		for _, path := range pkg.Imports {
			if to, ok := ours(path); ok && !own.mayImport(to) {
				addf("%s imports %s, against the direction of imports", name, to)
			}
		}
		for _, path := range slices.Concat(pkg.TestImports, pkg.XTestImports) {
			if to, ok := ours(path); ok && !own.testsMayImport(to) {
				addf("%s imports %s in a test, against the direction of imports", name, to)
			}
		}
		for _, path := range pkg.Deps {
			if slices.ContainsFunc(own.unreachable, func(p string) bool { return within(path, p) }) {
				addf("%s reaches %s", name, path)
			}
		}
	}
	return problems
}

func (l *layer) mayImport(name string) bool {
	to := layerOf(name)
	return to != nil && (to.dir == l.dir || slices.Contains(l.imports, to.dir))
}

func (l *layer) testsMayImport(name string) bool {
	to := layerOf(name)
	return to != nil && (l.tests == nil || l.mayImport(name) || slices.Contains(l.tests, to.dir))
}

// ours returns the path below the module, "." for the module's own directory,
// and whether the package is the module's.
func ours(importPath string) (string, bool) {
	if importPath == modulePath {
		return ".", true
	}
	return strings.CutPrefix(importPath, modulePath+"/")
}

func layerOf(name string) *layer {
	var found *layer
	for i := range layers {
		if l := &layers[i]; within(name, l.dir) && (found == nil || len(l.dir) > len(found.dir)) {
			found = l
		}
	}
	return found
}

// within reports whether path is dir or below it.
func within(path, dir string) bool {
	return path == dir || strings.HasPrefix(path, dir+"/")
}

func TestImportProblems(t *testing.T) {
	t.Parallel()

	const m = modulePath + "/"
	for _, tt := range []struct {
		name string
		pkg  listed
		want []string
	}{
		{
			name: "leftward imports",
			pkg:  listed{ImportPath: m + "runner", Imports: []string{"fmt", m + "jobs", m + "runner/internal/store"}},
		},
		{
			name: "rightward import",
			pkg:  listed{ImportPath: m + "breaker", Imports: []string{m + "jobs", m + "sfapi"}},
			want: []string{"breaker imports jobs, against the direction of imports"},
		},
		{
			name: "rightward import below a layer",
			pkg:  listed{ImportPath: m + "sfapi/internal/soql", Imports: []string{m + "runner/internal/store"}},
			want: []string{"sfapi/internal/soql imports runner/internal/store, against the direction of imports"},
		},
		{
			name: "one dialect imports the other",
			pkg:  listed{ImportPath: m + "runner/runnerpgx", Imports: []string{m + "runner/runnersqlite"}},
			want: []string{"runner/runnerpgx imports runner/runnersqlite, against the direction of imports"},
		},
		{
			name: "simulated org imports the client",
			pkg:  listed{ImportPath: m + "sfapi/sftest", Imports: []string{m + "sfapi"}},
			want: []string{"sfapi/sftest imports sfapi, against the direction of imports"},
		},
		{
			name: "simulated org's tests import the client",
			pkg:  listed{ImportPath: m + "sfapi/sftest", XTestImports: []string{m + "sfapi", m + "sfapi/sftest"}},
			want: []string{"sfapi/sftest imports sfapi in a test, against the direction of imports"},
		},
		{
			name: "client's tests import the simulated org, its code does not",
			pkg: listed{
				ImportPath: m + "sfapi", Imports: []string{m + "sfapi/sftest"},
				XTestImports: []string{m + "sfapi", m + "sfapi/sftest", m + "runner"},
			},
			want: []string{
				"sfapi imports sfapi/sftest, against the direction of imports",
				"sfapi imports runner in a test, against the direction of imports",
			},
		},
		{
			name: "Examples for jobs use a runner",
			pkg:  listed{ImportPath: m + "jobs", XTestImports: []string{m + "runner", m + "runner/runnersqlite"}},
		},
		{
			name: "code imports what is for tests",
			pkg:  listed{ImportPath: m + "runner/runnerpgx", Imports: []string{m + "runner/internal/pgtest"}},
			want: []string{"runner/runnerpgx imports runner/internal/pgtest, against the direction of imports"},
		},
		{
			name: "client reaches River and SQL through another module",
			pkg: listed{ImportPath: m + "sfapi", Imports: []string{"example.com/x"}, Deps: []string{
				"database/sql", "database/sqlite", "example.com/x", "github.com/riverqueue/river",
			}},
			want: []string{"sfapi reaches database/sql", "sfapi reaches github.com/riverqueue/river"},
		},
		{
			name: "runner reaches a driver through another module",
			pkg: listed{ImportPath: m + "runner", Deps: []string{
				"database/sql", "github.com/jackc/pgx/v5", "github.com/riverqueue/river", "modernc.org/sqlite",
			}},
			want: []string{"runner reaches github.com/jackc/pgx/v5", "runner reaches modernc.org/sqlite"},
		},
		{
			name: "package outside of the layout",
			pkg:  listed{ImportPath: m + "sfapix"},
			want: []string{"sfapix is in no layer: packages live where DESIGN says"},
		},
		{
			name: "import from outside of the layout",
			pkg:  listed{ImportPath: m + "examples/quickstart", Imports: []string{m + "internal/x"}},
			want: []string{"examples/quickstart imports internal/x, against the direction of imports"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()

			if diff := cmp.Diff(tt.want, importProblems([]listed{tt.pkg})); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
		})
	}
}

func TestTopLevel(t *testing.T) {
	t.Parallel()

	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if name := e.Name(); strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, "_test.go") {
			t.Errorf("%s makes a package of the module's own directory", name)
		}
	}
}
