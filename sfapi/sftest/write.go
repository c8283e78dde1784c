package sftest

import (
	"maps"
	"net/http"
	"slices"
	"strings"
)

// writeOp is one record's change as a call asks for it.
type writeOp struct {
	op       Operation
	object   string
	id       string
	extField string
	extValue any
	fields   map[string]any
	// collection says that the record came in a call of many, whose errors differ.
	collection bool
}

// writeResult is a record that was changed.
type writeResult struct {
	id      ID
	created bool
}

// transaction collects changes so that allOrNone can take them back.
type transaction struct {
	org  *Org
	user ID
	undo []func()
	log  []func()
}

// rollback takes every change back.
func (tx *transaction) rollback() {
	for _, f := range slices.Backward(tx.undo) {
		f()
	}
	tx.undo, tx.log = nil, nil
}

// commit writes the records' history.
func (tx *transaction) commit() int {
	for _, f := range tx.log {
		f()
	}
	return len(tx.log)
}

// put stores a row and remembers how to take it back.
func (tx *transaction) put(t *table, r *row) {
	old := t.rows[r.id]
	t.put(r)
	tx.undo = append(tx.undo, func() {
		if old == nil {
			t.remove(r.id)
			return
		}
		t.put(newRow(t.def, ID(old.id), slices.Clone(old.vals), old.deleted, old.hidden))
	})
}

const maintenanceMessage = "Updates can't be made during maintenance. Try again when maintenance is complete."

// admitWrite applies the org's conditions to one record's change.
func (o *Org) admitWrite(t *table, w *writeOp) *rowError {
	s := &o.state
	if s.readOnly != ReadWrite {
		e := fieldError("INSERT_UPDATE_DELETE_NOT_ALLOWED_DURING_MAINTENANCE", maintenanceMessage)
		e.status = s.readOnlyStatus
		return e
	}
	if t.def.ReadOnly {
		return fieldError("CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY", "entity type "+t.def.Name+" does not support "+string(w.op))
	}
	if s.lockNext > 0 {
		s.lockNext--
		return rowLocked()
	}
	return nil
}

func rowLocked() *rowError {
	return fieldError("UNABLE_TO_LOCK_ROW", "unable to obtain exclusive access to this record")
}

// apply makes one change. The org's lock must be held.
func (tx *transaction) apply(w *writeOp) (writeResult, *rowError) {
	o := tx.org
	t := o.tables[strings.ToLower(w.object)]
	if t == nil {
		return writeResult{}, &rowError{code: "INVALID_TYPE", status: http.StatusNotFound,
			message: "sObject type '" + clip(w.object, 80) + "' is not supported."}
	}
	if bad := o.admitWrite(t, w); bad != nil {
		return writeResult{}, bad
	}
	switch w.op {
	case OpCreate:
		return tx.create(t, w)
	case OpUpdate:
		r, bad := o.target(t, w)
		if bad != nil {
			return writeResult{}, bad
		}
		return tx.update(t, w, r)
	case OpUpsert:
		return tx.upsert(t, w)
	}
	r, bad := o.target(t, w)
	if bad != nil {
		return writeResult{}, bad
	}
	o.bin(t, r, tx.user, true)
	tx.undo = append(tx.undo, func() {
		t.put(newRow(t.def, ID(r.id), slices.Clone(r.vals), false, false))
	})
	tx.log = append(tx.log, func() {
		o.logWrite(Write{Operation: OpDelete, Object: t.def.Name, ID: ID(r.id)}, o.keysOf(t, r)...)
	})
	return writeResult{id: ID(r.id)}, nil
}

// target finds the live record that a change names by id.
func (o *Org) target(t *table, w *writeOp) (*row, *rowError) {
	id, ok := parseID(w.id)
	if !ok {
		if w.collection {
			return nil, fieldError("MALFORMED_ID", "malformed id "+clip(w.id, 60), "Id")
		}
		return nil, &rowError{code: "NOT_FOUND", status: http.StatusNotFound, whole: true,
			message: "Provided external ID field does not exist or is not accessible: " + clip(w.id, 60)}
	}
	r := t.visible(string(id))
	switch {
	case r == nil && w.collection:
		return nil, fieldError("INVALID_CROSS_REFERENCE_KEY", "invalid cross reference id")
	case r == nil:
		return nil, &rowError{code: "NOT_FOUND", status: http.StatusNotFound, message: "The requested resource does not exist"}
	case r.deleted:
		return nil, &rowError{code: "ENTITY_IS_DELETED", status: http.StatusNotFound, message: "entity is deleted"}
	case o.state.lockKeys[r.id], slices.ContainsFunc(o.keysOf(t, r), func(k string) bool { return o.state.lockKeys[k] }):
		return nil, rowLocked()
	}
	return r, nil
}

