"""The functions that read. They are STABLE: all that one of them sees is of one moment."""

LOAD = """
CREATE OR REPLACE FUNCTION load(
    p_now bigint, p_tenant text, p_kind text, p_name text, p_key text, p_reach bigint, p_entry bytea,
    -- what the caller holds already: the end of a chain, from a position on, behind so many tokens; and its preamble
    p_held_ref bigint, p_held_id bytea, p_held_first bigint, p_held_tokens bigint, p_held_preamble bytea,
    p_held_revision bigint,                 -- of the ref, when that was read
    OUT o_ref bigint, OUT o_head bytea, OUT o_whole boolean,
    OUT o_kept boolean,                     -- the entries follow those that are held; else they are all
    OUT o_count integer, OUT o_run bytea,
    OUT o_preamble bytea, OUT o_wire bytea, OUT o_weight bigint, OUT o_summaries bytea[], OUT o_revision bigint
) LANGUAGE plpgsql STABLE AS $body$
DECLARE
    v_ref bigint; v_branch bigint; v_top bigint; v_tokens bigint; v_id bytea;
    v_anchor text; v_resume bigint; v_named bytea; v_summary bigint;
    v_last bigint; v_low bigint; v_border bigint; v_first bigint; v_found bigint; v_at bigint;
    v_count integer; v_run bytea; v_begins bigint;
BEGIN
    SELECT r.n, r.head_id, r.whole, r.branch, r.upto, r.tokens_upto, r.head_id, r.anchor, r.resume, r.named,
            r.preamble, r.summary, r.revision
        INTO v_ref, o_head, o_whole, v_branch, v_top, v_tokens, v_id, v_anchor, v_resume, v_named, o_preamble,
            v_summary, o_revision
        FROM refs r WHERE r.tenant = p_tenant AND r.kind = p_kind AND r.name = p_name AND r.head IS NOT NULL
            AND (r.expires IS NULL OR r.expires > now_ms(p_now));
    IF NOT FOUND THEN
        RETURN;
    END IF;
    IF p_entry IS NOT NULL THEN
        SELECT e.branch, e.upto, e.tokens_upto, e.id, e.anchor, e.resume, e.named, e.preamble
            INTO v_branch, v_top, v_tokens, v_id, v_anchor, v_resume, v_named, o_preamble
            FROM entries e WHERE e.ref = v_ref AND e.id = p_entry AND coalesce(e.branch, 0) > 0;
        IF NOT FOUND THEN
            RETURN;
        END IF;
    END IF;
    o_ref := v_ref;
    IF p_held_revision <> o_revision THEN
        p_held_ref := NULL;
    END IF;
    IF o_revision > 0 THEN
        -- under its id there may be another by now
        p_held_preamble := NULL;
    END IF;
    v_last := v_top - 1;
    IF v_anchor = p_key THEN
        v_low := least(v_resume, v_last);
    ELSIF p_reach IS NULL THEN
        v_low := 0;
    ELSE
        v_border := v_tokens - p_reach;
    END IF;
    o_kept := false;
    o_count := 0;
    o_run := '';
    IF p_held_ref = v_ref AND (p_held_first <= v_low OR p_held_first = 0 OR p_held_tokens <= v_border) THEN
        IF p_held_id = v_id THEN
            o_kept := true;
        ELSE
            SELECT e.upto, e.branch INTO v_at, v_found FROM entries e WHERE e.ref = v_ref AND e.id = p_held_id;
            IF v_found = v_branch AND v_at < v_top THEN
                o_kept := true;
                SELECT count(*), string_agg(x.row, '') INTO o_count, o_run FROM (
                    SELECT e.row FROM entries e
                    WHERE e.ref = v_ref AND e.branch = v_branch AND e.upto > v_at AND e.upto <= v_top
                    ORDER BY e.upto) x;
            END IF;
        END IF;
        v_first := p_held_first;
    END IF;
    IF NOT o_kept THEN
        LOOP
            v_found := NULL;
            IF v_border IS NOT NULL THEN
                SELECT e.upto INTO v_found FROM entries e
                    WHERE e.ref = v_ref AND e.branch = v_branch AND e.upto <= v_top AND e.tokens_upto <= v_border
                    ORDER BY e.upto DESC LIMIT 1;
                v_low := least(coalesce(v_found, 0), v_last);
            END IF;
            SELECT count(*), string_agg(x.row, ''), min(x.first) INTO v_count, v_run, v_begins FROM (
                SELECT e.row, e.upto - e.count AS first FROM entries e
                WHERE e.ref = v_ref AND e.branch = v_branch AND e.upto > v_low AND e.upto <= v_top
                ORDER BY e.upto) x;
            o_count := o_count + v_count;
            o_run := coalesce(v_run, '') || o_run;
            v_first := least(v_first, v_begins);
            EXIT WHEN v_found IS NOT NULL;
            SELECT b.parent, b.at INTO v_branch, v_top FROM branches b WHERE b.ref = v_ref AND b.n = v_branch;
            EXIT WHEN NOT FOUND OR v_top <= v_low;
        END LOOP;
    END IF;
    IF o_preamble IS DISTINCT FROM p_held_preamble THEN
        SELECT p.wire, p.tokens INTO o_wire, o_weight FROM preambles p WHERE p.ref = v_ref AND p.id = o_preamble;
    END IF;
    IF v_summary IS NOT NULL THEN
        SELECT array_agg(s.row ORDER BY s.n) INTO o_summaries FROM summaries s
            WHERE s.ref = v_ref AND (s.upto > v_first OR s.id = v_named);
    END IF;
END $body$;
"""

