package sfapi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Subject is what a piece of evidence speaks of.
type Subject string

// The subjects that [ReadProof] knows.
const (
	SubjectToken         Subject = "token"
	SubjectIntrospection Subject = "introspection"
	SubjectIdentity      Subject = "identity"
	SubjectOrganization  Subject = "organization"
	SubjectLimits        Subject = "limits"
	SubjectTrust         Subject = "trust"
	SubjectVersions      Subject = "versions"
	SubjectQueryPage     Subject = "query_page"
	SubjectBulkPage      Subject = "bulk_page"
)

// Proof is what a response that reports no failure proves about an org, a
// token or an instance. It holds no secret. Fields that the subject does not
// speak of are zero.
type Proof struct {
	Subject Subject `json:"subject"`

	// Org, User and Username say whose token it is.
	Org      OrgID  `json:"org,omitempty"`
	User     string `json:"user,omitempty"`
	Username string `json:"username,omitempty"`

	// InstanceURL is the host that a token response names: the only one to
	// use, whatever was used before.
	InstanceURL string   `json:"instance_url,omitempty"`
	Scopes      []string `json:"scopes,omitempty"`

	// Rotated says that the token response carries a new refresh token, and
	// so that the old one is dead.
	Rotated bool `json:"rotated,omitempty"`

	// IssuedAt is when the token was issued, ExpiresAt when it will end if
	// nobody uses it.
	IssuedAt  time.Time `json:"issued_at,omitzero"`
	ExpiresAt time.Time `json:"expires_at,omitzero"`

	// Active is introspection's or the identity's verdict. Introspection's
	// true is strong; its false is weak, for an app that may not introspect
	// the token is told the same.
	// https://salesforce.stackexchange.com/questions/305477
	Active *bool `json:"active,omitempty"`

	// ReadOnly is Organization.IsReadOnly. What it says during a window is not
	// documented, so false proves nothing.
	ReadOnly *bool `json:"read_only,omitempty"`

	// InstanceName is the key of the Trust API, "NA224" for instance.
	InstanceName string `json:"instance_name,omitempty"`
	Sandbox      bool   `json:"sandbox,omitempty"`

	// Limits are by name, as /limits has them. They lag a little.
	Limits map[string]Limit `json:"limits,omitempty"`

	// Status is the Trust API's, "OK" or "MAINTENANCE_CORE" for instance.
	// Maintenance says that a window is under way or planned; it corroborates
	// and never decides.
	Status      string `json:"status,omitempty"`
	Maintenance bool   `json:"maintenance,omitempty"`

	// Versions are the API versions that the instance serves.
	Versions []string `json:"versions,omitempty"`

	// Next is the relative URL or the locator of the next page, to be joined
	// to the current instance; empty on the last one.
	Next string `json:"next,omitempty"`

	// Records is the number of records in all (query) or on the page (Bulk).
	Records int `json:"records,omitempty"`
}

// ReadProof reads what a response proves. It fails for responses that
// report a failure, which are for [Classify], and for those it does not know.
// An introspection that says inactive is both: evidence here, and there a
// token that was refused.
func ReadProof(r *Response) (*Proof, error) {
	if r == nil {
		return nil, fmt.Errorf("read proof: no response")
	}
	if c := Classify(r); c.Kind != KindNone && r.Endpoint != EndpointIntrospect {
		return nil, fmt.Errorf("read proof: the response reports %v", c.Kind)
	}
	d := decodedBody(r)
	body := d.text
	if !d.ok || d.truncated || d.capped || r.Status < 200 || r.Status > 299 {
		return nil, fmt.Errorf("read proof: HTTP %d without a readable body", r.Status)
	}
	if locator := headerValue(r.Header, "Sforce-Locator"); locator != "" && r.Endpoint == EndpointBulk2 {
		return proofOfBulkPage(r.Header, locator), nil
	}
	if len(body) > 0 && body[0] == '[' {
		return proofOfVersions(body)
	}
	var raw rawProof
	if err := json.Unmarshal(body, &raw); err != nil {
		return nil, fmt.Errorf("read proof: %w", err)
	}
	return raw.read(r.Endpoint, body)
}

func proofOfBulkPage(h http.Header, locator string) *Proof {
	e := &Proof{Subject: SubjectBulkPage}
	// The last page's locator is the literal text null.
	if locator != "null" {
		e.Next = locator
	}
	e.Records, _ = strconv.Atoi(headerValue(h, "Sforce-NumberOfRecords"))
	return e
}

func proofOfVersions(body []byte) (*Proof, error) {
	var list []struct {
		Version string `json:"version"`
	}
	if err := json.Unmarshal(body, &list); err != nil {
		return nil, fmt.Errorf("read proof: %w", err)
	}
	e := &Proof{Subject: SubjectVersions}
	for _, v := range list {
		if v.Version != "" {
			e.Versions = append(e.Versions, v.Version)
		}
	}
	if len(e.Versions) == 0 {
		return nil, fmt.Errorf("read proof: a list of something unknown")
	}
	return e, nil
}

