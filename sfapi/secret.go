package sfapi

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
)

const redacted = "REDACTED"

// Secret is a string that must not be shown: a token, a password, a key. Every
// way of printing or marshalling it gives REDACTED; only [Secret.Reveal] gives
// the value. The zero value is no secret and prints as the empty string, so
// that a log shows whether one is set.
type Secret string

// Reveal returns the secret itself.
func (s Secret) Reveal() string { return string(s) }

// String returns REDACTED.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return redacted
}

// GoString returns REDACTED for %#v.
func (s Secret) GoString() string { return s.String() }

// Format prints REDACTED for every verb, numbers' verbs included.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// MarshalJSON returns REDACTED as a JSON string. A Secret does not survive a
// round trip, on purpose: whoever stores one reveals it and seals it.
func (s Secret) MarshalJSON() ([]byte, error) { return json.Marshal(s.String()) }

// MarshalText returns REDACTED.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// LogValue returns REDACTED for log/slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

var (
	_ fmt.Formatter  = Secret("")
	_ fmt.GoStringer = Secret("")
	_ json.Marshaler = Secret("")
	_ slog.LogValuer = Secret("")
)
