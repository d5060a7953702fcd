"""The tables, as the migrations make them. The words are those of the design; `n` counts within a ref."""

TABLES = """
CREATE TABLE meta (key text PRIMARY KEY, value bytea NOT NULL);
INSERT INTO meta VALUES ('ping', '');

-- n is never used twice: a ref that was erased and made anew is another ref.
-- An erased one waits without its name, its time over, until all its rows are gone.
CREATE TABLE refs (
    n bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant text COLLATE "C" NOT NULL, kind text COLLATE "C" NOT NULL, name text COLLATE "C" NOT NULL,
    last bigint NOT NULL DEFAULT 0,         -- the n of the newest entry, failed ones included
    head bigint, head_id bytea, branch bigint, upto bigint, tokens_upto bigint, turn bigint,   -- of the head
    preamble bytea, anchor text, resume bigint, named bytea,                                    -- of the head
    whole boolean NOT NULL,
    tag text NOT NULL,                      -- stands for the ref in ids that clients hold
    summary bigint,                         -- summaries.n of the newest, of whichever branch
    created bigint NOT NULL, updated bigint NOT NULL, expires bigint,
    hour bigint,                            -- of expires, rounded down; indexed, so it changes once an hour, not each
                                            -- turn: all other changes of a row stay within its page
    UNIQUE (tenant, kind, name)
) WITH (fillfactor = 60, autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX refs_hour ON refs (hour) WHERE hour IS NOT NULL;

-- A branch is a run of entries, each the child of the one before, named by its first entry's n.
CREATE TABLE entries (
    ref bigint, n bigint,
    branch bigint,                          -- NULL: a failed exchange, on no branch
    upto bigint NOT NULL, tokens_upto bigint NOT NULL, turn bigint NOT NULL, count integer NOT NULL,
    resume bigint, anchor text, named bytea,    -- of its anchor: the key, and the summary's id
    id bytea NOT NULL, digest bytea NOT NULL, preamble bytea,
    row bytea NOT NULL,                     -- the whole entry, packed
    plan bytea NOT NULL,
    PRIMARY KEY (ref, n)
) WITH (autovacuum_vacuum_scale_factor = 0.02);
-- Ids begin with the time, so it grows at its end. A statement that looks for an id on a branch says so with coalesce,
-- not IS NOT NULL: else the server may take the index of chains, and read all of a ref, while its tables are new to it.
CREATE UNIQUE INDEX entries_id ON entries (id, ref);
CREATE INDEX entries_chain ON entries (ref, branch, upto, turn) WHERE branch IS NOT NULL;

-- Where a branch leaves another; a branch that starts at a root has no row.
CREATE TABLE branches (ref bigint, n bigint, parent bigint NOT NULL, at bigint NOT NULL, PRIMARY KEY (ref, n));

-- The newest entry that ends so. Only of refs whose clients send their whole history: nobody else asks for them.
CREATE TABLE digests (ref bigint, digest bytea, n bigint NOT NULL, PRIMARY KEY (ref, digest))
    WITH (autovacuum_vacuum_scale_factor = 0.02);

CREATE TABLE preambles (ref bigint, id bytea, wire bytea NOT NULL, tokens bigint NOT NULL, PRIMARY KEY (ref, id));

-- n is the entry's. Those that are not sticky live for moments, so the table stays small.
CREATE TABLE replays (
    ref bigint, n bigint, key text NOT NULL, sticky boolean NOT NULL, at bigint NOT NULL, row bytea NOT NULL,
    PRIMARY KEY (ref, n)
) WITH (autovacuum_vacuum_scale_factor = 0.02);
CREATE INDEX replays_sticky ON replays (ref, key) WHERE sticky;
CREATE INDEX replays_at ON replays (at) WHERE sticky;

-- n is the entry's.
CREATE TABLE notes (ref bigint, n bigint, note bytea NOT NULL, PRIMARY KEY (ref, n));

CREATE TABLE summaries (
    ref bigint, n bigint, id bytea NOT NULL, upto bigint NOT NULL, row bytea NOT NULL,
    PRIMARY KEY (ref, n), UNIQUE (ref, id)
);

-- How far the index of a ref has come; its row is what those who index wait for, so that appends need not.
CREATE TABLE indexes (
    ref bigint PRIMARY KEY, parts bigint NOT NULL DEFAULT 0,
    merged bigint NOT NULL DEFAULT 0        -- bags that start below it are merged: nobody looks for what was there
) WITH (fillfactor = 60);

-- Which entries have words (model '') or vectors. words: of the chain up to and with this entry.
CREATE TABLE indexed (
    ref bigint, branch bigint, model text, upto bigint, words bigint NOT NULL, PRIMARY KEY (ref, branch, model, upto)
);

-- A ref's messages are numbered in the order in which they are indexed, whatever their branches.
-- A run is a row of them that lie one behind the other: number start + i is position first + i on the branch.
CREATE TABLE runs (
    ref bigint, start bigint, branch bigint NOT NULL, first bigint NOT NULL, count bigint NOT NULL,
    PRIMARY KEY (ref, start)
) WITH (fillfactor = 60);

-- The words of one entry each, freshly indexed: a term and a posting at the same place. A posting is that of the
-- contract with the message's number in place of its position.
CREATE TABLE bags (
    ref bigint, start bigint, terms bigint[] NOT NULL, docs bigint[] NOT NULL, PRIMARY KEY (ref, start)
) WITH (autovacuum_vacuum_scale_factor = 0.02);

-- Bags merged, and parts merged: level n is made of level n - 1.
CREATE TABLE parts (ref bigint, part bigint, level integer NOT NULL, PRIMARY KEY (ref, part));
-- docs: postings, each of 8 bytes, big-endian, joined by nothing.
CREATE TABLE postings (
    ref bigint, term bigint, part bigint, docs bytea NOT NULL, PRIMARY KEY (ref, term, part)
) WITH (autovacuum_vacuum_scale_factor = 0.02);
CREATE INDEX postings_part ON postings (ref, part);

-- Of one entry each.
CREATE TABLE vectors (
    ref bigint, branch bigint, model text, upto bigint, positions bytea NOT NULL, matrix bytea NOT NULL,
    PRIMARY KEY (ref, branch, model, upto)
);
ALTER TABLE vectors ALTER COLUMN matrix SET STORAGE EXTERNAL;   -- numbers that do not compress
"""

