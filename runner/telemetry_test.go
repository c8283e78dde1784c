package runner_test

import (
	"context"
	"database/sql"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/weirhq/weir/breaker"
	"github.com/weirhq/weir/jobs"
	"github.com/weirhq/weir/runner"
)

// A trace goes from whoever enqueues through the job to each call of
// Salesforce, over processes and over the transaction of the app.
func TestTraces(t *testing.T) {
	t.Parallel()
	onBoth(t, testTraces[*sql.Tx], testTraces[pgx.Tx])
}

func testTraces[TTx any](t *testing.T, f *fixture[TTx]) {
	f.org.Seed("Account", 3, 1)
	jobs.AddMirror(f.handlers, "Account", nil)
	spans := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans))
	traced := func(c *runner.Config[TTx]) { c.TracerProvider = provider }
	f.running(t, traced)
	app := f.migrated(t, traced, func(c *runner.Config[TTx]) { c.Handlers = nil }) // enqueues only
	f.org.ExpireSessions()

	ctx, request := provider.Tracer("app").Start(t.Context(), "POST /contacts")
	var sync, write int64
	noError(t, f.inTx(func(tx TTx) error {
		res, err := app.InsertTx(ctx, tx, jobs.Sync{Org: f.orgID, Object: "Account"}, nil)
		if err != nil {
			return err
		}
		receipt, err := app.WriteTx(ctx, tx, &jobs.Write{Org: f.orgID, Object: "Contact", Operation: jobs.Insert, Records: []contact{{"LastName": "x"}}})
		if err == nil {
			sync, write = res.Job.ID, receipt.ID
		}
		return err
	}))
	request.End()
	f.ended(t, app, sync)
	f.settled(t, app, write)

	var all tracetest.SpanStubs
	eventually(t, "both jobs' spans ended", func() bool {
		all = spans.GetSpans()
		n := 0
		for _, s := range all {
			if s.SpanKind == trace.SpanKindConsumer && strings.HasPrefix(s.Name, "salesforce_") {
				n++
			}
		}
		return n >= 2
	})
	for _, s := range all {
		if strings.HasPrefix(s.Name, "salesforce_") && s.SpanContext.TraceID() != request.SpanContext().TraceID() {
			t.Errorf("span %q is of another trace", s.Name)
		}
	}
	for kind, call := range map[string]string{"salesforce_sync": "salesforce query", "salesforce_write": "salesforce collection insert"} {
		var job tracetest.SpanStub
		for _, s := range all {
			if s.Name == kind {
				job = s
			}
		}
		enqueued := slices.IndexFunc(all, func(s tracetest.SpanStub) bool { return s.SpanContext.SpanID() == job.Parent.SpanID() })
		if enqueued < 0 || all[enqueued].SpanKind != trace.SpanKindProducer || all[enqueued].Parent.SpanID() != request.SpanContext().SpanID() {
			t.Fatalf("%s is not below the request, by what enqueued it: %v", kind, names(all))
		}
		if !slices.ContainsFunc(all, func(s tracetest.SpanStub) bool {
			return strings.HasPrefix(s.Name, call) && s.SpanKind == trace.SpanKindClient && s.Parent.SpanID() == job.SpanContext.SpanID()
		}) {
			t.Errorf("no %q below %s in %v", call, kind, names(all))
		}
	}
	for _, s := range all {
		for _, a := range s.Attributes {
			if v := a.Value.String(); strings.Contains(v, "SELECT") || strings.Contains(v, "!AQ") {
				t.Errorf("span %q has %s = %s", s.Name, a.Key, v)
			}
		}
	}
}

func names(spans tracetest.SpanStubs) (out []string) {
	for _, s := range spans {
		out = append(out, s.Name)
	}
	return out
}

// The metrics count what happened, and name no more orgs than a few.
func TestMetrics(t *testing.T) {
	t.Parallel()
	onBoth(t, testMetrics[*sql.Tx], testMetrics[pgx.Tx])
}