READS = """
CREATE OR REPLACE FUNCTION known(p_now bigint, p_tenant text, p_kind text, p_name text) RETURNS bigint
LANGUAGE sql STABLE AS $body$
    SELECT n FROM refs WHERE tenant = p_tenant AND kind = p_kind AND name = p_name
        AND (expires IS NULL OR expires > now_ms(p_now))
$body$;

CREATE OR REPLACE FUNCTION line(p_ref bigint, p_branch bigint, p_top bigint) RETURNS TABLE (branch bigint, top bigint)
LANGUAGE sql STABLE AS $body$
    -- the branches that a chain runs along, each with the position up to which it belongs to it
    WITH RECURSIVE l (branch, top) AS (
        VALUES (p_branch, p_top)
        UNION ALL
        SELECT b.parent, b.at FROM l JOIN branches b ON b.ref = p_ref AND b.n = l.branch
    )
    SELECT l.branch, l.top FROM l
$body$;

CREATE OR REPLACE FUNCTION chain(
    p_now bigint, p_tenant text, p_kind text, p_name text, p_entry bytea,
    OUT o_ref bigint, OUT o_branch bigint, OUT o_top bigint
) LANGUAGE sql STABLE AS $body$
    SELECT e.ref, e.branch, e.upto FROM entries e
    WHERE e.ref = known(p_now, p_tenant, p_kind, p_name) AND e.id = p_entry AND coalesce(e.branch, 0) > 0
$body$;

CREATE OR REPLACE FUNCTION read(
    p_now bigint, p_tenant text, p_kind text, p_name text, p_entry bytea, p_first bigint, p_upto bigint,
    OUT o_count integer, OUT o_run bytea
) LANGUAGE plpgsql STABLE AS $body$
DECLARE
    v_ref bigint; v_branch bigint; v_top bigint; v_count integer; v_run bytea;
BEGIN
    o_count := 0;
    o_run := '';
    SELECT * INTO v_ref, v_branch, v_top FROM chain(p_now, p_tenant, p_kind, p_name, p_entry);
    WHILE v_branch IS NOT NULL AND v_top > p_first LOOP
        -- the entry that crosses p_upto may be the last of a branch that was left before: hence the look at its first
        SELECT count(*), string_agg(x.row, '') INTO v_count, v_run FROM (
            SELECT e.row FROM entries e
            WHERE e.ref = v_ref AND e.branch = v_branch AND e.upto > p_first AND e.upto - e.count < p_upto
                AND e.upto <= least(v_top, (SELECT u.upto FROM entries u
                    WHERE u.ref = v_ref AND u.branch = v_branch AND u.upto >= p_upto ORDER BY u.upto LIMIT 1))
            ORDER BY e.upto) x;
        o_count := o_count + v_count;
        o_run := coalesce(v_run, '') || o_run;
        SELECT b.parent, b.at INTO v_branch, v_top FROM branches b WHERE b.ref = v_ref AND b.n = v_branch;
    END LOOP;
END $body$;

CREATE OR REPLACE FUNCTION noted(
    p_now bigint, p_tenant text, p_kind text, p_name text, p_first bigint, p_upto bigint,
    OUT o_rows bytea[], OUT o_notes bytea[]
) LANGUAGE plpgsql STABLE AS $body$
-- As read, of the head's chain.
DECLARE
    v_ref bigint; v_branch bigint; v_top bigint; v_rows bytea[]; v_notes bytea[];
BEGIN
    SELECT r.n, r.branch, r.upto INTO v_ref, v_branch, v_top FROM refs r
        WHERE r.n = known(p_now, p_tenant, p_kind, p_name) AND r.head IS NOT NULL;
    WHILE v_branch IS NOT NULL AND v_top > p_first LOOP
        SELECT array_agg(x.row ORDER BY x.upto), array_agg(x.note ORDER BY x.upto) INTO v_rows, v_notes FROM (
            SELECT e.row, e.upto, o.note FROM entries e LEFT JOIN notes o ON o.ref = e.ref AND o.n = e.n
            WHERE e.ref = v_ref AND e.branch = v_branch AND e.upto > p_first AND e.upto - e.count < p_upto
                AND e.upto <= least(v_top, (SELECT u.upto FROM entries u
                    WHERE u.ref = v_ref AND u.branch = v_branch AND u.upto >= p_upto ORDER BY u.upto LIMIT 1))) x;
        o_rows := v_rows || o_rows;
        o_notes := v_notes || o_notes;
        SELECT b.parent, b.at INTO v_branch, v_top FROM branches b WHERE b.ref = v_ref AND b.n = v_branch;
    END LOOP;
END $body$;

CREATE OR REPLACE FUNCTION pick(
    p_now bigint, p_tenant text, p_kind text, p_name text, p_entry bytea, p_positions bigint[],
    OUT o_count integer, OUT o_run bytea
) LANGUAGE sql STABLE AS $body$
    WITH c AS MATERIALIZED (SELECT * FROM chain(p_now, p_tenant, p_kind, p_name, p_entry)),
    l AS MATERIALIZED (
        SELECT c.o_ref AS ref, line.* FROM c, line(c.o_ref, c.o_branch, c.o_top)),
    picked AS (
        SELECT DISTINCT e.n FROM unnest(p_positions) p (position)
        CROSS JOIN LATERAL (SELECT l.ref, l.branch FROM l WHERE l.top > p.position ORDER BY l.top LIMIT 1) on_branch
        CROSS JOIN LATERAL (
            SELECT u.n FROM entries u
            WHERE u.ref = on_branch.ref AND u.branch = on_branch.branch AND u.upto > p.position
            ORDER BY u.upto LIMIT 1) e)
    SELECT count(*)::integer, coalesce(string_agg(x.row, ''), '') FROM (
        SELECT e.row FROM picked p JOIN c ON true JOIN entries e ON e.ref = c.o_ref AND e.n = p.n ORDER BY e.upto) x
$body$;

CREATE OR REPLACE FUNCTION find_turn(
    p_now bigint, p_tenant text, p_kind text, p_name text, p_turn bigint,
    OUT o_known boolean, OUT o_found bytea, OUT o_after bytea
) LANGUAGE plpgsql STABLE AS $body$
DECLARE
    v_ref bigint; v_branch bigint; v_top bigint; v_upto bigint; v_after bytea;
BEGIN
    SELECT r.n, r.branch, r.upto INTO v_ref, v_branch, v_top FROM refs r
        WHERE r.n = known(p_now, p_tenant, p_kind, p_name) AND r.head IS NOT NULL;
    o_known := FOUND;
    WHILE v_branch IS NOT NULL LOOP
        SELECT e.row, e.upto INTO o_found, v_upto FROM entries e
            WHERE e.ref = v_ref AND e.branch = v_branch AND e.upto <= v_top AND e.turn <= p_turn
            ORDER BY e.upto DESC LIMIT 1;
        SELECT e.row INTO v_after FROM entries e
            WHERE e.ref = v_ref AND e.branch = v_branch AND e.upto <= v_top AND e.upto > coalesce(v_upto, 0)
            ORDER BY e.upto LIMIT 1;
        o_after := coalesce(v_after, o_after);
        EXIT WHEN v_upto IS NOT NULL;
        SELECT b.parent, b.at INTO v_branch, v_top FROM branches b WHERE b.ref = v_ref AND b.n = v_branch;
    END LOOP;
END $body$;

CREATE OR REPLACE FUNCTION find_digests(
    p_now bigint, p_tenant text, p_kind text, p_name text, p_digests bytea[]
) RETURNS TABLE (digest bytea, id bytea) LANGUAGE plpgsql STABLE AS $body$
DECLARE
    v_ref bigint; v_whole boolean;
BEGIN
    SELECT r.n, r.whole INTO v_ref, v_whole FROM refs r WHERE r.n = known(p_now, p_tenant, p_kind, p_name);
    IF v_whole THEN
        RETURN QUERY SELECT d.digest, e.id FROM digests d JOIN entries e ON e.ref = d.ref AND e.n = d.n
            WHERE d.ref = v_ref AND d.digest = ANY (p_digests);
    ELSE
        RETURN QUERY SELECT DISTINCT ON (e.digest) e.digest, e.id FROM entries e
            WHERE e.ref = v_ref AND e.branch IS NOT NULL AND e.digest = ANY (p_digests) ORDER BY e.digest, e.n DESC;
    END IF;
END $body$;
"""
