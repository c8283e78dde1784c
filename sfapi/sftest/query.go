package sftest

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// plan is a query that is ready to render rows.
type plan struct {
	org    *Org
	table  *table
	object string
	nodes  []*selectNode
	// joins is set when rendering reads other objects, under the org's lock.
	joins bool
}

// selectNode is a selected field, or a relationship with fields of its own.
type selectNode struct {
	field *Field
	rel   *Field
	to    *table
	sub   []*selectNode
}

// queryResult is what a query found.
type queryResult struct {
	plan  *plan
	rows  []*row
	total int
	// body is set for queries that return no rows: COUNT() and aggregates.
	body []byte
}

// runQuery parses and runs a query. The org's lock must be held.
func (o *Org) runQuery(soql string, all bool) (*queryResult, *soqlError) {
	q, bad := parseSOQL(soql)
	if bad != nil {
		return nil, bad
	}
	t := o.tables[strings.ToLower(q.from)]
	if t == nil {
		return nil, invalidType(q.from)
	}
	p := &plan{org: o, table: t, object: t.def.Name}
	aggregate := q.selects[0].fn != "" && q.selects[0].fn != "FIELDS"
	if !aggregate {
		if bad := p.selectFields(q); bad != nil {
			return nil, bad
		}
	}
	match := func(*row) bool { return true }
	var w window
	if q.where != nil {
		if match, w, bad = o.where(t, q.where, t.def.Name); bad != nil {
			return nil, bad
		}
	}
	sorters, natural, bad := o.sorters(t, q.order)
	if bad != nil {
		return nil, bad
	}
	o.refreshOrganization(t)
	rows := t.ordered()
	if !w.lo.IsZero() {
		i, _ := slices.BinarySearchFunc(rows, w.lo, func(r *row, at time.Time) int {
			if r.stamp.Before(at) {
				return -1
			}
			return 1
		})
		rows = rows[i:]
	}
	want := -1
	if natural && q.limit >= 0 {
		want = q.limit + q.offset
	}
	var found []*row
	for _, r := range rows {
		if want == len(found) && want >= 0 || !w.hi.IsZero() && r.stamp.After(w.hi) {
			break
		}
		if !r.hidden && (all || !r.deleted) && match(r) {
			found = append(found, r)
		}
	}
	if aggregate && q.selects[0].path == "" {
		if len(q.selects) > 1 || len(q.order) > 0 {
			return nil, &soqlError{"MALFORMED_QUERY", "COUNT() must be the only element of the select list and allows no ORDER BY"}
		}
		n := len(q.cut(found))
		return &queryResult{total: n, body: fmt.Appendf(nil, `{"totalSize":%d,"done":true,"records":[]}`, n)}, nil
	}
	if aggregate {
		return o.aggregate(t, q, found)
	}
	if !natural {
		slices.SortStableFunc(found, func(a, b *row) int {
			for _, by := range sorters {
				if c := by(a, b); c != 0 {
					return c
				}
			}
			return 0
		})
	}
	found = q.cut(found)
	return &queryResult{plan: p, rows: found, total: len(found)}, nil
}

// cut applies OFFSET and LIMIT.
func (q *soqlQuery) cut(rows []*row) []*row {
	rows = rows[min(q.offset, len(rows)):]
	if q.limit >= 0 {
		rows = rows[:min(q.limit, len(rows))]
	}
	return rows
}

// sorters compiles ORDER BY. natural means that the index has this order
// already, which is so without ORDER BY, too.
func (o *Org) sorters(t *table, order []orderItem) (by []func(a, b *row) int, natural bool, bad *soqlError) {
	natural = true
	for i, it := range order {
		ref, bad := o.bind(t, it.path, t.def.Name)
		if bad != nil {
			return nil, false, bad
		}
		f := ref.field
		if !f.filterable() {
			return nil, false, &soqlError{"INVALID_FIELD", fmt.Sprintf("field '%s' can not be sorted in a query call", f.Name)}
		}
		indexed := i == 0 && f.Name == "SystemModstamp" || i == 1 && f.Name == "Id"
		natural = natural && indexed && !it.desc && len(ref.rels) == 0
		by = append(by, func(a, b *row) int {
			va, vb := ref.value(a), ref.value(b)
			if va == nil || vb == nil {
				c := 0
				switch {
				case va == nil && vb != nil:
					c = -1
				case va != nil && vb == nil:
					c = 1
				}
				if it.nullsLast {
					return -c
				}
				return c
			}
			var c int
			if f.id() {
				c = cmp.Compare(va.(string), vb.(string))
			} else {
				c = compareValues(va, vb)
			}
			if it.desc {
				return -c
			}
			return c
		})
	}
	return by, natural, nil
}

