package runner

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivermigrate"

	"github.com/weirhq/weir/breaker"
	"github.com/weirhq/weir/jobs"
	"github.com/weirhq/weir/runner/internal/store"
	"github.com/weirhq/weir/runner/internal/token"
	"github.com/weirhq/weir/sfapi"
)

// Runner enqueues Salesforce jobs, and works them once started. TTx is the
// app's transaction type, pgx.Tx or *sql.Tx. Its methods may be called
// concurrently.
type Runner[TTx any] struct {
	config   *Config[TTx]
	app      *sfapi.App
	process  string // names this process: River's client ID too
	store    store.Store[TTx]
	river    *river.Client[TTx]
	tokens   *token.Manager
	clients  *clients[TTx]
	holds    *holds[TTx]
	calls    *callLog
	pulse    *pulse
	tell     *telemetry
	untell   func()         // ends the gauges
	webhook  *webhookSender // nil without Config.Webhook
	logger   *slog.Logger
	draining chan struct{} // closed when Stop begins
	gateTick time.Duration // 0 for the constant; tests have time pass faster

	cancelKick chan struct{} // holds one: there are new cancellations
	looping    atomic.Bool   // the loops run that work them
	forgetting sync.Mutex    // one grant is revoked at a time, once

	drainOnce sync.Once
	loops     sync.WaitGroup

	mu       sync.Mutex // protects what follows
	state    runState
	endLoops context.CancelFunc
	unwatch  func() bool // stops the wait for the end of Start's ctx
}

type runState int

const (
	notStarted runState = iota
	started
	stopped
)

// ErrNoHandlers is returned by Start for a runner made without Handlers.
var ErrNoHandlers = errors.New("runner: Config.Handlers is nil: this runner only enqueues")

// New makes a Runner. It opens no connection and starts nothing. The error
// joins a ConfigError for each field that is wrong.
func New[TTx any](driver Driver[TTx], config *Config[TTx]) (*Runner[TTx], error) {
	cfg, err := config.withDefaults()
	if driver.store == nil {
		err = errors.Join(&ConfigError{"Driver", "is the zero value: use runnerpgx.New or runnersqlite.New"}, err)
	}
	if err != nil {
		return nil, err
	}
	r := &Runner[TTx]{
		config: cfg, store: driver.store, logger: cfg.Logger,
		process: newProcessID(), draining: make(chan struct{}), cancelKick: make(chan struct{}, 1),
		calls: newCallLog(driver.store, cfg.Logger, cfg.FailedCallRetention, cfg.CallCountRetention),
		pulse: &pulse{deadAfter: cfg.DeadWorkerAfter},
	}
	if r.tell, err = newTelemetry(cfg.TracerProvider, cfg.MeterProvider); err != nil {
		return nil, fmt.Errorf("runner: metrics: %w", err)
	}
	rc := river.Config{}
	if cfg.River != nil {
		rc = *cfg.River
	}
	if rc.ID != "" {
		r.process = rc.ID
	}
	rc.ID = r.process
	app := *cfg.App
	if cfg.Transport != nil {
		app.Transport = cfg.Transport
	}
	r.app = &app
	if r.holds, err = newHolds(r); err != nil {
		return nil, fmt.Errorf("runner: Config: %w", err)
	}
	r.tokens, err = token.New(r.store, r.app, cfg.Sealer, &token.Config{
		Owner: r.process, Logger: r.logger, OnVerdict: r.holds.refusedToken,
		OnCall: func(ctx context.Context, c *token.Call) {
			r.calls.refreshed(ctx, c)
			r.tell.refreshed(ctx, c)
		},
		Rate: cfg.TokenRate, Introspect: cfg.Introspect, Mint: r.mint(),
	})
	if err != nil {
		return nil, fmt.Errorf("runner: %w", err)
	}
	r.clients = newClients(r)
	if cfg.Webhook != nil {
		if r.webhook, err = newWebhookSender(cfg.Webhook, r.logger); err != nil {
			return nil, err
		}
	}
	if err := r.configureRiver(&rc); err != nil {
		return nil, err
	}
	if r.river, err = river.NewClient(r.store.Driver(), &rc); err != nil {
		return nil, fmt.Errorf("runner: River client: %w", err)
	}
	return r, nil
}

