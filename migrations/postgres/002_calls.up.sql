-- What calls to Salesforce came to. These tables are for people to look at:
-- they are written in batches, and kept for a bounded time.

-- How many calls of an org ended with a code in an hour; '' is success.
CREATE TABLE weir_call_count (
    org text COLLATE "C" NOT NULL,
    hour timestamptz NOT NULL,
    code text COLLATE "C" NOT NULL,
    calls bigint NOT NULL,
    PRIMARY KEY (org, hour, code)
) WITH (fillfactor = 50);

CREATE INDEX weir_call_count_hour ON weir_call_count (hour);

CREATE TABLE weir_failed_call (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL,
    org text COLLATE "C" NOT NULL,
    user_id text NOT NULL,
    job_id bigint NOT NULL, -- the river_job that made the call, 0 when none did
    op text NOT NULL,
    method text NOT NULL,
    path text NOT NULL,      -- without the query
    status integer NOT NULL, -- 0 when no answer came
    kind text NOT NULL,
    code text NOT NULL,
    message text NOT NULL,
    request_id text NOT NULL,
    body text NOT NULL       -- redacted, and cut
);

CREATE INDEX weir_failed_call_org ON weir_failed_call (org, id);
CREATE INDEX weir_failed_call_at ON weir_failed_call (at);

-- Every request for a token.
CREATE TABLE weir_token_call (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL,
    org text COLLATE "C" NOT NULL,
    user_id text NOT NULL,
    generation bigint NOT NULL, -- of the credential that was exchanged
    reason text NOT NULL,       -- why a token was asked for
    outcome text NOT NULL,      -- 'token', or the kind of the refusal
    code text NOT NULL,
    message text NOT NULL,
    took_us bigint NOT NULL
);

CREATE INDEX weir_token_call_org ON weir_token_call (org, id);
CREATE INDEX weir_token_call_at ON weir_token_call (at);
