package sfapi_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weirhq/weir/sfapi"
)

func asError(err error) *sfapi.Error {
	var e *sfapi.Error
	if errors.As(err, &e) {
		return e
	}
	return nil
}

func TestClient_SingleRecords(t *testing.T) {
	t.Parallel()
	const id = "003000000000001AAA"
	var got []string
	o := setup(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got = append(got, r.Method+" "+r.RequestURI+" "+string(body))
		switch {
		case r.Method == "GET":
			answer(w, 200, `{"attributes":{"type":"Contact"},"Id":"`+id+`","LastName":"x"}`)
		case r.Method == "POST", r.URL.Path == "/services/data/v66.0/sobjects/Contact/Ext__c/new":
			answer(w, 201, `{"id":"`+id+`","success":true,"errors":[],"created":true}`)
		case r.URL.Path == "/services/data/v66.0/sobjects/Contact/Ext__c/a/b ?ü":
			answer(w, 200, `{"id":"`+id+`","success":true,"errors":[],"created":false}`)
		default:
			w.WriteHeader(http.StatusNoContent)
		}
	}, nil)
	ctx := t.Context()
	var r sfapi.Record
	if err := o.Get(ctx, "Contact", id, []string{"Id", "Owner.Name"}, &r); err != nil || r.String("LastName") != "x" {
		t.Errorf("Get: %v, %s", err, r.Raw())
	}
	if got, err := o.Create(ctx, "Contact", map[string]string{"LastName": "<x>"}); got != id || err != nil {
		t.Errorf("Create = %q, %v", got, err)
	}
	if err := o.Update(ctx, "Contact", id, struct{ LastName *string }{}); err != nil {
		t.Errorf("Update: %v", err)
	}
	for value, want := range map[string]struct {
		id      string
		created bool
	}{"new": {id, true}, "a/b ?ü": {id, false}, "..": {"", false}} {
		if gotID, created, err := o.Upsert(ctx, "Contact", "Ext__c", value, json.RawMessage(`{"LastName":"x"}`)); gotID != want.id || created != want.created || err != nil {
			t.Errorf("Upsert(%q) = %q, %t, %v, want %+v", value, gotID, created, err, want)
		}
	}
	if err := o.Delete(ctx, "Contact", id); err != nil {
		t.Errorf("Delete: %v", err)
	}
	const base = "/services/data/v66.0/sobjects/Contact"
	upserts := map[string]bool{}
	for _, line := range got[3:6] {
		upserts[line] = true
	}
	wantUpserts := map[string]bool{
		"PATCH " + base + `/Ext__c/new {"LastName":"x"}`:               true,
		"PATCH " + base + `/Ext__c/a%2Fb%20%3F%C3%BC {"LastName":"x"}`: true,
		"PATCH " + base + `/Ext__c/%2E%2E {"LastName":"x"}`:            true,
	}
	if diff := cmp.Diff(wantUpserts, upserts); diff != "" {
		t.Errorf("upserts (-want +got):\n%s", diff)
	}
	want := []string{
		"GET " + base + "/" + id + "?fields=Id,Owner.Name ",
		"POST " + base + ` {"LastName":"<x>"}`,
		"PATCH " + base + "/" + id + ` {"LastName":null}`,
		"DELETE " + base + "/" + id + " ",
	}
	if diff := cmp.Diff(want, append(got[:3:3], got[6:]...)); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}

