package main_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/weirhq/weir/sfapi/sftest"
)

// patience bounds what a test waits for: a deadline for what never happens, not
// a measure of how fast things are.
const patience = 90 * time.Second

var binaries string // directory of the built programs

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "weir-service-test-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		binaries = dir
		for name, pkg := range map[string]string{"service": ".", "sftestd": "github.com/weirhq/weir/sfapi/sftest/sftestd"} {
			if out, err := exec.Command("go", "build", "-o", filepath.Join(dir, name), pkg).CombinedOutput(); err != nil {
				fmt.Fprintf(os.Stderr, "build %s: %v\n%s", name, err, out)
				return 1
			}
		}
		return m.Run()
	}())
}

// process is a program under test.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended

	mu  sync.Mutex
	log []string // of stderr
}

// launch starts a program; line is called with each line of its output until it
// returns false.
func launch(t *testing.T, name string, env []string, args []string, found func(line string) bool) *process {
	t.Helper()
	p := &process{cmd: exec.Command(filepath.Join(binaries, name), args...), done: make(chan struct{})}
	p.cmd.Env = env
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p.cmd.Stdout, p.cmd.Stderr = write, write
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = write.Close()
	ready := make(chan struct{})
	go func() {
		defer close(p.done)
		waiting := true
		for lines := bufio.NewScanner(read); lines.Scan(); {
			p.mu.Lock()
			p.log = append(p.log, lines.Text())
			p.mu.Unlock()
			if waiting && found(lines.Text()) {
				waiting = false
				close(ready)
			}
		}
		_ = p.cmd.Wait()
	}()
	t.Cleanup(func() {
		p.stop(t)
		if t.Failed() {
			p.mu.Lock()
			defer p.mu.Unlock()
			t.Logf("log of %s:\n%s", name, strings.Join(p.log, "\n"))
		}
	})
	select {
	case <-ready:
	case <-p.done:
		t.Fatalf("%s ended at once: %s", name, strings.Join(p.log, "\n"))
	case <-time.After(patience):
		t.Fatalf("%s did not begin", name)
	}
	return p
}

// stop ends a program as a supervisor does, and expects it to end well.
func (p *process) stop(t *testing.T) {
	t.Helper()
	select {
	case <-p.done:
		return
	default:
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
		if code := p.cmd.ProcessState.ExitCode(); code != 0 {
			t.Errorf("%s ended with %d after SIGTERM", filepath.Base(p.cmd.Path), code)
		}
	case <-time.After(20 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.done
		t.Errorf("%s did not end within the 15 seconds that it has after SIGTERM", filepath.Base(p.cmd.Path))
	}
}

// simulator is a simulated Salesforce in another process.
type simulator struct {
	url string
	org string // the id of its one org
}

func startSimulator(t *testing.T) *simulator {
	t.Helper()
	s := &simulator{}
	launch(t, "sftestd", os.Environ(), []string{"-listen", "127.0.0.1:0"}, func(line string) bool {
		s.url = strings.TrimSpace(line)
		return strings.HasPrefix(s.url, "http://")
	})
	var org struct {
		ID string `json:"id"`
	}
	s.control(t, "orgs", map[string]any{"config": map[string]any{"Name": "Acme"}}, &org)
	s.org = org.ID
	return s
}

// control calls the simulator's control API; without a body it asks.
func (s *simulator) control(t *testing.T, path string, body, into any) {
	t.Helper()
	method, encoded := http.MethodGet, []byte(nil)
	if body != nil {
		var err error
		if encoded, err = json.Marshal(body); err != nil {
			t.Fatal(err)
		}
		method = http.MethodPost
	}
	req, err := http.NewRequest(method, s.url+"/_sim/"+path, bytes.NewReader(encoded))
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	answer, _ := io.ReadAll(res.Body)
	if res.StatusCode != http.StatusOK {
		t.Fatalf("simulator: %s: %d %s", path, res.StatusCode, answer)
	}
	if into != nil {
		if err := json.Unmarshal(answer, into); err != nil {
			t.Fatalf("simulator: %s: %v in %s", path, err, answer)
		}
	}
}

func (s *simulator) state(t *testing.T, change map[string]any) {
	t.Helper()
	s.control(t, "orgs/"+s.org+"/state", change, nil)
}

func (s *simulator) grant(t *testing.T) string {
	t.Helper()
	var g struct {
		RefreshToken string `json:"refresh_token"`
	}
	s.control(t, "orgs/"+s.org+"/grant", map[string]any{}, &g)
	return g.RefreshToken
}

// newKeyset makes a Tink keyset of one AES-128 key in cleartext JSON.
func newKeyset(t *testing.T) string {
	t.Helper()
	key := append([]byte{0x1a, 16}, make([]byte, 16)...) // AesGcmKey: field 3, 16 bytes
	if _, err := rand.Read(key[2:]); err != nil {
		t.Fatal(err)
	}
	type object = map[string]any
	encoded, err := json.Marshal(object{"primaryKeyId": 7, "key": []object{{
		"keyData":          object{"typeUrl": "type.googleapis.com/google.crypto.tink.AesGcmKey", "value": key, "keyMaterialType": "SYMMETRIC"},
		"status":           "ENABLED",
		"keyId":            7,
		"outputPrefixType": "TINK",
	}}})
	if err != nil {
		t.Fatal(err)
	}
	return string(encoded)
}

// environment is what a service is started with.
func environment(t *testing.T, database, login string, more ...string) []string {
	t.Helper()
	return append([]string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(),
		"DATABASE_URL=" + database, "LISTEN_ADDR=127.0.0.1:0", "WEIR_KEYSET=" + newKeyset(t),
		"SALESFORCE_CLIENT_ID=" + sftest.DefaultClientID, "SALESFORCE_CLIENT_SECRET=" + sftest.DefaultClientSecret, "SALESFORCE_LOGIN_URL=" + login,
		"WEIR_PROBE_MIN=100ms", "WEIR_PROBE_MAX=500ms",
	}, more...)
}