// refreshOrganization brings Organization.IsReadOnly up to date.
func (o *Org) refreshOrganization(t *table) {
	if t.def.Name != "Organization" {
		return
	}
	r, f := t.rows[string(o.id)], t.def.field("IsReadOnly")
	if f == nil || r.vals[f.index] == (o.state.readOnly != ReadWrite) {
		return
	}
	vals := slices.Clone(r.vals)
	vals[f.index] = o.state.readOnly != ReadWrite
	t.put(newRow(t.def, o.id, vals, false, false))
}

// selectFields resolves the select list.
func (p *plan) selectFields(q *soqlQuery) *soqlError {
	seen := map[string]bool{}
	for _, it := range q.selects {
		switch it.fn {
		case "":
		case "FIELDS":
			kind := strings.ToUpper(it.path)
			if kind != "STANDARD" && kind != "ALL" && kind != "CUSTOM" {
				return &soqlError{"MALFORMED_QUERY", "unexpected token: '" + clip(it.path, 60) + "'"}
			}
			if kind != "STANDARD" && (q.limit < 0 || q.limit > 200) {
				return &soqlError{"MALFORMED_QUERY", "The SOQL FIELDS function must have a LIMIT of at most 200"}
			}
			for i := range p.table.def.Fields {
				f := &p.table.def.Fields[i]
				if (kind == "ALL" || f.custom() == (kind == "CUSTOM")) && !seen[f.Name] {
					seen[f.Name] = true
					p.nodes = append(p.nodes, &selectNode{field: f})
				}
			}
			continue
		default:
			return &soqlError{"MALFORMED_QUERY", "Grouped query or aggregate expression cannot be mixed with fields"}
		}
		ref, bad := p.org.bind(p.table, it.path, p.object)
		if bad != nil {
			return bad
		}
		path := strings.ToLower(strings.TrimPrefix(it.path, p.object+"."))
		if seen[path] {
			return &soqlError{"INVALID_FIELD", "duplicate field selected: " + it.path}
		}
		seen[path] = true
		nodes := &p.nodes
		for i, rel := range ref.rels {
			p.joins = true
			at := slices.IndexFunc(*nodes, func(n *selectNode) bool { return n.rel == rel })
			if at < 0 {
				at = len(*nodes)
				*nodes = append(*nodes, &selectNode{rel: rel, to: ref.to[i]})
			}
			nodes = &(*nodes)[at].sub
		}
		*nodes = append(*nodes, &selectNode{field: ref.field})
	}
	return nil
}

// aggregate answers COUNT(field), MIN and MAX over everything found.
func (o *Org) aggregate(t *table, q *soqlQuery, rows []*row) (*queryResult, *soqlError) {
	b := []byte(`{"totalSize":1,"done":true,"records":[{"attributes":{"type":"AggregateResult"}`)
	for i, it := range q.selects {
		if it.fn == "" || it.fn == "FIELDS" || it.path == "" {
			return nil, &soqlError{"MALFORMED_QUERY", "Field must be grouped or aggregated: " + it.path}
		}
		ref, bad := o.bind(t, it.path, t.def.Name)
		if bad != nil {
			return nil, bad
		}
		name := it.alias
		if name == "" {
			name = "expr" + strconv.Itoa(i)
		}
		b = append(appendJSONString(append(b, ','), name), ':')
		var best any
		n := 0
		for _, r := range rows {
			v := ref.value(r)
			if v == nil {
				continue
			}
			n++
			if best == nil || it.fn == "MIN" && compareValues(v, best) < 0 || it.fn == "MAX" && compareValues(v, best) > 0 {
				best = v
			}
		}
		if it.fn == "COUNT" {
			b = strconv.AppendInt(b, int64(n), 10)
		} else {
			b = append(b, ref.field.render(best)...)
		}
	}
	return &queryResult{total: 1, body: append(b, "}]}"...)}, nil
}

