package main_test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const (
	loadRate = 1000 // requests a second

	// loadEnv is for how many seconds: a few, unless `make load` asks for more.
	loadEnv     = "LOAD_SECONDS"
	loadSeconds = 3

	// loadInFlight bounds the requests under way: on a machine that is too busy
	// for the rate, the driver waits.
	loadInFlight = 256
)

// Mixed calls at a thousand a second are answered without an error, and leave
// the process as large as it was. The rate that was reached is logged: it is the
// machine's as much as the service's.
func TestLoad(t *testing.T) {
	seconds := loadSeconds
	if text := os.Getenv(loadEnv); text != "" {
		var err error
		if seconds, err = strconv.Atoi(text); err != nil || seconds < 1 {
			t.Fatalf("%s is %q", loadEnv, text)
		}
	}
	sim := startSimulator(t)
	f := startFleet(t, 1, environment(t, postgresURL(t), sim.url))
	f.want(http.StatusCreated, "POST", "/orgs", fmt.Sprintf(`{"refresh_token":%q}`, sim.grant(t)))
	org := "/orgs/" + sim.org
	sim.control(t, "orgs/"+sim.org+"/seed", map[string]any{"object": "Account", "n": 200, "seed": 1}, nil)
	job := f.want(http.StatusAccepted, "POST", org+"/syncs", `{"object":"Account"}`).text("job_id")
	write := f.want(http.StatusAccepted, "POST", org+"/writes", threeContacts).text("write_id")
	calls := []struct {
		weight       int
		method, path string
		body         func(n int64) string
	}{
		{20, "GET", "/orgs?limit=10", nil},
		{20, "GET", org, nil},
		{15, "GET", "/jobs/" + job, nil},
		{15, "GET", org + "/writes/" + write + "?limit=10", nil},
		{10, "GET", org + "/syncs", nil},
		{8, "GET", "/events?limit=10", nil},
		{2, "GET", "/readyz", nil},
		{5, "POST", org + "/syncs", func(int64) string { return `{"object":"Account"}` }},
		{5, "POST", org + "/writes", func(n int64) string {
			return fmt.Sprintf(`{"object":"Contact","operation":"upsert","external_id":"Ext_Id__c","records":[{"Ext_Id__c":"l-%d","LastName":"Load"}]}`, n%500)
		}},
	}
	var deck []int
	for i, c := range calls {
		for range c.weight {
			deck = append(deck, i)
		}
	}
	client := &http.Client{
		Transport: &http.Transport{MaxIdleConnsPerHost: loadInFlight, MaxConnsPerHost: loadInFlight},
		Timeout:   30 * time.Second,
	}
	defer client.CloseIdleConnections()
	var (
		n        atomic.Int64
		mu       sync.Mutex // protects what follows
		took     []time.Duration
		problems = make(map[string]int)
	)
	one := func() {
		c := calls[deck[rand.IntN(len(deck))]]
		body := ""
		if c.body != nil {
			body = c.body(n.Add(1))
		}
		req, err := http.NewRequest(c.method, f.urls[0]+c.path, strings.NewReader(body))
		if err != nil {
			t.Error(err)
			return
		}
		if body != "" {
			req.Header.Set("Content-Type", "application/json")
		}
		began := time.Now()
		problem := ""
		if res, err := client.Do(req); err != nil {
			problem = err.Error()
		} else {
			answer, err := io.ReadAll(res.Body)
			_ = res.Body.Close()
			if err != nil || res.StatusCode >= 400 {
				problem = fmt.Sprintf("%s %s: %d %v %.200s", c.method, c.path, res.StatusCode, err, answer)
			}
		}
		mu.Lock()
		defer mu.Unlock()
		took = append(took, time.Since(began))
		if problem != "" {
			problems[problem]++
		}
	}
	drive := func(d time.Duration) (rate float64) {
		free := make(chan struct{}, loadInFlight)
		var running sync.WaitGroup
		began := time.Now()
		sent := 0
		for tick := range time.Tick(5 * time.Millisecond) {
			if tick.Sub(began) >= d {
				break
			}
			for ; sent < int(tick.Sub(began).Seconds()*loadRate); sent++ {
				free <- struct{}{}
				running.Go(func() { defer func() { <-free }(); one() })
			}
		}
		running.Wait()
		return float64(sent) / time.Since(began).Seconds()
	}
	drive(2 * time.Second) // connections, caches, plans
	took = nil
	before := memory(f)
	rate := drive(time.Duration(seconds) * time.Second)
	after := memory(f)
	slices.Sort(took)
	t.Logf("%d requests in %d s, %.0f/s; median %v, 99%% %v, longest %v; memory %d MB, then %d MB",
		len(took), seconds, rate, took[len(took)/2], took[len(took)*99/100], took[len(took)-1], before>>20, after>>20)
	for problem, times := range problems {
		t.Errorf("%d times: %s", times, problem)
	}
	// What the garbage collector has not given back yet is no growth.
	if after > 2*before+64<<20 {
		t.Errorf("the process grew from %d to %d MB", before>>20, after>>20)
	}
}

var memoryLine = regexp.MustCompile(`(?m)^go_memstats_sys_bytes (\S+)$`)

func memory(f *fleet) int64 {
	f.t.Helper()
	m := memoryLine.FindStringSubmatch(f.want(http.StatusOK, "GET", "/metrics", "").body)
	if m == nil {
		f.t.Fatal("no memory in /metrics")
	}
	v, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		f.t.Fatal(err)
	}
	return int64(v)
}
