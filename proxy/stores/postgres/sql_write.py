"""The functions that write: each is one transaction, decided under the lock of the ref's row.

Appends lock it FOR NO KEY UPDATE, so that one waits for another; what only must not outlive the ref (a summary, words)
locks it FOR KEY SHARE, and so holds no append up; erasing changes its name, which waits for all of them.
"""

APPEND = """
CREATE OR REPLACE FUNCTION append(
    p_now bigint, p_tenant text, p_kind text, p_name text, p_expected bytea, p_moves boolean,
    p_id bytea, p_parent bytea, p_count integer, p_upto bigint, p_tokens_upto bigint, p_turn bigint,
    p_digest bytea, p_row bytea, p_plan bytea, p_preamble bytea, p_wire bytea, p_weight bigint,
    p_whole boolean, p_ttl bigint, p_anchor text, p_resume bigint, p_named bytea,
    p_key text, p_sticky boolean, p_replay bytea, p_tag text, p_note bytea,
    -- 0 appended, 1 again, 2 conflict, 4 the preamble's wire is needed
    OUT o_status integer, OUT o_head bytea, OUT o_ref bigint
) LANGUAGE plpgsql AS $body$
DECLARE
    r refs%ROWTYPE;
    v_now bigint := now_ms(p_now);
    v_expires bigint := v_now + p_ttl;
    v_hour bigint := v_expires / 3600000;
    v_n bigint;
    v_branch bigint;
    v_upto bigint;
BEGIN
    LOOP
        SELECT * INTO r FROM refs WHERE tenant = p_tenant AND kind = p_kind AND name = p_name FOR NO KEY UPDATE;
        EXIT WHEN FOUND AND (r.expires IS NULL OR r.expires > v_now);
        IF (p_moves AND p_expected IS NOT NULL) OR p_parent IS NOT NULL OR p_kind = 'conversation' THEN
            o_status := 2;
            RETURN;
        ELSIF p_preamble IS NOT NULL AND p_wire IS NULL THEN
            o_status := 4;
            RETURN;
        END IF;
        IF r.n IS NOT NULL THEN
            PERFORM bury(r.n);
        END IF;
        INSERT INTO refs (tenant, kind, name, tag, whole, created, updated)
            VALUES (p_tenant, p_kind, p_name, p_tag, false, v_now, v_now)
            ON CONFLICT DO NOTHING RETURNING * INTO r;
        EXIT WHEN FOUND;
    END LOOP;
    o_ref := r.n;
    IF r.last > 0 AND EXISTS (SELECT FROM entries e WHERE e.ref = r.n AND e.id = p_id) THEN
        o_status := 1;
        RETURN;
    END IF;
    IF p_moves AND p_expected IS DISTINCT FROM r.head_id THEN
        o_status := 2;
        o_head := r.head_id;
        RETURN;
    END IF;
    v_n := r.last + 1;
    IF p_parent = r.head_id THEN
        v_branch := r.branch;
    ELSIF p_parent IS NOT NULL THEN
        SELECT e.branch, e.upto INTO v_branch, v_upto FROM entries e
            WHERE e.ref = r.n AND e.id = p_parent AND coalesce(e.branch, 0) > 0;
        IF NOT FOUND THEN
            o_status := 2;
            o_head := r.head_id;
            RETURN;
        END IF;
    END IF;
    IF p_preamble IS NOT NULL AND (p_preamble IS DISTINCT FROM r.preamble OR r.revision > 0) THEN
        IF p_wire IS NOT NULL THEN
            -- where something was erased, another may be kept under its id, until it is sent again
            INSERT INTO preambles VALUES (r.n, p_preamble, p_wire, p_weight)
                ON CONFLICT (ref, id) DO UPDATE SET wire = excluded.wire, tokens = excluded.tokens
                WHERE r.revision > 0 AND preambles.wire <> excluded.wire;
        ELSIF r.revision > 0 OR NOT EXISTS (SELECT FROM preambles p WHERE p.ref = r.n AND p.id = p_preamble) THEN
            o_status := 4;
            RETURN;
        END IF;
    END IF;
    IF NOT p_moves THEN
        v_branch := NULL;
    ELSIF v_branch IS NULL THEN
        v_branch := v_n;
    ELSIF v_upto IS NOT NULL AND EXISTS (
        SELECT FROM entries e WHERE e.ref = r.n AND e.branch = v_branch AND e.upto > v_upto) THEN
        INSERT INTO branches VALUES (r.n, v_n, v_branch, v_upto);
        v_branch := v_n;
    END IF;
    IF p_whole AND NOT r.whole AND r.head IS NOT NULL THEN
        INSERT INTO digests SELECT r.n, e.digest, max(e.n) FROM entries e
            WHERE e.ref = r.n AND e.branch IS NOT NULL GROUP BY e.digest;
    END IF;
    INSERT INTO entries VALUES (
        r.n, v_n, v_branch, p_upto, p_tokens_upto, p_turn, p_count, p_resume, p_anchor, p_named,
        p_id, p_digest, p_preamble, p_row, p_plan);
    IF p_moves THEN
        IF p_whole OR r.whole THEN
            INSERT INTO digests VALUES (r.n, p_digest, v_n) ON CONFLICT (ref, digest) DO UPDATE SET n = excluded.n;
        END IF;
        IF r.head IS NOT NULL THEN
            DELETE FROM replays p WHERE p.ref = r.n AND p.n = r.head AND NOT p.sticky;
        END IF;
        UPDATE refs SET last = v_n, head = v_n, head_id = p_id, branch = v_branch, upto = p_upto,
            tokens_upto = p_tokens_upto, turn = p_turn, preamble = p_preamble, anchor = p_anchor, resume = p_resume,
            named = p_named, whole = r.whole OR p_whole, updated = v_now, expires = v_expires, hour = v_hour
            WHERE n = r.n;
    ELSE
        UPDATE refs SET last = v_n, whole = r.whole OR p_whole, updated = v_now, expires = v_expires, hour = v_hour
            WHERE n = r.n;
    END IF;
    IF p_replay IS NOT NULL THEN
        INSERT INTO replays VALUES (r.n, v_n, p_key, p_sticky, v_now, p_replay);
    END IF;
    IF p_note <> '' THEN
        INSERT INTO notes VALUES (r.n, v_n, p_note);
    END IF;
    o_status := 0;
END $body$;
"""

