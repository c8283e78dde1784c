package sftest

import "strings"

const base62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// ID is a record's or an organization's 18-character id.
//
// The first 15 characters are case-sensitive; the last three carry their case,
// so that the whole stays unique where case is lost. See
// https://help.salesforce.com/s/articleView?id=000385585&type=1.
type ID string

// Short returns the case-sensitive 15-character form.
func (id ID) Short() string {
	if len(id) < 15 {
		return string(id)
	}
	return string(id[:15])
}

// String returns the 18-character form.
func (id ID) String() string { return string(id) }

// makeID builds an id from a three-character key prefix and a sequence number.
// The sequence counts in base 62, so neighbours differ by case only every now
// and then, as in a real org.
func makeID(prefix, pod string, n uint64) ID {
	buf := []byte(prefix + pod + "0000000000000000")[:15]
	for i := 14; i >= 3+len(pod) && n > 0; i-- {
		buf[i] = base62[n%62]
		n /= 62
	}
	return ID(string(buf) + idSuffix(string(buf)))
}

// idSuffix computes the three characters that make a 15-character id safe
// against case folding.
func idSuffix(id15 string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"
	var out [3]byte
	for chunk := range 3 {
		bits := 0
		for i := range 5 {
			if c := id15[chunk*5+i]; c >= 'A' && c <= 'Z' {
				bits |= 1 << i
			}
		}
		out[chunk] = alphabet[bits]
	}
	return string(out[:])
}

// parseID accepts 15 or 18 characters and returns the 18-character form. An
// 18-character id whose suffix does not fit its first 15 characters is refused.
func parseID(s string) (ID, bool) {
	if len(s) != 15 && len(s) != 18 {
		return "", false
	}
	for i := range len(s) {
		if strings.IndexByte(base62, s[i]) < 0 {
			return "", false
		}
	}
	suffix := idSuffix(s[:15])
	if len(s) == 18 && !strings.EqualFold(s[15:], suffix) {
		return "", false
	}
	return ID(s[:15] + suffix), true
}
