package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/weirhq/weir/sfapi/sftest"
)

// driver calls the control API as another process does.
type driver struct {
	t    *testing.T
	base string
}

func setup(t *testing.T) *driver {
	t.Helper()
	var c *control
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { c.ServeHTTP(w, r) }))
	c = newControl(server.URL)
	t.Cleanup(func() {
		server.Close()
		c.close()
	})
	return &driver{t, server.URL}
}

func (d *driver) call(method, path string, body, answer any) int {
	d.t.Helper()
	b, err := json.Marshal(body)
	if err != nil {
		d.t.Fatal(err)
	}
	if body == nil {
		b = nil
	}
	req, err := http.NewRequestWithContext(d.t.Context(), method, d.base+path, bytes.NewReader(b))
	if err != nil {
		d.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		d.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		d.t.Fatal(err)
	}
	if answer != nil {
		if err := json.Unmarshal(text, answer); err != nil {
			d.t.Fatalf("%s %s: decode %s: %v", method, path, text, err)
		}
	}
	return resp.StatusCode
}

func (d *driver) refresh(token string) (status int, access, instance string) {
	d.t.Helper()
	resp, err := http.PostForm(d.base+"/services/oauth2/token", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token},
		"client_id": {sftest.DefaultClientID}, "client_secret": {sftest.DefaultClientSecret}})
	if err != nil {
		d.t.Fatal(err)
	}
	defer resp.Body.Close()
	var a struct {
		AccessToken string `json:"access_token"`
		InstanceURL string `json:"instance_url"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&a); err != nil {
		d.t.Fatal(err)
	}
	return resp.StatusCode, a.AccessToken, a.InstanceURL
}

func (d *driver) get(url, token string) (int, string) {
	d.t.Helper()
	req, err := http.NewRequestWithContext(d.t.Context(), http.MethodGet, url, nil)
	if err != nil {
		d.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		d.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		d.t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

type object = map[string]any

func TestControl(t *testing.T) {
	t.Parallel()
	d := setup(t)
	var org orgInfo
	d.call("POST", "/_sim/orgs", object{"own_listener": true, "config": object{"Name": "Acme"}}, &org)
	if org.LoginURL != d.base || org.InstanceURL == d.base || len(org.ID) != 18 {
		t.Fatalf("org = %+v", org)
	}
	at := "/_sim/orgs/" + org.ID
	var grant struct {
		RefreshToken string `json:"refresh_token"`
	}
	d.call("POST", at+"/grant", nil, &grant)
	d.call("POST", at+"/seed", object{"object": "Account", "n": 10, "seed": 1}, nil)
	var made struct{ ID string }
	d.call("POST", at+"/records", object{"op": "insert", "object": "Account", "fields": object{"Name": "x", "NumberOfEmployees": 5}}, &made)
	d.call("POST", at+"/records", object{"op": "delete", "object": "Account", "id": made.ID}, nil)

	status, access, instance := d.refresh(grant.RefreshToken)
	if status != 200 || instance != org.InstanceURL {
		t.Fatalf("refresh: %d %s", status, instance)
	}
	count := instance + "/services/data/v66.0/query?q=" + url.QueryEscape("SELECT COUNT() FROM Account")
	if _, body := d.get(count, access); body != `{"totalSize":10,"done":true,"records":[]}` {
		t.Errorf("count: %s", body)
	}
	var rows []sftest.Row
	d.call("GET", at+"/rows/Account", nil, &rows)
	var live struct{ Count int }
	d.call("GET", at+"/count/Account", nil, &live)
	if len(rows) != 11 || live.Count != 10 {
		t.Errorf("%d rows, %d live", len(rows), live.Count)
	}

	var fault struct{ ID int }
	d.call("POST", at+"/faults", object{"kind": "html_error", "status": 503, "times": 1}, &fault)
	if status, _ := d.get(count, access); status != 503 {
		t.Errorf("fault answers %d", status)
	}
	var hits struct{ Hits int }
	d.call("GET", fmt.Sprintf("/_sim/faults/%d", fault.ID), nil, &hits)
	if hits.Hits != 1 {
		t.Errorf("%d hits", hits.Hits)
	}
	d.call("DELETE", fmt.Sprintf("/_sim/faults/%d", fault.ID), nil, nil)

	d.call("POST", at+"/state", object{"read_only": "sessions"}, nil)
	if status, _ := d.get(count, access); status != 401 {
		t.Errorf("read-only sessions answer %d", status)
	}
	d.call("POST", at+"/state", object{"heal": true, "move_to": "new"}, nil)
	if _, body := d.get(count, access); !strings.Contains(body, "URL_NOT_RESET") {
		t.Errorf("old host: %s", body)
	}
	_, access, moved := d.refresh(grant.RefreshToken)
	if status, _ := d.get(strings.Replace(count, instance, moved, 1), access); status != 200 || moved == instance {
		t.Errorf("new host %s answers %d", moved, status)
	}
	d.call("POST", at+"/state", object{"revoke_all": true}, nil)
	if status, _, _ := d.refresh(grant.RefreshToken); status != 400 {
		t.Errorf("revoked grant answers %d", status)
	}
	var audit []sftest.Entry
	d.call("GET", at+"/audit", nil, &audit)
	var counts map[string]int
	d.call("GET", at+"/counts", nil, &counts)
	if len(audit) != counts["calls"] || counts["token_calls"] != 3 || counts["grants"] != 0 {
		t.Errorf("%d entries, counts %v", len(audit), counts)
	}
}

func TestControlRefusesMisuse(t *testing.T) {
	t.Parallel()
	d := setup(t)
	var org orgInfo
	d.call("POST", "/_sim/orgs", nil, &org)
	at := "/_sim/orgs/" + org.ID
	tests := []struct {
		method, path string
		body         any
		want         int
	}{
		{"POST", "/_sim/orgs/00D000000000000/grant", nil, 404},
		{"POST", "/_sim/orgs", object{"config": object{"ID": "nonsense"}}, 400},
		{"POST", at + "/grant", object{"username": "nobody"}, 400},
		{"POST", at + "/seed", object{"object": "Nope", "n": 1}, 400},
		{"POST", at + "/records", object{"op": "nope"}, 400},
		{"POST", at + "/records", object{"op": "insert", "object": "Account", "fields": object{"Nope": 1}}, 400},
		{"POST", at + "/state", object{"nope": 1}, 400},
		{"POST", at + "/state", object{"read_only": "maybe"}, 400},
		{"POST", at + "/faults", object{"kind": "nope"}, 400},
		{"POST", at + "/faults", object{"kind": "static"}, 400},
		{"GET", "/_sim/faults/7", nil, 404},
		{"GET", "/_sim/nope", nil, 404},
	}
	for _, tt := range tests {
		if got := d.call(tt.method, tt.path, tt.body, nil); got != tt.want {
			t.Errorf("%s %s %v: %d, want %d", tt.method, tt.path, tt.body, got, tt.want)
		}
	}
	if got := d.call("GET", at+"/counts", nil, nil); got != 200 {
		t.Errorf("after misuse the org answers %d", got)
	}
}
