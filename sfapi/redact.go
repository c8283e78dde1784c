package sfapi

import (
	"bytes"
	"unicode/utf8"
)

// maxStoredBody bounds bodies that are kept as evidence, in bytes.
const maxStoredBody = 4 << 10

// Redact returns s without its secrets: access tokens and session ids, refresh
// tokens, signatures, client secrets, JSON Web Tokens, authorization headers,
// passwords, authorization codes and verifiers. It finds them in JSON, XML,
// urlencoded text, URLs and plain text, and where one of these was escaped
// inside another. What is redacted reads REDACTED; the rest is unchanged.
func Redact(s string) string {
	out, changed := redactBytes([]byte(s))
	if !changed {
		return s
	}
	return string(out)
}

// RedactBytes is [Redact] for bytes. It does not change b and returns b itself
// where there is nothing to hide.
func RedactBytes(b []byte) []byte {
	out, _ := redactBytes(b)
	return out
}

// storedBody returns a copy of b that may be kept: redacted and cut to 4 KiB
// on a character's boundary.
func storedBody(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	// Secrets shrink when redacted, so more is read than kept. What the cut
	// halves lies beyond what is kept, or is redacted to its end.
	out := RedactBytes(b[:min(len(b), 16*maxStoredBody)])
	if len(out) > maxStoredBody {
		out = out[:maxStoredBody]
		for i := 1; i < utf8.UTFMax && i < len(out); i++ {
			if c := out[len(out)-i]; utf8.RuneStart(c) {
				if !utf8.FullRune(out[len(out)-i:]) {
					out = out[:len(out)-i]
				}
				break
			}
		}
	}
	return bytes.Clone(out)
}

// secretKey is how a key's name is treated.
type secretKey uint8

const (
	notSecret secretKey = iota
	secretName
	// secretAmbiguous names are words of everyday messages too ("unexpected
	// token: 'FORM'"), so they count only as a JSON member, an XML element or
	// before an equals sign.
	secretAmbiguous
	// secretHeader names take a value of several words.
	secretHeader
	// secretScheme is Bearer or Basic, followed by a blank and the credential.
	secretScheme
)

// maxSecretKey is longer than any name that secretKeyOf knows.
const maxSecretKey = 32

// secretKeyOf knows the names of secrets, in lower case without separators.
func secretKeyOf(name []byte) secretKey {
	switch string(name) {
	case "accesstoken", "refreshtoken", "idtoken", "sessionid", "clientsecret", "consumersecret", "assertion",
		"clientassertion", "samlresponse", "samlassertion", "password", "passwd", "newpassword", "oldpassword", "securitytoken",
		"codeverifier", "authtoken", "oauthtoken", "oauthtokensecret", "sforcesessionid", "xsfdcsession", "lightningsid", "contentsid",
		"apikey", "privatekey", "secret", "devicecode", "usercode", "actortoken", "subjecttoken", "bearertoken", "jwt",
		"csrftoken", "registrationaccesstoken", "pwd":
		return secretName
	case "token", "sid", "session", "signature", "code", "otp", "pass":
		return secretAmbiguous
	case "authorization", "proxyauthorization", "setcookie", "cookie":
		return secretHeader
	case "bearer", "basic", "oauth":
		return secretScheme
	}
	return notSecret
}

// redactBytes walks over b by characters as [logical] reads them, so that a
// secret is found whatever escapes lie around it.
func redactBytes(b []byte) (out []byte, changed bool) {
	var name [maxSecretKey]byte
	done := 0 // b[:done] is in out
	hide := func(start, end int) {
		if end <= start || start < done || isRedacted(b[start:end]) {
			return
		}
		if out == nil {
			out = make([]byte, 0, len(b)+16)
		}
		out = append(append(out, b[done:start]...), redacted...)
		done = end
	}
	for i := 0; i < len(b); {
		if end := tokenAt(b, i); end > 0 {
			hide(i, end)
			i = end
			continue
		}
		c, n := logical(b, i)
		if !isNameByte(c) {
			i += n
			continue
		}
		// A name, in whose middle a token may begin.
		start, size := i, 0
		for i < len(b) {
			c, n = logical(b, i)
			if !isNameByte(c) || i > start && tokenAt(b, i) > 0 {
				break
			}
			if c != '_' && c != '-' {
				if size < len(name) {
					name[size] = lowerByte(c)
				}
				size++
			}
			i += n
		}
		kind := notSecret
		if size <= len(name) {
			kind = secretKeyOf(name[:size])
		}
		if kind == notSecret {
			continue
		}
		quoted := start > 0 && precededByQuote(b, start)
		if c, _ := logicalAt(b, i); c == '"' || c == '\'' || c == ' ' || c == '\n' || c == '\r' || c == '\t' {
			// Markup keeps name and value further apart.
			from, to := 0, 0
			switch {
			case isTagName(b, start) && kind != secretScheme:
				if j := afterTag(b, i); j > 0 {
					from, to = elementValue(b, j, n)
				}
			case quoted && isFieldName(b, start):
				from, to = fieldValue(b, i)
			}
			if to > from && (string(name[:size]) != "code" || looksLikeCode(b[from:to])) {
				hide(from, to)
				i = max(i, to)
				continue
			}
		}
		if from, to := secretValue(b, i, kind, quoted, string(name[:size]) == "code"); to > from {
			hide(from, to)
			i = to
		}
	}
	if out == nil {
		return b, false
	}
	return append(out, b[done:]...), true
}

