-- Times are text of one length in UTC, 2006-01-02T15:04:05.000000Z, so that
-- comparing texts compares times. Columns are declared text rather than
-- timestamp: the driver turns declared timestamps into values of its own.
--
-- There are no foreign keys, as on Postgres: see there.

CREATE TABLE weir_org (
    id text PRIMARY KEY NOT NULL,
    label text NOT NULL,
    -- What a list is searched by: id and label in lower case, made by the
    -- program, since SQLite's lower() knows only ASCII.
    search text NOT NULL,
    login_url text NOT NULL,
    instance_url text NOT NULL,
    user_id text NOT NULL,
    state text NOT NULL CHECK (state IN ('connected', 'revoked', 'disconnected')),
    generation integer NOT NULL,
    version integer NOT NULL,
    breaker text,
    -- What the gate lets through: how many jobs of a lane may be in flight (NULL
    -- is the default, 0 none), and whether a hold of ours covers the lane. A
    -- lane that none covers is also stopped by a pause of its River queue.
    sync_window integer,
    sync_held integer NOT NULL DEFAULT 0,
    write_window integer,
    write_held integer NOT NULL DEFAULT 0,
    usage_used integer NOT NULL DEFAULT 0,
    usage_limit integer NOT NULL DEFAULT 0,
    usage_at text,
    connected_at text NOT NULL,
    created_at text NOT NULL,
    updated_at text NOT NULL,
    -- The grant. access and refresh are sealed.
    access blob,
    refresh blob,
    issued_at text,
    scope text NOT NULL DEFAULT '',
    -- The token request on record; attempt_owner is NULL when there is none.
    attempt_generation integer,
    attempt_owner text,
    attempt_deadline text,
    attempt_replays integer
);

-- The gate finds an org by the name of a lane, which has its id in lower case.
CREATE UNIQUE INDEX weir_org_lane ON weir_org (lower(id));

CREATE TABLE weir_sync (
    org text NOT NULL,
    object text NOT NULL,
    epoch integer NOT NULL,
    lease_job integer NOT NULL, -- the river_job that holds the lease, 0 when none
    job_id integer NOT NULL,    -- the one that works or worked the run
    begun_by integer NOT NULL,  -- the one that began the run
    running integer NOT NULL,
    mode text NOT NULL,
    from_stamp text,
    cursor_stamp text,
    cursor_id text NOT NULL DEFAULT '',
    server_start text,
    started_at text,
    row_count integer NOT NULL DEFAULT 0,
    deleted_count integer NOT NULL DEFAULT 0,
    call_count integer NOT NULL DEFAULT 0,
    next_from text,
    total_rows integer NOT NULL DEFAULT 0,
    last_run text,
    updated_at text NOT NULL,
    PRIMARY KEY (org, object)
) WITHOUT ROWID;

-- The row versions of a sync's overlap. The key's order serves both the look-up
-- of a version and forgetting everything before a stamp.
CREATE TABLE weir_sync_seen (
    org text NOT NULL,
    object text NOT NULL,
    stamp text NOT NULL,
    id text NOT NULL,
    hash blob NOT NULL,
    PRIMARY KEY (org, object, stamp, id, hash)
) WITHOUT ROWID;

CREATE TABLE weir_write (
    id integer PRIMARY KEY AUTOINCREMENT, -- an id is never used twice
    org text NOT NULL,
    object text NOT NULL,
    operation text NOT NULL,
    external_id text NOT NULL,
    idempotency_key text,
    body_hash blob NOT NULL,
    accepted integer NOT NULL,
    created_at text NOT NULL
);

CREATE UNIQUE INDEX weir_write_idempotency ON weir_write (org, idempotency_key)
    WHERE idempotency_key IS NOT NULL;

-- The write log. id is the order of submission.
CREATE TABLE weir_write_record (
    id integer PRIMARY KEY AUTOINCREMENT,
    write_id integer NOT NULL,
    idx integer NOT NULL,
    org text NOT NULL,
    object text NOT NULL,
    key text NOT NULL,
    payload text NOT NULL,
    carried text, -- what the request carries in its place, while sent with merged rows
    status text NOT NULL DEFAULT 'pending'
        CHECK (status IN ('pending', 'sent', 'done', 'failed', 'unknown', 'cancelled')),
    attempts integer NOT NULL DEFAULT 0,
    changed_at text NOT NULL,
    sent_at text,
    salesforce_id text,
    created integer NOT NULL DEFAULT 0,
    error_code text,
    error_message text,
    error_fields text, -- JSON list
    merged_into integer
);

CREATE UNIQUE INDEX weir_write_record_write ON weir_write_record (write_id, idx);

CREATE INDEX weir_write_record_open ON weir_write_record (org, object, id)
    WHERE status IN ('pending', 'sent');

CREATE INDEX weir_write_record_merged ON weir_write_record (merged_into)
    WHERE status = 'sent' AND merged_into IS NOT NULL;

-- The lease of the drain of an object's write log.
CREATE TABLE weir_drain (
    org text NOT NULL,
    object text NOT NULL,
    epoch integer NOT NULL,
    lease_job integer NOT NULL, -- the river_job that holds the lease, 0 when none
    PRIMARY KEY (org, object)
) WITHOUT ROWID;

-- The heartbeats of worker processes.
CREATE TABLE weir_worker (
    process text PRIMARY KEY NOT NULL,
    started_at text NOT NULL,
    seen_at text NOT NULL
);
