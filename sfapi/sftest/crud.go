package sftest

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// needJSON refuses bodies of other types.
func (x *exchange) needJSON() *Reply {
	ct, params, _ := strings.Cut(x.header.Get("Content-Type"), ";")
	if !strings.EqualFold(strings.TrimSpace(ct), "application/json") {
		return fail(http.StatusUnsupportedMediaType, "UNSUPPORTED_MEDIA_TYPE", "Content-Type "+clip(ct, 100)+" is not supported for this resource")
	}
	if _, charset, ok := strings.Cut(strings.ToLower(params), "charset="); ok && strings.Trim(charset, `" `) != "utf-8" {
		return fail(http.StatusUnsupportedMediaType, "UNSUPPORTED_MEDIA_TYPE", "charset "+clip(charset, 40)+" is not supported")
	}
	if len(x.body) == 0 {
		return fail(400, "JSON_PARSER_ERROR", "The HTTP entity body is required, but this request has no entity body.")
	}
	return nil
}

// recordBody reads the body of a single-record call.
func (x *exchange) recordBody() (map[string]any, *Reply) {
	if bad := x.needJSON(); bad != nil {
		return nil, bad
	}
	var fields map[string]any
	if bad := decodeBody(x.body, &fields); bad != nil {
		return nil, bad
	}
	if fields == nil {
		return nil, fail(400, "JSON_PARSER_ERROR", "Cannot deserialize instance of SObject from VALUE_NULL value null at [line:1, column:1]")
	}
	return fields, nil
}

// tableOf finds the object of a path.
func (x *exchange) tableOf(object string) *table {
	o := x.org
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.tables[strings.ToLower(object)]
}

// sobject answers /sobjects/X and what is below it. See
// https://developer.salesforce.com/docs/atlas.en-us.api_rest.meta/api_rest/resources_sobject_basic_info.htm.
func (x *exchange) sobject(parts []string) *Reply {
	t := x.tableOf(parts[0])
	if t == nil {
		return notFound()
	}
	switch {
	case len(parts) == 1:
		switch x.method {
		case http.MethodGet, http.MethodHead:
			x.entry.Operation = OpDescribe
			return jsonReply(200, map[string]any{"objectDescribe": x.briefOf(t), "recentItems": []any{}})
		case http.MethodPost:
			return x.create(t)
		}
		return methodNotAllowed(x.method, "HEAD", "GET", "POST")
	case len(parts) == 2 && parts[1] == "describe":
		return x.describe(t)
	case len(parts) == 2 && parts[1] == "deleted":
		return x.getDeleted(t)
	case len(parts) == 2 && parts[1] == "updated":
		return x.getUpdated(t)
	case len(parts) == 2:
		return x.byID(t, parts[1])
	case len(parts) == 3 && x.isBlob(t, parts[1], parts[2]):
		return x.blob(t, parts[1], parts[2])
	case len(parts) == 3:
		return x.byExternalID(t, parts[1], parts[2])
	}
	return notFound()
}

// one runs a single record's change.
func (x *exchange) one(w *writeOp) (writeResult, *rowError) {
	o := x.org
	o.mu.Lock()
	defer o.mu.Unlock()
	x.entry.RowsTried++
	tx := &transaction{org: o, user: x.user.ID}
	res, bad := tx.apply(w)
	x.entry.RowsWritten += tx.commit()
	return res, bad
}

func (x *exchange) create(t *table) *Reply {
	x.entry.Operation = OpCreate
	fields, bad := x.recordBody()
	if bad != nil {
		return bad
	}
	for k := range fields {
		if strings.EqualFold(k, "Id") {
			return failFields(400, "INVALID_FIELD", "The Id field should not be specified in the sobject data.", []string{"Id"})
		}
	}
	res, oops := x.one(&writeOp{op: OpCreate, object: t.def.Name, fields: fields})
	if oops != nil {
		return failRow(oops)
	}
	r := jsonReply(http.StatusCreated, savedOne{res.id, true, []any{}, nil})
	r.Header.Set("Location", "/services/data/"+x.version+"/sobjects/"+t.def.Name+"/"+string(res.id))
	return r
}

// savedOne is the answer to a single record's change.
type savedOne struct {
	ID      ID    `json:"id"`
	Success bool  `json:"success"`
	Errors  []any `json:"errors"`
	Created *bool `json:"created,omitempty"`
}

