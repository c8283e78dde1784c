package sftest

import "strings"

// FieldType is a field's type as describe spells it.
type FieldType string

// The field types that the simulator stores and validates.
const (
	TypeID        FieldType = "id"
	TypeString    FieldType = "string"
	TypeTextarea  FieldType = "textarea"
	TypePicklist  FieldType = "picklist"
	TypeBoolean   FieldType = "boolean"
	TypeDouble    FieldType = "double"
	TypeCurrency  FieldType = "currency"
	TypePercent   FieldType = "percent"
	TypeInt       FieldType = "int"
	TypeDate      FieldType = "date"
	TypeDateTime  FieldType = "datetime"
	TypeEmail     FieldType = "email"
	TypePhone     FieldType = "phone"
	TypeURL       FieldType = "url"
	TypeReference FieldType = "reference"
	TypeAddress   FieldType = "address"
	TypeBase64    FieldType = "base64"
)

// Field describes one field of an object.
type Field struct {
	// Name is the API name, for instance "Ext__c".
	Name string
	// Label defaults to Name without its suffix.
	Label string
	// Type defaults to TypeString.
	Type FieldType
	// Length is the longest text in characters. Defaults to 255 for text and
	// 32,000 for TypeTextarea.
	Length int
	// Precision and Scale bound numbers. They default to 18 and 2.
	Precision, Scale int
	// Required refuses null on create and on update.
	Required bool
	// Unique refuses a second record with the same value, letter case aside
	// unless CaseSensitive is set.
	Unique bool
	// ExternalID lets the field be used in upserts.
	ExternalID bool
	// CaseSensitive compares values exactly.
	CaseSensitive bool
	// ReadOnly fields are set by Salesforce, never by a client.
	ReadOnly bool
	// CreateOnly fields cannot change after the record was created.
	CreateOnly bool
	// ReferenceTo names the object that a TypeReference field points to.
	ReferenceTo string
	// Relationship is the name used in queries, for instance "Account" for
	// AccountId.
	Relationship string
	// Picklist holds the values of a TypePicklist field.
	Picklist []string
	// Restricted refuses values that are not in Picklist.
	Restricted bool
	// Default is the value of a new record that does not name the field.
	Default any
	// parts maps the members of an address to the fields that hold them.
	parts map[string]string
	// compound names the compound field that this one is a part of.
	compound string
	// partIndex holds the indexes of parts.
	partIndex map[string]int
	index     int
	jsonKey   string
}

// custom reports whether the field was made by the customer.
func (f *Field) custom() bool { return strings.HasSuffix(f.Name, "__c") }

// filterable reports whether SOQL may name the field in WHERE.
func (f *Field) filterable() bool {
	switch f.Type {
	case TypeBase64, TypeAddress:
		return false
	case TypeTextarea:
		return f.Length <= 255
	}
	return true
}

func (f *Field) text() bool {
	switch f.Type {
	case TypeString, TypeTextarea, TypePicklist, TypeEmail, TypePhone, TypeURL:
		return true
	}
	return false
}

func (f *Field) number() bool {
	switch f.Type {
	case TypeDouble, TypeCurrency, TypePercent, TypeInt:
		return true
	}
	return false
}

func (f *Field) id() bool { return f.Type == TypeID || f.Type == TypeReference }

// stored reports whether a row holds a value of its own for the field.
func (f *Field) stored() bool { return f.Type != TypeAddress }

func (f *Field) setDefaults() {
	if f.Type == "" {
		f.Type = TypeString
	}
	if f.Label == "" {
		f.Label = strings.ReplaceAll(strings.TrimSuffix(f.Name, "__c"), "_", " ")
	}
	if f.Length == 0 {
		switch f.Type {
		case TypeString, TypePicklist, TypeURL:
			f.Length = 255
		case TypeTextarea:
			f.Length = 32000
		case TypeEmail:
			f.Length = 80
		case TypePhone:
			f.Length = 40
		case TypeID, TypeReference:
			f.Length = 18
		}
	}
	if f.number() && f.Precision == 0 {
		f.Precision, f.Scale = 18, 2
		if f.Type == TypeInt {
			f.Precision, f.Scale = 8, 0
		}
	}
	if f.Type == TypeReference && f.Relationship == "" {
		if f.custom() {
			f.Relationship = strings.TrimSuffix(f.Name, "__c") + "__r"
		} else {
			f.Relationship = strings.TrimSuffix(f.Name, "Id")
		}
	}
	f.jsonKey = `,"` + f.Name + `":`
}
