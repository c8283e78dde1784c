package sfapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// errNotUTF8 says that a body holds bytes that are not UTF-8.
var errNotUTF8 = errors.New("not valid UTF-8")

// Value is one raw JSON token of a Record. It shares the Record's memory and
// must not be changed.
type Value []byte

// IsNull reports whether the value is the token null. An absent value, which
// has no token at all, is not null.
func (v Value) IsNull() bool { return string(v) == "null" }

// Raw returns the token.
func (v Value) Raw() json.RawMessage { return json.RawMessage(v) }

// MarshalJSON returns the token; an absent value is null.
func (v Value) MarshalJSON() ([]byte, error) {
	if len(v) == 0 {
		return []byte("null"), nil
	}
	return v, nil
}

// UnmarshalJSON sets the value to a copy of the token.
func (v *Value) UnmarshalJSON(token []byte) error {
	*v = append((*v)[:0:0], token...)
	return nil
}

// Text returns the value of a string token, and whether it is one.
func (v Value) Text() (string, bool) {
	if len(v) < 2 || v[0] != '"' {
		return "", false
	}
	return unescape(v[1 : len(v)-1]), true
}

// String returns the text of a string, "" for null and for an absent value,
// and any other token as it was written.
func (v Value) String() string {
	if s, ok := v.Text(); ok {
		return s
	}
	if v.IsNull() {
		return ""
	}
	return string(v)
}

// Bool returns the value of a boolean token; false where it is null.
func (v Value) Bool() (bool, error) {
	switch string(v) {
	case "true":
		return true, nil
	case "false", "null":
		return false, nil
	}
	return false, fmt.Errorf("%.40q is not a boolean", string(v))
}

// Int64 returns the value of a whole number; 0 where it is null. Salesforce
// writes whole numbers of decimal fields with a point ("12.0"), which is
// accepted.
func (v Value) Int64() (int64, error) {
	if v.IsNull() {
		return 0, nil
	}
	if n, err := strconv.ParseInt(string(v), 10, 64); err == nil {
		return n, nil
	}
	f, err := v.Float64()
	if err != nil || f != float64(int64(f)) || f > 1<<53 || f < -(1<<53) {
		return 0, fmt.Errorf("%.40q is not a whole number of 64 bits", string(v))
	}
	return int64(f), nil
}

// Float64 returns the value of a number; 0 where it is null. Raw keeps the
// digits that a float64 cannot.
func (v Value) Float64() (float64, error) {
	if v.IsNull() {
		return 0, nil
	}
	if len(v) == 0 || v[0] != '-' && (v[0] < '0' || v[0] > '9') {
		return 0, fmt.Errorf("%.40q is not a number", string(v))
	}
	return strconv.ParseFloat(string(v), 64)
}

// Time returns the time of a date-time or date; the zero time where it is
// null.
func (v Value) Time() (time.Time, error) {
	if v.IsNull() {
		return time.Time{}, nil
	}
	s, ok := v.Text()
	if !ok {
		return time.Time{}, fmt.Errorf("%.40q is not a date-time", string(v))
	}
	return ParseTime(s)
}

// Record returns the value as a row of its own: a related row, or any other
// object. It fails for every other token.
func (v Value) Record() (Record, error) {
	var r Record
	end := scanFields(v, 0, 1, &r.fields)
	if end != len(v) {
		return Record{}, fmt.Errorf("%.40q is not an object", string(v))
	}
	r.raw = v
	return r, nil
}

// Decode stores the value in dst as json.Unmarshal does.
func (v Value) Decode(dst any) error { return json.Unmarshal(v, dst) }
