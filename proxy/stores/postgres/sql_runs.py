"""The functions of labels, and of runs and their logs.

Who writes to a run holds the ref's row FOR KEY SHARE: appends go on meanwhile, erasing waits. Times are the server's.
"""

LABELS = """
CREATE OR REPLACE FUNCTION make(
    p_now bigint, p_tenant text, p_kind text, p_name text, p_tag text, p_ttl bigint
) RETURNS bigint LANGUAGE plpgsql AS $body$
-- A new ref without a head; NULL if there is one.
DECLARE
    v_now bigint := now_ms(p_now);
    v_ref bigint;
    v_expires bigint;
BEGIN
    SELECT n, expires INTO v_ref, v_expires FROM refs
        WHERE tenant = p_tenant AND kind = p_kind AND name = p_name FOR UPDATE;
    IF FOUND THEN
        IF v_expires IS NULL OR v_expires > v_now THEN
            RETURN NULL;
        END IF;
        PERFORM bury(v_ref);
    END IF;
    v_expires := v_now + p_ttl;
    INSERT INTO refs (tenant, kind, name, tag, whole, created, updated, expires, hour)
        VALUES (p_tenant, p_kind, p_name, p_tag, false, v_now, v_now, v_expires, v_expires / 3600000)
        ON CONFLICT DO NOTHING RETURNING n INTO v_ref;
    RETURN CASE WHEN FOUND THEN v_ref END;
END $body$;

CREATE OR REPLACE FUNCTION label(
    p_now bigint, p_tenant text, p_kind text, p_name text, p_tag text, p_label bytea, p_new boolean, p_ttl bigint
) RETURNS boolean LANGUAGE plpgsql AS $body$
DECLARE
    v_ref bigint;
BEGIN
    IF p_new THEN
        v_ref := make(p_now, p_tenant, p_kind, p_name, p_tag, p_ttl);
    ELSE
        SELECT n INTO v_ref FROM refs
            WHERE tenant = p_tenant AND kind = p_kind AND name = p_name AND (expires IS NULL OR expires > now_ms(p_now))
            FOR KEY SHARE;
    END IF;
    INSERT INTO labels SELECT r.n, r.tenant, r.kind, r.created, r.name, p_label FROM refs r WHERE r.n = v_ref
        ON CONFLICT (ref) DO UPDATE SET label = excluded.label;
    RETURN v_ref IS NOT NULL;
END $body$;

CREATE OR REPLACE FUNCTION labels(
    p_now bigint, p_tenant text, p_kind text, p_after text, p_most bigint, p_newest_first boolean
) RETURNS TABLE (o_name text, o_label bytea, o_created bigint) LANGUAGE plpgsql STABLE AS $body$
DECLARE
    v_at bigint := CASE WHEN p_newest_first THEN 9223372036854775807 ELSE -1 END;
    v_after text := '';
BEGIN
    IF p_after IS NOT NULL THEN
        SELECT r.created, r.name INTO v_at, v_after FROM refs r WHERE r.n = known(p_now, p_tenant, p_kind, p_after);
        IF NOT FOUND THEN
            RETURN;
        END IF;
    END IF;
    IF p_newest_first THEN
        RETURN QUERY SELECT l.name, l.label, l.created FROM labels l
            JOIN refs r ON r.n = l.ref AND (r.expires IS NULL OR r.expires > now_ms(p_now))
            WHERE l.tenant = p_tenant AND l.kind = p_kind AND (l.created, l.name) < (v_at, v_after)
            ORDER BY l.created DESC, l.name DESC LIMIT p_most;
    ELSE
        RETURN QUERY SELECT l.name, l.label, l.created FROM labels l
            JOIN refs r ON r.n = l.ref AND (r.expires IS NULL OR r.expires > now_ms(p_now))
            WHERE l.tenant = p_tenant AND l.kind = p_kind AND (l.created, l.name) > (v_at, v_after)
            ORDER BY l.created, l.name LIMIT p_most;
    END IF;
END $body$;
"""

