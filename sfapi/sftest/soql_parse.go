package sftest

import (
	"strconv"
	"strings"
)

// soqlQuery is a parsed SELECT.
type soqlQuery struct {
	selects []selectItem
	from    string
	fromPos int
	where   soqlExpr
	order   []orderItem
	limit   int // -1: none
	offset  int
}

// selectItem is a field, FIELDS(…) or an aggregate.
type selectItem struct {
	path  string
	fn    string // COUNT, MIN, MAX, FIELDS; "" is a plain field
	alias string
}

type orderItem struct {
	path      string
	desc      bool
	nullsLast bool
}

// soqlExpr is *boolExpr, *notExpr or *compareExpr.
type soqlExpr interface{}

type boolExpr struct {
	or   bool
	list []soqlExpr
}

type notExpr struct{ x soqlExpr }

type compareExpr struct {
	path   string
	op     string // = != < <= > >= LIKE IN NOT IN
	values []soqlLiteral
}

type literalKind int

const (
	litString literalKind = iota
	litNumber
	litBool
	litNull
	litDate
	litDateTime
	litRange // TODAY, LAST_N_DAYS:n
)

type soqlLiteral struct {
	kind literalKind
	text string
	n    float64
}

type soqlParser struct {
	lex soqlLexer
	tok soqlToken
}

// maxSOQL is the longest query. See
// https://developer.salesforce.com/docs/atlas.en-us.salesforce_app_limits_cheatsheet.meta/salesforce_app_limits_cheatsheet/salesforce_app_limits_platform_soslsoql.htm.
const maxSOQL = 100_000

func parseSOQL(src string) (q *soqlQuery, bad *soqlError) {
	if len(src) > maxSOQL {
		return nil, &soqlError{"MALFORMED_QUERY", "SOQL statements cannot be longer than 100000 characters"}
	}
	p := &soqlParser{lex: soqlLexer{src: src}}
	defer func() {
		// The parser gives up by panicking with the error, and with nothing else.
		if r := recover(); r != nil {
			e, ok := r.(*soqlError)
			if !ok {
				panic(r)
			}
			q, bad = nil, e
		}
	}()
	p.advance()
	return p.query(), nil
}

func (p *soqlParser) advance() {
	tok, bad := p.lex.next()
	if bad != nil {
		panic(bad)
	}
	p.tok = tok
}

func (p *soqlParser) unexpected() {
	if p.tok.kind == tokEnd {
		panic(p.lex.malformed(p.tok.pos, "unexpected end of query"))
	}
	panic(p.lex.malformed(p.tok.pos, "unexpected token: '%s'", clip(p.tok.text, 60)))
}

func (p *soqlParser) is(word string) bool {
	return (p.tok.kind == tokName || p.tok.kind == tokSymbol) && strings.EqualFold(p.tok.text, word)
}

func (p *soqlParser) take(word string) bool {
	if p.is(word) {
		p.advance()
		return true
	}
	return false
}

func (p *soqlParser) need(word string) {
	if !p.take(word) {
		p.unexpected()
	}
}

var soqlKeywords = map[string]bool{"select": true, "from": true, "where": true, "and": true, "or": true, "not": true,
	"order": true, "limit": true, "like": true, "in": true, "offset": true, "group": true, "having": true}

func (p *soqlParser) name() string {
	t := p.tok
	if t.kind != tokName || soqlKeywords[strings.ToLower(t.text)] || strings.HasSuffix(t.text, ".") || strings.Contains(t.text, ":") || strings.Contains(t.text, "..") || isDigit(t.text[0]) {
		p.unexpected()
	}
	p.advance()
	return t.text
}

func (p *soqlParser) query() *soqlQuery {
	q := &soqlQuery{limit: -1}
	p.need("SELECT")
	for {
		q.selects = append(q.selects, p.selectItem())
		if !p.take(",") {
			break
		}
	}
	p.need("FROM")
	q.fromPos = p.tok.pos
	q.from = p.name()
	if p.tok.kind == tokName && !p.isClause() {
		// An alias for the object, which this simulator has no use for.
		p.unexpected()
	}
	if p.take("WHERE") {
		q.where = p.expr(0)
	}
	if p.take("ORDER") {
		p.need("BY")
		for {
			q.order = append(q.order, p.orderItem())
			if !p.take(",") {
				break
			}
		}
	}
	if p.take("LIMIT") {
		q.limit = p.count()
	}
	if p.take("OFFSET") {
		q.offset = p.count()
		if q.offset > 2000 {
			panic(&soqlError{"NUMBER_OUTSIDE_VALID_RANGE", "Maximum SOQL offset allowed is 2000"})
		}
	}
	if p.take("ALL") {
		p.need("ROWS")
		panic(&soqlError{"MALFORMED_QUERY", "ALL ROWS not allowed in this context"})
	}
	if p.tok.kind != tokEnd {
		p.unexpected()
	}
	return q
}