// keysOf are the external ids of a row.
func (o *Org) keysOf(t *table, r *row) []string {
	var keys []string
	for i := range t.def.Fields {
		if f := &t.def.Fields[i]; f.ExternalID {
			if s, ok := r.vals[i].(string); ok {
				keys = append(keys, s)
			}
		}
	}
	return keys
}

func (tx *transaction) create(t *table, w *writeOp) (writeResult, *rowError) {
	o := tx.org
	if o.state.storageFull {
		return writeResult{}, &rowError{code: "STORAGE_LIMIT_EXCEEDED", message: "storage limit exceeded", status: http.StatusForbidden}
	}
	vals := o.values(t.def, nil, nil)
	set, bad := o.assign(t, vals, w, true)
	if bad != nil {
		return writeResult{}, bad
	}
	if bad := o.check(t, vals, set, "", true); bad != nil {
		return writeResult{}, bad
	}
	o.stampNew(t.def, vals, tx.user, false)
	id := t.newID()
	tx.put(t, newRow(t.def, id, vals, false, false))
	tx.record(t, w, id, set)
	return writeResult{id, true}, nil
}

func (tx *transaction) update(t *table, w *writeOp, r *row) (writeResult, *rowError) {
	o := tx.org
	vals := slices.Clone(r.vals)
	set, bad := o.assign(t, vals, w, false)
	if bad != nil {
		return writeResult{}, bad
	}
	if bad := o.check(t, vals, set, r.id, false); bad != nil {
		return writeResult{}, bad
	}
	o.stampChange(t.def, vals, tx.user)
	tx.put(t, newRow(t.def, ID(r.id), vals, false, false))
	tx.record(t, w, ID(r.id), set)
	return writeResult{id: ID(r.id)}, nil
}

func (tx *transaction) record(t *table, w *writeOp, id ID, set Record) {
	o := tx.org
	key, _ := w.extValue.(string)
	r := t.rows[string(id)]
	tx.log = append(tx.log, func() {
		o.logWrite(Write{Operation: w.op, Object: t.def.Name, ID: id, Key: key, Fields: maps.Clone(set)}, o.keysOf(t, r)...)
	})
}

// externalField finds a field that an upsert or a read by external id may name.
func (t *table) externalField(name string) *Field {
	if f := t.def.field(name); f != nil && (f.ExternalID || f.Type == TypeID) {
		return f
	}
	return nil
}

// matches finds the live records that hold an external id.
func (t *table) matches(f *Field, v any) ([]string, *rowError) {
	if f.Type == TypeID {
		s, _ := v.(string)
		id, ok := parseID(s)
		if r := t.visible(string(id)); ok && r != nil && !r.deleted {
			return []string{r.id}, nil
		}
		return nil, nil
	}
	val, bad := f.decode(v)
	if bad != nil {
		return nil, bad
	}
	return t.byKey(f, val), nil
}

func (tx *transaction) upsert(t *table, w *writeOp) (writeResult, *rowError) {
	o := tx.org
	f := t.externalField(w.extField)
	if f == nil {
		return writeResult{}, &rowError{code: "NOT_FOUND", status: http.StatusNotFound, whole: true,
			message: "Provided external ID field does not exist or is not accessible: " + clip(w.extField, 80)}
	}
	if s, ok := w.extValue.(string); ok && o.state.lockKeys[s] {
		return writeResult{}, rowLocked()
	}
	ids, bad := t.matches(f, w.extValue)
	switch {
	case bad != nil:
		return writeResult{}, bad
	case len(ids) > 1:
		e := fieldError("DUPLICATE_EXTERNAL_ID", f.Name+": more than one record found for external id field: ["+strings.Join(ids, ", ")+"]", f.Name)
		if !w.collection {
			e.choices = ids
		}
		return writeResult{}, e
	case len(ids) == 1:
		w.id = ids[0]
		r, bad := o.target(t, w)
		if bad != nil {
			return writeResult{}, bad
		}
		return tx.update(t, w, r)
	case f.Type == TypeID && w.extValue != nil:
		return writeResult{}, fieldError("INVALID_CROSS_REFERENCE_KEY", "invalid cross reference id")
	}
	if f.Type != TypeID {
		fields := maps.Clone(w.fields)
		if fields == nil {
			fields = map[string]any{}
		}
		fields[f.Name] = w.extValue
		w.fields = fields
	}
	return tx.create(t, w)
}
