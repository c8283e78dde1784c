package sfapi

import (
	"encoding/json"
	"fmt"
	"time"
)

// dateTimeLayout is how SOQL and request bodies take a date-time. Salesforce
// keeps milliseconds and answers with an offset that has no colon
// ("2026-01-02T03:04:05.000+0000"), which time.Time's own UnmarshalJSON
// refuses.
//
// https://developer.salesforce.com/docs/atlas.en-us.api_rest.meta/api_rest/intro_valid_date_formats.htm
const dateTimeLayout = "2006-01-02T15:04:05.000Z07:00"

// ParseTime returns the time of a date-time or a date as Salesforce writes
// them, in UTC. A date is its midnight in UTC.
func ParseTime(s string) (time.Time, error) {
	for _, layout := range []string{"2006-01-02T15:04:05.999999999Z0700", time.RFC3339Nano, time.DateOnly} {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UTC(), nil
		}
	}
	return time.Time{}, fmt.Errorf("%.40q is not a Salesforce date-time or date", s)
}

// FormatTime returns t as SOQL and request bodies take a date-time: in UTC, to
// the millisecond.
func FormatTime(t time.Time) string { return t.UTC().Format(dateTimeLayout) }

// DateTime is a date-time or date field of a typed row. Its zero value is
// null.
type DateTime struct{ time.Time }

// UnmarshalJSON reads what ParseTime reads; null gives the zero DateTime.
func (t *DateTime) UnmarshalJSON(b []byte) error {
	v, err := Value(b).Time()
	if err != nil {
		return err
	}
	t.Time = v
	return nil
}

// MarshalJSON writes what FormatTime writes; the zero DateTime is null.
func (t DateTime) MarshalJSON() ([]byte, error) {
	if t.IsZero() {
		return []byte("null"), nil
	}
	return json.Marshal(FormatTime(t.Time))
}
