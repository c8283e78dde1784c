package main_test

import (
	"bufio"
	"errors"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	main "github.com/weirhq/weir/runner/internal/pgtest/withpg"
)

// actVar makes the test program be the command.
const actVar = "WEIR_WITHPG_TEST_ACT"

func TestMain(m *testing.M) {
	if os.Getenv(actVar) != "" {
		main.Main() // It exits.
	}
	os.Exit(m.Run())
}

// withpg returns the command in a new tree of the given modules. server is the
// value of TEST_DATABASE_URL, empty for a throwaway server.
func withpg(t *testing.T, server string, moduleDirs []string, args ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, args...)
	cmd.Dir = t.TempDir()
	for _, dir := range moduleDirs {
		writeFile(t, filepath.Join(cmd.Dir, dir, "go.mod"), "module example.com/"+dir+"\n")
	}
	cmd.Env = append(os.Environ(), actVar+"=1", "TEST_DATABASE_URL="+server)
	return cmd
}

func TestRunsInEachModuleAndReturnsTheWorstStatus(t *testing.T) {
	t.Parallel()

	const server = "postgres://given"
	cmd := withpg(t, server, []string{".", "nested"}, "sh", "-c",
		`echo "${PWD##*/} $TEST_DATABASE_URL"; test -d nested && exit 3; exit 0`)
	out, err := cmd.Output()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 3 {
		t.Fatalf("got %v, want exit status 3", err)
	}
	want := filepath.Base(cmd.Dir) + " " + server + "\nnested " + server + "\n"
	if diff := cmp.Diff(want, string(out)); diff != "" {
		t.Errorf("output (-want +got):\n%s", diff)
	}
	for _, line := range []string{
		"withpg: using the server of TEST_DATABASE_URL\n",
		"withpg: in nested: sh -c ",
	} {
		if !strings.Contains(string(exit.Stderr), line) {
			t.Errorf("said %q, want %q in it", exit.Stderr, line)
		}
	}
}

func TestThrowawayServerEndsWithTheCommand(t *testing.T) {
	t.Parallel()

	out, err := withpg(t, "", []string{"."}, "sh", "-c", `echo "$TEST_DATABASE_URL"`).Output()
	if err != nil {
		t.Fatal(err)
	}
	if address := strings.TrimSpace(string(out)); !refused(t, address) {
		t.Errorf("%s still answers", address)
	}
}

func TestSignalEndsCommandAndServer(t *testing.T) {
	t.Parallel()

	// The background child would outlive a signal to the shell alone, and keep
	// the pipe open.
	cmd := withpg(t, "", []string{"."}, "sh", "-c", `echo "$TEST_DATABASE_URL"; sleep 1000 & wait`)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	if !lines.Scan() {
		t.Fatalf("no output: %v", lines.Err())
	}
	address := lines.Text()
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	for lines.Scan() { // Until everything that holds the pipe has ended.
	}
	if err := cmd.Wait(); err == nil {
		t.Error("exit status 0 after a signal")
	}
	if !refused(t, address) {
		t.Errorf("%s still answers", address)
	}
}

func TestRaceGoesWithoutCgo(t *testing.T) {
	t.Parallel()

	cmd := withpg(t, "postgres://given", []string{"."}, "echo", "test", "-race", "./...")
	cmd.Env = append(cmd.Env, "CGO_ENABLED=0")
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	if got, want := string(out), "test ./...\n"; got != want {
		t.Errorf("ran with %q, want %q", got, want)
	}
	if want := "withpg: RUNNING WITHOUT -race: CGO_ENABLED is 0\n"; !strings.Contains(said.String(), want) {
		t.Errorf("said %q, want %q in it", said.String(), want)
	}
}

func TestWrongUse(t *testing.T) {
	t.Parallel()

	for _, tt := range []struct {
		name    string
		modules []string
		args    []string
		status  int
	}{
		{name: "no command", modules: []string{"."}, status: 2},
		{name: "unknown flag", modules: []string{"."}, args: []string{"-fast", "true"}, status: 2},
		{name: "no module", args: []string{"true"}, status: 1},
		{name: "no such command", modules: []string{"."}, args: []string{"./none"}, status: 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()

			err := withpg(t, "postgres://given", tt.modules, tt.args...).Run()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.ExitCode() != tt.status {
				t.Errorf("got %v, want exit status %d", err, tt.status)
			}
		})
	}
}

func TestModules(t *testing.T) {
	t.Parallel()

	root := t.TempDir()
	for _, dir := range []string{".", "a/b", "c", ".cache/m", "_old", "x/testdata/m", "web/node_modules/m", "vendor/m"} {
		writeFile(t, filepath.Join(root, dir, "go.mod"), "module m\n")
	}
	got, err := main.Modules(root)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{root, filepath.Join(root, "a/b"), filepath.Join(root, "c")}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("modules (-want +got):\n%s", diff)
	}
}

func TestHowToGetPostgres(t *testing.T) {
	t.Parallel()

	for goos, want := range map[string]string{
		"linux":  "sudo apt-get install postgresql",
		"darwin": "brew install postgresql@18",
	} {
		got := main.HowToGetPostgres(goos)
		if !strings.Contains(got, want) || !strings.Contains(got, "TEST_DATABASE_URL") {
			t.Errorf("on %s: got %q, want %q and the variable in it", goos, got, want)
		}
	}
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func refused(t *testing.T, address string) bool {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		t.Fatalf("got address %q, %v", address, err)
	}
	conn, err := net.DialTimeout("tcp", u.Host, 10*time.Second)
	if err != nil {
		return true
	}
	_ = conn.Close()
	return false
}
