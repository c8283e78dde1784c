package jobs

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"unicode/utf8"

	"github.com/weirhq/weir/sfapi"
)

// The operations of a Write.
const (
	Insert = sfapi.OpInsert
	Update = sfapi.OpUpdate
	Upsert = sfapi.OpUpsert
	Delete = sfapi.OpDelete
)

// MaxRecordBytes bounds the JSON of one record: a collection request of one
// record must stay within what Salesforce takes.
const MaxRecordBytes = 4 << 20

// Write hands records to the write lane of an org. Runner.WriteTx stores them
// in the app's transaction; they are sent in order of submission, each once.
type Write struct {
	Org       sfapi.OrgID
	Object    string
	Operation sfapi.Operation

	// ExternalID names the field that identifies a record: an External ID
	// that is unique. Upsert needs it. For Insert it is optional: with it, a
	// record whose answer was lost is looked up before it is sent again;
	// without it, such a record ends as unknown rather than being duplicated.
	ExternalID string

	// Records is a slice of structs or maps whose JSON is an object of fields
	// by API name; a value is a scalar, null, or, to set a reference by
	// external id, an object like {"Ext__c": "x"}. Update and Delete need Id
	// in each record, Upsert a non-empty value in the ExternalID field.
	Records any

	// IdempotencyKey makes a repeated call harmless: the same key and body
	// again stores nothing and returns the first receipt, another body is
	// ErrIdempotencyConflict. At most 255 bytes. Empty means none.
	IdempotencyKey string
}

const maxIdempotencyKeyBytes = 255

// Batch checks the write and returns what the store keeps. Its error joins a
// FieldError for each thing that is wrong, records as Records[i].
func (w *Write) Batch() (*WriteBatch, error) {
	var errs []error
	bad := func(field, format string, args ...any) {
		errs = append(errs, &FieldError{field, fmt.Sprintf(format, args...)})
	}
	if w == nil {
		w = &Write{}
	}
	org, err := sfapi.ParseOrgID(string(w.Org))
	if err != nil {
		bad("Org", "%v", err)
	}
	if !namePattern.MatchString(w.Object) {
		bad("Object", "%q is not an API name", w.Object)
	}
	switch w.Operation {
	case Insert, Update, Upsert, Delete:
	default:
		bad("Operation", "%q is none of insert, update, upsert, delete", string(w.Operation))
	}
	switch {
	case w.ExternalID == "" && w.Operation == Upsert:
		bad("ExternalID", "upsert needs the name of the external id field")
	case w.ExternalID != "" && !namePattern.MatchString(w.ExternalID):
		bad("ExternalID", "%q is not an API name", w.ExternalID)
	case w.ExternalID != "" && (w.Operation == Update || w.Operation == Delete):
		bad("ExternalID", "%s goes by Id", w.Operation)
	}
	switch key := w.IdempotencyKey; {
	case len(key) > maxIdempotencyKeyBytes:
		bad("IdempotencyKey", "is %d bytes long, at most %d are taken", len(key), maxIdempotencyKeyBytes)
	case !utf8.ValidString(key) || strings.IndexByte(key, 0) >= 0:
		bad("IdempotencyKey", "%q is not a text that a database can keep", key)
	}
	records := reflect.ValueOf(w.Records)
	if records.Kind() != reflect.Slice || records.Type().Elem().Kind() == reflect.Uint8 {
		bad("Records", "%T is not a slice of records", w.Records)
		return nil, errors.Join(errs...)
	}
	if records.Len() == 0 {
		bad("Records", "no records")
	}
	b := &WriteBatch{Org: org, Object: w.Object, Operation: w.Operation, ExternalID: w.ExternalID, IdempotencyKey: w.IdempotencyKey}
	hash := sha256.New()
	fmt.Fprintf(hash, "%s\x00%s\x00%s\x00%s\x00", org, w.Object, w.Operation, w.ExternalID)
	const maxReported = 20 // of bad records: enough to see the pattern
	for i := range records.Len() {
		payload, key, err := w.record(records.Index(i).Interface())
		if err != nil {
			if len(errs) == maxReported {
				bad("Records", "more records are wrong")
				break
			}
			var fe *FieldError
			if errors.As(err, &fe) {
				bad(fmt.Sprintf("Records[%d].%s", i, fe.Field), "%s", fe.Message)
			} else {
				bad(fmt.Sprintf("Records[%d]", i), "%v", err)
			}
			continue
		}
		b.Payloads, b.Keys = append(b.Payloads, payload), append(b.Keys, key)
		hash.Write(payload)
		hash.Write([]byte{0})
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	hash.Sum(b.BodyHash[:0])
	return b, nil
}

// record returns a record's JSON and its key.
func (w *Write) record(v any) (json.RawMessage, string, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, "", err
	}
	raw := bytes.TrimSpace(buf.Bytes())
	if len(raw) > MaxRecordBytes {
		return nil, "", fmt.Errorf("%d bytes of JSON, at most %d are taken", len(raw), MaxRecordBytes)
	}
	if !utf8.Valid(raw) { // a json.Marshaler of the app's may have made it
		return nil, "", errors.New("is not valid UTF-8")
	}
	fields, err := flatFields(raw)
	if err != nil {
		return nil, "", err
	}
	get := func(name string) (field, bool) {
		for _, f := range fields {
			if strings.EqualFold(f.name, name) {
				return f, true
			}
		}
		return field{}, false
	}
	id, hasID := get("Id")
	switch {
	case w.Operation == Update || w.Operation == Delete:
		if !hasID {
			return nil, "", &FieldError{"Id", fmt.Sprintf("%s needs it", w.Operation)}
		}
		key, err := sfapi.ID18(id.text())
		if err != nil {
			return nil, "", &FieldError{"Id", err.Error()}
		}
		return raw, key, nil
	case hasID:
		return nil, "", &FieldError{"Id", fmt.Sprintf("%s takes no Id", w.Operation)}
	case w.ExternalID == "":
		return raw, "", nil
	}
	ext, ok := get(w.ExternalID)
	key := ext.text()
	if strings.IndexByte(key, 0) >= 0 {
		return nil, "", &FieldError{w.ExternalID, "holds U+0000"}
	}
	if w.Operation == Upsert && (!ok || key == "") {
		return nil, "", &FieldError{w.ExternalID, "upsert needs a value, a text that is not empty or a number"}
	}
	return raw, key, nil
}

