-- Syncs that are enqueued again and again. Each tick asks for the rows that are
-- due, by one index, whatever their number.
CREATE TABLE weir_schedule (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    org text COLLATE "C" NOT NULL,
    object text COLLATE "C" NOT NULL,
    mode text NOT NULL,
    fields text[] NOT NULL,
    every_ms bigint NOT NULL CHECK (every_ms > 0),
    next_run timestamptz NOT NULL,
    UNIQUE (org, object)
) WITH (fillfactor = 70);

CREATE INDEX weir_schedule_due ON weir_schedule (next_run);
