package store

import (
	"errors"
	"fmt"
	"time"

	"github.com/weirhq/weir/jobs"
	"github.com/weirhq/weir/sfapi"
)

// CheckMirror reports everything in t that cannot be a table.
func CheckMirror(t *jobs.MirrorTable) error {
	var errs []error
	if t.Name == "" {
		errs = append(errs, errors.New("mirror table has no name"))
	}
	seen := make(map[string]string, len(t.Columns))
	for _, c := range t.Columns {
		switch c.Name {
		case "":
			errs = append(errs, fmt.Errorf("mirror %s: the column of field %s has no name", t.Name, c.Field))
			continue
		case "org", "id":
			errs = append(errs, fmt.Errorf("mirror %s: the column of field %s would be %q, which is part of the primary key", t.Name, c.Field, c.Name))
			continue
		}
		if other, ok := seen[c.Name]; ok {
			errs = append(errs, fmt.Errorf("mirror %s: fields %s and %s would share column %q", t.Name, other, c.Field, c.Name))
		}
		seen[c.Name] = c.Field
		switch c.Type {
		case jobs.ColumnText, jobs.ColumnNumeric, jobs.ColumnBoolean, jobs.ColumnDate, jobs.ColumnTimestamp:
		default:
			errs = append(errs, fmt.Errorf("mirror %s: column %s has unknown type %q", t.Name, c.Name, c.Type))
		}
	}
	return errors.Join(errs...)
}

// CheckMirrorRow returns an error that names the org, row and column of the
// first value that does not fit its column. Both databases refuse the same
// values: SQLite would store anything anywhere, Postgres would say only which
// value it disliked.
func CheckMirrorRow(t *jobs.MirrorTable, org sfapi.OrgID, row *jobs.MirrorRow) error {
	if len(row.Values) != len(t.Columns) {
		return fmt.Errorf("mirror %s: org %s, row %s has %d values for %d columns", t.Name, org, row.ID, len(row.Values), len(t.Columns))
	}
	for i, v := range row.Values {
		if v == nil {
			continue
		}
		c := &t.Columns[i]
		if err := checkValue(c.Type, *v); err != nil {
			return fmt.Errorf("mirror %s: org %s, row %s, column %s: %w", t.Name, org, row.ID, c.Name, err)
		}
	}
	return nil
}

func checkValue(typ jobs.ColumnType, v string) error {
	ok := true
	switch typ {
	case jobs.ColumnText:
		return CheckText(v)
	case jobs.ColumnNumeric:
		ok = IsNumber(v)
	case jobs.ColumnBoolean:
		ok = v == "true" || v == "false"
	case jobs.ColumnDate:
		_, err := time.Parse(time.DateOnly, v)
		ok = err == nil
	case jobs.ColumnTimestamp:
		_, err := time.Parse(time.RFC3339, v)
		ok = err == nil
	}
	if !ok {
		return fmt.Errorf("%.40q is not a %s", v, typ)
	}
	return nil
}

// IsNumber reports whether s is a number as JSON writes it: digits with an
// optional sign, fraction and exponent.
func IsNumber(s string) bool {
	i := 0
	if i < len(s) && s[i] == '-' {
		i++
	}
	digits := func() bool {
		start := i
		for i < len(s) && s[i] >= '0' && s[i] <= '9' {
			i++
		}
		return i > start
	}
	if !digits() {
		return false
	}
	if i < len(s) && s[i] == '.' {
		i++
		if !digits() {
			return false
		}
	}
	if i < len(s) && (s[i] == 'e' || s[i] == 'E') {
		i++
		if i < len(s) && (s[i] == '+' || s[i] == '-') {
			i++
		}
		if !digits() {
			return false
		}
	}
	return i == len(s)
}
