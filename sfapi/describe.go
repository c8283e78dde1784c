package sfapi

import (
	"context"
	"fmt"
	"net/http"
	"strings"
)

// Describe is what an object looks like to the connected user: fields that the
// user may not see are not there.
type Describe struct {
	Name          string `json:"name"`
	Label         string `json:"label"`
	KeyPrefix     string `json:"keyPrefix"`
	Custom        bool   `json:"custom"`
	Createable    bool   `json:"createable"`
	Updateable    bool   `json:"updateable"`
	Deletable     bool   `json:"deletable"`
	Undeletable   bool   `json:"undeletable"`
	Queryable     bool   `json:"queryable"`
	Retrieveable  bool   `json:"retrieveable"`
	Replicateable bool   `json:"replicateable"`

	// Fields is in Salesforce's order.
	Fields []Field `json:"fields"`
}

// Field is one field of an object.
type Field struct {
	Name  string `json:"name"`
	Label string `json:"label"`

	// Type is Salesforce's: "string", "double", "reference", "datetime",
	// "address" and so on.
	Type string `json:"type"`

	// Length counts characters, of text; Precision and Scale count digits, of
	// numbers, and Digits those of whole numbers.
	Length     int `json:"length"`
	ByteLength int `json:"byteLength"`
	Precision  int `json:"precision"`
	Scale      int `json:"scale"`
	Digits     int `json:"digits"`

	Nillable          bool `json:"nillable"`
	DefaultedOnCreate bool `json:"defaultedOnCreate"`
	Unique            bool `json:"unique"`
	CaseSensitive     bool `json:"caseSensitive"`
	ExternalID        bool `json:"externalId"`
	IDLookup          bool `json:"idLookup"`
	AutoNumber        bool `json:"autoNumber"`
	Calculated        bool `json:"calculated"`
	Createable        bool `json:"createable"`
	Updateable        bool `json:"updateable"`
	Filterable        bool `json:"filterable"`
	Sortable          bool `json:"sortable"`
	Custom            bool `json:"custom"`
	NameField         bool `json:"nameField"`
	Deprecated        bool `json:"deprecatedAndHidden"`

	// CompoundFieldName names the compound field, an address for instance, that
	// the field is a part of.
	CompoundFieldName string `json:"compoundFieldName"`

	// RelationshipName is how SOQL reaches the related row, and ReferenceTo the
	// objects it may be.
	RelationshipName string   `json:"relationshipName"`
	ReferenceTo      []string `json:"referenceTo"`
}

// Field returns the field of a name, without regard to case.
func (d *Describe) Field(name string) (*Field, bool) {
	for i := range d.Fields {
		if strings.EqualFold(d.Fields[i].Name, name) {
			return &d.Fields[i], true
		}
	}
	return nil, false
}

// Describe returns what object looks like. It is not cached.
//
// https://developer.salesforce.com/docs/atlas.en-us.api_rest.meta/api_rest/resources_sobject_describe.htm
func (c *Client) Describe(ctx context.Context, object string) (*Describe, error) {
	if err := checkName("object", object); err != nil {
		return nil, fmt.Errorf("describe: %w", err)
	}
	var d Describe
	err := c.call(ctx, &request{
		op: "describe", method: http.MethodGet, path: c.data + "/sobjects/" + object + "/describe", readOnly: true,
		decode: func(rep *reply) error {
			d = Describe{}
			if err := into(&d)(rep); err != nil {
				return err
			}
			if d.Name == "" || len(d.Fields) == 0 {
				return fmt.Errorf("%w: describe of %s names no object or no fields", ErrIncompleteResult, object)
			}
			return nil
		},
	})
	if err != nil {
		return nil, err
	}
	return &d, nil
}
