package runner

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/riverqueue/river/rivertype"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/weirhq/weir/breaker"
	"github.com/weirhq/weir/jobs"
	"github.com/weirhq/weir/runner/internal/token"
	"github.com/weirhq/weir/sfapi"
)

// scope names the library in metrics and traces.
const scope = "github.com/weirhq/weir/runner"

// telemetry is what the runner tells OpenTelemetry; docs/observability.md lists
// it. Labels are bounded: kinds and reasons, and of orgs only the few that have
// the most trouble with their sessions.
type telemetry struct {
	tracer trace.Tracer

	calls       metric.Int64Counter
	callSeconds metric.Float64Histogram
	tokens      metric.Int64Counter
	jobs        metric.Int64Counter
	jobSeconds  metric.Float64Histogram
	jobWait     metric.Float64Histogram
	deadLetters metric.Int64Counter

	sessions *sessionErrors
	meter    metric.Meter
}

// secondsBuckets are for what takes from milliseconds to an hour.
var secondsBuckets = metric.WithExplicitBucketBoundaries(.005, .02, .1, .5, 1, 5, 20, 60, 300, 1200, 3600)

func newTelemetry(traces trace.TracerProvider, meters metric.MeterProvider) (*telemetry, error) {
	if traces == nil {
		traces = otel.GetTracerProvider()
	}
	if meters == nil {
		meters = otel.GetMeterProvider()
	}
	meter := meters.Meter(scope)
	t := &telemetry{tracer: traces.Tracer(scope), meter: meter, sessions: newSessionErrors()}
	var errs []error
	counter := func(name, unit, description string) metric.Int64Counter {
		c, err := meter.Int64Counter(name, metric.WithUnit(unit), metric.WithDescription(description))
		errs = append(errs, err)
		return c
	}
	histogram := func(name, description string) metric.Float64Histogram {
		h, err := meter.Float64Histogram(name, metric.WithUnit("s"), metric.WithDescription(description), secondsBuckets)
		errs = append(errs, err)
		return h
	}
	t.calls = counter("weir.calls", "{call}", "Calls to Salesforce, by operation and what a failure means.")
	t.callSeconds = histogram("weir.call.duration", "Time that calls to Salesforce took, by operation.")
	t.tokens = counter("weir.token.requests", "{request}", "Token requests, by why they were made and what came of them.")
	t.jobs = counter("weir.jobs", "{job}", "Runs of lane jobs, by kind, lane and what became of them.")
	t.jobSeconds = histogram("weir.job.duration", "Time that runs of lane jobs took, by kind.")
	t.jobWait = histogram("weir.job.wait", "Time from when a lane job was due to when it ran, by lane: holds and backlog included.")
	t.deadLetters = counter("weir.dead_letters", "{record}", "Records of writes that failed for good or whose outcome is unknown.")
	return t, errors.Join(errs...)
}

// gauges adds what is looked up when it is asked for, for a runner that works;
// end takes them away again.
func (t *telemetry) gauges(held func(context.Context) (map[breaker.Reason]int, error), gateLag func() time.Duration) (end func(), err error) {
	orgs, err := t.meter.Int64ObservableGauge("weir.orgs.held", metric.WithUnit("{org}"),
		metric.WithDescription("Orgs that are held, by reason: the same from every process. An org can have several."))
	lag, err2 := t.meter.Float64ObservableGauge("weir.gate.lag", metric.WithUnit("s"),
		metric.WithDescription("Time since this process's gate last looked for jobs to let through."))
	invalid, err3 := t.meter.Int64ObservableGauge("weir.org.invalid_sessions", metric.WithUnit("{call}"),
		metric.WithDescription("INVALID_SESSION_ID answers in the last hour to this process, of the ten orgs that have most."))
	end = func() {}
	if err := errors.Join(err, err2, err3); err != nil {
		return end, err
	}
	registration, err := t.meter.RegisterCallback(func(ctx context.Context, o metric.Observer) error {
		o.ObserveFloat64(lag, gateLag().Seconds())
		for _, s := range t.sessions.worst(time.Now()) {
			o.ObserveInt64(invalid, int64(s.count), metric.WithAttributes(attribute.String("org", string(s.org))))
		}
		reasons, err := held(ctx)
		if err != nil {
			return fmt.Errorf("runner: held orgs: %w", err)
		}
		for _, reason := range breaker.Reasons() {
			o.ObserveInt64(orgs, int64(reasons[reason]), metric.WithAttributes(attribute.String("reason", string(reason))))
		}
		return nil
	}, orgs, lag, invalid)
	if err == nil {
		end = func() { _ = registration.Unregister() } // its error is that it was done before
	}
	return end, err
}

// called tells of a call to Salesforce that has ended.
func (t *telemetry) called(ctx context.Context, c *sfapi.Call) {
	ended := time.Now()
	t.span(ctx, c, ended)
	if isInvalidSession(c) {
		t.sessions.add(c.Org, ended)
	}
	if t.calls.Enabled(ctx) {
		t.calls.Add(ctx, 1, metric.WithAttributes(attribute.String("op", c.Op), attribute.String("kind", c.Kind.String())))
	}
	if t.callSeconds.Enabled(ctx) {
		t.callSeconds.Record(ctx, c.Duration.Seconds(), metric.WithAttributes(attribute.String("op", c.Op)))
	}
}

