package runner_test

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/weirhq/weir/jobs"
	"github.com/weirhq/weir/runner"
	"github.com/weirhq/weir/runner/internal/pgtest"
)

// Ten thousand orgs with five schedules each cost a tick one statement, which an
// index answers, while nothing is due; and what is due is found among them.
func TestManySchedules(t *testing.T) {
	t.Parallel()
	config, err := pgxpool.ParseConfig(pgtest.URL(t))
	noError(t, err)
	var statements statementCounter
	config.ConnConfig.Tracer = &statements
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	noError(t, err)
	t.Cleanup(pool.Close)
	f := fixtureOn(t, pool)
	jobs.AddMirror(f.handlers, jobs.AnyObject, nil)
	r := f.migrated(t)
	f.connect(t, r)
	ctx := t.Context()
	_, err = pool.Exec(ctx, `
		INSERT INTO weir_schedule (org, object, mode, fields, every_ms, next_run)
		SELECT 'org' || o, 'Object' || n, 'incremental', '{}', 300000, now() + interval '1 hour'
		FROM generate_series(1, 10000) o, generate_series(1, 5) n`)
	noError(t, err)
	_, err = pool.Exec(ctx, `INSERT INTO weir_schedule (org, object, mode, fields, every_ms, next_run) VALUES ($1, 'Account', 'incremental', '{}', 300000, now())`, string(f.orgID))
	noError(t, err)
	_, err = pool.Exec(ctx, `ANALYZE weir_schedule`)
	noError(t, err)

	if n, err := runner.EnqueueDue(r, ctx); n != 1 || err != nil {
		t.Errorf("%d enqueued, %v", n, err)
	}
	before := statements.n.Load()
	n, err := runner.EnqueueDue(r, ctx)
	if n != 0 || err != nil {
		t.Errorf("%d enqueued again, %v", n, err)
	}
	// Beside it the transaction around it.
	if n := statements.n.Load() - before; n != 3 {
		t.Errorf("a tick is %d statements, want begin, the question and commit", n)
	}
	rows, err := pool.Query(ctx, `EXPLAIN SELECT id FROM weir_schedule WHERE next_run <= now() ORDER BY next_run LIMIT 100 FOR UPDATE SKIP LOCKED`)
	noError(t, err)
	var plan []string
	for rows.Next() {
		var line string
		noError(t, rows.Scan(&line))
		plan = append(plan, line)
	}
	noError(t, rows.Err())
	if text := strings.Join(plan, "\n"); !strings.Contains(text, "Index Scan using weir_schedule_due") {
		t.Errorf("the question is answered by\n%s", text)
	}
}
