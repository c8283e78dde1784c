package main_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
)

// A bad configuration ends the program with 2 and the variable's name.
func TestBadConfiguration(t *testing.T) {
	t.Parallel()

	for _, tt := range []struct{ name, set string }{
		{"DATABASE_URL", "DATABASE_URL="},
		{"DATABASE_URL", "DATABASE_URL=mysql://localhost/x"},
		{"DATABASE_URL", "DATABASE_URL=sqlite:"},
		{"DATABASE_URL", "DATABASE_URL=postgres://localhost/x?pool_max_conns=many"},
		{"LISTEN_ADDR", "LISTEN_ADDR=0.0.0.0:0"},
		{"LISTEN_ADDR", "LISTEN_ADDR=:0"},
		{"LISTEN_ADDR", "LISTEN_ADDR=here"},
		{"SALESFORCE_CLIENT_ID", "SALESFORCE_CLIENT_ID="},
		{"SALESFORCE_LOGIN_URL", "SALESFORCE_LOGIN_URL=http://login.salesforce.com"},
		{"SALESFORCE_API_VERSION", "SALESFORCE_API_VERSION=latest"},
		{"WEIR_KEYSET", "WEIR_KEYSET="},
		{"WEIR_KEYSET", "WEIR_KEYSET={}"},
		{"WEIR_KEYSET", "WEIR_KEYSET=/nowhere/keyset.json"},
		{"WEBHOOK_SECRET", "WEBHOOK_URL=https://example.com/hook"},
		{"WEBHOOK_SECRET", "WEBHOOK_URL=https://example.com/hook\nWEBHOOK_SECRET=whsec_short"},
		{"WORKER", "WORKER=perhaps"},
		{"WEIR_PROBE_MIN", "WEIR_PROBE_MIN=soon"},
		{"WEIR_PROBE_MAX", "WEIR_PROBE_MAX=1ms"},
		{"WEIR_DEAD_WORKER_AFTER", "WEIR_DEAD_WORKER_AFTER=-1s"},
		{"WEIR_SYNC_OVERLAP", "WEIR_SYNC_OVERLAP=-5m"},
	} {
		t.Run(tt.set, func(t *testing.T) {
			t.Parallel()

			ends(t, tt.name, environment(t, sqliteURL(t), "https://login.salesforce.com", strings.Split(tt.set, "\n")...))
		})
	}
}

// ends starts a service that must end with 2 and the name of what is wrong.
func ends(t *testing.T, name string, env []string) {
	t.Helper()
	cmd := exec.Command(filepath.Join(binaries, "service"))
	cmd.Env = env
	out, err := cmd.CombinedOutput()
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok || exit.ExitCode() != 2 || !strings.Contains(string(out), name) {
		t.Errorf("ended with %v and %s", err, out)
	}
}