// insertCooldown is how often the inserting client may notify for one queue.
// River drops what comes sooner, without a later notification: the job then
// waits for a poll.
const insertCooldown = time.Millisecond

// runQueueCooldown bounds how often a run queue is fetched from.
const runQueueCooldown = 5 * time.Millisecond

// runQueuePoll is how often a run queue is looked into that nothing was heard
// of: the gate tells of every job that it lets through.
const runQueuePoll = 5 * time.Second

// cancelledJobRetention is how long River keeps cancelled jobs, where the app
// has not said: for so long a reconnect can put them back. River's own default
// is a day.
const cancelledJobRetention = 30 * 24 * time.Hour

// controlWorkers work probes and events, which are short, and webhooks, which a
// slow receiver makes long: the probes of an instance in maintenance must not
// wait for it.
const controlWorkers = 32

// configureRiver adds Weir's parts to the app's River configuration.
func (r *Runner[TTx]) configureRiver(rc *river.Config) error {
	cfg := r.config
	if rc.Logger == nil {
		rc.Logger = r.logger
	}
	if rc.FetchCooldown == 0 {
		rc.FetchCooldown = insertCooldown
	}
	if rc.CancelledJobRetentionPeriod == 0 {
		rc.CancelledJobRetentionPeriod = cancelledJobRetention
	}
	if rc.SoftStopTimeout == 0 {
		rc.SoftStopTimeout = cfg.StopTimeout
	}
	rc.Middleware = append(slices.Clone(rc.Middleware), &laneInsert{}, &traceInsert{telemetry: r.tell}, &guard[TTx]{runner: r})
	if cfg.Handlers == nil {
		return nil
	}
	if rc.Workers == nil {
		rc.Workers = river.NewWorkers()
	}
	env := &jobs.Env[TTx]{
		Store: r.store, Client: r.clients.get, Draining: r.draining,
		SchemaChanged: r.schemaChangedTx, WriteFailed: r.writeFailedTx,
		Slice: cfg.Slice, Overlap: cfg.Overlap, Logger: r.logger,
	}
	if err := cfg.Handlers.Register(rc.Workers, env); err != nil {
		return &ConfigError{"Handlers", fmt.Sprintf("cannot be registered with River: %v", err)}
	}
	if err := errors.Join(
		river.AddWorkerSafely(rc.Workers, &probeWorker[TTx]{runner: r}),
		river.AddWorkerSafely(rc.Workers, &eventWorker[TTx]{runner: r}),
		river.AddWorkerSafely(rc.Workers, &webhookWorker[TTx]{runner: r}),
	); err != nil {
		return &ConfigError{"River", fmt.Sprintf("has workers of Weir's kinds: %v", err)}
	}
	rc.Queues = maps.Clone(rc.Queues)
	if rc.Queues == nil {
		rc.Queues = make(map[string]river.QueueConfig)
	}
	var poll time.Duration // River's
	if r.store.Driver().SupportsListener() && !rc.PollOnly && rc.FetchPollInterval == 0 {
		poll = runQueuePoll
	}
	rc.Queues[breaker.Sync.RunQueue()] = river.QueueConfig{MaxWorkers: cfg.SyncWorkers, FetchCooldown: runQueueCooldown, FetchPollInterval: poll}
	rc.Queues[breaker.Write.RunQueue()] = river.QueueConfig{MaxWorkers: cfg.WriteWorkers, FetchCooldown: runQueueCooldown, FetchPollInterval: poll}
	rc.Queues[breaker.ControlQueue] = river.QueueConfig{MaxWorkers: controlWorkers, FetchCooldown: runQueueCooldown}
	return nil
}

// River returns the River client that this runner inserts and works with, for
// jobs of the app's own and for River UI.
func (r *Runner[TTx]) River() *river.Client[TTx] { return r.river }

