package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel"
	"riverqueue.com/riverui"

	"github.com/weirhq/weir/jobs"
	"github.com/weirhq/weir/runner"
	"github.com/weirhq/weir/runner/runnerpgx"
	"github.com/weirhq/weir/runner/runnersqlite"
	"github.com/weirhq/weir/sfapi"
)

const (
	// stopTimeout is how long jobs may take to checkpoint, drainTimeout how
	// long everything may take after SIGTERM: within it the process ends.
	stopTimeout  = 4 * time.Second
	drainTimeout = 12 * time.Second

	// firstRetry and lastRetry are the pauses between attempts to reach a
	// database that was away at the start.
	firstRetry = 200 * time.Millisecond
	lastRetry  = 5 * time.Second
)

// errBadConfig is wrapped by what run returns for a configuration that only the
// library or the database could tell to be wrong.
var errBadConfig = errors.New("bad configuration")

// run serves until ctx ends.
func run(ctx context.Context, cfg *config, logger *slog.Logger) error {
	if strings.HasPrefix(cfg.DatabaseURL, sqlitePrefix) {
		db, err := openSQLite(cfg.DatabaseURL)
		if err != nil {
			return fmt.Errorf("%w: DATABASE_URL: %w", errBadConfig, err)
		}
		return errors.Join(serve(ctx, cfg, logger, runnersqlite.New(db)), db.Close())
	}
	pool, err := openPostgres(cfg.DatabaseURL)
	if err != nil {
		return fmt.Errorf("%w: DATABASE_URL: %w", errBadConfig, err)
	}
	defer closeWithin(pool.Close, time.Second)
	return serve(ctx, cfg, logger, runnerpgx.New(pool))
}

// closeWithin calls fn, and waits for it no longer than limit: a pool waits for
// connections that a dead database may hold for minutes.
func closeWithin(fn func(), limit time.Duration) {
	done := make(chan struct{})
	go func() { fn(); close(done) }()
	t := time.NewTimer(limit)
	defer t.Stop()
	select {
	case <-done:
	case <-t.C:
	}
}

// service is the process: the API, the worker and what shows them.
type service[TTx any] struct {
	api    *api[TTx]
	config *config
	logger *slog.Logger
	ui     *riverui.Handler

	metrics   *metrics
	telemetry *telemetry
}

func serve[TTx any](ctx context.Context, cfg *config, logger *slog.Logger, driver runner.Driver[TTx]) error {
	rc := &runner.Config[TTx]{
		App: cfg.app, Sealer: cfg.sealer, Logger: logger, StopTimeout: stopTimeout,
		ProbeMin: cfg.ProbeMin, ProbeMax: cfg.ProbeMax, DeadWorkerAfter: cfg.DeadWorkerAfter, Overlap: cfg.SyncOverlap,
	}
	tell, err := newTelemetry(ctx)
	if err != nil {
		return err
	}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { logger.Warn("telemetry", "error", secretsOf(err)) }))
	rc.TracerProvider, rc.MeterProvider = tell.traces, tell.meters
	if cfg.SyncOverlap == 0 {
		rc.Overlap = -1
	}
	if cfg.Worker {
		rc.Handlers = jobs.NewHandlers[TTx]()
		jobs.AddMirror(rc.Handlers, jobs.AnyObject, nil)
	}
	if cfg.WebhookURL != "" {
		rc.Webhook = &runner.Webhook{URL: cfg.WebhookURL}
		for _, secret := range strings.Fields(cfg.WebhookSecret) {
			rc.Webhook.Secrets = append(rc.Webhook.Secrets, sfapi.Secret(secret))
		}
	}
	weir, err := runner.New(driver, rc)
	if err != nil {
		return fmt.Errorf("%w: %w", errBadConfig, runnerErrors(err))
	}
	ui, err := riverui.NewHandler(&riverui.HandlerOpts{
		Endpoints: riverui.NewEndpoints(weir.River(), nil), Logger: logger, Prefix: "/riverui",
	})
	if err != nil {
		return err
	}
	s := &service[TTx]{
		api:    &api[TTx]{runner: weir, config: cfg, logger: logger},
		config: cfg, logger: logger, ui: ui, telemetry: tell,
	}
	s.metrics = newMetrics(tell, s.api)
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", cfg.ListenAddr)
	if err != nil {
		return err
	}
	logger.InfoContext(ctx, "listening", "addr", ln.Addr().String(), "worker", cfg.Worker)
	return s.run(ctx, ln)
}