RUNS_AND_LABELS = """
ALTER TABLE refs ADD COLUMN revision bigint NOT NULL DEFAULT 0;   -- how often something was erased from its entries

-- The entry is the last one that it covers. In rows of before it stands in the packed summary, at a fixed place: behind
-- the head of a list, and an id of 32 letters; both have two bytes in front.
ALTER TABLE summaries ADD COLUMN entry bytea;
UPDATE summaries SET entry = decode(convert_from(substring(row FROM 38 FOR 32), 'UTF8'), 'hex');

-- What is kept about refs themselves. A table of its own: refs are rewritten each turn, and a label may be long.
CREATE TABLE labels (
    ref bigint PRIMARY KEY,
    tenant text COLLATE "C" NOT NULL, kind text COLLATE "C" NOT NULL, created bigint NOT NULL,
    name text COLLATE "C" NOT NULL,         -- all as in refs
    label bytea NOT NULL
);
CREATE UNIQUE INDEX labels_made ON labels (tenant, kind, created, name);

-- The contract's runs; that name is the index's here.
CREATE TABLE responses (
    ref bigint, entry bytea, owner text NOT NULL, state bytea NOT NULL,
    ended boolean NOT NULL DEFAULT false, cancelled boolean NOT NULL DEFAULT false,
    stays boolean NOT NULL DEFAULT true,    -- until its ref goes; else it goes with its log
    beat bigint NOT NULL,
    tick bigint,                            -- of beat, in units of 8192 ms; NULL: it has ended. Indexed, so it changes
                                            -- now and then, not each time: all other changes stay within the page
    events bigint NOT NULL DEFAULT 0,
    until bigint,                           -- when its log goes; NULL: it has not ended, or the log is gone
    PRIMARY KEY (ref, entry)
) WITH (fillfactor = 60, autovacuum_vacuum_scale_factor = 0.05);
CREATE UNIQUE INDEX responses_entry ON responses (entry, ref);
CREATE INDEX responses_tick ON responses (tick) WHERE tick IS NOT NULL;
CREATE INDEX responses_until ON responses (until) WHERE until IS NOT NULL;

-- Events that came together, numbered from first on.
CREATE TABLE logs (ref bigint, entry bytea, first bigint, events bytea[] NOT NULL, PRIMARY KEY (ref, entry, first))
    WITH (autovacuum_vacuum_scale_factor = 0.02);
"""
