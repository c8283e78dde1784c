package jobs

// For tests in package jobs_test.
var (
	NextBatch     = nextBatch
	MergePayloads = mergePayloads
	Advance       = advance
	SOQLQuote     = soqlQuote
	QueryBegan    = queryBegan
	NumberKey     = numberKey
)

type (
	Row   = row
	Batch = batch
)

// NewRow returns a row as a sync reads it.
func NewRow(c Cursor) Row { return row{id: c.ID, stamp: c.Stamp} }

// Sent returns the ids of the rows that a batch sends, in order.
func (b *batch) Sent() []int64 {
	out := make([]int64, len(b.rows))
	for i, r := range b.rows {
		out[i] = r.ID
	}
	return out
}

// Merged returns which row carries which.
func (b *batch) Merged() map[int64]int64 { return b.merged }

// Records returns the payloads that a batch sends.
func (b *batch) Records() []string {
	var out []string
	for _, r := range b.records() {
		out = append(out, string(r))
	}
	return out
}
