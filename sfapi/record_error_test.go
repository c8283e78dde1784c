package sfapi_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weirhq/weir/sfapi"
)

func ExampleClassifyRecord() {
	c := sfapi.ClassifyRecord([]sfapi.RecordError{
		sfapi.ParseBulkError("UNABLE_TO_LOCK_ROW:unable to obtain exclusive access to this record:--"),
	})
	fmt.Println(c.Kind, c.Retry)
	// Output: row_lock true
}

func ExampleParseBulkError() {
	e := sfapi.ParseBulkError("REQUIRED_FIELD_MISSING:Required fields are missing: [LastName]:LastName --")
	fmt.Println(e.StatusCode, e.Fields)
	// Output: REQUIRED_FIELD_MISSING [LastName]
}

func TestParseBulkError(t *testing.T) {
	t.Parallel()
	tests := map[string]sfapi.RecordError{
		"":                   {},
		"UNABLE_TO_LOCK_ROW": {StatusCode: "UNABLE_TO_LOCK_ROW"},
		"UNABLE_TO_LOCK_ROW:unable to obtain exclusive access to this record or 1 records: 001xx000003DGb2AAG:--": {
			StatusCode: "UNABLE_TO_LOCK_ROW", Message: "unable to obtain exclusive access to this record or 1 records: 001xx000003DGb2AAG"},
		"STRING_TOO_LONG:First Name: data value too large: x (max length=40):FirstName --": {
			StatusCode: "STRING_TOO_LONG", Message: "First Name: data value too large: x (max length=40)", Fields: []string{"FirstName"}},
		"FIELD_INTEGRITY_EXCEPTION:a:BillingState,BillingCountry --": {
			StatusCode: "FIELD_INTEGRITY_EXCEPTION", Message: "a", Fields: []string{"BillingState", "BillingCountry"}},
		"INVALID_FIELD:Failed to deserialize field at col 3. Due to, 'x' is not a valid value for the type xsd:date:CloseDate --": {
			StatusCode: "INVALID_FIELD", Message: "Failed to deserialize field at col 3. Due to, 'x' is not a valid value for the type xsd:date", Fields: []string{"CloseDate"}},
		"CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY:Trg: execution of AfterInsert\n\ncaused by: \"x\": y:--": {
			StatusCode: "CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY", Message: "Trg: execution of AfterInsert\n\ncaused by: \"x\": y"},
		"something nobody knows: really":                   {Message: "something nobody knows: really"},
		"NEW_CODE:text":                                    {StatusCode: "NEW_CODE", Message: "text"},
		"DUPLICATES_DETECTED:Use one of these records?:--": {StatusCode: "DUPLICATES_DETECTED", Message: "Use one of these records?"},
	}
	for cell, want := range tests {
		if diff := cmp.Diff(want, sfapi.ParseBulkError(cell)); diff != "" {
			t.Errorf("%q: -want +got\n%s", cell, diff)
		}
	}
}

func TestRecordError_JSON(t *testing.T) {
	t.Parallel()
	want := sfapi.RecordError{StatusCode: "X_Y", Message: "m", Fields: []string{"A", "B"}}
	for _, raw := range []string{
		`{"statusCode":"X_Y","message":"m","fields":["A","B"]}`,
		`{"errorCode":"X_Y","message":"m","fields":["A","B"],"extendedErrorDetails":null}`,
		`{"fields":"A, B","message":"m","errorCode":"X_Y"}`,
	} {
		var got sfapi.RecordError
		if err := json.Unmarshal([]byte(raw), &got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: -want +got\n%s", raw, diff)
		}
	}
	var got sfapi.RecordError
	if err := json.Unmarshal([]byte(`{"statusCode":"X_Y","message":"m","fields":[]}`), &got); err != nil || got.Fields != nil {
		t.Errorf("empty fields: %v, %v", got.Fields, err)
	}
}

