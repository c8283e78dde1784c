package sftest_test

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/weirhq/weir/sfapi/sftest"
)

// A secret is found in whatever form it slipped out.
func TestLeaks(t *testing.T) {
	sim := sftest.New(nil)
	org := sim.AddOrg(nil)
	session, refresh := org.AccessToken(), org.Grant()
	secrets := sim.Secrets()
	for _, want := range []string{session, refresh, sftest.DefaultClientSecret} {
		if !slices.Contains(secrets, want) {
			t.Errorf("%q is not among the secrets", want)
		}
	}
	_, part, _ := strings.Cut(session, "!")
	for _, want := range []string{session, refresh, "a b/c+d?e=f&g%h"} {
		escaped, err := json.Marshal(map[string]string{"token": want})
		if err != nil {
			t.Fatal(err)
		}
		forms := []string{
			want, string(escaped), "?x=" + url.QueryEscape(want) + "&y", "/" + url.PathEscape(want) + "/",
			hex.EncodeToString([]byte("a" + want + "b")), strings.ToUpper(hex.EncodeToString([]byte(want))),
			fmt.Sprintf("%x", "xyz"+want),
		}
		for before := range 4 {
			for after := range 4 {
				text := []byte(strings.Repeat("<", before) + want + strings.Repeat(">", after))
				forms = append(forms, base64.StdEncoding.EncodeToString(text), base64.RawURLEncoding.EncodeToString(text))
			}
		}
		if want == session {
			forms = append(forms, part, "OAuth "+part)
		}
		for _, form := range forms {
			if strings.Contains(want, "&") && form == string(escaped) {
				continue // encoding/json writes & as \u0026; no token has one
			}
			if got := sftest.Leaks([]byte("before "+form+" after"), secrets[0], want); !slices.Contains(got, want) {
				t.Errorf("%q is not found in %q", want, form)
			}
		}
	}
	if got := sftest.Leaks([]byte(org.ID()+" REDACTED "+session[:15]), secrets...); len(got) != 0 {
		t.Errorf("found %q where none is", got)
	}
}
