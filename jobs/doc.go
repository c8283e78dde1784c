// Package jobs has the jobs that Weir runs for an org: Sync reads an object
// through a handler of the app's or into a mirror table, Write drains the
// write log, and jobs of the app's own run in the same harness with a client
// bound to their org.
//
// An app declares what it does with each object on a Handlers and gives that
// to runner.New:
//
//	handlers := jobs.NewHandlers[pgx.Tx]()
//	jobs.AddSync(handlers, "Account", func(ctx context.Context, tx pgx.Tx, page *jobs.Page[Account]) error { … })
//	jobs.AddMirror(handlers, "Contact", nil)
package jobs
