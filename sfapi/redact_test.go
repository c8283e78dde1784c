package sfapi_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/weirhq/weir/sfapi"
)

func ExampleRedact() {
	fmt.Println(sfapi.Redact(`{"access_token":"00Dxx0000001gPL!AQ4AQFdyx.abc","instance_url":"https://acme.my.salesforce.com"}`))
	// Output: {"access_token":"REDACTED","instance_url":"https://acme.my.salesforce.com"}
}

// The secrets of the tests. None of them is real.
const (
	accessToken  = "00Dxx0000001gPL!AQ4AQFdyxB5.Tq1x_9vK7Zz0QeWm8sDf2LpXh6Rj"
	refreshToken = "5Aep861TSESvWeug_xvFHRBTTbf_YrTWgEyjBJrXCc7ZQ=="
	assertion    = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiIzTVZHOSIsInN1YiI6ImFAYiJ9.c2lnbmF0dXJlLWJ5dGVz-_x"
	password     = `p4ss w&rd"+=é`
	clientSecret = "1955279925675241571"
	signature    = "0CmxinZir53Yex7nE0TD+zMpvIWYGb/bdJh6XfOH6EQ="
	authCode     = "aPrxsmIEeqM9PiQroGEWx1UiMQd95_5JUZVEhsOFhS8EVvbfYBBJli2W5fn3zbo.8hojaNW_1g=="
)

// echoes are texts that hold secrets, with a %s where one stands.
var echoes = []struct {
	format, secret string
}{
	{`{"access_token":%s}`, accessToken},
	{`{"refresh_token" : %s , "x":1}`, refreshToken},
	{`{"signature":%s}`, signature},
	{`{"client_secret":%s}`, clientSecret},
	{`{"assertion":%s}`, assertion},
	{`{"password":%s}`, password},
	{`{"code":%s}`, authCode},
	{`{"code_verifier":%s}`, "M25iVXpKU3puUjFaYWg3T1NDTDQtcW1ROUY5YXlwalNoc0hhakxifmZHag"},
	{`{"headers":{"Authorization":%s}}`, "Bearer " + accessToken},
	{`[{"sessionId":%s}]`, accessToken},
	{`{"id_token":%s}`, assertion},
}

func quoteJSON(s string) string {
	b, _ := json.Marshal(s)
	return string(b)
}

func survives(text, secret string) bool {
	// Half of a secret is a secret too.
	n := len(secret) / 2
	return strings.Contains(text, secret) || len(secret) > 16 && strings.Contains(text, secret[n:]) ||
		strings.Contains(text, url.QueryEscape(secret)) || strings.Contains(text, quoteJSON(secret)[1:len(quoteJSON(secret))-1])
}

