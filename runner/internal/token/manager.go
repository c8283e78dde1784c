// Package token refreshes the tokens of many orgs, each by one process at a
// time. Refresh tokens rotate: Salesforce revokes a grant whose spent refresh
// token is used again, so an exchange happens under a lease in the database, is
// recorded there before it leaves, and its result is stored before it is used.
//
// https://help.salesforce.com/s/articleView?id=005316711
package token

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/weirhq/weir/runner/internal/store"
	"github.com/weirhq/weir/sfapi"
)

const (
	defaultLease          = time.Minute
	defaultRefreshAhead   = 10 * time.Minute
	defaultSessionTimeout = 2 * time.Hour
	defaultRate           = 25.0

	minLease = 100 * time.Millisecond

	// maxCallTimeout bounds one token request, however long the lease is.
	maxCallTimeout = 20 * time.Second
)

// ErrClosed is returned by every method of a Manager that was closed, and by
// refreshes that Close cut short.
var ErrClosed = errors.New("token manager is closed")

// Config configures a Manager. The zero value of each field is its default.
type Config struct {
	// Owner names this process in refresh attempts on record. New adds random
	// characters, so two Managers are never one owner. Defaults to "weir".
	Owner string

	// Lease is how long a process may take from recording an attempt to saving
	// its result before others take its outcome for unknown. One token request
	// gets a third of it, and at most 20 seconds. Defaults to one minute;
	// shorter than 100 ms is refused.
	Lease time.Duration

	// RefreshAhead is how long before its expected end a session that is in
	// use is refreshed in the background; each org's moment is spread over as
	// long again. Defaults to 10 minutes; -1 switches it off.
	RefreshAhead time.Duration

	// Introspect asks orgs in use when their sessions end, once a token and
	// again when its time seems to come, for apps that may. An org that
	// refuses is not asked again. Without it the end is taken from issued_at
	// and the session timeout.
	Introspect bool

	// SessionTimeout is how long sessions are expected to live until an org's
	// are seen to die earlier. Defaults to two hours, as Salesforce does.
	//
	// https://help.salesforce.com/s/articleView?id=xcloud.admin_sessions.htm
	SessionTimeout time.Duration

	// Rate bounds the token requests of this process, in requests a second
	// over all orgs. They are spaced evenly. Defaults to 25.
	Rate float64

	// Mint makes tokens for credentials that have no refresh token: client
	// credentials, JWT bearer. It may be called again with the same credential
	// and should try once. Where it is nil such credentials cannot be
	// refreshed.
	Mint func(ctx context.Context, cred *store.Credential) (*sfapi.Token, error)

	// OnVerdict is told of each refusal that is not a passing one, before those
	// who wait for the token get the error. It is called again when the same
	// refusal is met again. Defaults to nothing.
	OnVerdict func(ctx context.Context, v *Verdict)

	// OnCall is told of each token request. It must not block. Defaults to
	// nothing.
	OnCall func(ctx context.Context, c *Call)

	// Logger defaults to slog.Default.
	Logger *slog.Logger
}

// Manager gives out the tokens of all orgs of a process. It is safe for
// concurrent use. Close it.
type Manager struct {
	creds      store.Credentials
	app        *sfapi.App
	box        box
	owner      string
	lease      time.Duration
	timeout    time.Duration // of one token request
	ahead      time.Duration // zero when refresh ahead is off
	session    time.Duration
	introspect bool
	mint       func(context.Context, *store.Credential) (*sfapi.Token, error)
	verdict    func(context.Context, *Verdict)
	called     func(context.Context, *Call)
	log        *slog.Logger
	pace       *pacer

	orgs sync.Map // sfapi.OrgID → *org

	// closing ends waits that cost nothing to give up. killed ends what must
	// not be given up lightly: exchanges, and saves of what they brought.
	closing, killed context.Context //nolint:containedctx // The life of the Manager, not of a call.
	close, kill     context.CancelFunc
	mu              sync.Mutex // guards closed, started, changed, and Add on running
	closed, started bool
	changed         map[sfapi.OrgID]struct{}
	changedAll      bool
	changedSignal   chan struct{}
	running         sync.WaitGroup
}

// New returns a Manager of the grants in creds. Its error names every unusable
// argument. cfg may be nil.
func New(creds store.Credentials, app *sfapi.App, sealer Sealer, cfg *Config) (*Manager, error) {
	if cfg == nil {
		cfg = &Config{}
	}
	var errs []error
	if creds == nil {
		errs = append(errs, errors.New("credential store is required"))
	}
	if err := app.Validate(); err != nil {
		errs = append(errs, err)
	}
	if sealer == nil {
		errs = append(errs, errors.New("sealer is required: tokens are not stored in clear"))
	}
	if cfg.Lease != 0 && cfg.Lease < minLease {
		errs = append(errs, fmt.Errorf("lease %s is shorter than %s", cfg.Lease, minLease))
	}
	if cfg.RefreshAhead < -1 {
		errs = append(errs, fmt.Errorf("refresh ahead %s is negative; -1 switches it off", cfg.RefreshAhead))
	}
	if cfg.SessionTimeout < 0 {
		errs = append(errs, fmt.Errorf("session timeout %s is negative", cfg.SessionTimeout))
	}
	if cfg.Rate < 0 {
		errs = append(errs, fmt.Errorf("rate %g is negative", cfg.Rate))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	m := &Manager{
		creds:         creds,
		app:           app,
		box:           box{sealer},
		owner:         orDefault(cfg.Owner, "weir") + "/" + rand.Text()[:10],
		lease:         orDefault(cfg.Lease, defaultLease),
		ahead:         max(0, orDefault(cfg.RefreshAhead, defaultRefreshAhead)),
		session:       orDefault(cfg.SessionTimeout, defaultSessionTimeout),
		introspect:    cfg.Introspect,
		mint:          cfg.Mint,
		verdict:       cfg.OnVerdict,
		called:        cfg.OnCall,
		log:           orDefault(cfg.Logger, slog.Default()),
		pace:          newPacer(orDefault(cfg.Rate, defaultRate)),
		changed:       make(map[sfapi.OrgID]struct{}),
		changedSignal: make(chan struct{}, 1),
	}
	m.timeout = min(m.lease/3, maxCallTimeout)
	m.closing, m.close = context.WithCancel(context.Background())
	m.killed, m.kill = context.WithCancel(context.Background())
	return m, nil
}

// Close ends the background work and waits for exchanges under way, so that
// what they bring is saved. When ctx ends first they are cut off, and an error
// is returned: an org whose rotated token could not be saved by then may need a
// new grant. Callers that wait for a token get ErrClosed.
func (m *Manager) Close(ctx context.Context) error {
	m.mu.Lock()
	m.closed = true
	m.mu.Unlock()
	m.close()
	done := make(chan struct{})
	go func() {
		m.running.Wait()
		close(done)
	}()
	select {
	case <-done:
		m.kill()
		return nil
	case <-ctx.Done():
		m.kill()
		<-done
		return fmt.Errorf("close token manager: refreshes were cut off: %w", context.Cause(ctx))
	}
}

// spawn runs fn on a goroutine that Close waits for. It reports whether it
// did: after Close it does not.
func (m *Manager) spawn(fn func()) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return false
	}
	m.running.Go(fn)
	return true
}

// org returns what this process knows of an org.
func (m *Manager) org(id sfapi.OrgID) *org {
	if o, ok := m.orgs.Load(id); ok {
		return o.(*org)
	}
	o, _ := m.orgs.LoadOrStore(id, newOrg(id))
	return o.(*org)
}

func orDefault[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}
