package runner_test

import (
	"bytes"
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"testing"

	"github.com/weirhq/weir/runner"
)

// The payloads in docs/events.md are events as they are: they are read without
// a field left over, and written again as they stand.
func TestDocumentedEvents(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/events.md")
	noError(t, err)
	var seen []runner.EventType
	for _, m := range regexp.MustCompile("(?s)```json\n(.*?)\n```").FindAllSubmatch(page, -1) {
		dec := json.NewDecoder(bytes.NewReader(m[1]))
		dec.DisallowUnknownFields()
		e := &runner.Event{}
		if err := dec.Decode(e); err != nil {
			t.Errorf("%s: %v", m[1], err)
			continue
		}
		seen = append(seen, e.Type)
		got, err := json.Marshal(e)
		noError(t, err)
		var want bytes.Buffer
		noError(t, json.Compact(&want, m[1]))
		if !bytes.Equal(got, want.Bytes()) {
			t.Errorf("documented %s\nis %s", want.Bytes(), got)
		}
	}
	for _, kind := range []runner.EventType{runner.EventOrgHeld, runner.EventReauthRequired, runner.EventSchemaChanged, runner.EventWriteFailed} {
		if !slices.Contains(seen, kind) {
			t.Errorf("%s is not shown", kind)
		}
	}
}
