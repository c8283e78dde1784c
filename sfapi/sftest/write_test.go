package sftest_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weirhq/weir/sfapi/sftest"
)

type savedRow struct {
	ID      string `json:"id"`
	Success bool   `json:"success"`
	Errors  []struct {
		StatusCode string   `json:"statusCode"`
		Message    string   `json:"message"`
		Fields     []string `json:"fields"`
	} `json:"errors"`
	Created *bool `json:"created"`
}

// outcome says for each row "ok", "created", "updated" or its error code.
func (c *client) outcome(body string) []string {
	c.t.Helper()
	var rows []savedRow
	c.decode(body, &rows)
	out := make([]string, len(rows))
	for i, r := range rows {
		switch {
		case !r.Success:
			out[i] = r.Errors[0].StatusCode
		case r.Created == nil:
			out[i] = "ok"
		case *r.Created:
			out[i] = "created"
		default:
			out[i] = "updated"
		}
	}
	return out
}

// records builds a collections body.
func records(allOrNone bool, object string, recs ...map[string]any) string {
	for _, r := range recs {
		r["attributes"] = map[string]any{"type": object}
	}
	b, err := json.Marshal(map[string]any{"allOrNone": allOrNone, "records": recs})
	if err != nil {
		panic(err)
	}
	return string(b)
}

func TestSingleRecordLifeCycle(t *testing.T) {
	t.Parallel()
	org, c := setup(t)
	status, body, header := c.send("POST", "/sobjects/Account", `{"Name":"Acme","Ext__c":"A/1 ü","AnnualRevenue":12.345,"Description":""}`)
	var made struct{ ID string }
	c.decode(body, &made)
	if want := fmt.Sprintf(`{"id":"%s","success":true,"errors":[]}`, made.ID); status != 201 || body != want {
		t.Fatalf("create: %d %s", status, body)
	}
	if got := header.Get("Location"); got != "/services/data/v66.0/sobjects/Account/"+made.ID {
		t.Errorf("Location = %s", got)
	}
	steps := []struct {
		method, path, body string
		status             int
		want               string
	}{
		{"GET", "/sobjects/Account/" + made.ID + "?fields=Name,AnnualRevenue,Description", "", 200,
			`{"attributes":{"type":"Account","url":"/services/data/v66.0/sobjects/Account/` + made.ID + `"},"Name":"Acme","AnnualRevenue":12.35,"Description":null,"Id":"` + made.ID + `"}`},
		{"PATCH", "/sobjects/Account/" + made.ID[:15], `{"Name":"Acme 2"}`, 204, ""},
		{"PATCH", "/sobjects/Account/Ext__c/A%2F1%20%C3%BC", `{"Phone":"1"}`, 200, `{"id":"` + made.ID + `","success":true,"errors":[],"created":false}`},
		{"GET", "/sobjects/Account/Ext__c/A%2F1%20%C3%BC?fields=Name,Phone", "", 200,
			`{"attributes":{"type":"Account","url":"/services/data/v66.0/sobjects/Account/` + made.ID + `"},"Name":"Acme 2","Phone":"1","Id":"` + made.ID + `"}`},
		{"DELETE", "/sobjects/Account/" + made.ID, "", 204, ""},
		{"DELETE", "/sobjects/Account/" + made.ID, "", 404, `[{"message":"entity is deleted","errorCode":"ENTITY_IS_DELETED","fields":[]}]`},
		{"GET", "/sobjects/Account/" + made.ID, "", 404, `[{"message":"entity is deleted","errorCode":"ENTITY_IS_DELETED","fields":[]}]`},
		{"GET", "/sobjects/Account/Ext__c/none", "", 404, `[{"message":"The requested resource does not exist","errorCode":"NOT_FOUND"}]`},
		{"GET", "/sobjects/Account/Phone/1", "", 404, `[{"message":"Provided external ID field does not exist or is not accessible: Phone","errorCode":"NOT_FOUND"}]`},
	}
	for _, s := range steps {
		status, got := c.do(s.method, s.path, s.body)
		if status != s.status || got != s.want {
			t.Errorf("%s %s\n got %d %s\nwant %d %s", s.method, s.path, status, got, s.status, s.want)
		}
	}
	var ops []sftest.Operation
	for _, w := range org.Writes("A/1 ü") {
		ops = append(ops, w.Operation)
	}
	if diff := cmp.Diff([]sftest.Operation{sftest.OpCreate, sftest.OpUpdate, sftest.OpUpsert, sftest.OpDelete}, ops); diff != "" {
		t.Errorf("history (-want +got):\n%s", diff)
	}
	if len(org.Writes(made.ID)) != 4 {
		t.Errorf("history by id has %d entries", len(org.Writes(made.ID)))
	}
}

