package sftest

import (
	"cmp"

	"strings"
	"time"
)

// ReadOnlyMode says how an org behaves during maintenance.
type ReadOnlyMode int

const (
	// ReadWrite is normal operation.
	ReadWrite ReadOnlyMode = iota
	// ReadOnly refuses writes with
	// INSERT_UPDATE_DELETE_NOT_ALLOWED_DURING_MAINTENANCE, and Bulk reads.
	ReadOnly
	// ReadOnlySessions also answers REST reads with 401 INVALID_SESSION_ID
	// although refreshing works, as seen in forcedotcom/SalesforceMobileSDK-iOS
	// issue 2464.
	ReadOnlySessions
)

// MoveRefusal says what an instance answers for an org that has left it.
type MoveRefusal int

const (
	// MoveURLNotReset answers 400 URL_NOT_RESET.
	MoveURLNotReset MoveRefusal = iota
	// MoveInvalidSession answers 401 INVALID_SESSION_ID.
	MoveInvalidSession
	// MoveNotFound answers an HTML page with 404.
	MoveNotFound
	// MoveRedirect answers 302 with the new address.
	MoveRedirect
)

// IPLock says which calls an org refuses for their network address.
type IPLock int

const (
	// IPOpen refuses none.
	IPOpen IPLock = iota
	// IPSessions refuses data calls with 401 INVALID_SESSION_ID, since
	// sessions are locked to the address they started from; tokens are minted.
	IPSessions
	// IPLogin refuses token requests with "ip restricted", too.
	IPLogin
)

// AppBlock says where an org refuses an app.
type AppBlock int

const (
	// AppAllowed refuses nothing.
	AppAllowed AppBlock = iota
	// AppDataRefused mints tokens, and refuses each data call with 401 "This
	// session is not valid for use with the REST API": API access control.
	AppDataRefused
	// AppNotInstalled refuses token requests with app_not_found, and sessions
	// that live already.
	AppNotInstalled
	// AppNotApproved refuses token requests with invalid_app_access.
	AppNotApproved
)

// orgState holds conditions that last until they are changed.
type orgState struct {
	readOnly       ReadOnlyMode
	readOnlyStatus int
	ipLock         IPLock
	blocks         map[string]AppBlock // by client id; "" is every app
	inactive       bool
	apiDisabled    bool
	storageFull    bool
	loginRate      int
	concurrency    int
	running        int
	rotate         *bool
	keepSessions   bool
	busyRefresh    bool
	lockNext       int
	lockKeys       map[string]bool
}

// locked runs f under the org's lock.
func (o *Org) locked(f func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	f()
}

// SetReadOnly puts the org into, or out of, read-only mode. While it lasts
// Organization.IsReadOnly is true.
func (o *Org) SetReadOnly(mode ReadOnlyMode) { o.locked(func() { o.state.readOnly = mode }) }

// SetReadOnlyStatus chooses the HTTP status of the refusal of single-record
// writes, which is not published. Defaults to 400.
func (o *Org) SetReadOnlyStatus(status int) { o.locked(func() { o.state.readOnlyStatus = status }) }

// SetIPLock refuses calls for their network address.
func (o *Org) SetIPLock(lock IPLock) { o.locked(func() { o.state.ipLock = lock }) }

// BlockApp sets how the org treats an app. An empty client id is every app.
func (o *Org) BlockApp(clientID string, block AppBlock) {
	o.locked(func() {
		if o.state.blocks == nil {
			o.state.blocks = map[string]AppBlock{}
		}
		o.state.blocks[clientID] = block
	})
}

func (o *Org) block(app *App) AppBlock {
	return cmp.Or(o.state.blocks[app.ClientID], o.state.blocks[""])
}

// SetRotation overrides App.Rotate for this org.
func (o *Org) SetRotation(on bool) { o.locked(func() { o.state.rotate = &on }) }

// SetSessionsSurviveRotation keeps the older access tokens of a grant alive
// when a refresh rotates its refresh token. By default the exchange ends them,
// and their cursors.
func (o *Org) SetSessionsSurviveRotation(on bool) { o.locked(func() { o.state.keepSessions = on }) }

// SetBusyRefresh answers "Token request is already being processed" while
// another refresh of the same grant is under way. Combine it with Hold.
func (o *Org) SetBusyRefresh(on bool) { o.locked(func() { o.state.busyRefresh = on }) }

