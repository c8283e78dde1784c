-- The fields of each object that is synced, as they were last described, by
-- which a change of them is noticed. In a table of its own: the list is long,
-- and the sync's row is written with every page.
CREATE TABLE weir_schema (
    org text COLLATE "C" NOT NULL,
    object text COLLATE "C" NOT NULL,
    fields json NOT NULL,
    seen_at timestamptz NOT NULL, -- before the describe that said so was asked for
    PRIMARY KEY (org, object)
);