func sqliteURL(t *testing.T) string {
	t.Helper()
	return "sqlite:" + filepath.Join(t.TempDir(), "weir.db")
}

// postgresURL makes an empty database on the server that the tests are given.
func postgresURL(t *testing.T) string {
	t.Helper()
	server := os.Getenv("TEST_DATABASE_URL")
	if server == "" {
		t.Fatal("TEST_DATABASE_URL is not set: run the tests with `make test`, which starts a PostgreSQL")
	}
	ctx := context.Background()
	admin, err := pgx.Connect(ctx, server)
	if err != nil {
		t.Fatal(err)
	}
	name := "service_" + strings.ToLower(rand.Text())
	if _, err := admin.Exec(ctx, "CREATE DATABASE "+name+" TEMPLATE template0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_, err := admin.Exec(ctx, "DROP DATABASE "+name+" WITH (FORCE)")
		if err := errors.Join(err, admin.Close(ctx)); err != nil {
			t.Error(err)
		}
	})
	u, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	u.Path = "/" + name
	return u.String()
}

// fleet is one service or several on one database. Calls go to each in turn.
type fleet struct {
	t     *testing.T
	urls  []string
	procs []*process
	turn  int
	token string

	secrets *secrets // sees the answers, unless nil
}

// startFleet starts n services at once, and waits until they are ready.
func startFleet(t *testing.T, n int, env []string) *fleet {
	t.Helper()
	f := launchFleet(t, n, env)
	for _, url := range f.urls {
		one := &fleet{t: t, urls: []string{url}}
		one.eventually("a service is ready", func() bool { return one.call("GET", "/readyz", "").status == http.StatusOK })
	}
	return f
}

// launchFleet starts n services at once.
func launchFleet(t *testing.T, n int, env []string) *fleet {
	t.Helper()
	f := &fleet{t: t}
	for range n {
		var addr string
		f.procs = append(f.procs, launch(t, "service", env, nil, func(line string) bool {
			var entry struct {
				Msg  string `json:"msg"`
				Addr string `json:"addr"`
			}
			_ = json.Unmarshal([]byte(line), &entry)
			addr = entry.Addr
			return entry.Msg == "listening"
		}))
		f.urls = append(f.urls, "http://"+addr)
	}
	return f
}

func (f *fleet) next() string {
	f.turn++
	return f.urls[f.turn%len(f.urls)]
}

// answer is what a call got.
type answer struct {
	status int
	header http.Header
	body   string
}

// get reads a value of a JSON answer: a path like holds.0.reason.
func (a *answer) get(path string) any {
	var v any
	_ = json.Unmarshal([]byte(a.body), &v)
	for _, step := range strings.Split(path, ".") {
		switch at := v.(type) {
		case map[string]any:
			v = at[step]
		case []any:
			var i int
			if _, err := fmt.Sscan(step, &i); err != nil || i >= len(at) {
				return nil
			}
			v = at[i]
		default:
			return nil
		}
	}
	return v
}

// text is get for people: numbers without exponents, null for nothing.
func (a *answer) text(path string) string {
	switch v := a.get(path).(type) {
	case nil:
		return "null"
	case float64:
		return fmt.Sprintf("%.0f", v)
	default:
		return fmt.Sprint(v)
	}
}

// call makes a call with a JSON body; "" is none. Headers are name, value.
func (f *fleet) call(method, path, body string, headers ...string) *answer {
	f.t.Helper()
	req, err := http.NewRequest(method, f.next()+path, strings.NewReader(body))
	if err != nil {
		f.t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	if f.token != "" {
		req.Header.Set("Authorization", "Bearer "+f.token)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Del(headers[i])
		if headers[i+1] != "" {
			req.Header.Set(headers[i], headers[i+1])
		}
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		f.t.Fatal(err)
	}
	defer res.Body.Close()
	content, err := io.ReadAll(res.Body)
	if err != nil {
		f.t.Fatal(err)
	}
	if f.secrets != nil {
		f.secrets.saw("answers", fmt.Sprint(res.Header), string(content))
	}
	return &answer{res.StatusCode, res.Header, string(content)}
}

// want is call for an answer that must have this status.
func (f *fleet) want(status int, method, path, body string, headers ...string) *answer {
	f.t.Helper()
	a := f.call(method, path, body, headers...)
	if a.status != status {
		f.t.Fatalf("%s %s %.200s: %d, want %d: %s", method, path, body, a.status, status, a.body)
	}
	return a
}

// eventually asks until done says so.
func (f *fleet) eventually(what string, done func() bool) {
	f.t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-deadline.C:
			f.t.Fatalf("never: %s", what)
		}
	}
}

// becomes asks for a path until a value of the answer is want.
func (f *fleet) becomes(path, value, want string) *answer {
	f.t.Helper()
	var a *answer
	f.eventually(fmt.Sprintf("%s of GET %s is %s", value, path, want), func() bool {
		a = f.want(http.StatusOK, "GET", path, "")
		return a.text(value) == want
	})
	return a
}