func TestRefusedRecords(t *testing.T) {
	t.Parallel()
	org, c := setup(t)
	id := org.Insert("Account", sftest.Record{"Name": "There", "Ext__c": "Taken", "Legacy_Id__c": "twin"})
	org.Insert("Account", sftest.Record{"Name": "Twin", "Legacy_Id__c": "twin"})
	gone := org.Insert("Account", sftest.Record{"Name": "Gone"})
	org.Delete("Account", gone)
	person := org.Insert("Contact", sftest.Record{"LastName": "P"})
	tests := []struct {
		name, method, path, body string
		status                   int
		code                     string
	}{
		{"required", "POST", "/sobjects/Account", `{"Phone":"1"}`, 400, "REQUIRED_FIELD_MISSING"},
		{"required to null", "PATCH", "/sobjects/Account/" + string(id), `{"Name":null}`, 400, "REQUIRED_FIELD_MISSING"},
		{"unknown field", "POST", "/sobjects/Account", `{"Name":"x","Nope":1}`, 400, "INVALID_FIELD"},
		{"unknown object", "POST", "/sobjects/Nope", `{"Name":"x"}`, 404, "NOT_FOUND"},
		{"id on create", "POST", "/sobjects/Account", `{"Name":"x","Id":"001"}`, 400, "INVALID_FIELD"},
		{"id on update", "PATCH", "/sobjects/Account/" + string(id), `{"Id":"` + string(id) + `"}`, 400, "INVALID_FIELD"},
		{"read-only field", "POST", "/sobjects/Account", `{"Name":"x","SystemModstamp":"2026-01-01T00:00:00Z"}`, 400, "INVALID_FIELD_FOR_INSERT_UPDATE"},
		{"too long", "POST", "/sobjects/Account", `{"Name":"` + strings.Repeat("ü", 256) + `"}`, 400, "STRING_TOO_LONG"},
		{"number for text", "POST", "/sobjects/Account", `{"Name":5}`, 400, "JSON_PARSER_ERROR"},
		{"text for number", "POST", "/sobjects/Account", `{"Name":"x","Score__c":"many"}`, 400, "JSON_PARSER_ERROR"},
		{"fraction for int", "POST", "/sobjects/Account", `{"Name":"x","NumberOfEmployees":1.5}`, 400, "JSON_PARSER_ERROR"},
		{"text for boolean", "POST", "/sobjects/Account", `{"Name":"x","Active__c":"yes"}`, 400, "JSON_PARSER_ERROR"},
		{"object for text", "POST", "/sobjects/Account", `{"Name":{"a":1}}`, 400, "JSON_PARSER_ERROR"},
		{"bad date", "POST", "/sobjects/Account", `{"Name":"x","Founded__c":"2003-04-9876"}`, 400, "JSON_PARSER_ERROR"},
		{"bad date-time", "POST", "/sobjects/Account", `{"Name":"x","LastReview__c":"yesterday"}`, 400, "JSON_PARSER_ERROR"},
		{"too big a number", "POST", "/sobjects/Account", `{"Name":"x","Discount__c":1000}`, 400, "NUMBER_OUTSIDE_VALID_RANGE"},
		{"bad email", "POST", "/sobjects/Account", `{"Name":"x","Contact_Email__c":"not an address"}`, 400, "INVALID_EMAIL_ADDRESS"},
		{"picklist", "POST", "/sobjects/Account", `{"Name":"x","Rating":"Lukewarm"}`, 400, "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST"},
		{"malformed reference", "POST", "/sobjects/Account", `{"Name":"x","ParentId":"zzz"}`, 400, "MALFORMED_ID"},
		{"reference of another type", "POST", "/sobjects/Account", `{"Name":"x","ParentId":"` + string(person) + `"}`, 400, "FIELD_INTEGRITY_EXCEPTION"},
		{"deleted reference", "POST", "/sobjects/Account", `{"Name":"x","ParentId":"` + string(gone) + `"}`, 400, "ENTITY_IS_DELETED"},
		{"lookup that finds none", "POST", "/sobjects/Account", `{"Name":"x","Parent":{"Ext__c":"none"}}`, 400, "INVALID_FIELD"},
		{"duplicate", "POST", "/sobjects/Account", `{"Name":"x","Ext__c":"taKEN"}`, 400, "DUPLICATE_VALUE"},
		{"upsert by a field that is no external id", "PATCH", "/sobjects/Account/Phone/1", `{"Name":"x"}`, 404, "NOT_FOUND"},
		{"upsert with its key in the body", "PATCH", "/sobjects/Account/Ext__c/k", `{"Name":"x","Ext__c":"k"}`, 400, "INVALID_FIELD"},
		{"unknown id", "PATCH", "/sobjects/Account/001000000000001AAA", `{"Name":"x"}`, 404, "NOT_FOUND"},
		{"malformed id", "PATCH", "/sobjects/Account/zzz", `{"Name":"x"}`, 404, "NOT_FOUND"},
		{"read-only object", "POST", "/sobjects/Organization", `{"Name":"x"}`, 400, "CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY"},
		{"bad JSON", "POST", "/sobjects/Account", `{"Name":`, 400, "JSON_PARSER_ERROR"},
		{"two values", "POST", "/sobjects/Account", `{"Name":"x"} {}`, 400, "JSON_PARSER_ERROR"},
		{"array", "POST", "/sobjects/Account", `[]`, 400, "JSON_PARSER_ERROR"},
		{"null", "POST", "/sobjects/Account", `null`, 400, "JSON_PARSER_ERROR"},
		{"wrong method", "PUT", "/sobjects/Account/" + string(id), `{}`, 405, "METHOD_NOT_ALLOWED"},
		{"wrong method on object", "DELETE", "/sobjects/Account", ``, 405, "METHOD_NOT_ALLOWED"},
	}
	for _, tt := range tests {
		status, body := c.do(tt.method, tt.path, tt.body)
		if got := c.code(body); status != tt.status || got != tt.code {
			t.Errorf("%s: got %d %s, want %d %s", tt.name, status, body, tt.status, tt.code)
		}
	}
	if n := org.Count("Account"); n != 2 {
		t.Errorf("refused calls left %d accounts, want 2", n)
	}
	_, body := c.do("POST", "/sobjects/Account", `{"Name":"x","Ext__c":"Taken"}`)
	want := `[{"message":"duplicate value found: Ext__c duplicates value on record with id: ` + id.Short() + `","errorCode":"DUPLICATE_VALUE","fields":[]}]`
	if body != want {
		t.Errorf("duplicate\n got %s\nwant %s", body, want)
	}
	status, body := c.do("PATCH", "/sobjects/Account/Legacy_Id__c/twin", `{"Name":"x"}`)
	var urls []string
	c.decode(body, &urls)
	if status != 300 || len(urls) != 2 || !strings.HasPrefix(urls[0], "/services/data/v66.0/sobjects/Account/001") {
		t.Errorf("upsert by a shared external id: %d %s", status, body)
	}
	if status, body := c.do("POST", "/sobjects/Account", `{"Name":"x"}`, "Content-Type", "text/csv"); status != 415 || c.code(body) != "UNSUPPORTED_MEDIA_TYPE" {
		t.Errorf("CSV: %d %s", status, body)
	}
}

