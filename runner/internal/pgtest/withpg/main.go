// Command withpg runs a command that needs a PostgreSQL server, usually go
// test, in each module of the tree below the current directory:
//
//	withpg [-durable] [--] command [argument ...]
//
// It sets TEST_DATABASE_URL for the command to a throwaway server, which it
// removes at the end, unless the variable is set already: then the command uses
// that server. Root on a Debian-like system gets what is missing, PostgreSQL
// or, for -race, a C compiler, through apt-get; anybody else is told how to.
//
// The exit status is the command's own, 1 where there is no server, and 2 for
// wrong usage.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/weirhq/weir/runner/internal/pgtest/cluster"
)

// envVar is pgtest.EnvVar. Importing pgtest would link package testing and pgx
// into this command.
const envVar = "TEST_DATABASE_URL"

// stopGrace is how long a command may take to end after it was told to.
const stopGrace = 15 * time.Second

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	status := run(ctx, os.Args[1:], os.Stderr)
	stop()
	os.Exit(status)
}

type options struct {
	durable bool
	command []string
}

func parse(args []string, log io.Writer) (*options, error) {
	o := &options{}
	flags := flag.NewFlagSet("withpg", flag.ContinueOnError)
	flags.SetOutput(log)
	flags.BoolVar(&o.durable, "durable", false, "flush the server's log to disk, as in production (for benchmarks)")
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	o.command = flags.Args()
	if len(o.command) == 0 {
		flags.Usage()
		return nil, errors.New("no command")
	}
	return o, nil
}

func run(ctx context.Context, args []string, log io.Writer) int {
	say := func(format string, a ...any) { fmt.Fprintf(log, "withpg: "+format+"\n", a...) }

	o, err := parse(args, log)
	if err != nil {
		return 2
	}
	dirs, err := modules(".")
	if err != nil {
		say("%v", err)
		return 1
	}
	command, err := withoutRaceIfImpossible(ctx, o.command, say)
	if err != nil {
		say("%v", err)
		return 1
	}

	env := os.Environ()
	var c *cluster.Cluster
	if os.Getenv(envVar) != "" {
		say("using the server of %s", envVar)
	} else {
		if c, err = startCluster(ctx, o.durable, say); err != nil {
			say("%v", err)
			return 1
		}
		env = append(env, envVar+"="+c.URL())
	}

	status := 0
	for _, dir := range dirs {
		if len(dirs) > 1 {
			say("in %s: %s", dir, strings.Join(command, " "))
		}
		// All modules run even when an earlier one fails, as `go test ./...`
		// goes on with the other packages.
		code, err := runCommand(ctx, dir, env, command)
		if err != nil {
			say("%v", err)
		}
		status = max(status, code)
		if ctx.Err() != nil {
			break
		}
	}

	if c != nil {
		if err := c.Close(); err != nil {
			say("%v", err)
			return max(status, 1)
		}
	}
	return status
}

func startCluster(ctx context.Context, durable bool, say func(string, ...any)) (*cluster.Cluster, error) {
	binDir, err := cluster.FindBinaries()
	if errors.Is(err, cluster.ErrNoServer) {
		if err := installPostgres(ctx, say); err != nil {
			return nil, err
		}
		binDir, err = cluster.FindBinaries()
	}
	if err != nil {
		return nil, err
	}
	began := time.Now()
	c, err := cluster.Start(ctx, &cluster.Config{BinDir: binDir, Durable: durable})
	if err != nil {
		return nil, err
	}
	say("started a throwaway PostgreSQL from %s in %.1f s", binDir, time.Since(began).Seconds())
	return c, nil
}

// runCommand runs the command in dir and returns its exit status. When ctx
// ends, the command and everything that it started is told to stop, and killed
// if it does not: `go test` alone would leave its test programs behind.
func runCommand(ctx context.Context, dir string, env, command []string) (int, error) {
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Dir = dir
	cmd.Env = env
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	group(cmd)
	cmd.WaitDelay = stopGrace

	err := cmd.Run()
	if ctx.Err() != nil {
		endGroup(cmd)
	}
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0, nil
	case errors.As(err, &exit) && exit.ExitCode() > 0:
		return exit.ExitCode(), nil
	default: // It did not start, or a signal ended it.
		return 1, fmt.Errorf("run %s in %s: %w", command[0], dir, err)
	}
}

// modules returns the directories at and below root that hold a go.mod, root's
// own first. Directories that the go command ignores are left out.
func modules(root string) ([]string, error) {
	var dirs []string
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() {
			if path != root && (strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") ||
				name == "testdata" || name == "vendor" || name == "node_modules") {
				return filepath.SkipDir
			}
			return nil
		}
		if name == "go.mod" {
			dirs = append(dirs, filepath.Dir(path))
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("look for modules: %w", err)
	}
	if len(dirs) == 0 {
		return nil, fmt.Errorf("no go.mod in %s or below", root)
	}
	slices.Sort(dirs) // WalkDir meets root's subdirectories before its go.mod.
	return dirs, nil
}
