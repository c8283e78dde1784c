package sftest

import (
	"slices"
	"sync"
	"time"
)

// Operation says what a call was for.
type Operation string

// The operations that the audit tells apart.
const (
	OpToken       Operation = "token"
	OpRevoke      Operation = "revoke"
	OpIntrospect  Operation = "introspect"
	OpUserInfo    Operation = "userinfo"
	OpIdentity    Operation = "identity"
	OpAuthorize   Operation = "authorize"
	OpVersions    Operation = "versions"
	OpResources   Operation = "resources"
	OpLimits      Operation = "limits"
	OpQuery       Operation = "query"
	OpQueryMore   Operation = "query_more"
	OpDescribe    Operation = "describe"
	OpRead        Operation = "read"
	OpDeleted     Operation = "get_deleted"
	OpUpdated     Operation = "get_updated"
	OpCreate      Operation = "create"
	OpUpdate      Operation = "update"
	OpUpsert      Operation = "upsert"
	OpDelete      Operation = "delete"
	OpCollections Operation = "collections"
	OpComposite   Operation = "composite"
	OpOther       Operation = "other"
)

// Entry is one call in the audit.
type Entry struct {
	// Seq counts the calls of the whole simulator from 1.
	Seq      int64         `json:"seq"`
	Time     time.Time     `json:"time"`
	Duration time.Duration `json:"duration_ns"`
	Org      string        `json:"org,omitempty"`
	User     string        `json:"user,omitempty"`
	ClientID string        `json:"client_id,omitempty"`
	// Generation counts the access tokens of the grant that was used, from 1.
	Generation int       `json:"generation,omitempty"`
	Method     string    `json:"method"`
	Host       string    `json:"host"`
	Path       string    `json:"path"`
	Query      string    `json:"query,omitempty"`
	Operation  Operation `json:"operation"`
	// Status is 0 when the connection was dropped before an answer was made.
	Status int `json:"status"`
	// Codes are the error codes of the answer, rows of collections included.
	Codes       []string `json:"codes,omitempty"`
	RowsRead    int      `json:"rows_read,omitempty"`
	RowsWritten int      `json:"rows_written,omitempty"`
	// RowsTried counts the records that a write call carried.
	RowsTried int `json:"rows_tried,omitempty"`
	// SOQL is the query's text.
	SOQL string `json:"soql,omitempty"`
	// Faults names the injected faults that hit the call.
	Faults []string `json:"faults,omitempty"`
	// Dropped calls got no answer, or only a part of one.
	Dropped bool `json:"dropped,omitempty"`
}

// Write is one committed change of a record, in commit order.
type Write struct {
	Seq       int64     `json:"seq"`
	Time      time.Time `json:"time"`
	Operation Operation `json:"operation"`
	Object    string    `json:"object"`
	ID        ID        `json:"id"`
	// Key is the external id that an upsert named.
	Key string `json:"key,omitempty"`
	// Fields are the values that the call set.
	Fields Record `json:"fields,omitempty"`
}

// auditLog keeps the newest entries and counts them all.
type auditLog struct {
	mu     sync.Mutex
	max    int
	list   []Entry
	total  int64
	counts map[Operation]int64
}

func newAuditLog(max int) *auditLog {
	return &auditLog{max: max, counts: map[Operation]int64{}}
}

func (a *auditLog) add(e Entry) int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.total++
	if e.Seq == 0 {
		e.Seq = a.total
	}
	a.counts[e.Operation]++
	if len(a.list) >= a.max {
		// Dropping a quarter at a time keeps the cost of a call constant.
		a.list = slices.Delete(a.list, 0, max(1, a.max/4))
	}
	a.list = append(a.list, e)
	return e.Seq
}

func (a *auditLog) snapshot() []Entry {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.list)
}

func (a *auditLog) count(ops []Operation) int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(ops) == 0 {
		return a.total
	}
	var n int64
	for _, op := range ops {
		n += a.counts[op]
	}
	return n
}

func (a *auditLog) reset() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.list, a.counts = nil, map[Operation]int64{}
	a.total = 0
}

// Audit returns the calls of every org, refused ones and those of no org
// included, in the order in which they ended.
func (s *Sim) Audit() []Entry { return s.audit.snapshot() }

// Calls counts calls to the whole simulator: all, or those of some operations.
func (s *Sim) Calls(ops ...Operation) int64 { return s.audit.count(ops) }

// Audit returns the org's calls in the order in which they ended.
func (o *Org) Audit() []Entry { return o.audit.snapshot() }

// Calls counts the org's calls: all, or those of some operations.
func (o *Org) Calls(ops ...Operation) int64 { return o.audit.count(ops) }

// TokenCalls counts the org's calls of the token endpoint.
func (o *Org) TokenCalls() int64 { return o.Calls(OpToken) }

// ResetAudit forgets the org's calls and its records' history.
func (o *Org) ResetAudit() {
	o.audit.reset()
	o.mu.Lock()
	defer o.mu.Unlock()
	o.writes, o.history = nil, map[string][]int{}
}

// Writes returns the committed changes of one record, found by its id or by
// an external id that a call gave it, in commit order. An empty key returns
// every change in the org.
func (o *Org) Writes(key string) []Write {
	o.mu.Lock()
	defer o.mu.Unlock()
	if key == "" {
		return slices.Clone(o.writes)
	}
	if id, ok := parseID(key); ok {
		key = string(id)
	}
	var out []Write
	for _, i := range o.history[key] {
		out = append(out, o.writes[i])
	}
	return out
}

// logWrite records a committed change. The org's lock must be held.
func (o *Org) logWrite(w Write, keys ...string) {
	w.Seq, w.Time = int64(len(o.writes)+1), time.Now()
	o.writes = append(o.writes, w)
	for _, k := range append(keys, string(w.ID)) {
		if k != "" && !slices.Contains(o.history[k], len(o.writes)-1) {
			o.history[k] = append(o.history[k], len(o.writes)-1)
		}
	}
}