func TestCollections(t *testing.T) {
	t.Parallel()
	org, c := setup(t)
	type rec = map[string]any
	a := org.Insert("Account", sftest.Record{"Name": "A", "Ext__c": "a"})
	b := org.Insert("Account", sftest.Record{"Name": "B", "Ext__c": "b", "Legacy_Id__c": "twin"})
	org.Insert("Account", sftest.Record{"Name": "C", "Legacy_Id__c": "twin"})
	tests := []struct {
		name, method, path, body string
		want                     []string
	}{
		{"insert", "POST", "", records(false, "Account", rec{"Name": "1"}, rec{"Phone": "2"}, rec{"Name": "3", "Nope": 1}, rec{"Name": "4", "Ext__c": "A"}),
			[]string{"ok", "REQUIRED_FIELD_MISSING", "INVALID_FIELD", "DUPLICATE_VALUE"}},
		{"insert the same key twice", "POST", "", records(false, "Account", rec{"Name": "1", "Ext__c": "n"}, rec{"Name": "2", "Ext__c": "N"}),
			[]string{"ok", "DUPLICATE_VALUE"}},
		{"insert all or none", "POST", "", records(true, "Account", rec{"Name": "1"}, rec{"Phone": "2"}),
			[]string{"ALL_OR_NONE_OPERATION_ROLLED_BACK", "REQUIRED_FIELD_MISSING"}},
		{"update", "PATCH", "", records(false, "Account", rec{"Id": a, "Phone": "9"}, rec{"Phone": "9"}, rec{"id": "001000000000001AAA", "Phone": "9"}, rec{"Id": "zz", "Phone": "9"}),
			[]string{"ok", "MISSING_ARGUMENT", "INVALID_CROSS_REFERENCE_KEY", "MALFORMED_ID"}},
		{"update one twice", "PATCH", "", records(false, "Account", rec{"Id": a, "Phone": "7"}, rec{"Id": b, "Phone": "7"}, rec{"Id": a.Short(), "Phone": "8"}),
			[]string{"DUPLICATE_VALUE", "ok", "DUPLICATE_VALUE"}},
		{"update all or none", "PATCH", "", records(true, "Account", rec{"Id": a, "Phone": "6"}, rec{"Id": b, "Name": nil}),
			[]string{"ALL_OR_NONE_OPERATION_ROLLED_BACK", "REQUIRED_FIELD_MISSING"}},
		{"upsert", "PATCH", "/Account/Ext__c", records(false, "Account", rec{"Ext__c": "a", "Name": "A2"}, rec{"Ext__c": "new", "Name": "N"}, rec{"Name": "no key"}, rec{"Ext__c": "", "Name": "empty key"}),
			[]string{"updated", "created", "MISSING_ARGUMENT", "MISSING_ARGUMENT"}},
		{"upsert one twice", "PATCH", "/Account/Ext__c", records(false, "Account", rec{"Ext__c": "x", "Name": "1"}, rec{"Ext__c": "X", "Name": "2"}, rec{"Ext__c": "y", "Name": "3"}),
			[]string{"DUPLICATE_EXTERNAL_ID", "DUPLICATE_EXTERNAL_ID", "created"}},
		{"upsert keeps case where the field does", "PATCH", "/Account/Ext_Id__c", records(false, "Account", rec{"Ext_Id__c": "q", "Name": "1"}, rec{"Ext_Id__c": "Q", "Name": "2"}),
			[]string{"created", "created"}},
		{"upsert by a shared external id", "PATCH", "/Account/Legacy_Id__c", records(false, "Account", rec{"Legacy_Id__c": "twin", "Name": "1"}, rec{"Legacy_Id__c": "one", "Name": "1"}),
			[]string{"DUPLICATE_EXTERNAL_ID", "created"}},
		{"upsert by id", "PATCH", "/Account/Id", records(false, "Account", rec{"Id": a, "Name": "A3"}, rec{"Name": "fresh"}),
			[]string{"updated", "created"}},
		{"upsert with a lookup", "PATCH", "/Contact/Ext__c", records(false, "Contact", rec{"Ext__c": "p", "LastName": "P", "Account": rec{"Ext__c": "a"}}),
			[]string{"created"}},
		{"delete", "DELETE", "?ids=" + string(b) + ",001000000000001AAA," + string(a) + "&allOrNone=false", "",
			[]string{"ok", "INVALID_CROSS_REFERENCE_KEY", "ok"}},
		{"delete again", "DELETE", "?ids=" + string(b), "", []string{"ENTITY_IS_DELETED"}},
	}
	for _, tt := range tests {
		status, body := c.do(tt.method, "/composite/sobjects"+tt.path, tt.body)
		if status != 200 {
			t.Errorf("%s: %d %s", tt.name, status, body)
			continue
		}
		if diff := cmp.Diff(tt.want, c.outcome(body)); diff != "" {
			t.Errorf("%s (-want +got):\n%s\n%s", tt.name, diff, body)
		}
	}
	row, _ := org.Row("Account", a)
	if got := fmt.Sprint(row.Fields["Name"], row.Fields["Phone"], row.Deleted); got != "A39true" {
		t.Errorf("account A = %s, want name A3, phone 9, deleted", got)
	}
	if got := c.query("SELECT Account.Name FROM Contact WHERE Ext__c = 'p'"); got[0]["Account"].(map[string]any)["Name"] != "A3" {
		t.Errorf("lookup led to %v", got[0]["Account"])
	}
}

