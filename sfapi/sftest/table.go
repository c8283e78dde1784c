package sftest

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// row is one version of a record. It never changes after it was put into its
// table, so a query's cursor can go on reading it without a lock.
type row struct {
	id   string
	vals []any
	// blob holds the JSON of every value, one after the other; offsets says
	// where each begins. One allocation a row spares the collector.
	blob    string
	offsets []uint32
	stamp   time.Time
	deleted bool
	// hidden rows were written by a transaction that has not committed yet.
	hidden bool
	// gone is set, under the org's lock, when a newer version took its place.
	gone bool
}

func newRow(def *Object, id ID, vals []any, deleted, hidden bool) *row {
	vals[def.idf.index] = string(id)
	if def.del != nil {
		vals[def.del.index] = deleted
	}
	r := &row{id: string(id), vals: vals, deleted: deleted, hidden: hidden, offsets: make([]uint32, len(vals)+1)}
	r.stamp, _ = vals[def.stamp.index].(time.Time)
	var buf []byte
	for i := range def.Fields {
		f := &def.Fields[i]
		if f.Type != TypeAddress && f.Type != TypeBase64 {
			buf = append(buf, f.render(vals[i])...)
		}
		r.offsets[i+1] = uint32(len(buf))
	}
	r.blob = string(buf)
	return r
}

// json is a value's JSON, or "" for types that depend on more than the value.
func (r *row) json(i int) string { return r.blob[r.offsets[i]:r.offsets[i+1]] }

// table holds an object's rows, an index in (SystemModstamp, Id) order and one
// for each external id or unique field.
type table struct {
	def  *Object
	rows map[string]*row
	// sorted may still hold versions that are gone; fresh holds versions that
	// are not in sorted yet.
	sorted []*row
	fresh  []*row
	stale  bool
	keys   map[*Field]map[string][]string
	next   uint64
	purged []purge
}

// purge remembers a hard-deleted record for getDeleted.
type purge struct {
	id string
	at time.Time
}

func newTable(def *Object) *table {
	t := &table{def: def, rows: map[string]*row{}}
	t.reindex()
	return t
}

// keyOf is the form in which a unique or external id value is compared.
func (f *Field) keyOf(v any) string {
	s := strings.Trim(f.render(v), `"`)
	if !f.CaseSensitive {
		s = strings.ToLower(s)
	}
	return s
}

// put stores a new version of a record.
func (t *table) put(r *row) {
	old := t.rows[r.id]
	if old != nil {
		old.gone = true
		t.stale = true
	}
	for f, index := range t.keys {
		var before, after any
		if old != nil && !old.deleted && !old.hidden {
			before = old.vals[f.index]
		}
		if !r.deleted && !r.hidden {
			after = r.vals[f.index]
		}
		if before == after {
			continue
		}
		if before != nil {
			t.dropKey(index, f.keyOf(before), r.id)
		}
		if after != nil {
			k := f.keyOf(after)
			index[k] = append(index[k], r.id)
		}
	}
	t.rows[r.id] = r
	t.fresh = append(t.fresh, r)
}

func (t *table) dropKey(index map[string][]string, key, id string) {
	ids := slices.DeleteFunc(slices.Clone(index[key]), func(s string) bool { return s == id })
	if len(ids) == 0 {
		delete(index, key)
		return
	}
	index[key] = ids
}

// remove forgets a record for good.
func (t *table) remove(id string) {
	r := t.rows[id]
	if r == nil {
		return
	}
	r.gone = true
	t.stale = true
	for f, index := range t.keys {
		if v := r.vals[f.index]; v != nil && !r.deleted && !r.hidden {
			t.dropKey(index, f.keyOf(v), id)
		}
	}
	delete(t.rows, id)
}

// reindex rebuilds every index from the rows.
func (t *table) reindex() {
	t.keys = map[*Field]map[string][]string{}
	for i := range t.def.Fields {
		f := &t.def.Fields[i]
		if f.ExternalID || f.Unique || f.Name == "Username" {
			t.keys[f] = map[string][]string{}
		}
	}
	t.sorted, t.fresh, t.stale = nil, nil, false
	for _, r := range t.rows {
		t.fresh = append(t.fresh, r)
		if r.deleted || r.hidden {
			continue
		}
		for f, index := range t.keys {
			if v := r.vals[f.index]; v != nil {
				k := f.keyOf(v)
				index[k] = append(index[k], r.id)
			}
		}
	}
}

func byStamp(a, b *row) int {
	if c := a.stamp.Compare(b.stamp); c != 0 {
		return c
	}
	return cmp.Compare(a.id, b.id)
}

// ordered returns every row in (SystemModstamp, Id) order. The slice must not
// be changed, and not be kept after the org's lock is released.
func (t *table) ordered() []*row {
	if !t.stale && len(t.fresh) == 0 {
		return t.sorted
	}
	isGone := func(r *row) bool { return r.gone }
	fresh := slices.DeleteFunc(t.fresh, isGone)
	slices.SortFunc(fresh, byStamp)
	old := t.sorted
	if t.stale {
		old = slices.DeleteFunc(old, isGone)
	}
	if len(old) == 0 || len(fresh) == 0 || byStamp(old[len(old)-1], fresh[0]) <= 0 {
		t.sorted = append(old, fresh...)
	} else {
		merged := make([]*row, 0, len(old)+len(fresh))
		for len(old) > 0 && len(fresh) > 0 {
			if byStamp(old[0], fresh[0]) <= 0 {
				merged, old = append(merged, old[0]), old[1:]
			} else {
				merged, fresh = append(merged, fresh[0]), fresh[1:]
			}
		}
		t.sorted = append(append(merged, old...), fresh...)
	}
	t.fresh, t.stale = nil, false
	return t.sorted
}

// byKey finds the live records that hold a value in an external id field.
func (t *table) byKey(f *Field, v any) []string {
	if v == nil {
		return nil
	}
	return t.keys[f][f.keyOf(v)]
}

// visible returns a record that the API can see, deleted ones included.
func (t *table) visible(id string) *row {
	if r := t.rows[id]; r != nil && !r.hidden {
		return r
	}
	return nil
}

// newID mints the next record id.
func (t *table) newID() ID {
	t.next++
	return makeID(t.def.KeyPrefix, "5e", t.next)
}