// SetActive deactivates or reactivates the org. Deactivating ends its sessions;
// token requests then answer inactive_org.
func (o *Org) SetActive(active bool) {
	o.locked(func() {
		o.state.inactive = !active
		if !active {
			o.endSessions(func(*session) bool { return true })
		}
	})
}

// SetUserActive deactivates or reactivates a user. Deactivating ends the
// user's sessions; token requests then answer inactive_user. It panics when
// there is no such user. An empty name is the default user.
func (o *Org) SetUserActive(username string, active bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	u := o.users[0]
	if username != "" {
		u = o.userNamed(username)
	}
	if u == nil {
		panic("sftest: no user " + username)
	}
	u.inactive = !active
	if !active {
		o.endSessions(func(s *session) bool { return s.user == u })
	}
	t := o.mustTable("User")
	old := t.rows[string(u.ID)]
	vals := o.values(t.def, old.vals, Record{"IsActive": active})
	o.stampChange(t.def, vals, o.admin)
	t.put(newRow(t.def, u.ID, vals, false, false))
}

// SetAPIEnabled switches the REST API of the org on or off.
func (o *Org) SetAPIEnabled(on bool) { o.locked(func() { o.state.apiDisabled = !on }) }

// SetStorageFull refuses new records with STORAGE_LIMIT_EXCEEDED.
func (o *Org) SetStorageFull(on bool) { o.locked(func() { o.state.storageFull = on }) }

// SetDailyLimit changes the number of API calls in a rolling 24 hours.
func (o *Org) SetDailyLimit(n int) { o.locked(func() { o.usage.limit = n }) }

// SetDailyUsage pretends that so many calls were made just now, and forgets
// the earlier ones.
func (o *Org) SetDailyUsage(n int) {
	o.locked(func() { o.usage.buckets = []usageBucket{{minute: time.Now().Truncate(time.Minute), calls: n}} })
}

// DailyUsage returns the number of API calls of the last 24 hours.
func (o *Org) DailyUsage() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.usage.used(time.Now())
}

// SetLoginRate bounds the tokens that one user may mint in an hour. 0 is the
// usual 3,600.
func (o *Org) SetLoginRate(n int) { o.locked(func() { o.state.loginRate = n }) }

// SetConcurrency bounds the calls that run at once; more are refused with
// REQUEST_LIMIT_EXCEEDED. 0 does not bound them. See Hold.
func (o *Org) SetConcurrency(n int) { o.locked(func() { o.state.concurrency = n }) }

// LockRows fails the next n record writes with UNABLE_TO_LOCK_ROW.
func (o *Org) LockRows(n int) { o.locked(func() { o.state.lockNext = n }) }

// LockKeys fails writes of the records with these ids or external ids until
// UnlockKeys.
func (o *Org) LockKeys(keys ...string) {
	o.locked(func() {
		if o.state.lockKeys == nil {
			o.state.lockKeys = map[string]bool{}
		}
		for _, k := range keys {
			if id, ok := parseID(k); ok {
				k = string(id)
			}
			o.state.lockKeys[k] = true
		}
	})
}

// UnlockKeys ends LockKeys.
func (o *Org) UnlockKeys() { o.locked(func() { o.state.lockKeys = nil }) }

// MoveInstance moves the org to another base URL. Data calls to the old host
// are refused from then on; token responses carry the new one.
func (o *Org) MoveInstance(newURL string, refusal MoveRefusal) {
	old := hostOf(o.InstanceURL())
	newURL = strings.TrimSuffix(newURL, "/")
	o.mu.Lock()
	o.movedHosts[old] = true
	delete(o.movedHosts, hostOf(newURL))
	o.instanceURL = newURL
	o.moveRefusal = refusal
	o.mu.Unlock()
	o.sim.setHost(old, hostEntry{org: o, moved: true})
	o.sim.setHost(hostOf(newURL), hostEntry{org: o})
}

// Heal ends every lasting condition and every injected fault of the org.
// Grants and sessions that are gone stay gone.
func (o *Org) Heal() {
	o.ClearFaults()
	o.mu.Lock()
	defer o.mu.Unlock()
	o.state = orgState{running: o.state.running, rotate: o.state.rotate, keepSessions: o.state.keepSessions}
}
