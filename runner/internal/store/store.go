// Package store is the contract between package runner and the databases it
// runs on: the row types, and the methods that runnerpgx and runnersqlite give.
// Its conformance suite is package storetest.
package store

import (
	"context"
	"encoding/json"
	"time"

	"github.com/riverqueue/river/riverdriver"

	"github.com/weirhq/weir/jobs"
	"github.com/weirhq/weir/sfapi"
)

// Store is a database that holds Weir's tables beside River's.
//
// A method whose name ends in Tx works in the given transaction, every other
// one in a transaction of its own. All methods may be called concurrently, by
// any number of processes on Postgres and by one process on SQLite.
type Store[TTx any] interface {
	jobs.Store[TTx]
	Orgs[TTx]
	Credentials
	Calls
	Events[TTx]
	Cancellations[TTx]
	Schedules[TTx]
	River[TTx]

	// Driver is River's driver on the same pool.
	Driver() riverdriver.Driver[TTx]

	// Migrate brings Weir's own tables up to the newest version. It is safe
	// for several processes at once.
	Migrate(ctx context.Context) error

	// MigrateDown takes Weir's own tables down to version (0 removes all).
	MigrateDown(ctx context.Context, version int) error

	// Exclusive runs fn while no other process, and nothing else in this one,
	// runs an fn of the same name. It takes a connection of its own for that.
	Exclusive(ctx context.Context, name string, fn func(ctx context.Context) error) error

	// Ping answers when the database does.
	Ping(ctx context.Context) error

	// Now is the database's clock.
	Now(ctx context.Context) (time.Time, error)
}

// OrgState says whether an org has a usable grant.
type OrgState string

// The states of an org.
const (
	OrgConnected    OrgState = "connected"
	OrgRevoked      OrgState = "revoked"      // its grant is dead: reconnect
	OrgDisconnected OrgState = "disconnected" // by the app; secrets are gone
)

// Org is an org's row without its secrets.
type Org struct {
	ID          sfapi.OrgID
	Label       string
	LoginURL    string
	InstanceURL string
	UserID      string // of the connected user, 18 characters
	State       OrgState
	Generation  int64 // of the credential; raised by each connect and refresh
	Version     int64 // of the row; raised by each change but refreshes and usage

	// Breaker is the breaker's state as JSON; empty before it had any. The
	// store looks at its list "holds" only (OrgFilter.Held), and may give it
	// back with other white space and order of keys.
	Breaker json.RawMessage

	UsageUsed, UsageLimit int // of the org's daily API requests; limit 0 when never seen
	UsageAt               time.Time

	ConnectedAt, CreatedAt, UpdatedAt time.Time
}

// OrgFilter selects orgs for a list.
type OrgFilter struct {
	After string // ids after this one
	Limit int    // 0 means 100
	Query string // part of the id or the label, without regard to case; "" for all
	Held  bool   // only orgs whose Breaker has a hold, or that are revoked

	IDs []sfapi.OrgID // only these; nil for all
}

// Orgs keeps the registry of orgs.
type Orgs[TTx any] interface {
	// ConnectOrgTx inserts the org or gives it a new grant: generation and
	// version are raised, state becomes connected, a refresh attempt on
	// record is forgotten. An empty label leaves the label as it is; the
	// breaker stays as it is. The secrets in c are sealed. It sets o to the
	// row as stored, c.Generation, and reports whether the org is new.
	ConnectOrgTx(ctx context.Context, tx TTx, o *Org, c *Credential) (created bool, err error)

	// Org returns jobs.ErrNotFound for an org that was never connected.
	Org(ctx context.Context, id sfapi.OrgID) (*Org, error)

	// OrgTx is Org in a transaction; with lock the row is locked for update.
	OrgTx(ctx context.Context, tx TTx, id sfapi.OrgID, lock bool) (*Org, error)

	ListOrgs(ctx context.Context, f *OrgFilter) ([]*Org, error)

	// UpdateOrgTx saves Label, State, Breaker where the row still has
	// o.Version, raises it (in o too), and notifies the other processes
	// (channel weir_org, payload the org's id). It reports whether it did.
	UpdateOrgTx(ctx context.Context, tx TTx, o *Org) (bool, error)

	// DisconnectOrgTx sets state and forgets the secrets and the attempt on
	// record. It returns jobs.ErrNotFound for an unknown org.
	DisconnectOrgTx(ctx context.Context, tx TTx, id sfapi.OrgID) error

	// SaveUsage keeps the newest usage of an org; an older one is ignored.
	SaveUsage(ctx context.Context, id sfapi.OrgID, used, limit int, at time.Time) error

	// ListenOrgs calls fn with the id of each org whose row another process
	// or this one changed, after the commit; and with "" when notifications
	// may have been lost, and once at the begin, after which the caller
	// reloads what it caches. A change that was rolled back may be told too.
	// It makes a lost connection again, and returns nil when ctx ends. On
	// SQLite it is in process.
	ListenOrgs(ctx context.Context, fn func(id sfapi.OrgID)) error
}