// field is one member of a record.
type field struct {
	name  string
	value any // string, json.Number, bool, nil, or nested
}

type nested struct{}

// text returns the value as a key: "" for what cannot be one.
func (f field) text() string {
	switch v := f.value.(type) {
	case string:
		return v
	case json.Number:
		return v.String()
	default:
		return ""
	}
}

// flatFields reads a record: one object whose values are scalars, or objects
// of scalars that name a related record.
func flatFields(raw []byte) ([]field, error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	tok, err := dec.Token()
	if err != nil {
		return nil, err
	}
	if tok != json.Delim('{') {
		return nil, errors.New("a record is a JSON object")
	}
	var fields []field
	seen := make(map[string]bool)
	for dec.More() {
		tok, err := dec.Token()
		if err != nil {
			return nil, err
		}
		name := tok.(string) // the decoder gives nothing else at this place
		if !namePattern.MatchString(name) {
			return nil, &FieldError{fmt.Sprintf("%.80q", name), "not a field's API name"}
		}
		if strings.EqualFold(name, "attributes") {
			return nil, &FieldError{name, "is set by Weir"}
		}
		if key := strings.ToLower(name); seen[key] {
			return nil, &FieldError{name, "is there twice"}
		} else {
			seen[key] = true
		}
		var value any
		if err := dec.Decode(&value); err != nil {
			return nil, &FieldError{name, err.Error()}
		}
		switch v := value.(type) {
		case []any:
			return nil, &FieldError{name, "a list is not a field's value"}
		case map[string]any:
			if len(v) == 0 {
				return nil, &FieldError{name, "names no record"}
			}
			for inner, iv := range v {
				switch iv.(type) {
				case []any, map[string]any:
					return nil, &FieldError{name + "." + inner, "is not a scalar"}
				}
			}
			value = nested{}
		}
		fields = append(fields, field{name, value})
	}
	if len(fields) == 0 {
		return nil, errors.New("a record without fields")
	}
	if _, err := dec.Token(); err != nil { // the closing brace
		return nil, err
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, errors.New("more than one JSON value")
	}
	return fields, nil
}

// mergePayloads returns one object with the fields of both, those of newer
// winning. Both have passed flatFields.
func mergePayloads(older, newer json.RawMessage) (json.RawMessage, error) {
	var a, b map[string]json.RawMessage
	if err := json.Unmarshal(older, &a); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(newer, &b); err != nil {
		return nil, err
	}
	for name, v := range b {
		for have := range a {
			if have != name && strings.EqualFold(have, name) {
				delete(a, have)
			}
		}
		a[name] = v
	}
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(a); err != nil {
		return nil, err
	}
	return bytes.TrimSpace(buf.Bytes()), nil
}
