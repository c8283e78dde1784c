package runner

import "context"

// EnqueueDue is a tick of the schedules: it enqueues what is due.
func EnqueueDue[TTx any](r *Runner[TTx], ctx context.Context) (int, error) { return r.enqueueDue(ctx) }
