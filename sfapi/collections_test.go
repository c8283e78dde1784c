package sfapi_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weirhq/weir/sfapi"
)

func raws(records ...string) []json.RawMessage {
	out := make([]json.RawMessage, len(records))
	for i, r := range records {
		out[i] = json.RawMessage(r)
	}
	return out
}

func TestCollection(t *testing.T) {
	t.Parallel()
	const a, b = "003000000000001AAA", "003000000000002AAA"
	type exchange struct{ Method, URI, Body string }
	for name, c := range map[string]struct {
		op       sfapi.Operation
		external string
		records  []json.RawMessage
		answer   string
		want     exchange
		results  []sfapi.SaveResult
	}{
		"insert": {
			op: sfapi.OpInsert, records: raws(` {"LastName":"A\u0041 ☃"} `, `{ }`),
			answer: `[{"id":"` + a + `","success":true,"errors":[]},{"success":false,"errors":[{"statusCode":"REQUIRED_FIELD_MISSING","message":"missing","fields":["LastName"]}]}]`,
			want: exchange{"POST", "/services/data/v66.0/composite/sobjects",
				`{"allOrNone":false,"records":[{"attributes":{"type":"Contact"},"LastName":"A\u0041 ☃"},{"attributes":{"type":"Contact"}}]}`},
			results: []sfapi.SaveResult{
				{ID: a, Success: true, Created: true, Errors: []sfapi.RecordError{}},
				{Errors: []sfapi.RecordError{{StatusCode: "REQUIRED_FIELD_MISSING", Message: "missing", Fields: []string{"LastName"}}}},
			},
		},
		"update": {
			op: sfapi.OpUpdate, records: raws(`{"Id":"` + a + `","LastName":null}`),
			answer: `[{"id":"` + a + `","success":true,"errors":[]}]`,
			want: exchange{"PATCH", "/services/data/v66.0/composite/sobjects",
				`{"allOrNone":false,"records":[{"attributes":{"type":"Contact"},"Id":"` + a + `","LastName":null}]}`},
			results: []sfapi.SaveResult{{ID: a, Success: true, Errors: []sfapi.RecordError{}}},
		},
		"upsert": {
			op: sfapi.OpUpsert, external: "Ext__c", records: raws(`{"Ext__c":"1"}`, `{"Ext__c":2}`),
			answer: `[{"id":"` + a + `","success":true,"created":true,"errors":[]},{"id":"` + b + `","success":true,"created":false,"errors":[]}]`,
			want: exchange{"PATCH", "/services/data/v66.0/composite/sobjects/Contact/Ext__c",
				`{"allOrNone":false,"records":[{"attributes":{"type":"Contact"},"Ext__c":"1"},{"attributes":{"type":"Contact"},"Ext__c":2}]}`},
			results: []sfapi.SaveResult{{ID: a, Success: true, Created: true, Errors: []sfapi.RecordError{}}, {ID: b, Success: true, Errors: []sfapi.RecordError{}}},
		},
		"delete": {
			op: sfapi.OpDelete, records: raws(`{"Id":"`+a+`"}`, `{"Id":"`+b+`"}`),
			answer:  `[{"id":"` + a + `","success":true,"errors":[]},{"id":"` + b + `","success":true,"errors":[]}]`,
			want:    exchange{"DELETE", "/services/data/v66.0/composite/sobjects?allOrNone=false&ids=" + a + "%2C" + b, ""},
			results: []sfapi.SaveResult{{ID: a, Success: true, Errors: []sfapi.RecordError{}}, {ID: b, Success: true, Errors: []sfapi.RecordError{}}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got exchange
			o := setup(t, func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				got = exchange{r.Method, r.RequestURI, string(body)}
				answer(w, 200, c.answer)
			}, nil)
			results, err := o.Collection(t.Context(), c.op, "Contact", c.external, c.records)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("request (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(c.results, results); diff != "" {
				t.Errorf("results (-want +got):\n%s", diff)
			}
		})
	}
}

