package sfapi

import "bytes"

// maxTagBytes bounds how far the ends of a tag are looked for.
const maxTagBytes = 1 << 10

// isTagName is whether the name at b[i] is that of an element, whatever its
// namespace prefix.
func isTagName(b []byte, i int) bool {
	var buf [64]byte
	before := logicalBefore(buf[:0], b, i, 40)
	if n := len(before); n > 0 && before[n-1] == ':' {
		before = before[:n-1]
		for len(before) > 0 && isNameByte(before[len(before)-1]) {
			before = before[:len(before)-1]
		}
	}
	return bytes.HasSuffix(before, []byte("<"))
}

// isFieldName is whether the name at b[i] is the value of an attribute that
// names a field: <input name="password"> or a part of a multipart form.
func isFieldName(b []byte, i int) bool {
	var buf [64]byte
	before := bytes.TrimRight(logicalBefore(buf[:0], b, i, 40), "\"'")
	for _, attribute := range [...]string{" name=", " id=", ";name="} {
		if bytes.HasSuffix(before, []byte(attribute)) {
			return true
		}
	}
	return false
}

// logicalBefore appends the characters of the n bytes before b[i] in lower
// case. The first of them may be half an escape.
func logicalBefore(dst, b []byte, i, n int) []byte {
	for j := max(i-n, 0); j < i; {
		c, size := logical(b[:i], j)
		dst = append(dst, lowerByte(c))
		j += size
	}
	return dst
}

// afterTag returns the index behind the tag whose name ends at b[i], or 0
// where it has no content.
func afterTag(b []byte, i int) int {
	var last byte
	for end := min(len(b), i+maxTagBytes); i < end; {
		c, n := logical(b, i)
		i += n
		switch c {
		case '>':
			if last == '/' {
				return 0
			}
			return i
		case '<':
			return 0
		}
		last = c
	}
	return 0
}

// afterText returns the index behind text at b[i], or 0 where something else
// stands there.
func afterText(b []byte, i int, text string) int {
	for k := range len(text) {
		c, n := logicalAt(b, i)
		if n == 0 || c != text[k] {
			return 0
		}
		i += n
	}
	return i
}

// elementValue returns the content that begins at b[i] of an element: up to
// the next tag, whose bracket takes at least width bytes, or the inside of a
// CDATA section.
func elementValue(b []byte, i, width int) (from, to int) {
	if j := afterText(b, skipBlank(b, i), "<![CDATA["); j > 0 {
		for to = j; to < len(b); {
			if afterText(b, to, "]]>") > 0 {
				break
			}
			_, n := logical(b, to)
			to += n
		}
		return j, to
	}
	for to = i; to < len(b); {
		c, n := logical(b, to)
		if c == '<' && (n == 1 || n >= width) {
			break
		}
		to += n
	}
	return i, to
}

func skipBlank(b []byte, i int) int {
	for i < len(b) {
		c, n := logical(b, i)
		if c != ' ' && c != '\t' && c != '\n' && c != '\r' {
			break
		}
		i += n
	}
	return i
}

// fieldValue returns the value of the field whose name ends at b[i]: the value
// attribute of the same tag, on either side, or what follows the blank line
// that ends a multipart header.
func fieldValue(b []byte, i int) (from, to int) {
	low := max(i-maxTagBytes, 0)
	start := bytes.LastIndexByte(b[low:i], '<')
	for _, escaped := range [...]string{"&lt;", "u003c", "u003C", "%3C", "%3c"} {
		start = max(start, bytes.LastIndex(b[low:i], []byte(escaped)))
	}
	if start < 0 {
		return partValue(b, i)
	}
	for j, last := low+start+1, byte(0); j < len(b) && j < i+maxTagBytes; {
		c, n := logical(b, j)
		if c == '>' {
			break
		}
		if last == ' ' && lowerByte(c) == 'v' {
			if k := afterText(b, j+n, "alue="); k > 0 && k < len(b) {
				return attributeValue(b, k)
			}
		}
		last = c
		if c == '\n' || c == '\t' || c == '\r' {
			last = ' '
		}
		j += n
	}
	return 0, 0
}

func attributeValue(b []byte, i int) (from, to int) {
	c, n := logical(b, i)
	if c == '"' || c == '\'' {
		return i + n, quotedEnd(b, i+n, b[i:i+n])
	}
	for to = i; to < len(b); {
		c, n := logical(b, to)
		if c == ' ' || c == '>' || c == '\n' || c == '\t' {
			break
		}
		to += n
	}
	return i, to
}

// partValue reads one part of a multipart form. Line ends that are escaped
// read as blanks, so two or more blanks in a row separate the header.
func partValue(b []byte, i int) (from, to int) {
	blank := func(i int) (int, bool) {
		c, n := logicalAt(b, i)
		return n, n > 0 && (c == '\n' || c == '\r' || c == ' ' && n > 1)
	}
	ends := 0
	for end := min(len(b), i+256); i < end; {
		n, ok := blank(i)
		switch {
		case ok:
			if c, _ := logical(b, i); c != '\r' {
				ends++
			}
			i += n
			continue
		case ends >= 2:
			for to = i; to < len(b); {
				if _, ok := blank(to); ok {
					break
				}
				_, n := logical(b, to)
				to += n
			}
			return i, to
		}
		ends = 0
		_, n = logical(b, i)
		i += n
	}
	return 0, 0
}

// listEnd returns where the list that begins at b[i] ends, or 0 where it holds
// more than plain values.
func listEnd(b []byte, i int) int {
	for end := min(len(b), i+maxTagBytes*4); i < end; {
		c, n := logical(b, i)
		switch c {
		case ']':
			return i
		case '{', '[':
			return 0
		}
		i += n
	}
	return i
}

// base64At is whether, after blanks and a quotation mark, a word stands at b[i]
// that can only be base64: no message has such a word.
func base64At(b []byte, i int) bool {
	i = skipBlank(b, i)
	if c, n := logicalAt(b, i); c == '"' || c == '\'' || c == '[' {
		i += n
	}
	word := b[i:tokenEnd(b, i)]
	return len(word) >= 16 && bytes.ContainsAny(word, "+/=") && bytes.ContainsAny(word, "0123456789") && bytes.IndexByte(word, '.') < 0
}
