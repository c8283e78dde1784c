package sfapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"
)

// Cause is why Salesforce goes on refusing a connection's token.
type Cause string

// The causes that [Diagnose] tells apart. Each but the last has a Kind of its
// own: see [Cause.Kind].
const (
	// CauseExpired means that the session had merely ended: the newest token is
	// accepted again.
	CauseExpired Cause = "expired"
	// CauseWrongInstance means that the token is used at the wrong host, or
	// belongs to another org.
	CauseWrongInstance Cause = "wrong_instance"
	// CauseIPRestricted means that our network address, or the hour, is refused.
	CauseIPRestricted Cause = "ip_restricted"
	// CauseAppNotAllowed means that the org does not let the app in: API access
	// control, installation, approval, scopes.
	CauseAppNotAllowed Cause = "app_not_allowed"
	// CauseRevoked means that the token endpoint said so, and that the stored
	// token was read again since.
	CauseRevoked Cause = "revoked"
	// CauseMaintenance means that the org is in read-only mode.
	CauseMaintenance Cause = "maintenance"
	// CauseUserInactive means that the integration user cannot log in.
	CauseUserInactive Cause = "user_inactive"
	// CauseOrgInactive means that the org is suspended, expired or deleted.
	CauseOrgInactive Cause = "org_inactive"
	// CauseUndetermined means that the evidence fits several causes, or none.
	CauseUndetermined Cause = "undetermined"
)

// Kind returns the Kind that stands for c, and KindUnknown where none does.
func (c Cause) Kind() Kind {
	switch c {
	case CauseExpired:
		return KindSessionExpired
	case CauseWrongInstance:
		return KindWrongInstance
	case CauseIPRestricted:
		return KindIPRestricted
	case CauseAppNotAllowed:
		return KindAppNotAllowed
	case CauseRevoked:
		return KindRevoked
	case CauseMaintenance:
		return KindMaintenance
	case CauseUserInactive:
		return KindUserInactive
	case CauseOrgInactive:
		return KindOrgInactive
	}
	return KindUnknown
}

// Confidence is how far a Diagnosis may be relied on.
type Confidence string

const (
	// ConfidenceCertain means that Salesforce said it, or that nothing else fits.
	ConfidenceCertain Confidence = "certain"
	// ConfidenceLikely means that the evidence fits this cause best, and that
	// nothing rules it out. Act on it, but expect to be wrong now and then.
	ConfidenceLikely Confidence = "likely"
	// ConfidenceWeak means that the candidates are no more than an order to look in.
	ConfidenceWeak Confidence = "weak"
)

// Diagnosis is why a token is refused, and what shows it. It holds no secret.
type Diagnosis struct {
	Org   OrgID `json:"org"`
	Cause Cause `json:"cause"`

	// Kind is what the answer amounts to for who decides about the org: the
	// cause's. Of an undetermined cause it is KindUnknown, or a Kind outside
	// the causes where the answers had one: KindServerUnavailable where nobody
	// answers, KindLoginRateLimited where the refresh was put off.
	Kind Kind `json:"kind"`

	Confidence Confidence `json:"confidence"`

	// Candidates are the causes that an undetermined one may be, the likeliest
	// first.
	Candidates []Cause `json:"candidates,omitempty"`

	// Evidence is what was seen, in the order in which it was.
	Evidence []Evidence `json:"evidence"`

	// Advice is for the org's Salesforce admin: which setting, where in Setup.
	// It has less than 1,000 bytes.
	Advice string `json:"advice"`
}

// String returns the verdict and its evidence in one line.
func (d *Diagnosis) String() string {
	var b strings.Builder
	b.WriteString(string(d.Cause) + " (" + string(d.Confidence) + ")")
	for i, e := range d.Evidence {
		sep := "; "
		if i == 0 {
			sep = ": "
		}
		b.WriteString(sep + e.String())
	}
	return b.String()
}

// LogValue is the Diagnosis without its advice.
func (d *Diagnosis) LogValue() slog.Value {
	if d == nil {
		return slog.StringValue("none")
	}
	return slog.GroupValue(
		slog.String("org", string(d.Org)),
		slog.String("cause", string(d.Cause)),
		slog.String("kind", d.Kind.String()),
		slog.String("confidence", string(d.Confidence)),
		slog.Any("evidence", d.Evidence),
	)
}

func (d *Diagnosis) clone() *Diagnosis {
	c := *d
	c.Candidates, c.Evidence = slices.Clone(d.Candidates), slices.Clone(d.Evidence)
	return &c
}