func TestRefusedCollections(t *testing.T) {
	t.Parallel()
	org, c := setup(t)
	many := make([]map[string]any, 201)
	for i := range many {
		many[i] = map[string]any{"Name": fmt.Sprint(i)}
	}
	tests := []struct {
		name, method, path, body string
		status                   int
		code                     string
	}{
		{"201 records", "POST", "", records(false, "Account", many...), 400, "EXCEEDED_ID_LIMIT"},
		{"201 ids", "DELETE", "?ids=" + strings.Repeat("001000000000001,", 200) + "001000000000001", "", 400, "EXCEEDED_ID_LIMIT"},
		{"no records", "POST", "", `{"records":[]}`, 400, "MISSING_ARGUMENT"},
		{"no type", "POST", "", `{"records":[{"Name":"x"}]}`, 400, "INVALID_INPUT"},
		{"wrong JSON type spoils the whole call", "POST", "", records(false, "Account", map[string]any{"Name": "fine"}, map[string]any{"Name": 5}), 400, "JSON_PARSER_ERROR"},
		{"upsert of another type", "PATCH", "/Account/Ext__c", records(false, "Contact", map[string]any{"Ext__c": "x"}), 400, "INVALID_INPUT"},
		{"upsert by no external id", "PATCH", "/Account/Phone", records(false, "Account", map[string]any{"Phone": "x"}), 404, "NOT_FOUND"},
		{"unknown object", "PATCH", "/Nope/Ext__c", records(false, "Nope", map[string]any{"Ext__c": "x"}), 404, "NOT_FOUND"},
		{"malformed id", "DELETE", "?ids=zz", "", 400, "MALFORMED_ID"},
		{"wrong method", "PUT", "", "{}", 405, "METHOD_NOT_ALLOWED"},
		{"wrong method for upsert", "POST", "/Account/Ext__c", "{}", 405, "METHOD_NOT_ALLOWED"},
	}
	for _, tt := range tests {
		status, body := c.do(tt.method, "/composite/sobjects"+tt.path, tt.body)
		if got := c.code(body); status != tt.status || got != tt.code {
			t.Errorf("%s: got %d %s, want %d %s", tt.name, status, body, tt.status, tt.code)
		}
	}
	if n := org.Count("Account"); n != 0 {
		t.Errorf("refused calls left %d accounts", n)
	}
}

