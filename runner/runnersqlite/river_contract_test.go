package runnersqlite_test

import (
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/riverqueue/river/riverdriver/riversqlite"
	"github.com/riverqueue/river/rivermigrate"

	"github.com/weirhq/weir/runner/runnersqlite"
)

// riverSchema is what the files river*.go were written against: every column,
// type, state, index, constraint and trigger of River's that they use. A change
// here means: read those files again, then River's own SQL.
const riverSchema = `
CREATE TABLE river_job (
id integer PRIMARY KEY AUTOINCREMENT,
args blob NOT NULL DEFAULT (jsonb('{}')),
attempt integer NOT NULL DEFAULT 0,
attempted_at timestamp,
attempted_by blob,
created_at timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP,
errors blob,
finalized_at timestamp,
kind text NOT NULL,
max_attempts integer NOT NULL DEFAULT 25,
metadata blob NOT NULL DEFAULT (jsonb('{}')),
priority integer NOT NULL DEFAULT 1,
queue text NOT NULL DEFAULT 'default',
state text NOT NULL DEFAULT 'available',
scheduled_at timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP,
tags blob NOT NULL DEFAULT (jsonb('[]')),
unique_key blob,
unique_states integer,
CONSTRAINT finalized_or_finalized_at_null CHECK (
(finalized_at IS NULL AND state NOT IN ('cancelled', 'completed', 'discarded')) OR
(finalized_at IS NOT NULL AND state IN ('cancelled', 'completed', 'discarded'))
),
CONSTRAINT priority_in_range CHECK (priority >= 1 AND priority <= 4),
CONSTRAINT queue_length CHECK (length(queue) > 0 AND length(queue) < 128),
CONSTRAINT kind_length CHECK (length(kind) > 0 AND length(kind) < 128),
CONSTRAINT state_valid CHECK (state IN ('available', 'cancelled', 'completed', 'discarded', 'pending', 'retryable', 'running', 'scheduled'))
)
CREATE TABLE river_notification (
id integer PRIMARY KEY AUTOINCREMENT,
created_at timestamp NOT NULL DEFAULT (datetime('now', 'subsec')),
payload text NOT NULL,
topic text NOT NULL,
CONSTRAINT topic_length CHECK (length(topic) > 0 AND length(topic) < 128)
)
CREATE TABLE river_queue (
name text PRIMARY KEY NOT NULL,
created_at timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP,
metadata blob NOT NULL DEFAULT (jsonb('{}')),
paused_at timestamp,
updated_at timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP
)
CREATE INDEX river_job_kind ON river_job (kind)
CREATE INDEX river_job_prioritized_fetching_index ON river_job (state, queue, priority, scheduled_at, id)
CREATE INDEX river_job_state_and_finalized_at_index ON river_job (state, finalized_at) WHERE finalized_at IS NOT NULL
CREATE UNIQUE INDEX river_job_unique_idx ON river_job (unique_key)
WHERE unique_key IS NOT NULL
AND unique_states IS NOT NULL
AND CASE state
WHEN 'available' THEN unique_states & (1 << 0)
WHEN 'cancelled' THEN unique_states & (1 << 1)
WHEN 'completed' THEN unique_states & (1 << 2)
WHEN 'discarded' THEN unique_states & (1 << 3)
WHEN 'pending' THEN unique_states & (1 << 4)
WHEN 'retryable' THEN unique_states & (1 << 5)
WHEN 'running' THEN unique_states & (1 << 6)
WHEN 'scheduled' THEN unique_states & (1 << 7)
ELSE 0
END >= 1
CREATE INDEX river_notification_created_at_idx ON river_notification (created_at)
CREATE INDEX river_notification_topic_id_idx ON river_notification (topic, id)
`

// TestRiverSchema fails when a new version of River changes its tables.
func TestRiverSchema(t *testing.T) {
	t.Parallel()
	pool, err := runnersqlite.Open(filepath.Join(t.TempDir(), "weir.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = pool.Close() })
	migrator, err := rivermigrate.New(riversqlite.New(pool), &rivermigrate.Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := migrator.Migrate(t.Context(), rivermigrate.DirectionUp, nil); err != nil {
		t.Fatal(err)
	}
	rows, err := pool.QueryContext(t.Context(), `
SELECT sql FROM sqlite_master
WHERE tbl_name IN ('river_job', 'river_queue', 'river_notification') AND sql IS NOT NULL
ORDER BY type DESC, name`)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	got := "\n"
	for rows.Next() {
		var statement string
		if err := rows.Scan(&statement); err != nil {
			t.Fatal(err)
		}
		for line := range strings.SplitSeq(statement, "\n") {
			line, _, _ = strings.Cut(line, "--")
			if words := strings.Fields(line); len(words) > 0 {
				got += strings.Join(words, " ") + "\n"
			}
		}
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(riverSchema, got); d != "" {
		t.Errorf("River's tables have changed (-want +got):\n%s\nThey are now:\n%s", d, got)
	}
}
