package jobs

import (
	"context"
	"encoding/json"
	"slices"
	"strings"

	"github.com/weirhq/weir/sfapi"
)

// shape names the fields that a record sets, whatever it sets them to.
func shape(op sfapi.Operation, payload json.RawMessage) string {
	rec, err := sfapi.ParseRecord(payload)
	if err != nil {
		return ""
	}
	var names []string
	for name, v := range rec.Fields() {
		names = append(names, strings.ToLower(name))
		if related, err := v.Record(); err == nil {
			for inner := range related.Fields() {
				names = append(names, strings.ToLower(name+"."+inner))
			}
		}
	}
	slices.Sort(names)
	return string(op) + " " + strings.Join(names, " ")
}

// noSuchField is the code with which Salesforce refuses a whole call because
// one record names a field that is not there.
const noSuchField = "INVALID_FIELD"

// learn keeps a record's fields in mind that were refused by name: all records
// with the same will be, and to find that out one by one takes two calls each.
func (d *drain[TTx]) learn(b *batch, o WriteOutcome) {
	if o.ErrorCode != noSuchField || len(b.rows) != 1 || b.mayCarry(b.rows[0]) {
		return
	}
	if s := shape(b.operation, b.rows[0].Payload); s != "" {
		d.refused[s] = o
	}
}

// refuseKnown records the refusal of rows whose fields were refused before, and
// returns the batch of the others.
func (d *drain[TTx]) refuseKnown(ctx context.Context, b *batch) (*batch, error) {
	if len(d.refused) == 0 {
		return b, nil
	}
	var rest []*WriteRow
	var outcomes []WriteOutcome
	for _, r := range b.rows {
		o, known := d.refused[shape(b.operation, r.Payload)]
		if !known {
			rest = append(rest, r)
			continue
		}
		if b.mayCarry(r) {
			o = WriteOutcome{Status: WritePending, CountAttempt: true}
		}
		o.ID = r.ID
		outcomes = append(outcomes, o)
	}
	if len(outcomes) == 0 {
		return b, nil
	}
	return b.part(rest), d.settle(ctx, outcomes)
}
