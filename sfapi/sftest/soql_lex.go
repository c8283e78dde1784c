package sftest

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// soqlError is a query that Salesforce refuses.
type soqlError struct{ code, message string }

func (e *soqlError) Error() string { return e.code + ": " + e.message }

type tokenKind int

const (
	tokEnd    tokenKind = iota
	tokName             // identifiers, keywords, dotted paths
	tokString           // quoted text, already unescaped
	tokNumber
	tokTime // unquoted dates and date-times
	tokSymbol
)

type soqlToken struct {
	kind tokenKind
	text string
	pos  int
}

// soqlLexer splits a query into tokens.
type soqlLexer struct {
	src string
	pos int
}

// malformed is a MALFORMED_QUERY that shows where it happened, as Salesforce
// does.
func (l *soqlLexer) malformed(pos int, format string, args ...any) *soqlError {
	from, to := max(0, pos-30), min(len(l.src), pos+20)
	for from > 0 && !utf8.RuneStart(l.src[from]) {
		from--
	}
	for to < len(l.src) && !utf8.RuneStart(l.src[to]) {
		to++
	}
	return &soqlError{"MALFORMED_QUERY", fmt.Sprintf("\n%s\n%s^\nERROR at Row:1:Column:%d\n%s",
		strings.ReplaceAll(l.src[from:to], "\n", " "), strings.Repeat(" ", max(0, pos-from)), pos+1, fmt.Sprintf(format, args...))}
}

func isNameByte(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func (l *soqlLexer) next() (soqlToken, *soqlError) {
	for l.pos < len(l.src) {
		r, n := utf8.DecodeRuneInString(l.src[l.pos:])
		if !unicode.IsSpace(r) {
			break
		}
		l.pos += n
	}
	start := l.pos
	if start == len(l.src) {
		return soqlToken{tokEnd, "<EOF>", start}, nil
	}
	switch c := l.src[start]; {
	case c == '\'':
		return l.quoted()
	case isDigit(c), (c == '-' || c == '+' || c == '.') && start+1 < len(l.src) && (isDigit(l.src[start+1]) || l.src[start+1] == '.'):
		return l.number(), nil
	case isNameByte(c):
		for l.pos < len(l.src) && (isNameByte(l.src[l.pos]) || l.src[l.pos] == '.' || l.src[l.pos] == ':') {
			l.pos++
		}
		return soqlToken{tokName, l.src[start:l.pos], start}, nil
	case strings.IndexByte("(),=<>!", c) >= 0:
		l.pos++
		if l.pos < len(l.src) && (l.src[l.pos] == '=' && strings.IndexByte("<>!", c) >= 0 || c == '<' && l.src[l.pos] == '>') {
			l.pos++
		}
		return soqlToken{tokSymbol, l.src[start:l.pos], start}, nil
	}
	r, _ := utf8.DecodeRuneInString(l.src[start:])
	return soqlToken{}, l.malformed(start, "line 1:%d no viable alternative at character '%c'", start, r)
}

// number reads a number, a date or a date-time.
func (l *soqlLexer) number() soqlToken {
	start := l.pos
	l.pos++
	kind := tokNumber
	for l.pos < len(l.src) {
		c := l.src[l.pos]
		switch {
		case isDigit(c), c == '.', c == 'e' || c == 'E':
		case c == '-' && (l.src[l.pos-1] == 'e' || l.src[l.pos-1] == 'E'):
		case c == '-' || c == ':' || c == 'T' || c == 'Z' || c == 't' || c == 'z' || c == '+' && kind == tokTime:
			kind = tokTime
		default:
			return soqlToken{kind, l.src[start:l.pos], start}
		}
		l.pos++
	}
	return soqlToken{kind, l.src[start:l.pos], start}
}

// likeEscape marks an escaped wildcard in a string token.
const likeEscape = 0

// quoted reads a string with the escapes of SOQL. See
// https://developer.salesforce.com/docs/atlas.en-us.soql_sosl.meta/soql_sosl/sforce_api_calls_soql_select_quotedstringescapes.htm.
func (l *soqlLexer) quoted() (soqlToken, *soqlError) {
	start := l.pos
	var b strings.Builder
	for l.pos++; l.pos < len(l.src); l.pos++ {
		c := l.src[l.pos]
		if c == '\'' {
			l.pos++
			return soqlToken{tokString, b.String(), start}, nil
		}
		if c != '\\' {
			b.WriteByte(c)
			continue
		}
		if l.pos++; l.pos == len(l.src) {
			break
		}
		switch e := l.src[l.pos]; e {
		case 'n', 'N':
			b.WriteByte('\n')
		case 'r', 'R':
			b.WriteByte('\r')
		case 't', 'T':
			b.WriteByte('\t')
		case 'b', 'B':
			b.WriteByte('\b')
		case 'f', 'F':
			b.WriteByte('\f')
		case '"', '\'', '\\':
			b.WriteByte(e)
		case '_', '%':
			// LIKE needs to tell these from its wildcards.
			b.WriteByte(likeEscape)
			b.WriteByte(e)
		case 'u':
			var r rune
			if l.pos+4 >= len(l.src) {
				return soqlToken{}, l.malformed(start, "invalid unicode escape")
			}
			if _, err := fmt.Sscanf(l.src[l.pos+1:l.pos+5], "%04x", &r); err != nil {
				return soqlToken{}, l.malformed(l.pos, "invalid unicode escape")
			}
			b.WriteRune(r)
			l.pos += 4
		default:
			return soqlToken{}, &soqlError{"MALFORMED_QUERY", fmt.Sprintf("Illegal string literal: Invalid string literal '%s'. Illegal character sequence '\\%c' in string literal.", clip(l.src[start+1:], 60), e)}
		}
	}
	return soqlToken{}, l.malformed(start, "line 1:%d mismatched character '<EOF>' expecting '''", len(l.src))
}
