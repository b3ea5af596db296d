"""The swap of two databases' names, as one statement that the server runs to its end by itself.

Sessions are held out of the live database for the moment of the swap, and only the server may be trusted to let them in again:
a client can be killed at any point. So closing, ending sessions, renaming and opening again are one anonymous block. Whatever
becomes of the client, the block ends with the names swapped or with the live database open as before.

Its parameters are custom settings of the session, because an anonymous block has none.
"""

from __future__ import annotations

REFUSED = "DR001"
"""SQLSTATE that the block raises when sessions are open and may not be ended; nothing was changed then."""

SESSIONS = """
SELECT a.pid, coalesce(a.usename, ''), coalesce(a.application_name, ''),
       coalesce(host(a.client_addr), 'local'), coalesce(a.backend_type, '')
FROM pg_catalog.pg_stat_activity a
WHERE a.datname = %s AND a.pid <> pg_backend_pid() AND a.usesysid IS NOT NULL AND a.backend_type IS DISTINCT FROM 'parallel worker'
ORDER BY a.backend_start
"""

SWAP = """
DO $drctl$
DECLARE
    live text := current_setting('drctl.live');
    fresh text := current_setting('drctl.new');
    kept text := current_setting('drctl.old');
    ending boolean := current_setting('drctl.end_sessions')::boolean;
    deadline timestamptz := clock_timestamp() + current_setting('drctl.seconds')::float8 * interval '1 second';
    there boolean := EXISTS (SELECT FROM pg_database WHERE datname = current_setting('drctl.live'));
    done boolean := false;
    cancelled boolean := false;
    attempts integer := 0;
    sessions integer;
    was_open boolean;
    closed timestamptz;
    problem text;
    state text;
    detail text;
    statement text;
BEGIN
    SELECT datallowconn INTO was_open FROM pg_database WHERE datname = live;
    -- Autovacuum, which has no user, is not counted: renaming ends it, and an ordinary role may not. Of others' sessions an
    -- ordinary role sees little more than the user.
    SELECT count(*) INTO sessions FROM pg_stat_activity
    WHERE datname = live AND pid <> pg_backend_pid() AND usesysid IS NOT NULL AND backend_type IS DISTINCT FROM 'parallel worker';
    IF sessions > 0 AND NOT ending THEN
        RAISE EXCEPTION USING ERRCODE = 'DR001', MESSAGE = format('%s sessions are open', sessions);
    END IF;
    -- The marker and the closing become visible together: a new database with this marker that is closed says that we
    -- closed the live one, even if the server dies now.
    EXECUTE format('COMMENT ON DATABASE %I IS %L', fresh, current_setting('drctl.marker'));
    IF was_open THEN
        EXECUTE format('ALTER DATABASE %I WITH ALLOW_CONNECTIONS false', fresh);
        EXECUTE format('ALTER DATABASE %I WITH ALLOW_CONNECTIONS false', live);
    END IF;
    closed := clock_timestamp();
    COMMIT;

    LOOP
        attempts := attempts + 1;
        BEGIN
            FOR attempt IN 1..100 LOOP
                PERFORM pg_stat_clear_snapshot();
                SELECT count(CASE WHEN ending THEN pg_terminate_backend(pid) END) INTO sessions FROM pg_stat_activity
                WHERE datname IN (live, fresh) AND pid <> pg_backend_pid()
                AND usesysid IS NOT NULL AND backend_type IS DISTINCT FROM 'parallel worker';
                EXIT WHEN sessions = 0;
                PERFORM pg_sleep(0.02);
            END LOOP;
            FOR statement IN SELECT jsonb_array_elements_text(current_setting('drctl.statements')::jsonb) LOOP
                EXECUTE statement;
            END LOOP;
            IF there THEN
                EXECUTE format('ALTER DATABASE %I RENAME TO %I', live, kept);
                EXECUTE format('COMMENT ON DATABASE %I IS %L', kept, current_setting('drctl.kept'));
                EXECUTE format('ALTER DATABASE %I WITH ALLOW_CONNECTIONS %s', kept, was_open::text);
            END IF;
            EXECUTE format('ALTER DATABASE %I RENAME TO %I', fresh, live);
            FOR statement IN SELECT jsonb_array_elements_text(current_setting('drctl.later')::jsonb) LOOP
                EXECUTE statement;
            END LOOP;
            EXECUTE format('ALTER DATABASE %I WITH ALLOW_CONNECTIONS %s', live, coalesce(was_open, true)::text);
            done := true;
        EXCEPTION WHEN query_canceled OR others THEN
            GET STACKED DIAGNOSTICS problem = MESSAGE_TEXT, state = RETURNED_SQLSTATE, detail = PG_EXCEPTION_DETAIL;
            cancelled := state = '57014';
        END;
        -- Worth another attempt: the database is in use, a lock was not to be had, a deadlock, a concurrent update.
        EXIT WHEN done OR cancelled OR NOT ending OR clock_timestamp() > deadline
            OR state NOT IN ('55006', '55P03', '40P01', 'XX000');
        PERFORM pg_sleep(0.1);
    END LOOP;

    IF NOT done THEN
        IF was_open THEN
            EXECUTE format('ALTER DATABASE %I WITH ALLOW_CONNECTIONS true', live);
            EXECUTE format('ALTER DATABASE %I WITH ALLOW_CONNECTIONS true', fresh);
        END IF;
        COMMIT;
        RAISE EXCEPTION USING ERRCODE = state, MESSAGE = problem, DETAIL = coalesce(detail, '');
    END IF;
    PERFORM set_config('drctl.attempts', attempts::text, false);
    PERFORM set_config('drctl.milliseconds',
        CASE WHEN there THEN (1000 * extract(epoch FROM clock_timestamp() - closed))::integer ELSE 0 END::text, false);
END
$drctl$
"""