func TestClassifyRecord(t *testing.T) {
	t.Parallel()
	rec := func(code, message string, fields ...string) sfapi.RecordError {
		return sfapi.RecordError{StatusCode: code, Message: message, Fields: fields}
	}
	tests := map[string]struct {
		errs []sfapi.RecordError
		want sfapi.RecordClassification
	}{
		"none": {},
		"missing fields": {
			[]sfapi.RecordError{rec("REQUIRED_FIELD_MISSING", "Required fields are missing: [A, B]", "A", "B"), rec("STRING_TOO_LONG", "C: too long", "C", "A")},
			sfapi.RecordClassification{Kind: sfapi.KindValidation, Scope: sfapi.ScopeRecord, Code: "REQUIRED_FIELD_MISSING", Message: "Required fields are missing: [A, B]", Fields: []string{"A", "B", "C"}},
		},
		"lock": {
			[]sfapi.RecordError{rec("UNABLE_TO_LOCK_ROW", "unable")},
			sfapi.RecordClassification{Kind: sfapi.KindRowLock, Scope: sfapi.ScopeRecord, Retry: true, Code: "UNABLE_TO_LOCK_ROW", Message: "unable"},
		},
		"lock in a trigger": {
			[]sfapi.RecordError{rec("CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY", "first error: UNABLE_TO_LOCK_ROW, unable")},
			sfapi.RecordClassification{Kind: sfapi.KindRowLock, Scope: sfapi.ScopeRecord, Retry: true, Code: "CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY", Message: "first error: UNABLE_TO_LOCK_ROW, unable"},
		},
		"a fault of the data beats a lock": {
			[]sfapi.RecordError{rec("UNABLE_TO_LOCK_ROW", "unable", "X"), rec("STRING_TOO_LONG", "long", "A")},
			sfapi.RecordClassification{Kind: sfapi.KindValidation, Scope: sfapi.ScopeRecord, Code: "STRING_TOO_LONG", Message: "long", Fields: []string{"A"}},
		},
		"maintenance": {
			[]sfapi.RecordError{rec("INSERT_UPDATE_DELETE_NOT_ALLOWED_DURING_MAINTENANCE", "m")},
			sfapi.RecordClassification{Kind: sfapi.KindMaintenance, Scope: sfapi.ScopeOrg, Retry: true, Code: "INSERT_UPDATE_DELETE_NOT_ALLOWED_DURING_MAINTENANCE", Message: "m"},
		},
		"rolled back with another": {
			[]sfapi.RecordError{rec("ALL_OR_NONE_OPERATION_ROLLED_BACK", "rolled back")},
			sfapi.RecordClassification{Kind: sfapi.KindUnknown, Scope: sfapi.ScopeRequest, Retry: true, Collateral: true, Code: "ALL_OR_NONE_OPERATION_ROLLED_BACK", Message: "rolled back"},
		},
		"collateral and cause": {
			[]sfapi.RecordError{rec("PROCESSING_HALTED", "halted"), rec("DUPLICATE_VALUE", "dup", "Ext__c")},
			sfapi.RecordClassification{Kind: sfapi.KindDuplicate, Scope: sfapi.ScopeRecord, Code: "DUPLICATE_VALUE", Message: "dup", Fields: []string{"Ext__c"}},
		},
		"storage": {
			[]sfapi.RecordError{rec("STORAGE_LIMIT_EXCEEDED", "storage limit exceeded")},
			sfapi.RecordClassification{Kind: sfapi.KindStorageLimit, Scope: sfapi.ScopeOrg, Code: "STORAGE_LIMIT_EXCEEDED", Message: "storage limit exceeded"},
		},
		"nobody knows": {
			[]sfapi.RecordError{rec("NEW_CODE", "x")},
			sfapi.RecordClassification{Kind: sfapi.KindUnknown, Scope: sfapi.ScopeRequest, Code: "NEW_CODE", Message: "x"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(tt.want, sfapi.ClassifyRecord(tt.errs)); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
			reversed := slices.Clone(tt.errs)
			slices.Reverse(reversed)
			if got := sfapi.ClassifyRecord(reversed); got.Kind != tt.want.Kind || got.Retry != tt.want.Retry {
				t.Errorf("in another order: got %v %v", got.Kind, got.Retry)
			}
		})
	}
}

// TestClassifyRecord_AgreesWithClassify checks that a row's cell and the file
// that holds it alone mean the same.
func TestClassifyRecord_AgreesWithClassify(t *testing.T) {
	t.Parallel()
	n := 0
	for _, l := range append(readLines(t, "corpus/errors.dev.jsonl"), readLines(t, "bodies.jsonl")...) {
		_, cell, ok := strings.Cut(l.Body, `"sf__Error"`)
		if !ok || l.Class == "ok" {
			continue
		}
		_, cell, _ = strings.Cut(cell, "\n")
		_, cell, _ = strings.Cut(cell, `",`)
		cell = strings.ReplaceAll(strings.Trim(cell, `"`), `""`, `"`)
		cell, _, _ = strings.Cut(cell, `","`)
		n++
		want := sfapi.Classify(l.response(t))
		if got := sfapi.ClassifyRecord([]sfapi.RecordError{sfapi.ParseBulkError(cell)}); got.Kind != want.Kind {
			t.Errorf("%s: row %v, file %v", l.ID, got.Kind, want.Kind)
		}
	}
	if n < 8 {
		t.Errorf("%d cells were compared", n)
	}
}

func FuzzClassifyRecord(f *testing.F) {
	f.Add("UNABLE_TO_LOCK_ROW:unable to obtain exclusive access:--", "REQUIRED_FIELD_MISSING", "Required fields are missing: [A]")
	f.Add("INVALID_FIELD:Failed to deserialize field at col 3. Due to, 'x' is not a valid value for the type xsd:date:CloseDate --", "ALL_OR_NONE_OPERATION_ROLLED_BACK", "x")
	f.Add("CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY:a\n\"b\":c --", "", "")
	f.Add("", "sf:X", "UNKNOWN_EXCEPTION: STORAGE_LIMIT_EXCEEDED")
	f.Fuzz(func(t *testing.T, cell, code, message string) {
		errs := []sfapi.RecordError{sfapi.ParseBulkError(cell), {StatusCode: code, Message: message, Fields: []string{"A", "A"}}}
		got := sfapi.ClassifyRecord(errs)
		if got.Kind == sfapi.KindNone || strings.HasPrefix(got.Kind.String(), "Kind(") {
			t.Fatalf("no answer for %q", errs)
		}
		slices.Reverse(errs)
		if again := sfapi.ClassifyRecord(errs); again.Kind != got.Kind || again.Retry != got.Retry || again.Scope != got.Scope {
			t.Fatalf("%q: %+v, in another order %+v", errs, got, again)
		}
		if n := allocated(func() { sfapi.ClassifyRecord(errs) }); n > allocationLimit(len(cell)+len(code)+len(message)) {
			t.Fatalf("%d bytes allocated", n)
		}
	})
}
