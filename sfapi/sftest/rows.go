package sftest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Record maps field names to values: string for text, ids and dates
// ("2006-01-02"), float64 for double, currency and percent, int64 for int, bool,
// time.Time in UTC for date-times, nil for null. Compound fields are left out.
type Record map[string]any

// Row is a record as the org holds it.
type Row struct {
	ID      ID
	Deleted bool
	Stamp   time.Time
	Fields  Record
}

// mustTable finds an object's table. It panics when a test names an object
// that the org does not have.
func (o *Org) mustTable(object string) *table {
	t := o.tables[strings.ToLower(object)]
	if t == nil {
		panic("sftest: org has no object " + object)
	}
	return t
}

// values turns a Record into a row's values, on top of a base.
func (o *Org) values(def *Object, base []any, rec Record) []any {
	vals := slices.Clone(base)
	if vals == nil {
		vals = make([]any, len(def.Fields))
		for i := range def.Fields {
			f := &def.Fields[i]
			vals[i] = f.Default
			if f.Type == TypeBoolean && vals[i] == nil {
				vals[i] = false
			}
		}
	}
	for name, v := range rec {
		f := def.field(name)
		if f == nil {
			panic(fmt.Sprintf("sftest: no field %s on %s", name, def.Name))
		}
		n, err := f.normalize(v)
		if err != nil {
			panic("sftest: " + err.Error())
		}
		vals[f.index] = n
	}
	return vals
}

// Insert adds a record behind the API's back, as the org's own users do, and
// returns its id. It checks types, not validation rules, and panics on a field
// that does not exist or a value of the wrong Go type (see Record).
// CreatedDate and SystemModstamp may be given.
func (o *Org) Insert(object string, rec Record) ID {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.insert(o.mustTable(object), rec, false)
}

// InsertHidden adds a record that an open transaction stamped with stamp. No
// call sees it before Reveal: that is how a row appears below a cursor that has
// passed its SystemModstamp already.
func (o *Org) InsertHidden(object string, stamp time.Time, rec Record) ID {
	o.mu.Lock()
	defer o.mu.Unlock()
	rec = maps.Clone(rec)
	if rec == nil {
		rec = Record{}
	}
	rec["SystemModstamp"] = stamp
	return o.insert(o.mustTable(object), rec, true)
}

func (o *Org) insert(t *table, rec Record, hidden bool) ID {
	id := t.newID()
	vals := o.values(t.def, nil, rec)
	o.stampNew(t.def, vals, o.admin, rec["SystemModstamp"] != nil)
	t.put(newRow(t.def, id, vals, false, hidden))
	return id
}

// stampNew sets the system fields of a new record.
func (o *Org) stampNew(def *Object, vals []any, user ID, keep bool) {
	now := time.Now().UTC().Truncate(time.Second)
	if t, ok := vals[def.stamp.index].(time.Time); ok && keep {
		now = t.Truncate(time.Second)
	}
	set := func(name string, v any) {
		if f := def.field(name); f != nil && vals[f.index] == nil {
			vals[f.index] = v
		}
	}
	vals[def.stamp.index] = now
	set("CreatedDate", now)
	set("LastModifiedDate", now)
	set("CreatedById", string(user))
	set("LastModifiedById", string(user))
	set("OwnerId", string(user))
	o.computeName(def, vals)
}

// stampChange sets the system fields of a changed record.
func (o *Org) stampChange(def *Object, vals []any, user ID) {
	now := time.Now().UTC().Truncate(time.Second)
	vals[def.stamp.index] = now
	vals[def.field("LastModifiedDate").index] = now
	vals[def.field("LastModifiedById").index] = string(user)
	o.computeName(def, vals)
}

// computeName fills the compound name of people.
func (o *Org) computeName(def *Object, vals []any) {
	name, last, first := def.field("Name"), def.field("LastName"), def.field("FirstName")
	if name == nil || last == nil || first == nil || !name.ReadOnly {
		return
	}
	f, _ := vals[first.index].(string)
	l, _ := vals[last.index].(string)
	if full := strings.TrimSpace(f + " " + l); full != "" {
		vals[name.index] = full
	}
}

// Update changes a record behind the API's back and moves its SystemModstamp,
// unless rec names one. It panics when the record does not exist.
func (o *Org) Update(object string, id ID, rec Record) {
	o.mu.Lock()
	defer o.mu.Unlock()
	t := o.mustTable(object)
	old := o.mustRow(t, id)
	vals := o.values(t.def, old.vals, rec)
	o.stampChange(t.def, vals, o.admin)
	if s, ok := rec["SystemModstamp"].(time.Time); ok {
		vals[t.def.stamp.index] = s.UTC().Truncate(time.Second)
	}
	t.put(newRow(t.def, ID(old.id), vals, old.deleted, old.hidden))
}

