package jobs

import (
	"github.com/riverqueue/river"

	"github.com/weirhq/weir/breaker"
	"github.com/weirhq/weir/sfapi"
)

// WriteArgs is the job that drains the write log of one object of one org. It
// is inserted by Runner.Write and Runner.WriteTx together with the records;
// apps have no need to insert it.
type WriteArgs struct {
	Org    sfapi.OrgID `json:"org"`
	Object string      `json:"object"`
}

// Kind is the job kind in River.
func (WriteArgs) Kind() string { return "salesforce_write" }

// OrgID returns the org whose lane the job waits in.
func (a WriteArgs) OrgID() sfapi.OrgID { return a.Org }

// Lane is the lane that the job waits in.
func (WriteArgs) Lane() breaker.Lane { return breaker.Write }

// InsertOpts puts the job into its org's write lane.
func (a WriteArgs) InsertOpts() river.InsertOpts {
	return river.InsertOpts{Queue: breaker.Write.Queue(a.Org), Tags: []string{string(a.Org)}}
}
