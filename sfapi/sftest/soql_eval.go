package sftest

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// typeName is the type as SOQL's messages spell it.
func (f *Field) typeName() string {
	switch f.Type {
	case TypeDateTime:
		return "dateTime"
	case TypeInt, TypeBoolean, TypeDate, TypeDouble:
		return string(f.Type)
	case TypeCurrency, TypePercent:
		return "double"
	}
	return "string"
}

func (f *Field) wrongLiteral() *soqlError {
	advice := "should not be enclosed in quotes"
	if f.text() || f.id() {
		advice = "should be enclosed in quotes"
	}
	return &soqlError{"INVALID_FIELD", fmt.Sprintf("value of filter criterion for field '%s' must be of type %s and %s", f.Name, f.typeName(), advice)}
}

// ordering turns a comparison into a test of an operator. Null matches no
// ordering, and is unequal to every value.
func ordering(op string, compare func(any) int) func(any) bool {
	switch op {
	case "=":
		return func(v any) bool { return v != nil && compare(v) == 0 }
	case "!=":
		return func(v any) bool { return v == nil || compare(v) != 0 }
	case "<":
		return func(v any) bool { return v != nil && compare(v) < 0 }
	case "<=":
		return func(v any) bool { return v != nil && compare(v) <= 0 }
	case ">":
		return func(v any) bool { return v != nil && compare(v) > 0 }
	}
	return func(v any) bool { return v != nil && compare(v) >= 0 }
}

// test compiles one comparison with one literal.
func (f *Field) test(op string, lit soqlLiteral) (func(any) bool, window, *soqlError) {
	if lit.kind == litNull || lit.kind == litString && lit.text == "" && f.text() {
		empty := func(v any) bool { return v == nil || v == "" }
		switch op {
		case "=":
			return empty, window{}, nil
		case "!=":
			return func(v any) bool { return !empty(v) }, window{}, nil
		}
		return func(any) bool { return false }, window{}, nil
	}
	switch {
	case f.text():
		if lit.kind != litString {
			return nil, window{}, f.wrongLiteral()
		}
		if op == "LIKE" {
			return likeTest(lit.text), window{}, nil
		}
		want := strings.ReplaceAll(lit.text, string(rune(likeEscape)), "")
		if f.CaseSensitive {
			return ordering(op, func(v any) int { return cmp.Compare(v.(string), want) }), window{}, nil
		}
		lower := strings.ToLower(want)
		return ordering(op, func(v any) int {
			s := v.(string)
			if (op == "=" || op == "!=") && len(s) == len(want) && s == want {
				return 0
			}
			return cmp.Compare(strings.ToLower(s), lower)
		}), window{}, nil
	case f.id():
		if lit.kind != litString {
			return nil, window{}, f.wrongLiteral()
		}
		id, ok := parseID(lit.text)
		if !ok {
			return nil, window{}, &soqlError{"INVALID_QUERY_FILTER_OPERATOR", "invalid ID field: " + clip(lit.text, 60)}
		}
		return ordering(op, func(v any) int { return cmp.Compare(v.(string), string(id)) }), window{}, nil
	case f.number():
		if lit.kind != litNumber {
			return nil, window{}, f.wrongLiteral()
		}
		return ordering(op, func(v any) int {
			if i, ok := v.(int64); ok {
				return cmp.Compare(float64(i), lit.n)
			}
			return cmp.Compare(v.(float64), lit.n)
		}), window{}, nil
	case f.Type == TypeBoolean:
		if lit.kind != litBool {
			return nil, window{}, f.wrongLiteral()
		}
		want := lit.text == "true"
		return ordering(op, func(v any) int {
			if v.(bool) == want {
				return 0
			}
			return 1
		}), window{}, nil
	}
	return f.timeTest(op, lit)
}

