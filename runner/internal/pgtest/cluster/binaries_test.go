package cluster_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weirhq/weir/runner/internal/pgtest/cluster"
)

func TestFindBinaries(t *testing.T) {
	t.Parallel()

	server := []string{"initdb", "pg_ctl", "postgres", "psql"}
	for _, tt := range []struct {
		name string
		tree map[string][]string // Directory to its programs.
		path []string
		want string // Empty when none is expected.
	}{
		{name: "nothing installed"},
		{
			name: "first complete directory on PATH wins over newer ones elsewhere",
			tree: map[string][]string{
				"client/bin":                 {"psql", "pg_ctl"},
				"usr/lib/postgresql/18/bin":  server,
				"home/me/postgresql/bin":     server,
				"home/me/postgresql-old/bin": server,
			},
			path: []string{"client/bin", "home/me/postgresql/bin", "home/me/postgresql-old/bin"},
			want: "home/me/postgresql/bin",
		},
		{
			name: "Debian's newest, compared as numbers",
			tree: map[string][]string{
				"usr/bin":                    {"psql"},
				"usr/lib/postgresql/9.6/bin": server,
				"usr/lib/postgresql/14/bin":  server,
				"usr/lib/postgresql/16/bin":  server,
			},
			path: []string{"usr/bin"},
			want: "usr/lib/postgresql/16/bin",
		},
		{
			name: "a newer version without its server is passed over",
			tree: map[string][]string{
				"usr/lib/postgresql/17/bin": {"psql", "pg_dump"},
				"usr/lib/postgresql/15/bin": server,
			},
			want: "usr/lib/postgresql/15/bin",
		},
		{
			name: "Homebrew on Apple silicon",
			tree: map[string][]string{
				"opt/homebrew/opt/postgresql@9/bin":  server,
				"opt/homebrew/opt/postgresql@17/bin": server,
			},
			want: "opt/homebrew/opt/postgresql@17/bin",
		},
		{
			name: "Homebrew on Intel",
			tree: map[string][]string{"usr/local/opt/postgresql@18/bin": server},
			want: "usr/local/opt/postgresql@18/bin",
		},
		{
			name: "Postgres.app",
			tree: map[string][]string{
				"Applications/Postgres.app/Contents/Versions/16/bin": server,
				"Applications/Postgres.app/Contents/Versions/18/bin": server,
			},
			want: "Applications/Postgres.app/Contents/Versions/18/bin",
		},
		{
			name: "PGDG on Fedora",
			tree: map[string][]string{"usr/pgsql-17/bin": server, "usr/pgsql-18/bin": server},
			want: "usr/pgsql-18/bin",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()

			root := t.TempDir()
			for dir, programs := range tt.tree {
				for _, program := range programs {
					writeProgram(t, filepath.Join(root, dir, program))
				}
			}
			path := []string{"", "relative/bin"}
			for _, dir := range tt.path {
				path = append(path, filepath.Join(root, dir))
			}

			got, err := cluster.FindBinariesIn(root, strings.Join(path, string(os.PathListSeparator)))
			if tt.want == "" {
				if !errors.Is(err, cluster.ErrNoServer) {
					t.Fatalf("got %q, %v; want ErrNoServer", got, err)
				}
				return
			}
			if want := filepath.Join(root, tt.want); err != nil || got != want {
				t.Fatalf("got %q, %v; want %q", got, err, want)
			}
		})
	}
}

func writeProgram(t *testing.T, path string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
}
