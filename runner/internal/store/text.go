package store

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/weirhq/weir/jobs"
	"github.com/weirhq/weir/sfapi"
)

// OrgSearch is the text that a list of orgs is searched in. Go's lower case
// covers every script, and is the same on every database.
func OrgSearch(id sfapi.OrgID, label string) string {
	return strings.ToLower(string(id) + "\n" + label)
}

// Message makes a text that is for people storable: Postgres has no U+0000 in
// text and no invalid UTF-8. A message must never be what keeps an outcome
// from being recorded; data, in contrast, is refused by CheckText.
func Message(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

// Messages is Message for each element; nil stays nil.
func Messages(list []string) []string {
	if list == nil {
		return nil
	}
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = Message(s)
	}
	return out
}

// CheckText returns an error when s cannot be kept byte for byte.
func CheckText(s string) error {
	if strings.IndexByte(s, 0) >= 0 {
		return fmt.Errorf("text holds U+0000, which Postgres cannot store")
	}
	if !utf8.ValidString(s) {
		return fmt.Errorf("text is not valid UTF-8")
	}
	return nil
}

// CheckBatch reports a batch that AppendTx must not take.
func CheckBatch(b *jobs.WriteBatch) error {
	if len(b.Payloads) == 0 {
		return fmt.Errorf("append write of %s: no records", b.Object)
	}
	if len(b.Keys) != len(b.Payloads) {
		return fmt.Errorf("append write of %s: %d keys for %d records", b.Object, len(b.Keys), len(b.Payloads))
	}
	for i, key := range b.Keys {
		if err := CheckText(key); err != nil {
			return fmt.Errorf("append write of %s: key of records[%d]: %w", b.Object, i, err)
		}
		if len(b.Payloads[i]) == 0 {
			return fmt.Errorf("append write of %s: records[%d] is empty", b.Object, i)
		}
	}
	return nil
}

// PageLimit returns the limit that a query of a write's records has.
func PageLimit(q *jobs.WriteQuery) int {
	switch {
	case q.Limit <= 0:
		return 200
	case q.Limit > 2000:
		return 2000
	default:
		return q.Limit
	}
}
