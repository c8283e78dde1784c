package sfapi

import (
	"errors"
	"unicode/utf8"
)

// maxJSONDepth is how deep values may nest: encoding/json's own limit, so that
// both refuse the same texts.
const maxJSONDepth = 10000

// errSyntax says that a text is not JSON as encoding/json accepts it.
var errSyntax = errors.New("not valid JSON")

// plainByte marks the bytes that stand for themselves inside a JSON string.
var plainByte = func() (t [256]bool) {
	for c := 0x20; c < 256; c++ {
		t[c] = c != '"' && c != '\\'
	}
	return t
}()

// skipSpace returns the index of the first byte at or after i that is not
// JSON white space.
func skipSpace(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\t' || b[i] == '\r') {
		i++
	}
	return i
}

// skipString returns the index after the string literal that begins at i, or
// -1.
func skipString(b []byte, i int) int {
	if i >= len(b) || b[i] != '"' {
		return -1
	}
	i++
	for i < len(b) {
		for i+4 <= len(b) && plainByte[b[i]] && plainByte[b[i+1]] && plainByte[b[i+2]] && plainByte[b[i+3]] {
			i += 4
		}
		if i >= len(b) {
			return -1
		}
		switch c := b[i]; {
		case plainByte[c]:
			i++
		case c == '"':
			return i + 1
		case c == '\\':
			if i = skipEscape(b, i); i < 0 {
				return -1
			}
		default:
			return -1
		}
	}
	return -1
}

// skipEscape returns the index after the escape sequence that begins at i, or
// -1.
func skipEscape(b []byte, i int) int {
	if i+1 >= len(b) {
		return -1
	}
	switch b[i+1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return i + 2
	case 'u':
		if i+6 > len(b) {
			return -1
		}
		for _, c := range b[i+2 : i+6] {
			if !isHex(c) {
				return -1
			}
		}
		return i + 6
	}
	return -1
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}

// skipNumber returns the index after the number literal that begins at i, or
// -1.
func skipNumber(b []byte, i int) int {
	if i < len(b) && b[i] == '-' {
		i++
	}
	switch {
	case i >= len(b):
		return -1
	case b[i] == '0':
		i++
	case b[i] >= '1' && b[i] <= '9':
		i = skipDigits(b, i)
	default:
		return -1
	}
	if i < len(b) && b[i] == '.' {
		next := skipDigits(b, i+1)
		if next == i+1 {
			return -1
		}
		i = next
	}
	if i < len(b) && (b[i] == 'e' || b[i] == 'E') {
		i++
		if i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		next := skipDigits(b, i)
		if next == i {
			return -1
		}
		i = next
	}
	return i
}

func skipDigits(b []byte, i int) int {
	for i < len(b) && b[i] >= '0' && b[i] <= '9' {
		i++
	}
	return i
}

// skipLiteral returns the index after word, which must begin at i, or -1.
func skipLiteral(b []byte, i int, word string) int {
	if i+len(word) <= len(b) && string(b[i:i+len(word)]) == word {
		return i + len(word)
	}
	return -1
}

// skipValue returns the index after the JSON value that begins at i, which is
// no white space, or -1 when there is none. depth counts the values around it.
func skipValue(b []byte, i, depth int) int {
	if i >= len(b) {
		return -1
	}
	switch b[i] {
	case '"':
		return skipString(b, i)
	case '{':
		return skipMembers(b, i, depth+1, nil)
	case '[':
		return skipElements(b, i, depth+1, nil)
	case 't':
		return skipLiteral(b, i, "true")
	case 'f':
		return skipLiteral(b, i, "false")
	case 'n':
		return skipLiteral(b, i, "null")
	}
	return skipNumber(b, i)
}

// skipMembers returns the index after the object that begins at i, or -1. It
// has each value read by member, which is given the bounds of the name, quotes
// included, and the value's index, and returns the index after the value or -1;
// a nil member accepts any value.
func skipMembers(b []byte, i, depth int, member func(name, nameEnd, value int) int) int {
	if i >= len(b) || b[i] != '{' || depth > maxJSONDepth {
		return -1
	}
	i = skipSpace(b, i+1)
	if i < len(b) && b[i] == '}' {
		return i + 1
	}
	for {
		name := i
		nameEnd := skipString(b, i)
		if nameEnd < 0 {
			return -1
		}
		i = skipSpace(b, nameEnd)
		if i >= len(b) || b[i] != ':' {
			return -1
		}
		i = skipSpace(b, i+1)
		if member != nil {
			i = member(name, nameEnd, i)
		} else {
			i = skipValue(b, i, depth)
		}
		if i < 0 {
			return -1
		}
		i = skipSpace(b, i)
		if i >= len(b) {
			return -1
		}
		switch b[i] {
		case '}':
			return i + 1
		case ',':
			i = skipSpace(b, i+1)
		default:
			return -1
		}
	}
}

// skipElements returns the index after the array that begins at i, or -1. It
// has each element read by element, which returns the index after it or -1; a
// nil element accepts any value.
func skipElements(b []byte, i, depth int, element func(i int) int) int {
	if i >= len(b) || b[i] != '[' || depth > maxJSONDepth {
		return -1
	}
	i = skipSpace(b, i+1)
	if i < len(b) && b[i] == ']' {
		return i + 1
	}
	for {
		if element != nil {
			i = element(i)
		} else {
			i = skipValue(b, i, depth)
		}
		if i < 0 {
			return -1
		}
		i = skipSpace(b, i)
		if i >= len(b) {
			return -1
		}
		switch b[i] {
		case ']':
			return i + 1
		case ',':
			i = skipSpace(b, i+1)
		default:
			return -1
		}
	}
}

// validJSON reports whether b is one JSON value of valid UTF-8. encoding/json
// would replace bytes that are not UTF-8 without a word.
func validJSON(b []byte) bool {
	i := skipSpace(b, 0)
	if i = skipValue(b, i, 0); i < 0 {
		return false
	}
	return skipSpace(b, i) == len(b) && utf8.Valid(b)
}
