package weir_test

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

// maxLines is where a file is too long: it holds more than one noun.
const maxLines = 500

// emptyNames say nothing of what a package or a file provides.
var emptyNames = []string{"common", "helper", "helpers", "model", "models", "util", "utils"}

func TestSource(t *testing.T) {
	t.Parallel()

	problems, err := sourceProblems(os.DirFS("."))
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range problems {
		t.Error(problem)
	}
}

// sourceProblems reads each Go file of a tree. As a by-product the go command
// sees these tests open every file, and does not answer them from its cache
// when one has changed.
func sourceProblems(tree fs.FS) ([]string, error) {
	var problems []string
	addf := func(format string, a ...any) { problems = append(problems, fmt.Sprintf(format, a...)) }
	comments := map[string][]string{} // The files with a package comment, by directory.

	err := fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		base := path.Base(name)
		if d.IsDir() {
			if base == "testdata" || base == "node_modules" || base != "." && strings.HasPrefix(base, ".") {
				return fs.SkipDir
			}
			if slices.Contains(emptyNames, base) {
				addf("%s: the name says nothing", name)
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}

		src, err := fs.ReadFile(tree, name)
		if err != nil {
			return err
		}
		if lines := bytes.Count(src, []byte("\n")); lines >= maxLines {
			addf("%s: has %d lines, the limit is %d", name, lines, maxLines-1)
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, src, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		stem := strings.TrimSuffix(strings.TrimSuffix(base, ".go"), "_test")
		if slices.Contains(emptyNames, stem) || slices.Contains(emptyNames, strings.TrimSuffix(file.Name.Name, "_test")) {
			addf("%s: the name of the file or of its package says nothing", name)
		}

		if strings.HasSuffix(name, "_test.go") {
			for _, call := range forbiddenInTests(file) {
				addf("%s: calls %s", name, call)
			}
			return nil
		}
		dir := path.Dir(name)
		if _, ok := comments[dir]; !ok {
			comments[dir] = nil
		}
		if file.Doc != nil {
			comments[dir] = append(comments[dir], base)
			text := file.Doc.Text()
			if pkg := file.Name.Name; pkg != "main" && !strings.HasPrefix(text, "Package "+pkg+" ") {
				addf("%s: the package comment does not begin with Package %s", name, pkg)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}

	for _, dir := range slices.Sorted(maps.Keys(comments)) {
		if files := comments[dir]; len(files) != 1 {
			addf("%s: has %d package comments %v, want one", dir, len(files), files)
		}
	}
	return problems, nil
}

// forbiddenInTests returns the calls in a test file that make it slow and
// flaky, or that hide that it did not run. A file that works in testing/synctest
// bubbles, by itself or through a function inBubble of its package, may sleep:
// time there passes at once.
func forbiddenInTests(file *ast.File) []string {
	var calls []string
	bubbles := slices.ContainsFunc(file.Imports, func(i *ast.ImportSpec) bool { return i.Path.Value == `"testing/synctest"` })
	ast.Inspect(file, func(n ast.Node) bool {
		if call, ok := n.(*ast.CallExpr); ok {
			if name, ok := call.Fun.(*ast.Ident); ok && name.Name == "inBubble" {
				bubbles = true
			}
		}
		return true
	})
	ast.Inspect(file, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		sel, ok := call.Fun.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		on, ok := sel.X.(*ast.Ident)
		if !ok {
			return true
		}
		name := sel.Sel.Name
		sleeps := on.Name == "time" && name == "Sleep" && !bubbles
		skips := slices.Contains([]string{"t", "tb", "b", "f"}, on.Name) &&
			slices.Contains([]string{"Skip", "Skipf", "SkipNow"}, name)
		if sleeps || skips {
			calls = append(calls, on.Name+"."+name)
		}
		return true
	})
	return calls
}

func TestSourceProblems(t *testing.T) {
	t.Parallel()

	const good = "// Package a provides a.\npackage a\n"
	for _, tt := range []struct {
		name  string
		files map[string]string
		want  []string
	}{
		{
			name: "nothing wrong",
			files: map[string]string{
				"a/a.go":              good,
				"a/b.go":              "package a\n",
				"a/a_test.go":         "package a_test\n\nfunc f() { s.Skip(); clock.Sleep(); t.Run() }\n",
				"a/b_test.go":         "package a_test\n\nimport \"testing/synctest\"\n\nfunc g() { time." + "Sleep(1) }\n",
				"a/testdata/bad.go":   "not Go",
				"cmd/main.go":         "// Command cmd does it.\npackage main\n",
				".cache/models/a.go":  "not Go",
				"a/README.md":         "text",
				"tests/only_test.go":  "package tests_test\n",
				"a/util.txt":          "text",
				"a/unhelpful/file.go": "// Package unhelpful is named well enough.\npackage unhelpful\n",
			},
		},
		{
			name:  "no package comment",
			files: map[string]string{"a/a.go": "package a\n", "a/a_test.go": "// Package a_test is no comment of a.\npackage a_test\n"},
			want:  []string{"a: has 0 package comments [], want one"},
		},
		{
			name:  "a comment that a blank line parts from its package",
			files: map[string]string{"a/a.go": "// Package a provides a.\n\npackage a\n"},
			want:  []string{"a: has 0 package comments [], want one"},
		},
		{
			name:  "two package comments",
			files: map[string]string{"a/a.go": good, "a/doc.go": good},
			want:  []string{"a: has 2 package comments [a.go doc.go], want one"},
		},
		{
			name:  "comment of another package",
			files: map[string]string{"b/b.go": "// Package a provides a.\npackage b\n"},
			want:  []string{"b/b.go: the package comment does not begin with Package b"},
		},
		{
			name:  "empty names",
			files: map[string]string{"util/x.go": "// Package x is x.\npackage x\n", "a/a.go": good, "a/helpers_test.go": "package a_test\n"},
			want: []string{
				"a/helpers_test.go: the name of the file or of its package says nothing",
				"util: the name says nothing",
			},
		},
		{
			name:  "empty package name",
			files: map[string]string{"a/a.go": "// Package models is a.\npackage models\n"},
			want:  []string{"a/a.go: the name of the file or of its package says nothing"},
		},
		{
			name: "length",
			files: map[string]string{
				"a/a.go":    good + strings.Repeat("\n", 497),
				"a/long.go": "package a\n" + strings.Repeat("\n", 499),
			},
			want: []string{"a/long.go: has 500 lines, the limit is 499"},
		},
		{
			name: "sleeping and skipping tests",
			files: map[string]string{
				"a/a.go": good,
				// In pieces, so that a search of the tree for such calls finds none.
				"a/a_test.go": "package a_test\n\nfunc f() {\n\ttime." + "Sleep(1)\n\tgo func() { t." + "Skipf(\"later\") }()\n\tb." + "SkipNow()\n}\n",
			},
			want: []string{"a/a_test.go: calls time.Sleep", "a/a_test.go: calls t.Skipf", "a/a_test.go: calls b.SkipNow"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()

			tree := fstest.MapFS{}
			for name, text := range tt.files {
				tree[name] = &fstest.MapFile{Data: []byte(text)}
			}
			got, err := sourceProblems(tree)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
		})
	}
}