func TestToken(t *testing.T) {
	t.Parallel()

	const token = "correct horse battery staple"
	f := startFleet(t, 1, environment(t, sqliteURL(t), "https://login.salesforce.com", "API_TOKEN="+token, "LISTEN_ADDR=0.0.0.0:0"))
	f.urls[0] = strings.Replace(f.urls[0], "[::]", "127.0.0.1", 1)
	for path, status := range map[string]int{
		"/healthz": 200, "/readyz": 200, "/oauth/callback": 400,
		"/orgs": 401, "/orgs.html": 401, "/riverui/": 401, "/metrics": 401, "/connect": 401, "/nothing": 401, "/": 401,
	} {
		if a := f.call("GET", path, ""); a.status != status {
			t.Errorf("GET %s: %d, want %d", path, a.status, status)
		}
	}
	refused := f.want(http.StatusUnauthorized, "GET", "/orgs", "", "Authorization", "Bearer wrong")
	if refused.text("error.code") != "unauthorized" || refused.header.Get("WWW-Authenticate") == "" {
		t.Errorf("refusal %v %s", refused.header, refused.body)
	}
	f.want(http.StatusOK, "GET", "/orgs", "", "Authorization", "Bearer "+token)
	if page := f.want(http.StatusUnauthorized, "GET", "/orgs.html", "", "Accept", "text/html"); !strings.Contains(page.body, "<form") {
		t.Errorf("a browser is shown %s", page.body)
	}

	for path, text := range map[string]string{"/orgs.html": "<h1>Orgs</h1>", "/riverui/": "River", "/metrics": "weir_database_up 1"} {
		if page := f.want(http.StatusOK, "GET", path, "", "Authorization", "Bearer "+token); !strings.Contains(page.body, text) {
			t.Errorf("GET %s does not say %q", path, text)
		}
	}

	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	browser := &http.Client{Jar: jar}
	login := func(token string) int {
		res, err := browser.PostForm(f.urls[0]+"/login", url.Values{"token": {token}, "next": {"/orgs"}})
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		return res.StatusCode
	}
	if got := login("wrong"); got != http.StatusUnauthorized {
		t.Errorf("log-in with another token: %d", got)
	}
	if got := login(token); got != http.StatusOK {
		t.Errorf("log-in, and the page after it: %d", got)
	}
	// What a page of another site could make this browser send.
	req, err := http.NewRequest("POST", f.urls[0]+"/orgs/00D000000000062EAA/pause", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Sec-Fetch-Site", "cross-site")
	res, err := browser.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusForbidden {
		t.Errorf("a request of another site: %d", res.StatusCode)
	}
}

// Without a token, a name that another site has pointed at this machine does
// not reach the service.
func TestOtherHost(t *testing.T) {
	t.Parallel()

	f := startFleet(t, 1, environment(t, sqliteURL(t), "https://login.salesforce.com", "WORKER=false"))
	req, err := http.NewRequest("GET", f.urls[0]+"/orgs", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "rebound.example"
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusForbidden {
		t.Errorf("under another name: %d", res.StatusCode)
	}
}

var hiddenInput = regexp.MustCompile(`<input type="hidden" name="([^"]*)" value="([^"]*)">`)

// An org is connected as its admin does it. Either of two processes may serve
// the way back.
func TestConnect(t *testing.T) {
	t.Parallel()

	sim := startSimulator(t)
	f := startFleet(t, 2, environment(t, postgresURL(t), sim.url))
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	var callback string // the redirect is stopped, to send it to the other process
	browser := &http.Client{Jar: jar, CheckRedirect: func(r *http.Request, _ []*http.Request) error {
		if r.URL.Path == "/oauth/callback" {
			callback = r.URL.RequestURI()
			return http.ErrUseLastResponse
		}
		return nil
	}}
	authorize := func(decision string) {
		t.Helper()
		res, err := browser.Get(f.urls[0] + "/connect?label=Acme")
		if err != nil {
			t.Fatal(err)
		}
		page, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || res.StatusCode != http.StatusOK {
			t.Fatalf("consent page: %d %v %s", res.StatusCode, err, page)
		}
		form := url.Values{"decision": {decision}}
		for _, m := range hiddenInput.FindAllStringSubmatch(string(page), -1) {
			form.Set(m[1], strings.NewReplacer("&#43;", "+", "&amp;", "&").Replace(m[2]))
		}
		if user := regexp.MustCompile(`<option value="([^"]*)"`).FindStringSubmatch(string(page)); user != nil {
			form.Set("username", user[1])
		}
		res, err = browser.PostForm(sim.url+"/services/oauth2/authorize", form)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
	}
	answer := func(client *http.Client, path string) (int, string) {
		t.Helper()
		res, err := client.Get(f.urls[1] + path)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		page, _ := io.ReadAll(res.Body)
		return res.StatusCode, string(page)
	}

	authorize("deny")
	if status, page := answer(browser, callback); status != http.StatusBadRequest || !strings.Contains(page, "access_denied") {
		t.Errorf("after a refusal: %d %s", status, page)
	}
	authorize("allow")
	if status, _ := answer(http.DefaultClient, callback); status != http.StatusBadRequest {
		t.Errorf("in another browser: %d", status)
	}
	if status, _ := answer(browser, strings.Replace(callback, "state=", "state=x", 1)); status != http.StatusBadRequest {
		t.Errorf("with another state: %d", status)
	}
	f.want(http.StatusNotFound, "GET", "/orgs/"+sim.org, "")
	if status, page := answer(browser, callback); status != http.StatusOK || !strings.Contains(page, sim.org) {
		t.Errorf("at the end: %d %s", status, page)
	}
	if org := f.want(http.StatusOK, "GET", "/orgs/"+sim.org, ""); org.text("label") != "Acme" || org.text("state") != "open" {
		t.Errorf("connected org: %s", org.body)
	}
	if status, _ := answer(browser, callback); status != http.StatusBadRequest {
		t.Errorf("the same answer again: %d", status)
	}
}

// While the database is away the API says so, and recovers with it: from the
// start on, and later.
func TestDatabaseAway(t *testing.T) {
	t.Parallel()

	sim := startSimulator(t)
	database, err := url.Parse(postgresURL(t))
	if err != nil {
		t.Fatal(err)
	}
	proxy := newSwitch(t, database.Host)
	database.Host = proxy.addr
	f := launchFleet(t, 1, environment(t, database.String(), sim.url))
	f.want(http.StatusOK, "GET", "/healthz", "")
	f.want(http.StatusServiceUnavailable, "GET", "/readyz", "")
	f.want(http.StatusServiceUnavailable, "GET", "/orgs", "")
	proxy.set(true)
	f.eventually("ready", func() bool { return f.call("GET", "/readyz", "").status == http.StatusOK })
	proxy.set(false)
	f.eventually("not ready", func() bool { return f.call("GET", "/readyz", "").status == http.StatusServiceUnavailable })
	f.want(http.StatusOK, "GET", "/healthz", "")
	for _, path := range []string{"/orgs", "/events", "/jobs/1", "/orgs/" + sim.org + "/syncs"} {
		a := f.want(http.StatusServiceUnavailable, "GET", path, "")
		if a.text("error.code") != "unavailable" || a.header.Get("Retry-After") == "" {
			t.Errorf("GET %s: %v %s", path, a.header, a.body)
		}
	}
	f.want(http.StatusServiceUnavailable, "POST", "/orgs", `{"refresh_token":"x"}`)
	proxy.set(true)
	f.eventually("ready again", func() bool { return f.call("GET", "/readyz", "").status == http.StatusOK })
	f.want(http.StatusOK, "GET", "/orgs", "")
}

// onOff is a TCP proxy that can be switched off.
type onOff struct {
	addr, target string

	mu    sync.Mutex
	on    bool
	conns map[net.Conn]bool
}

func newSwitch(t *testing.T, target string) *onOff {
	t.Helper()
	ln, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &onOff{addr: ln.Addr().String(), target: target, conns: make(map[net.Conn]bool)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			s.carry(conn)
		}
	}()
	t.Cleanup(func() {
		ln.Close()
		s.set(false)
		<-done
	})
	return s
}

func (s *onOff) carry(conn net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.on {
		conn.Close()
		return
	}
	server, err := net.Dial("tcp", s.target)
	if err != nil {
		conn.Close()
		return
	}
	s.conns[conn], s.conns[server] = true, true
	for from, to := range map[net.Conn]net.Conn{conn: server, server: conn} {
		go func() {
			_, _ = io.Copy(to, from)
			from.Close()
			to.Close()
		}()
	}
}

func (s *onOff) set(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.on = on
	if !on {
		for c := range s.conns {
			c.Close()
		}
		clear(s.conns)
	}
}
