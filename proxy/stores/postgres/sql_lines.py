"""The lines of refs: the table of places, and the functions that take, keep and give them up.

Whoever looks at a line, or changes it, holds a lock of that line alone until the end of the transaction; who also needs
the row of the ref locks that one behind it. Times are the server's, read once the line is locked.
"""

PLACES = """
-- A row is there no longer than the place, or until the next sweep. The ref need not exist.
CREATE TABLE places (
    tenant text COLLATE "C", kind text COLLATE "C", name text COLLATE "C",
    n bigint,                               -- counts within a line; the first one has the smallest
    holder text COLLATE "C" NOT NULL, until bigint NOT NULL,
    PRIMARY KEY (tenant, kind, name, n)
) WITH (fillfactor = 60, autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 500);
"""

LINES = """
CREATE OR REPLACE FUNCTION at_line(p_now bigint, p_tag text) RETURNS bigint LANGUAGE plpgsql AS $body$
-- Locks the line; the time then.
BEGIN
    PERFORM pg_advisory_xact_lock(('x' || p_tag)::bit(64)::bigint);
    RETURN coalesce(p_now, (extract(epoch FROM clock_timestamp()) * 1000)::bigint);
END $body$;

CREATE OR REPLACE FUNCTION tell_line(p_tag text) RETURNS void LANGUAGE sql AS $body$
    -- all stores of the database listen on one channel, so it says whose it is
    SELECT pg_notify('remora', current_schema() || ' ' || p_tag)
$body$;

CREATE OR REPLACE FUNCTION stand(
    p_now bigint, p_tenant text, p_kind text, p_name text, p_tag text, p_holder text,
    p_keep bigint,                          -- NULL: the place is given up
    p_wait boolean,
    OUT o_ahead bigint, OUT o_kept boolean,
    OUT o_left bigint                       -- so long the first one has its place, unless it comes again
) LANGUAGE plpgsql AS $body$
DECLARE
    v_now bigint;
    v_n bigint;
    v_last bigint;
    v_gone boolean;
BEGIN
    -- a place need not survive a crash, so nobody waits for the disk
    PERFORM set_config('synchronous_commit', 'off', true);
    v_now := at_line(p_now, p_tag);
    DELETE FROM places WHERE tenant = p_tenant AND kind = p_kind AND name = p_name
        AND (until <= v_now OR (p_keep IS NULL AND holder = p_holder));
    v_gone := FOUND;
    UPDATE places SET until = v_now + p_keep
        WHERE tenant = p_tenant AND kind = p_kind AND name = p_name AND holder = p_holder RETURNING n INTO v_n;
    o_kept := FOUND;
    SELECT count(*) FILTER (WHERE v_n IS NULL OR n < v_n), max(n), (array_agg(until ORDER BY n))[1] - v_now
        INTO o_ahead, v_last, o_left
        FROM places WHERE tenant = p_tenant AND kind = p_kind AND name = p_name;
    IF v_gone AND v_last IS NOT NULL THEN
        PERFORM tell_line(p_tag);
    END IF;
    IF NOT o_kept AND p_keep IS NOT NULL AND (p_wait OR o_ahead = 0) THEN
        INSERT INTO places VALUES (p_tenant, p_kind, p_name, coalesce(v_last, 0) + 1, p_holder, v_now + p_keep);
        o_kept := true;
    END IF;
END $body$;

CREATE OR REPLACE FUNCTION append_held(
    p_now bigint, p_tenant text, p_kind text, p_name text, p_expected bytea, p_moves boolean,
    p_id bytea, p_parent bytea, p_count integer, p_upto bigint, p_tokens_upto bigint, p_turn bigint,
    p_digest bytea, p_row bytea, p_plan bytea, p_preamble bytea, p_wire bytea, p_weight bigint,
    p_whole boolean, p_ttl bigint, p_anchor text, p_resume bigint, p_named bytea,
    p_key text, p_sticky boolean, p_replay bytea, p_tag text, p_note bytea, p_holder text,
    OUT o_status integer, OUT o_head bytea, OUT o_ref bigint
) LANGUAGE plpgsql AS $body$
-- As append, by one that must not have been overtaken in the line.
DECLARE
    v_now bigint := at_line(p_now, p_tag);
    v_first text;
    v_again boolean;
BEGIN
    SELECT holder INTO v_first FROM places
        WHERE tenant = p_tenant AND kind = p_kind AND name = p_name AND until > v_now ORDER BY n LIMIT 1;
    IF v_first <> p_holder THEN
        SELECT r.head_id, EXISTS (SELECT FROM entries e WHERE e.ref = r.n AND e.id = p_id)
            INTO o_head, v_again
            FROM refs r WHERE r.n = known(p_now, p_tenant, p_kind, p_name);
        o_status := CASE WHEN v_again THEN 1 ELSE 2 END;
    ELSE
        SELECT a.o_status, a.o_head, a.o_ref INTO o_status, o_head, o_ref FROM append(
            p_now, p_tenant, p_kind, p_name, p_expected, p_moves, p_id, p_parent, p_count, p_upto, p_tokens_upto,
            p_turn, p_digest, p_row, p_plan, p_preamble, p_wire, p_weight, p_whole, p_ttl, p_anchor, p_resume,
            p_named, p_key, p_sticky, p_replay, p_tag, p_note) a;
    END IF;
    IF o_status < 2 THEN
        DELETE FROM places WHERE tenant = p_tenant AND kind = p_kind AND name = p_name AND holder = p_holder;
        IF FOUND AND EXISTS (
            SELECT FROM places WHERE tenant = p_tenant AND kind = p_kind AND name = p_name AND until > v_now) THEN
            PERFORM tell_line(p_tag);
        END IF;
    END IF;
END $body$;
"""