// Credential is the sealed grant of an org and the refresh attempt on record.
type Credential struct {
	Org         sfapi.OrgID
	LoginURL    string
	InstanceURL string
	UserID      string
	Generation  int64
	Access      []byte // sealed
	Refresh     []byte // sealed; empty for flows without one
	IssuedAt    time.Time
	Scope       string

	// Attempt is the refresh attempt on record, zero when none is.
	Attempt Attempt
}

// Attempt is a token request on record: written before the request leaves,
// removed with the answer saved. One that outlives its deadline says that a
// process died in between: the outcome is unknown.
type Attempt struct {
	Generation int64  // of the credential that is being refreshed
	Owner      string // the process
	Deadline   time.Time
	Replays    int // guarded replays after an unknown outcome
}

// RefreshClaim is the answer to BeginRefresh.
type RefreshClaim int

// The answers to BeginRefresh.
const (
	RefreshTaken   RefreshClaim = iota + 1 // the caller holds the lease and must exchange
	RefreshNewer                           // the credential is newer than stale: use it
	RefreshBusy                            // another process holds the lease: wait, ask again
	RefreshUnknown                         // an attempt outlived its deadline: outcome unknown
)

// Credentials keeps grants, and lets one process at a time refresh.
type Credentials interface {
	// Credential returns jobs.ErrNotFound for an unknown org, and a
	// Credential without secrets for a disconnected one.
	Credential(ctx context.Context, id sfapi.OrgID) (*Credential, error)

	// BeginRefresh locks the row, reloads it and decides, with the database's
	// clock: see RefreshClaim. With RefreshTaken the attempt (generation,
	// owner, deadline = now + lease) is on record and committed. With
	// takeUnknown, an attempt that outlived its deadline is taken over:
	// RefreshTaken, with Attempt.Replays raised by one. The credential
	// returned is the row as committed. It returns jobs.ErrNotFound for an
	// org that is unknown or disconnected.
	BeginRefresh(ctx context.Context, id sfapi.OrgID, stale int64, owner string, lease time.Duration, takeUnknown bool) (*Credential, RefreshClaim, error)

	// SaveRefresh stores the new secrets (c.Access, c.Refresh unless empty,
	// c.InstanceURL, c.UserID, c.IssuedAt, c.Scope), raises the generation and
	// removes the attempt, where generation and owner still match. It returns
	// the new generation, and jobs.ErrLeaseLost otherwise. A deadline that
	// has passed does not matter while nobody has taken over.
	SaveRefresh(ctx context.Context, c *Credential, owner string) (generation int64, err error)

	// EndRefresh removes the attempt where generation and owner still match:
	// the token endpoint answered, and gave no token.
	EndRefresh(ctx context.Context, id sfapi.OrgID, generation int64, owner string) error

	// ResealAll calls fn with each sealed secret (column "access" or
	// "refresh") and stores what it returns, where the row still has the very
	// bytes that fn was given: not after a rotation or a disconnect, but
	// after a refresh that kept its refresh token. It returns how many were
	// stored, and stops at the first error of fn.
	ResealAll(ctx context.Context, fn func(org sfapi.OrgID, column string, sealed []byte) ([]byte, error)) (int, error)
}
