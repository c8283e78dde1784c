package main

import (
	"fmt"
	"net/http"
	"time"

	"github.com/weirhq/weir/sfapi/sftest"
)

// recordChange is a change behind the API's back.
type recordChange struct {
	Op     string        `json:"op"`
	Object string        `json:"object"`
	ID     sftest.ID     `json:"id"`
	IDs    []sftest.ID   `json:"ids"`
	Stamp  time.Time     `json:"stamp"`
	Fields sftest.Record `json:"fields"`
}

func (b recordChange) apply(o *sftest.Org) (any, error) {
	ids := b.IDs
	if b.ID != "" {
		ids = append(ids, b.ID)
	}
	switch b.Op {
	case "insert":
		return map[string]any{"id": o.Insert(b.Object, b.Fields)}, nil
	case "insert_hidden":
		return map[string]any{"id": o.InsertHidden(b.Object, b.Stamp, b.Fields)}, nil
	case "update":
		for _, id := range ids {
			o.Update(b.Object, id, b.Fields)
		}
	case "delete":
		o.Delete(b.Object, ids...)
	case "undelete":
		o.Undelete(b.Object, ids...)
	case "hard_delete":
		o.HardDelete(b.Object, ids...)
	case "reveal":
		o.Reveal(b.Object, ids...)
	case "set_stamp":
		o.SetStamp(b.Object, b.Stamp, ids...)
	default:
		return nil, fmt.Errorf("no op %q", b.Op)
	}
	return nil, nil
}

func (c *control) dataRoutes() {
	type seed struct {
		Object string `json:"object"`
		N      int    `json:"n"`
		Seed   uint64 `json:"seed"`
	}
	orgCall(c, "POST /_sim/orgs/{org}/seed", func(o *sftest.Org, _ *http.Request, b seed) (any, error) {
		return map[string]any{"ids": listOf(o.Seed(b.Object, b.N, b.Seed))}, nil
	})
	orgCall(c, "POST /_sim/orgs/{org}/records", func(o *sftest.Org, _ *http.Request, b recordChange) (any, error) {
		return b.apply(o)
	})
	orgCall(c, "GET /_sim/orgs/{org}/rows/{object}", func(o *sftest.Org, r *http.Request, _ none) (any, error) {
		return listOf(o.Rows(r.PathValue("object"))), nil
	})
	orgCall(c, "GET /_sim/orgs/{org}/count/{object}", func(o *sftest.Org, r *http.Request, _ none) (any, error) {
		return map[string]int{"count": o.Count(r.PathValue("object"))}, nil
	})
	type fields struct {
		Object string        `json:"object"`
		Add    *sftest.Field `json:"add"`
		Remove string        `json:"remove"`
	}
	orgCall(c, "POST /_sim/orgs/{org}/fields", func(o *sftest.Org, _ *http.Request, b fields) (any, error) {
		if b.Add != nil {
			o.AddField(b.Object, *b.Add)
		}
		if b.Remove != "" {
			o.RemoveField(b.Object, b.Remove)
		}
		return nil, nil
	})
}
