package main_test

import (
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	collectormetrics "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	collectortrace "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"
)

// collector takes in what is sent by OTLP over HTTP.
type collector struct {
	url string

	mu      sync.Mutex // protects what follows
	spans   map[string][]string
	metrics []string
}

func newCollector(t *testing.T) *collector {
	t.Helper()
	c := &collector{spans: make(map[string][]string)}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		c.mu.Lock()
		defer c.mu.Unlock()
		switch r.URL.Path {
		case "/v1/traces":
			var sent collectortrace.ExportTraceServiceRequest
			if err := proto.Unmarshal(body, &sent); err != nil {
				t.Error(err)
			}
			for _, resource := range sent.ResourceSpans {
				for _, scope := range resource.ScopeSpans {
					for _, span := range scope.Spans {
						id := hex.EncodeToString(span.TraceId)
						c.spans[id] = append(c.spans[id], span.Name)
					}
				}
			}
		case "/v1/metrics":
			var sent collectormetrics.ExportMetricsServiceRequest
			if err := proto.Unmarshal(body, &sent); err != nil {
				t.Error(err)
			}
			for _, resource := range sent.ResourceMetrics {
				for _, scope := range resource.ScopeMetrics {
					for _, m := range scope.Metrics {
						c.metrics = append(c.metrics, m.Name)
					}
				}
			}
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	t.Cleanup(server.Close)
	c.url = server.URL
	return c
}

func (c *collector) spansOf(trace string) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.spans[trace]
}

func (c *collector) metricNames() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.metrics
}
