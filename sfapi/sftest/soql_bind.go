package sftest

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// fieldRef is a field of the queried object, or of one that it refers to.
type fieldRef struct {
	rels  []*Field // reference fields to follow
	to    []*table // the tables they lead to
	field *Field
}

// value reads the field from a row. The org's lock must be held when the
// reference leads to another object.
func (r *fieldRef) value(row *row) any {
	for i, rel := range r.rels {
		id, _ := row.vals[rel.index].(string)
		if row = r.to[i].visible(id); row == nil {
			return nil
		}
	}
	return row.vals[r.field.index]
}

// bind finds a dotted path's field.
func (o *Org) bind(t *table, path, object string) (*fieldRef, *soqlError) {
	ref := &fieldRef{}
	parts := strings.Split(path, ".")
	def := t.def
	if len(parts) > 1 && strings.EqualFold(parts[0], object) {
		parts = parts[1:]
	}
	if len(parts) > 6 {
		return nil, &soqlError{"MALFORMED_QUERY", "Relationship traversal is limited to 5 levels"}
	}
	for _, name := range parts[:len(parts)-1] {
		rel := def.relation(name)
		if rel == nil {
			return nil, &soqlError{"INVALID_FIELD", fmt.Sprintf("Didn't understand relationship '%s' in field path. If you are attempting to use a custom relationship, be sure to append the '__r' after the custom relationship name. Please reference your WSDL or the describe call for the appropriate names.", name)}
		}
		next := o.tables[strings.ToLower(rel.ReferenceTo)]
		if next == nil {
			return nil, invalidType(rel.ReferenceTo)
		}
		ref.rels, ref.to = append(ref.rels, rel), append(ref.to, next)
		def = next.def
	}
	name := parts[len(parts)-1]
	if ref.field = def.field(name); ref.field == nil {
		return nil, &soqlError{"INVALID_FIELD", fmt.Sprintf("\nSELECT %s FROM %s\n       ^\nERROR at Row:1:Column:8\nNo such column '%s' on entity '%s'. If you are attempting to use a custom field, be sure to append the '__c' after the custom field name. Please reference your WSDL or the describe call for the appropriate names.", path, object, name, def.Name)}
	}
	return ref, nil
}

func invalidType(name string) *soqlError {
	return &soqlError{"INVALID_TYPE", fmt.Sprintf("\nFROM %s\n     ^\nERROR at Row:1:Column:6\nsObject type '%s' is not supported. If you are attempting to use a custom object, be sure to append the '__c' after the entity name. Please reference your WSDL or the describe call for the appropriate names.", clip(name, 80), clip(name, 80))}
}

// predicate tells whether a row matches.
type predicate func(*row) bool

// window is a range of SystemModstamp that contains every match, so that the
// index can leave the rest out. Zero times are open ends; both are inclusive.
type window struct{ lo, hi time.Time }

// where compiles an expression.
func (o *Org) where(t *table, e soqlExpr, object string) (predicate, window, *soqlError) {
	switch e := e.(type) {
	case *notExpr:
		p, _, bad := o.where(t, e.x, object)
		if bad != nil {
			return nil, window{}, bad
		}
		return func(r *row) bool { return !p(r) }, window{}, nil
	case *boolExpr:
		var preds []predicate
		var all window
		for i, sub := range e.list {
			p, w, bad := o.where(t, sub, object)
			if bad != nil {
				return nil, window{}, bad
			}
			preds = append(preds, p)
			switch {
			case i == 0:
				all = w
			case e.or:
				all = all.union(w)
			default:
				all = all.intersect(w)
			}
		}
		if e.or {
			return func(r *row) bool { return slices.ContainsFunc(preds, func(p predicate) bool { return p(r) }) }, all, nil
		}
		return func(r *row) bool {
			for _, p := range preds {
				if !p(r) {
					return false
				}
			}
			return true
		}, all, nil
	}
	return o.compare(t, e.(*compareExpr), object)
}

func (w window) union(v window) window {
	if w.lo.IsZero() || v.lo.IsZero() {
		w.lo = time.Time{}
	} else if v.lo.Before(w.lo) {
		w.lo = v.lo
	}
	if w.hi.IsZero() || v.hi.IsZero() {
		w.hi = time.Time{}
	} else if v.hi.After(w.hi) {
		w.hi = v.hi
	}
	return w
}

func (w window) intersect(v window) window {
	if v.lo.After(w.lo) {
		w.lo = v.lo
	}
	if w.hi.IsZero() || !v.hi.IsZero() && v.hi.Before(w.hi) {
		w.hi = v.hi
	}
	return w
}

// compare compiles one comparison.
func (o *Org) compare(t *table, e *compareExpr, object string) (predicate, window, *soqlError) {
	ref, bad := o.bind(t, e.path, object)
	if bad != nil {
		return nil, window{}, bad
	}
	f := ref.field
	if !f.filterable() {
		return nil, window{}, &soqlError{"INVALID_FIELD", fmt.Sprintf("field '%s' can not be filtered in a query call", f.Name)}
	}
	if bad := f.checkOperator(e.op); bad != nil {
		return nil, window{}, bad
	}
	tests := make([]func(any) bool, len(e.values))
	op := e.op
	if op == "IN" || op == "NOT IN" {
		op = "="
	}
	var w window
	for i, v := range e.values {
		test, span, bad := f.test(op, v)
		if bad != nil {
			return nil, window{}, bad
		}
		tests[i] = test
		if i == 0 {
			w = span
		} else {
			w = w.union(span)
		}
	}
	if len(ref.rels) > 0 || f.Name != "SystemModstamp" || e.op == "NOT IN" || e.op == "!=" {
		w = window{}
	}
	get := ref.value
	if len(ref.rels) == 0 {
		index := f.index
		get = func(r *row) any { return r.vals[index] }
	}
	switch {
	case len(e.values) > 8 && f.id():
		return setTest(get, e), w, nil
	case e.op == "NOT IN":
		return func(r *row) bool {
			v := get(r)
			return !slices.ContainsFunc(tests, func(t func(any) bool) bool { return t(v) })
		}, w, nil
	case len(tests) > 1:
		return func(r *row) bool {
			v := get(r)
			return slices.ContainsFunc(tests, func(t func(any) bool) bool { return t(v) })
		}, w, nil
	}
	test := tests[0]
	return func(r *row) bool { return test(get(r)) }, w, nil
}

// setTest is membership in a long list of ids, which were checked already.
func setTest(get func(*row) any, e *compareExpr) predicate {
	set := make(map[any]bool, len(e.values))
	for _, v := range e.values {
		if v.kind == litNull {
			set[nil] = true
		} else {
			id, _ := parseID(v.text)
			set[string(id)] = true
		}
	}
	want := e.op == "IN"
	return func(r *row) bool { return set[get(r)] == want }
}

func (f *Field) checkOperator(op string) *soqlError {
	ordered := op == "<" || op == "<=" || op == ">" || op == ">="
	switch {
	case op == "LIKE" && f.id():
		return &soqlError{"INVALID_QUERY_FILTER_OPERATOR", "invalid operator on id field"}
	case (op == "LIKE" || ordered) && f.Type == TypeBoolean, op == "LIKE" && !f.text():
		return &soqlError{"INVALID_QUERY_FILTER_OPERATOR", fmt.Sprintf("invalid operator on %s field", f.Type)}
	}
	return nil
}
