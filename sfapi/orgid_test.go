package sfapi_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/weirhq/weir/sfapi"
)

func TestParseOrgID(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ in, want string }{
		"15 characters":               {"00Dxx0000000001", "00Dxx0000000001EAA"},
		"18 characters":               {"00Dxx0000000001EAA", "00Dxx0000000001EAA"},
		"mixed case":                  {"00D5f000000AbCdEAK", "00D5f000000AbCdEAK"},
		"lower case":                  {"00dxx0000000001eaa", "00Dxx0000000001EAA"},
		"upper case":                  {"00DXX0000000001EAA", "00Dxx0000000001EAA"},
		"suffix in lower case":        {"00Dxx0000000001eaa", "00Dxx0000000001EAA"},
		"another key prefix":          {"001xx0000000001", ""},
		"another prefix in full":      {"001xx0000000001AAA", ""},
		"too short":                   {"00Dxx000000000", ""},
		"too long":                    {"00Dxx0000000001EAAA", ""},
		"wrong suffix, mixed case":    {"00Dxx0000000001EAB", ""},
		"suffix for a digit":          {"00dxx0000000001aba", ""},
		"suffix outside the alphabet": {"00dxx0000000001ea9", ""},
		"not alphanumeric":            {"00Dxx000000000_", ""},
		"empty":                       {"", ""},
		"lower case of 15":            {"00dxx0000000001", ""},
	} {
		got, err := sfapi.ParseOrgID(c.in)
		if string(got) != c.want || (err == nil) != (c.want != "") || err != nil && !errors.Is(err, sfapi.ErrInvalidID) {
			t.Errorf("%s: ParseOrgID(%q) = %q, %v, want %q", name, c.in, got, err, c.want)
		}
	}
}

func FuzzParseOrgID(f *testing.F) {
	f.Add("00Dxx0000000001")
	f.Add("00D5f000000AbCdEFg")
	f.Fuzz(func(t *testing.T, s string) {
		id, err := sfapi.ParseOrgID(s)
		if err != nil {
			return
		}
		if !strings.EqualFold(string(id)[:15], s[:15]) || len(id) != 18 {
			t.Fatalf("ParseOrgID(%q) = %q", s, id)
		}
		for _, form := range []string{id.Lower(), strings.ToUpper(string(id)), string(id)[:15], id.String()} {
			if again, err := sfapi.ParseOrgID(form); again != id || err != nil {
				t.Fatalf("ParseOrgID(%q) = %q, %v, want %q", form, again, err, id)
			}
		}
	})
}
