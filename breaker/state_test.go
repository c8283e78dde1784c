package breaker_test

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/weirhq/weir/breaker"
	"github.com/weirhq/weir/sfapi"
)

func TestStateJSON(t *testing.T) {
	t.Parallel()
	x := setup(t)
	obs := breaker.Failed(breaker.Write, breaker.Mutate, sfapi.KindMaintenance)
	obs.Evidence = []string{"update of Contact refused: INSERT_UPDATE_DELETE_NOT_ALLOWED_DURING_MAINTENANCE"}
	obs.Advice = "Wait."
	x.do(obs)
	got, err := json.Marshal(x.state)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"format":1,"org":"00D5g000000AbCdEAK","version":1,"holds":[{"reason":"maintenance","lanes":["write"],"since":"2026-03-01T12:00:00Z","phase":"off","phase_since":"2026-03-01T12:00:00Z","next_probe":"2026-03-01T12:00:30Z","probes":0,"backoff":0,"kind":"maintenance_readonly","evidence":["update of Contact refused: INSERT_UPDATE_DELETE_NOT_ALLOWED_DURING_MAINTENANCE"],"advice":"Wait."}]}`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	for name, bad := range map[string]string{
		"newer format":   `{"format":2}`,
		"no format":      `{}`,
		"unknown reason": `{"format":1,"holds":[{"reason":"moon","lanes":["sync"],"phase":"off","kind":"ok"}]}`,
		"no lane":        `{"format":1,"holds":[{"reason":"operator","lanes":[],"phase":"off","kind":"ok"}]}`,
		"twice":          `{"format":1,"holds":[{"reason":"operator","lanes":["sync"]},{"reason":"operator","lanes":["write"]}]}`,
	} {
		var s breaker.State
		if err := json.Unmarshal([]byte(bad), &s); err == nil {
			t.Errorf("%s: a State was read from %s", name, bad)
		}
	}
}

func TestEvidenceIsBounded(t *testing.T) {
	t.Parallel()
	x := setup(t)
	x.do(breaker.Observation{Event: breaker.OperatorHold, Evidence: []string{"first"}})
	x.do(breaker.Failed(breaker.Write, breaker.Mutate, sfapi.KindMaintenance))
	for i := range 20 {
		still := breaker.Probed(breaker.ReasonMaintenance, false)
		still.Evidence = []string{string(rune('a' + i)), "nul\x00 and \xff", string(make([]byte, 5000)), "ü" + string(slices.Repeat([]byte("ü"), 500))}
		x.after(time.Hour).do(still)
	}
	evidence := x.hold(breaker.ReasonMaintenance).Evidence
	if len(evidence) != 8 || evidence[0] != "a" || evidence[7] != "t" {
		t.Errorf("evidence: %q", evidence)
	}
}
