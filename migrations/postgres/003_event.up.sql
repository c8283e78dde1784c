-- What apps are told of, by cursor or by deliveries that name the id. Kept for
-- a bounded time.
CREATE TABLE weir_event (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    org text COLLATE "C" NOT NULL,
    type text NOT NULL,
    at timestamptz NOT NULL,
    inserted_at timestamptz NOT NULL DEFAULT now(),
    payload json NOT NULL
);

CREATE INDEX weir_event_inserted ON weir_event (inserted_at);

-- Orders to cancel an org's work, and to put it back.
CREATE TABLE weir_cancellation (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    org text COLLATE "C" NOT NULL,
    reason text NOT NULL,
    state text NOT NULL CHECK (state IN ('cancelling', 'cancelled', 'requeueing', 'closed')),
    event json, -- to be emitted when nothing is left to cancel
    jobs bigint NOT NULL DEFAULT 0,
    writes bigint NOT NULL DEFAULT 0,
    changed_at timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX weir_cancellation_open ON weir_cancellation (org, id) WHERE state <> 'closed';
CREATE INDEX weir_cancellation_closed ON weir_cancellation (changed_at) WHERE state = 'closed';

-- Which cancellation a record was cancelled by.
ALTER TABLE weir_write_record ADD COLUMN cancellation bigint;

CREATE INDEX weir_write_record_cancelled ON weir_write_record (cancellation, id)
    WHERE status = 'cancelled';
