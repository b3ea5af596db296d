"""A restored database is the one that was dumped; a restore that cannot work says so and stops."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from devstack import sql
from devstack.data import fill_console_like, unusual_database
from dr_toolkit import process
from dr_toolkit.errors import Damaged, Interrupted, TargetError
from dr_toolkit.log import NoProgress
from dr_toolkit.postgres.connection import ConnectionSettings, credentials
from dr_toolkit.postgres.early_digests import FROM_BYTES, EarlyDigests, worth_it
from dr_toolkit.postgres.restore import exact_archive, restore_into
from dr_toolkit.postgres.restore_plan import toc_of
from dr_toolkit.postgres.restore_verify import compare_restored, expected_facts
from dr_toolkit.postgres.sample import Sample
from dr_toolkit.postgres.tools import Tools, installed
from tests.restoring import ChangedSource, settings_of, snapshot, table_is, tools_of

DEBIAN_15 = Path("/usr/lib/postgresql/15/bin")


@pytest.fixture(params=["postgres", "postgres17"])
def running(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def new(running):
    """Makes fresh databases on ``running``."""
    made = []

    def make() -> str:
        made.append(f"restore_{secrets.token_hex(4)}")
        running.create_database(made[-1])
        return made[-1]

    yield make
    for name in made:
        running.drop_database(name)


@pytest.fixture
def console(new_database, postgres):
    name = new_database()
    fill_console_like(postgres.dsn(name), scale=0.05)
    return snapshot(postgres, name)


def fake_tools(real: Tools, directory: Path, script: str) -> Tools:
    """The same programs with another ``pg_restore``; ``$REAL`` is the real one."""
    for name in ("pg_dump", "pg_dumpall"):
        (directory / name).symlink_to(real.program(name))
    program = directory / "pg_restore"
    program.write_text(f'#!/bin/bash\nREAL="{real.program("pg_restore")}"\n{script}\n')
    program.chmod(0o755)
    return replace(real, directory=str(directory))


def restoring_programs() -> list[int]:
    """Ids of the pg_restore programs that this process has started and that still run."""
    told = subprocess.run(["ps", "-eo", "pid,ppid,comm"], capture_output=True, text=True, check=True).stdout
    lines = [line.split(None, 2) for line in told.splitlines()[1:]]
    return [int(pid) for pid, parent, name in lines if int(parent) == os.getpid() and name == "pg_restore"]


@pytest.mark.parametrize("fill", [fill_console_like, unusual_database])
@pytest.mark.parametrize(("jobs", "at_least"), [(1, FROM_BYTES), (3, 0)])
def test_a_restored_database_is_the_one_that_was_dumped(running, new, fill, jobs, at_least):
    """Definitions, owners, privileges, rows, sequences and large objects come back, whatever the number of jobs.

    Also where digests are taken and indexes are built while other tables are loaded, and these tables are loaded frozen.
    """
    source_name, target = new(), settings_of(running, new())
    fill(running.dsn(source_name), **({"scale": 0.05} if fill is fill_console_like else {}))
    source = snapshot(running, source_name)
    wanted = worth_it(expected_facts(source, toc_of(source)), at_least=at_least)
    early = EarlyDigests(target, tools_of(running), wanted)
    report = restore_into(source, target, tools_of(running), jobs=jobs, early=early, frozen_from=at_least)
    assert report.tables > 3
    assert report.bytes == sum(info.size for info in source.entries("archive/data/"))
    assert early.taken == wanted
    differences = compare_restored(source, toc_of(source), target, tools_of(running), early=early)
    assert [one.text for one in differences if one.severity == "failure"] == []


def test_rows_keep_their_order_and_are_everybodys_at_once(running, new):
    """Rows of many widths come back in the order of the snapshot, and no later reader has to mark them as committed.

    Loaded in any other way a narrow row goes into what a wide one has left free of an earlier page: the same rows in another
    order, which the comparison has to read once more to know them.
    """
    source_name, target_name = new(), new()
    sql.execute(
        running.dsn(source_name),
        "CREATE TABLE t AS SELECT n, repeat('x', 50 + n * 7919 % 1500) AS text FROM generate_series(1, 4000) AS n",
    )
    source, target = snapshot(running, source_name), settings_of(running, target_name)
    early = EarlyDigests(target, tools_of(running), {("public", "t")})
    restore_into(source, target, tools_of(running), early=early)
    assert compare_restored(source, toc_of(source), target, tools_of(running), early=early) == []
    assert early.settled().keys() == {("public", "t")}
    sql.execute(running.dsn(target_name), "CREATE EXTENSION pageinspect")
    frozen = """
        SELECT DISTINCT t_infomask & 768 FROM generate_series(0, pg_relation_size('t') / 8192 - 1) AS page,
        heap_page_items(get_raw_page('t', page::int))
    """
    assert sql.rows(running.dsn(target_name), frozen) == [(768,)]  # HEAP_XMIN_FROZEN


def test_materialized_views_are_filled(postgres, new_database):
    """A materialized view has no data in a dump; after a restore it can be read."""
    source, target = new_database(), new_database()
    sql.execute(
        postgres.dsn(source),
        "CREATE TABLE t AS SELECT generate_series(1, 10) AS n",
        "CREATE MATERIALIZED VIEW m AS SELECT sum(n) AS total FROM t",
    )
    restore_into(snapshot(postgres, source), settings_of(postgres, target), tools_of(postgres))
    assert sql.rows(postgres.dsn(target), "SELECT total FROM m") == [(55,)]


def test_no_data_is_written_to_our_disk(postgres, console, database, tmp_path, monkeypatch):
    """While the largest table is on its way, our temporary files hold lists and the table of contents, and no rows."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    sizes = []

    def watch(pieces):
        for piece in pieces:
            yield piece
            sizes.append(sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()))

    source = ChangedSource(console, table_is("audit.events"), watch)
    restore_into(source, settings_of(postgres, database), tools_of(postgres))
    assert sizes
    assert max(sizes) < 64 * 1024
    assert list(tmp_path.iterdir()) == []


