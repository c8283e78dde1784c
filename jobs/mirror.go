package jobs

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/weirhq/weir/sfapi"
)

// MirrorOptions says how a mirror is kept. The zero value keeps every field
// that has a column type.
type MirrorOptions struct {
	// Fields narrows the fields that are kept, by API name. Sync.Fields takes
	// its place where a job has it. Empty means every described field that is
	// not compound or base64.
	Fields []string
}

// AddMirror keeps a table with the object's rows in the app's database, made
// from what describe says: salesforce_ and the object's name in lower case,
// primary key (org, id), a column a field. Salesforce's null is SQL's NULL. A
// row deleted in the org stays, with is_deleted true. With AnyObject it serves
// every object that has no handler of its own. opts may be nil.
func AddMirror[TTx any](h *Handlers[TTx], object string, opts *MirrorOptions) {
	m := &mirrorHandler[TTx]{}
	if opts != nil {
		m.fields = slices.Clone(opts.Fields)
	}
	for _, f := range m.fields {
		if !namePattern.MatchString(f) {
			h.errs = append(h.errs, &FieldError{"Handlers", fmt.Sprintf("mirror of %s: %q is not a field's API name", object, f)})
		}
	}
	h.addSync(object, m)
}

type mirrorHandler[TTx any] struct{ fields []string }

// maxIdentifierBytes is the length to which Postgres cuts a table's name.
const maxIdentifierBytes = 63

// MirrorTableName returns the name of the mirror table of an object. A name
// that Postgres would cut keeps its beginning and ends in a hash.
func MirrorTableName(object string) string {
	name := "salesforce_" + strings.ToLower(object)
	if len(name) > maxIdentifierBytes {
		sum := sha256.Sum256([]byte(name))
		name = name[:maxIdentifierBytes-9] + "_" + hex.EncodeToString(sum[:4])
	}
	return name
}

func (m *mirrorHandler[TTx]) plan(d *sfapi.Describe, args *Sync) (*syncPlan, error) {
	fields, err := m.choose(d, args.Fields)
	if err != nil {
		return nil, err
	}
	p := &syncPlan{describe: d, mirror: &MirrorTable{Name: MirrorTableName(d.Name)}}
	for _, f := range fields {
		name := strings.ToLower(f.Name)
		switch name {
		case "id":
			continue
		case "systemmodstamp":
			name = "system_modstamp"
		case "isdeleted":
			name = "is_deleted"
		}
		p.fields = append(p.fields, f.Name)
		p.kinds = append(p.kinds, f)
		p.mirror.Columns = append(p.mirror.Columns, MirrorColumn{Name: name, Field: f.Name, Type: columnType(f.Type)})
	}
	return p, nil
}

// choose returns the described fields to keep. A wanted field that describe
// does not list is kept too, for Salesforce to refuse in its own words.
func (m *mirrorHandler[TTx]) choose(d *sfapi.Describe, wanted []string) ([]sfapi.Field, error) {
	if len(wanted) == 0 {
		wanted = m.fields
	}
	compound := make(map[string]bool)
	for i := range d.Fields {
		if c := d.Fields[i].CompoundFieldName; c != "" && !strings.EqualFold(c, "Name") && !strings.EqualFold(c, d.Fields[i].Name) {
			compound[strings.ToLower(c)] = true
		}
	}
	var out []sfapi.Field
	have := make(map[string]bool)
	add := func(f sfapi.Field) {
		if key := strings.ToLower(f.Name); !have[key] {
			have[key] = true
			out = append(out, f)
		}
	}
	for _, name := range []string{"SystemModstamp", "IsDeleted"} {
		if f, ok := d.Field(name); ok {
			add(*f)
		}
	}
	if len(wanted) == 0 {
		for _, f := range d.Fields {
			if columnType(f.Type) != "" && !compound[strings.ToLower(f.Name)] {
				add(f)
			}
		}
		return out, nil
	}
	for _, name := range wanted {
		f, ok := d.Field(name)
		switch {
		case !ok:
			add(sfapi.Field{Name: name, Type: "string"})
		case columnType(f.Type) == "" || compound[strings.ToLower(f.Name)]:
			return nil, &FieldError{"Fields", fmt.Sprintf("%s.%s is of type %s, which a mirror cannot keep", d.Name, f.Name, f.Type)}
		default:
			add(*f)
		}
	}
	return out, nil
}

// columnType returns the type of the column for a field type, "" for those
// that no column can hold: compound values, binary ones.
//
// https://developer.salesforce.com/docs/atlas.en-us.object_reference.meta/object_reference/field_types.htm
func columnType(fieldType string) ColumnType {
	switch fieldType {
	case "address", "location", "base64", "complexvalue":
		return ""
	case "boolean":
		return ColumnBoolean
	case "int", "long", "double", "currency", "percent":
		return ColumnNumeric
	case "date":
		return ColumnDate
	case "datetime":
		return ColumnTimestamp
	default:
		return ColumnText
	}
}

func (m *mirrorHandler[TTx]) prepare(ctx context.Context, env *Env[TTx], p *syncPlan) error {
	return env.Store.EnsureMirror(ctx, p.mirror)
}

func (m *mirrorHandler[TTx]) apply(ctx context.Context, env *Env[TTx], tx TTx, p *syncPlan, page *rowPage) error {
	if len(page.rows) == 0 {
		return nil
	}
	rows := make([]MirrorRow, len(page.rows))
	values := make([]*string, len(page.rows)*len(p.mirror.Columns))
	for i := range page.rows {
		r := &page.rows[i]
		rows[i] = MirrorRow{ID: r.id, Values: values[i*len(p.mirror.Columns) : (i+1)*len(p.mirror.Columns)]}
		for k := range p.mirror.Columns {
			c := &p.mirror.Columns[k]
			v, err := columnValue(r.rec, c)
			if err != nil {
				return fmt.Errorf("mirror %s of org %s: record %s: field %s: %w", page.object, page.org, r.id, c.Field, err)
			}
			rows[i].Values[k] = v
		}
	}
	return env.Store.UpsertMirrorTx(ctx, tx, p.mirror, page.org, rows)
}

// columnValue returns a field as the text its column reads, nil for null.
func columnValue(rec sfapi.Record, c *MirrorColumn) (*string, error) {
	v, ok := rec.Get(c.Field)
	if !ok || v.IsNull() {
		return nil, nil
	}
	text := v.String()
	if c.Type == ColumnTimestamp {
		t, err := v.Time()
		if err != nil {
			return nil, err
		}
		text = t.UTC().Format(time.RFC3339Nano)
	}
	return &text, nil
}
