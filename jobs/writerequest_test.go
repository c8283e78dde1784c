package jobs_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weirhq/weir/jobs"
	"github.com/weirhq/weir/sfapi"
)

const org = "00D000000000001EAA"

func TestWriteBatch(t *testing.T) {
	t.Parallel()
	type contact struct {
		Ext   string  `json:"Ext__c"`
		Name  string  `json:"LastName"`
		Phone *string `json:"Phone"`
	}
	w := &jobs.Write{
		Org: org, Object: "Contact", Operation: jobs.Upsert, ExternalID: "ext__C",
		Records: []contact{{Ext: "a", Name: "Åsa <b> & co"}, {Ext: "b", Name: "line\nbreak"}},
	}
	b, err := w.Batch()
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		`{"Ext__c":"a","LastName":"Åsa <b> & co","Phone":null}`,
		`{"Ext__c":"b","LastName":"line\nbreak","Phone":null}`,
	}
	var got []string
	for _, p := range b.Payloads {
		got = append(got, string(p))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("payloads (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"a", "b"}, b.Keys); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
	again, err := w.Batch()
	if err != nil {
		t.Fatal(err)
	}
	if again.BodyHash != b.BodyHash {
		t.Error("the same write has two hashes")
	}
	w.Records = []contact{{Ext: "a", Name: "other"}, {Ext: "b"}}
	if other, err := w.Batch(); err != nil || other.BodyHash == b.BodyHash {
		t.Errorf("another body has the same hash, or fails: %v", err)
	}
}

func TestWriteBatchRefuses(t *testing.T) {
	t.Parallel()
	type m = map[string]any
	upsert := func(records any) jobs.Write {
		return jobs.Write{Org: org, Object: "Contact", Operation: jobs.Upsert, ExternalID: "Ext__c", Records: records}
	}
	for name, c := range map[string]struct {
		write jobs.Write
		field string // of the first error
	}{
		"no org":                       {jobs.Write{Object: "Contact", Operation: jobs.Insert, Records: []m{{"LastName": "x"}}}, "Org"},
		"object is not a name":         {jobs.Write{Org: org, Object: "Contact; DROP", Operation: jobs.Insert, Records: []m{{"LastName": "x"}}}, "Object"},
		"unknown operation":            {jobs.Write{Org: org, Object: "Contact", Operation: "merge", Records: []m{{"LastName": "x"}}}, "Operation"},
		"upsert without field":         {jobs.Write{Org: org, Object: "Contact", Operation: jobs.Upsert, Records: []m{{"Ext__c": "x"}}}, "ExternalID"},
		"update with external id":      {jobs.Write{Org: org, Object: "Contact", Operation: jobs.Update, ExternalID: "Ext__c", Records: []m{{"Id": "003000000000001AAA"}}}, "ExternalID"},
		"no records":                   {upsert([]m{}), "Records"},
		"records of a wrong type":      {upsert("x"), "Records"},
		"bytes for records":            {upsert([]byte("[]")), "Records"},
		"nil records":                  {upsert(nil), "Records"},
		"record is a scalar":           {upsert([]int{1}), "Records[0]"},
		"record is a list":             {upsert([]any{[]int{1}}), "Records[0]"},
		"empty record":                 {upsert([]m{{}}), "Records[0]"},
		"external id missing":          {upsert([]m{{"Ext__c": "a"}, {"LastName": "x"}}), "Records[1].Ext__c"},
		"external id empty":            {upsert([]m{{"Ext__c": ""}}), "Records[0].Ext__c"},
		"external id null":             {upsert([]m{{"Ext__c": nil}}), "Records[0].Ext__c"},
		"external id is a boolean":     {upsert([]m{{"Ext__c": true}}), "Records[0].Ext__c"},
		"upsert with Id":               {upsert([]m{{"Ext__c": "a", "id": "003000000000001AAA"}}), "Records[0].Id"},
		"update without Id":            {jobs.Write{Org: org, Object: "Contact", Operation: jobs.Update, Records: []m{{"LastName": "x"}}}, "Records[0].Id"},
		"Id is not an id":              {jobs.Write{Org: org, Object: "Contact", Operation: jobs.Delete, Records: []m{{"Id": "nope"}}}, "Records[0].Id"},
		"field is not a name":          {upsert([]m{{"Ext__c": "a", "Na me": "x"}}), `Records[0]."Na me"`},
		"attributes":                   {upsert([]m{{"Ext__c": "a", "attributes": m{"type": "Lead"}}}), "Records[0].attributes"},
		"value is a list":              {upsert([]m{{"Ext__c": "a", "Tags": []string{"x"}}}), "Records[0].Tags"},
		"value is deep":                {upsert([]m{{"Ext__c": "a", "Account": m{"Owner": m{"Ext__c": "x"}}}}), "Records[0].Account.Owner"},
		"field twice, in another case": {upsert([]json.RawMessage{json.RawMessage(`{"Ext__c":"a","ext__C":"b"}`)}), "Records[0].ext__C"},
		"field twice":                  {upsert([]json.RawMessage{json.RawMessage(`{"Ext__c":"a","Ext__c":"b"}`)}), "Records[0].Ext__c"},
		"10 MB record":                 {upsert([]m{{"Ext__c": "a", "Description": strings.Repeat("x", 10<<20)}}), "Records[0]"},
		"10 KB of idempotency key": {jobs.Write{
			Org: org, Object: "Contact", Operation: jobs.Insert, Records: []m{{"LastName": "x"}}, IdempotencyKey: strings.Repeat("k", 10<<10),
		}, "IdempotencyKey"},
		"idempotency key with a zero byte": {jobs.Write{
			Org: org, Object: "Contact", Operation: jobs.Insert, Records: []m{{"LastName": "x"}}, IdempotencyKey: "a\x00b",
		}, "IdempotencyKey"},
		"object name of 10 KB": {jobs.Write{
			Org: org, Object: strings.Repeat("x", 10<<10), Operation: jobs.Insert, Records: []m{{"LastName": "x"}},
		}, "Object"},
		"record is not UTF-8":     {upsert([]json.RawMessage{json.RawMessage("{\"Ext__c\":\"a\",\"LastName\":\"\xff\"}")}), "Records[0]"},
		"external id with U+0000": {upsert([]m{{"Ext__c": "a\x00"}}), "Records[0].Ext__c"},
		"unmarshalable":           {upsert([]m{{"Ext__c": "a", "F": func() {}}}), "Records[0]"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, err := c.write.Batch()
			if err == nil {
				t.Fatalf("accepted: %v", b)
			}
			var fe *jobs.FieldError
			if !errors.As(err, &fe) {
				t.Fatalf("%T is not a FieldError: %v", err, err)
			}
			if fe.Field != c.field {
				t.Errorf("field %q, want %q: %v", fe.Field, c.field, err)
			}
		})
	}
}