// timeTest compares dates and date-times.
func (f *Field) timeTest(op string, lit soqlLiteral) (func(any) bool, window, *soqlError) {
	var from, to time.Time
	switch {
	case lit.kind == litRange:
		from, to, _ = dateRange(lit.text)
		to = to.Add(-time.Nanosecond)
	case f.Type == TypeDate && lit.kind == litDate:
		t, err := time.Parse("2006-01-02", lit.text)
		if err != nil {
			return nil, window{}, &soqlError{"MALFORMED_QUERY", "Invalid date: " + lit.text}
		}
		from, to = t, t
	case f.Type == TypeDateTime && lit.kind == litDateTime:
		t, ok := parseSOQLTime(lit.text)
		if !ok {
			return nil, window{}, &soqlError{"MALFORMED_QUERY", "Invalid dateTime: " + clip(lit.text, 60)}
		}
		from, to = t, t
	default:
		return nil, window{}, f.wrongLiteral()
	}
	compare := func(v any) int {
		t, ok := v.(time.Time)
		if !ok {
			t, _ = time.Parse("2006-01-02", v.(string))
		}
		switch {
		case t.Before(from):
			return -1
		case t.After(to):
			return 1
		}
		return 0
	}
	var w window
	switch op {
	case "=":
		w = window{from, to}
	case ">", ">=":
		w.lo = from
	case "<", "<=":
		w.hi = to
	}
	return ordering(op, compare), w, nil
}

// parseSOQLTime reads an unquoted date-time. SOQL wants a zone.
func parseSOQLTime(s string) (time.Time, bool) {
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999-0700"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UTC(), true
		}
	}
	return time.Time{}, false
}

// dateRange resolves the date literals TODAY, YESTERDAY, TOMORROW,
// LAST_N_DAYS:n and NEXT_N_DAYS:n in UTC.
func dateRange(word string) (from, to time.Time, ok bool) {
	today := time.Now().UTC().Truncate(24 * time.Hour)
	name, arg, hasArg := strings.Cut(strings.ToUpper(word), ":")
	n := 0
	if hasArg {
		var err error
		if n, err = strconv.Atoi(arg); err != nil || n < 0 {
			return from, to, false
		}
	}
	switch {
	case name == "TODAY" && !hasArg:
		return today, today.AddDate(0, 0, 1), true
	case name == "YESTERDAY" && !hasArg:
		return today.AddDate(0, 0, -1), today, true
	case name == "TOMORROW" && !hasArg:
		return today.AddDate(0, 0, 1), today.AddDate(0, 0, 2), true
	case name == "LAST_N_DAYS" && hasArg:
		return today.AddDate(0, 0, -n), today.AddDate(0, 0, 1), true
	case name == "NEXT_N_DAYS" && hasArg:
		return today.AddDate(0, 0, 1), today.AddDate(0, 0, n+1), true
	}
	return from, to, false
}

// likeTest compiles a LIKE pattern: % is any text, _ any one character,
// unless it was escaped. Letter case does not matter.
func likeTest(pattern string) func(any) bool {
	p := []rune(strings.ToLower(pattern))
	return func(v any) bool {
		s, ok := v.(string)
		return ok && likeMatch(p, []rune(strings.ToLower(s)))
	}
}

func likeMatch(p, s []rune) bool {
	star, mark := -1, 0
	i, j := 0, 0
	for j < len(s) {
		switch {
		case i < len(p) && p[i] == '%':
			star, mark = i, j
			i++
			continue
		case i+1 < len(p) && p[i] == likeEscape && p[i+1] == s[j]:
			i, j = i+2, j+1
			continue
		case i < len(p) && p[i] != likeEscape && (p[i] == '_' || p[i] == s[j]):
			i, j = i+1, j+1
			continue
		case star >= 0:
			mark++
			i, j = star+1, mark
			continue
		}
		return false
	}
	for i < len(p) && p[i] == '%' {
		i++
	}
	return i == len(p)
}

// compareValues orders two values of one field for ORDER BY; neither is null.
func compareValues(a, b any) int {
	switch a := a.(type) {
	case string:
		return cmp.Compare(strings.ToLower(a), strings.ToLower(b.(string)))
	case float64:
		return cmp.Compare(a, b.(float64))
	case int64:
		return cmp.Compare(a, b.(int64))
	case time.Time:
		return a.Compare(b.(time.Time))
	case bool:
		switch {
		case a == b.(bool):
			return 0
		case a:
			return 1
		}
		return -1
	}
	return 0
}
