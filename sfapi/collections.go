package sfapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// MaxCollection is how many records one call of Collection takes.
//
// https://developer.salesforce.com/docs/atlas.en-us.api_rest.meta/api_rest/resources_composite_sobjects_collections.htm
const MaxCollection = 200

// Operation is what is done with records.
type Operation string

// The operations of Collection.
const (
	OpInsert Operation = "insert"
	OpUpdate Operation = "update"
	OpUpsert Operation = "upsert"
	OpDelete Operation = "delete"
)

// SaveResult is what became of one record.
type SaveResult struct {
	// ID is the record's; empty where it was not created.
	ID string

	// Success says that the record was written; Created, that an upsert made it
	// new. Errors says why it was not.
	Success bool
	Created bool
	Errors  []RecordError
}

// Collection does op with up to 200 records of one object, each on its own:
// some may fail while others are written. The results are as many as the
// records and in their order, or there is an error; then OutcomeUnknown tells
// whether some may have been written.
//
// A record is a flat JSON object of fields; update and delete need its Id, an
// upsert the field that externalID names, which other operations leave empty.
// The error of a record that cannot be sent names its index, and nothing is
// sent.
func (c *Client) Collection(ctx context.Context, op Operation, object, externalID string, records []json.RawMessage) ([]SaveResult, error) {
	req, err := c.collectionRequest(op, object, externalID, records)
	if err != nil {
		return nil, fmt.Errorf("collection %s of %s: %w", op, object, err)
	}
	var results []SaveResult
	req.decode = func(rep *reply) (err error) {
		results, err = readSaveResults(rep, op, len(records))
		return err
	}
	if err := c.call(ctx, req); err != nil {
		return nil, err
	}
	return results, nil
}

func (c *Client) collectionRequest(op Operation, object, externalID string, records []json.RawMessage) (*request, error) {
	if err := checkName("object", object); err != nil {
		return nil, err
	}
	if len(records) == 0 || len(records) > MaxCollection {
		return nil, fmt.Errorf("%d records, want 1 to %d", len(records), MaxCollection)
	}
	req := &request{op: "collection " + string(op), path: c.data + "/composite/sobjects", endpoint: EndpointCollections}
	switch op {
	case OpInsert:
		req.method = http.MethodPost
	case OpUpdate:
		req.method = http.MethodPatch
	case OpDelete:
		req.method = http.MethodDelete
	case OpUpsert:
		if err := checkName("external id field", externalID); err != nil {
			return nil, err
		}
		req.method = http.MethodPatch
		req.path += "/" + object + "/" + externalID
	default:
		return nil, fmt.Errorf("unknown operation %q", string(op))
	}
	if op != OpUpsert && externalID != "" {
		return nil, fmt.Errorf("external id field %.64q given, which only an upsert takes", externalID)
	}
	var err error
	if op == OpDelete {
		var ids []string
		if ids, err = recordIDs(records); err == nil {
			req.path += "?allOrNone=false&ids=" + url.QueryEscape(strings.Join(ids, ","))
		}
	} else {
		req.body, err = collectionBody(op, object, externalID, records)
	}
	return req, err
}

// collectionBody returns the records as one request, each with the attributes
// that name its object.
func collectionBody(op Operation, object, externalID string, records []json.RawMessage) ([]byte, error) {
	size := 64
	for _, r := range records {
		size += len(r) + len(object) + 32
	}
	body := make([]byte, 0, size)
	body = append(body, `{"allOrNone":false,"records":[`...)
	for i, raw := range records {
		r, err := flatRecord(raw)
		if err != nil {
			return nil, fmt.Errorf("record %d: %w", i, err)
		}
		switch op {
		case OpUpdate:
			if !validRecordID(r.ID()) {
				return nil, fmt.Errorf("record %d: no Id", i)
			}
		case OpUpsert:
			if v, ok := r.get(externalID); !ok || v.String() == "" {
				return nil, fmt.Errorf("record %d: no value for external id field %s", i, externalID)
			}
		}
		if i > 0 {
			body = append(body, ',')
		}
		body = append(append(append(body, `{"attributes":{"type":"`...), object...), `"}`...)
		// The members of {} are nothing, those of {"a":1} follow a comma.
		if members := r.raw[1:]; len(r.fields) == 0 {
			body = append(body, '}')
		} else {
			body = append(append(body, ','), members...)
		}
	}
	return append(body, `]}`...), nil
}

// flatRecord parses a record that is to be sent.
func flatRecord(raw []byte) (Record, error) {
	r, err := ParseRecord(raw)
	if err != nil {
		return Record{}, err
	}
	if _, ok := r.get(attributesName); ok {
		return Record{}, errors.New("has attributes, which the client adds itself")
	}
	return r, nil
}

func recordIDs(records []json.RawMessage) ([]string, error) {
	ids := make([]string, len(records))
	for i, raw := range records {
		r, err := ParseRecord(raw)
		if err != nil {
			return nil, fmt.Errorf("record %d: %w", i, err)
		}
		if ids[i] = r.ID(); !validRecordID(ids[i]) {
			return nil, fmt.Errorf("record %d: no Id", i)
		}
	}
	return ids, nil
}

// readSaveResults reads n results. What cannot be told apart from a cut answer
// is one: then nobody knows what became of the records.
func readSaveResults(rep *reply, op Operation, n int) ([]SaveResult, error) {
	var answer []struct {
		ID      string        `json:"id"`
		Success *bool         `json:"success"`
		Created bool          `json:"created"`
		Errors  []RecordError `json:"errors"`
	}
	if err := into(&answer)(rep); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrIncompleteResult, err)
	}
	if len(answer) != n {
		return nil, fmt.Errorf("%w: %d results for %d records", ErrIncompleteResult, len(answer), n)
	}
	results := make([]SaveResult, n)
	for i, a := range answer {
		switch {
		case a.Success == nil:
			return nil, fmt.Errorf("%w: result %d does not say whether it succeeded", ErrIncompleteResult, i)
		case *a.Success && op == OpInsert && !validRecordID(a.ID):
			return nil, fmt.Errorf("%w: result %d succeeded without an id", ErrIncompleteResult, i)
		case !*a.Success && len(a.Errors) == 0:
			return nil, fmt.Errorf("%w: result %d failed without an error", ErrIncompleteResult, i)
		}
		results[i] = SaveResult{
			ID: a.ID, Success: *a.Success,
			Created: *a.Success && (a.Created || op == OpInsert),
			Errors:  a.Errors,
		}
	}
	return results, nil
}
