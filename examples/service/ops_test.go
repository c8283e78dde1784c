package main_test

import (
	"encoding/json"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v2"

	"github.com/weirhq/weir/breaker"
)

var metricName = regexp.MustCompile(`\bweir_[a-z0-9_]+`)

// metricsAreThere checks that what the dashboard and the alerts ask for is what
// the processes show, after all that the steps before did.
func metricsAreThere(t *testing.T, f *fleet, _ *simulator, _ string) {
	var shown strings.Builder
	for range f.urls {
		shown.WriteString(f.want(http.StatusOK, "GET", "/metrics", "").body)
	}
	there := make(map[string]bool)
	for line := range strings.Lines(shown.String()) {
		if name := metricName.FindString(line); name != "" && !strings.HasPrefix(line, "#") {
			there[name] = true
		}
	}
	rules, dashboard := readRules(t), readDashboard(t)
	for where, list := range map[string][]string{"alerts.yml": rules, "dashboard.json": dashboard} {
		if len(list) < 5 {
			t.Errorf("%s asks for %d things", where, len(list))
		}
		for _, expr := range list {
			names := metricName.FindAllString(expr, -1)
			if len(names) == 0 {
				t.Errorf("%s: %q asks for none of our metrics", where, expr)
			}
			for _, name := range names {
				if !there[name] {
					t.Errorf("%s: no metric %s", where, name)
				}
			}
			for _, m := range regexp.MustCompile(`reason(?:=|!~|=~)"([^"]*)"`).FindAllStringSubmatch(expr, -1) {
				for reason := range strings.SplitSeq(m[1], "|") {
					if !breaker.Reason(reason).Valid() {
						t.Errorf("%s: there is no reason %q", where, reason)
					}
				}
			}
		}
	}
	if !strings.Contains(shown.String(), `weir_orgs_held{reason="maintenance"} 0`) {
		t.Error("held orgs are not shown by reason")
	}
}

// readRules returns the expressions of the alerts.
func readRules(t *testing.T) (exprs []string) {
	t.Helper()
	file, err := os.ReadFile("ops/alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	var rules struct {
		Groups []struct {
			Name  string
			Rules []struct {
				Alert, Expr, For    string
				Labels, Annotations map[string]string
			}
		}
	}
	if err := yaml.UnmarshalStrict(file, &rules); err != nil {
		t.Fatal(err)
	}
	for _, g := range rules.Groups {
		for _, r := range g.Rules {
			if r.Alert == "" || r.Labels["severity"] == "" || r.Annotations["summary"] == "" || r.Annotations["description"] == "" {
				t.Errorf("rule %+v is not complete", r)
			}
			exprs = append(exprs, r.Expr)
		}
	}
	return exprs
}

// readDashboard returns the expressions of the panels.
func readDashboard(t *testing.T) (exprs []string) {
	t.Helper()
	file, err := os.ReadFile("ops/dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		Title  string
		Panels []struct {
			ID      int
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(file, &d); err != nil {
		t.Fatal(err)
	}
	var ids []int
	for _, p := range d.Panels {
		if slices.Contains(ids, p.ID) || p.Title == "" || len(p.Targets) == 0 {
			t.Errorf("panel %+v is not complete", p)
		}
		ids = append(ids, p.ID)
		for _, target := range p.Targets {
			exprs = append(exprs, target.Expr)
		}
	}
	return exprs
}

// Traces and metrics go to a collector where the environment names one: those
// of a request reach Salesforce's calls in one trace, and what was not sent yet
// is sent when the service stops.
func TestOTLP(t *testing.T) {
	t.Parallel()

	got := newCollector(t)
	sim := startSimulator(t)
	f := startFleet(t, 1, environment(t, sqliteURL(t), sim.url, "OTEL_EXPORTER_OTLP_ENDPOINT="+got.url, "OTEL_SERVICE_NAME=weir-test"))
	f.want(http.StatusCreated, "POST", "/orgs", `{"refresh_token":"`+sim.grant(t)+`"}`)
	const request = "4bf92f3577b34da6a3ce929d0e0e4736"
	job := f.want(http.StatusAccepted, "POST", "/orgs/"+sim.org+"/syncs", `{"object":"Account"}`, "Traceparent", "00-"+request+"-00f067aa0ba902b7-01").text("job_id")
	f.becomes("/jobs/"+job, "state", "completed")
	for _, p := range f.procs {
		p.stop(t)
	}
	spans := got.spansOf(request)
	for _, name := range []string{"POST /orgs/{org}/syncs", "enqueue salesforce_sync", "salesforce_sync", "salesforce query"} {
		if !slices.Contains(spans, name) {
			t.Errorf("no span %q in the trace: %q", name, spans)
		}
	}
	if names := got.metricNames(); !slices.Contains(names, "weir.calls") {
		t.Errorf("metrics %q", names)
	}
}

func TestOTLPProtocol(t *testing.T) {
	t.Parallel()

	ends(t, "OTEL_EXPORTER_OTLP_PROTOCOL", environment(t, sqliteURL(t), "https://login.salesforce.com", "OTEL_EXPORTER_OTLP_PROTOCOL=grpc"))
}