// DiagnoserConfig is how a Diagnoser works. The zero value is ready to use.
type DiagnoserConfig struct {
	// CallTimeout bounds each of its calls. Defaults to 10 seconds.
	CallTimeout time.Duration

	// MaintenanceWindow is for how long a maintenance code explains what comes
	// after it. Defaults to 4 hours.
	MaintenanceWindow time.Duration

	// NoIntrospect leaves out token introspection, for apps that may not.
	NoIntrospect bool
}

// Diagnoser finds out why tokens are refused, once at a time for an org. Make
// one with NewDiagnoser. It is safe for concurrent use.
type Diagnoser struct {
	config DiagnoserConfig

	mu      sync.Mutex
	flights map[flightKey]*flight // guarded by mu
}

// flightKey is what a diagnosis is about: Apps are compared by identity, so
// that two programs' worth of clients in one process do not mix.
type flightKey struct {
	org OrgID
	app *App
}

// flight is a diagnosis under way. Its result is read after done is closed; it
// is nil where the caller that made it gave up.
type flight struct {
	done   chan struct{}
	result *Diagnosis
}

// NewDiagnoser returns a Diagnoser. The error names every unusable field.
func NewDiagnoser(cfg *DiagnoserConfig) (*Diagnoser, error) {
	d := &Diagnoser{flights: map[flightKey]*flight{}}
	if cfg != nil {
		d.config = *cfg
	}
	var errs []error
	for _, f := range [...]struct {
		name     string
		value    *time.Duration
		standard time.Duration
	}{
		{"CallTimeout", &d.config.CallTimeout, 10 * time.Second},
		{"MaintenanceWindow", &d.config.MaintenanceWindow, 4 * time.Hour},
	} {
		if *f.value < 0 {
			errs = append(errs, fmt.Errorf("config: %s is %s, want 0 or more", f.name, *f.value))
		}
		if *f.value == 0 {
			*f.value = f.standard
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("new diagnoser: %w", err)
	}
	return d, nil
}

// sharedDiagnoser is Diagnose's. It keeps nothing between diagnoses.
var sharedDiagnoser = sync.OnceValue(func() *Diagnoser {
	d, err := NewDiagnoser(nil)
	if err != nil {
		panic(err) // the zero config is valid
	}
	return d
})

// Diagnose is [Diagnoser.Diagnose] of a Diagnoser that all callers share.
func Diagnose(ctx context.Context, c *Client, refused error, h *History) (*Diagnosis, error) {
	return sharedDiagnoser().Diagnose(ctx, c, refused, h)
}

// Diagnose finds out why c's token is refused. refused is the error that c's
// call ended with: one that AfterRefresh reports true for, or the token
// endpoint's refusal of the refresh. A nil History says nothing.
//
// It asks Salesforce at most four times, one after the other, and stops at the
// first answer that settles it; often none is needed. It neither refreshes nor
// writes. Calls go through the Client's Before and After; where Before refuses
// them, there is less evidence.
//
// Callers that come while a diagnosis of the same org and app is under way
// share its answer, whatever refused and h they bring. Where its caller gives
// up, one of them starts anew.
//
// The error is ctx's, or that of a missing refusal. Whatever Salesforce does is
// no error but evidence.
func (d *Diagnoser) Diagnose(ctx context.Context, c *Client, refused error, h *History) (*Diagnosis, error) {
	if refused == nil {
		return nil, fmt.Errorf("diagnose org %s: nothing was refused", c.org)
	}
	if h == nil {
		h = &History{}
	}
	key := flightKey{c.org, c.app}
	for {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("diagnose org %s: %w", c.org, err)
		}
		d.mu.Lock()
		f := d.flights[key]
		if f == nil {
			f = &flight{done: make(chan struct{})}
			d.flights[key] = f
			d.mu.Unlock()
			return d.fly(ctx, key, f, c, refused, h)
		}
		d.mu.Unlock()
		select {
		case <-f.done:
			if f.result != nil {
				return f.result.clone(), nil
			}
		case <-ctx.Done():
			return nil, fmt.Errorf("diagnose org %s: %w", c.org, ctx.Err())
		}
	}
}

// fly makes the diagnosis that f stands for.
func (d *Diagnoser) fly(ctx context.Context, key flightKey, f *flight, c *Client, refused error, h *History) (*Diagnosis, error) {
	defer func() {
		d.mu.Lock()
		delete(d.flights, key)
		d.mu.Unlock()
		close(f.done)
	}()
	g := gathering{config: d.config, client: c}
	result, err := g.run(ctx, refused, h)
	if err != nil {
		return nil, fmt.Errorf("diagnose org %s: %w", c.org, err)
	}
	f.result = result
	return result.clone(), nil
}
