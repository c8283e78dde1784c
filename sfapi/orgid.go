package sfapi

import (
	"errors"
	"fmt"
	"strings"
)

// orgPrefix is the key prefix of Organization. Every organization id begins
// with it.
const orgPrefix = "00D"

// idSuffixAlphabet holds the 32 characters a checksum suffix is written in:
// each stands for five bits, one for each character of a group of five, set
// where that character is an upper-case letter.
//
// https://help.salesforce.com/s/articleView?id=000383751
const idSuffixAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"

// ErrInvalidID is wrapped by every error of ParseOrgID and ID18.
var ErrInvalidID = errors.New("invalid Salesforce id")

// OrgID is the 18-character id of a Salesforce organization, in its canonical
// case. Make one with ParseOrgID: values made that way are comparable, and
// stay unique when they are lower-cased.
type OrgID string

// ParseOrgID returns the organization id that s spells.
//
// s has 15 or 18 characters. Fifteen are case-sensitive and get their suffix.
// Of eighteen the suffix is verified; where the case was lost on the way (all
// letters lower, as in a queue's name, or all upper), the suffix restores it.
// A mixed-case id that its suffix contradicts is refused, because nothing says
// which of the two is mistyped. Errors wrap ErrInvalidID.
func ParseOrgID(s string) (OrgID, error) {
	if len(s) == 15 && !strings.HasPrefix(s, orgPrefix) {
		return "", fmt.Errorf("%w: %q is not an organization id, which begins with %s", ErrInvalidID, s, orgPrefix)
	}
	id, err := ID18(s)
	if err != nil {
		return "", err
	}
	if !strings.HasPrefix(id, orgPrefix) {
		return "", fmt.Errorf("%w: %q is not an organization id, which begins with %s", ErrInvalidID, s, orgPrefix)
	}
	return OrgID(id), nil
}

// Lower returns the id in lower case, as queue names hold it. ParseOrgID turns
// it back.
func (id OrgID) Lower() string { return strings.ToLower(string(id)) }

// String returns the 18-character id.
func (id OrgID) String() string { return string(id) }

// ID18 returns the 18-character form of any record id of 15 or 18 characters.
// It verifies and repairs as ParseOrgID does; errors wrap ErrInvalidID.
func ID18(id string) (string, error) {
	if len(id) != 15 && len(id) != 18 {
		return "", fmt.Errorf("%w: %q has %d characters, want 15 or 18", ErrInvalidID, id, len(id))
	}
	for i := range len(id) {
		if !isAlnum(id[i]) {
			return "", fmt.Errorf("%w: %q has a character other than letters and digits", ErrInvalidID, id)
		}
	}
	body := id[:15]
	want := idSuffix(body)
	if len(id) == 15 {
		return body + want, nil
	}
	suffix := strings.ToUpper(id[15:])
	if suffix == want {
		return body + want, nil
	}
	if body != strings.ToLower(body) && body != strings.ToUpper(body) {
		return "", fmt.Errorf("%w: the suffix of %q does not match its other characters", ErrInvalidID, id)
	}
	restored, ok := restoreCase(body, suffix)
	if !ok {
		return "", fmt.Errorf("%w: the suffix of %q does not match its other characters", ErrInvalidID, id)
	}
	return restored + suffix, nil
}

// restoreCase gives body the case that suffix describes. It fails where the
// suffix asks for an upper-case digit or is not a suffix at all.
func restoreCase(body, suffix string) (string, bool) {
	out := []byte(strings.ToLower(body))
	for group := range 3 {
		bits := strings.IndexByte(idSuffixAlphabet, suffix[group])
		if bits < 0 {
			return "", false
		}
		for i := range 5 {
			if bits&(1<<i) == 0 {
				continue
			}
			c := out[group*5+i]
			if c < 'a' || c > 'z' {
				return "", false
			}
			out[group*5+i] = c - 'a' + 'A'
		}
	}
	return string(out), true
}

// idSuffix returns the three checksum characters of a 15-character id.
func idSuffix(body string) string {
	var out [3]byte
	for group := range 3 {
		bits := 0
		for i := range 5 {
			if c := body[group*5+i]; c >= 'A' && c <= 'Z' {
				bits |= 1 << i
			}
		}
		out[group] = idSuffixAlphabet[bits]
	}
	return string(out[:])
}

func isAlnum(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z'
}
