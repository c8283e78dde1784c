-- What apps are told of, by cursor or by deliveries that name the id. Kept for
-- a bounded time.
CREATE TABLE weir_event (
    id integer PRIMARY KEY AUTOINCREMENT, -- an id is never used twice
    org text NOT NULL,
    type text NOT NULL,
    at text NOT NULL,
    inserted_at text NOT NULL,
    payload text NOT NULL
);

CREATE INDEX weir_event_inserted ON weir_event (inserted_at);

-- Orders to cancel an org's work, and to put it back.
CREATE TABLE weir_cancellation (
    id integer PRIMARY KEY AUTOINCREMENT,
    org text NOT NULL,
    reason text NOT NULL,
    state text NOT NULL CHECK (state IN ('cancelling', 'cancelled', 'requeueing', 'closed')),
    event text, -- to be emitted when nothing is left to cancel
    jobs integer NOT NULL DEFAULT 0,
    writes integer NOT NULL DEFAULT 0,
    changed_at text NOT NULL
);

CREATE INDEX weir_cancellation_open ON weir_cancellation (org, id) WHERE state <> 'closed';
CREATE INDEX weir_cancellation_closed ON weir_cancellation (changed_at) WHERE state = 'closed';

-- Which cancellation a record was cancelled by.
ALTER TABLE weir_write_record ADD COLUMN cancellation integer;

CREATE INDEX weir_write_record_cancelled ON weir_write_record (cancellation, id)
    WHERE status = 'cancelled';
