package runnerpgx

import (
	"time"

	"github.com/jackc/pgx/v5/pgtype"
)

// timestamp is t for a timestamptz column: the zero time is NULL there.
func timestamp(t time.Time) pgtype.Timestamptz {
	return pgtype.Timestamptz{Time: t, Valid: !t.IsZero()}
}

// timeOf is the reverse of timestamp, in UTC.
func timeOf(t pgtype.Timestamptz) time.Time {
	if !t.Valid {
		return time.Time{}
	}
	return t.Time.UTC()
}