func TestRedact_WhateverTheBodyEchoes(t *testing.T) {
	t.Parallel()
	texts := map[string][2]string{}
	for i, e := range echoes {
		plain := fmt.Sprintf(e.format, quoteJSON(e.secret))
		name := fmt.Sprintf("%d %.14s", i, e.format)
		texts[name] = [2]string{plain, e.secret}
		texts[name+" in a JSON string"] = [2]string{`[{"message":` + quoteJSON("request was "+plain) + `}]`, e.secret}
		texts[name+" in two JSON strings"] = [2]string{`{"a":` + quoteJSON(`{"b":`+quoteJSON(plain)+`}`) + `}`, e.secret}
		texts[name+" in XML"] = [2]string{"<message>" + html.EscapeString(plain) + "</message>", e.secret}
		texts[name+" in a URL"] = [2]string{"https://x.example/?body=" + url.QueryEscape(plain), e.secret}
	}
	for _, p := range []struct{ key, secret string }{
		{"access_token", accessToken}, {"refresh_token", refreshToken}, {"assertion", assertion}, {"password", password}, {"client_secret", clientSecret},
		{"code", authCode}, {"code_verifier", "abcDEF0123456789-._~abcDEF0123456789-._~abc"}, {"token", refreshToken}, {"sid", accessToken}, {"signature", signature},
	} {
		form := url.Values{p.key: {p.secret}, "zz": {"1"}}.Encode()
		texts["form "+p.key] = [2]string{form, p.secret}
		texts["query "+p.key] = [2]string{"Post \"https://login.salesforce.com/services/oauth2/token?a=b&" + form + "\": EOF", p.secret}
		texts["encoded form "+p.key] = [2]string{"https://x.example/?next=" + url.QueryEscape("/cb?"+form), p.secret}
		texts["form in JSON "+p.key] = [2]string{`{"message":` + quoteJSON("sent "+form) + `}`, p.secret}
		texts["element "+p.key] = [2]string{"<OAuth><" + p.key + ">" + html.EscapeString(p.secret) + "</" + p.key + "></OAuth>", p.secret}
		markup := map[string]string{
			"element with an attribute": "<OAuth><" + p.key + ` xsi:type="xsd:string">` + p.secret + "</" + p.key + "></OAuth>",
			"CDATA":                     "<sf:" + p.key + "><![CDATA[" + p.secret + "]]></sf:" + p.key + ">",
			"field":                     `<form><input type="hidden" name="` + p.key + `" value="` + p.secret + `"/></form>`,
			"field, value first":        `<form><input value="` + p.secret + `" id=x name='` + p.key + `'></form>`,
			"part":                      "--x\r\nContent-Disposition: form-data; name=\"" + p.key + "\"\r\n\r\n" + p.secret + "\r\n--x--",
			"Go list":                   "map[" + p.key + ":[" + p.secret + "] z:[1]]",
			"JSON list":                 `{"` + p.key + `": ["` + p.secret + `"]}`,
		}
		for form, text := range markup {
			texts[form+" "+p.key] = [2]string{text, p.secret}
			texts[form+" in JSON "+p.key] = [2]string{`{"body":` + quoteJSON(text) + `}`, p.secret}
		}
		texts["escaped element "+p.key] = [2]string{html.EscapeString("<sf:" + p.key + ">" + strings.ReplaceAll(p.secret, "&", "+") + "</sf:" + p.key + ">"), p.secret}
	}
	for name, s := range map[string]string{
		"header":           "Authorization: Bearer %s\r\nAccept: */*",
		"header, OAuth":    "authorization: OAuth %s",
		"words":            "the session %s is not valid",
		"glued":            "x%sx",
		"front door":       "https://acme.my.salesforce.com/secur/frontdoor.jsp?sid=%s&retURL=/",
		"cookie":           "Set-Cookie: sid=%s; path=/",
		"SOAP":             "<SessionHeader><sessionId>%s</sessionId></SessionHeader>",
		"SOAP result":      `<sf:sessionId xmlns:sf="x">%s</sf:sessionId>`,
		"invalid token":    "Invalid token: %s",
		"Go":               `map[access_token:%s]`,
		"Ruby":             `{"access_token"=>"%s"}`,
		"Python":           `{'access_token': '%s'}`,
		"truncated":        `{"access_token":"%s`,
		"JSON Web Token":   "%s",
		"several on line":  "%[1]s,%[1]s;%[1]s",
		"percent, in text": "sid%%3D%s",
	} {
		for _, secret := range []string{accessToken, refreshToken, assertion} {
			texts[name+" "+secret[:4]] = [2]string{fmt.Sprintf(s, secret), secret}
			texts[name+" escaped "+secret[:4]] = [2]string{fmt.Sprintf(s, url.QueryEscape(secret)), secret}
			texts[name+" escaped twice "+secret[:4]] = [2]string{fmt.Sprintf(s, url.QueryEscape(url.QueryEscape(secret))), secret}
			texts[name+" u0021 "+secret[:4]] = [2]string{fmt.Sprintf(s, strings.ReplaceAll(secret, "!", `\u0021`)), secret}
		}
	}
	for name, tt := range texts {
		got := sfapi.Redact(tt[0])
		tail := tt[1][len(tt[1])-12:]
		if survives(got, tt[1]) || strings.Contains(got, tail) || !strings.Contains(got, "REDACTED") {
			t.Errorf("%s: secret %q\n in  %s\n got %s", name, tt[1], tt[0], got)
		}
		if again := sfapi.Redact(got); again != got {
			t.Errorf("%s: not stable:\n %s\n %s", name, got, again)
		}
	}
}

