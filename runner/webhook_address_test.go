package runner_test

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/weirhq/weir/runner"
)

func TestPublicAddress(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]bool{
		"93.184.216.34": true, "2606:2800:220:1:248:1893:25c8:1946": true, "::ffff:93.184.216.34": true,
		"127.0.0.1": false, "127.9.9.9": false, "::1": false, "::ffff:127.0.0.1": false,
		"10.0.0.1": false, "172.16.0.1": false, "172.31.255.255": false, "192.168.1.1": false, "fd00::1": false,
		"169.254.169.254": false, "fe80::1%eth0": false, "0.0.0.0": false, "::": false, "100.64.0.1": false,
		"198.18.0.1": false, "224.0.0.1": false, "ff02::1": false, "255.255.255.255": false, "240.0.0.1": false,
		"64:ff9b::a9fe:a9fe": false, "2002:7f00:1::": false, "192.0.0.192": false,
	} {
		if got := runner.PublicAddress(netip.MustParseAddr(address)); got != want {
			t.Errorf("%s: public is %v", address, got)
		}
	}
}

// The address is checked where it is connected to, whatever its name.
func TestWebhookPrivateAddress(t *testing.T) {
	t.Parallel()
	reached := make(chan struct{}, 2)
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached <- struct{}{} }))
	t.Cleanup(server.Close)
	get := func(allowPrivate bool) error {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, strings.Replace(server.URL, "127.0.0.1", "localhost", 1), nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := runner.WebhookTransport(allowPrivate).RoundTrip(req)
		if err == nil {
			res.Body.Close()
		}
		return err
	}
	if err := get(false); err == nil || !strings.Contains(err.Error(), "no public address") || len(reached) != 0 {
		t.Errorf("a private address was requested %d times, %v", len(reached), err)
	}
	if err := get(true); err != nil || len(reached) != 1 {
		t.Errorf("the address that was allowed was requested %d times, %v", len(reached), err)
	}
}

// The attempts last for days, and the pauses do not overflow.
func TestWebhookPauses(t *testing.T) {
	t.Parallel()
	var least, most time.Duration
	for attempt := 1; attempt < runner.WebhookAttempts; attempt++ {
		low, high := 24*time.Hour, time.Duration(0)
		for range 200 {
			p := runner.WebhookPause(5*time.Second, attempt)
			low, high = min(low, p), max(high, p)
		}
		if low < 4*time.Second || high > 12*time.Hour {
			t.Errorf("pause %d is between %v and %v", attempt, low, high)
		}
		least, most = least+low, most+high
	}
	if least < 4*24*time.Hour || most > 10*24*time.Hour {
		t.Errorf("attempts last between %v and %v", least, most)
	}
}
