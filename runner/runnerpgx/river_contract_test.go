package runnerpgx_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/weirhq/weir/runner/internal/pgtest"
)

// riverSchema is what the files river*.go were written against: every column,
// type, state, index, trigger and function of River's that they use. A change
// here means: read those files again, then River's own SQL.
const riverSchema = `
river_job args jsonb not null
river_job attempt smallint not null default 0
river_job attempted_at timestamp with time zone
river_job attempted_by text[]
river_job created_at timestamp with time zone not null default now()
river_job errors jsonb[]
river_job finalized_at timestamp with time zone
river_job id bigint not null default nextval('river_job_id_seq'::regclass)
river_job kind text not null
river_job max_attempts smallint not null default 25
river_job metadata jsonb not null default '{}'::jsonb
river_job priority smallint not null default 1
river_job queue text not null default 'default'::text
river_job scheduled_at timestamp with time zone not null default now()
river_job state river_job_state not null default 'available'::river_job_state
river_job tags character varying(255)[] not null default '{}'::character varying[]
river_job unique_key bytea
river_job unique_states bit(8)
river_queue created_at timestamp with time zone not null default now()
river_queue metadata jsonb not null default '{}'::jsonb
river_queue name text not null
river_queue paused_at timestamp with time zone
river_queue updated_at timestamp with time zone not null default CURRENT_TIMESTAMP
river_job_state available
river_job_state cancelled
river_job_state completed
river_job_state discarded
river_job_state pending
river_job_state retryable
river_job_state running
river_job_state scheduled
CREATE INDEX river_job_args_index ON public.river_job USING gin (args)
CREATE INDEX river_job_kind ON public.river_job USING btree (kind)
CREATE INDEX river_job_metadata_index ON public.river_job USING gin (metadata)
CREATE INDEX river_job_prioritized_fetching_index ON public.river_job USING btree (state, queue, priority, scheduled_at, id)
CREATE INDEX river_job_state_and_finalized_at_index ON public.river_job USING btree (state, finalized_at) WHERE (finalized_at IS NOT NULL)
CREATE UNIQUE INDEX river_job_pkey ON public.river_job USING btree (id)
CREATE UNIQUE INDEX river_job_unique_idx ON public.river_job USING btree (unique_key) WHERE ((unique_key IS NOT NULL) AND (unique_states IS NOT NULL) AND river_job_state_in_bitmask(unique_states, state))
CREATE UNIQUE INDEX river_queue_pkey ON public.river_queue USING btree (name)
CHECK ((((finalized_at IS NULL) AND (state <> ALL (ARRAY['cancelled'::river_job_state, 'completed'::river_job_state, 'discarded'::river_job_state]))) OR ((finalized_at IS NOT NULL) AND (state = ANY (ARRAY['cancelled'::river_job_state, 'completed'::river_job_state, 'discarded'::river_job_state])))))
CHECK (((char_length(kind) > 0) AND (char_length(kind) < 128)))
CHECK (((char_length(queue) > 0) AND (char_length(queue) < 128)))
CHECK (((priority >= 1) AND (priority <= 4)))
CHECK ((max_attempts > 0))
function river_job_state_in_bitmask(bit,river_job_state)
`

// TestRiverSchema fails when a new version of River changes its tables.
func TestRiverSchema(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t)
	migrateRiver(t, pool)
	const query = `
SELECT line FROM (
	SELECT 1, attrelid::regclass || ' ' || attname || ' ' || format_type(atttypid, atttypmod)
		|| CASE WHEN attnotnull THEN ' not null' ELSE '' END
		|| coalesce(' default ' || pg_get_expr(adbin, adrelid), '')
	FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
	WHERE attrelid IN ('river_job'::regclass, 'river_queue'::regclass) AND attnum > 0 AND NOT attisdropped
	UNION ALL
	SELECT 2, 'river_job_state ' || enumlabel FROM pg_enum WHERE enumtypid = 'river_job_state'::regtype
	UNION ALL
	SELECT 3, pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid IN ('river_job'::regclass, 'river_queue'::regclass)
	UNION ALL
	SELECT 4, pg_get_constraintdef(oid) FROM pg_constraint
	WHERE conrelid IN ('river_job'::regclass, 'river_queue'::regclass) AND contype = 'c'
	UNION ALL
	SELECT 5, 'trigger ' || tgname FROM pg_trigger WHERE tgrelid IN ('river_job'::regclass, 'river_queue'::regclass) AND NOT tgisinternal
	UNION ALL
	SELECT 6, 'function ' || p.oid::regprocedure FROM pg_proc p WHERE proname LIKE 'river%'
) s(part, line) ORDER BY part, line COLLATE "C"`
	rows, err := pool.Query(t.Context(), query)
	if err != nil {
		t.Fatal(err)
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	got := "\n" + strings.Join(lines, "\n") + "\n"
	if d := cmp.Diff(riverSchema, got); d != "" {
		t.Errorf("River's tables have changed (-want +got):\n%s\nThey are now:\n%s", d, got)
	}
}