func testMetrics[TTx any](t *testing.T, f *fixture[TTx]) {
	f.org.Seed("Account", 3, 1)
	jobs.AddMirror(f.handlers, "Account", nil)
	reader := sdkmetric.NewManualReader()
	r := f.running(t, func(c *runner.Config[TTx]) {
		c.MeterProvider = sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))
	})
	f.org.ExpireSessions()
	f.completed(t, r, jobs.Sync{Object: "Account"})
	rows := f.write(t, r, jobs.Write{Object: "Contact", Operation: jobs.Insert, Records: []contact{{"LastName": "x"}, {"LastName": "y", "Email": "not an address"}}})
	f.told(t, r, runner.EventWriteFailed, 1)
	if _, err := r.Orgs().Hold(t.Context(), f.orgID, breaker.Write); err != nil || rows == nil {
		t.Fatal(err)
	}
	want := map[string]float64{
		"weir.calls{kind=session_expired_or_invalid,op=describe}":  1,
		"weir.token.requests{outcome=token,reason=refused}":        1,
		"weir.jobs{kind=salesforce_sync,lane=sync,outcome=done}":   1,
		"weir.jobs{kind=salesforce_write,lane=write,outcome=done}": 1,
		"weir.dead_letters{status=failed}":                         1,
		"weir.orgs.held{reason=operator}":                          1,
		"weir.orgs.held{reason=maintenance}":                       0,
		"weir.org.invalid_sessions{org=" + string(f.orgID) + "}":   1,
		"weir.call.duration{op=query}":                             1,
		"weir.job.duration{kind=salesforce_sync}":                  1,
		"weir.job.wait{lane=sync}":                                 1,
	}
	var got map[string]float64
	defer func() {
		if t.Failed() {
			t.Logf("metrics %v", got)
		}
	}()
	eventually(t, "the metrics are as they should be", func() bool {
		got = collect(t, reader)
		for name, v := range want {
			if got[name] != v {
				return false
			}
		}
		return true
	})
	if lag, ok := got["weir.gate.lag"]; !ok || lag < 0 || lag > 60 {
		t.Errorf("gate lag %v", lag)
	}
	noError(t, r.Stop(context.WithoutCancel(t.Context())))
	if _, there := collect(t, reader)["weir.gate.lag"]; there {
		t.Error("a stopped runner is still asked for its gauges")
	}
}

// collect reads the metrics: values, or how many were measured.
func collect(t *testing.T, reader sdkmetric.Reader) map[string]float64 {
	t.Helper()
	var all metricdata.ResourceMetrics
	noError(t, reader.Collect(t.Context(), &all))
	out := make(map[string]float64)
	for _, s := range all.ScopeMetrics {
		for _, m := range s.Metrics {
			switch data := m.Data.(type) {
			case metricdata.Sum[int64]:
				for _, p := range data.DataPoints {
					out[m.Name+labels(p.Attributes.ToSlice())] = float64(p.Value)
				}
			case metricdata.Gauge[int64]:
				for _, p := range data.DataPoints {
					out[m.Name+labels(p.Attributes.ToSlice())] = float64(p.Value)
				}
			case metricdata.Gauge[float64]:
				for _, p := range data.DataPoints {
					out[m.Name+labels(p.Attributes.ToSlice())] = p.Value
				}
			case metricdata.Histogram[float64]:
				for _, p := range data.DataPoints {
					out[m.Name+labels(p.Attributes.ToSlice())] = float64(p.Count)
				}
			}
		}
	}
	return out
}

func labels(attributes []attribute.KeyValue) string {
	if len(attributes) == 0 {
		return ""
	}
	var out []string
	for _, a := range attributes {
		out = append(out, string(a.Key)+"="+a.Value.String())
	}
	slices.Sort(out)
	return "{" + strings.Join(out, ",") + "}"
}