func TestClient_SingleRecordRefusals(t *testing.T) {
	t.Parallel()
	const id = "003000000000001AAA"
	o := setup(t, func(w http.ResponseWriter, r *http.Request) {
		answer(w, 300, `["/services/data/v66.0/sobjects/Contact/003000000000001AAA","/services/data/v66.0/sobjects/Contact/003000000000002AAA"]`)
	}, nil)
	ctx := t.Context()
	if _, _, err := o.Upsert(ctx, "Contact", "Ext__c", "x", json.RawMessage(`{}`)); sfapi.KindOf(err) != sfapi.KindDuplicate {
		t.Errorf("Upsert with 300: %v (%s), want duplicate", err, sfapi.KindOf(err))
	}
	before := o.requests.Load()
	for name, call := range map[string]func() error{
		"object":    func() error { return o.Get(ctx, "Con tact", id, nil, new(any)) },
		"id":        func() error { return o.Get(ctx, "Contact", "../Account/1", nil, new(any)) },
		"field":     func() error { return o.Get(ctx, "Contact", id, []string{"Id&x=1"}, new(any)) },
		"record":    func() error { return o.Update(ctx, "Contact", id, []int{1}) },
		"channel":   func() error { return o.Update(ctx, "Contact", id, make(chan int)) },
		"raw":       func() error { return o.Update(ctx, "Contact", id, json.RawMessage(`{`)) },
		"extField":  func() error { _, _, err := o.Upsert(ctx, "Contact", "a.b", "x", json.RawMessage(`{}`)); return err },
		"extValue":  func() error { _, _, err := o.Upsert(ctx, "Contact", "Ext__c", "", json.RawMessage(`{}`)); return err },
		"do host":   func() error { return o.Do(ctx, "GET", "//evil.example/x", nil, nil) },
		"delete id": func() error { return o.Delete(ctx, "Contact", "") },
		"describe":  func() error { _, err := o.Describe(ctx, "../x"); return err },
	} {
		if call() == nil {
			t.Errorf("%s was accepted", name)
		}
	}
	if o.requests.Load() != before {
		t.Error("a bad call was sent")
	}
}

func TestClient_Do(t *testing.T) {
	t.Parallel()
	var got []string
	o := setup(t, func(w http.ResponseWriter, r *http.Request) {
		got = append(got, r.Method+" "+r.RequestURI)
		if r.Method == "DELETE" {
			w.WriteHeader(204)
			return
		}
		answer(w, 200, `{"n":1}`)
	}, nil)
	for _, path := range []string{"query?q=SELECT Id FROM User", "/services/apexrest/x", "https:evil"} {
		out := map[string]int{}
		if err := o.Do(t.Context(), "GET", path, nil, &out); err != nil || out["n"] != 1 {
			t.Errorf("Do(%q) = %v, %v", path, out, err)
		}
	}
	if err := o.Do(t.Context(), "DELETE", "x", nil, new(int)); err != nil {
		t.Errorf("Do: %v", err)
	}
	want := []string{
		"GET /services/data/v66.0/query?q=SELECT%20Id%20FROM%20User",
		"GET /services/apexrest/x",
		"GET /services/data/v66.0/https:evil",
		"DELETE /services/data/v66.0/x",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}

func TestParseLimitInfo(t *testing.T) {
	t.Parallel()
	for header, want := range map[string]*sfapi.Usage{
		"api-usage=18/5000": {Used: 18, Limit: 5000},
		"api-usage=25/5000; per-app-api-usage=17/250(appName=sample-app)":   {Used: 25, Limit: 5000, PerApp: []sfapi.AppUsage{{Name: "sample-app", Used: 17, Limit: 250}}},
		"per-app-api-usage=17/250(appName=a (b); c, d=e), API-Usage = 1/2":  {Used: 1, Limit: 2, PerApp: []sfapi.AppUsage{{Name: "a (b); c, d=e", Used: 17, Limit: 250}}},
		"per-app-api-usage=1/2(appName=x);per-app-api-usage=3/4(appName=y)": {PerApp: []sfapi.AppUsage{{Name: "x", Used: 1, Limit: 2}, {Name: "y", Used: 3, Limit: 4}}},
		"other=1/2;api-usage=3/4":     {Used: 3, Limit: 4},
		"garbage;;api-usage=5/6;":     {Used: 5, Limit: 6},
		"":                            nil,
		"api-usage=x/y":               nil,
		"api-usage=-1/5":              nil,
		"per-app-api-usage=1/2(appNa": nil,
		"api-usage":                   nil,
	} {
		got, ok := sfapi.ParseLimitInfo(header)
		if ok != (want != nil) {
			t.Errorf("ParseLimitInfo(%q) found = %t", header, ok)
		}
		if want != nil {
			if diff := cmp.Diff(*want, got); diff != "" {
				t.Errorf("ParseLimitInfo(%q) (-want +got):\n%s", header, diff)
			}
		}
	}
}

func FuzzParseLimitInfo(f *testing.F) {
	f.Add("api-usage=25/5000; per-app-api-usage=17/250(appName=sample-app)")
	f.Fuzz(func(t *testing.T, header string) {
		if u, ok := sfapi.ParseLimitInfo(header); ok && (u.Used < 0 || u.Limit < 0) {
			t.Errorf("ParseLimitInfo(%q) = %+v", header, u)
		}
	})
}
