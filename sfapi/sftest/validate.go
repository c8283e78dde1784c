package sftest

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// assign decodes a call's fields into a row's values and returns what it set.
func (o *Org) assign(t *table, vals []any, w *writeOp, create bool) (Record, *rowError) {
	set := Record{}
	seen := map[*Field]bool{}
	for _, name := range slices.Sorted(maps.Keys(w.fields)) {
		v := w.fields[name]
		if name == "attributes" {
			continue
		}
		f := t.def.field(name)
		if f == nil {
			if rel := t.def.relation(name); rel != nil {
				id, bad := o.lookup(rel, name, v)
				if bad != nil {
					return nil, bad
				}
				f, v = rel, id
			} else {
				return nil, fieldError("INVALID_FIELD", fmt.Sprintf("No such column '%s' on sobject of type %s", clip(name, 80), t.def.Name))
			}
		}
		if seen[f] {
			return nil, fieldError("INVALID_FIELD", "duplicate field specified: "+f.Name, f.Name)
		}
		seen[f] = true
		if f.ReadOnly || f.CreateOnly && !create {
			return nil, fieldError("INVALID_FIELD_FOR_INSERT_UPDATE", "Unable to create/update fields: "+f.Name+
				". Please check the security settings of this field and verify that it is read/write for your profile or permission set.", f.Name)
		}
		val, bad := f.decode(v)
		if bad != nil {
			return nil, bad
		}
		if bad := o.checkReference(f, val); bad != nil {
			return nil, bad
		}
		if val == nil && f.Name == "OwnerId" {
			continue
		}
		vals[f.index] = val
		set[f.Name] = val
	}
	return set, nil
}

// lookup resolves {"Account":{"Ext__c":"x"}}: a reference by external id.
func (o *Org) lookup(rel *Field, name string, v any) (any, *rowError) {
	if v == nil {
		return nil, nil
	}
	nested, ok := v.(map[string]any)
	t := o.tables[strings.ToLower(rel.ReferenceTo)]
	if !ok || t == nil {
		return nil, deserializeError(rel.ReferenceTo, v)
	}
	nested = maps.Clone(nested)
	delete(nested, "attributes")
	if len(nested) != 1 {
		return nil, fieldError("INVALID_FIELD", "More than one field provided in an external foreign key reference in entity: "+t.def.Name, name)
	}
	for key, val := range nested {
		f := t.externalField(key)
		if f == nil {
			return nil, fieldError("INVALID_FIELD", fmt.Sprintf("Provided external ID field does not exist or is not accessible: %s", clip(key, 80)), name)
		}
		ids, bad := t.matches(f, val)
		switch {
		case bad != nil:
			return nil, bad
		case len(ids) == 0:
			return nil, fieldError("INVALID_FIELD", fmt.Sprintf("Foreign key external ID: %v not found for field %s in entity %s", val, f.Name, t.def.Name))
		case len(ids) > 1:
			return nil, fieldError("DUPLICATE_EXTERNAL_ID", fmt.Sprintf("%s: more than one record found for external id field: [%s]", f.Name, strings.Join(ids, ", ")))
		}
		return ids[0], nil
	}
	return nil, nil
}

// checkReference refuses ids of other objects and of records that are gone.
func (o *Org) checkReference(f *Field, v any) *rowError {
	id, ok := v.(string)
	if f.Type != TypeReference || !ok {
		return nil
	}
	t := o.tables[strings.ToLower(f.ReferenceTo)]
	if t == nil {
		return nil
	}
	if !strings.HasPrefix(id, t.def.KeyPrefix) {
		return fieldError("FIELD_INTEGRITY_EXCEPTION", f.Label+": id value of incorrect type: "+id, f.Name)
	}
	switch r := t.visible(id); {
	case r == nil:
		return fieldError("INVALID_CROSS_REFERENCE_KEY", "invalid cross reference id", f.Name)
	case r.deleted:
		return fieldError("ENTITY_IS_DELETED", "entity is deleted", f.Name)
	}
	return nil
}

// check applies the rules that look at the whole record.
func (o *Org) check(t *table, vals []any, set Record, id string, create bool) *rowError {
	var missing []string
	for i := range t.def.Fields {
		f := &t.def.Fields[i]
		_, named := set[f.Name]
		if f.Required && !f.ReadOnly && (create || named) && vals[i] == nil {
			missing = append(missing, f.Name)
		}
	}
	if missing != nil {
		return fieldError("REQUIRED_FIELD_MISSING", "Required fields are missing: ["+strings.Join(missing, ", ")+"]", missing...)
	}
	for i := range t.def.Fields {
		f := &t.def.Fields[i]
		if !f.Unique || vals[i] == nil {
			continue
		}
		for _, other := range t.byKey(f, vals[i]) {
			if other != id {
				return fieldError("DUPLICATE_VALUE", fmt.Sprintf(
					"duplicate value found: %s duplicates value on record with id: %s", f.Name, ID(other).Short()))
			}
		}
	}
	return nil
}

// decodeBody reads a JSON body with numbers kept as they are.
func decodeBody(body []byte, v any) *Reply {
	dec := json.NewDecoder(strings.NewReader(string(body)))
	dec.UseNumber()
	err := dec.Decode(v)
	if err == nil && dec.More() {
		err = fmt.Errorf("unexpected data after the value")
	}
	if err == nil {
		return nil
	}
	line, column := 1, int(dec.InputOffset())+1
	if before := body[:min(int(dec.InputOffset()), len(body))]; len(before) > 0 {
		line += strings.Count(string(before), "\n")
		column = len(before) - strings.LastIndex(string(before), "\n")
	}
	return fail(400, "JSON_PARSER_ERROR", fmt.Sprintf("%s at [line:%d, column:%d]", clip(err.Error(), 200), line, column))
}