func TestCollection_BadInput(t *testing.T) {
	t.Parallel()
	o := setup(t, func(w http.ResponseWriter, r *http.Request) { answer(w, 200, `[]`) }, nil)
	for name, c := range map[string]struct {
		op               sfapi.Operation
		object, external string
		records          []json.RawMessage
		says             string
	}{
		"no records":         {sfapi.OpInsert, "Contact", "", nil, "0 records"},
		"too many":           {sfapi.OpInsert, "Contact", "", make([]json.RawMessage, 201), "201 records"},
		"object":             {sfapi.OpInsert, "Con/tact", "", raws(`{}`), "object"},
		"operation":          {"merge", "Contact", "", raws(`{}`), "merge"},
		"external missing":   {sfapi.OpUpsert, "Contact", "", raws(`{}`), "external id"},
		"external useless":   {sfapi.OpInsert, "Contact", "Ext__c", raws(`{}`), "Ext__c"},
		"record not JSON":    {sfapi.OpInsert, "Contact", "", raws(`{}`, `{"a":}`), "record 1"},
		"record an array":    {sfapi.OpInsert, "Contact", "", raws(`[]`), "record 0"},
		"record not UTF-8":   {sfapi.OpInsert, "Contact", "", raws("{\"a\":\"\xff\"}"), "record 0"},
		"record smuggling":   {sfapi.OpInsert, "Contact", "", raws(`{}]},{"x":{}`), "record 0"},
		"attributes":         {sfapi.OpInsert, "Contact", "", raws(`{"attributes":{"type":"User"}}`), "attributes"},
		"update without id":  {sfapi.OpUpdate, "Contact", "", raws(`{"LastName":"x"}`), "record 0"},
		"delete without id":  {sfapi.OpDelete, "Contact", "", raws(`{"Id":"x,y"}`), "record 0"},
		"upsert without key": {sfapi.OpUpsert, "Contact", "Ext__c", raws(`{"Ext__c":null}`), "Ext__c"},
	} {
		if _, err := o.Collection(t.Context(), c.op, c.object, c.external, c.records); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want an error that says %q", name, err, c.says)
		}
	}
	if o.requests.Load() != 0 {
		t.Errorf("%d requests, want none", o.requests.Load())
	}
}

func TestCollection_OutcomeUnknown(t *testing.T) {
	t.Parallel()
	const ok = `{"id":"003000000000001AAA","success":true,"errors":[]}`
	for name, body := range map[string]string{
		"too few":            "[" + ok + "]",
		"too many":           "[" + ok + "," + ok + "," + ok + "]",
		"an object":          ok,
		"empty":              "",
		"cut":                "[" + ok + ",",
		"without success":    "[" + ok + `,{"id":"003000000000002AAA","errors":[]}]`,
		"null":               "[" + ok + ",null]",
		"without id":         "[" + ok + `,{"success":true,"errors":[]}]`,
		"failed for nothing": "[" + ok + `,{"success":false,"errors":[]}]`,
		"html":               "<html>sorry</html>",
	} {
		o := setup(t, func(w http.ResponseWriter, r *http.Request) { answer(w, 200, body) }, nil)
		results, err := o.Collection(t.Context(), sfapi.OpInsert, "Contact", "", raws(`{"LastName":"a"}`, `{"LastName":"b"}`))
		if e := asError(err); e == nil || !e.OutcomeUnknown || results != nil {
			t.Errorf("%s: %v, %v, want an unknown outcome", name, results, err)
		}
	}
}

func BenchmarkCollectionBody(b *testing.B) {
	o := setup(b, func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body); answer(w, 200, `[]`) }, nil)
	records := make([]json.RawMessage, sfapi.MaxCollection)
	for i := range records {
		records[i] = json.RawMessage(fmt.Sprintf(`{"Ext__c":"%d","LastName":"Name %d","Description":%q}`, i, i, strings.Repeat("x", 200)))
	}
	b.ReportAllocs()
	for b.Loop() {
		_, _ = o.Collection(b.Context(), sfapi.OpUpsert, "Contact", "Ext__c", records)
	}
}