def test_the_exact_archive_is_read_by_pg_restore(postgres, console, tmp_path):
    """The concatenation of a snapshot's entries is the archive, which ``pg_restore`` lists without us."""
    path = tmp_path / "archive.dump"
    path.write_bytes(b"".join(exact_archive(console)))
    listing = process.run([tools_of(postgres).program("pg_restore"), "--list", str(path)]).stdout.decode()
    assert "TABLE DATA audit events" in listing


def test_chosen_tables_only(postgres, console, database):
    """With a filter every definition is restored, and only the chosen tables have rows."""
    target = settings_of(postgres, database)
    restore_into(console, target, tools_of(postgres), sample=Sample(tables=("flyway_schema_history",)))
    dsn = postgres.dsn(database)
    assert sql.rows(dsn, "SELECT count(*) FROM audit.events") == [(0,)]
    histories = sql.rows(
        dsn, "SELECT table_schema FROM information_schema.tables WHERE table_name = 'flyway_schema_history'"
    )
    assert histories
    for (schema,) in histories:
        assert sql.rows(dsn, f"SELECT count(*) > 0 FROM {schema}.flyway_schema_history") == [(True,)]


# ---- refused before anything starts


def test_a_database_that_is_not_empty_is_refused(postgres, console, database):
    """Restoring into a database with content would mix two; nothing is started."""
    sql.execute(postgres.dsn(database), "CREATE TABLE mine (a int)")
    with pytest.raises(TargetError, match="is not empty: it holds 1 relations") as caught:
        restore_into(console, settings_of(postgres, database), tools_of(postgres))
    assert caught.value.unaffected == "nothing was started"


