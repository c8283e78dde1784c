package cluster_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/weirhq/weir/runner/internal/pgtest/cluster"
)

// ownerVar makes the test program start a cluster, print its address and wait
// for its own death.
const ownerVar = "WEIR_CLUSTER_TEST_OWNER"

func TestMain(m *testing.M) {
	if os.Getenv(ownerVar) == "" {
		os.Exit(m.Run())
	}
	c, err := cluster.Start(context.Background(), nil)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(c.URL())
	select {}
}

func TestStart(t *testing.T) {
	t.Parallel()

	c, err := cluster.Start(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := setting(t, c.URL(), "fsync"); got != "off" {
		t.Errorf("fsync is %s, want off", got)
	}
	if got := setting(t, c.URL(), "synchronous_commit"); got != "on" {
		t.Errorf("synchronous_commit is %s, want on", got)
	}

	wrong := withPassword(t, c.URL(), "guess")
	if conn, err := pgx.Connect(t.Context(), wrong); err == nil {
		_ = conn.Close(t.Context())
		t.Error("connected with a wrong password")
	}

	dir := filepath.Dir(setting(t, c.URL(), "data_directory"))
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("files of the closed cluster: %v, want none", err)
	}
	if !refused(t, c.URL()) {
		t.Error("the closed cluster's server still listens")
	}
}

func TestStartDurable(t *testing.T) {
	t.Parallel()

	c, err := cluster.Start(t.Context(), &cluster.Config{Durable: true})
	if err != nil {
		t.Fatal(err)
	}
	if got := setting(t, c.URL(), "fsync"); got != "on" {
		t.Errorf("fsync is %s, want on", got)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
}

// A killed owner runs no clean-up of its own, which is what the keeper is for.
func TestClusterEndsWithKilledOwner(t *testing.T) {
	t.Parallel()

	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	owner := exec.Command(exe)
	owner.Env = append(os.Environ(), ownerVar+"=1")
	out, err := owner.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := owner.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	if !lines.Scan() || !strings.HasPrefix(lines.Text(), "postgres://") {
		t.Fatalf("owner said %q, want an address", lines.Text())
	}
	address := lines.Text()
	conn, err := pgx.Connect(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Dir(setting(t, address, "data_directory"))

	if err := owner.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = owner.Wait() // It reports the kill.

	// The server's death ends this wait with an error; a server that lives
	// leaves it to the deadline.
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, waitErr := conn.WaitForNotification(ctx)
	if ctx.Err() != nil {
		t.Fatalf("the server outlived its owner by a minute: %v", waitErr)
	}
	awaitGone(t, dir)
}

func TestStartReportsWhy(t *testing.T) {
	t.Parallel()

	binDir := openDir(t)
	for name, script := range map[string]string{
		"initdb":   "#!/bin/sh\necho 'initdb: no space left'\nexit 1\n",
		"pg_ctl":   "#!/bin/sh\nexit 1\n",
		"postgres": "#!/bin/sh\nexit 1\n",
	} {
		if err := os.WriteFile(filepath.Join(binDir, name), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	_, err := cluster.Start(t.Context(), &cluster.Config{BinDir: binDir})
	if want := "start PostgreSQL from " + binDir + ": initdb: no space left"; err == nil || err.Error() != want {
		t.Fatalf("got error %v, want %s", err, want)
	}
}

func TestStartStopsWithContext(t *testing.T) {
	t.Parallel()

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := cluster.Start(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Fatalf("got error %v, want context.Canceled", err)
	}
}

func TestOpenToAll(t *testing.T) {
	t.Parallel()

	open := openDir(t)
	closed := filepath.Join(open, "closed")
	below := filepath.Join(closed, "below")
	if err := os.MkdirAll(below, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	for dir, want := range map[string]bool{open: true, closed: false, below: false, filepath.Join(open, "none"): false} {
		if got := cluster.OpenToAll(dir); got != want {
			t.Errorf("OpenToAll(%s) = %t, want %t", dir, got, want)
		}
	}
}

// openDir returns a new directory that every user may enter, as t.TempDir's
// are not.
func openDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "weir-cluster-test-") //nolint:usetesting // See above.
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func setting(t *testing.T, address, name string) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	var value string
	if err := conn.QueryRow(t.Context(), "SELECT current_setting($1)", name).Scan(&value); err != nil {
		t.Fatal(err)
	}
	return value
}

func withPassword(t *testing.T, address, password string) string {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(u.User.Username(), password)
	return u.String()
}

func refused(t *testing.T, address string) bool {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.DialTimeout("tcp", u.Host, 10*time.Second)
	if err != nil {
		return true
	}
	_ = conn.Close()
	return false
}

// awaitGone waits until dir does not exist. The keeper, an orphan by then, has
// nobody to tell, so this looks again and again.
func awaitGone(t *testing.T, dir string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%s is still there a minute after its owner's death", dir)
		}
	}
}
