package sfapi_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weirhq/weir/sfapi"
)

func ExampleReadProof() {
	e, err := sfapi.ReadProof(&sfapi.Response{
		Status: http.StatusOK,
		Body:   []byte(`{"totalSize":1,"done":true,"records":[{"attributes":{"type":"Organization"},"IsReadOnly":true,"InstanceName":"NA224"}]}`),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(e.Subject, *e.ReadOnly, e.InstanceName)
	// Output: organization true NA224
}

func TestReadProof_Corpus(t *testing.T) {
	t.Parallel()
	yes, no := true, false
	org, err := sfapi.ParseOrgID("00Dxx0000000001EAA")
	if err != nil {
		t.Fatal(err)
	}
	const user = "005xx000001SvogAAC"
	issued := time.UnixMilli(1767225600000).UTC()
	token := func(host string, rotated bool) sfapi.Proof {
		return sfapi.Proof{Subject: sfapi.SubjectToken, Org: org, User: user, InstanceURL: host, Rotated: rotated,
			Scopes: []string{"refresh_token", "api"}, IssuedAt: issued}
	}
	want := map[string]sfapi.Proof{
		"refresh_ok":              token("https://acme.my.salesforce.com", false),
		"refresh_ok_rotated":      token("https://acme.my.salesforce.com", true),
		"refresh_ok_new_instance": token("https://acme2.my.salesforce.com", false),
		"client_credentials_ok":   token("https://acme.my.salesforce.com", false),
		"introspect_active": {Subject: sfapi.SubjectIntrospection, Org: org, User: user, Username: "sync@acme.example", Active: &yes,
			Scopes: []string{"refresh_token", "api"}, IssuedAt: issued, ExpiresAt: time.Unix(1767232800, 0).UTC()},
		"introspect_inactive": {Subject: sfapi.SubjectIntrospection, Active: &no},
		"userinfo_ok":         {Subject: sfapi.SubjectIdentity, Org: org, User: user, Username: "sync@acme.example", Active: &yes},
		"limits_ok": {Subject: sfapi.SubjectLimits, Limits: map[string]sfapi.Limit{
			"DailyApiRequests":     {Max: 100000, Remaining: 84211},
			"DailyBulkV2QueryJobs": {Max: 10000, Remaining: 9994},
			"DailyBulkApiBatches":  {Max: 15000, Remaining: 14990},
			"DataStorageMB":        {Max: 1024, Remaining: 3},
		}},
		"org_readonly_true":        {Subject: sfapi.SubjectOrganization, Org: org, ReadOnly: &yes, InstanceName: "NA224"},
		"org_readonly_false":       {Subject: sfapi.SubjectOrganization, Org: org, ReadOnly: &no, InstanceName: "NA224"},
		"trust_status_ok":          {Subject: sfapi.SubjectTrust, InstanceName: "NA224", Status: "OK"},
		"trust_status_maintenance": {Subject: sfapi.SubjectTrust, InstanceName: "NA224", Status: "MAINTENANCE_CORE", Maintenance: true},
		"versions":                 {Subject: sfapi.SubjectVersions, Versions: []string{"65.0"}},
		"bulk_results_last_page":   {Subject: sfapi.SubjectBulkPage, Records: 1},
		"query_page":               {Subject: sfapi.SubjectQueryPage, Records: 2500, Next: "/services/data/v62.0/query/01gxx0000000001AAA-2000"},
	}
	for _, l := range readLines(t, "corpus/evidence.dev.jsonl") {
		w, ok := want[l.Kind]
		if !ok {
			t.Errorf("%s: %s is not expected", l.ID, l.Kind)
			continue
		}
		got, err := sfapi.ReadProof(l.response(t))
		if err != nil {
			t.Errorf("%s: %v", l.ID, err)
			continue
		}
		if diff := cmp.Diff(w, *got); diff != "" {
			t.Errorf("%s: -want +got\n%s", l.ID, diff)
		}
	}
}

func TestReadProof_RefusesFailuresAndTheUnknown(t *testing.T) {
	t.Parallel()
	lines := readLines(t, "corpus/errors.dev.jsonl")
	for _, l := range lines {
		if l.Endpoint == "introspect" && l.Status == 200 {
			continue
		}
		if e, err := sfapi.ReadProof(l.response(t)); err == nil {
			t.Errorf("%s: read as %+v", l.ID, e)
		}
	}
	for _, body := range []string{"", "{}", "[]", "null", "x", `{"a":{"Max":1}}`, `[{"x":1}]`} {
		if e, err := sfapi.ReadProof(&sfapi.Response{Status: 200, Body: []byte(body)}); err == nil {
			t.Errorf("%q: read as %+v", body, e)
		}
	}
	if _, err := sfapi.ReadProof(nil); err == nil {
		t.Error("nil was read")
	}
}
