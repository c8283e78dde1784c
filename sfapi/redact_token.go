package sfapi

import "bytes"

// logical returns the character at b[i] with its JSON, percent and XML escapes
// undone, and how many bytes it takes. Escapes within escapes are undone too.
// What is not ASCII comes back as 0x80.
func logical(b []byte, i int) (c byte, n int) {
	switch b[i] {
	case '%':
		j := i
		for range 4 {
			v, ok := hexByte(b, j+1)
			if !ok {
				break
			}
			if j += 2; v != '%' {
				return ascii(uint32(v)), j + 1 - i
			}
		}
		return '%', 1
	case '\\':
		j := i
		for j < len(b) && b[j] == '\\' {
			j++
		}
		if j >= len(b) {
			return '\\', j - i
		}
		switch b[j] {
		case 'u':
			hi, ok1 := hexByte(b, j+1)
			lo, ok2 := hexByte(b, j+3)
			if ok1 && ok2 {
				return ascii(uint32(hi)<<8 | uint32(lo)), j + 5 - i
			}
		case '"', '\'', '/':
			return b[j], j + 1 - i
		case 'n', 'r', 't', 'b', 'f':
			return ' ', j + 1 - i
		}
		return '\\', j - i
	case '&':
		j := i + 1
		for bytes.HasPrefix(b[min(j, len(b)):], []byte("amp;")) {
			j += len("amp;")
		}
		if end := bytes.IndexByte(b[min(j, len(b)):min(len(b), j+10)], ';'); end > 0 {
			if r, ok := entity(b[j : j+end]); ok {
				return ascii(uint32(r)), j + end + 1 - i
			}
		}
		return '&', j - i
	}
	return ascii(uint32(b[i])), 1
}

func ascii(r uint32) byte {
	if r >= 0x80 {
		return 0x80
	}
	return byte(r)
}

func hexByte(b []byte, i int) (byte, bool) {
	if i < 0 || i+2 > len(b) {
		return 0, false
	}
	hi, ok1 := hexDigit(b[i])
	lo, ok2 := hexDigit(b[i+1])
	return hi<<4 | lo, ok1 && ok2
}

func hexDigit(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10, true
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}

// tokenAt returns the end of the token that begins at b[i] and is known by its
// looks, or 0: an access token or session id ("00D" and the org's id, an
// exclamation mark, the rest), a refresh token ("5Aep…"), an authorization code
// ("aPrx…") or a JSON Web Token ("eyJ…").
func tokenAt(b []byte, i int) int {
	rest := b[i:]
	if len(rest) < 8 {
		return 0
	}
	switch rest[0] {
	case '0':
		if rest[1] != '0' || rest[2] != 'D' {
			return 0
		}
		j := i + 3
		for j < len(b) && j-i < 18 && isAlphanumeric(b[j]) {
			j++
		}
		if j-i < 15 || j >= len(b) {
			return 0
		}
		if c, n := logical(b, j); c == '!' {
			if end := tokenEnd(b, j+n); end > j+n {
				return end
			}
		}
	case '5':
		if bytes.HasPrefix(rest, []byte("5Aep")) {
			return longToken(b, i+4, 8)
		}
	case 'a':
		if bytes.HasPrefix(rest, []byte("aPrx")) {
			return longToken(b, i+4, 12)
		}
	case 'e':
		if !bytes.HasPrefix(rest, []byte("eyJ")) {
			return 0
		}
		end := tokenEnd(b, i)
		dots := 0
		for j := i; j < end; {
			c, n := logical(b, j)
			if c == '.' {
				dots++
			}
			j += n
		}
		if dots > 0 && end-i > 16 {
			return end
		}
	}
	return 0
}

// longToken returns the end of a token with at least least characters after
// from, or 0.
func longToken(b []byte, from, least int) int {
	if end := tokenEnd(b, from); end-from >= least {
		return end
	}
	return 0
}

func isAlphanumeric(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

// tokenEnd returns the end of the run of token characters at b[i], of which
// those that are not letters or digits may be escaped.
func tokenEnd(b []byte, i int) int {
	for i < len(b) {
		c, n := logical(b, i)
		if !isTokenByte(c) {
			break
		}
		// A full stop that ends a sentence is not part of it.
		if c == '.' && n == 1 && (i+1 == len(b) || b[i+1] == ' ' || b[i+1] == '\n') {
			break
		}
		i += n
	}
	return i
}
