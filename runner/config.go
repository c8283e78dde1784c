package runner

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/riverqueue/river"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/weirhq/weir/jobs"
	"github.com/weirhq/weir/sfapi"
)

// Config configures a Runner. App and Sealer are required; the zero value of
// every other field is its default.
type Config[TTx any] struct {
	// App is the OAuth app that orgs are connected with.
	App *sfapi.App

	// Sealer encrypts the orgs' secrets before they reach the database. A
	// tink.AEAD is one.
	Sealer Sealer

	// Handlers says what the worker does with each object. Nil makes a runner
	// that only enqueues: Start returns an error.
	Handlers *jobs.Handlers[TTx]

	// River is the base of River's client configuration, for apps that run
	// jobs of their own beside Weir's: their Workers, Queues and middleware
	// are kept, Weir's are added to them (to the given Workers bundle too).
	River *river.Config

	// Logger defaults to slog.Default.
	Logger *slog.Logger

	// TracerProvider and MeterProvider are OpenTelemetry's: of spans from
	// enqueueing through the job to each call to Salesforce, and of the
	// metrics that docs/observability.md lists. Default to the global ones,
	// which do nothing until the app sets them.
	TracerProvider trace.TracerProvider
	MeterProvider  metric.MeterProvider

	// Transport carries the calls to Salesforce. Defaults to App.Transport,
	// and without it to one made for the purpose.
	Transport http.RoundTripper

	// SyncWorkers and WriteWorkers bound the jobs of each lane that this
	// process works at once. Default to 16 each.
	SyncWorkers, WriteWorkers int

	// SyncWindow and WriteWindow bound the jobs of one org in flight over all
	// processes. Default to 4 and 1; with 1 the jobs of a lane keep their
	// order.
	SyncWindow, WriteWindow int

	// Slice is how long a built-in job runs before it saves how far it came
	// and lets others through. Defaults to 60 seconds.
	Slice time.Duration

	// Overlap is how far below its cursor an incremental sync reads again,
	// for rows that became visible late. Defaults to 5 minutes; -1 reads
	// nothing again.
	Overlap time.Duration

	// DeadWorkerAfter is the age of a heartbeat at which a process is taken
	// for dead and its jobs are put back. It makes no more calls for them
	// itself then: see ErrNoHeartbeat. Defaults to 60 seconds.
	DeadWorkerAfter time.Duration

	// ProbeMin and ProbeMax are the first and the longest wait between probes
	// of a hold. Default to 30 seconds and 15 minutes.
	ProbeMin, ProbeMax time.Duration

	// FailedCallRetention is how long failed calls and token requests are kept
	// to look at, CallCountRetention how long the counts by hour are. Default
	// to 7 and 30 days; -1 keeps none.
	FailedCallRetention, CallCountRetention time.Duration

	// APIReserve is the share of an org's daily API requests that is left to
	// the customer's other uses: an org with no more left is held for
	// daily_limit before Salesforce refuses a call. It counts for the org's
	// limit and for one of the app's own, as Sforce-Limit-Info reports them.
	// Defaults to 0.05; -1 reserves none.
	APIReserve float64

	// WriteReserve is the further share that syncs leave to writes: with less
	// left, calls of the sync lane wait. Defaults to 0.1; -1 leaves none.
	WriteReserve float64

	// TokenRate bounds the token requests of this process, in requests a
	// second over all orgs, so that ten thousand sessions that end together
	// are no burst on Salesforce's login hosts. Defaults to 25.
	TokenRate float64

	// Introspect asks orgs in use when their sessions end, for apps that may
	// introspect tokens. Otherwise the end is taken from issued_at and the
	// session timeout: two hours, or what the org's sessions have shown.
	Introspect bool

	// Mint makes a token for an org that was connected without a refresh
	// token: by client credentials or JWT bearer. It is called by one process
	// at a time for an org. Without it such orgs cannot be connected.
	Mint func(ctx context.Context, org *Org) (*sfapi.Token, error)

	// OnEvent is told of each event, at least once: an error has it told again
	// later, for about three weeks. It runs in worker processes, on any of
	// them: all must have it, or none. Defaults to nothing.
	OnEvent func(ctx context.Context, e *Event) error

	// Webhook is sent each event too, independently of OnEvent, by worker
	// processes: all must have it, or none. Defaults to nothing.
	Webhook *Webhook

	// EventRetention is how long events are kept for Runner.Events, and for
	// deliveries that are still tried. Defaults to 30 days.
	EventRetention time.Duration

	// StopTimeout is how long Stop lets jobs checkpoint before it cancels
	// their contexts. Defaults to 10 seconds.
	StopTimeout time.Duration
}

const (
	defaultWorkers         = 16
	defaultSyncWindow      = 4
	defaultWriteWindow     = 1
	defaultSlice           = 60 * time.Second
	defaultOverlap         = 5 * time.Minute
	defaultDeadWorkerAfter = 60 * time.Second
	defaultStopTimeout     = 10 * time.Second
	defaultProbeMin        = 30 * time.Second
	defaultProbeMax        = 15 * time.Minute

	defaultAPIReserve   = 0.05
	defaultWriteReserve = 0.1

	defaultEventRetention      = 30 * 24 * time.Hour
	defaultFailedCallRetention = 7 * 24 * time.Hour
	defaultCallCountRetention  = 30 * 24 * time.Hour

	minDeadWorkerAfter = time.Second
	maxOverlap         = 30 * 24 * time.Hour
)

