package sfapi

import "bytes"

// span is a JSON value inside the body. Strings are without their quotes.
type span struct {
	start, end int
	kind       byte // '"', '{', '[', '0' for numbers, 't', 'f', 'n', or 0
	escaped    bool
	cut        bool
}

func (s span) bytes(b []byte) []byte { return b[s.start:s.end] }

func spanSpace(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\r' || b[i] == '\t') {
		i++
	}
	return i
}

// spanString reads the string whose opening quote is at i.
func spanString(b []byte, i int) (s span, next int) {
	s = span{start: i + 1, kind: '"'}
	quote := -1 // the next quotation mark, where one is known
	for i++; i < len(b); {
		if quote < i {
			n := bytes.IndexByte(b[i:], '"')
			if n < 0 {
				s.escaped = s.escaped || bytes.IndexByte(b[i:], '\\') >= 0
				break
			}
			quote = i + n
		}
		e := bytes.IndexByte(b[i:quote], '\\')
		if e < 0 {
			s.end = quote
			return s, quote + 1
		}
		s.escaped = true
		i += e + 2
	}
	s.start = min(s.start, len(b))
	s.end, s.cut = len(b), true
	return s, len(b)
}

// spanValue reads the value at i, whatever it holds inside.
func spanValue(b []byte, i int) (s span, next int) {
	i = spanSpace(b, i)
	if i >= len(b) {
		return span{start: len(b), end: len(b), cut: true}, len(b)
	}
	switch c := b[i]; c {
	case '"':
		return spanString(b, i)
	case '{', '[':
		depth := 0
		for j := i; j < len(b); j++ {
			switch b[j] {
			case '"':
				_, n := spanString(b, j)
				j = n - 1
			case '{', '[':
				depth++
			case '}', ']':
				if depth--; depth == 0 {
					return span{start: i, end: j + 1, kind: c}, j + 1
				}
			}
		}
		return span{start: i, end: len(b), kind: c, cut: true}, len(b)
	case '}', ']', ',', ':':
		return span{start: i, end: i}, i
	default:
		j := i
		for j < len(b) && !endsWord(b[j]) {
			j++
		}
		s := span{start: i, end: j, kind: c}
		if '0' <= c && c <= '9' || c == '-' {
			s.kind = '0'
		}
		return s, j
	}
}

// endsWord is whether c ends a number, a literal or what stands in their place.
func endsWord(c byte) bool {
	switch c {
	case ' ', '\n', '\r', '\t', ',', ':', ']', '}', '[', '{', '"':
		return true
	}
	return false
}
