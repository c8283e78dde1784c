package sftest

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"net/mail"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// rowError is one entry of a failed record's errors.
type rowError struct {
	code    string
	message string
	fields  []string
	// status of the answer when a single-record call fails with it; 0 is 400.
	status int
	// whole fails the request, not only the record: its JSON has the wrong shape.
	whole bool
	// choices are the URLs of a 300 answer.
	choices []string
}

func fieldError(code, message string, fields ...string) *rowError {
	return &rowError{code: code, message: message, fields: fields}
}

func deserializeError(want string, v any) *rowError {
	kind, text := "VALUE_STRING", fmt.Sprint(v)
	switch v := v.(type) {
	case json.Number:
		kind = "VALUE_NUMBER_INT"
		if strings.ContainsAny(v.String(), ".eE") {
			kind = "VALUE_NUMBER_FLOAT"
		}
	case bool:
		kind = "VALUE_" + strings.ToUpper(text)
	case map[string]any:
		kind, text = "START_OBJECT", "{"
	case []any:
		kind, text = "START_ARRAY", "["
	}
	return &rowError{code: "JSON_PARSER_ERROR", whole: true, message: fmt.Sprintf(
		"Cannot deserialize instance of %s from %s value %s or request may be missing a required field at [line:1, column:1]",
		want, kind, clip(text, 100))}
}

func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// decode turns a JSON value into the stored form, or says why Salesforce
// refuses it. Empty text is stored as null, as an org does.
func (f *Field) decode(v any) (any, *rowError) {
	if v == nil {
		if f.Type == TypeBoolean {
			return false, nil
		}
		return nil, nil
	}
	if s, ok := v.(string); ok && s == "" && f.Type != TypeBoolean {
		return nil, nil
	}
	switch {
	case f.text():
		return f.decodeText(v)
	case f.number():
		return f.decodeNumber(v)
	case f.id():
		return f.decodeID(v)
	}
	switch f.Type {
	case TypeBoolean:
		switch v := v.(type) {
		case bool:
			return v, nil
		case string:
			if b := strings.ToLower(v); b == "true" || b == "false" {
				return b == "true", nil
			}
		}
		return nil, deserializeError("boolean", v)
	case TypeDate:
		s, ok := v.(string)
		if !ok {
			return nil, deserializeError("date", v)
		}
		if t, err := time.Parse("2006-01-02", s); err == nil {
			return t.Format("2006-01-02"), nil
		}
		if t, ok := parseDateTime(s); ok {
			return t.UTC().Format("2006-01-02"), nil
		}
		return nil, deserializeError("date", v)
	case TypeDateTime:
		s, ok := v.(string)
		if !ok {
			return nil, deserializeError("datetime", v)
		}
		t, ok := parseDateTime(s)
		if !ok {
			return nil, deserializeError("datetime", v)
		}
		return t.UTC().Truncate(time.Millisecond), nil
	case TypeBase64:
		s, ok := v.(string)
		if !ok {
			return nil, deserializeError("base64Binary", v)
		}
		if _, err := base64.StdEncoding.DecodeString(s); err != nil {
			return nil, deserializeError("base64Binary", v)
		}
		return s, nil
	}
	return nil, deserializeError(string(f.Type), v)
}

func (f *Field) decodeText(v any) (any, *rowError) {
	s, ok := v.(string)
	if !ok {
		return nil, deserializeError("string", v)
	}
	if n := utf8.RuneCountInString(s); n > f.Length {
		return nil, fieldError("STRING_TOO_LONG", fmt.Sprintf(
			"%s: data value too large: %s (max length=%d)", f.Label, clip(s, 1000), f.Length), f.Name)
	}
	switch f.Type {
	case TypeEmail:
		if a, err := mail.ParseAddress(s); err != nil || a.Address != s || !strings.Contains(s, ".") {
			return nil, fieldError("INVALID_EMAIL_ADDRESS", f.Label+": invalid email address: "+s, f.Name)
		}
	case TypePicklist:
		if f.Restricted {
			for _, p := range f.Picklist {
				if p == s {
					return s, nil
				}
			}
			return nil, fieldError("INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST",
				f.Label+": bad value for restricted picklist field: "+s, f.Name)
		}
	}
	return s, nil
}

