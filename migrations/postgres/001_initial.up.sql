-- Ids and names are compared byte by byte (COLLATE "C"): the same order as on
-- SQLite, faster than a locale's, and unchanged by an upgrade of the C library.
--
-- There are no foreign keys. Every org row is read, and locked, by the hot
-- paths; a key on it would make each enqueue lock it too, and ten thousand
-- records of one write would be checked one by one against the same row.

CREATE TABLE weir_org (
    id text COLLATE "C" PRIMARY KEY,
    label text NOT NULL,
    -- What a list is searched by: id and label in lower case, made by the
    -- program, since lower() knows only the letters of the database's locale.
    search text NOT NULL,
    login_url text NOT NULL,
    instance_url text NOT NULL,
    user_id text NOT NULL,
    state text NOT NULL CHECK (state IN ('connected', 'revoked', 'disconnected')),
    generation bigint NOT NULL,
    version bigint NOT NULL,
    breaker jsonb,
    -- What the gate lets through: how many jobs of a lane may be in flight (NULL
    -- is the default, 0 none), and whether a hold of ours covers the lane. A
    -- lane that none covers is also stopped by a pause of its River queue.
    sync_window integer,
    sync_held boolean NOT NULL DEFAULT false,
    write_window integer,
    write_held boolean NOT NULL DEFAULT false,
    usage_used integer NOT NULL DEFAULT 0,
    usage_limit integer NOT NULL DEFAULT 0,
    usage_at timestamptz,
    connected_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    -- The grant. access and refresh are sealed.
    access bytea,
    refresh bytea,
    issued_at timestamptz,
    scope text NOT NULL DEFAULT '',
    -- The token request on record; attempt_owner is NULL when there is none.
    attempt_generation bigint,
    attempt_owner text,
    attempt_deadline timestamptz,
    attempt_replays integer
) WITH (fillfactor = 70);

-- The gate finds an org by the name of a lane, which has its id in lower case.
CREATE UNIQUE INDEX weir_org_lane ON weir_org (lower(id));

-- The orgs that an operator asks for: held or revoked, few of ten thousand
-- but for the hours of a maintenance.
CREATE INDEX weir_org_held ON weir_org (id)
    WHERE state = 'revoked' OR jsonb_path_exists(breaker, '$.holds[0]');

CREATE TABLE weir_sync (
    org text COLLATE "C" NOT NULL,
    object text COLLATE "C" NOT NULL,
    epoch bigint NOT NULL,
    lease_job bigint NOT NULL, -- the river_job that holds the lease, 0 when none
    job_id bigint NOT NULL,    -- the one that works or worked the run
    begun_by bigint NOT NULL,  -- the one that began the run
    running boolean NOT NULL,
    mode text NOT NULL,
    from_stamp timestamptz,
    cursor_stamp timestamptz,
    cursor_id text NOT NULL DEFAULT '',
    server_start timestamptz,
    started_at timestamptz,
    row_count bigint NOT NULL DEFAULT 0,
    deleted_count bigint NOT NULL DEFAULT 0,
    call_count bigint NOT NULL DEFAULT 0,
    next_from timestamptz,
    total_rows bigint NOT NULL DEFAULT 0,
    last_run jsonb,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (org, object)
) WITH (fillfactor = 70);

-- The row versions of a sync's overlap. The key's order serves both the look-up
-- of a version and forgetting everything before a stamp.
CREATE TABLE weir_sync_seen (
    org text COLLATE "C" NOT NULL,
    object text COLLATE "C" NOT NULL,
    stamp timestamptz NOT NULL,
    id text COLLATE "C" NOT NULL,
    hash bytea NOT NULL,
    PRIMARY KEY (org, object, stamp, id, hash)
);

CREATE TABLE weir_write (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    org text COLLATE "C" NOT NULL,
    object text COLLATE "C" NOT NULL,
    operation text NOT NULL,
    external_id text NOT NULL,
    idempotency_key text,
    body_hash bytea NOT NULL,
    accepted integer NOT NULL,
    created_at timestamptz NOT NULL
);

CREATE UNIQUE INDEX weir_write_idempotency ON weir_write (org, idempotency_key)
    WHERE idempotency_key IS NOT NULL;

-- The write log. id is the order of submission. It has no index of its own: the
-- planner could walk that one, from the oldest of ten million rows, to answer
-- "the first pending rows of this org". Rows are found by (org, object, id)
-- while they are open, and by their write ever after.
CREATE TABLE weir_write_record (
    id bigint GENERATED ALWAYS AS IDENTITY,
    write_id bigint NOT NULL,
    idx integer NOT NULL,
    org text COLLATE "C" NOT NULL,
    object text COLLATE "C" NOT NULL,
    key text NOT NULL,
    payload json NOT NULL, -- json, not jsonb: it keeps every digit, key order and \u0000
    size integer NOT NULL, -- bytes of payload, known without reading it
    carried json,          -- what the request carries in its place, while sent with merged rows
    status text NOT NULL DEFAULT 'pending'
        CHECK (status IN ('pending', 'sent', 'done', 'failed', 'unknown', 'cancelled')),
    attempts integer NOT NULL DEFAULT 0,
    changed_at timestamptz NOT NULL DEFAULT now(),
    sent_at timestamptz,
    salesforce_id text,
    created boolean NOT NULL DEFAULT false,
    error_code text,
    error_message text,
    error_fields text[],
    merged_into bigint,
    PRIMARY KEY (write_id, idx)
);

CREATE INDEX weir_write_record_open ON weir_write_record (org, object, id)
    WHERE status IN ('pending', 'sent');

CREATE INDEX weir_write_record_merged ON weir_write_record (merged_into)
    WHERE status = 'sent' AND merged_into IS NOT NULL;

-- The lease of the drain of an object's write log.
CREATE TABLE weir_drain (
    org text COLLATE "C" NOT NULL,
    object text COLLATE "C" NOT NULL,
    epoch bigint NOT NULL,
    lease_job bigint NOT NULL, -- the river_job that holds the lease, 0 when none
    PRIMARY KEY (org, object)
) WITH (fillfactor = 50);

-- The heartbeats of worker processes.
CREATE TABLE weir_worker (
    process text PRIMARY KEY,
    started_at timestamptz NOT NULL,
    seen_at timestamptz NOT NULL
) WITH (fillfactor = 50);