RUNS = """
CREATE OR REPLACE FUNCTION begin_run(
    p_now bigint, p_tenant text, p_kind text, p_name text, p_tag text,
    p_entry bytea, p_owner text, p_state bytea, p_ttl bigint, p_recorded boolean
) RETURNS boolean LANGUAGE plpgsql AS $body$
DECLARE
    v_now bigint := now_ms(p_now);
    v_ref bigint;
BEGIN
    LOOP
        SELECT n INTO v_ref FROM refs
            WHERE tenant = p_tenant AND kind = p_kind AND name = p_name AND (expires IS NULL OR expires > v_now)
            FOR KEY SHARE;
        EXIT WHEN FOUND;
        IF p_kind = 'conversation' OR p_recorded THEN
            RETURN false;
        END IF;
        v_ref := make(p_now, p_tenant, p_kind, p_name, p_tag, p_ttl);
        EXIT WHEN v_ref IS NOT NULL;
    END LOOP;
    IF p_recorded <> EXISTS (SELECT FROM entries WHERE ref = v_ref AND id = p_entry) THEN
        RETURN false;
    END IF;
    -- one whose time is over
    DELETE FROM responses WHERE ref = v_ref AND entry = p_entry AND NOT stays AND until <= v_now;
    IF FOUND THEN
        DELETE FROM logs WHERE ref = v_ref AND entry = p_entry;
    END IF;
    INSERT INTO responses (ref, entry, owner, state, beat, tick)
        VALUES (v_ref, p_entry, p_owner, p_state, v_now, v_now >> 13) ON CONFLICT DO NOTHING;
    RETURN FOUND;
END $body$;

CREATE OR REPLACE FUNCTION log_run(
    p_now bigint, p_tenant text, p_kind text, p_name text, p_entry bytea, p_owner text,
    p_events bytea[], p_state bytea, p_log bigint, p_stays boolean,    -- p_log: NULL, it goes on
    OUT o_owner text, OUT o_state bytea, OUT o_ended boolean, OUT o_cancelled boolean, OUT o_beat bigint,
    OUT o_events bigint
) LANGUAGE plpgsql AS $body$
DECLARE
    v_now bigint := now_ms(p_now);
    v_ref bigint;
BEGIN
    SELECT n INTO v_ref FROM refs
        WHERE tenant = p_tenant AND kind = p_kind AND name = p_name AND (expires IS NULL OR expires > v_now)
        FOR KEY SHARE;
    UPDATE responses SET beat = v_now, tick = CASE WHEN p_log IS NULL THEN v_now >> 13 END,
            events = events + cardinality(p_events), state = coalesce(p_state, state), ended = p_log IS NOT NULL,
            until = v_now + p_log, stays = coalesce(p_stays, stays)
        WHERE ref = v_ref AND entry = p_entry AND owner = p_owner AND NOT ended
        RETURNING owner, state, ended, cancelled, beat, events
        INTO o_owner, o_state, o_ended, o_cancelled, o_beat, o_events;
    IF FOUND AND cardinality(p_events) > 0 THEN
        INSERT INTO logs VALUES (v_ref, p_entry, o_events - cardinality(p_events), p_events);
    END IF;
END $body$;

CREATE OR REPLACE FUNCTION cancel_run(
    p_now bigint, p_tenant text, p_kind text, p_name text, p_entry bytea,
    OUT o_owner text, OUT o_state bytea, OUT o_ended boolean, OUT o_cancelled boolean, OUT o_beat bigint,
    OUT o_events bigint
) LANGUAGE plpgsql AS $body$
DECLARE
    v_now bigint := now_ms(p_now);
    v_ref bigint;
BEGIN
    SELECT n INTO v_ref FROM refs
        WHERE tenant = p_tenant AND kind = p_kind AND name = p_name AND (expires IS NULL OR expires > v_now)
        FOR KEY SHARE;
    UPDATE responses SET cancelled = true WHERE ref = v_ref AND entry = p_entry AND NOT ended;
    SELECT u.owner, u.state, u.ended, u.cancelled, u.beat, u.events
        INTO o_owner, o_state, o_ended, o_cancelled, o_beat, o_events
        FROM responses u WHERE u.ref = v_ref AND u.entry = p_entry AND (u.stays OR u.until > v_now);
END $body$;

CREATE OR REPLACE FUNCTION drop_run(
    p_now bigint, p_tenant text, p_kind text, p_name text, p_entry bytea
) RETURNS boolean LANGUAGE plpgsql AS $body$
DECLARE
    v_now bigint := now_ms(p_now);
    v_ref bigint;
BEGIN
    SELECT n INTO v_ref FROM refs
        WHERE tenant = p_tenant AND kind = p_kind AND name = p_name AND (expires IS NULL OR expires > v_now)
        FOR KEY SHARE;
    DELETE FROM responses WHERE ref = v_ref AND entry = p_entry AND (stays OR until > v_now);
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    DELETE FROM logs WHERE ref = v_ref AND entry = p_entry;
    RETURN true;
END $body$;

CREATE OR REPLACE FUNCTION run_events(
    p_now bigint, p_tenant text, p_kind text, p_name text, p_entry bytea, p_after bigint, p_most bigint
) RETURNS bytea[] LANGUAGE sql STABLE AS $body$
    WITH u AS MATERIALIZED (
        SELECT ref, entry FROM responses
        WHERE ref = known(p_now, p_tenant, p_kind, p_name) AND entry = p_entry
            AND (NOT ended OR until > now_ms(p_now))),
    kept AS (
        -- the events that came with the first one that is wanted, and what came then
        SELECT l.first, l.events FROM u JOIN logs l ON l.ref = u.ref AND l.entry = u.entry AND l.first >= coalesce((
            SELECT b.first FROM logs b WHERE b.ref = u.ref AND b.entry = u.entry AND b.first <= p_after + 1
            ORDER BY b.first DESC LIMIT 1), 0)
        ORDER BY l.first LIMIT p_most)
    SELECT array_agg(x.event ORDER BY x.n) FROM (
        SELECT k.first + e.at - 1 AS n, e.event FROM kept k CROSS JOIN unnest(k.events) WITH ORDINALITY e (event, at)
        WHERE k.first + e.at - 1 > p_after ORDER BY 1 LIMIT p_most) x
$body$;
"""
"""A run that has ended and does not stay is over with its log, whether or not it was swept."""