@pytest.fixture
def of_a_lost_role(postgres, new_database):
    """A snapshot whose tables belong to, are granted to, and have policies for roles that are gone."""
    name, roles = new_database(), [f"{kind}_{secrets.token_hex(4)}" for kind in ("Owner", "reader")]
    dsn = postgres.dsn(name)
    owner, reader = (sql.quoted(role) for role in roles)
    sql.execute(
        dsn,
        f"CREATE ROLE {owner}",
        f"CREATE ROLE {reader}",
        "CREATE TABLE t (a int)",
        "INSERT INTO t VALUES (7)",
        f"ALTER TABLE t OWNER TO {owner}",
        f"GRANT SELECT ON t TO {reader} WITH GRANT OPTION",
    )
    source = snapshot(postgres, name)
    postgres.drop_database(name)
    sql.execute(postgres.dsn(), f"DROP ROLE {owner}", f"DROP ROLE {reader}")
    return source, sorted(roles)


def test_missing_roles_are_named(postgres, of_a_lost_role, database):
    """Every role that is missing on the target is named at once, before anything starts."""
    source, roles = of_a_lost_role
    with pytest.raises(TargetError, match=f'"{roles[0]}", "{roles[1]}"') as caught:
        restore_into(source, settings_of(postgres, database), tools_of(postgres))
    assert "--no-owner" in str(caught.value.hint)
    assert sql.rows(postgres.dsn(database), "SELECT 1 FROM pg_class WHERE relname = 't'") == []


def test_without_owners_missing_roles_do_not_matter(postgres, of_a_lost_role, database):
    """With no_owner everything belongs to the restoring role, and nobody is granted anything."""
    source, _ = of_a_lost_role
    restore_into(source, settings_of(postgres, database), tools_of(postgres), no_owner=True)
    rows = sql.rows(
        postgres.dsn(database),
        "SELECT a, tableowner, relacl FROM t, pg_tables, pg_class WHERE tablename = 't' AND relname = 't'",
    )
    assert rows == [(7, postgres.superuser, None)]


def test_an_older_server_is_refused(postgres17, console):
    """A dump of 18 is not pushed into 17, where it might half succeed."""
    with pytest.raises(
        TargetError, match="from PostgreSQL 18 and cannot be restored into the older PostgreSQL 17"
    ):
        restore_into(console, settings_of(postgres17, "postgres"), tools_of(postgres17))


def test_a_newer_client_restores_into_an_older_server(postgres17, postgres):
    """Programs of 18 restore a dump of 17 into 17."""
    names = [f"newer_{secrets.token_hex(4)}" for _ in range(2)]
    for name in names:
        postgres17.create_database(name)
    try:
        unusual_database(postgres17.dsn(names[0]))
        source, target = snapshot(postgres17, names[0]), settings_of(postgres17, names[1])
        restore_into(source, target, tools_of(postgres))
        assert compare_restored(source, toc_of(source), target, tools_of(postgres17)) == []
    finally:
        for name in names:
            postgres17.drop_database(name)


@pytest.fixture
def debian15(tmp_path_factory):
    """PostgreSQL 15 of Debian, where it is installed: it does not know ``transaction_timeout``."""
    if not DEBIAN_15.is_dir():
        pytest.skip("Debian's PostgreSQL 15 is not installed")
    from dr_toolkit.postgres.scratch import ScratchServer  # noqa: PLC0415

    with ScratchServer(15, programs=str(DEBIAN_15)) as server:
        yield server


def test_a_setting_that_an_old_server_does_not_know_is_let_pass(postgres, debian15, tmp_path):
    """Programs of 17 and newer set ``transaction_timeout`` first; 15 refuses exactly that, and the restore goes on."""
    [tools] = [tools for tools in installed() if tools.major == 18][:1]
    with_sql = debian15.settings.for_database("old")
    _execute(debian15.settings, "CREATE DATABASE old")
    _execute(debian15.settings, "CREATE DATABASE fresh")
    _execute(
        with_sql, "CREATE TABLE t AS SELECT generate_series(1, 1000) AS n; ALTER TABLE t ADD PRIMARY KEY (n)"
    )
    source = _snapshot_of(with_sql, tools)
    target = debian15.settings.for_database("fresh")
    restore_into(source, target, tools, jobs=2)
    assert compare_restored(source, toc_of(source), target, tools) == []


