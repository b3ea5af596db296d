"""A restore goes beside the live database and changes names with it; nothing is lost, and nobody is surprised."""

from __future__ import annotations

import re
import secrets
import threading
import time
from datetime import UTC, datetime

import psycopg
import pytest

from devstack import sql
from dr_toolkit.errors import TargetError, UsageError
from dr_toolkit.postgres import server
from dr_toolkit.postgres.restore import restore_into
from dr_toolkit.postgres.restore_plan import toc_of
from dr_toolkit.postgres.swap import beside, repair
from dr_toolkit.postgres.swap_plan import plan
from dr_toolkit.postgres.swap_settings import split_list
from tests.restoring import settings_of, snapshot, tools_of

NOW = datetime(2026, 11, 23, 8, 45, 49, tzinfo=UTC)


@pytest.fixture(params=["postgres", "postgres17"])
def running(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def live(running):
    """A database with one table of two rows; it and everything beside it is dropped afterwards."""
    name = f"Live {secrets.token_hex(4)}"
    running.create_database(name)
    sql.execute(running.dsn(name), "CREATE TABLE t (a int)", "INSERT INTO t VALUES (1), (2)")
    yield name
    for (database,) in sql.rows(
        running.dsn(), "SELECT datname FROM pg_database WHERE starts_with(datname, %s)", name
    ):
        running.drop_database(database)


@pytest.fixture
def source(running, live):
    """A snapshot of it; afterwards the live one gets a third row, so that both can be told apart."""
    taken = snapshot(running, live)
    sql.execute(running.dsn(live), "INSERT INTO t VALUES (3)")
    return taken


def planned(running, live, source, **options):
    options = {"snapshot": "S1", "now": NOW, **options}
    return plan(settings_of(running, live), toc_of(source), **options)


def rows(running, database):
    return [row[0] for row in sql.rows(running.dsn(database), "SELECT a FROM t ORDER BY 1")]


def names(running, live):
    found = sql.rows(
        running.dsn(), "SELECT datname FROM pg_database WHERE starts_with(datname, %s) ORDER BY 1", live
    )
    return [row[0] for row in found]


def restored(running, live, source, **options):
    """Restore and swap."""
    intended = planned(running, live, source)
    with beside(settings_of(running, live), intended) as new:
        restore_into(source, new.settings, tools_of(running))
        new.verified()
        return new.swap(**{"terminate": False, "toc": toc_of(source), **options})


def test_names_change_and_the_old_database_stays(running, live, source):
    """The live name has the restored rows, the old database its own, under a name that says when."""
    report = restored(running, live, source)
    assert report.old == f"{live}_old_20261123T084549Z"
    assert names(running, live) == [live, report.old]
    assert rows(running, live) == [1, 2]
    assert rows(running, report.old) == [1, 2, 3]
    [(comment,)] = sql.rows(
        running.dsn(),
        "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = %s",
        report.old,
    )
    assert "snapshot S1" in str(comment)
    assert report.unavailable_seconds < 5


def test_everything_that_belongs_to_the_database_is_carried_over(running, live, source):
    """Owner, privileges, settings of the database and of roles in it, limits and comment are those of the live one."""
    owner, friend = (f"Role {secrets.token_hex(4)}" for _ in range(2))
    database, role, other = sql.quoted(live), sql.quoted(owner), sql.quoted(friend)
    sql.execute(
        running.dsn(),
        f"CREATE ROLE {role}",
        f"CREATE ROLE {other}",
        f"ALTER DATABASE {database} OWNER TO {role}",
        f"REVOKE ALL ON DATABASE {database} FROM PUBLIC",
        f"GRANT CONNECT ON DATABASE {database} TO {other} WITH GRANT OPTION",
        f'ALTER DATABASE {database} SET search_path = "$user", \'odd, "name\', public',
        f"ALTER DATABASE {database} SET work_mem = '7MB'",
        f"ALTER DATABASE {database} SET app.\"key\" = 'it''s'",
        f"ALTER DATABASE {database} SET temp_tablespaces = ''",
        f"ALTER ROLE {other} IN DATABASE {database} SET statement_timeout = '9s'",
        f"ALTER DATABASE {database} CONNECTION LIMIT 17 IS_TEMPLATE true",
        f"COMMENT ON DATABASE {database} IS 'the live one; it''s ours'",
    )
    query = """
        SELECT r.rolname, d.datconnlimit, d.datistemplate, d.datallowconn, d.datacl::text, shobj_description(d.oid, 'pg_database'),
               (SELECT array_agg((setrole::regrole, setconfig) ORDER BY setrole)::text FROM pg_db_role_setting WHERE setdatabase = d.oid),
               pg_encoding_to_char(encoding), datcollate, datctype, datlocprovider, datlocale, dattablespace
        FROM pg_database d JOIN pg_roles r ON r.oid = datdba WHERE datname = %s
    """
    before = sql.rows(running.dsn(), query, live)
    assert before[0][6]
    report = restored(running, live, source)
    assert sql.rows(running.dsn(), query, live) == before
    assert sql.rows(running.dsn(live), "SHOW search_path") == sql.rows(
        running.dsn(str(report.old)), "SHOW search_path"
    )
    for name in names(running, live):
        sql.execute(running.dsn(), f"ALTER DATABASE {sql.quoted(name)} IS_TEMPLATE false")


@pytest.mark.parametrize(
    ("text", "items"),
    [
        ('"$user", public', ["$user", "public"]),
        ('"odd, ""name", a', ['odd, "name', "a"]),
        ('""', [""]),
        ("", []),
    ],
)
def test_lists_in_settings_are_cut_as_postgresql_writes_them(text, items):
    """A search path is a list of names, not one name with commas."""
    assert split_list(text) == items


def test_a_plan_says_what_will_happen_and_changes_nothing(running, live, source):
    """Names, sizes, space and clients are known before anything starts."""
    before = names(running, live)
    with psycopg.connect(running.dsn(live), application_name="console") as connection:
        found = planned(running, live, source, bytes_needed=1000)
        pid = connection.info.backend_pid
    assert (found.live, found.new, found.old) == (
        live,
        f"{live}_drctl_20261123T084549Z",
        f"{live}_old_20261123T084549Z",
    )
    [client] = found.clients
    assert (client.pid, client.application, client.user) == (pid, "console", running.superuser)
    assert found.live_bytes is not None
    assert found.live_bytes > 1_000_000
    assert found.problems == ()
    assert names(running, live) == before


def test_free_space_is_compared_where_it_can_be_seen(running, live, source):
    """On the server's own machine the disk is looked at; otherwise "unknown" is said, never a guess."""
    assert planned(running, live, source, bytes_needed=1000).space == "enough"
    assert planned(running, live, source, bytes_needed=1 << 60).space == "short"
    assert planned(running, live, source).space == "unknown"
    other = "postgres" if running.version == 17 else None
    assert other is None or planned(running, live, source, bytes_needed=1).bytes_free is not None


def test_space_is_unknown_to_an_ordinary_role(postgres, new_database):
    """Who may not ask where the server's data are gets "unknown"."""
    name, role = new_database(), f"plain_{secrets.token_hex(4)}"
    source = snapshot(postgres, name)
    sql.execute(postgres.dsn(), f"CREATE ROLE {role} LOGIN CREATEDB PASSWORD 'x'")
    settings = settings_of(postgres, name, user=role, password="x")
    found = plan(settings, toc_of(source), snapshot="S", now=NOW, bytes_needed=1)
    assert (found.bytes_free, found.space) == (None, "unknown")
    sql.execute(postgres.dsn(), f"DROP ROLE {role}")


def test_long_names_are_cut_by_us_and_stay_different(running):
    """PostgreSQL would cut both names to the same 63 bytes; ours keep their endings, and no character is halved."""
    live = "ü" * 31  # 62 bytes
    running.create_database(live)
    try:
        sql.execute(running.dsn(live), "CREATE TABLE t (a int)", "INSERT INTO t VALUES (1)")
        source = snapshot(running, live)
        found = planned(running, live, source)
        assert found.old is not None
        assert all(len(name.encode()) <= 63 for name in (found.new, found.old))
        assert found.new.endswith("ü_drctl_20261123T084549Z")
        report = restored(running, live, source)
        assert rows(running, live) == [1]
        assert rows(running, str(report.old)) == [1]
    finally:
        for (name,) in sql.rows(running.dsn(), "SELECT datname FROM pg_database WHERE datname ~ '^üü'"):
            running.drop_database(name)


def test_a_name_that_would_be_cut_is_refused(postgres, new_database):
    """64 bytes: PostgreSQL would restore into another name than the one that was given."""
    source = snapshot(postgres, new_database())
    with pytest.raises(UsageError, match="longer than 63 bytes"):
        planned(postgres, "x" * 64, source)


def test_open_sessions_stop_the_swap_and_are_named(running, live, source):
    """Without permission nobody is cut off: the swap refuses, names who is there, and leaves everything as it was."""
    with (
        psycopg.connect(running.dsn(live), application_name="console", autocommit=True) as connection,
        pytest.raises(TargetError, match=r"in use: console \(.*, pid \d+\)") as caught,
    ):
        restored(running, live, source)
    assert "takes connections" in str(caught.value.unaffected)
    assert connection.closed
    assert names(running, live) == [live]
    assert rows(running, live) == [1, 2, 3]


def test_sessions_are_ended_when_that_is_allowed(running, live, source):
    """With permission the sessions are ended, and their clients find the restored database when they come back."""
    with psycopg.connect(running.dsn(live), autocommit=True) as connection:
        report = restored(running, live, source, terminate=True)
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
    assert report.ended == 1
    assert rows(running, live) == [1, 2]


def test_a_storm_of_clients_does_not_defeat_the_swap(running, live, source):
    """Clients that reconnect at once, as superusers, are held out for the moment of the swap."""
    stop, inside = threading.Event(), threading.Barrier(5)

    def storm():
        first = True
        while not stop.is_set():
            try:
                with psycopg.connect(running.dsn(live), autocommit=True) as connection:
                    if first:
                        first = False
                        inside.wait(10)
                    while not stop.is_set():
                        connection.execute("SELECT 1")
            except psycopg.OperationalError:
                continue

    threads = [threading.Thread(target=storm) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        inside.wait(10)
        report = restored(running, live, source, terminate=True)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert report.ended >= 4
    assert report.unavailable_seconds < 10
    assert rows(running, live) == [1, 2]


def test_a_session_that_cannot_be_ended_leaves_the_live_database_open(postgres, new_database, source_of):
    """An ordinary role may not end a superuser's session: the swap fails and the live database takes connections."""
    live, source = source_of(new_database())
    role = f"owner_{secrets.token_hex(4)}"
    quoted = sql.quoted(live)
    sql.execute(
        postgres.dsn(),
        f"CREATE ROLE {role} LOGIN CREATEDB PASSWORD 'x'",
        f"ALTER DATABASE {quoted} OWNER TO {role}",
    )
    settings = settings_of(postgres, live, user=role, password="x")
    intended = plan(settings, toc_of(source), snapshot="S", now=NOW)
    try:
        with (
            psycopg.connect(postgres.dsn(live), autocommit=True) as connection,
            pytest.raises(TargetError, match="permission denied"),
            beside(settings, intended) as new,
        ):
            new.swap(terminate=True)
        assert connection.closed
        assert rows(postgres, live) == [1, 2]
        assert names(postgres, live) == [live]
    finally:
        postgres.drop_database(live)
        sql.execute(postgres.dsn(), f"DROP ROLE {role}")


@pytest.fixture
def source_of(postgres):
    def make(name):
        sql.execute(postgres.dsn(name), "CREATE TABLE t (a int)", "INSERT INTO t VALUES (1), (2)")
        return name, snapshot(postgres, name)

    return make


def test_without_a_live_database_the_restored_one_gets_its_name(running, live, source):
    """Dropped by accident: the snapshot has the database's own settings, and they come back with it."""
    database = sql.quoted(live)
    sql.execute(
        running.dsn(),
        f"ALTER DATABASE {database} SET work_mem = '7MB'",
        f"COMMENT ON DATABASE {database} IS 'ours'",
        f"REVOKE CONNECT ON DATABASE {database} FROM PUBLIC",
    )
    source = snapshot(running, live)
    query = "SELECT (SELECT array_agg(one::text ORDER BY one::text) FROM unnest(datacl) one), shobj_description(oid, 'pg_database'), datallowconn, datlocprovider FROM pg_database WHERE datname = %s"
    before = sql.rows(running.dsn(), query, live)
    running.drop_database(live)
    assert planned(running, live, source).old is None
    report = restored(running, live, source)
    assert report.old is None
    assert names(running, live) == [live]
    assert rows(running, live) == [1, 2, 3]
    assert sql.rows(running.dsn(live), "SHOW work_mem") == [("7MB",)]
    assert sql.rows(running.dsn(), query, live) == before


def test_another_name_is_a_new_database(running, live, source):
    """Restoring under a name that nobody has leaves the live database alone."""
    other = f"{live} copy"
    report = restored(running, other, source)
    assert report.live == other
    assert rows(running, other) == [1, 2]
    assert rows(running, live) == [1, 2, 3]
    comment = "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = %s"
    assert sql.rows(running.dsn(), comment, other) == [(None,)]


def test_the_database_postgres_itself_can_be_replaced(postgres17):
    """Then the work is done from template1."""
    sql.execute(postgres17.dsn(), "CREATE TABLE t (a int)", "INSERT INTO t VALUES (5)")
    source = snapshot(postgres17, "postgres")
    report = restored(postgres17, "postgres", source, terminate=True)
    try:
        assert rows(postgres17, "postgres") == [5]
    finally:
        sql.execute(postgres17.dsn(), "DROP TABLE t", f"DROP DATABASE {sql.quoted(str(report.old))}")


def test_leaving_without_a_swap_drops_the_new_database(running, live, source):
    """An error in the middle takes the half-restored database with it, and the live one never noticed."""
    with (
        pytest.raises(ValueError, match="stop"),
        beside(settings_of(running, live), planned(running, live, source)),
    ):
        assert len(names(running, live)) == 2
        raise ValueError("stop")
    assert names(running, live) == [live]


def test_a_database_that_is_kept_is_not_dropped_later(running, live, source):
    """With --no-swap the new database stays, and a later restore leaves it alone."""
    with beside(settings_of(running, live), planned(running, live, source)) as new:
        restore_into(source, new.settings, tools_of(running))
        new.keep("restored from snapshot S1")
    repaired = repair(settings_of(running, live))
    assert repaired.dropped == ()
    assert rows(running, new.settings.database) == [1, 2]


def test_only_one_restore_of_a_database_at_a_time(running, live, source):
    """A second one is refused and says who is at work; it does not take the first one's database away."""
    settings, intended = settings_of(running, live), planned(running, live, source)
    with beside(settings, intended) as new:
        with pytest.raises(TargetError, match=r"another restore .* is running: session \d+ since") as caught:
            repair(settings)
        assert caught.value.unaffected == "nothing was started"
        with pytest.raises(TargetError, match="another restore"), beside(settings, intended):
            pass
        assert new.settings.database in names(running, live)


def test_a_prepared_transaction_is_a_problem_that_is_told(servers_root):
    """It would make the swap fail; the plan names it, and the swap that is tried anyway leaves all as it was."""
    from devstack.postgres import PostgresServer  # noqa: PLC0415

    root = servers_root / f"prepared-{secrets.token_hex(3)}"
    with PostgresServer(root, settings={"max_prepared_transactions": "5"}) as running:
        running.create_database("live")
        sql.execute(running.dsn("live"), "CREATE TABLE t (a int)", "INSERT INTO t VALUES (1)")
        source = snapshot(running, "live")
        sql.execute(running.dsn("live"), "BEGIN; INSERT INTO t VALUES (2); PREPARE TRANSACTION 'left over'")
        found = planned(running, "live", source)
        assert re.search('prepared transaction "left over"', found.problems[0])
        with pytest.raises(TargetError, match="in use"), beside(settings_of(running, "live"), found) as new:
            new.swap(terminate=True, seconds=0.5)
        assert rows(running, "live") == [1]
        assert names(running, "live") == ["live"]


def test_a_slot_and_a_subscription_stay_with_the_old_database_and_are_told(servers_root):
    """They are bound to a database, not to its name: the plan says so, the swap goes through, and both are kept."""
    from devstack.postgres import PostgresServer  # noqa: PLC0415

    root = servers_root / f"logical-{secrets.token_hex(3)}"
    with PostgresServer(root, settings={"wal_level": "logical"}) as running:
        running.create_database("live")
        sql.execute(running.dsn("live"), "CREATE TABLE t (a int)", "INSERT INTO t VALUES (1)")
        source = snapshot(running, "live")
        sql.execute(
            running.dsn("live"),
            "SELECT pg_create_logical_replication_slot('to_somewhere', 'pgoutput')",
            "CREATE SUBSCRIPTION from_somewhere CONNECTION 'host=127.0.0.1 port=1 dbname=none' PUBLICATION all_of_it "
            "WITH (connect = false, enabled = false, slot_name = NONE)",
        )
        found = planned(running, "live", source)
        assert found.problems == ()
        warned = " ".join(found.warnings)
        assert 'the logical replication slot "to_somewhere" stays with the old database' in warned
        assert 'the subscription "from_somewhere" stays with the old database' in warned
        with beside(settings_of(running, "live"), found) as new:
            restore_into(source, new.settings, tools_of(running))
            new.verified()
            report = new.swap(terminate=True)
        assert rows(running, "live") == [1]
        owners = sql.rows(
            running.dsn("live"),
            "SELECT database::text FROM pg_replication_slots UNION ALL "
            "SELECT datname::text FROM pg_subscription JOIN pg_database d ON d.oid = subdbid",
        )
        assert [name for (name,) in owners] == [report.old, report.old]
        sql.execute(running.dsn(report.old), "DROP SUBSCRIPTION from_somewhere")
        sql.execute(running.dsn(report.old), "SELECT pg_drop_replication_slot('to_somewhere')")


def test_the_session_may_be_lost_while_the_data_are_restored(running, live, source):
    """Hours of silence and a firewall: the swap opens another session and goes on."""
    with beside(settings_of(running, live), planned(running, live, source)) as new:
        restore_into(source, new.settings, tools_of(running))
        sql.rows(
            running.dsn(),
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_locks WHERE locktype = 'advisory' AND pid <> pg_backend_pid()",
        )
        new.swap(terminate=False)
    assert rows(running, live) == [1, 2]


def test_a_plan_that_is_out_of_date_is_refused(running, live, source):
    """Somebody dropped the live database while the data were restored: the swap says so and changes nothing."""
    with (
        pytest.raises(TargetError, match="was dropped since"),
        beside(settings_of(running, live), planned(running, live, source)) as new,
    ):
        running.drop_database(live)
        new.swap(terminate=True)
    assert names(running, live) == []


def test_an_old_name_that_is_taken_meanwhile_stops_the_swap(running, live, source):
    """Somebody made a database of the very name under which the old one is to be kept: nothing is renamed, and theirs is not touched."""
    intended = planned(running, live, source)
    with (
        pytest.raises(TargetError, match="already exists"),
        beside(settings_of(running, live), intended) as new,
    ):
        running.create_database(intended.old)
        new.swap(terminate=True)
    assert names(running, live) == [live, intended.old]
    assert sql.rows(running.dsn(live), "SELECT 1") == [(1,)]
    running.drop_database(intended.old)
    with beside(settings_of(running, live), planned(running, live, source)) as new:
        new.swap(terminate=True)  # a plan that is made anew goes well


def test_a_role_without_the_right_to_create_databases_is_told(postgres, new_database):
    """Nothing is started, and what PostgreSQL said is in the message."""
    name, role = new_database(), f"plain_{secrets.token_hex(4)}"
    source = snapshot(postgres, name)
    sql.execute(postgres.dsn(), f"CREATE ROLE {role} LOGIN PASSWORD 'x'")
    settings = settings_of(postgres, name, user=role, password="x")
    intended = plan(settings, toc_of(source), snapshot="S", now=NOW)
    with pytest.raises(TargetError, match="permission denied to create database"), beside(settings, intended):
        pass
    sql.execute(postgres.dsn(), f"DROP ROLE {role}")


def test_swapping_takes_little_time(running, live, source):
    """The report says how long nobody could connect, and it is what a client sees."""
    began = time.monotonic()
    with beside(settings_of(running, live), planned(running, live, source)) as new:
        restore_into(source, new.settings, tools_of(running))
        before = time.monotonic()
        report = new.swap(terminate=False)
        assert 0 <= report.unavailable_seconds <= time.monotonic() - before
    assert time.monotonic() - began < 60
    with server.connect(settings_of(running, live)) as connection:
        assert server.query(connection, "SELECT 1") == [(1,)]
