package breaker_test

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weirhq/weir/breaker"
)

func TestProbeDelay(t *testing.T) {
	t.Parallel()
	b, err := breaker.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	m := time.Minute
	for pace, want := range map[breaker.Pace][]time.Duration{
		breaker.PaceNone:   {0, 0, 0, 0, 0, 0, 0},
		breaker.PaceNormal: {m / 2, m, 2 * m, 4 * m, 8 * m, 15 * m, 15 * m},
		breaker.PaceDaily:  {m, 2 * m, 4 * m, 8 * m, 15 * m, 15 * m, 15 * m},
		breaker.PaceSlow:   {5 * m, 10 * m, 15 * m, 15 * m, 15 * m, 15 * m, 15 * m},
	} {
		var got []time.Duration
		for step := range want {
			got = append(got, b.ProbeDelay(pace, step, 0))
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", pace, diff)
		}
		for _, step := range []int{-1, 0, 5, 1000, math.MaxInt} {
			for _, jitter := range []float64{math.NaN(), math.Inf(-1), -1, 0, 0.5, 0.999, 7, math.Inf(1)} {
				got, full := b.ProbeDelay(pace, step, jitter), b.ProbeDelay(pace, step, 0)
				if got > full || got < full*8/10 || pace == breaker.PaceDaily && got < m {
					t.Errorf("%s, step %d, jitter %v: %v of %v", pace, step, jitter, got, full)
				}
			}
		}
	}
}

func TestNewReportsEveryBadField(t *testing.T) {
	t.Parallel()
	_, err := breaker.New(&breaker.Config{
		ProbeMin: -1, ProbeMax: -1, FailureThreshold: -1, TrialSuccesses: -1, GrowAfter: -1, LoginRateWindow: -1,
	})
	if err == nil {
		t.Fatal("no error")
	}
	for _, field := range []string{"ProbeMin", "ProbeMax", "FailureThreshold", "TrialSuccesses", "GrowAfter", "LoginRateWindow"} {
		if !strings.Contains(err.Error(), field) {
			t.Errorf("%v does not name %s", err, field)
		}
	}
	if _, err := breaker.New(&breaker.Config{ProbeMin: 2, ProbeMax: 1}); err == nil {
		t.Error("ProbeMin longer than ProbeMax is accepted")
	}
	b, err := breaker.New(&breaker.Config{ProbeMin: time.Hour})
	if err != nil || b.Config().ProbeMax != time.Hour {
		t.Errorf("ProbeMin of an hour alone: %+v, %v", b, err)
	}
}
