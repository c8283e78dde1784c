package store

import (
	"context"
	"time"

	"github.com/weirhq/weir/jobs"
	"github.com/weirhq/weir/sfapi"
)

// Schedule is a sync that is enqueued again and again.
type Schedule struct {
	ID      int64 // set by the store
	Org     sfapi.OrgID
	Object  string // one schedule an org and object
	Mode    jobs.SyncMode
	Fields  []string
	Every   time.Duration // whole milliseconds
	NextRun time.Time
}

// DueSchedule is a schedule whose time has come.
type DueSchedule struct {
	Schedule
	Connected bool // whether its org has a grant
}

// Schedules keeps the schedules of syncs.
type Schedules[TTx any] interface {
	// SetScheduleTx adds a schedule or changes the one of (org, object), and
	// sets s to the row as stored. One whose Every stays as it was keeps its
	// NextRun.
	SetScheduleTx(ctx context.Context, tx TTx, s *Schedule) error

	// OrgSchedules returns an org's schedules by object.
	OrgSchedules(ctx context.Context, org sfapi.OrgID) ([]*Schedule, error)

	// EndSchedule removes a schedule, and reports whether there was one.
	EndSchedule(ctx context.Context, org sfapi.OrgID, object string) (bool, error)

	// ClaimSchedulesTx returns up to limit schedules that are due by the
	// database's clock, longest due first, and makes each due again after its
	// Every, or up to a tenth of that sooner. Schedules that another
	// transaction has claimed are passed over.
	ClaimSchedulesTx(ctx context.Context, tx TTx, limit int) ([]*DueSchedule, error)

	// OpenRecords counts the records of orgs that are pending or sent. Orgs
	// without any are not in the map.
	OpenRecords(ctx context.Context, orgs []sfapi.OrgID) (map[sfapi.OrgID]int, error)
}
