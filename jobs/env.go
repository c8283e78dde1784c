package jobs

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/weirhq/weir/breaker"
	"github.com/weirhq/weir/sfapi"
)

// ErrYield is returned by a job whose slice is over while work is left: it
// goes back to its lane, behind those that wait there, and spends no attempt.
// A worker of the app's own may return it too, after it saved how far it came.
var ErrYield = errors.New("slice over, work left")

// ErrRowsRefused is wrapped by the error of a write whose call was answered
// with success while its rows were refused for a cause of the org's: read-only
// mode, storage. The cause is the *sfapi.Error beside it.
var ErrRowsRefused = errors.New("rows refused")

// Env is what a worker process gives the jobs it runs. Package runner fills
// it in; all fields are required.
type Env[TTx any] struct {
	Store Store[TTx]

	// Client returns the client bound to an org, for calls of a lane.
	Client func(ctx context.Context, org sfapi.OrgID, lane breaker.Lane) (*sfapi.Client, error)

	// Draining is closed when the process stops: jobs checkpoint and yield.
	Draining <-chan struct{}

	// SchemaChanged and WriteFailed tell the app, in the transaction of what
	// they tell.
	SchemaChanged func(ctx context.Context, tx TTx, c *SchemaChange) error
	WriteFailed   func(ctx context.Context, tx TTx, f *WriteFailure) error

	Slice   time.Duration // how long a built-in job runs before it yields
	Overlap time.Duration // how far below its cursor a sync reads again
	Logger  *slog.Logger
}

// slice is the time a job may run before it yields.
type slice struct {
	ends     time.Time
	draining <-chan struct{}
}

func (e *Env[TTx]) newSlice() slice {
	return slice{ends: time.Now().Add(e.Slice), draining: e.Draining}
}

// over reports whether the job should checkpoint and yield.
func (s slice) over() bool {
	select {
	case <-s.draining:
		return true
	default:
		return !time.Now().Before(s.ends)
	}
}
