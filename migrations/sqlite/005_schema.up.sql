-- The fields of each object that is synced, as they were last described, by
-- which a change of them is noticed. In a table of its own: the list is long,
-- and the sync's row is written with every page.
CREATE TABLE weir_schema (
    org text NOT NULL,
    object text NOT NULL,
    fields text NOT NULL, -- JSON list
    seen_at text NOT NULL, -- before the describe that said so was asked for
    PRIMARY KEY (org, object)
);