// Migrate brings River's tables and Weir's up to the newest version. Several
// processes may call it at once, on an empty database too.
func (r *Runner[TTx]) Migrate(ctx context.Context) error {
	return r.store.Exclusive(ctx, "migrate", func(ctx context.Context) error {
		migrator, err := rivermigrate.New(r.store.Driver(), &rivermigrate.Config{Logger: r.logger})
		if err != nil {
			return fmt.Errorf("migrate River: %w", err)
		}
		if _, err := migrator.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
			return fmt.Errorf("migrate River: %w", err)
		}
		return r.store.Migrate(ctx)
	})
}

// Ping returns nil when the database answers.
func (r *Runner[TTx]) Ping(ctx context.Context) error { return r.store.Ping(ctx) }

// Start begins to work jobs and returns. Cancelling ctx stops the runner as
// Stop does. A runner can be started once.
func (r *Runner[TTx]) Start(ctx context.Context) error {
	if r.config.Handlers == nil {
		return ErrNoHandlers
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.state != notStarted {
		return errors.New("runner: started before")
	}
	if err := r.tokens.Check(ctx); err != nil {
		return fmt.Errorf("runner: Config.Sealer: %w", err)
	}
	if err := r.beat(ctx); err != nil {
		return fmt.Errorf("runner: start: %w", err)
	}
	// The loops outlive ctx: they serve the jobs that drain.
	loopCtx, end := context.WithCancel(context.WithoutCancel(ctx))
	riverCtx := context.WithoutCancel(ctx)
	if err := r.tokens.Start(loopCtx); err != nil {
		end()
		return fmt.Errorf("runner: start: %w", err)
	}
	if err := r.river.Start(riverCtx); err != nil {
		end()
		return errors.Join(fmt.Errorf("runner: start River: %w", err), r.tokens.Close(ctx))
	}
	r.endLoops, r.state = end, started
	r.looping.Store(true)
	g := newGate(r)
	untell, err := r.tell.gauges(r.heldByReason, g.lag)
	if err != nil { // work goes on without them
		r.logger.ErrorContext(ctx, "metrics", "error", err)
	}
	r.untell = untell
	reconcile := func(ctx context.Context) { r.holds.reconcile(ctx, g.pressed) }
	for _, loop := range []func(context.Context){g.run, g.listen, g.watchFinished, r.heartbeat, r.sweep, r.watchOrgs, r.holds.follow, reconcile, r.calls.run, r.calls.prune, r.cancellations, r.pruneEvents, r.schedule} {
		r.loops.Go(func() { loop(loopCtx) })
	}
	r.unwatch = context.AfterFunc(ctx, func() {
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*r.config.StopTimeout+time.Second)
		defer cancel()
		if err := r.Stop(ending); err != nil {
			r.logger.ErrorContext(ending, "stop", "error", err)
		}
	})
	return nil
}

// Stop lets running jobs checkpoint, interrupts those that do not within
// Config.StopTimeout, and returns when all have ended and are back in their
// lanes. When ctx ends first it interrupts at once and returns ctx's error.
// Nothing is lost either way. Stopping a runner that was never started does
// nothing.
func (r *Runner[TTx]) Stop(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.state != started {
		return nil
	}
	r.state = stopped
	r.unwatch()
	r.drainOnce.Do(func() { close(r.draining) })
	err := r.river.Stop(ctx)
	if err != nil {
		hard, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.config.StopTimeout)
		defer cancel()
		err = errors.Join(err, r.river.StopAndCancel(hard))
	}
	r.looping.Store(false)
	r.untell()
	r.endLoops()
	r.loops.Wait()
	saving, cancelSaving := context.WithTimeout(context.WithoutCancel(ctx), r.config.StopTimeout)
	defer cancelSaving()
	err = errors.Join(err, r.tokens.Close(saving))
	if flushErr := r.calls.flush(ctx); flushErr != nil {
		r.logger.WarnContext(ctx, "save calls", "error", flushErr) // they are for people to look at
	}
	retire, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if retireErr := r.store.Retire(retire, r.process); retireErr != nil {
		// The heartbeat grows old by itself; nobody waits for it.
		r.logger.WarnContext(ctx, "retire heartbeat", "process", r.process, "error", retireErr)
	}
	if err != nil {
		return fmt.Errorf("runner: stop: %w", err)
	}
	return nil
}