func (p *soqlParser) isClause() bool {
	return p.is("WHERE") || p.is("ORDER") || p.is("LIMIT") || p.is("OFFSET") || p.is("ALL") || p.is("GROUP")
}

func (p *soqlParser) selectItem() selectItem {
	name := p.name()
	if !p.take("(") {
		return selectItem{path: name}
	}
	item := selectItem{fn: strings.ToUpper(name)}
	switch item.fn {
	case "COUNT":
		if !p.is(")") {
			item.path = p.name()
		}
	case "MIN", "MAX", "FIELDS":
		item.path = p.name()
	default:
		panic(p.lex.malformed(p.tok.pos, "unexpected token: '('"))
	}
	p.need(")")
	if p.tok.kind == tokName && !p.is("FROM") && item.path != "" && item.fn != "FIELDS" {
		item.alias = p.name()
	}
	return item
}

func (p *soqlParser) orderItem() orderItem {
	it := orderItem{path: p.name()}
	if p.take("DESC") {
		it.desc = true
	} else {
		p.take("ASC")
	}
	if p.take("NULLS") {
		switch {
		case p.take("LAST"):
			it.nullsLast = true
		case p.take("FIRST"):
		default:
			p.unexpected()
		}
	}
	return it
}

func (p *soqlParser) count() int {
	n, err := strconv.Atoi(p.tok.text)
	if p.tok.kind != tokNumber || err != nil || n < 0 {
		p.unexpected()
	}
	p.advance()
	return n
}

// maxDepth bounds nesting, so that no query can exhaust the stack.
const maxDepth = 200

// expr reads conditions joined by AND or by OR. SOQL wants parentheses where
// both appear.
func (p *soqlParser) expr(depth int) soqlExpr {
	if depth > maxDepth {
		panic(&soqlError{"MALFORMED_QUERY", "query is too deeply nested"})
	}
	first := p.condition(depth)
	switch {
	case p.is("AND"), p.is("OR"):
	default:
		return first
	}
	word := p.tok.text
	e := &boolExpr{or: strings.EqualFold(word, "OR"), list: []soqlExpr{first}}
	for p.take(word) {
		e.list = append(e.list, p.condition(depth))
	}
	if p.is("AND") || p.is("OR") {
		p.unexpected()
	}
	return e
}

func (p *soqlParser) condition(depth int) soqlExpr {
	if p.take("NOT") {
		if depth++; depth > maxDepth {
			panic(&soqlError{"MALFORMED_QUERY", "query is too deeply nested"})
		}
		return &notExpr{p.condition(depth)}
	}
	if p.take("(") {
		e := p.expr(depth + 1)
		p.need(")")
		return e
	}
	e := &compareExpr{path: p.name()}
	switch {
	case p.tok.kind == tokSymbol:
		switch p.tok.text {
		case "=", "!=", "<>", "<", "<=", ">", ">=":
		default:
			p.unexpected()
		}
		e.op = strings.Replace(p.tok.text, "<>", "!=", 1)
		p.advance()
		e.values = []soqlLiteral{p.literal()}
	case p.take("LIKE"):
		e.op = "LIKE"
		e.values = []soqlLiteral{p.literal()}
	case p.take("IN"):
		e.op, e.values = "IN", p.list()
	case p.take("NOT"):
		p.need("IN")
		e.op, e.values = "NOT IN", p.list()
	default:
		p.unexpected()
	}
	return e
}

func (p *soqlParser) list() []soqlLiteral {
	p.need("(")
	var out []soqlLiteral
	for {
		out = append(out, p.literal())
		if !p.take(",") {
			break
		}
	}
	p.need(")")
	return out
}

func (p *soqlParser) literal() soqlLiteral {
	t := p.tok
	var v soqlLiteral
	switch t.kind {
	case tokString:
		v = soqlLiteral{kind: litString, text: t.text}
	case tokNumber:
		n, err := strconv.ParseFloat(t.text, 64)
		if err != nil {
			p.unexpected()
		}
		v = soqlLiteral{kind: litNumber, text: t.text, n: n}
	case tokTime:
		v = soqlLiteral{kind: litDateTime, text: t.text}
		if len(t.text) == len("2006-01-02") {
			v.kind = litDate
		}
	case tokName:
		switch word := strings.ToLower(t.text); {
		case word == "null":
			v = soqlLiteral{kind: litNull}
		case word == "true" || word == "false":
			v = soqlLiteral{kind: litBool, text: word}
		default:
			if _, _, ok := dateRange(t.text); !ok {
				p.unexpected()
			}
			v = soqlLiteral{kind: litRange, text: t.text}
		}
	default:
		p.unexpected()
	}
	p.advance()
	return v
}
