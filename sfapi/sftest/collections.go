package sftest

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// maxCollection is the number of records in one collections call. See
// https://developer.salesforce.com/docs/atlas.en-us.api_rest.meta/api_rest/resources_composite_sobjects_collections.htm.
const maxCollection = 200

// saved is one record's outcome in a collections answer. Its failures carry
// statusCode, not errorCode.
type saved struct {
	ID      string       `json:"id,omitempty"`
	Success bool         `json:"success"`
	Errors  []savedError `json:"errors"`
	Created *bool        `json:"created,omitempty"`
}

type savedError struct {
	Code    string   `json:"statusCode"`
	Message string   `json:"message"`
	Fields  []string `json:"fields"`
}

// collections answers /composite/sobjects.
func (x *exchange) collections(parts []string) *Reply {
	x.entry.Operation = OpCollections
	switch {
	case len(parts) == 0 && x.method == http.MethodDelete:
		return x.deleteCollection()
	case len(parts) == 0 && x.method == http.MethodPost:
		return x.saveCollection(OpCreate, "", "")
	case len(parts) == 0 && x.method == http.MethodPatch:
		return x.saveCollection(OpUpdate, "", "")
	case len(parts) == 0:
		return methodNotAllowed(x.method, "POST", "PATCH", "DELETE")
	case len(parts) == 1:
		return x.readCollection(parts[0])
	case len(parts) == 2 && x.method == http.MethodPatch:
		return x.saveCollection(OpUpsert, parts[0], parts[1])
	case len(parts) == 2:
		return methodNotAllowed(x.method, "PATCH")
	}
	return notFound()
}

func tooMany() *Reply {
	return fail(400, "EXCEEDED_ID_LIMIT", fmt.Sprintf("record limit reached. cannot submit more than %d records into this call", maxCollection))
}

// saveCollection creates, updates or upserts up to 200 records.
func (x *exchange) saveCollection(op Operation, object, extField string) *Reply {
	if bad := x.needJSON(); bad != nil {
		return bad
	}
	var body struct {
		AllOrNone *bool            `json:"allOrNone"`
		Records   []map[string]any `json:"records"`
	}
	if bad := decodeBody(x.body, &body); bad != nil {
		return bad
	}
	switch {
	case len(body.Records) == 0:
		return fail(400, "MISSING_ARGUMENT", "records must be specified")
	case len(body.Records) > maxCollection:
		return tooMany()
	}
	ops := make([]*writeOp, len(body.Records))
	types := 1
	for i, rec := range body.Records {
		w := &writeOp{op: op, fields: map[string]any{}, collection: true, extField: extField}
		attributes, _ := rec["attributes"].(map[string]any)
		w.object, _ = attributes["type"].(string)
		if w.object == "" {
			return fail(400, "INVALID_INPUT", fmt.Sprintf("Record %d has no attributes.type", i))
		}
		if object != "" && !strings.EqualFold(w.object, object) {
			return fail(400, "INVALID_INPUT", fmt.Sprintf("Record %d is of type %s, not %s", i, clip(w.object, 80), object))
		}
		for k, v := range rec {
			switch {
			case k == "attributes":
			case strings.EqualFold(k, "Id") && op != OpCreate && !strings.EqualFold(extField, "Id"):
				w.id, _ = v.(string)
			case extField != "" && strings.EqualFold(k, extField):
				w.extValue = v
			default:
				w.fields[k] = v
			}
		}
		if i > 0 && !strings.EqualFold(ops[i-1].object, w.object) {
			types++
		}
		ops[i] = w
	}
	if types > 10 {
		return fail(400, "EXCEEDED_ID_LIMIT", "record limit reached. cannot have more than 10 chunks of different object types in one call")
	}
	if op == OpUpsert {
		t := x.tableOf(object)
		if t == nil {
			return notFound()
		}
		if t.externalField(extField) == nil {
			return fail(404, "NOT_FOUND", "Provided external ID field does not exist or is not accessible: "+clip(extField, 80))
		}
	}
	return x.applyAll(ops, body.AllOrNone != nil && *body.AllOrNone)
}

// applyAll makes the changes of one call in order.
func (x *exchange) applyAll(ops []*writeOp, allOrNone bool) *Reply {
	o := x.org
	o.mu.Lock()
	defer o.mu.Unlock()
	x.entry.RowsTried += len(ops)
	tx := &transaction{org: o, user: x.user.ID}
	twice := o.doubles(ops)
	out := make([]saved, len(ops))
	failed := false
	for i, w := range ops {
		bad := twice[i]
		var res writeResult
		if bad == nil {
			bad = w.needKey()
		}
		if bad == nil {
			res, bad = tx.apply(w)
		}
		if bad != nil && bad.whole {
			tx.rollback()
			return failRow(bad)
		}
		if bad != nil {
			failed = true
			out[i] = saved{Errors: []savedError{{bad.code, bad.message, slices.Clip(append([]string{}, bad.fields...))}}}
			if w.op == OpDelete {
				out[i].ID = w.id
			}
			continue
		}
		out[i] = saved{ID: string(res.id), Success: true, Errors: []savedError{}}
		if w.op == OpUpsert {
			out[i].Created = &res.created
		}
	}
	if failed && allOrNone {
		tx.rollback()
		for i := range out {
			if out[i].Success {
				out[i] = saved{Errors: []savedError{{"ALL_OR_NONE_OPERATION_ROLLED_BACK",
					"Record rolled back because not all records were valid and the request was using AllOrNone header", []string{}}}}
			}
		}
	}
	x.entry.RowsWritten += tx.commit()
	r := jsonReply(200, out)
	for _, s := range out {
		for _, e := range s.Errors {
			if !slices.Contains(r.codes, e.Code) {
				r.codes = append(r.codes, e.Code)
			}
		}
	}
	return r
}

