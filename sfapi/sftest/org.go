package sftest

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// OrgConfig describes a new org. The zero value works.
type OrgConfig struct {
	// ID is the organization id, 15 or 18 characters. Defaults to the next free
	// one.
	ID string
	// Name defaults to "Org n".
	Name string
	// MyDomain names the instance host https://<MyDomain>.my.salesforce.com.
	// Defaults to org<n>. It is not used when InstanceURL or Config.BaseURL is
	// set.
	MyDomain string
	// InstanceURL is the org's own base URL, when it has one.
	InstanceURL string
	// Sandbox sets Organization.IsSandbox.
	Sandbox bool
	// InstanceName is the instance that status.salesforce.com knows. Defaults
	// to NA224.
	InstanceName string
	// SessionTimeout ends sessions that were idle for so long. Defaults to 2
	// hours, as in a new org.
	SessionTimeout time.Duration
	// DailyLimit is the number of API calls in a rolling 24 hours. Defaults to
	// 100,000.
	DailyLimit int
	// PerAppLimit adds the per-app part to Sforce-Limit-Info when it is not 0.
	PerAppLimit int
	// Objects replaces the standard objects. User and Organization are added
	// when they are missing.
	Objects []Object
}

// User is a user of an org.
type User struct {
	ID       ID
	Username string
	inactive bool
	mintedAt []time.Time
	cursors  []*cursor
}

// Org is one simulated organization.
type Org struct {
	sim    *Sim
	id     ID
	audit  *auditLog
	faults faultSet

	// mu guards what follows.
	mu             sync.Mutex
	name           string
	instanceURL    string // empty: the simulator's BaseURL, or myDomain
	myDomain       string
	movedHosts     map[string]bool
	moveRefusal    MoveRefusal
	sessionTimeout time.Duration
	tables         map[string]*table
	customObjects  int
	users          []*User
	admin          ID
	grants         []*grant
	tokens         map[string]*grant // by refresh token, spent ones included
	sessions       map[string]*session
	locators       map[string]*cursor
	locatorSeq     uint64
	usage          usage
	state          orgState
	writes         []Write
	history        map[string][]int // indexes of writes by id and by external id
	clientUser     map[string]ID    // run-as users of the client credentials flow
}

func newOrg(s *Sim, id ID, n int, c OrgConfig) *Org {
	o := &Org{
		sim: s, id: id,
		audit:          newAuditLog(s.maxAudit),
		name:           cmp.Or(c.Name, fmt.Sprintf("Org %d", n)),
		instanceURL:    strings.TrimSuffix(c.InstanceURL, "/"),
		myDomain:       strings.ToLower(cmp.Or(c.MyDomain, fmt.Sprintf("org%d", n))),
		movedHosts:     map[string]bool{},
		sessionTimeout: cmp.Or(c.SessionTimeout, 2*time.Hour),
		tables:         map[string]*table{},
		tokens:         map[string]*grant{},
		sessions:       map[string]*session{},
		locators:       map[string]*cursor{},
		usage:          usage{limit: cmp.Or(c.DailyLimit, 100_000), perApp: c.PerAppLimit},
		history:        map[string][]int{},
		clientUser:     map[string]ID{},
	}
	objects := c.Objects
	if len(objects) == 0 {
		objects = StandardObjects()
	}
	for _, def := range StandardObjects() {
		system := def.Name == "User" || def.Name == "Organization"
		if system && !slices.ContainsFunc(objects, func(d Object) bool { return d.Name == def.Name }) {
			objects = append(slices.Clone(objects), def)
		}
	}
	for _, def := range objects {
		o.DefineObject(def)
	}
	o.AddUser(fmt.Sprintf("sync@%s.example", o.myDomain))
	t := o.mustTable("Organization")
	vals := o.values(t.def, nil, Record{"Name": o.name, "InstanceName": cmp.Or(c.InstanceName, "NA224"),
		"IsSandbox": c.Sandbox, "OrganizationType": "Enterprise Edition"})
	o.stampNew(t.def, vals, o.admin, false)
	t.put(newRow(t.def, id, vals, false, false))
	return o
}

// ID returns the org's 18-character id.
func (o *Org) ID() string { return string(o.id) }

// Name returns the org's name.
func (o *Org) Name() string { return o.name }

// LoginURL is where the org's users log in.
func (o *Org) LoginURL() string { return o.sim.LoginURL() }

// InstanceURL is the base URL that token responses carry.
func (o *Org) InstanceURL() string {
	base := o.sim.base()
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.instance(base)
}

func (o *Org) instance(base string) string {
	if o.instanceURL != "" {
		return o.instanceURL
	}
	return cmp.Or(base, "https://"+o.myDomain+".my.salesforce.com")
}

func (s *Sim) base() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.baseURL
}

// SetInstanceURL gives the org a base URL of its own. Unlike MoveInstance, it
// does not make the old one refuse.
func (o *Org) SetInstanceURL(base string) {
	o.mu.Lock()
	o.instanceURL = strings.TrimSuffix(base, "/")
	o.mu.Unlock()
	o.sim.setHost(hostOf(base), hostEntry{org: o})
}

// SetSessionTimeout changes after how long an idle session ends.
func (o *Org) SetSessionTimeout(d time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.sessionTimeout = d
}

// AddUser adds an active user. The first one, sync@<MyDomain>.example, is there
// from the start.
func (o *Org) AddUser(username string) *User {
	o.mu.Lock()
	defer o.mu.Unlock()
	t := o.mustTable("User")
	id := t.newID()
	if o.admin == "" {
		o.admin = id
	}
	rec := Record{}
	set := func(field string, v any) {
		if t.def.field(field) != nil {
			rec[field] = v
		}
	}
	set("Username", username)
	set("LastName", "User")
	set("FirstName", "Sync")
	set("Email", username)
	set("IsActive", true)
	set("TimeZoneSidKey", "Europe/Berlin")
	vals := o.values(t.def, nil, rec)
	o.stampNew(t.def, vals, o.admin, false)
	t.put(newRow(t.def, id, vals, false, false))
	u := &User{ID: id, Username: username}
	o.users = append(o.users, u)
	return u
}

// Users returns the org's users, the default one first.
func (o *Org) Users() []*User {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append([]*User(nil), o.users...)
}

func (o *Org) user(id ID) *User {
	for _, u := range o.users {
		if u.ID == id {
			return u
		}
	}
	return nil
}

func (o *Org) userNamed(username string) *User {
	for _, u := range o.users {
		if strings.EqualFold(u.Username, username) {
			return u
		}
	}
	return nil
}
