package runnersqlite

import (
	"database/sql/driver"
	"fmt"
	"time"
)

// timeLayout is how Weir's own tables keep a time on SQLite: UTC text of one
// length, so that comparing texts compares times, with the microseconds that
// Postgres keeps, and readable in a shell. Zero times are NULL.
const timeLayout = "2006-01-02T15:04:05.000000Z"

// now is the current time with the resolution that the tables keep.
func now() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }

// timestamp is a time as Weir's tables keep it.
type timestamp time.Time

// Value implements driver.Valuer.
func (t timestamp) Value() (driver.Value, error) {
	if time.Time(t).IsZero() {
		return nil, nil
	}
	return time.Time(t).UTC().Format(timeLayout), nil
}

// Scan implements sql.Scanner.
func (t *timestamp) Scan(src any) error {
	switch v := src.(type) {
	case nil:
		*t = timestamp{}
	case string:
		parsed, err := time.Parse(timeLayout, v)
		if err != nil {
			return err
		}
		*t = timestamp(parsed)
	default:
		return fmt.Errorf("time column holds a %T", src)
	}
	return nil
}
