"""The functions of the search index: words in bags that are merged into ever larger parts, and vectors.

All is done by the server, in the call that indexes an entry: bags, once there are many, become a part; parts of one
level, once there are many, one of the next. A search reads, for each of its terms, one row of each part that holds it.
"""

SEARCH = """
CREATE OR REPLACE FUNCTION mark(
    p_ref bigint, p_branch bigint, p_upto bigint, p_parent bigint, p_at bigint, p_model text, p_words bigint
) RETURNS boolean LANGUAGE plpgsql AS $body$
-- False if the entry is indexed already, or its parent is not.
DECLARE
    v_words bigint := 0;
BEGIN
    IF p_parent IS NOT NULL THEN
        SELECT words INTO v_words FROM indexed
            WHERE ref = p_ref AND branch = p_parent AND model = p_model AND upto = p_at;
        IF NOT FOUND THEN
            RETURN false;
        END IF;
    END IF;
    INSERT INTO indexed VALUES (p_ref, p_branch, p_model, p_upto, v_words + p_words) ON CONFLICT DO NOTHING;
    RETURN FOUND;
END $body$;

CREATE OR REPLACE FUNCTION merge(p_ref bigint, p_bags integer, p_parts integer, p_levels integer) RETURNS void
LANGUAGE plpgsql AS $body$
DECLARE
    v_part bigint; v_last bigint; v_level integer; v_of bigint[];
BEGIN
    SELECT b.start INTO v_last FROM bags b
        WHERE b.ref = p_ref AND b.start >= (SELECT i.merged FROM indexes i WHERE i.ref = p_ref)
        ORDER BY b.start LIMIT 1 OFFSET p_bags - 1;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    UPDATE indexes SET parts = parts + 1 WHERE ref = p_ref RETURNING parts INTO v_part;
    INSERT INTO postings
        SELECT p_ref, x.term, v_part, string_agg(int8send(x.doc), '' ORDER BY x.doc)
        FROM bags b CROSS JOIN LATERAL unnest(b.terms, b.docs) x (term, doc)
        WHERE b.ref = p_ref AND b.start >= (SELECT i.merged FROM indexes i WHERE i.ref = p_ref)
            AND b.start <= v_last GROUP BY x.term;
    DELETE FROM bags b
        WHERE b.ref = p_ref AND b.start >= (SELECT i.merged FROM indexes i WHERE i.ref = p_ref) AND b.start <= v_last;
    UPDATE indexes SET merged = v_last + 1 WHERE ref = p_ref;
    INSERT INTO parts VALUES (p_ref, v_part, 1);
    FOR v_level IN 1 .. p_levels - 1 LOOP
        SELECT array_agg(part) INTO v_of FROM (
            SELECT part FROM parts WHERE ref = p_ref AND level = v_level ORDER BY part LIMIT p_parts) x;
        EXIT WHEN coalesce(cardinality(v_of), 0) < p_parts;
        UPDATE indexes SET parts = parts + 1 WHERE ref = p_ref RETURNING parts INTO v_part;
        INSERT INTO postings
            SELECT p_ref, p.term, v_part, string_agg(p.docs, '' ORDER BY p.part) FROM postings p
            WHERE p.ref = p_ref AND p.part = ANY (v_of) GROUP BY p.term;
        DELETE FROM postings WHERE ref = p_ref AND part = ANY (v_of);
        DELETE FROM parts WHERE ref = p_ref AND part = ANY (v_of);
        INSERT INTO parts VALUES (p_ref, v_part, v_level + 1);
    END LOOP;
END $body$;

CREATE OR REPLACE FUNCTION index(
    p_now bigint, p_tenant text, p_kind text, p_name text, p_entry bytea,
    p_counted integer, p_length bigint, p_terms bigint[], p_docs bigint[],
    p_model text, p_vectors integer, p_places integer[], p_matrix bytea,
    p_bags integer, p_parts integer, p_levels integer, p_revision bigint
) RETURNS boolean LANGUAGE plpgsql AS $body$
-- False, and nothing is done, if the ref is unknown or of another revision.
DECLARE
    v_ref bigint; v_branch bigint; v_upto bigint; v_count integer; v_first bigint; v_parent bigint; v_at bigint;
    v_run runs%ROWTYPE; v_start bigint := 0;
BEGIN
    SELECT n INTO v_ref FROM refs
        WHERE tenant = p_tenant AND kind = p_kind AND name = p_name AND (expires IS NULL OR expires > now_ms(p_now))
            AND revision = p_revision
        FOR KEY SHARE;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    SELECT branch, upto, count INTO v_branch, v_upto, v_count FROM entries
        WHERE ref = v_ref AND id = p_entry AND coalesce(branch, 0) > 0;
    IF NOT FOUND THEN
        RETURN true;
    ELSIF p_counted NOT IN (0, v_count) OR p_vectors NOT IN (0, v_count) THEN
        RAISE EXCEPTION USING ERRCODE = 'RM001', MESSAGE = format('an entry has %s messages', v_count);
    END IF;
    INSERT INTO indexes VALUES (v_ref) ON CONFLICT DO NOTHING;
    PERFORM FROM indexes WHERE ref = v_ref FOR UPDATE;
    v_first := v_upto - v_count;
    SELECT v_branch, e.upto INTO v_parent, v_at FROM entries e
        WHERE e.ref = v_ref AND e.branch = v_branch AND e.upto < v_upto ORDER BY e.upto DESC LIMIT 1;
    IF NOT FOUND THEN
        -- the first of its branch; a branch that leaves none starts at a root
        SELECT b.parent, b.at INTO v_parent, v_at FROM branches b WHERE b.ref = v_ref AND b.n = v_branch;
    END IF;
    IF p_counted > 0 AND mark(v_ref, v_branch, v_upto, v_parent, v_at, '', p_length) THEN
        SELECT * INTO v_run FROM runs WHERE ref = v_ref ORDER BY start DESC LIMIT 1;
        IF FOUND THEN
            v_start := v_run.start + v_run.count;
        END IF;
        IF v_run.branch = v_branch AND v_run.first + v_run.count = v_first THEN
            UPDATE runs SET count = count + p_counted WHERE ref = v_ref AND start = v_run.start;
        ELSE
            INSERT INTO runs VALUES (v_ref, v_start, v_branch, v_first, p_counted);
        END IF;
        IF cardinality(p_terms) > 0 THEN
            INSERT INTO bags SELECT v_ref, v_start, p_terms, array_agg(doc + (v_start << 24))
                FROM unnest(p_docs) WITH ORDINALITY d (doc, at);
            PERFORM merge(v_ref, p_bags, p_parts, p_levels);
        END IF;
    END IF;
    IF p_vectors > 0 AND mark(v_ref, v_branch, v_upto, v_parent, v_at, p_model, 0)
        AND cardinality(p_places) > 0 THEN
        INSERT INTO vectors SELECT v_ref, v_branch, p_model, v_upto,
            string_agg(int4send((v_first + place)::integer), '' ORDER BY place), p_matrix FROM unnest(p_places) place;
    END IF;
    RETURN true;
END $body$;

CREATE OR REPLACE FUNCTION unindexed(
    p_now bigint, p_tenant text, p_kind text, p_name text, p_entry bytea, p_model text, p_most bigint,
    OUT o_count integer, OUT o_run bytea
) LANGUAGE sql STABLE AS $body$
    WITH c AS MATERIALIZED (SELECT * FROM chain(p_now, p_tenant, p_kind, p_name, p_entry)),
    l AS MATERIALIZED (SELECT c.o_ref AS ref, line.* FROM c, line(c.o_ref, c.o_branch, c.o_top)),
    -- what is indexed of a chain is its beginning
    done AS MATERIALIZED (
        SELECT coalesce(max(i.upto), 0) AS upto FROM l CROSS JOIN LATERAL (
            SELECT i.upto FROM indexed i
            WHERE i.ref = l.ref AND i.branch = l.branch AND i.model = p_model AND i.upto <= l.top
            ORDER BY i.upto DESC LIMIT 1) i)
    SELECT count(*)::integer, coalesce(string_agg(x.row, ''), '') FROM (
        SELECT e.row FROM l CROSS JOIN done CROSS JOIN LATERAL (
            SELECT e.row, e.upto FROM entries e
            WHERE e.ref = l.ref AND e.branch = l.branch AND e.upto > done.upto AND e.upto <= l.top
            ORDER BY e.upto LIMIT p_most) e
        ORDER BY e.upto LIMIT p_most) x
$body$;

CREATE OR REPLACE FUNCTION postings(
    p_now bigint, p_tenant text, p_kind text, p_name text, p_entry bytea, p_terms bigint[],
    OUT o_messages bigint, OUT o_length bigint, OUT o_found bytea[],
    -- which of the ref's messages are on the chain: numbers from, up to, and the position of the first
    OUT o_starts bigint[], OUT o_ends bigint[], OUT o_firsts bigint[]
) LANGUAGE plpgsql STABLE AS $body$
DECLARE
    v_ref bigint; v_branch bigint;
BEGIN
    SELECT * INTO v_ref, v_branch, o_messages FROM chain(p_now, p_tenant, p_kind, p_name, p_entry);
    IF v_ref IS NULL THEN
        RETURN;
    END IF;
    SELECT i.words INTO o_length FROM line(v_ref, v_branch, o_messages) l CROSS JOIN LATERAL (
        SELECT i.words, i.upto FROM indexed i
        WHERE i.ref = v_ref AND i.branch = l.branch AND i.model = '' AND i.upto <= l.top
        ORDER BY i.upto DESC LIMIT 1) i
        ORDER BY i.upto DESC LIMIT 1;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    SELECT array_agg(r.start ORDER BY r.start), array_agg(r.start + least(r.count, l.top - r.first) ORDER BY r.start),
            array_agg(r.first ORDER BY r.start)
        INTO o_starts, o_ends, o_firsts
        FROM line(v_ref, v_branch, o_messages) l
            JOIN runs r ON r.ref = v_ref AND r.branch = l.branch AND r.first < l.top;
    WITH fresh AS MATERIALIZED (
        SELECT x.term, string_agg(int8send(x.doc), '') AS docs
        FROM bags b CROSS JOIN LATERAL unnest(b.terms, b.docs) x (term, doc)
        WHERE b.ref = v_ref AND b.start >= (SELECT i.merged FROM indexes i WHERE i.ref = v_ref)
            AND x.term = ANY (p_terms) GROUP BY x.term)
    SELECT array_agg(
            coalesce((SELECT string_agg(p.docs, '') FROM postings p WHERE p.ref = v_ref AND p.term = t.term), '')
            || coalesce((SELECT f.docs FROM fresh f WHERE f.term = t.term), '') ORDER BY t.at)
        INTO o_found FROM unnest(p_terms) WITH ORDINALITY t (term, at);
END $body$;

CREATE OR REPLACE FUNCTION vectors(
    p_now bigint, p_tenant text, p_kind text, p_name text, p_entry bytea, p_model text,
    OUT o_known boolean, OUT o_positions bytea, OUT o_matrix bytea
) LANGUAGE plpgsql STABLE AS $body$
DECLARE
    v_ref bigint; v_branch bigint; v_top bigint;
BEGIN
    SELECT * INTO v_ref, v_branch, v_top FROM chain(p_now, p_tenant, p_kind, p_name, p_entry);
    o_known := v_ref IS NOT NULL;
    SELECT string_agg(x.positions, ''), string_agg(x.matrix, '') INTO o_positions, o_matrix FROM (
        SELECT v.positions, v.matrix FROM line(v_ref, v_branch, v_top) l JOIN vectors v
            ON v.ref = v_ref AND v.branch = l.branch AND v.model = p_model AND v.upto <= l.top
        ORDER BY v.upto) x;
END $body$;
"""
