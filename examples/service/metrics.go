package main

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/riverqueue/river"

	"github.com/weirhq/weir/runner"
)

// scrapeTimeout bounds what a scrape asks the database.
const scrapeTimeout = 5 * time.Second

// metrics are what /metrics shows. Labels are bounded: routes rather than
// paths, reasons rather than orgs.
type metrics struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	jobs     *prometheus.CounterVec
	handler  http.Handler
}

func newMetrics[TTx any](a *api[TTx]) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "weir_http_requests_total", Help: "Requests by route, method and status.",
		}, []string{"route", "method", "status"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "weir_http_request_seconds", Help: "Time to answer, by route.", Buckets: prometheus.ExponentialBuckets(.001, 4, 8),
		}, []string{"route"}),
	}
	m.jobs = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "weir_jobs_total", Help: "Jobs that this process worked, by kind and what became of them.",
	}, []string{"kind", "outcome"})
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		m.requests, m.seconds, m.jobs, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), &fleet[TTx]{a},
	)
	m.handler = promhttp.HandlerFor(registry, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError})
	return m
}

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

// count counts the requests that next answers, by the routes of mux.
func (m *metrics) count(mux *http.ServeMux, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, route := mux.Handler(r)
		began := time.Now()
		sw := &statusWriter{ResponseWriter: w}
		next.ServeHTTP(sw, r)
		if sw.status == 0 {
			sw.status = http.StatusOK
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

// countJobs counts the jobs that this process works, until ctx ends.
func countJobs[TTx any](ctx context.Context, m *metrics, client *river.Client[TTx]) {
	events, cancel := client.Subscribe(river.EventKindJobCompleted, river.EventKindJobFailed, river.EventKindJobCancelled, river.EventKindJobSnoozed)
	defer cancel()
	for {
		select {
		case <-ctx.Done():
			return
		case e, ok := <-events:
			if !ok {
				return
			}
			m.jobs.WithLabelValues(e.Job.Kind, strings.TrimPrefix(string(e.Kind), "job_")).Inc()
		}
	}
}

// fleet reads what all processes share, when it is asked.
type fleet[TTx any] struct{ api *api[TTx] }

var (
	heldOrgs = prometheus.NewDesc("weir_held_orgs", "Orgs that are held, by reason. An org can have several.", []string{"reason"}, nil)
	scrapeOK = prometheus.NewDesc("weir_database_up", "Whether the database answered this scrape.", nil, nil)
)

// Describe implements prometheus.Collector.
func (f *fleet[TTx]) Describe(ch chan<- *prometheus.Desc) {
	ch <- heldOrgs
	ch <- scrapeOK
}

// Collect implements prometheus.Collector.
func (f *fleet[TTx]) Collect(ch chan<- prometheus.Metric) {
	up := 0.0
	defer func() { ch <- prometheus.MustNewConstMetric(scrapeOK, prometheus.GaugeValue, up) }()
	if !f.api.migrated.Load() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	reasons, err := f.heldByReason(ctx)
	if err != nil {
		f.api.logger.WarnContext(ctx, "metrics: held orgs", "error", err)
		return
	}
	for reason, n := range reasons {
		ch <- prometheus.MustNewConstMetric(heldOrgs, prometheus.GaugeValue, float64(n), reason)
	}
	up = 1
}

func (f *fleet[TTx]) heldByReason(ctx context.Context) (map[string]int, error) {
	counts := make(map[string]int)
	p := &runner.OrgListParams{Held: true, Limit: maxOrgs}
	for {
		orgs, err := f.api.runner.Orgs().List(ctx, p)
		if err != nil {
			return nil, err
		}
		for _, o := range orgs {
			for i := range o.Holds {
				counts[string(o.Holds[i].Reason)]++
			}
		}
		if len(orgs) < p.Limit {
			return counts, nil
		}
		p.After = orgs[len(orgs)-1].ID
	}
}
