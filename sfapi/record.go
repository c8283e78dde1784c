package sfapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"
	"unicode/utf8"
)

// ErrNoField is wrapped by the errors of Record's methods that name a field
// the row does not have.
var ErrNoField = errors.New("no such field")

// Record is one row as it arrived: its fields in the order of the document,
// each as its raw JSON token, so that null is told from empty, numbers keep
// their digits and text is there byte for byte.
//
// Names are compared as Salesforce compares them, without regard to case; a
// dotted name reaches into a related row ("Owner.Name"). The zero Record has
// no fields. A Record is not changed by its methods and may be read by several
// goroutines. It shares the memory of its page: to keep a few rows of many,
// keep their Clone.
type Record struct {
	raw    []byte
	fields []recordField
}

// recordField is where one field stands in a Record's raw text; names without
// their quotes. MaxBodyBytes keeps pages below 4 GiB.
type recordField struct {
	name, nameEnd, value, valueEnd uint32
}

// ParseRecord returns the row that raw spells: one JSON object in UTF-8. The
// Record keeps raw, which must not be changed afterwards.
func ParseRecord(raw []byte) (Record, error) {
	var r Record
	if err := r.parse(raw); err != nil {
		return Record{}, err
	}
	return r, nil
}

func (r *Record) parse(raw []byte) error {
	start := skipSpace(raw, 0)
	var fields []recordField
	end := scanFields(raw, start, 1, &fields)
	if end < 0 || skipSpace(raw, end) != len(raw) {
		return fmt.Errorf("parse record: %w", errSyntax)
	}
	if !utf8.Valid(raw) {
		return fmt.Errorf("parse record: %w", errNotUTF8)
	}
	r.raw, r.fields = raw[start:end:end], fields
	return nil
}

// scanFields appends the fields of the object that begins at b[start] and
// returns the index after it, or -1.
func scanFields(b []byte, start, depth int, fields *[]recordField) int {
	return skipMembers(b, start, depth, func(name, nameEnd, value int) int {
		end := skipValue(b, value, depth)
		if end >= 0 {
			*fields = append(*fields, recordField{
				name: uint32(name + 1 - start), nameEnd: uint32(nameEnd - 1 - start),
				value: uint32(value - start), valueEnd: uint32(end - start),
			})
		}
		return end
	})
}

// Raw returns the row's JSON object. The caller must not change it.
func (r Record) Raw() json.RawMessage { return json.RawMessage(r.raw) }

// Clone returns a copy that shares no memory with the row's page.
func (r Record) Clone() Record {
	return Record{raw: bytes.Clone(r.raw), fields: append([]recordField(nil), r.fields...)}
}

// Fields returns the row's fields in the order of the document, without the
// attributes that Salesforce adds.
func (r Record) Fields() iter.Seq2[string, Value] {
	return func(yield func(string, Value) bool) {
		for _, f := range r.fields {
			name := unescape(r.raw[f.name:f.nameEnd])
			if name == attributesName {
				continue
			}
			if !yield(name, Value(r.raw[f.value:f.valueEnd:f.valueEnd])) {
				return
			}
		}
	}
}

// attributesName is the member in which Salesforce puts a row's type and URL.
const attributesName = "attributes"

// Get returns the value of a field, and whether the row has it. A field of a
// related row that is null is there, and null: of {"Owner":null}, "Owner.Name"
// is null.
func (r Record) Get(name string) (Value, bool) {
	head, rest, dotted := strings.Cut(name, ".")
	v, ok := r.get(head)
	if !ok || !dotted {
		return v, ok
	}
	if v.IsNull() {
		return v, true
	}
	related, err := v.Record()
	if err != nil {
		return nil, false
	}
	return related.Get(rest)
}

func (r Record) get(name string) (Value, bool) {
	// From the end, because encoding/json too lets the last of equal names win.
	// A name spelled with escapes, as Salesforce never does, is found below.
	for i := len(r.fields) - 1; i >= 0; i-- {
		f := r.fields[i]
		if int(f.nameEnd-f.name) == len(name) && string(r.raw[f.name:f.nameEnd]) == name {
			return Value(r.raw[f.value:f.valueEnd:f.valueEnd]), true
		}
	}
	for i := len(r.fields) - 1; i >= 0; i-- {
		f := r.fields[i]
		if strings.EqualFold(unescape(r.raw[f.name:f.nameEnd]), name) {
			return Value(r.raw[f.value:f.valueEnd:f.valueEnd]), true
		}
	}
	return nil, false
}

// IsNull reports whether the row has the field and it is null.
func (r Record) IsNull(name string) bool {
	v, ok := r.Get(name)
	return ok && v.IsNull()
}

// String returns a field as text: decoded if it is a string, "" if it is null
// or absent, otherwise as it was written. Get tells these apart.
func (r Record) String(name string) string {
	v, _ := r.Get(name)
	return v.String()
}

// Time returns a date-time or date field; the zero time if it is null. Errors
// wrap ErrNoField where the row lacks the field.
func (r Record) Time(name string) (time.Time, error) {
	v, ok := r.Get(name)
	if !ok {
		return time.Time{}, fmt.Errorf("%w: %s", ErrNoField, name)
	}
	t, err := v.Time()
	if err != nil {
		return time.Time{}, fmt.Errorf("field %s: %w", name, err)
	}
	return t, nil
}

// ID returns the row's Id, or "".
func (r Record) ID() string { return r.String("Id") }

// Type returns the API name of the row's object, from the attributes that
// Salesforce adds, or "".
func (r Record) Type() string { return r.String(attributesName + ".type") }

// Decode stores the row in v as json.Unmarshal does.
func (r Record) Decode(v any) error {
	if r.raw == nil {
		return fmt.Errorf("decode record: %w", errSyntax)
	}
	if err := json.Unmarshal(r.raw, v); err != nil {
		return fmt.Errorf("decode record: %w", err)
	}
	return nil
}

// MarshalJSON returns the row as it arrived.
func (r Record) MarshalJSON() ([]byte, error) {
	if r.raw == nil {
		return []byte("null"), nil
	}
	return r.raw, nil
}

// UnmarshalJSON sets the row to a copy of raw. null makes it the zero Record.
func (r *Record) UnmarshalJSON(raw []byte) error {
	if string(raw) == "null" {
		*r = Record{}
		return nil
	}
	return r.parse(bytes.Clone(raw))
}

// unescape returns the text of a string literal whose quotes are cut off.
func unescape(b []byte) string {
	if bytes.IndexByte(b, '\\') < 0 {
		return string(b)
	}
	quoted := make([]byte, 0, len(b)+2)
	quoted = append(append(append(quoted, '"'), b...), '"')
	var s string
	if err := json.Unmarshal(quoted, &s); err != nil {
		return string(b)
	}
	return s
}
