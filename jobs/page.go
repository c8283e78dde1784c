package jobs

import (
	"context"
	"encoding"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/weirhq/weir/sfapi"
)

// Page is one page of a sync, as a typed handler gets it.
type Page[T any] struct {
	Org    sfapi.OrgID
	Object string
	Mode   SyncMode
	// Records are the rows that live, in order of (SystemModstamp, Id), each
	// at most once.
	Records []T
	// Deleted are the ids (18 characters) of rows that were deleted, or moved
	// to the recycle bin, since they were last delivered. A row that was
	// deleted before it was ever delivered is among them too.
	Deleted []string
}

// rowPage is one page as the sync worker hands it on.
type rowPage struct {
	org    sfapi.OrgID
	object string
	mode   SyncMode
	rows   []row
}

// row is one version of one record.
type row struct {
	rec     sfapi.Record
	id      string // 18 characters
	stamp   time.Time
	deleted bool
}

// syncPlan is what a run reads.
type syncPlan struct {
	describe *sfapi.Describe
	fields   []string // beside Id, SystemModstamp and IsDeleted
	mirror   *MirrorTable
	kinds    []sfapi.Field // of mirror.Columns
}

// AddSync adds a typed handler for an object. T is a struct whose exported
// fields say what is read: the name in the json tag, or the field's own name,
// is the API name, and a nested struct reads through a relationship
// (Owner struct{ Name string } reads Owner.Name). A field tagged json:"-" is
// left out.
//
// fn runs in a transaction that also saves the cursor: what it does in tx is
// done exactly once for each page. An effect outside of tx can happen again
// after a crash. When fn returns an error, the page is rolled back and the job
// is retried by River's policy.
func AddSync[T, TTx any](h *Handlers[TTx], object string, fn func(ctx context.Context, tx TTx, page *Page[T]) error) {
	fields, err := structFields(reflect.TypeFor[T](), "", 0)
	if err == nil && object == AnyObject {
		err = fmt.Errorf("a typed handler needs the name of an object")
	}
	if err != nil {
		h.errs = append(h.errs, &FieldError{"Handlers", fmt.Sprintf("object %s: %v", object, err)})
		return
	}
	h.addSync(object, &typedHandler[T, TTx]{fields: fields, fn: fn})
}

type typedHandler[T, TTx any] struct {
	fields []string
	fn     func(context.Context, TTx, *Page[T]) error
}

func (t *typedHandler[T, TTx]) plan(d *sfapi.Describe, _ *Sync) (*syncPlan, error) {
	return &syncPlan{describe: d, fields: t.fields}, nil
}

func (t *typedHandler[T, TTx]) prepare(context.Context, *Env[TTx], *syncPlan) error { return nil }

func (t *typedHandler[T, TTx]) apply(ctx context.Context, _ *Env[TTx], tx TTx, _ *syncPlan, p *rowPage) error {
	page := &Page[T]{Org: p.org, Object: p.object, Mode: p.mode, Records: make([]T, 0, len(p.rows))}
	for i := range p.rows {
		r := &p.rows[i]
		if r.deleted {
			page.Deleted = append(page.Deleted, r.id)
			continue
		}
		var v T
		if err := r.rec.Decode(&v); err != nil {
			return fmt.Errorf("sync %s of org %s: record %s into %T: %w", p.object, p.org, r.id, v, err)
		}
		page.Records = append(page.Records, v)
	}
	if len(page.Records) == 0 && len(page.Deleted) == 0 {
		return nil
	}
	return t.fn(ctx, tx, page)
}

// maxRelationships is how many relationships a SOQL field path may cross.
//
// https://developer.salesforce.com/docs/atlas.en-us.soql_sosl.meta/soql_sosl/sforce_api_calls_soql_relationships_query_limits.htm
const maxRelationships = 5

var (
	timeType            = reflect.TypeFor[time.Time]()
	jsonUnmarshalerType = reflect.TypeFor[json.Unmarshaler]()
	textUnmarshalerType = reflect.TypeFor[encoding.TextUnmarshaler]()
)

// structFields lists the fields that a struct reads, as SOQL paths.
func structFields(t reflect.Type, prefix string, depth int) ([]string, error) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct {
		return nil, fmt.Errorf("%s is not a struct", t)
	}
	if depth > maxRelationships {
		return nil, fmt.Errorf("%s crosses more than %d relationships", strings.TrimSuffix(prefix, "."), maxRelationships)
	}
	var out []string
	for f := range fieldsOf(t) {
		tag, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if tag == "-" && f.Tag.Get("json") == "-" {
			continue
		}
		if f.Anonymous && tag == "" {
			inner, err := structFields(f.Type, prefix, depth)
			if err != nil {
				return nil, err
			}
			out = append(out, inner...)
			continue
		}
		if !f.IsExported() {
			continue
		}
		name := tag
		if name == "" {
			name = f.Name
		}
		if strings.EqualFold(name, "attributes") {
			continue
		}
		if !namePattern.MatchString(name) {
			return nil, fmt.Errorf("field %s: %q is not an API name", f.Name, name)
		}
		ft := f.Type
		for ft.Kind() == reflect.Pointer {
			ft = ft.Elem()
		}
		if ft == timeType {
			return nil, fmt.Errorf("field %s: Salesforce's date-times are not time.Time's JSON; use sfapi.DateTime", f.Name)
		}
		if ft.Kind() == reflect.Struct && !decodesItself(ft) {
			inner, err := structFields(ft, prefix+name+".", depth+1)
			if err != nil {
				return nil, err
			}
			out = append(out, inner...)
			continue
		}
		out = append(out, prefix+name)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%s has no field to read", t)
	}
	return out, nil
}

func fieldsOf(t reflect.Type) func(func(reflect.StructField) bool) {
	return func(yield func(reflect.StructField) bool) {
		for i := range t.NumField() {
			if !yield(t.Field(i)) {
				return
			}
		}
	}
}

func decodesItself(t reflect.Type) bool {
	p := reflect.PointerTo(t)
	return p.Implements(jsonUnmarshalerType) || p.Implements(textUnmarshalerType)
}