func isInvalidSession(c *sfapi.Call) bool {
	if c.Kind == sfapi.KindNone {
		return false
	}
	e, ok := errors.AsType[*sfapi.Error](c.Err)
	return ok && e.Code == "INVALID_SESSION_ID"
}

// span tells of the call as part of its job. The attributes are those of
// https://opentelemetry.io/docs/specs/semconv/http/http-spans/, without the
// query, which holds customer data.
func (t *telemetry) span(ctx context.Context, c *sfapi.Call, ended time.Time) {
	_, span := t.tracer.Start(ctx, "salesforce "+c.Op, trace.WithSpanKind(trace.SpanKindClient), trace.WithTimestamp(ended.Add(-c.Duration)))
	if span.IsRecording() {
		span.SetAttributes(attribute.String("weir.org", string(c.Org)), attribute.String("http.request.method", c.Method),
			attribute.String("url.path", c.Path), attribute.Bool("weir.replay", c.Replay))
		if c.Status != 0 {
			span.SetAttributes(attribute.Int("http.response.status_code", c.Status))
		}
		if c.Err != nil {
			code, message := codeOf(c.Err)
			span.SetAttributes(attribute.String("error.type", code), attribute.String("weir.kind", c.Kind.String()))
			span.SetStatus(codes.Error, message)
		}
	}
	span.End(trace.WithTimestamp(ended))
}

// refreshed tells of a token request.
func (t *telemetry) refreshed(ctx context.Context, c *token.Call) {
	outcome := "token"
	if c.Err != nil {
		outcome = sfapi.KindOf(c.Err).String()
	}
	_, span := t.tracer.Start(ctx, "salesforce token", trace.WithSpanKind(trace.SpanKindClient), trace.WithTimestamp(c.At))
	if span.IsRecording() {
		span.SetAttributes(attribute.String("weir.org", string(c.Org)), attribute.String("weir.token.reason", string(c.Reason)))
		if c.Err != nil {
			code, message := codeOf(c.Err)
			span.SetAttributes(attribute.String("error.type", code))
			span.SetStatus(codes.Error, message)
		}
	}
	span.End(trace.WithTimestamp(c.At.Add(c.Took)))
	if t.tokens.Enabled(ctx) {
		t.tokens.Add(ctx, 1, metric.WithAttributes(attribute.String("reason", string(c.Reason)), attribute.String("outcome", outcome)))
	}
}

// failed tells of a write that has ended with dead letters.
func (t *telemetry) failed(ctx context.Context, f *jobs.WriteFailure) {
	for status, n := range map[jobs.WriteStatus]int{jobs.WriteFailed: f.Failed, jobs.WriteUnknown: f.Unknown} {
		if n > 0 {
			t.deadLetters.Add(ctx, int64(n), metric.WithAttributes(attribute.String("status", string(status))))
		}
	}
}

// begin opens the span of a job's run, below the span that enqueued it. end
// tells what became of the run.
func (t *telemetry) begin(ctx context.Context, job *rivertype.JobRow, org sfapi.OrgID, lane breaker.Lane) (_ context.Context, end func(outcome string, err error)) {
	began := time.Now()
	if t.jobWait.Enabled(ctx) {
		t.jobWait.Record(ctx, max(began.Sub(job.ScheduledAt), 0).Seconds(), metric.WithAttributes(attribute.String("lane", lane.String())))
	}
	ctx, span := t.tracer.Start(extractTrace(ctx, job.Metadata), job.Kind, trace.WithSpanKind(trace.SpanKindConsumer))
	if span.IsRecording() {
		span.SetAttributes(attribute.Int64("river.job.id", job.ID), attribute.Int("river.job.attempt", job.Attempt),
			attribute.String("weir.org", string(org)), attribute.String("weir.lane", lane.String()))
	}
	return ctx, func(outcome string, err error) {
		if span.IsRecording() {
			span.SetAttributes(attribute.String("weir.outcome", outcome))
			if err != nil && outcome != outcomeWaits {
				span.SetStatus(codes.Error, sfapi.Redact(err.Error()))
			}
		}
		span.End()
		if t.jobs.Enabled(ctx) {
			t.jobs.Add(ctx, 1, metric.WithAttributes(attribute.String("kind", job.Kind),
				attribute.String("lane", lane.String()), attribute.String("outcome", outcome)))
		}
		if t.jobSeconds.Enabled(ctx) {
			t.jobSeconds.Record(ctx, time.Since(began).Seconds(), metric.WithAttributes(attribute.String("kind", job.Kind)))
		}
	}
}

// What becomes of a job's run.
const (
	outcomeDone      = "done"
	outcomeWaits     = "waits" // it runs again without having spent an attempt
	outcomeError     = "error"
	outcomeCancelled = "cancelled"
)

func outcomeOf(err error) string {
	switch {
	case err == nil:
		return outcomeDone
	case errors.As(err, new(*rivertype.JobSnoozeError)):
		return outcomeWaits
	case errors.As(err, new(*rivertype.JobCancelError)):
		return outcomeCancelled
	default:
		return outcomeError
	}
}
