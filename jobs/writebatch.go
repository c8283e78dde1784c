package jobs

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/weirhq/weir/sfapi"
)

const (
	// maxBatchRecords is the most a collection call takes.
	//
	// https://developer.salesforce.com/docs/atlas.en-us.api_rest.meta/api_rest/resources_composite_sobjects_collections.htm
	maxBatchRecords = 200

	// maxBatchBytes keeps a request of many large records well within what
	// Salesforce takes; a single record may be larger.
	maxBatchBytes = 4 << 20
)

// batch is what one collection call carries.
type batch struct {
	operation  sfapi.Operation
	externalID string
	rows       []*WriteRow               // that are sent, in order
	merged     map[int64]int64           // row → the row that carries its fields
	payloads   map[int64]json.RawMessage // of carriers, merged
}

// ids returns the ids of the rows sent and of those merged into them.
func (b *batch) ids() []int64 {
	ids := make([]int64, 0, len(b.rows)+len(b.merged))
	for _, r := range b.rows {
		ids = append(ids, r.ID)
	}
	for id := range b.merged {
		ids = append(ids, id)
	}
	return ids
}

// records returns the payloads to send, in order of rows.
func (b *batch) records() []json.RawMessage {
	out := make([]json.RawMessage, len(b.rows))
	for i, r := range b.rows {
		out[i] = r.Payload
	}
	return out
}

// nextBatch takes the longest prefix of rows that one call can carry without
// changing what the org ends up with: one operation, and each record once.
// Updates and upserts of one record that follow each other are merged, the
// later fields winning; Salesforce fails a record that is twice in a call. A
// batch whose rows were sent before and may have arrived is not merged anew.
//
// A row that waits is passed over, and with it what follows of its record. The
// batch has no rows when all of them wait.
func nextBatch(rows []*WriteRow, waits func(*WriteRow) bool) (*batch, error) {
	if len(rows) == 0 {
		return nil, nil
	}
	first := rows[0]
	b := &batch{operation: first.Operation, externalID: first.ExternalID, merged: make(map[int64]int64), payloads: make(map[int64]json.RawMessage)}
	at := make(map[string]int) // record → index in b.rows, -1 for one that waits
	size := 0
	for _, r := range rows {
		if r.Operation != b.operation || r.ExternalID != b.externalID || r.Status != first.Status {
			break
		}
		record := r.record()
		i, twice := at[record]
		twice = twice && record != ""
		if waits(r) || twice && i < 0 {
			at[record] = -1
			continue
		}
		if twice {
			older := b.rows[i]
			// A row that was refused once goes by itself: what is wrong with
			// one record's older fields must not spoil its newer ones. Keys
			// that differ in case may be two records, or one.
			if b.operation == sfapi.OpDelete || r.Status == WriteSent || r.Attempts > 0 || older.Attempts > 0 || r.Key != older.Key {
				break
			}
			payload, err := mergePayloads(older.Payload, r.Payload)
			if err != nil {
				return nil, fmt.Errorf("merge write records %d and %d: %w", older.ID, r.ID, err)
			}
			if size += len(payload) - len(older.Payload); size > maxBatchBytes {
				break
			}
			b.carry(i, r, payload)
			continue
		}
		if len(b.rows) == maxBatchRecords || (size > 0 && size+len(r.Payload) > maxBatchBytes) {
			break
		}
		size += len(r.Payload)
		at[record] = len(b.rows)
		b.rows = append(b.rows, r)
	}
	return b, nil
}

// record names the record that the row is about: "" for one that no other row
// can be about, since an insert makes a record of its own. Salesforce compares
// external ids without regard to case unless the field says otherwise, and
// refuses a call in which one is twice.
func (r *WriteRow) record() string {
	if r.Operation == sfapi.OpInsert {
		return ""
	}
	if r.Operation == sfapi.OpUpsert {
		return strings.ToLower(r.Key)
	}
	return r.Key
}

// carry makes the newer row r carry the fields of row i, in whose place it is
// sent: nothing between the two is of the same record.
func (b *batch) carry(i int, r *WriteRow, payload json.RawMessage) {
	older := b.rows[i]
	for id, into := range b.merged {
		if into == older.ID {
			b.merged[id] = r.ID
		}
	}
	delete(b.payloads, older.ID)
	b.merged[older.ID] = r.ID
	carrier := *r
	carrier.Payload = payload
	b.payloads[r.ID] = payload
	b.rows[i] = &carrier
}

// carries reports whether rows were merged into the row.
func (b *batch) carries(id int64) bool {
	for _, into := range b.merged {
		if into == id {
			return true
		}
	}
	return false
}

// mayCarry reports whether rows were or may have been merged into the row: one
// that was sent before does not tell. When it is refused, they part.
func (b *batch) mayCarry(r *WriteRow) bool {
	return b.carries(r.ID) || r.Status == WriteSent && r.Attempts == 0
}

// split halves a batch, to find the record that spoils the request.
func (b *batch) split() (left, right *batch) {
	half := len(b.rows) / 2
	left, right = b.part(b.rows[:half]), b.part(b.rows[half:])
	return left, right
}

func (b *batch) part(rows []*WriteRow) *batch {
	p := &batch{operation: b.operation, externalID: b.externalID, rows: rows, merged: make(map[int64]int64), payloads: b.payloads}
	for _, r := range rows {
		for id, into := range b.merged {
			if into == r.ID {
				p.merged[id] = into
			}
		}
	}
	return p
}