// handler is everything that the service answers.
func (s *service[TTx]) handler() http.Handler {
	mux := http.NewServeMux()
	m := s.metrics
	s.api.routes(mux)
	mux.Handle("/riverui/", s.whenMigrated(s.ui))
	mux.Handle("/orgs.html", s.whenMigrated(s.api.runner.OrgsHandler(&runner.OrgsPage{RiverUI: "/riverui"})))
	mux.Handle("/metrics", m.handler)
	mux.Handle("/{$}", http.RedirectHandler("/orgs.html", http.StatusFound))
	return recovered(s.logger, m.count(mux, newGuard(s.config.APIToken, s.config.sealer, mux)))
}

// whenMigrated keeps a page from a database that is not there yet.
func (s *service[TTx]) whenMigrated(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !s.api.migrated.Load() {
			writeProblem(w, errUnavailable)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// run serves until ctx ends, and then stops everything within drainTimeout.
func (s *service[TTx]) run(ctx context.Context, ln net.Listener) error {
	server := &http.Server{
		Handler:           s.handler(),
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       time.Minute,
		WriteTimeout:      3 * time.Minute, // connecting an org may take a minute and a half
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(s.logger.Handler(), slog.LevelWarn),
	}
	working, stopWorking := context.WithCancel(context.WithoutCancel(ctx))
	defer stopWorking()
	failed := make(chan error, 2)
	var running sync.WaitGroup
	running.Go(func() {
		if err := server.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			failed <- err
		}
	})
	begun := make(chan struct{}) // closed when the worker runs or never will
	running.Go(func() {
		defer close(begun)
		if err := s.start(ctx, working); err != nil {
			failed <- err
		}
	})
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	s.api.working.Store(false)
	s.logger.InfoContext(ctx, "stopping")
	draining, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer cancel()
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		var stops sync.WaitGroup
		stops.Go(func() {
			if stopErr := server.Shutdown(draining); stopErr != nil {
				s.logger.ErrorContext(draining, "stop serving", "error", errors.Join(stopErr, server.Close()))
			}
		})
		stops.Go(func() {
			<-begun // what is just being started must be stopped too
			if stopErr := s.api.runner.Stop(draining); stopErr != nil {
				s.logger.ErrorContext(draining, "stop worker: others take its jobs over", "error", stopErr)
			}
		})
		stops.Wait()
		stopWorking()
		running.Wait()
		if err := s.telemetry.close(draining); err != nil {
			s.logger.WarnContext(draining, "telemetry: not all was sent", "error", secretsOf(err))
		}
	}()
	select {
	case <-stopped:
	case <-draining.Done():
		// What is left ends with the process, as in a crash: nothing is lost.
		s.logger.ErrorContext(draining, "not stopped in time")
	}
	return err
}

// start brings the database up to date and starts the worker, trying again
// while the database is away. It ends with ctx; what it starts lives as long as
// working.
func (s *service[TTx]) start(ctx, working context.Context) error {
	for wait := firstRetry; ; wait = min(2*wait, lastRetry) {
		err := s.startOnce(ctx, working)
		switch {
		case err == nil:
			return nil
		case !databaseAway(err) && ctx.Err() == nil:
			return fmt.Errorf("start: %w", err)
		}
		if ctx.Err() == nil {
			s.logger.WarnContext(ctx, "start again later", "error", err)
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return nil
		}
	}
}

func (s *service[TTx]) startOnce(ctx, working context.Context) error {
	if !s.api.migrated.Load() {
		if err := s.api.runner.Migrate(ctx); err != nil {
			return err
		}
		if err := s.ui.Start(working); err != nil {
			return err
		}
		s.api.migrated.Store(true)
	}
	if s.config.Worker {
		if err := s.api.runner.Start(working); err != nil {
			return err
		}
		s.api.working.Store(true)
	}
	s.logger.InfoContext(ctx, "ready")
	return nil
}
