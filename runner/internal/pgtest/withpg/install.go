package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

// errNoApt is returned where packages cannot be installed unasked: not root, or
// no apt-get.
var errNoApt = errors.New("cannot install packages here")

// createClusterDir holds settings for what Debian's PostgreSQL packages do when
// they are installed.
const createClusterDir = "/etc/postgresql-common/createcluster.d"

// installPostgres installs the server programs where it can, and otherwise
// returns an error that says how to.
func installPostgres(ctx context.Context, say func(string, ...any)) error {
	err := withoutMainCluster(func() error {
		return aptInstall(ctx, say, "PostgreSQL", "postgresql")
	})
	if errors.Is(err, errNoApt) {
		return errors.New(howToGetPostgres(runtime.GOOS))
	}
	return err
}

func howToGetPostgres(goos string) string {
	install := "install the PostgreSQL 14+ server with your system's packages (Debian, Ubuntu: sudo apt-get install postgresql)"
	if goos == "darwin" {
		install = "brew install postgresql@18"
	}
	return "the tests need PostgreSQL, and no server programs (initdb, pg_ctl, postgres) were found. Either\n" +
		"  - " + install + ", or\n" +
		"  - set " + envVar + " to a server whose user may create databases, for example\n" +
		"    docker run --rm -e POSTGRES_PASSWORD=weir -p 127.0.0.1:5432:5432 postgres:18\n" +
		"    export " + envVar + "='postgres://postgres:weir@127.0.0.1:5432/postgres?sslmode=disable'"
}

// withoutMainCluster runs install while Debian's packages are told not to
// create and start a cluster of the machine's own, which nobody asked for.
func withoutMainCluster(install func() error) (err error) {
	if !canApt() {
		return install()
	}
	if err := os.MkdirAll(createClusterDir, 0o755); err != nil {
		return err
	}
	file := filepath.Join(createClusterDir, "weir-tests.conf")
	if err := os.WriteFile(file, []byte("create_main_cluster = false\n"), 0o644); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(file)) }()
	return install()
}

func canApt() bool {
	_, err := exec.LookPath("apt-get")
	return err == nil && os.Geteuid() == 0
}

// aptInstall installs Debian packages, after saying so. The error is errNoApt
// where that is not possible.
func aptInstall(ctx context.Context, say func(string, ...any), what string, packages ...string) error {
	if !canApt() {
		return errNoApt
	}
	say("%s is missing: apt-get install %s", what, strings.Join(packages, " "))
	for _, args := range [][]string{
		{"update", "-qq"},
		append([]string{"install", "-y", "-qq", "--no-install-recommends"}, packages...),
	} {
		cmd := exec.CommandContext(ctx, "apt-get", args...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("apt-get %s: %w\n%s", args[0], err, out)
		}
	}
	return nil
}