def test_another_error_on_an_old_server_is_still_an_error(postgres, debian15):
    """Where one error is let pass, every other one still fails the restore."""
    [tools] = [tools for tools in installed() if tools.major == 18][:1]
    with_sql = debian15.settings.for_database("old")
    _execute(debian15.settings, "CREATE DATABASE old")
    _execute(debian15.settings, "CREATE DATABASE fresh")
    _execute(with_sql, "CREATE TABLE t AS SELECT generate_series(1000000, 1001000) AS n")
    source = ChangedSource(
        _snapshot_of(with_sql, tools),
        table_is("public.t"),
        lambda pieces: (piece.replace(b"1000500\n", b"10x0500\n") for piece in pieces),
    )
    with pytest.raises(TargetError, match="invalid input syntax"):
        restore_into(source, debian15.settings.for_database("fresh"), tools)


def _execute(settings: ConnectionSettings, statement: str) -> None:
    from dr_toolkit.postgres import server  # noqa: PLC0415

    with server.connect(settings) as connection:
        server.query(connection, statement)


def _snapshot_of(settings: ConnectionSettings, tools: Tools):
    from tests.fakes import MemorySink, MemorySource  # noqa: PLC0415
    from tests.restoring import dump_database  # noqa: PLC0415

    sink = MemorySink()
    dump_database(settings, sink, tools)
    return MemorySource(sink)


# ---- failures in the middle


def test_a_row_that_the_server_refuses_is_named(postgres, new_database):
    """The error says which table, and what the server said about it."""
    source, target = new_database(), new_database()
    sql.execute(postgres.dsn(source), "CREATE TABLE t AS SELECT generate_series(1000000, 1001000) AS n")
    damaged = ChangedSource(
        snapshot(postgres, source),
        table_is("public.t"),
        lambda pieces: (piece.replace(b"1000500\n", b"10x0500\n") for piece in pieces),
    )
    with pytest.raises(TargetError) as caught:
        restore_into(damaged, settings_of(postgres, target), tools_of(postgres))
    assert 'restoring "public.t"' in caught.value.message
    assert 'invalid input syntax for type integer: "10x0500"' in caught.value.message


def test_a_program_that_dies_says_why(postgres, console, database, tmp_path):
    """What a dying program said is the error, not the broken pipe that we saw."""
    script = """
case "$*" in *section=data*) head -c 20000 > /dev/null; echo "pg_restore: error: the disk is on fire" >&2; exit 1;; esac
exec "$REAL" "$@"
"""
    tools = fake_tools(tools_of(postgres), tmp_path, script)
    with pytest.raises(TargetError, match=r"pg_restore failed while restoring .*: the disk is on fire"):
        restore_into(console, settings_of(postgres, database), tools)


def test_a_program_that_is_killed_is_a_failure(postgres, console, database, tmp_path):
    """Killed by the kernel's memory guard, a program says nothing; the signal is named."""
    script = 'case "$*" in *section=data*) head -c 20000 > /dev/null; kill -9 $$;; esac\nexec "$REAL" "$@"'
    tools = fake_tools(tools_of(postgres), tmp_path, script)
    with pytest.raises(TargetError, match="SIGKILL"):
        restore_into(console, settings_of(postgres, database), tools)


def test_damage_in_the_snapshot_ends_everything_at_once(postgres, console, database):
    """Damage found while reading is what is raised, and no program goes on restoring."""

    def damaged(pieces):
        yield next(pieces)[:5000]
        raise Damaged("a chunk does not open")

    source = ChangedSource(console, table_is("audit.events"), damaged)
    with pytest.raises(Damaged, match="a chunk does not open"):
        restore_into(source, settings_of(postgres, database), tools_of(postgres), jobs=3)
    assert restoring_programs() == []


def test_a_stream_that_ends_early_is_not_a_success(postgres, console, database):
    """A source that gives less than it should cannot make a restore that looks complete."""
    source = ChangedSource(
        console, table_is("audit.events"), lambda pieces: iter([b"".join(pieces)[: 1 << 16]])
    )
    with pytest.raises(TargetError, match=r"audit.events|audit events"):
        restore_into(source, settings_of(postgres, database), tools_of(postgres))