// UpdateQuietly changes values without moving SystemModstamp, as a formula
// field or a roll-up summary does.
func (o *Org) UpdateQuietly(object string, id ID, rec Record) {
	o.mu.Lock()
	defer o.mu.Unlock()
	t := o.mustTable(object)
	old := o.mustRow(t, id)
	t.put(newRow(t.def, ID(old.id), o.values(t.def, old.vals, rec), old.deleted, old.hidden))
}

func (o *Org) mustRow(t *table, id ID) *row {
	full, ok := parseID(string(id))
	if r := t.rows[string(full)]; ok && r != nil {
		return r
	}
	panic(fmt.Sprintf("sftest: no %s with id %s", t.def.Name, id))
}

// SetStamp gives records the same SystemModstamp, cut to whole seconds.
func (o *Org) SetStamp(object string, stamp time.Time, ids ...ID) {
	o.mu.Lock()
	defer o.mu.Unlock()
	t := o.mustTable(object)
	for _, id := range ids {
		old := o.mustRow(t, id)
		vals := slices.Clone(old.vals)
		vals[t.def.stamp.index] = stamp.UTC().Truncate(time.Second)
		t.put(newRow(t.def, ID(old.id), vals, old.deleted, old.hidden))
	}
}

// Reveal commits records of InsertHidden; their stamps stay as they were.
func (o *Org) Reveal(object string, ids ...ID) {
	o.mu.Lock()
	defer o.mu.Unlock()
	t := o.mustTable(object)
	for _, id := range ids {
		old := o.mustRow(t, id)
		t.put(newRow(t.def, ID(old.id), slices.Clone(old.vals), old.deleted, false))
	}
}

// Delete moves records to the recycle bin, where queryAll still sees them.
func (o *Org) Delete(object string, ids ...ID) { o.setDeleted(object, true, ids) }

// Undelete takes records out of the recycle bin.
func (o *Org) Undelete(object string, ids ...ID) { o.setDeleted(object, false, ids) }

func (o *Org) setDeleted(object string, deleted bool, ids []ID) {
	o.mu.Lock()
	defer o.mu.Unlock()
	t := o.mustTable(object)
	for _, id := range ids {
		o.bin(t, o.mustRow(t, id), o.admin, deleted)
	}
}

// bin stores a record's new version in or out of the recycle bin.
func (o *Org) bin(t *table, old *row, user ID, deleted bool) {
	vals := slices.Clone(old.vals)
	o.stampChange(t.def, vals, user)
	t.put(newRow(t.def, ID(old.id), vals, deleted, old.hidden))
}

// HardDelete removes records for good. Only getDeleted still tells of them.
func (o *Org) HardDelete(object string, ids ...ID) {
	o.mu.Lock()
	defer o.mu.Unlock()
	t := o.mustTable(object)
	for _, id := range ids {
		r := o.mustRow(t, id)
		t.purged = append(t.purged, purge{r.id, time.Now().UTC()})
		t.remove(r.id)
	}
}

// Rows returns a copy of every record of an object, deleted ones included and
// hidden ones left out, in (SystemModstamp, Id) order.
func (o *Org) Rows(object string) []Row {
	o.mu.Lock()
	defer o.mu.Unlock()
	t := o.mustTable(object)
	var out []Row
	for _, r := range t.ordered() {
		if !r.hidden {
			out = append(out, t.export(r))
		}
	}
	return out
}

// Row returns one record, and whether it exists, deleted or not.
func (o *Org) Row(object string, id ID) (Row, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	t := o.mustTable(object)
	full, _ := parseID(string(id))
	if r := t.visible(string(full)); r != nil {
		return t.export(r), true
	}
	return Row{}, false
}

func (t *table) export(r *row) Row {
	rec := make(Record, len(r.vals))
	for i := range t.def.Fields {
		if f := &t.def.Fields[i]; f.stored() {
			rec[f.Name] = r.vals[i]
		}
	}
	return Row{ID: ID(r.id), Deleted: r.deleted, Stamp: r.stamp, Fields: rec}
}

// Count returns how many records of an object are live.
func (o *Org) Count(object string) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := 0
	for _, r := range o.mustTable(object).rows {
		if !r.deleted && !r.hidden {
			n++
		}
	}
	return n
}
