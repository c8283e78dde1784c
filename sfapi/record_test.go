package sfapi_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/weirhq/weir/sfapi"
)

const row = ` {"attributes":{"type":"Contact","url":"/x"},"Id":"003000000000001AAA","LastName":"O\u0027Neil\r\n\"x\" ☃",` +
	`"Empty__c":"","Null__c":null,"Amount__c":12345678901234567.890,"Whole__c":12.0,"Flag__c":true,` +
	`"LastModifiedDate":"2026-01-02T03:04:05.678+0000","Birthdate":"1999-12-31",` +
	`"Owner":{"attributes":{"type":"User"},"Name":"Ada","Manager":{"Name":"Zoë"}},"Account":null} `

func parse(t *testing.T, raw string) sfapi.Record {
	t.Helper()
	r, err := sfapi.ParseRecord([]byte(raw))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRecord(t *testing.T) {
	t.Parallel()
	r := parse(t, row)
	got := map[string]string{}
	for _, name := range []string{"Id", "lastname", "Empty__c", "Null__c", "Amount__c", "Flag__c", "Owner.Name", "owner.manager.name", "Account.Name", "Nope", "Owner.Nope", "Id.Name"} {
		v, ok := r.Get(name)
		got[name] = fmt.Sprintf("%t %t %s", ok, v.IsNull(), r.String(name))
	}
	want := map[string]string{
		"Id": "true false 003000000000001AAA", "lastname": "true false O'Neil\r\n\"x\" ☃",
		"Empty__c": "true false ", "Null__c": "true true ", "Amount__c": "true false 12345678901234567.890",
		"Flag__c": "true false true", "Owner.Name": "true false Ada", "owner.manager.name": "true false Zoë",
		"Account.Name": "true true ", "Nope": "false false ", "Owner.Nope": "false false ", "Id.Name": "false false ",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("fields (-want +got):\n%s", diff)
	}
	if r.ID() != "003000000000001AAA" || r.Type() != "Contact" || !r.IsNull("Null__c") || r.IsNull("Nope") {
		t.Errorf("ID %q, Type %q", r.ID(), r.Type())
	}
	var order []string
	for name := range r.Fields() {
		order = append(order, name)
	}
	if got, want := strings.Join(order, " "), "Id LastName Empty__c Null__c Amount__c Whole__c Flag__c LastModifiedDate Birthdate Owner Account"; got != want {
		t.Errorf("order = %s, want %s", got, want)
	}
	at, err := r.Time("LastModifiedDate")
	if want := time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.UTC); !at.Equal(want) || err != nil {
		t.Errorf("LastModifiedDate = %v, %v", at, err)
	}
	if day, err := r.Time("Birthdate"); !day.Equal(time.Date(1999, 12, 31, 0, 0, 0, 0, time.UTC)) || err != nil {
		t.Errorf("Birthdate = %v, %v", day, err)
	}
	if none, err := r.Time("Null__c"); !none.IsZero() || err != nil {
		t.Errorf("Null__c = %v, %v", none, err)
	}
	if _, err := r.Time("Nope"); !errors.Is(err, sfapi.ErrNoField) {
		t.Errorf("Time(Nope): %v", err)
	}
	if _, err := r.Time("LastName"); err == nil {
		t.Error("Time(LastName) succeeded")
	}
	whole, _ := r.Get("Whole__c")
	if n, err := whole.Int64(); n != 12 || err != nil {
		t.Errorf("Whole__c = %d, %v", n, err)
	}
	flag, _ := r.Get("Flag__c")
	if b, err := flag.Bool(); !b || err != nil {
		t.Errorf("Flag__c = %t, %v", b, err)
	}
	var typed struct {
		LastName         string
		LastModifiedDate sfapi.DateTime
		Owner            sfapi.Record
		Amount           sfapi.Value `json:"Amount__c"`
	}
	if err := r.Decode(&typed); err != nil || typed.LastName != r.String("LastName") ||
		!typed.LastModifiedDate.Equal(at) || typed.Owner.String("Name") != "Ada" || string(typed.Amount) != "12345678901234567.890" {
		t.Errorf("Decode = %+v, %v", typed, err)
	}
	out, err := json.Marshal(map[string]any{"r": r.Clone(), "v": typed.Amount})
	if err != nil || !strings.Contains(string(out), `"v":12345678901234567.890`) {
		t.Errorf("Marshal = %s, %v", out, err)
	}
}

func TestParseRecord_Refuses(t *testing.T) {
	t.Parallel()
	for _, raw := range []string{"", "null", "[]", `"x"`, "{", `{"a"}`, `{"a":}`, `{"a":1,}`, `{"a":01}`, `{"a":1.}`, `{"a":"` + "\n" + `"}`, `{"a":"\x"}`, `{"a":"\u12g4"}`, `{"a":tru}`, `{} {}`, "{\"a\":\"\xff\"}", `{"a":-}`, `{"a":1e}`} {
		if _, err := sfapi.ParseRecord([]byte(raw)); err == nil {
			t.Errorf("ParseRecord(%q) succeeded", raw)
		}
	}
}

// FuzzRecord compares the scanner with encoding/json: what is accepted, the
// order and names of the fields, and each value.
func FuzzRecord(f *testing.F) {
	for _, seed := range []string{row, `{}`, `{"a":[1,{"b":[]},-0.1e+5],"\u0061":"\ud83d\ude00\ud800"}`, `{"a":{"a":{}}}`, ` {"":"\\\/"} `, `{"a":1,"A":2}`, "{\"a\":\"\xc3\"}", `{"K":1}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := sfapi.ParseRecord(bytes.Clone(raw))
		trimmed := bytes.TrimLeft(raw, " \t\r\n")
		valid := json.Valid(raw) && utf8.Valid(raw) && len(trimmed) > 0 && trimmed[0] == '{'
		if (err == nil) != valid {
			t.Fatalf("ParseRecord(%q): %v, but encoding/json says %t", raw, err, valid)
		}
		if !valid {
			return
		}
		var want map[string]json.RawMessage
		if err := json.Unmarshal(raw, &want); err != nil {
			t.Fatal(err)
		}
		dec := json.NewDecoder(bytes.NewReader(raw))
		_, _ = dec.Token()
		for name, v := range r.Fields() {
			for { // attributes is not among the fields
				token, err := dec.Token()
				if err != nil {
					t.Fatal(err)
				}
				var wantValue json.RawMessage
				if err := dec.Decode(&wantValue); err != nil {
					t.Fatal(err)
				}
				if token == "attributes" {
					continue
				}
				if token != name || !bytes.Equal(wantValue, v) {
					t.Fatalf("field %q = %q, want %q = %q", name, v, token, wantValue)
				}
				break
			}
			var text any
			if err := json.Unmarshal(v, &text); err == nil {
				if s, ok := text.(string); ok && v.String() != s {
					t.Fatalf("String(%q) = %q, want %q", v, v.String(), s)
				}
			}
			// A name that is there both plain and with escapes is nobody's.
			if !strings.Contains(name, ".") && !bytes.Contains(raw, []byte(`\u`)) {
				if got, ok := r.Get(name); !ok || !bytes.Equal(got, want[name]) {
					t.Fatalf("Get(%q) = %q, want %q", name, got, want[name])
				}
			}
		}
	})
}
