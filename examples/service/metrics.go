package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// scrapeTimeout bounds what a scrape asks the database.
const scrapeTimeout = 5 * time.Second

// metrics are what the service adds to the library's own. Labels are bounded:
// routes rather than paths.
type metrics struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	tracer   trace.Tracer
	handler  http.Handler
}

func newMetrics[TTx any](t *telemetry, a *api[TTx]) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "weir_http_requests_total", Help: "Requests by route, method and status.",
		}, []string{"route", "method", "status"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "weir_http_request_seconds", Help: "Time to answer, by route.", Buckets: prometheus.ExponentialBuckets(.001, 4, 8),
		}, []string{"route"}),
		tracer: t.traces.Tracer("github.com/weirhq/weir/examples/service"),
	}
	t.registry.MustRegister(m.requests, m.seconds, &databaseUp[TTx]{a})
	m.handler = promhttp.HandlerFor(t.registry, promhttp.HandlerOpts{
		ErrorHandling: promhttp.ContinueOnError, ErrorLog: scrapeLog{a.logger},
	})
	return m
}

// scrapeLog logs what a scrape could not get: held orgs while the database is
// away.
type scrapeLog struct{ logger *slog.Logger }

// Println implements promhttp.Logger.
func (l scrapeLog) Println(v ...any) { l.logger.Warn("metrics", "error", fmt.Sprint(v...)) }

// statusWriter remembers the status of an answer.
type statusWriter struct {
	http.ResponseWriter
	status int
}

// WriteHeader implements http.ResponseWriter.
func (w *statusWriter) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap serves http.ResponseController.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// count counts and traces the requests that next answers, by the routes of mux.
func (m *metrics) count(mux *http.ServeMux, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, route := mux.Handler(r)
		began := time.Now()
		ctx := propagation.TraceContext{}.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
		ctx, span := m.tracer.Start(ctx, methodLabel(r.Method)+" "+route, trace.WithSpanKind(trace.SpanKindServer),
			trace.WithAttributes(attribute.String("http.request.method", methodLabel(r.Method)), attribute.String("http.route", route)))
		defer span.End()
		sw := &statusWriter{ResponseWriter: w}
		next.ServeHTTP(sw, r.WithContext(ctx))
		if sw.status == 0 {
			sw.status = http.StatusOK
		}
		span.SetAttributes(attribute.Int("http.response.status_code", sw.status))
		if sw.status >= http.StatusInternalServerError {
			span.SetStatus(codes.Error, "")
		}
		m.requests.WithLabelValues(route, methodLabel(r.Method), strconv.Itoa(sw.status)).Inc()
		m.seconds.WithLabelValues(route).Observe(time.Since(began).Seconds())
	})
}

// methodLabel bounds the methods: anybody can make one up.
func methodLabel(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return method
	}
	return "other"
}

// databaseUp asks the database when it is asked.
type databaseUp[TTx any] struct{ api *api[TTx] }

var scrapeOK = prometheus.NewDesc("weir_database_up", "Whether the database answered this scrape.", nil, nil)

// Describe implements prometheus.Collector.
func (d *databaseUp[TTx]) Describe(ch chan<- *prometheus.Desc) { ch <- scrapeOK }

// Collect implements prometheus.Collector.
func (d *databaseUp[TTx]) Collect(ch chan<- prometheus.Metric) {
	up := 0.0
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	if d.api.migrated.Load() && d.api.runner.Ping(ctx) == nil {
		up = 1
	}
	ch <- prometheus.MustNewConstMetric(scrapeOK, prometheus.GaugeValue, up)
}
