-- Syncs that are enqueued again and again. Each tick asks for the rows that are
-- due, by one index, whatever their number.
CREATE TABLE weir_schedule (
    id integer PRIMARY KEY AUTOINCREMENT,
    org text NOT NULL,
    object text NOT NULL,
    mode text NOT NULL,
    fields text NOT NULL, -- JSON list
    every_ms integer NOT NULL CHECK (every_ms > 0),
    next_run text NOT NULL,
    UNIQUE (org, object)
);

CREATE INDEX weir_schedule_due ON weir_schedule (next_run);