// needKey refuses records that do not say which one they are.
func (w *writeOp) needKey() *rowError {
	switch {
	case w.op == OpUpdate && w.id == "":
		return fieldError("MISSING_ARGUMENT", "Id not specified in an update call")
	case w.op == OpUpsert && (w.extValue == nil || w.extValue == "") && !strings.EqualFold(w.extField, "Id"):
		return fieldError("MISSING_ARGUMENT", w.extField+" not specified")
	case w.op == OpUpsert && w.id != "":
		return fieldError("INVALID_FIELD", "The Id field should not be specified in the sobject data.", "Id")
	}
	return nil
}

// doubles finds records that appear more than once in one call; each of them
// fails.
func (o *Org) doubles(ops []*writeOp) []*rowError {
	keys := make([]string, len(ops))
	count := map[string]int{}
	for i, w := range ops {
		switch w.op {
		case OpUpsert:
			if w.extValue == nil {
				continue
			}
			keys[i] = strings.ToLower(fmt.Sprint(w.extValue))
			if t := o.tables[strings.ToLower(w.object)]; t != nil {
				if f := t.externalField(w.extField); f != nil && f.CaseSensitive {
					keys[i] = fmt.Sprint(w.extValue)
				}
			}
		case OpUpdate, OpDelete:
			id, ok := parseID(w.id)
			if !ok {
				continue
			}
			keys[i] = string(id)
		}
		if keys[i] != "" {
			count[keys[i]]++
		}
	}
	out := make([]*rowError, len(ops))
	for i, w := range ops {
		if count[keys[i]] < 2 {
			continue
		}
		if w.op == OpUpsert {
			out[i] = fieldError("DUPLICATE_EXTERNAL_ID", fmt.Sprintf("Duplicate external id specified: %v", w.extValue), w.extField)
		} else {
			out[i] = fieldError("DUPLICATE_VALUE", "duplicate id in list: "+keys[i], "Id")
		}
	}
	return out
}

// deleteCollection deletes the records of ?ids=.
func (x *exchange) deleteCollection() *Reply {
	list := x.query.Get("ids")
	if list == "" {
		return fail(400, "MISSING_ARGUMENT", "ids must be specified")
	}
	ids := strings.Split(list, ",")
	if len(ids) > maxCollection {
		return tooMany()
	}
	ops := make([]*writeOp, len(ids))
	o := x.org
	o.mu.Lock()
	prefixes := map[string]string{}
	for _, t := range o.tables {
		prefixes[t.def.KeyPrefix] = t.def.Name
	}
	o.mu.Unlock()
	for i, id := range ids {
		id = strings.TrimSpace(id)
		ops[i] = &writeOp{op: OpDelete, id: id, collection: true}
		if _, ok := parseID(id); !ok {
			return fail(400, "MALFORMED_ID", "malformed id "+clip(id, 60))
		}
		if ops[i].object = prefixes[id[:3]]; ops[i].object == "" {
			return fail(400, "INVALID_ID_FIELD", "no object with the key prefix of id "+id)
		}
	}
	return x.applyAll(ops, strings.EqualFold(x.query.Get("allOrNone"), "true"))
}

// readCollection retrieves records by id; those that do not exist are null.
func (x *exchange) readCollection(object string) *Reply {
	var body struct {
		IDs    []string `json:"ids"`
		Fields []string `json:"fields"`
	}
	limit := 2000
	switch x.method {
	case http.MethodGet:
		limit = 800
		body.IDs = strings.Split(x.query.Get("ids"), ",")
		body.Fields = strings.Split(x.query.Get("fields"), ",")
	case http.MethodPost:
		if bad := x.needJSON(); bad != nil {
			return bad
		}
		if bad := decodeBody(x.body, &body); bad != nil {
			return bad
		}
	default:
		return methodNotAllowed(x.method, "GET", "POST")
	}
	x.entry.Operation = OpRead
	t := x.tableOf(object)
	switch {
	case t == nil:
		return notFound()
	case len(body.IDs) == 0 || len(body.Fields) == 0:
		return fail(400, "MISSING_ARGUMENT", "ids and fields must be specified")
	case len(body.IDs) > limit:
		return fail(400, "EXCEEDED_ID_LIMIT", fmt.Sprintf("record limit reached. cannot submit more than %d ids into this call", limit))
	}
	o := x.org
	o.mu.Lock()
	defer o.mu.Unlock()
	p := &plan{org: o, table: t, object: t.def.Name}
	q := &soqlQuery{}
	for _, f := range body.Fields {
		q.selects = append(q.selects, selectItem{path: strings.TrimSpace(f)})
	}
	if bad := p.selectFields(q); bad != nil {
		return fail(400, bad.code, bad.message)
	}
	b := []byte{'['}
	for i, s := range body.IDs {
		if i > 0 {
			b = append(b, ',')
		}
		id, ok := parseID(s)
		if !ok {
			return fail(400, "MALFORMED_ID", "malformed id "+clip(s, 60))
		}
		if r := t.visible(string(id)); r != nil && !r.deleted {
			b = p.appendRow(b, rowPrefix(x.version, t.def.Name), r)
			x.entry.RowsRead++
		} else {
			b = append(b, "null"...)
		}
	}
	return newReply(200, jsonType, append(b, ']'))
}
