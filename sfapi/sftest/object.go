package sftest

import "strings"

// Object describes an sObject. Id, CreatedDate, CreatedById, LastModifiedDate,
// LastModifiedById, SystemModstamp and IsDeleted are added to Fields.
type Object struct {
	// Name is the API name, for instance "Widget__c".
	Name string
	// Label defaults to Name without its suffix.
	Label string
	// KeyPrefix is the first three characters of the object's record ids. It
	// defaults to the next free one of the custom range, a00 and up.
	KeyPrefix string
	Fields    []Field
	// NoIsDeleted leaves IsDeleted out: User and Organization have none.
	NoIsDeleted bool
	// ReadOnly objects refuse create, update and delete over the API.
	ReadOnly bool

	byName map[string]*Field
	byRel  map[string]*Field
	stamp  *Field
	idf    *Field
	del    *Field
}

// field finds a field by its name, letter case aside, as Salesforce does.
func (o *Object) field(name string) *Field { return o.byName[strings.ToLower(name)] }

// relation finds the reference field behind a relationship name.
func (o *Object) relation(name string) *Field { return o.byRel[strings.ToLower(name)] }

// compile returns a copy of the definition with system fields and indexes.
func (o Object) compile() *Object {
	fields := []Field{{Name: "Id", Label: "Record ID", Type: TypeID, ReadOnly: true}}
	if !o.NoIsDeleted {
		fields = append(fields, Field{Name: "IsDeleted", Label: "Deleted", Type: TypeBoolean, ReadOnly: true})
	}
	fields = append(fields, o.Fields...)
	fields = append(fields,
		Field{Name: "CreatedDate", Type: TypeDateTime, ReadOnly: true},
		Field{Name: "CreatedById", Type: TypeReference, ReferenceTo: "User", ReadOnly: true},
		Field{Name: "LastModifiedDate", Type: TypeDateTime, ReadOnly: true},
		Field{Name: "LastModifiedById", Type: TypeReference, ReferenceTo: "User", ReadOnly: true},
		Field{Name: "SystemModstamp", Type: TypeDateTime, ReadOnly: true},
	)
	o.Fields = fields
	if o.Label == "" {
		o.Label = strings.ReplaceAll(strings.TrimSuffix(o.Name, "__c"), "_", " ")
	}
	o.byName = make(map[string]*Field, len(fields))
	o.byRel = map[string]*Field{}
	for i := range o.Fields {
		f := &o.Fields[i]
		f.index = i
		f.setDefaults()
		o.byName[strings.ToLower(f.Name)] = f
		if f.Type == TypeReference {
			o.byRel[strings.ToLower(f.Relationship)] = f
		}
	}
	for i := range o.Fields {
		f := &o.Fields[i]
		f.partIndex = make(map[string]int, len(f.parts))
		for part, name := range f.parts {
			o.field(name).compound = f.Name
			f.partIndex[part] = o.field(name).index
		}
	}
	o.stamp, o.idf = o.field("SystemModstamp"), o.field("Id")
	o.del = o.field("IsDeleted")
	return &o
}

// DefineObject adds an object to the org, or replaces the definition of one
// that holds no rows. It panics when rows exist, since they would no longer fit.
func (o *Org) DefineObject(def Object) {
	o.mu.Lock()
	defer o.mu.Unlock()
	key := strings.ToLower(def.Name)
	if t := o.tables[key]; t != nil {
		if len(t.rows) > 0 {
			panic("sftest: object " + def.Name + " already holds rows")
		}
		if def.KeyPrefix == "" {
			def.KeyPrefix = t.def.KeyPrefix
		}
	}
	if def.KeyPrefix == "" {
		def.KeyPrefix = "a0" + string(base62[o.customObjects%62])
		o.customObjects++
	}
	o.tables[key] = newTable(def.compile())
}

// AddField adds a field to an object while the org runs. Existing rows hold
// the field's default, or null.
func (o *Org) AddField(object string, f Field) {
	o.mu.Lock()
	defer o.mu.Unlock()
	t := o.mustTable(object)
	o.rebuildTable(t, append(t.def.own(), f))
}

// RemoveField removes a field and its values from an object.
func (o *Org) RemoveField(object, field string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	t := o.mustTable(object)
	var kept []Field
	for _, f := range t.def.own() {
		if !strings.EqualFold(f.Name, field) {
			kept = append(kept, f)
		}
	}
	o.rebuildTable(t, kept)
}

// own returns the definition's fields without the system ones.
func (o *Object) own() []Field {
	var out []Field
	for _, f := range o.Fields {
		switch f.Name {
		case "Id", "IsDeleted", "CreatedDate", "CreatedById", "LastModifiedDate", "LastModifiedById", "SystemModstamp":
		default:
			out = append(out, f)
		}
	}
	return out
}

// rebuildTable moves an object's rows to a table with other fields. Calls under
// way go on reading the old one.
func (o *Org) rebuildTable(t *table, fields []Field) {
	old := t.def
	def := *old
	def.Fields = fields
	next := newTable(def.compile())
	for id, r := range t.rows {
		vals := make([]any, len(next.def.Fields))
		for i := range next.def.Fields {
			f := &next.def.Fields[i]
			if was := old.field(f.Name); was != nil {
				vals[i] = r.vals[was.index]
			} else if vals[i] = f.Default; vals[i] == nil && f.Type == TypeBoolean {
				vals[i] = false
			}
		}
		next.rows[id] = newRow(next.def, ID(id), vals, r.deleted, r.hidden)
	}
	next.next, next.purged = t.next, t.purged
	next.reindex()
	o.tables[strings.ToLower(old.Name)] = next
}