func (f *Field) decodeNumber(v any) (any, *rowError) {
	want := "double"
	if f.Type == TypeInt {
		want = "int"
	}
	var text string
	switch v := v.(type) {
	case json.Number:
		text = v.String()
	case string:
		text = v
	default:
		return nil, deserializeError(want, v)
	}
	n, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsNaN(n) || math.IsInf(n, 0) || strings.ContainsAny(text, "xXpP_") {
		return nil, deserializeError(want, v)
	}
	if f.Type == TypeInt {
		if n != math.Trunc(n) || math.Abs(n) > math.MaxInt32 {
			return nil, deserializeError(want, v)
		}
		if math.Abs(n) >= math.Pow10(f.Precision) {
			return nil, f.outOfRange()
		}
		return int64(n), nil
	}
	if math.Abs(n) >= math.Pow10(f.Precision-f.Scale) {
		return nil, f.outOfRange()
	}
	p := math.Pow10(f.Scale)
	if r := math.Round(n * p); math.Abs(r) < 1<<53 {
		n = r / p
	}
	return n, nil
}

func (f *Field) outOfRange() *rowError {
	return fieldError("NUMBER_OUTSIDE_VALID_RANGE", f.Label+": value outside of valid range on numeric field", f.Name)
}

func (f *Field) decodeID(v any) (any, *rowError) {
	s, ok := v.(string)
	if !ok {
		return nil, deserializeError("reference", v)
	}
	id, ok := parseID(s)
	if !ok {
		return nil, fieldError("MALFORMED_ID", f.Label+": id value of incorrect type: "+clip(s, 100), f.Name)
	}
	return string(id), nil
}

// parseDateTime accepts the forms of ISO 8601 that the REST API takes.
func parseDateTime(s string) (time.Time, bool) {
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999-0700", "2006-01-02T15:04:05.999999999"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}

// normalize turns a Go value given by a test into the stored form. Text stays
// as it is, "" included.
func (f *Field) normalize(v any) (any, error) {
	switch v := v.(type) {
	case nil:
		return nil, nil
	case string:
		switch {
		case f.text(), f.Type == TypeBase64:
			return v, nil
		case f.Type == TypeDateTime:
			if t, ok := parseDateTime(v); ok {
				return t.UTC().Truncate(time.Millisecond), nil
			}
		case f.Type == TypeDate:
			if _, err := time.Parse("2006-01-02", v); err == nil {
				return v, nil
			}
		case f.id():
			if id, ok := parseID(v); ok {
				return string(id), nil
			}
		}
	case ID:
		if f.id() {
			return f.normalize(string(v))
		}
	case bool:
		if f.Type == TypeBoolean {
			return v, nil
		}
	case time.Time:
		switch f.Type {
		case TypeDateTime:
			return v.UTC().Truncate(time.Millisecond), nil
		case TypeDate:
			return v.Format("2006-01-02"), nil
		}
	case int:
		return f.normalizeNumber(float64(v))
	case int64:
		return f.normalizeNumber(float64(v))
	case float64:
		return f.normalizeNumber(v)
	}
	return nil, fmt.Errorf("field %s of type %s cannot hold %T %v", f.Name, f.Type, v, v)
}

func (f *Field) normalizeNumber(n float64) (any, error) {
	switch {
	case f.Type == TypeInt && n == math.Trunc(n):
		return int64(n), nil
	case f.number() && f.Type != TypeInt:
		return n, nil
	}
	return nil, fmt.Errorf("field %s of type %s cannot hold the number %v", f.Name, f.Type, n)
}

// render is the value's JSON as the REST API writes it.
func (f *Field) render(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case bool:
		return strconv.FormatBool(v)
	case int64:
		return strconv.FormatInt(v, 10)
	case float64:
		return renderDouble(v)
	case time.Time:
		return `"` + v.UTC().Format("2006-01-02T15:04:05.000+0000") + `"`
	case string:
		return string(appendJSONString(nil, v))
	}
	return "null"
}

// renderDouble writes a number as Java's Double.toString does, which is what
// the REST API sends: 12.0, 3.5E8, 1.0E-4.
func renderDouble(v float64) string {
	if abs := math.Abs(v); abs != 0 && (abs < 1e-3 || abs >= 1e7) {
		s := strconv.FormatFloat(v, 'E', -1, 64)
		mantissa, exp, _ := strings.Cut(s, "E")
		if !strings.Contains(mantissa, ".") {
			mantissa += ".0"
		}
		n, err := strconv.Atoi(exp)
		if err != nil {
			return s
		}
		return mantissa + "E" + strconv.Itoa(n)
	}
	s := strconv.FormatFloat(v, 'f', -1, 64)
	if !strings.Contains(s, ".") {
		s += ".0"
	}
	return s
}

const hexDigits = "0123456789abcdef"

// appendJSONString quotes s as JSON. It leaves everything but quotes,
// backslashes and control characters as it is.
func appendJSONString(b []byte, s string) []byte {
	b = append(b, '"')
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c == '\n':
			b = append(b, '\\', 'n')
		case c == '\r':
			b = append(b, '\\', 'r')
		case c == '\t':
			b = append(b, '\\', 't')
		case c < 0x20:
			b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		default:
			b = append(b, c)
		}
	}
	return append(b, '"')
}