func TestRetrieveCollection(t *testing.T) {
	t.Parallel()
	org, c := setup(t)
	id := org.Insert("Account", sftest.Record{"Name": "A"})
	want := `[{"attributes":{"type":"Account","url":"/services/data/v66.0/sobjects/Account/` + string(id) + `"},"Name":"A"},null]`
	_, body := c.do("POST", "/composite/sobjects/Account", `{"ids":["`+string(id)+`","001000000000001AAA"],"fields":["Name"]}`)
	if body != want {
		t.Errorf("got %s\nwant %s", body, want)
	}
	if _, body = c.do("GET", "/composite/sobjects/Account?ids="+string(id)+",001000000000001AAA&fields=Name", ""); body != want {
		t.Errorf("got %s\nwant %s", body, want)
	}
}

func TestCompositeAndBatch(t *testing.T) {
	t.Parallel()
	org, c := setup(t)
	_, body := c.do("POST", "/composite", `{"compositeRequest":[
		{"method":"POST","url":"/services/data/v66.0/sobjects/Account","referenceId":"acc","body":{"Name":"A"}},
		{"method":"POST","url":"/services/data/v66.0/sobjects/Contact","referenceId":"con","body":{"LastName":"L","AccountId":"@{acc.id}"}},
		{"method":"GET","url":"/services/data/v66.0/query?q=`+url.QueryEscape("SELECT Account.Name FROM Contact")+`","referenceId":"q"},
		{"method":"GET","url":"/services/data/v66.0/sobjects/Account/@{nope.id}","referenceId":"bad"}]}`)
	var comp struct {
		CompositeResponse []struct {
			HTTPStatusCode int             `json:"httpStatusCode"`
			Body           json.RawMessage `json:"body"`
		} `json:"compositeResponse"`
	}
	c.decode(body, &comp)
	var statuses []int
	for _, r := range comp.CompositeResponse {
		statuses = append(statuses, r.HTTPStatusCode)
	}
	if diff := cmp.Diff([]int{201, 201, 200, 400}, statuses); diff != "" {
		t.Errorf("composite (-want +got):\n%s\n%s", diff, body)
	}
	if got := c.code(string(comp.CompositeResponse[3].Body)); got != "PROCESSING_HALTED" {
		t.Errorf("broken reference: %s", got)
	}
	_, body = c.do("POST", "/composite/batch", `{"haltOnError":true,"batchRequests":[
		{"method":"GET","url":"v66.0/limits"},{"method":"GET","url":"v66.0/query?q=SELECT"},{"method":"GET","url":"v66.0/limits"}]}`)
	var batch struct {
		HasErrors bool
		Results   []struct{ StatusCode int }
	}
	c.decode(body, &batch)
	if got := fmt.Sprint(batch.HasErrors, batch.Results); got != "true [{200} {400} {412}]" {
		t.Errorf("batch: %s", got)
	}
	entries := org.Audit()
	if last := entries[len(entries)-2]; last.RowsWritten != 2 || last.RowsRead != 1 {
		t.Errorf("audit of composite: %+v", last)
	}
}
