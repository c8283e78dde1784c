package sftest

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

// Config of a simulator. The zero value works.
type Config struct {
	// BaseURL is the address of the one listener that serves every org, for
	// instance an httptest.Server's URL. It becomes the login URL and the
	// instance_url of orgs that do not name their own; requests are then told
	// apart by access token. Empty gives each org a My Domain host under
	// my.salesforce.com, and the login host is login.salesforce.com: that suits
	// the simulator as an http.RoundTripper. See also NewServer.
	BaseURL string
	// Apps are the OAuth clients. Defaults to one app with DefaultClientID and
	// DefaultClientSecret.
	Apps []App
	// MaxAudit bounds the number of requests that each org's audit keeps; the
	// oldest are dropped, counters go on. Defaults to 200,000.
	MaxAudit int
	// MaxBodyBytes bounds a request's body. Defaults to 50 MiB, the limit of
	// the REST API.
	MaxBodyBytes int64
}

// Sim is a simulated Salesforce: several orgs behind one http.Handler and one
// http.RoundTripper. It is safe for concurrent use and starts no goroutine.
type Sim struct {
	maxAudit int
	maxBody  int64
	faults   faultSet
	audit    *auditLog
	secrets  secretList

	// mu guards what follows.
	mu      sync.Mutex
	baseURL string
	apps    map[string]*App
	orgs    map[string]*Org // by 15-character id
	order   []*Org
	codes   map[string]*authCode
	refresh map[string]*Org // by refresh token
	hosts   map[string]hostEntry
}

var (
	_ http.Handler      = (*Sim)(nil)
	_ http.RoundTripper = (*Sim)(nil)
)

// New returns a simulator without orgs. A nil Config is the zero Config.
func New(config *Config) *Sim {
	var c Config
	if config != nil {
		c = *config
	}
	s := &Sim{
		maxAudit: cmp.Or(c.MaxAudit, 200_000),
		maxBody:  cmp.Or(c.MaxBodyBytes, 50<<20),
		baseURL:  strings.TrimSuffix(c.BaseURL, "/"),
		apps:     map[string]*App{},
		orgs:     map[string]*Org{},
		codes:    map[string]*authCode{},
		refresh:  map[string]*Org{},
		hosts:    map[string]hostEntry{},
	}
	s.audit = newAuditLog(s.maxAudit)
	if len(c.Apps) == 0 {
		c.Apps = []App{{ClientID: DefaultClientID, ClientSecret: DefaultClientSecret, Name: "Default App"}}
	}
	for _, a := range c.Apps {
		s.SetApp(a)
	}
	return s
}

// SetApp adds an app or replaces the one with the same client id.
func (s *Sim) SetApp(a App) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.apps[a.ClientID] = a.withDefaults()
}

func (s *Sim) app(clientID string) *App {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.apps[clientID]
}

// SetBaseURL sets Config.BaseURL once a listener's address is known. Call it
// before the first request.
func (s *Sim) SetBaseURL(base string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.baseURL = strings.TrimSuffix(base, "/")
}

// LoginURL is the host of the token endpoint: the BaseURL, or
// https://login.salesforce.com.
func (s *Sim) LoginURL() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.loginURL()
}

func (s *Sim) loginURL() string { return cmp.Or(s.baseURL, "https://login.salesforce.com") }

// Client returns an http.Client that reaches the simulator in process, without
// a listener. It does not follow redirects.
func (s *Sim) Client() *http.Client {
	return &http.Client{Transport: s, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}}
}

// Org returns the org with a 15 or 18-character id, or nil.
func (s *Sim) Org(id string) *Org {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(id) < 15 {
		return nil
	}
	return s.orgs[id[:15]]
}

// Orgs returns every org in the order in which they were added.
func (s *Sim) Orgs() []*Org {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.order)
}

// AddOrg adds an org with the standard objects. A nil OrgConfig is the zero
// one. It panics when the id is malformed or taken.
func (s *Sim) AddOrg(config *OrgConfig) *Org {
	var c OrgConfig
	if config != nil {
		c = *config
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.order) + 1
	id := makeID("00D", "5e", uint64(n))
	if c.ID != "" {
		parsed, ok := parseID(c.ID)
		if !ok || !strings.HasPrefix(c.ID, "00D") {
			panic("sftest: not an organization id: " + c.ID)
		}
		id = parsed
	}
	if s.orgs[id.Short()] != nil {
		panic("sftest: organization id is taken: " + c.ID)
	}
	o := newOrg(s, id, n, c)
	s.orgs[id.Short()] = o
	s.order = append(s.order, o)
	s.hosts[o.myDomain+".my.salesforce.com"] = hostEntry{org: o}
	if o.instanceURL != "" {
		s.hosts[hostOf(o.instanceURL)] = hostEntry{org: o}
	}
	return o
}

// orgOfToken finds the org by the prefix that access tokens carry.
func (s *Sim) orgOfToken(token string) *Org {
	id, _, ok := strings.Cut(token, "!")
	if !ok || len(id) != 15 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.orgs[id]
}

// hostKind says what a request's host stands for.
type hostKind int

const (
	hostUnknown hostKind = iota
	hostShared           // one listener for every org, login included
	hostLogin            // login.salesforce.com and test.salesforce.com
	hostOrg              // an org's own instance
	hostMoved            // an instance that an org has left
)

// hostEntry is what a host name stands for.
type hostEntry struct {
	org   *Org
	moved bool
}

// resolveHost tells whose host a request names.
func (s *Sim) resolveHost(host string) (hostKind, *Org) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.baseURL != "" && hostOf(s.baseURL) == host {
		return hostShared, nil
	}
	if e, ok := s.hosts[host]; ok {
		if e.moved {
			return hostMoved, e.org
		}
		return hostOrg, e.org
	}
	switch {
	case host == "login.salesforce.com" || host == "test.salesforce.com":
		return hostLogin, nil
	case strings.HasSuffix(host, ".salesforce.com"):
		return hostUnknown, nil
	}
	return hostShared, nil
}

func (s *Sim) setHost(host string, e hostEntry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hosts[host] = e
}

func hostOf(rawURL string) string {
	u, err := url.Parse(rawURL)
	if err != nil {
		return ""
	}
	return strings.ToLower(u.Host)
}

// randomToken returns n characters of base 62 from the system's random source.
func randomToken(n int) string {
	const alphabet = base62
	buf := make([]byte, n)
	raw := randomBytes(n)
	for i := range buf {
		buf[i] = alphabet[int(raw[i])%len(alphabet)]
	}
	return string(buf)
}

func millis(t time.Time) string { return fmt.Sprint(t.UnixMilli()) }