BEFORE = """
-- What replicas of the first version call, which go on meanwhile. They know of no revision but the first.
CREATE OR REPLACE FUNCTION load(
    p_now bigint, p_tenant text, p_kind text, p_name text, p_key text, p_reach bigint, p_entry bytea,
    p_held_ref bigint, p_held_id bytea, p_held_first bigint, p_held_tokens bigint, p_held_preamble bytea,
    OUT o_ref bigint, OUT o_head bytea, OUT o_whole boolean, OUT o_kept boolean, OUT o_count integer, OUT o_run bytea,
    OUT o_preamble bytea, OUT o_wire bytea, OUT o_weight bigint, OUT o_summaries bytea[]
) LANGUAGE sql STABLE AS $body$
    -- another preamble may be kept under its id: they shall not go by what they hold
    SELECT l.o_ref, l.o_head, l.o_whole, l.o_kept, l.o_count, l.o_run,
        CASE WHEN l.o_revision > 0 THEN l.o_preamble || int8send(l.o_revision) ELSE l.o_preamble END,
        l.o_wire, l.o_weight, l.o_summaries
    FROM load(p_now, p_tenant, p_kind, p_name, p_key, p_reach, p_entry, p_held_ref, p_held_id, p_held_first,
        p_held_tokens, p_held_preamble, 0::bigint) l
$body$;

CREATE OR REPLACE FUNCTION keep_summary(
    p_now bigint, p_tenant text, p_kind text, p_name text, p_id bytea, p_entry bytea, p_upto bigint, p_row bytea
) RETURNS boolean LANGUAGE sql AS $body$
    SELECT keep_summary(p_now, p_tenant, p_kind, p_name, p_id, p_entry, p_upto, p_row, 0::bigint)
$body$;

CREATE OR REPLACE FUNCTION index(
    p_now bigint, p_tenant text, p_kind text, p_name text, p_entry bytea,
    p_counted integer, p_length bigint, p_terms bigint[], p_docs bigint[],
    p_model text, p_vectors integer, p_places integer[], p_matrix bytea,
    p_bags integer, p_parts integer, p_levels integer
) RETURNS void LANGUAGE sql AS $body$
    SELECT index(p_now, p_tenant, p_kind, p_name, p_entry, p_counted, p_length, p_terms, p_docs, p_model, p_vectors,
        p_places, p_matrix, p_bags, p_parts, p_levels, 0::bigint)
$body$;
"""