func isRedacted(b []byte) bool { return string(bytes.TrimRight(b, "=")) == redacted }

func lowerByte(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

func isNameByte(c byte) bool { return isCodeByte(c) || c == '-' }

// isTokenByte is whether c can stand in a token: base64 in both alphabets, and
// the full stop and tilde of bearer tokens.
func isTokenByte(c byte) bool {
	return isNameByte(c) || c == '.' || c == '+' || c == '/' || c == '=' || c == '~' || c == '!'
}

// precededByQuote is whether the character before b[i] is a quotation mark, in
// any escape.
func precededByQuote(b []byte, i int) bool {
	if b[i-1] == '"' || b[i-1] == '\'' {
		return true
	}
	for _, q := range [...]string{"%22", "%27", "&quot;", "&#34;", "&#39;", "&apos;", "u0022", "u0027"} {
		if bytes.HasSuffix(b[:i], []byte(q)) {
			return true
		}
	}
	return false
}

// secretValue returns the span of the value that belongs to a secret's name
// ending at b[i]. An empty span means that none does.
func secretValue(b []byte, i int, kind secretKey, quoted, isCode bool) (from, to int) {
	skipBlanks := func() {
		for i < len(b) {
			c, n := logical(b, i)
			if c != ' ' && c != '\t' && c != '\n' && c != '\r' && c != '+' {
				return
			}
			i += n
		}
	}
	if kind == secretScheme {
		return schemeValue(b, i)
	}
	if i < len(b) {
		if c, n := logical(b, i); c == '"' || c == '\'' || c == ']' {
			i += n
			quoted = true
		}
	}
	skipBlanks()
	if i >= len(b) {
		return 0, 0
	}
	sep, width := logical(b, i)
	switch sep {
	case ':':
		if kind == secretAmbiguous && !quoted && !base64At(b, i+width) {
			return 0, 0
		}
	case '=':
	case '>':
		// An element: the value runs to the next tag.
		from, to = elementValue(b, i+width, width)
		if isCode && !looksLikeCode(b[from:to]) {
			return 0, 0
		}
		return from, to
	default:
		return 0, 0
	}
	i += width
	if c, n := logicalAt(b, i); sep == '=' && c == '>' { // Ruby prints key=>value
		i += n
	}
	skipBlanks()
	if i >= len(b) {
		return 0, 0
	}
	c, n := logical(b, i)
	if c == '"' || c == '\'' {
		open := b[i : i+n]
		from = i + n
		to = quotedEnd(b, from, open)
	} else {
		if c == '{' && sep == ':' || isLiteral(b[i:]) {
			return 0, 0
		}
		if c == '[' && sep == ':' {
			from, to = i+n, listEnd(b, i+n)
			if to < from || isCode && !looksLikeCode(bytes.Trim(b[from:to], `"' `)) {
				return 0, 0
			}
			return from, to
		}
		from = i
		for i < len(b) {
			c, n := logical(b, i)
			// A separator counts where it is written as the equals sign was:
			// within a=b%26c the ampersand belongs to the value.
			if (n == 1 || n == width) && endsValue(c, kind == secretHeader) {
				break
			}
			i += n
		}
		to = i
	}
	if isCode && !looksLikeCode(b[from:to]) {
		return 0, 0
	}
	return from, to
}

func logicalAt(b []byte, i int) (byte, int) {
	if i >= len(b) {
		return 0, 0
	}
	return logical(b, i)
}

// quotedEnd returns where the string that open began ends. A quotation mark
// that is escaped once more than open was belongs to the string.
func quotedEnd(b []byte, i int, open []byte) int {
	for i < len(b) {
		if open[0] != '\\' && b[i] == '\\' && i+1 < len(b) {
			i += 2
			continue
		}
		c, n := logical(b, i)
		if (c == '"' || c == '\'') && bytes.EqualFold(b[i:i+n], open) {
			return i
		}
		i += n
	}
	return len(b)
}

func isLiteral(b []byte) bool {
	for _, word := range [...]string{"null", "true", "false"} {
		if bytes.HasPrefix(b, []byte(word)) && (len(b) == len(word) || !isNameByte(b[len(word)])) {
			return true
		}
	}
	return false
}

func endsValue(c byte, header bool) bool {
	switch c {
	case '"', '\'', '<', '>', '\n', '\r', '{', '}', '[', ']':
		return true
	case ' ', '&', ',', ';', ')', '\t':
		return !header
	}
	return false
}

// looksLikeCode tells an authorization code from an error code and a number.
func looksLikeCode(b []byte) bool {
	if len(b) < 12 {
		return false
	}
	for _, c := range b {
		if !('A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_') {
			return lookupCode(b) == nil
		}
	}
	return false
}

// schemeValue returns the credential after "Bearer " or "Basic ". Words of a
// sentence are none: a credential has a digit or is long.
func schemeValue(b []byte, i int) (from, to int) {
	c, n := logicalAt(b, i)
	if n == 0 || c != ' ' && c != '+' {
		return 0, 0
	}
	for n > 0 && (c == ' ' || c == '+') {
		i += n
		c, n = logicalAt(b, i)
	}
	from, to = i, tokenEnd(b, i)
	digit := bytes.ContainsAny(b[from:to], "0123456789!=_")
	if to-from >= 20 || to-from >= 6 && digit {
		return from, to
	}
	return 0, 0
}
