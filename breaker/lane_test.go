package breaker_test

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/weirhq/weir/breaker"
)

func TestParseQueueUndoesQueue(t *testing.T) {
	t.Parallel()
	for _, l := range breaker.AllLanes() {
		orgLower, got, ok := breaker.ParseQueue(l.Queue(org))
		if orgLower != org.Lower() || got != l || !ok {
			t.Errorf("%s: got %q, %s, %v", l.Queue(org), orgLower, got, ok)
		}
	}
	for _, name := range []string{
		"", "sf_", "sf_control", "sf_run_sync", "sf_run_write", "default", "sf_00d5g000000abcd_sync",
		"sf_00D5g000000AbCdEAK_sync", "sf_00d5g000000abcdeak_", "sf_00d5g000000abcdeak_sync_write", "00d5g000000abcdeak_sync",
		"sf_00d5g000000abcd-ak_sync",
	} {
		if orgLower, l, ok := breaker.ParseQueue(name); ok {
			t.Errorf("%q: got %q, %s", name, orgLower, l)
		}
	}
}

func FuzzParseQueue(f *testing.F) {
	f.Add("sf_00d5g000000abcdeak_sync")
	f.Add("sf_run_sync")
	f.Fuzz(func(t *testing.T, name string) {
		if orgLower, l, ok := breaker.ParseQueue(name); ok && "sf_"+orgLower+"_"+l.String() != name {
			t.Errorf("%q: got %q, %s", name, orgLower, l)
		}
	})
}

func TestLanes(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		lanes breaker.Lanes
		text  string
		json  string
	}{
		{0, "none", `[]`},
		{breaker.LanesOf(breaker.Sync), "sync", `["sync"]`},
		{breaker.LanesOf(breaker.Write, 0, 7), "write", `["write"]`},
		{breaker.BothLanes, "sync+write", `["sync","write"]`},
	} {
		got, err := json.Marshal(tt.lanes)
		if err != nil || string(got) != tt.json || tt.lanes.String() != tt.text {
			t.Errorf("%d: got %s, %s, %v", tt.lanes, got, tt.lanes, err)
		}
		var back breaker.Lanes
		if err := json.Unmarshal(got, &back); err != nil || back != tt.lanes {
			t.Errorf("%s read back: %s, %v", got, back, err)
		}
	}
	var s breaker.Lanes
	if err := json.Unmarshal([]byte(`["read"]`), &s); !errors.Is(err, breaker.ErrUnknownLane) {
		t.Errorf("unknown lane: %v", err)
	}
	if _, err := breaker.Lane(0).MarshalText(); !errors.Is(err, breaker.ErrUnknownLane) {
		t.Errorf("no lane: %v", err)
	}
	if breaker.BothLanes.Has(0) || breaker.BothLanes.Has(9) {
		t.Error("a set has what is no lane")
	}
}
