package jobs

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/weirhq/weir/sfapi"
)

// SchemaField is a field of an object, as describe names it.
type SchemaField struct {
	Name string `json:"name"`
	Type string `json:"type"` // Salesforce's: string, double, reference and so on
}

// RetypedField is a field whose type changed.
type RetypedField struct {
	SchemaField

	Was string `json:"was"` // its type before
}

// SchemaChange is what changed about the fields that the org's user can see of
// a synced object. A field that is hidden from the user is as good as removed.
type SchemaChange struct {
	Org     sfapi.OrgID    `json:"-"`
	Object  string         `json:"-"`
	Added   []SchemaField  `json:"added"`
	Removed []SchemaField  `json:"removed"`
	Retyped []RetypedField `json:"retyped"`
}

// schemaOf returns the fields of an object in the order of their names.
func schemaOf(d *sfapi.Describe) []SchemaField {
	fields := make([]SchemaField, len(d.Fields))
	for i := range d.Fields {
		fields[i] = SchemaField{d.Fields[i].Name, d.Fields[i].Type}
	}
	slices.SortFunc(fields, func(a, b SchemaField) int { return strings.Compare(a.Name, b.Name) })
	return fields
}

// compareSchemas returns what changed, nil when nothing did. Both are in order.
func compareSchemas(was, is []SchemaField) *SchemaChange {
	c := &SchemaChange{Added: []SchemaField{}, Removed: []SchemaField{}, Retyped: []RetypedField{}}
	for len(was) > 0 || len(is) > 0 {
		switch {
		case len(was) == 0 || len(is) > 0 && is[0].Name < was[0].Name:
			c.Added = append(c.Added, is[0])
			is = is[1:]
		case len(is) == 0 || was[0].Name < is[0].Name:
			c.Removed = append(c.Removed, was[0])
			was = was[1:]
		default:
			if was[0].Type != is[0].Type {
				c.Retyped = append(c.Retyped, RetypedField{is[0], was[0].Type})
			}
			was, is = was[1:], is[1:]
		}
	}
	if len(c.Added)+len(c.Removed)+len(c.Retyped) == 0 {
		return nil
	}
	return c
}

// noteSchema remembers what an object was described as, and tells when that has
// changed. asked is when describe was called.
func (e *Env[TTx]) noteSchema(ctx context.Context, org sfapi.OrgID, d *sfapi.Describe, asked time.Time) error {
	is := schemaOf(d)
	err := e.Store.InTx(ctx, func(ctx context.Context, tx TTx) error {
		was, err := e.Store.SwapSchemaTx(ctx, tx, org, d.Name, is, asked)
		if err != nil || was == nil {
			return err
		}
		change := compareSchemas(was, is)
		if change == nil {
			return nil
		}
		change.Org, change.Object = org, d.Name
		return e.SchemaChanged(ctx, tx, change)
	})
	if err != nil {
		return fmt.Errorf("fields of %s of org %s: %w", d.Name, org, err)
	}
	return nil
}