func TestNoWrite(t *testing.T) {
	t.Parallel()
	var fe *jobs.FieldError
	if _, err := (*jobs.Write)(nil).Batch(); !errors.As(err, &fe) {
		t.Errorf("a nil write: %v", err)
	}
}

func TestWriteBatchNamesEachBadRecord(t *testing.T) {
	t.Parallel()
	records := make([]map[string]any, 1000)
	for i := range records {
		records[i] = map[string]any{"LastName": "x"}
	}
	_, err := (&jobs.Write{Org: org, Object: "Contact", Operation: jobs.Upsert, ExternalID: "Ext__c", Records: records}).Batch()
	if err == nil {
		t.Fatal("accepted")
	}
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != 21 || !strings.HasPrefix(lines[19], "Records[19].Ext__c: ") || lines[20] != "Records: more records are wrong" {
		t.Errorf("%d lines:\n%s", len(lines), err)
	}
}

func TestWriteBatchTakesReferences(t *testing.T) {
	t.Parallel()
	b, err := (&jobs.Write{
		Org: sfapi.OrgID(org[:15]), Object: "Contact", Operation: jobs.Insert,
		Records: []any{map[string]any{"LastName": "x", "Account": map[string]any{"Ext__c": "acme"}}},
	}).Batch()
	if err != nil {
		t.Fatal(err)
	}
	if b.Org != org {
		t.Errorf("org %s, want the 18 characters of %s", b.Org, org)
	}
}

func ExampleWrite_Batch() {
	w := jobs.Write{Org: org, Object: "Contact", Operation: jobs.Upsert, ExternalID: "Ext__c", Records: []map[string]string{
		{"Ext__c": "c-1", "LastName": "Curie"},
		{"LastName": "Meitner"},
	}}
	_, err := w.Batch()
	fmt.Println(err)
	// Output: Records[1].Ext__c: upsert needs a value, a text that is not empty or a number
}