// rawProof has the members of all answers that are objects.
type rawProof struct {
	AccessToken  string `json:"access_token"`
	RefreshToken string `json:"refresh_token"`
	InstanceURL  string `json:"instance_url"`
	Identity     string `json:"id"`
	IssuedAt     string `json:"issued_at"`
	Scope        string `json:"scope"`

	Active   *bool   `json:"active"`
	Exp      float64 `json:"exp"`
	Iat      float64 `json:"iat"`
	Username string  `json:"username"`
	Sub      string  `json:"sub"`

	UserID            string `json:"user_id"`
	OrganizationID    string `json:"organization_id"`
	PreferredUsername string `json:"preferred_username"`

	TotalSize      *int   `json:"totalSize"`
	NextRecordsURL string `json:"nextRecordsUrl"`
	Records        []struct {
		Attributes struct {
			Type string `json:"type"`
			URL  string `json:"url"`
		} `json:"attributes"`
		IsReadOnly   *bool  `json:"IsReadOnly"`
		InstanceName string `json:"InstanceName"`
		IsSandbox    bool   `json:"IsSandbox"`
	} `json:"records"`

	Key          string            `json:"key"`
	Status       string            `json:"status"`
	Maintenances []json.RawMessage `json:"Maintenances"`
}

func (raw *rawProof) read(endpoint Endpoint, body []byte) (*Proof, error) {
	e := &Proof{}
	switch {
	case raw.AccessToken != "":
		e.Subject = SubjectToken
		e.Org, e.User, _ = parseIdentityURL(raw.Identity)
		e.InstanceURL, e.Rotated = raw.InstanceURL, raw.RefreshToken != ""
		e.Scopes = scopes(raw.Scope)
		e.IssuedAt = issuedAt(raw.IssuedAt)
	case raw.OrganizationID != "":
		e.Subject, e.User, e.Username, e.Active = SubjectIdentity, raw.UserID, raw.PreferredUsername, raw.Active
		if e.Username == "" {
			e.Username = raw.Username
		}
		e.Org, _ = ParseOrgID(raw.OrganizationID)
	case endpoint == EndpointIntrospect && raw.Active != nil:
		e.Subject, e.Active, e.Username = SubjectIntrospection, raw.Active, raw.Username
		e.Org, e.User, _ = parseIdentityURL(raw.Sub)
		e.Scopes = scopes(raw.Scope)
		e.IssuedAt, e.ExpiresAt = proofTime(raw.Iat), proofTime(raw.Exp)
	case len(raw.Records) == 1 && raw.Records[0].Attributes.Type == "Organization" && raw.Records[0].IsReadOnly != nil:
		o := &raw.Records[0]
		e.Subject, e.ReadOnly, e.InstanceName, e.Sandbox = SubjectOrganization, o.IsReadOnly, o.InstanceName, o.IsSandbox
		e.Org, _ = ParseOrgID(o.Attributes.URL[strings.LastIndexByte(o.Attributes.URL, '/')+1:])
	case raw.TotalSize != nil:
		e.Subject, e.Records, e.Next = SubjectQueryPage, *raw.TotalSize, raw.NextRecordsURL
	case raw.Key != "" && raw.Status != "":
		e.Subject, e.InstanceName, e.Status = SubjectTrust, raw.Key, raw.Status
		e.Maintenance = len(raw.Maintenances) > 0 || strings.HasPrefix(raw.Status, "MAINTENANCE")
	default:
		return proofOfLimits(body)
	}
	return e, nil
}

func proofTime(n float64) time.Time {
	if n <= 0 {
		return time.Time{}
	}
	return time.Unix(int64(n), 0).UTC()
}

func proofOfLimits(body []byte) (*Proof, error) {
	var byName map[string]json.RawMessage
	if err := json.Unmarshal(body, &byName); err != nil {
		return nil, fmt.Errorf("read proof: %w", err)
	}
	e := &Proof{Subject: SubjectLimits, Limits: map[string]Limit{}}
	for name, raw := range byName {
		var has struct{ Max, Remaining *json.Number }
		var l Limit
		if json.Unmarshal(raw, &has) == nil && has.Max != nil && has.Remaining != nil && json.Unmarshal(raw, &l) == nil {
			e.Limits[name] = l
		}
	}
	if len(e.Limits) == 0 {
		return nil, fmt.Errorf("read proof: an answer of an unknown form")
	}
	return e, nil
}

// scopes splits a list of scopes; no scopes are nil.
func scopes(list string) []string {
	if fields := strings.Fields(list); len(fields) > 0 {
		return fields
	}
	return nil
}
