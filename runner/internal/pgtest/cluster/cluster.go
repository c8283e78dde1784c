// Package cluster runs a throwaway PostgreSQL server for tests.
//
// A cluster belongs to the process that started it and ends with it, however
// that process ends: a small shell process starts the server, waits on a pipe
// whose other end only the owner holds, and removes everything when the pipe
// closes. The kernel closes it for an owner that was killed with SIGKILL too.
//
// The package uses the standard library only, so that the command that runs
// tests with a server builds without any other module.
package cluster

import (
	"context"
	"crypto/rand"
	_ "embed" // For the keeper's script.
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// startAttempts is how often Start tries: another process may take the free
// port between its choice and the server's start.
const startAttempts = 3

// maxReportBytes bounds how much of a failed start's log becomes an error.
const maxReportBytes = 64 << 10

//go:embed keeper.sh
var keeperScript string

// Config says how a cluster is started. The zero value is ready for use.
type Config struct {
	// BinDir is the directory of the server programs. Defaults to what
	// FindBinaries finds.
	BinDir string

	// Durable makes the server flush its write-ahead log to disk, as a
	// production server does. Benchmarks want it. Defaults to false: the files
	// are thrown away, and what tests kill are processes, not the operating
	// system, so a flush would cost time and prove nothing.
	Durable bool

	// StartTimeout bounds the start, initdb included. Defaults to 2 minutes.
	StartTimeout time.Duration
}

// Cluster is a running server. Its methods are safe for concurrent use.
//
// The server stops when the Cluster is closed, when it is garbage, and when
// the process ends, so hold on to it for as long as it is needed.
type Cluster struct {
	url    string
	keeper *exec.Cmd
	pipe   *os.File // The keeper waits for its end.
}

// Start makes a cluster in a temporary directory, starts its server on a free
// port of the loopback interface, and returns when it accepts connections.
// cfg may be nil. The error is ErrNoServer when there are no server programs.
//
// PostgreSQL refuses to run as root, so root's clusters run as the user
// postgres where it exists, otherwise as nobody.
func Start(ctx context.Context, cfg *Config) (*Cluster, error) {
	if cfg == nil {
		cfg = &Config{}
	}
	binDir := cfg.BinDir
	if binDir == "" {
		var err error
		if binDir, err = FindBinaries(); err != nil {
			return nil, err
		}
	}
	timeout := cfg.StartTimeout
	if timeout == 0 {
		timeout = 2 * time.Minute
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()

	var err error
	for range startAttempts {
		var c *Cluster
		if c, err = start(ctx, binDir, cfg.Durable); err == nil {
			return c, nil
		}
		if ctx.Err() != nil || !strings.Contains(err.Error(), "Address already in use") {
			break
		}
	}
	return nil, fmt.Errorf("start PostgreSQL from %s: %w", binDir, err)
}

// URL returns the address of the server's database "postgres", password
// included, for a superuser.
func (c *Cluster) URL() string { return c.url }

// Close stops the server, removes its files, and returns when both are done.
func (c *Cluster) Close() error {
	if err := c.pipe.Close(); err != nil {
		if errors.Is(err, os.ErrClosed) {
			return nil
		}
		return fmt.Errorf("stop PostgreSQL: %w", err)
	}
	if err := c.keeper.Wait(); err != nil {
		return fmt.Errorf("stop PostgreSQL: %w", err)
	}
	return nil
}

func start(ctx context.Context, binDir string, durable bool) (_ *Cluster, err error) {
	port, err := freePort(ctx)
	if err != nil {
		return nil, err
	}
	owner, err := serverAccount()
	if err != nil {
		return nil, err
	}
	dir, err := makeDir(owner)
	if err != nil {
		return nil, err
	}
	// Once it runs, the keeper removes the directory.
	keeperRuns := false
	defer func() {
		if !keeperRuns {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}()

	// Any local user can reach a loopback port, and a superuser of PostgreSQL
	// can run programs: without a password this would be a way into the
	// account that runs the tests.
	password := rand.Text()
	passwordFile := filepath.Join(dir, "password")
	if err := os.WriteFile(passwordFile, []byte(password+"\n"), 0o600); err != nil {
		return nil, err
	}
	if err := owner.own(dir, passwordFile); err != nil {
		return nil, err
	}

	waitEnd, pipe, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer waitEnd.Close()
	report, reportEnd, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, pipe.Close())
	}
	defer report.Close()

	flush := "off"
	if durable {
		flush = "on"
	}
	//nolint:noctx // The end of ctx must not kill the one that tidies up.
	keeper := exec.Command("/bin/sh", "-c", keeperScript, "keeper", binDir, dir, strconv.Itoa(port), flush)
	keeper.Dir = dir // The caller's directory may be closed to the server's user.
	keeper.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "HOME=" + dir}
	// Files, not readers and writers: they need no goroutines to copy, and no
	// descriptor of ours stays open in the server. `go test` waits for those
	// that hold its output.
	keeper.Stdin, keeper.Stdout = waitEnd, reportEnd
	keeper.SysProcAttr = owner.process()
	err = keeper.Start()
	reportEnd.Close()
	if err != nil {
		return nil, errors.Join(err, pipe.Close())
	}
	keeperRuns = true

	c := &Cluster{
		url: (&url.URL{
			Scheme:   "postgres",
			User:     url.UserPassword("postgres", password),
			Host:     net.JoinHostPort("127.0.0.1", strconv.Itoa(port)),
			Path:     "/postgres",
			RawQuery: "sslmode=disable",
		}).String(),
		keeper: keeper,
		pipe:   pipe,
	}
	if err := awaitReady(ctx, report); err != nil {
		// The keeper has said why already, so its exit status adds nothing.
		_ = c.Close()
		return nil, err
	}
	return c, nil
}

// awaitReady reads the keeper's report, which is the word ready, or what went
// wrong and then the end of the file.
func awaitReady(ctx context.Context, report *os.File) error {
	stop := context.AfterFunc(ctx, func() { _ = report.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()

	const ready = "ready\n"
	text := make([]byte, len(ready))
	n, err := io.ReadFull(report, text)
	if string(text[:n]) == ready {
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	rest, err := io.ReadAll(io.LimitReader(report, maxReportBytes))
	if err != nil {
		return err
	}
	return errors.New(strings.TrimSpace(string(text[:n]) + string(rest)))
}

func freePort(ctx context.Context) (int, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp4", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	port := l.Addr().(*net.TCPAddr).Port
	return port, l.Close()
}

// makeDir makes the cluster's directory where the account can reach it: root's
// TMPDIR may lie below a directory that is root's alone.
func makeDir(owner *account) (string, error) {
	parent := os.TempDir()
	if owner.other() && !openToAll(parent) {
		parent = "/tmp"
	}
	return os.MkdirTemp(parent, "weir-postgres-")
}

// openToAll reports whether any user may pass through dir and those above it.
func openToAll(dir string) bool {
	for {
		info, err := os.Stat(dir)
		if err != nil || info.Mode().Perm()&0o001 == 0 {
			return false
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return true
		}
		dir = parent
	}
}
