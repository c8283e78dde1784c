package sftest

import (
	"encoding/base64"
	"maps"
	"net/http"
	"slices"
	"time"
)

// describeField is one field of describe. See
// https://developer.salesforce.com/docs/atlas.en-us.api_rest.meta/api_rest/resources_sobject_describe.htm.
type describeField struct {
	Name               string         `json:"name"`
	Label              string         `json:"label"`
	Type               FieldType      `json:"type"`
	SOAPType           string         `json:"soapType"`
	Length             int            `json:"length"`
	ByteLength         int            `json:"byteLength"`
	Digits             int            `json:"digits"`
	Precision          int            `json:"precision"`
	Scale              int            `json:"scale"`
	Nillable           bool           `json:"nillable"`
	Createable         bool           `json:"createable"`
	Updateable         bool           `json:"updateable"`
	DefaultedOnCreate  bool           `json:"defaultedOnCreate"`
	DefaultValue       any            `json:"defaultValue"`
	Custom             bool           `json:"custom"`
	Calculated         bool           `json:"calculated"`
	AutoNumber         bool           `json:"autoNumber"`
	CaseSensitive      bool           `json:"caseSensitive"`
	Unique             bool           `json:"unique"`
	ExternalID         bool           `json:"externalId"`
	IDLookup           bool           `json:"idLookup"`
	Filterable         bool           `json:"filterable"`
	Sortable           bool           `json:"sortable"`
	Groupable          bool           `json:"groupable"`
	NameField          bool           `json:"nameField"`
	CompoundFieldName  *string        `json:"compoundFieldName"`
	ReferenceTo        []string       `json:"referenceTo"`
	RelationshipName   *string        `json:"relationshipName"`
	RestrictedPicklist bool           `json:"restrictedPicklist"`
	PicklistValues     []describePick `json:"picklistValues"`
	DeprecatedHidden   bool           `json:"deprecatedAndHidden"`
	Permissionable     bool           `json:"permissionable"`
	InlineHelpText     *string        `json:"inlineHelpText"`
}

type describePick struct {
	Active       bool   `json:"active"`
	DefaultValue bool   `json:"defaultValue"`
	Label        string `json:"label"`
	Value        string `json:"value"`
}

var soapTypes = map[FieldType]string{TypeID: "tns:ID", TypeReference: "tns:ID", TypeBoolean: "xsd:boolean", TypeInt: "xsd:int",
	TypeDouble: "xsd:double", TypeCurrency: "xsd:double", TypePercent: "xsd:double", TypeDate: "xsd:date",
	TypeDateTime: "xsd:dateTime", TypeAddress: "urn:address", TypeBase64: "xsd:base64Binary"}

func (f *Field) describe() describeField {
	d := describeField{
		Name: f.Name, Label: f.Label, Type: f.Type, SOAPType: soapTypes[f.Type],
		Length: f.Length, ByteLength: f.Length * 3, Nillable: !f.Required && f.Type != TypeBoolean && !f.system(),
		Createable: !f.ReadOnly, Updateable: !f.ReadOnly && !f.CreateOnly,
		DefaultedOnCreate: f.Default != nil || f.Type == TypeBoolean || f.system() || f.Name == "OwnerId",
		DefaultValue:      f.Default, Custom: f.custom(), CaseSensitive: f.CaseSensitive, Unique: f.Unique,
		ExternalID: f.ExternalID, IDLookup: f.ExternalID || f.Type == TypeID, Filterable: f.filterable(),
		Sortable: f.filterable(), Groupable: f.filterable() && f.Type != TypeDateTime && !f.number(),
		NameField: f.Name == "Name", ReferenceTo: []string{}, PicklistValues: []describePick{},
		RestrictedPicklist: f.Restricted, Permissionable: !f.Required && !f.system(),
	}
	if d.SOAPType == "" {
		d.SOAPType = "xsd:string"
	}
	if f.Type == TypeInt {
		d.Digits = f.Precision
	} else if f.number() {
		d.Precision, d.Scale = f.Precision, f.Scale
	}
	if f.compound != "" {
		d.CompoundFieldName = &f.compound
	}
	if f.Type == TypeReference {
		d.ReferenceTo = []string{f.ReferenceTo}
		d.RelationshipName = &f.Relationship
	}
	for _, v := range f.Picklist {
		d.PicklistValues = append(d.PicklistValues, describePick{true, false, v, v})
	}
	return d
}

// system reports whether Salesforce keeps the field itself.
func (f *Field) system() bool {
	switch f.Name {
	case "Id", "IsDeleted", "CreatedDate", "CreatedById", "LastModifiedDate", "LastModifiedById", "SystemModstamp":
		return true
	}
	return false
}

// briefOf is what describe says about an object as a whole.
func (x *exchange) briefOf(t *table) map[string]any {
	url := "/services/data/" + x.version + "/sobjects/" + t.def.Name
	return map[string]any{
		"name": t.def.Name, "label": t.def.Label, "labelPlural": t.def.Label + "s", "keyPrefix": t.def.KeyPrefix,
		"custom": len(t.def.Name) > 3 && t.def.Name[len(t.def.Name)-3:] == "__c", "customSetting": false,
		"createable": !t.def.ReadOnly, "updateable": !t.def.ReadOnly, "deletable": !t.def.ReadOnly,
		"undeletable": !t.def.ReadOnly, "queryable": true, "retrieveable": true, "replicateable": !t.def.NoIsDeleted,
		"searchable": true, "layoutable": true, "triggerable": true, "deprecatedAndHidden": false, "mergeable": false,
		"urls": map[string]string{"sobject": url, "describe": url + "/describe", "rowTemplate": url + "/{ID}"},
	}
}