ENDING = """
CREATE OR REPLACE FUNCTION now_ms(p_now bigint) RETURNS bigint LANGUAGE sql STABLE AS $body$
    -- the server's clock, so that replicas agree on what has expired; tests bring one
    SELECT coalesce(p_now, (extract(epoch FROM statement_timestamp()) * 1000)::bigint)
$body$;

CREATE OR REPLACE FUNCTION bury(p_ref bigint) RETURNS void LANGUAGE sql AS $body$
    -- from here on the ref is unknown, whatever happens to this process; its rows are removed in steps
    UPDATE refs SET tenant = '', kind = '', name = p_ref::text, tag = '', head = NULL, head_id = NULL, preamble = NULL,
        anchor = NULL, named = NULL, summary = NULL, expires = 0, hour = 0 WHERE n = p_ref
$body$;

CREATE OR REPLACE FUNCTION purge(p_ref bigint, p_rows integer) RETURNS integer LANGUAGE plpgsql AS $body$
-- Removes up to so many rows of a ref whose row is locked; how many. Fewer: none is left.
DECLARE
    v_table text;
    v_left integer := p_rows;
    v_gone integer;
BEGIN
    FOREACH v_table IN ARRAY ARRAY['labels', 'notes', 'replays', 'entries', 'summaries', 'vectors', 'bags', 'postings',
        'parts', 'indexed', 'runs', 'indexes', 'digests', 'branches', 'preambles', 'responses', 'logs']
    LOOP
        EXECUTE format(
            'DELETE FROM %I WHERE ctid = ANY (ARRAY(SELECT ctid FROM %I WHERE ref = $1 LIMIT $2))', v_table, v_table)
            USING p_ref, v_left;
        GET DIAGNOSTICS v_gone = ROW_COUNT;
        v_left := v_left - v_gone;
        EXIT WHEN v_left <= 0;
    END LOOP;
    RETURN p_rows - v_left;
END $body$;

CREATE OR REPLACE FUNCTION remove(p_ref bigint, p_rows integer, OUT o_done boolean, OUT o_rows integer)
LANGUAGE plpgsql AS $body$
-- One step of removing a ref whose row is locked.
BEGIN
    o_rows := purge(p_ref, p_rows);
    o_done := o_rows < p_rows;
    IF o_done THEN
        DELETE FROM refs WHERE n = p_ref;
    ELSE
        PERFORM bury(p_ref);
    END IF;
END $body$;

CREATE OR REPLACE FUNCTION erase(
    p_now bigint, p_tenant text, p_kind text, p_name text, p_rows integer, OUT o_known boolean, OUT o_left bigint
) LANGUAGE plpgsql AS $body$
DECLARE
    v_ref bigint;
    v_expires bigint;
BEGIN
    SELECT n, expires INTO v_ref, v_expires FROM refs
        WHERE tenant = p_tenant AND kind = p_kind AND name = p_name FOR UPDATE;
    o_known := FOUND AND (v_expires IS NULL OR v_expires > now_ms(p_now));
    IF v_ref IS NOT NULL AND NOT (remove(v_ref, p_rows)).o_done THEN
        o_left := v_ref;
    END IF;
END $body$;

CREATE OR REPLACE FUNCTION erase_on(p_ref bigint, p_rows integer) RETURNS boolean LANGUAGE plpgsql AS $body$
-- The next step; true if nothing is left.
BEGIN
    PERFORM FROM refs WHERE n = p_ref FOR UPDATE;
    RETURN NOT FOUND OR (remove(p_ref, p_rows)).o_done;
END $body$;

CREATE OR REPLACE FUNCTION expire(
    p_now bigint, p_limit integer, p_rows integer, p_sticky bigint, OUT o_gone integer, OUT o_more boolean
) LANGUAGE plpgsql AS $body$
DECLARE
    v_now bigint := now_ms(p_now);
    v_ref bigint;
    v_left integer := p_rows;
    v_done boolean;
    v_rows integer;
    v_entry bytea;
    v_stays boolean;
BEGIN
    o_gone := 0;
    o_more := true;
    -- in lines to which nobody came any more
    DELETE FROM places WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM places WHERE until <= v_now LIMIT p_rows FOR UPDATE SKIP LOCKED));
    WHILE o_gone < p_limit LOOP
        IF v_left <= 0 THEN
            RETURN;
        END IF;
        -- one that others are busy with is theirs
        SELECT n INTO v_ref FROM refs WHERE hour <= v_now / 3600000 AND expires <= v_now
            ORDER BY hour LIMIT 1 FOR UPDATE SKIP LOCKED;
        EXIT WHEN NOT FOUND;
        SELECT * INTO v_done, v_rows FROM remove(v_ref, v_left);
        v_left := v_left - v_rows;
        o_gone := o_gone + v_done::integer;
    END LOOP;
    o_more := false;
    DELETE FROM replays WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM replays WHERE sticky AND at <= v_now - p_sticky
        LIMIT p_limit - o_gone FOR UPDATE SKIP LOCKED));
    GET DIAGNOSTICS v_rows = ROW_COUNT;
    o_gone := o_gone + v_rows;
    WHILE o_gone < p_limit LOOP
        IF v_left <= 0 THEN
            o_more := true;
            RETURN;
        END IF;
        -- the ref's lock: who writes to a run, or erases it, holds that too
        SELECT u.ref, u.entry, u.stays INTO v_ref, v_entry, v_stays FROM responses u JOIN refs r ON r.n = u.ref
            WHERE u.until <= v_now ORDER BY u.until LIMIT 1
            FOR UPDATE OF u SKIP LOCKED FOR KEY SHARE OF r SKIP LOCKED;
        EXIT WHEN NOT FOUND;
        DELETE FROM logs l WHERE l.ref = v_ref AND l.entry = v_entry AND l.first IN (
            SELECT first FROM logs WHERE ref = v_ref AND entry = v_entry ORDER BY first LIMIT v_left);
        GET DIAGNOSTICS v_rows = ROW_COUNT;
        v_left := v_left - v_rows;
        IF v_left > 0 THEN
            IF v_stays THEN
                UPDATE responses SET until = NULL WHERE ref = v_ref AND entry = v_entry;
            ELSE
                DELETE FROM responses WHERE ref = v_ref AND entry = v_entry;
            END IF;
            o_gone := o_gone + 1;
        END IF;
    END LOOP;
END $body$;

CREATE OR REPLACE FUNCTION deliver(
    p_now bigint, p_tenants text[], p_kinds text[], p_names text[], p_keys text[], p_ages bigint[]
) RETURNS void LANGUAGE sql AS $body$
    -- a replay that was made later than its age says is another one under the same key; one that is locked is being
    -- removed, because its ref moves on
    DELETE FROM replays WHERE ctid = ANY (ARRAY(
        SELECT p.ctid FROM unnest(p_tenants, p_kinds, p_names, p_keys, p_ages) d (tenant, kind, name, key, age)
        JOIN refs r ON r.tenant = d.tenant AND r.kind = d.kind AND r.name = d.name
        JOIN replays p ON p.ref = r.n AND p.n = r.head AND p.key = d.key AND NOT p.sticky
            AND p.at <= now_ms(p_now) - d.age
        FOR UPDATE OF p SKIP LOCKED))
$body$;

CREATE OR REPLACE FUNCTION annotate(
    p_now bigint, p_tenant text, p_kind text, p_name text, p_entry bytea, p_note bytea
) RETURNS boolean LANGUAGE plpgsql AS $body$
DECLARE
    v_ref bigint;
    v_n bigint;
BEGIN
    SELECT r.n INTO v_ref FROM refs r
        WHERE r.tenant = p_tenant AND r.kind = p_kind AND r.name = p_name
            AND (r.expires IS NULL OR r.expires > now_ms(p_now))
        FOR KEY SHARE;
    SELECT e.n INTO v_n FROM entries e WHERE e.ref = v_ref AND e.id = p_entry;
    IF NOT FOUND THEN
        RETURN false;
    ELSIF p_note = '' THEN
        DELETE FROM notes WHERE ref = v_ref AND n = v_n;
    ELSE
        INSERT INTO notes VALUES (v_ref, v_n, p_note) ON CONFLICT (ref, n) DO UPDATE SET note = excluded.note;
    END IF;
    RETURN true;
END $body$;

CREATE OR REPLACE FUNCTION keep_summary(
    p_now bigint, p_tenant text, p_kind text, p_name text, p_id bytea, p_entry bytea, p_upto bigint, p_row bytea,
    p_revision bigint
) RETURNS boolean LANGUAGE plpgsql AS $body$
DECLARE
    v_ref bigint;
    v_n bigint;
BEGIN
    SELECT n, coalesce(summary, 0) + 1 INTO v_ref, v_n FROM refs
        WHERE tenant = p_tenant AND kind = p_kind AND name = p_name AND (expires IS NULL OR expires > now_ms(p_now))
            AND revision = p_revision
        FOR NO KEY UPDATE;
    IF NOT FOUND OR NOT EXISTS (
        SELECT FROM entries WHERE ref = v_ref AND id = p_entry AND coalesce(branch, 0) > 0) THEN
        RETURN false;
    END IF;
    INSERT INTO summaries VALUES (v_ref, v_n, p_id, p_upto, p_row, p_entry) ON CONFLICT DO NOTHING;
    IF FOUND THEN
        UPDATE refs SET summary = v_n WHERE n = v_ref;
    END IF;
    RETURN true;
END $body$;
"""