func TestRedact_LeavesTheRestAlone(t *testing.T) {
	t.Parallel()
	for _, s := range []string{
		"", "plain text", `[{"message":"unexpected token: 'FORM'","errorCode":"MALFORMED_QUERY"}]`,
		`{"error":"invalid_grant","error_description":"expired access/refresh token"}`,
		`[{"message":"Session expired or invalid","errorCode":"INVALID_SESSION_ID"}]`,
		"INVALID_LOGIN: Invalid username, password, security token; or user locked out.",
		`{"code":"INVALID_FIELD","id":"00Dxx0000001gPLEAY"}`, `{"password":null,"token":{"a":1},"session":true}`,
		"<code>INVALID_FIELD</code>", "https://x.example/?code=404&x=y", "Bearer token is invalid", "Basic authentication required",
		"code: 42, signature: none", `<input name="q" value="x"> <input name="password" value="">`, `{"code":["INVALID_FIELD"],"token":[{"a":1}]}`,
		"<password/><a>b</a>", "signature: verification of the document failed", `{"access_token":"REDACTED"}`, "duplicate value found: 001xx000003DGb2AAG", "100%", `\`, "&amp;", "%", "&#",
		`{"token_type":"Bearer","scope":"refresh_token api","instance_url":"https://acme.my.salesforce.com"}`,
	} {
		if got := sfapi.Redact(s); got != s {
			t.Errorf("got %s\nwant %s", got, s)
		}
	}
}

func TestError_ShowsNoSecret(t *testing.T) {
	t.Parallel()
	body := `[{"message":"the request Bearer ` + accessToken + ` with refresh_token=` + url.QueryEscape(refreshToken) + ` is bad","errorCode":"SMTH_WRNG"}]`
	err := sfapi.NewError("query", "00Dxx0000001gPLEAY", &sfapi.Response{
		Method: http.MethodPost, Status: 500, Body: []byte(body), Header: http.Header{"x-request-id": {"r-1"}, "Sforce": {accessToken}},
	})
	err.Path = "/services/data/v62.0/query"
	transport := sfapi.NewTransportError("refresh", "00Dxx0000001gPLEAY", http.MethodPost, "/services/oauth2/token?refresh_token="+refreshToken, false,
		&url.Error{Op: "Post", URL: "https://login.salesforce.com/?refresh_token=" + refreshToken, Err: errors.New("EOF")})
	for _, e := range []*sfapi.Error{err, transport} {
		var log bytes.Buffer
		slog.New(slog.NewJSONHandler(&log, nil)).Error("x", "err", e, "body", string(e.Body), "path", e.Path)
		for _, s := range []string{e.Error(), string(e.Body), e.Message, e.Path, log.String()} {
			if survives(s, accessToken) || survives(s, refreshToken) {
				t.Errorf("a secret is shown: %s", s)
			}
		}
	}
	if err.RequestID != "r-1" {
		t.Errorf("request id: got %q", err.RequestID)
	}
}

func TestNewError_BodyIsBounded(t *testing.T) {
	t.Parallel()
	for pad := range 4 {
		body := `[{"errorCode":"SMTH_WRNG","message":"` + strings.Repeat("x", pad) + strings.Repeat("é", 1<<16) + `"}]`
		e := sfapi.NewError("query", "", &sfapi.Response{Status: 400, Body: []byte(body)})
		if len(e.Body) > 4<<10 || len(e.Body) < 4<<10-4 || !utf8.Valid(e.Body) {
			t.Errorf("the body kept has %d bytes, valid %v", len(e.Body), utf8.Valid(e.Body))
		}
		if len(e.Message) > 4<<10 || !utf8.ValidString(e.Message) {
			t.Errorf("the message kept has %d bytes", len(e.Message))
		}
	}
}

func TestSecret(t *testing.T) {
	t.Parallel()
	const s = sfapi.Secret("hunter2hunter2")
	type holder struct {
		S sfapi.Secret
		P *sfapi.Secret
	}
	p := s
	h := holder{s, &p}
	var shown []string
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%08.3f", "%T%v"} {
		shown = append(shown, fmt.Sprintf(verb, s), fmt.Sprintf(verb, h))
	}
	asJSON, err := json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	asText, _ := s.MarshalText()
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "s", s, "h", h)
	shown = append(shown, string(asJSON), string(asText), log.String(), fmt.Sprint(s), fmt.Errorf("x %w", errors.New(s.String())).Error())
	for _, text := range shown {
		if strings.Contains(text, "hunter2") || strings.Contains(text, fmt.Sprintf("%x", "hunter2")) {
			t.Errorf("shown: %s", text)
		}
	}
	if got := string(asJSON); got != `{"S":"REDACTED","P":"REDACTED"}` {
		t.Errorf("JSON: %s", got)
	}
	if s.Reveal() != "hunter2hunter2" || sfapi.Secret("").String() != "" {
		t.Error("a secret does not reveal itself")
	}
}

func FuzzRedact(f *testing.F) {
	for _, e := range echoes {
		f.Add([]byte(fmt.Sprintf(e.format, quoteJSON(e.secret))))
	}
	for _, l := range append(readLines(f, "corpus/errors.dev.jsonl"), readLines(f, "corpus/evidence.dev.jsonl")...) {
		f.Add([]byte(l.Body))
	}
	f.Add([]byte("a=%2500Dxx0000001gPL%2521AQ4&authorization=Basic%20eHg6eXk%3D"))
	f.Add([]byte(`{"a":"{\"password\":\"x\\\"y\"}"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		before := bytes.Clone(b)
		got := sfapi.RedactBytes(b)
		if !bytes.Equal(before, b) {
			t.Fatal("the input was changed")
		}
		if string(got) != sfapi.Redact(string(b)) {
			t.Fatal("string and bytes differ")
		}
		if n := allocated(func() { sfapi.RedactBytes(b) }); n > uint64(len(b))*24+128<<10 {
			t.Fatalf("%d bytes allocated for %d", n, len(b))
		}
		// A secret set into any text is found where the text's own quoting
		// does not make it part of something longer that is hidden anyway.
		text := string(b) + "\n" + accessToken + "\n"
		if strings.Count(sfapi.Redact(text), accessToken[20:]) > strings.Count(string(b), accessToken[20:]) {
			t.Fatalf("the token survives after %q", b)
		}
	})
}
