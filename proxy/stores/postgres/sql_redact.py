"""The functions that erase a part of a ref: what entries held, or entries that nobody needs any more.

Both take the ref's row FOR UPDATE: nobody who appends, indexes, annotates or logs is under way meanwhile.
"""

REDACT = """
CREATE OR REPLACE FUNCTION unindex(p_ref bigint) RETURNS void LANGUAGE sql AS $body$
    DELETE FROM vectors WHERE ref = p_ref;
    DELETE FROM bags WHERE ref = p_ref;
    DELETE FROM postings WHERE ref = p_ref;
    DELETE FROM parts WHERE ref = p_ref;
    DELETE FROM indexed WHERE ref = p_ref;
    DELETE FROM runs WHERE ref = p_ref;
    DELETE FROM indexes WHERE ref = p_ref;
$body$;

CREATE OR REPLACE FUNCTION forget(p_ref bigint, p_ids bytea[]) RETURNS void LANGUAGE sql AS $body$
    -- of these entries the runs that have ended, whose logs hold what they held
    DELETE FROM logs l USING responses u
        WHERE u.ref = p_ref AND u.entry = ANY (p_ids) AND u.ended AND l.ref = u.ref AND l.entry = u.entry;
    DELETE FROM responses WHERE ref = p_ref AND entry = ANY (p_ids) AND ended;
$body$;

CREATE OR REPLACE FUNCTION point(p_ref bigint, p_head bigint) RETURNS void LANGUAGE sql AS $body$
    -- what the ref's row holds of its head
    UPDATE refs r SET head = e.n, head_id = e.id, branch = e.branch, upto = e.upto, tokens_upto = e.tokens_upto,
        turn = e.turn, preamble = e.preamble, anchor = e.anchor, resume = e.resume, named = e.named
    FROM entries e WHERE r.n = p_ref AND e.ref = p_ref AND e.n = p_head
$body$;

CREATE OR REPLACE FUNCTION redact(
    p_now bigint, p_tenant text, p_kind text, p_name text,
    -- one of each for each entry
    p_ids bytea[], p_rows bytea[], p_notes bytea[], p_tokens bigint[], p_preambles bytea[],
    p_anchors text[], p_resumes bigint[], p_named bytea[],
    p_preamble bytea, p_wire bytea, p_weight bigint
) RETURNS boolean LANGUAGE plpgsql AS $body$
DECLARE
    v_ref bigint;
    v_head bigint;
    v_ns bigint[];
BEGIN
    SELECT r.n, r.head INTO v_ref, v_head FROM refs r
        WHERE r.tenant = p_tenant AND r.kind = p_kind AND r.name = p_name
            AND (r.expires IS NULL OR r.expires > now_ms(p_now))
        FOR UPDATE;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    SELECT array_agg(e.n ORDER BY i.at) INTO v_ns FROM unnest(p_ids) WITH ORDINALITY i (id, at)
        JOIN entries e ON e.ref = v_ref AND e.id = i.id;
    IF coalesce(cardinality(v_ns), 0) < cardinality(p_ids) THEN
        RETURN false;
    END IF;
    UPDATE entries e SET row = x.row, tokens_upto = x.tokens, preamble = x.preamble, anchor = x.anchor,
            resume = x.resume, named = x.named
        FROM unnest(v_ns, p_rows, p_tokens, p_preambles, p_anchors, p_resumes, p_named)
            x (n, row, tokens, preamble, anchor, resume, named)
        WHERE e.ref = v_ref AND e.n = x.n;
    DELETE FROM notes WHERE ref = v_ref AND n = ANY (v_ns);
    INSERT INTO notes SELECT v_ref, x.n, x.note FROM unnest(v_ns, p_notes) x (n, note) WHERE x.note <> '';
    DELETE FROM replays WHERE ref = v_ref AND n = ANY (v_ns);
    UPDATE preambles SET wire = p_wire, tokens = p_weight WHERE ref = v_ref AND id = p_preamble;
    DELETE FROM summaries WHERE ref = v_ref;
    PERFORM forget(v_ref, p_ids);
    PERFORM unindex(v_ref);
    IF v_head = ANY (v_ns) THEN
        PERFORM point(v_ref, v_head);
    END IF;
    UPDATE refs SET revision = revision + 1, summary = NULL WHERE n = v_ref;
    RETURN true;
END $body$;

CREATE OR REPLACE FUNCTION parent_of(p_row bytea) RETURNS bytea LANGUAGE sql IMMUTABLE AS $body$
    -- in the packed entry, at a fixed place: behind the head of a list, and an id of 32 letters, two bytes before it;
    -- before the parent's too, if there is one
    SELECT CASE WHEN get_byte(p_row, 35) = 217
        THEN decode(convert_from(substring(p_row FROM 38 FOR 32), 'UTF8'), 'hex') END
$body$;

CREATE OR REPLACE FUNCTION prune(
    p_now bigint, p_tenant text, p_kind text, p_name text, p_entry bytea, p_rows integer,
    OUT o_known boolean, OUT o_left bigint
) LANGUAGE plpgsql AS $body$
DECLARE
    r refs%ROWTYPE;
    v_n bigint;
    v_gone bigint[];
    v_ids bytea[];
    v_digests bytea[];
    v_preambles bytea[];
    v_head bigint;
BEGIN
    o_known := false;
    SELECT * INTO r FROM refs WHERE tenant = p_tenant AND kind = p_kind AND name = p_name
        AND (expires IS NULL OR expires > now_ms(p_now)) FOR UPDATE;
    SELECT n INTO v_n FROM entries WHERE ref = r.n AND id = p_entry;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    o_known := true;
    DELETE FROM notes WHERE ref = r.n AND n = v_n;
    -- what goes of a branch is its end, behind the last entry that has a note or that a branch which stays has left
    WITH RECURSIVE b (n) AS (
        (SELECT min(e.branch) FROM entries e WHERE e.ref = r.n AND e.branch IS NOT NULL)
        UNION ALL
        SELECT (SELECT min(e.branch) FROM entries e WHERE e.ref = r.n AND e.branch > b.n) FROM b WHERE b.n IS NOT NULL
    ),
    kept (branch, upto) AS (
        SELECT b.n, e.upto FROM b CROSS JOIN LATERAL (
            SELECT e.upto FROM entries e WHERE e.ref = r.n AND e.branch = b.n
                -- OFFSET 0: looked up for one entry after the other, from the newest on
                AND EXISTS (SELECT FROM notes o WHERE o.ref = e.ref AND o.n = e.n OFFSET 0)
            ORDER BY e.upto DESC LIMIT 1) e
        UNION
        SELECT l.parent, l.at FROM kept k JOIN branches l ON l.ref = r.n AND l.n = k.branch
    ),
    ends AS (
        SELECT b.n AS branch, coalesce(max(k.upto), 0) AS upto FROM b LEFT JOIN kept k ON k.branch = b.n
        WHERE b.n IS NOT NULL GROUP BY b.n
    ),
    gone AS (
        DELETE FROM entries e USING ends x WHERE e.ref = r.n AND e.branch = x.branch AND e.upto > x.upto
        RETURNING e.n, e.id, e.digest, e.preamble
    )
    SELECT array_agg(n), array_agg(id), array_agg(DISTINCT digest), array_agg(DISTINCT preamble)
        INTO v_gone, v_ids, v_digests, v_preambles FROM gone;
    WITH gone AS (
        DELETE FROM entries e WHERE e.ref = r.n AND e.branch IS NULL AND (parent_of(e.row) = ANY (v_ids)
            OR NOT EXISTS (SELECT FROM notes o WHERE o.ref = e.ref AND o.n = e.n OFFSET 0))
        RETURNING e.n, e.id, e.preamble
    )
    SELECT v_gone || array_agg(n), v_ids || array_agg(id), v_preambles || array_agg(DISTINCT preamble)
        INTO v_gone, v_ids, v_preambles FROM gone;
    IF v_gone IS NULL THEN
        RETURN;
    END IF;
    IF NOT EXISTS (SELECT FROM entries WHERE ref = r.n) THEN
        IF NOT (remove(r.n, p_rows)).o_done THEN
            o_left := r.n;
        END IF;
        RETURN;
    END IF;
    DELETE FROM notes WHERE ref = r.n AND n = ANY (v_gone);
    DELETE FROM replays WHERE ref = r.n AND n = ANY (v_gone);
    -- a branch has the name of its first entry
    DELETE FROM branches WHERE ref = r.n AND n = ANY (v_gone);
    DELETE FROM preambles p WHERE p.ref = r.n AND p.id = ANY (v_preambles)
        AND NOT EXISTS (SELECT FROM entries e WHERE e.ref = r.n AND e.preamble = p.id);
    DELETE FROM digests WHERE ref = r.n AND n = ANY (v_gone);
    IF r.whole THEN
        INSERT INTO digests SELECT r.n, e.digest, max(e.n) FROM entries e
            WHERE e.ref = r.n AND e.branch IS NOT NULL AND e.digest = ANY (v_digests) GROUP BY e.digest
            ON CONFLICT DO NOTHING;
    END IF;
    PERFORM forget(r.n, v_ids);
    DELETE FROM summaries WHERE ref = r.n AND entry = ANY (v_ids);
    PERFORM unindex(r.n);
    UPDATE refs SET revision = revision + 1, summary = (SELECT max(s.n) FROM summaries s WHERE s.ref = r.n)
        WHERE n = r.n;
    IF r.head = ANY (v_gone) THEN
        SELECT max(e.n) INTO v_head FROM entries e WHERE e.ref = r.n AND e.branch IS NOT NULL;
        IF v_head IS NULL THEN
            UPDATE refs SET head = NULL, head_id = NULL, branch = NULL, upto = NULL, tokens_upto = NULL, turn = NULL,
                preamble = NULL, anchor = NULL, resume = NULL, named = NULL WHERE n = r.n;
        END IF;
        PERFORM point(r.n, v_head);
    END IF;
END $body$;
"""
"""`redact`; and `prune`, which reads branches, not entries, to find what stays: most of them end with a note."""
