package sftest_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/weirhq/weir/sfapi/sftest"
)

// client is a bare client of one org, with nothing in common with package
// sfapi.
type client struct {
	t       *testing.T
	http    *http.Client
	base    string
	login   string
	token   string
	refresh string
}

// connect grants access to an org and logs in with the refresh token.
func connect(t *testing.T, org *sftest.Org, hc *http.Client) *client {
	t.Helper()
	c := &client{t: t, http: hc, login: org.LoginURL(), refresh: org.Grant()}
	if status, body := c.refreshNow(); status != 200 {
		t.Fatalf("refresh: %d %s", status, body)
	}
	return c
}

// setup makes an org in process and a client of it.
func setup(t *testing.T) (*sftest.Org, *client) {
	t.Helper()
	sim := sftest.New(nil)
	org := sim.AddOrg(nil)
	return org, connect(t, org, sim.Client())
}

func (c *client) form(path string, v url.Values) (int, string) {
	c.t.Helper()
	req, err := http.NewRequest(http.MethodPost, c.login+path, strings.NewReader(v.Encode()))
	if err != nil {
		c.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := c.http.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	return read(c.t, resp)
}

func read(t *testing.T, resp *http.Response) (int, string) {
	t.Helper()
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("read answer: %v", err)
	}
	return resp.StatusCode, string(b)
}

// refreshNow uses the client's refresh token, and keeps what came of it.
func (c *client) refreshNow() (int, string) {
	c.t.Helper()
	status, body := c.form("/services/oauth2/token", url.Values{"grant_type": {"refresh_token"},
		"client_id": {sftest.DefaultClientID}, "client_secret": {sftest.DefaultClientSecret}, "refresh_token": {c.refresh}})
	if status != 200 {
		return status, body
	}
	var a struct {
		AccessToken  string `json:"access_token"`
		RefreshToken string `json:"refresh_token"`
		InstanceURL  string `json:"instance_url"`
	}
	c.decode(body, &a)
	c.token, c.base = a.AccessToken, a.InstanceURL
	if a.RefreshToken != "" {
		c.refresh = a.RefreshToken
	}
	return status, body
}

func (c *client) decode(body string, v any) {
	c.t.Helper()
	if err := json.Unmarshal([]byte(body), v); err != nil {
		c.t.Fatalf("decode %.300s: %v", body, err)
	}
}

// do sends a call of the data API. path begins after the version.
func (c *client) do(method, path, body string, header ...string) (int, string) {
	c.t.Helper()
	status, text, _ := c.send(method, path, body, header...)
	return status, text
}

func (c *client) send(method, path, body string, header ...string) (int, string, http.Header) {
	c.t.Helper()
	resp, err := c.try(method, path, body, header...)
	if err != nil {
		c.t.Fatalf("%s %s: %v", method, path, err)
	}
	status, text := read(c.t, resp)
	return status, text, resp.Header
}

func (c *client) try(method, path, body string, header ...string) (*http.Response, error) {
	c.t.Helper()
	if !strings.HasPrefix(path, "/services") && !strings.HasPrefix(path, "/id/") {
		path = "/services/data/v66.0" + path
	}
	var r io.Reader
	if body != "" {
		r = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(c.t.Context(), method, c.base+path, r)
	if err != nil {
		c.t.Fatal(err)
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	return c.http.Do(req)
}

type page struct {
	TotalSize      int              `json:"totalSize"`
	Done           bool             `json:"done"`
	NextRecordsURL string           `json:"nextRecordsUrl"`
	Records        []map[string]any `json:"records"`
}

// query reads every page of a query.
func (c *client) query(soql string) []map[string]any {
	c.t.Helper()
	return c.pages("/query?q=" + url.QueryEscape(soql))
}

func (c *client) pages(path string, header ...string) []map[string]any {
	c.t.Helper()
	var out []map[string]any
	for {
		status, body := c.do("GET", path, "", header...)
		if status != 200 {
			c.t.Fatalf("GET %s: %d %s", path, status, body)
		}
		var p page
		c.decode(body, &p)
		out = append(out, p.Records...)
		if p.Done {
			if p.TotalSize != len(out) {
				c.t.Errorf("totalSize = %d, got %d records", p.TotalSize, len(out))
			}
			return out
		}
		path = p.NextRecordsURL
	}
}

func ids(records []map[string]any) []string {
	var out []string
	for _, r := range records {
		out = append(out, r["Id"].(string))
	}
	return out
}

// code is the first errorCode of an answer.
func (c *client) code(body string) string {
	c.t.Helper()
	var list []struct {
		ErrorCode string `json:"errorCode"`
	}
	c.decode(body, &list)
	if len(list) == 0 {
		c.t.Fatalf("no error in %s", body)
	}
	return list[0].ErrorCode
}