// describe answers /sobjects/X/describe.
func (x *exchange) describe(t *table) *Reply {
	x.entry.Operation = OpDescribe
	if x.method != http.MethodGet && x.method != http.MethodHead {
		return methodNotAllowed(x.method, "HEAD", "GET")
	}
	x.org.mu.Lock()
	defer x.org.mu.Unlock()
	body := x.briefOf(t)
	fields := make([]describeField, len(t.def.Fields))
	for i := range t.def.Fields {
		fields[i] = t.def.Fields[i].describe()
	}
	body["fields"] = fields
	body["childRelationships"] = []any{}
	body["recordTypeInfos"] = []any{}
	body["supportedScopes"] = []any{}
	return jsonReply(200, body)
}

// describeGlobal answers /sobjects.
func (x *exchange) describeGlobal() *Reply {
	x.entry.Operation = OpDescribe
	if x.method != http.MethodGet && x.method != http.MethodHead {
		return methodNotAllowed(x.method, "HEAD", "GET")
	}
	x.org.mu.Lock()
	defer x.org.mu.Unlock()
	var list []any
	for _, name := range slices.Sorted(maps.Keys(x.org.tables)) {
		list = append(list, x.briefOf(x.org.tables[name]))
	}
	return jsonReply(200, map[string]any{"encoding": "UTF-8", "maxBatchSize": 200, "sobjects": list})
}

// window reads the start and end of getDeleted and getUpdated, which count in
// minutes and span at most 30 days.
func (x *exchange) window() (from, to time.Time, bad *Reply) {
	if x.method != http.MethodGet {
		return from, to, methodNotAllowed(x.method, "GET")
	}
	from, ok := parseDateTime(x.query.Get("start"))
	to, ok2 := parseDateTime(x.query.Get("end"))
	if !ok || !ok2 {
		return from, to, fail(400, "MALFORMED_QUERY", "start and end must be dateTime values")
	}
	from, to = from.UTC().Truncate(time.Minute), to.UTC().Truncate(time.Minute)
	now := time.Now().UTC()
	switch {
	case !from.Before(to):
		return from, to, fail(400, "INVALID_REPLICATION_DATE", "endDate must be at least one minute greater than startDate")
	case from.After(now):
		return from, to, fail(400, "INVALID_REPLICATION_DATE", "startDate cannot be in the future")
	case now.Sub(from) > 30*24*time.Hour:
		return from, to, fail(400, "INVALID_REPLICATION_DATE", "startDate cannot be more than 30 days ago")
	}
	return from, to, nil
}

func restTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000+0000") }

// getDeleted lists deleted records, hard-deleted ones included.
func (x *exchange) getDeleted(t *table) *Reply {
	x.entry.Operation = OpDeleted
	from, to, bad := x.window()
	if bad != nil {
		return bad
	}
	type gone struct {
		ID   string `json:"id"`
		Date string `json:"deletedDate"`
	}
	list := []gone{}
	x.org.mu.Lock()
	defer x.org.mu.Unlock()
	in := func(at time.Time) bool { return !at.Before(from) && at.Before(to) }
	for _, r := range t.ordered() {
		if r.deleted && !r.hidden && in(r.stamp) {
			list = append(list, gone{r.id, restTime(r.stamp)})
		}
	}
	for _, p := range t.purged {
		if in(p.at) {
			list = append(list, gone{p.id, restTime(p.at)})
		}
	}
	x.entry.RowsRead = len(list)
	return jsonReply(200, map[string]any{"deletedRecords": list, "latestDateCovered": restTime(covered(to)),
		"earliestDateAvailable": restTime(time.Now().Add(-30 * 24 * time.Hour).Truncate(time.Minute))})
}

// covered is the end of what an answer can promise to be complete.
func covered(to time.Time) time.Time {
	if now := time.Now().Truncate(time.Minute); to.After(now) {
		return now
	}
	return to
}

// getUpdated lists the ids of changed records.
func (x *exchange) getUpdated(t *table) *Reply {
	x.entry.Operation = OpUpdated
	from, to, bad := x.window()
	if bad != nil {
		return bad
	}
	ids := []string{}
	x.org.mu.Lock()
	defer x.org.mu.Unlock()
	for _, r := range t.ordered() {
		if !r.deleted && !r.hidden && !r.stamp.Before(from) && r.stamp.Before(to) {
			ids = append(ids, r.id)
		}
	}
	x.entry.RowsRead = len(ids)
	return jsonReply(200, map[string]any{"ids": ids, "latestDateCovered": restTime(covered(to))})
}

// blob answers a base64 field's bytes.
func (x *exchange) blob(t *table, id, field string) *Reply {
	x.entry.Operation = OpRead
	if x.method != http.MethodGet {
		return methodNotAllowed(x.method, "GET")
	}
	x.org.mu.Lock()
	defer x.org.mu.Unlock()
	full, _ := parseID(id)
	r := t.visible(string(full))
	if r == nil || r.deleted {
		return notFound()
	}
	s, ok := r.vals[t.def.field(field).index].(string)
	if !ok {
		return notFound()
	}
	raw, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		return notFound()
	}
	return newReply(200, "application/octet-stream", raw)
}
