package cluster

import (
	"cmp"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// ErrNoServer is returned when no PostgreSQL server programs are on this
// machine.
var ErrNoServer = errors.New("no PostgreSQL server programs (initdb, pg_ctl, postgres) found")

// serverPrograms are what a cluster is made and run with. A directory that
// lacks one of them is a client-only installation, such as Debian's /usr/bin.
var serverPrograms = []string{"initdb", "pg_ctl", "postgres"}

// installDirs are the places, as glob patterns below the root directory, where
// packagers put server programs outside of PATH.
var installDirs = []string{
	"usr/lib/postgresql/*/bin",                               // Debian, Ubuntu
	"usr/pgsql-*/bin",                                        // PGDG on Fedora and RHEL
	"opt/homebrew/opt/postgresql@*/bin",                      // Homebrew on Apple silicon
	"usr/local/opt/postgresql@*/bin",                         // Homebrew on Intel
	"Applications/Postgres.app/Contents/Versions/[0-9]*/bin", // Postgres.app
}

// FindBinaries returns the directory that holds the server programs: the first
// such directory on PATH, otherwise the newest version in the places where
// Debian, PGDG, Homebrew and Postgres.app put it. The error is ErrNoServer.
func FindBinaries() (string, error) {
	return findBinaries("/", os.Getenv("PATH"))
}

func findBinaries(root, pathList string) (string, error) {
	for _, dir := range filepath.SplitList(pathList) {
		// A relative entry would mean something else in the cluster's own
		// working directory.
		if filepath.IsAbs(dir) && hasServerPrograms(dir) {
			return dir, nil
		}
	}

	for _, pattern := range installDirs {
		dirs, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			return "", err
		}
		slices.SortFunc(dirs, func(a, b string) int { return cmp.Compare(majorVersion(b), majorVersion(a)) })
		if i := slices.IndexFunc(dirs, hasServerPrograms); i >= 0 {
			return dirs[i], nil
		}
	}
	return "", ErrNoServer
}

func hasServerPrograms(dir string) bool {
	for _, name := range serverPrograms {
		if runtime.GOOS == "windows" {
			name += ".exe"
		}
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.IsDir() {
			return false
		}
	}
	return true
}

// majorVersion reads the version from the name of the directory above bin:
// "15", "pgsql-17", "postgresql@16". It is 0 when there is none, so that an
// unnumbered directory such as Postgres.app's "latest" comes last.
func majorVersion(binDir string) int {
	name := filepath.Base(filepath.Dir(binDir))
	digits := strings.TrimLeft(name, "abcdefghijklmnopqrstuvwxyz-@")
	version, err := strconv.Atoi(digits)
	if err != nil {
		return 0
	}
	return version
}