// ConfigError says which field of a Config is wrong, and why.
type ConfigError struct {
	Field   string
	Message string
}

// Error implements error.
func (e *ConfigError) Error() string { return "runner: Config." + e.Field + " " + e.Message }

// withDefaults returns a copy with every default filled in, or all that is
// wrong with it, joined.
func (c *Config[TTx]) withDefaults() (*Config[TTx], error) {
	var errs []error
	bad := func(field, format string, args ...any) {
		errs = append(errs, &ConfigError{field, fmt.Sprintf(format, args...)})
	}
	out := Config[TTx]{}
	if c != nil {
		out = *c
	}
	if out.App == nil {
		bad("App", "is required")
	} else if err := out.App.Validate(); err != nil {
		bad("App", "is not usable: %v", err)
	}
	if out.Sealer == nil {
		bad("Sealer", "is required: without one the orgs' tokens would lie in the database in clear")
	}
	if out.Handlers != nil {
		if err := out.Handlers.Validate(); err != nil {
			bad("Handlers", "are not usable: %v", err)
		}
	}
	if out.Logger == nil {
		out.Logger = slog.Default()
	}
	if out.Transport == nil && out.App != nil {
		out.Transport = out.App.Transport
	}
	number := func(field string, v *int, def int) {
		if *v < 0 {
			bad(field, "is %d, at least 1 is needed", *v)
		}
		if *v == 0 {
			*v = def
		}
	}
	number("SyncWorkers", &out.SyncWorkers, defaultWorkers)
	number("WriteWorkers", &out.WriteWorkers, defaultWorkers)
	number("SyncWindow", &out.SyncWindow, defaultSyncWindow)
	number("WriteWindow", &out.WriteWindow, defaultWriteWindow)
	if out.TokenRate < 0 {
		bad("TokenRate", "is %g, less than nothing", out.TokenRate)
	}
	share := func(field string, v *float64, def float64) {
		switch {
		case *v == -1:
			*v = 0
		case *v == 0:
			*v = def
		case !(*v > 0 && *v < 1): // NaN too
			bad(field, "is %g, not a share between 0 and 1", *v)
		}
	}
	share("APIReserve", &out.APIReserve, defaultAPIReserve)
	share("WriteReserve", &out.WriteReserve, defaultWriteReserve)
	if out.APIReserve+out.WriteReserve >= 1 {
		bad("WriteReserve", "is %g, which with APIReserve, %g, leaves nothing to syncs", out.WriteReserve, out.APIReserve)
	}
	duration := func(field string, v *time.Duration, def, least, most time.Duration) {
		if *v == 0 {
			*v = def
		}
		if *v < least || (most > 0 && *v > most) {
			bad(field, "is %v, out of bounds", *v)
		}
	}
	duration("Slice", &out.Slice, defaultSlice, time.Millisecond, 0)
	duration("DeadWorkerAfter", &out.DeadWorkerAfter, defaultDeadWorkerAfter, minDeadWorkerAfter, 0)
	duration("ProbeMin", &out.ProbeMin, defaultProbeMin, time.Millisecond, 0)
	duration("ProbeMax", &out.ProbeMax, max(defaultProbeMax, out.ProbeMin), time.Millisecond, 0)
	if out.ProbeMax < out.ProbeMin {
		bad("ProbeMax", "is %v, less than ProbeMin, %v", out.ProbeMax, out.ProbeMin)
	}
	for _, keep := range []struct {
		field string
		v     *time.Duration
		def   time.Duration
	}{
		{"FailedCallRetention", &out.FailedCallRetention, defaultFailedCallRetention},
		{"CallCountRetention", &out.CallCountRetention, defaultCallCountRetention},
	} {
		if *keep.v != -1 {
			duration(keep.field, keep.v, keep.def, time.Hour, 0)
		}
	}
	duration("EventRetention", &out.EventRetention, defaultEventRetention, time.Hour, 0)
	if out.Webhook != nil {
		w, err := out.Webhook.withDefaults()
		if err != nil {
			errs = append(errs, err)
		}
		out.Webhook = w
	}
	duration("StopTimeout", &out.StopTimeout, defaultStopTimeout, 0, 0)
	if out.Overlap == -1 {
		out.Overlap = 0
	} else {
		duration("Overlap", &out.Overlap, defaultOverlap, 0, maxOverlap)
	}
	if out.River != nil {
		if out.River.Schema != "" {
			bad("River", "has Schema %q: Weir's tables stand in the first schema of search_path, and River's with them", out.River.Schema)
		}
		if id := out.River.ID; id != "" && !processIDPattern.MatchString(id) {
			bad("River", "has ID %q, which is not usable", id)
		}
		for name := range out.River.Queues {
			if strings.HasPrefix(name, "sf_") {
				bad("River", "has queue %q: names that begin with sf_ are Weir's", name)
			}
		}
	}
	return &out, errors.Join(errs...)
}

var processIDPattern = regexp.MustCompile(`^[^\x00-\x1f]{1,100}$`)

// newProcessID names this process in River's jobs and in our heartbeats.
func newProcessID() string {
	host, err := os.Hostname()
	if err != nil || host == "" {
		host = "unknown"
	}
	return fmt.Sprintf("%.60s_%d_%s", strings.ReplaceAll(host, ".", "_"), os.Getpid(), rand.Text()[:10])
}