// appendRow renders one record.
func (p *plan) appendRow(b []byte, prefix string, r *row) []byte {
	b = append(b, prefix...)
	b = append(b, r.id...)
	b = append(b, `"}`...)
	return appendNodes(b, p.nodes, r, prefix[strings.Index(prefix, "/services"):])
}

// rowPrefix starts every record of an object.
func rowPrefix(version, object string) string {
	return `{"attributes":{"type":"` + object + `","url":"/services/data/` + version + `/sobjects/` + object + `/`
}

func appendNodes(b []byte, nodes []*selectNode, r *row, url string) []byte {
	for _, n := range nodes {
		if n.field != nil {
			b = append(b, n.field.jsonKey...)
			if s := r.json(n.field.index); s != "" {
				b = append(b, s...)
			} else {
				b = n.field.appendOdd(b, r, url)
			}
			continue
		}
		b = append(b, `,"`...)
		b = append(b, n.rel.Relationship...)
		b = append(b, `":`...)
		id, _ := r.vals[n.rel.index].(string)
		parent := n.to.visible(id)
		if parent == nil {
			b = append(b, "null"...)
			continue
		}
		version := strings.Split(url, "/")[3]
		prefix := rowPrefix(version, n.to.def.Name)
		b = append(append(append(b, prefix...), id...), `"}`...)
		b = appendNodes(b, n.sub, parent, prefix[strings.Index(prefix, "/services"):])
	}
	return append(b, '}')
}

// appendOdd renders the types that a row does not hold ready: addresses, which
// are made of other fields, and blobs, of which a query gives only the URL.
func (f *Field) appendOdd(b []byte, r *row, url string) []byte {
	if f.Type == TypeBase64 {
		if r.vals[f.index] == nil {
			return append(b, "null"...)
		}
		return appendJSONString(b, url+r.id+"/"+f.Name)
	}
	empty := true
	for _, part := range addressParts {
		if i := f.partIndex[part]; r.vals[i] != nil {
			empty = false
		}
	}
	if empty {
		return append(b, "null"...)
	}
	b = append(b, '{')
	for i, part := range addressParts {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(appendJSONString(b, part), ':'), r.json(f.partIndex[part])...)
	}
	return append(b, `,"geocodeAccuracy":null,"latitude":null,"longitude":null}`...)
}

var addressParts = []string{"city", "country", "postalCode", "state", "street"}

// runQuery answers /query and /queryAll. See
// https://developer.salesforce.com/docs/atlas.en-us.api_rest.meta/api_rest/resources_query.htm.
func (x *exchange) runQuery(all bool) *Reply {
	x.entry.Operation = OpQuery
	if x.method != http.MethodGet && x.method != http.MethodHead {
		return methodNotAllowed(x.method, "HEAD", "GET")
	}
	soql := x.query.Get("q")
	if strings.TrimSpace(soql) == "" {
		return fail(400, "MALFORMED_QUERY", "A query string has to be specified")
	}
	x.entry.SOQL = soql
	size, bad := x.batchSize()
	if bad != nil {
		return bad
	}
	o := x.org
	o.mu.Lock()
	res, oops := o.runQuery(soql, all)
	if oops != nil {
		o.mu.Unlock()
		return fail(400, oops.code, oops.message)
	}
	x.entry.RowsRead = len(res.rows)
	if res.body != nil {
		o.mu.Unlock()
		return newReply(200, jsonType, res.body)
	}
	c := &cursor{result: res, session: x.session, size: size, opened: time.Now()}
	if len(res.rows) > size {
		x.entry.RowsRead = size
		o.openCursor(c)
	}
	return o.page(x, c, 0)
}

// batchSize reads Sforce-Query-Options. See
// https://developer.salesforce.com/docs/atlas.en-us.api_rest.meta/api_rest/headers_queryoptions.htm.
func (x *exchange) batchSize() (int, *Reply) {
	h := x.header.Get("Sforce-Query-Options")
	if h == "" {
		return 2000, nil
	}
	key, val, _ := strings.Cut(h, "=")
	n, err := strconv.Atoi(strings.TrimSpace(val))
	if !strings.EqualFold(strings.TrimSpace(key), "batchSize") || err != nil {
		return 0, fail(400, "INVALID_QUERY_OPTIONS", "Invalid query options header: "+clip(h, 100))
	}
	return min(max(n, 200), 2000), nil
}