def test_an_interrupted_restore_leaves_no_program(postgres, console, database):
    """SIGTERM in the middle ends every program, and the interruption is what comes out."""
    reached, released = threading.Event(), threading.Event()

    def slow(pieces):
        for piece in pieces:
            yield piece[:1000]
            reached.set()
            released.wait(10)
            yield piece[1000:]

    def interrupt(number, frame):
        released.set()
        raise Interrupted(number)

    def watch():
        reached.wait(20)
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, interrupt)
    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        with pytest.raises(Interrupted):
            restore_into(
                ChangedSource(console, table_is("audit.events"), slow),
                settings_of(postgres, database),
                tools_of(postgres),
            )
    finally:
        watcher.join()
        signal.signal(signal.SIGTERM, before)
    assert restoring_programs() == []


def test_the_server_going_away_is_told(postgres, console, database):
    """Sessions that are terminated in the middle fail the restore with the server's words."""

    def cutting(pieces):
        *before, last = pieces
        yield from before
        middle = len(last) // 2
        yield last[:middle]
        for _ in range(300):  # until the table's COPY is under way; its end is still held back
            if sql.rows(
                postgres.dsn(),
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s AND query LIKE '%%COPY %%'",
                database,
            ):
                break
            time.sleep(0.1)
        yield last[middle:]

    source = ChangedSource(console, table_is("audit.events"), cutting)
    with pytest.raises(TargetError, match=r"terminat|closed|connection"):
        restore_into(source, settings_of(postgres, database), tools_of(postgres), jobs=1)


def test_no_password_in_any_argument_list(postgres, console, database):
    """While a restore runs, no argument list on the machine has the password."""
    seen: set[bytes] = set()
    stop = threading.Event()

    def sample():
        while not stop.is_set():
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    seen.add(path.read_bytes())
                except OSError:
                    continue
            time.sleep(0.005)

    sampler = threading.Thread(target=sample)
    sampler.start()
    try:
        restore_into(console, settings_of(postgres, database), tools_of(postgres))
    finally:
        stop.set()
        sampler.join()
    assert any(b"pg_restore" in line for line in seen)
    assert not any(postgres.password.encode() in line for line in seen)


class Telling(NoProgress):
    """Adds up what it is told; calls come from several threads."""

    def __init__(self) -> None:
        self.total = 0
        self.announced: list[int | None] = []
        self._lock = threading.Lock()

    def start(self, total_bytes, what):
        self.announced.append(total_bytes)

    def advance(self, bytes, objects=0):  # noqa: A002
        with self._lock:
            self.total += bytes


def test_progress_reaches_what_was_announced(postgres, console, database):
    """The bytes told while loading are exactly those that were announced."""
    progress = Telling()
    report = restore_into(console, settings_of(postgres, database), tools_of(postgres), progress=progress)
    assert progress.announced == [None, report.bytes, None]
    assert progress.total == report.bytes


def test_a_database_with_an_odd_name(postgres, console):
    """A database's name is never taken for a connection string or an option."""
    name = "dbname='x' \\ host=nowhere " + secrets.token_hex(3)
    postgres.create_database(name)
    try:
        restore_into(console, settings_of(postgres, name), tools_of(postgres))
        with credentials(settings_of(postgres, name)):
            assert sql.rows(postgres.dsn(name), "SELECT count(*) > 0 FROM audit.events") == [(True,)]
    finally:
        postgres.drop_database(name)


def test_a_server_that_is_read_only_by_its_settings(postgres, console, new_database):
    """In an incident a database is often made read-only by a setting; a restore into a new one goes on."""
    name = new_database()
    sql.execute(postgres.dsn(), f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    settings = settings_of(postgres, name)
    restore_into(console, settings, tools_of(postgres))
    assert compare_restored(console, toc_of(console), settings, tools_of(postgres)) == []
