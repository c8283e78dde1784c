package runner

import (
	"context"

	"github.com/weirhq/weir/breaker"
	"github.com/weirhq/weir/sfapi"
)

// Call makes a call for an org as its sync lane does, in a process that need
// not be started.
func Call[TTx any](r *Runner[TTx], ctx context.Context, org sfapi.OrgID) error {
	client, err := r.clients.get(ctx, org, breaker.Sync)
	if err != nil {
		return err
	}
	_, err = client.Limits(ctx)
	return err
}

// WorkCancellations does what the loop of cancellations does each time.
func WorkCancellations[TTx any](r *Runner[TTx], ctx context.Context) error {
	return r.workCancellations(ctx)
}

// Probe asks for the org's token as a probe does, which no hold stops.
func Probe[TTx any](r *Runner[TTx], ctx context.Context, org sfapi.OrgID) error {
	return Call(r, probing(ctx), org)
}