// byID answers calls of one record by its id.
func (x *exchange) byID(t *table, id string) *Reply {
	w := &writeOp{object: t.def.Name, id: id}
	switch x.method {
	case http.MethodGet, http.MethodHead:
		x.entry.Operation = OpRead
		o := x.org
		o.mu.Lock()
		defer o.mu.Unlock()
		full, ok := parseID(id)
		if !ok {
			return fail(404, "NOT_FOUND", "Provided external ID field does not exist or is not accessible: "+clip(id, 60))
		}
		return x.readRow(t, t.visible(string(full)))
	case http.MethodPatch:
		x.entry.Operation, w.op = OpUpdate, OpUpdate
		fields, bad := x.recordBody()
		if bad != nil {
			return bad
		}
		for k := range fields {
			if strings.EqualFold(k, "Id") {
				return failFields(400, "INVALID_FIELD", "The Id field should not be specified in the sobject data.", []string{"Id"})
			}
		}
		w.fields = fields
	case http.MethodDelete:
		x.entry.Operation, w.op = OpDelete, OpDelete
	default:
		return methodNotAllowed(x.method, "HEAD", "GET", "PATCH", "DELETE")
	}
	if _, bad := x.one(w); bad != nil {
		return failRow(bad)
	}
	return newReply(http.StatusNoContent, "", nil)
}

// readRow renders a whole record, or the fields that the call names.
func (x *exchange) readRow(t *table, r *row) *Reply {
	switch {
	case r == nil:
		return notFound()
	case r.deleted:
		return failFields(404, "ENTITY_IS_DELETED", "entity is deleted", nil)
	}
	p := &plan{org: x.org, table: t, object: t.def.Name}
	if list := x.query.Get("fields"); list != "" {
		q := &soqlQuery{}
		for name := range strings.SplitSeq(list, ",") {
			q.selects = append(q.selects, selectItem{path: strings.TrimSpace(name)})
		}
		if bad := p.selectFields(q); bad != nil {
			return fail(400, bad.code, bad.message)
		}
		if !slices.ContainsFunc(p.nodes, func(n *selectNode) bool { return n.field == t.def.idf }) {
			p.nodes = append(p.nodes, &selectNode{field: t.def.idf})
		}
	} else {
		for i := range t.def.Fields {
			p.nodes = append(p.nodes, &selectNode{field: &t.def.Fields[i]})
		}
	}
	x.entry.RowsRead++
	return newReply(200, jsonType, p.appendRow(nil, rowPrefix(x.version, t.def.Name), r))
}

// byExternalID answers calls of one record by an external id.
func (x *exchange) byExternalID(t *table, field, value string) *Reply {
	f := t.externalField(field)
	if f == nil {
		return fail(404, "NOT_FOUND", "Provided external ID field does not exist or is not accessible: "+clip(field, 80))
	}
	switch x.method {
	case http.MethodPatch:
		return x.upsertOne(t, f, value)
	case http.MethodGet, http.MethodHead:
		x.entry.Operation = OpRead
	case http.MethodDelete:
		x.entry.Operation = OpDelete
	default:
		return methodNotAllowed(x.method, "HEAD", "GET", "PATCH", "DELETE")
	}
	o := x.org
	o.mu.Lock()
	ids, bad := t.matches(f, value)
	if bad != nil || len(ids) != 1 {
		o.mu.Unlock()
		switch {
		case bad != nil:
			return failRow(bad)
		case len(ids) == 0:
			return notFound()
		}
		return x.choices(t, ids)
	}
	if x.entry.Operation == OpRead {
		defer o.mu.Unlock()
		return x.readRow(t, t.visible(ids[0]))
	}
	o.mu.Unlock()
	if _, bad := x.one(&writeOp{op: OpDelete, object: t.def.Name, id: ids[0]}); bad != nil {
		return failRow(bad)
	}
	return newReply(http.StatusNoContent, "", nil)
}

// choices is the 300 answer to an external id that several records share.
func (x *exchange) choices(t *table, ids []string) *Reply {
	urls := make([]string, len(ids))
	for i, id := range ids {
		urls[i] = "/services/data/" + x.version + "/sobjects/" + t.def.Name + "/" + id
	}
	return jsonReply(http.StatusMultipleChoices, urls)
}

func (x *exchange) upsertOne(t *table, f *Field, value string) *Reply {
	x.entry.Operation = OpUpsert
	fields, bad := x.recordBody()
	if bad != nil {
		return bad
	}
	for k := range fields {
		if strings.EqualFold(k, f.Name) || strings.EqualFold(k, "Id") {
			return failFields(400, "INVALID_FIELD", "The "+k+" field should not be specified in the sobject data.", []string{k})
		}
	}
	res, oops := x.one(&writeOp{op: OpUpsert, object: t.def.Name, extField: f.Name, extValue: value, fields: fields})
	switch {
	case oops != nil && oops.choices != nil:
		return x.choices(t, oops.choices)
	case oops != nil:
		return failRow(oops)
	}
	status := http.StatusOK
	if res.created {
		status = http.StatusCreated
	}
	return jsonReply(status, savedOne{res.id, true, []any{}, &res.created})
}

func (x *exchange) isBlob(t *table, id, field string) bool {
	f := t.def.field(field)
	_, ok := parseID(id)
	return ok && f != nil && f.Type == TypeBase64
}

// segments splits a path and undoes its escapes.
func segments(path string) []string {
	var out []string
	for s := range strings.SplitSeq(strings.Trim(path, "/"), "/") {
		if u, err := url.PathUnescape(s); err == nil {
			s = u
		}
		out = append(out, s)
	}
	return out
}
