"""Dumps of real servers: the entries are the exact archive, the digests are the tables', and no failure passes for a success."""

from __future__ import annotations

import io
import json
import os
import re
import secrets
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from devstack import sql
from devstack.data import append_events, backup_role, fill_console_like, unusual_database
from dr_toolkit import log, process
from dr_toolkit.errors import DrctlError, SourceError, SourceUnreachable
from dr_toolkit.postgres import server
from dr_toolkit.postgres.archive import contents, restore_stream, row_multiset
from dr_toolkit.postgres.connection import ConnectionSettings, credentials, resolve
from dr_toolkit.postgres.dump_check import source_snapshot
from dr_toolkit.postgres.server_facts import data_size, facts
from dr_toolkit.postgres.tools import Tools, choose, installed, server_tools
from tests.fakes import MemorySink, MemorySource
from tests.restoring import dump_database

PASSWORD = "pa:ss\\word " + secrets.token_hex(4)


def settings_of(running, database: str, **fields) -> ConnectionSettings:
    return resolve(
        **{
            "host": running.host,
            "port": running.port,
            "database": database,
            "user": running.superuser,
            "password": running.password,
            **fields,
        }
    )


def tools_of(running) -> Tools:
    return choose(running.version)


def run(tools: Tools, settings: ConnectionSettings, *argv: str, **options) -> process.Completed:
    with credentials(settings) as env:
        return process.run(
            [tools.program(argv[0]), *argv[1:]], env={**env, **tools.env, "TZ": "UTC"}, **options
        )


def dump(running, database: str, **options):
    sink = MemorySink()
    return dump_database(settings_of(running, database), sink, tools_of(running), **options), sink


@pytest.fixture(params=["postgres", "postgres17"])
def running(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def fresh(running):
    name = f"dump_{secrets.token_hex(4)}"
    running.create_database(name)
    yield name
    running.drop_database(name)


@pytest.fixture
def other(running):
    name = f"other_{secrets.token_hex(4)}"
    running.create_database(name)
    yield name
    running.drop_database(name)


@pytest.fixture
def console(database, postgres):
    fill_console_like(postgres.dsn(database), scale=0.05)
    return database


def teeing(tools: Tools, directory: Path) -> Tools:
    """A directory of programs in which pg_dump's output is also written to ``copy``."""
    script = directory / "pg_dump"
    real = tools.program("pg_dump")
    script.write_text(
        f'#!/bin/bash\nset -o pipefail\n"{real}" "$@" | LD_LIBRARY_PATH= tee "{directory}/copy"\n'
    )
    script.chmod(0o755)
    (directory / "pg_dumpall").symlink_to(tools.program("pg_dumpall"))
    return Tools(str(directory), tools.major, tools.version, tools.env)


def test_entries_joined_are_pg_dumps_bytes(running, fresh, tmp_path):
    """The concatenation of the entries in order of path is, byte for byte, what pg_dump wrote; pg_restore reads it."""
    unusual_database(running.dsn(fresh))
    sink = MemorySink()
    done = dump_database(settings_of(running, fresh), sink, teeing(tools_of(running), tmp_path))
    copy = (tmp_path / "copy").read_bytes()
    assert sink.joined("archive/") == copy
    assert len(copy) == done.archive.size
    listed = run(
        tools_of(running), settings_of(running, fresh), "pg_restore", "--list", str(tmp_path / "copy")
    ).stdout
    assert b"TABLE DATA" in listed
    assert sink.largest_write <= 1 << 20


def test_counts_are_what_sql_counts(running, fresh):
    """Each table's row count from the stream is the one of SQL, for odd names, inheritance and partitions too."""
    unusual_database(running.dsn(fresh))
    done, sink = dump(running, fresh, check_source=True)
    assert done.checked
    assert len(done.archive.tables) > 15
    with server.connect(settings_of(running, fresh)) as connection:
        for table in done.archive.tables:
            statement = server.statement(
                "SELECT count(*) FROM ONLY {t}", t=server.identifier(table.schema, table.name)
            )
            assert server.query(connection, statement) == [(table.summary.rows,)], table
    assert done.archive.large_objects.count == 2
    metas = [entry.meta for entry in sink.entries.values() if entry.kind == "table-data"]
    assert {(meta["schema"], meta["table"]) for meta in metas} == {
        (t.schema, t.name) for t in done.archive.tables
    }
    wide = next(meta for meta in metas if meta["table"] == "wide")
    assert len(wide["columns"]) == 400
    odd = next(meta for meta in metas if meta["table"] == 'Ta"ble')
    assert odd["columns"] == [
        "Ünï cödé",
        "a/b",
        "100%",
        "back\\slash",
        "it's",
        "select",
        "日本",
        " ",
        "new\nline",
    ]


def test_entries_are_described(postgres, console):
    """Kinds, cuts and metadata are what `show` and restore need, and small."""
    done, sink = dump(postgres, console)
    toc = sink.entries["archive/00-toc"]
    assert (toc.kind, toc.meta["archive_version"], toc.meta["database"]) == ("toc", "1.16", console)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", toc.meta["created"])
    assert toc.meta["entries"] == len(done.archive.toc.entries)
    tables = {path: entry for path, entry in sink.entries.items() if entry.kind == "table-data"}
    assert tables
    for path, entry in tables.items():
        assert re.match(r"archive/data/\d\d/", path)
        assert entry.cuts == [6], "the block's header, where the dump id is, must be a chunk of its own"
        assert entry.meta["rows"] is not None
        assert re.fullmatch(r"[0-9a-f]{64}", entry.meta["digest"])
    objects = [entry for entry in sink.entries.values() if entry.kind == "large-objects"]
    assert sum(entry.meta["count"] for entry in objects) == done.archive.large_objects.count > 0
    assert sink.entries["globals.sql"].cutting == "private"
    assert list(sink.entries)[-1] == "globals.sql"


def test_digests_survive_a_restore(running, fresh, other, tmp_path):
    """Dump, restore with pg_restore, dump again: every table's digest, and the large objects', are the same."""
    unusual_database(running.dsn(fresh))
    done, sink = dump(running, fresh)
    (tmp_path / "archive").write_bytes(sink.joined("archive/"))
    target = settings_of(running, other)
    run(
        tools_of(running),
        target,
        "pg_restore",
        f"--dbname={other}",
        "--exit-on-error",
        str(tmp_path / "archive"),
    )
    again, sink_again = dump(running, other)
    assert [(t.schema, t.name, t.summary) for t in again.archive.tables] == [
        (t.schema, t.name, t.summary) for t in done.archive.tables
    ]
    assert again.archive.large_objects == done.archive.large_objects
    found = contents(io.BytesIO(sink_again.joined("archive/")))
    assert found.tables == {(t.schema, t.name): t.summary for t in done.archive.tables}


def test_a_changed_row_changes_one_digest(postgres, console):
    """The digest finds one changed value, and only where it is; a reordered table is equal as a multiset."""
    before, _sink = dump(postgres, console)
    sql.execute(postgres.dsn(console), "CREATE TABLE public.moved AS SELECT g FROM generate_series(1, 9) g")
    _with, sink_with = dump(postgres, console)
    sql.execute(postgres.dsn(console), "UPDATE public.moved SET g = g WHERE g = 1")
    moved, sink_moved = dump(postgres, console)
    path = "archive/data/00/public/moved"
    assert sink_with.entries[path].meta["digest"] != sink_moved.entries[path].meta["digest"]
    with_rows = row_multiset(MemorySource(sink_with).read(path))
    assert with_rows == row_multiset(MemorySource(sink_moved, piece=7).read(path))
    sql.execute(postgres.dsn(console), "UPDATE public.moved SET g = 0 WHERE g = 1")
    _changed, sink_changed = dump(postgres, console)
    assert with_rows != row_multiset(MemorySource(sink_changed).read(path))
    others = {t.name: t.summary for t in moved.archive.tables if t.name != "moved"}
    assert others == {t.name: t.summary for t in before.archive.tables}


def test_unchanged_tables_have_equal_bytes_after_the_header(postgres, console):
    """Adding an object moves dump ids; beyond the first tiny chunk an unchanged table's bytes are the same."""
    _done, before = dump(postgres, console)
    sql.execute(postgres.dsn(console), "CREATE SCHEMA a_new_one", "CREATE TABLE a_new_one.t (a int)")
    append_events(postgres.dsn(console), 0.01)
    _done, after = dump(postgres, console)
    for path, entry in before.entries.items():
        if entry.kind == "table-data" and not path.endswith("/events"):
            assert after.entries[path].content[6:] == entry.content[6:], path


def test_restore_from_chosen_blocks(running, fresh, other, tmp_path):
    """pg_restore restores from the table of contents alone and from streams with only some tables' blocks."""
    unusual_database(running.dsn(fresh))
    done, sink = dump(running, fresh)
    tools, target, toc = tools_of(running), settings_of(running, other), done.archive.toc
    base = ["pg_restore", f"--dbname={other}", "--exit-on-error", "--format=custom"]
    run(tools, target, *base, "--section=pre-data", input=toc.raw)
    source = MemorySource(sink)
    tables = [entry for entry in source.entries("archive/data/") if entry.kind == "table-data"]
    objects = [entry for entry in source.entries("archive/data/") if entry.kind == "large-objects"]
    for half in ([*tables[0::2], *objects], tables[1::2]):
        ids = {entry.meta["dump_id"] for entry in half}
        if objects[0] in half:
            ids |= {entry.dump_id for entry in toc.entries if entry.section == "data" and not entry.has_data}
        chosen = tmp_path / "list"
        chosen.write_text("".join(f"{entry.dump_id}; 0 0\n" for entry in toc.entries if entry.dump_id in ids))
        stream = b"".join(restore_stream(toc.raw, [source.read(entry.path) for entry in half]))
        run(tools, target, *base, "--section=data", f"--use-list={chosen}", input=stream)
    run(tools, target, *base, "--section=post-data", input=toc.raw)
    again, _sink = dump(running, other)
    assert [t.summary for t in again.archive.tables] == [t.summary for t in done.archive.tables]


def test_a_newer_client_dumps_an_older_server(postgres17):
    """pg_dump 18 reads a server of version 17, and its pg_restore restores it there."""
    name = f"older_{secrets.token_hex(4)}"
    postgres17.create_database(name)
    try:
        unusual_database(postgres17.dsn(name))
        newer = next(tools for tools in installed() if tools.major == 18)
        sink = MemorySink()
        done = dump_database(settings_of(postgres17, name), sink, newer)
        older, _sink = dump(postgres17, name)
        assert [t.summary for t in done.archive.tables] == [t.summary for t in older.archive.tables]
        assert done.archive.toc.dump_version.startswith("18")
    finally:
        postgres17.drop_database(name)


def test_data_order_is_path_order(running, fresh):
    """Where pg_dump's order is not the paths' order (a schema ``a`` beside ``a-b``), the run goes up and nothing is lost."""
    names = ["a", "a-b", "a b", "A", "~large-objects", ".", "..", "%", "a/b", "é", "a\tb"]
    statements = [f"CREATE SCHEMA {sql.quoted(name)}" for name in names]
    statements += [
        f"CREATE TABLE {sql.quoted(name)}.{sql.quoted(table)} AS SELECT {place} AS n"
        for place, name in enumerate(names)
        for table in ("t", "..", "a!", "a/", "1")
    ]
    sql.execute(running.dsn(fresh), *statements, "SELECT lo_from_bytea(1, 'x')")
    done, sink = dump(running, fresh)
    assert len(done.archive.tables) == 5 * len(names)
    assert contents(io.BytesIO(sink.joined("archive/"))).toc.raw == done.archive.toc.raw
    assert max(path.split("/")[2] for path in sink.entries if path.startswith("archive/data")) >= "01"
    metas = {(e.meta["schema"], e.meta["table"]) for e in sink.entries.values() if e.kind == "table-data"}
    assert metas == {(name, table) for name in names for table in ("t", "..", "a!", "a/", "1")}


def test_another_encoding(postgres):
    """A database in LATIN1 is dumped as it is, and its names are readable."""
    name = f"latin_{secrets.token_hex(4)}"
    create = f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'LATIN1' LOCALE_PROVIDER libc LOCALE 'C'"
    sql.execute(postgres.dsn(), create)
    try:
        sql.execute(postgres.dsn(name), 'CREATE TABLE "été" AS SELECT \'ß\'::text AS "Straße"')
        done, sink = dump(postgres, name, check_source=True)
        assert [(t.name, t.summary.rows, t.summary.size) for t in done.archive.tables] == [("été", 1, 2)]
        assert sink.entries["archive/data/00/public/été"].meta["columns"] == ["Straße"]
        assert done.archive.toc.encoding == "LATIN1"
    finally:
        postgres.drop_database(name)


def test_globals_without_passwords_where_they_may_not_be_read(postgres, console):
    """The backup's role may not read password hashes: roles are saved without them, with a warning."""
    role = f"backup_{secrets.token_hex(3)}"
    schemas = sql.rows(
        postgres.dsn(console), "SELECT nspname FROM pg_namespace WHERE nspname !~ '^(pg_|information)'"
    )
    # Not pg_read_all_data, which reads the password hashes too.
    sql.execute(
        postgres.dsn(console),
        f"CREATE ROLE {role} LOGIN PASSWORD {sql.literal(PASSWORD)}",
        *(f"GRANT USAGE ON SCHEMA {sql.quoted(name)} TO {role}" for (name,) in schemas),
        *(f"GRANT SELECT ON ALL TABLES IN SCHEMA {sql.quoted(name)} TO {role}" for (name,) in schemas),
        *(f"GRANT SELECT ON ALL SEQUENCES IN SCHEMA {sql.quoted(name)} TO {role}" for (name,) in schemas),
        "SELECT lo_unlink(oid) FROM pg_largeobject_metadata",
    )
    try:
        sink = MemorySink()
        settings = settings_of(postgres, console, user=role, password=PASSWORD)
        done = dump_database(settings, sink, tools_of(postgres), check_source=True)
        assert any("without passwords" in warning for warning in done.warnings)
        script = bytes(sink.entries["globals.sql"].content)
        assert role.encode() in script
        assert b"PASSWORD" not in script.upper().replace(b"NO PASSWORD", b"")
        _done, by_superuser = dump(postgres, console)
        assert b"SCRAM-SHA-256$" in bytes(by_superuser.entries["globals.sql"].content)
    finally:
        sql.execute(postgres.dsn(console), f"DROP OWNED BY {role}", f"DROP ROLE {role}")


def test_row_security_is_an_error_and_not_a_smaller_dump(postgres, database):
    """A role whose view of a table is limited gets an error that says what to grant, never a partial dump."""
    role = f"limited_{secrets.token_hex(3)}"
    unusual_database(postgres.dsn(database))
    backup_role(postgres.dsn(database), PASSWORD, name=role)
    settings = settings_of(postgres, database, user=role, password=PASSWORD)
    try:
        with pytest.raises(SourceError) as caught:
            dump_database(settings, MemorySink(), tools_of(postgres))
        assert "BYPASSRLS" in str(caught.value.hint)
        with server.connect(settings) as connection:
            assert facts(connection)["row_security_tables"] == {"count": 1, "names": ["public.guarded"]}
    finally:
        sql.execute(postgres.dsn(database), f"DROP OWNED BY {role}", f"DROP ROLE {role}")


def test_missing_permission_names_the_remedy(postgres, console):
    """A role that may not read a table gets an error with the grant that is missing."""
    role = f"nobody_{secrets.token_hex(3)}"
    sql.execute(postgres.dsn(console), f"CREATE ROLE {role} LOGIN PASSWORD 'x'")
    try:
        with pytest.raises(SourceError) as caught:
            dump_database(
                settings_of(postgres, console, user=role, password="x"), MemorySink(), tools_of(postgres)
            )
        assert "pg_read_all_data" in str(caught.value.hint)
        assert "permission denied" in caught.value.message
    finally:
        sql.execute(postgres.dsn(console), f"DROP ROLE {role}")


def failing(tools: Tools, directory: Path, script: str) -> Tools:
    """A directory of programs in which pg_dump is replaced by a script around the real one, ``$REAL``."""
    program = directory / "pg_dump"
    program.write_text(f'#!/bin/bash\nREAL="{tools.program("pg_dump")}"\n{script}\n')
    program.chmod(0o755)
    (directory / "pg_dumpall").symlink_to(tools.program("pg_dumpall"))
    return Tools(str(directory), tools.major, tools.version, tools.env)


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ('"$REAL" "$@"; echo "pg_dump: error: in the end" >&2; exit 1', "in the end"),
        ('"$REAL" "$@" | head -c 300000; echo "pg_dump: error: in the middle" >&2; exit 1', "in the middle"),
        ('"$REAL" "$@" | head -c 300000', "ended"),
        ('echo "pg_dump: error: at once" >&2; exit 1', "at once"),
        ('"$REAL" "$@" | head -c 300000; kill -9 $$', "SIGKILL"),
        ('"$REAL" "$@"; echo and more', "data block of unknown type"),
        ("exec yes", "not an archive"),
    ],
)
def test_a_failing_pg_dump_is_a_failed_backup(postgres, console, tmp_path, script, said):
    """Whatever pg_dump wrote before it failed, the dump fails and says why; what follows the archive is an error too."""
    sink = MemorySink()
    with pytest.raises(DrctlError) as caught:
        dump_database(settings_of(postgres, console), sink, failing(tools_of(postgres), tmp_path, script))
    assert said in caught.value.message
    assert "globals.sql" not in sink.entries


def test_a_sink_that_fails_stops_pg_dump(postgres, console):
    """When the repository fails the dump ends at once, and leaves no session behind on the source."""
    with pytest.raises(OSError, match="as it was told"):
        dump_database(settings_of(postgres, console), MemorySink(fail_after=100_000), tools_of(postgres))
    left = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'drctl'"
    for _ in range(50):
        if sql.rows(postgres.dsn(), left) == [(0,)]:
            return
        time.sleep(0.1)
    pytest.fail("a session of the dump is still there")


def test_a_source_that_is_terminated_is_unreachable(postgres, console):
    """A session ended by the server in the middle is a failure that a retry may mend."""
    append_events(postgres.dsn(console), 20)

    class Killing(MemorySink):
        def write(self, data):
            super().write(data)
            if len(self.entries) == 2 and not self.killed:
                self.killed = True
                sql.execute(
                    postgres.dsn(),
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'drctl' AND query LIKE 'COPY%'",
                )

        killed = False

    with pytest.raises(SourceUnreachable) as caught:
        dump_database(settings_of(postgres, console), Killing(), tools_of(postgres))
    assert "pg_dump" in caught.value.message
    assert postgres.password not in str(caught.value.message)


def test_a_locked_table_is_waited_for_only_so_long(postgres, console):
    """A migration that holds a lock makes the dump fail after the wait, with a hint; the message says who holds it."""
    with sql.connect(postgres.dsn(console), autocommit=False) as blocker:
        blocker.execute("SET application_name = 'a-migration'")
        blocker.execute("LOCK TABLE audit.events IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(SourceError) as caught:
            dump_database(settings_of(postgres, console), MemorySink(), tools_of(postgres), lock_wait_s=0.5)
    assert "lock" in str(caught.value.hint)
    assert "a-migration (postgres, pid" in caught.value.message
    assert "on audit.events" in caught.value.message


def test_a_wait_for_a_lock_is_told_while_it_lasts(postgres, console, request):
    """Away from a terminal too: the log says that the dump waits, and for whom, long before it gives up."""
    request.addfinalizer(log.silence)
    lines = io.StringIO()
    log.configure("json", 0, lines)
    with sql.connect(postgres.dsn(console), autocommit=False) as blocker:
        blocker.execute("SET application_name = 'a-migration'")
        blocker.execute("LOCK TABLE audit.events IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(SourceError):
            dump_database(
                settings_of(postgres, console),
                MemorySink(),
                tools_of(postgres),
                lock_wait_s=3,
                tell_after_s=0.3,
            )
    events = [json.loads(line) for line in lines.getvalue().splitlines()]
    (told,) = [event for event in events if event["event"] == "the dump waits for locks"]
    assert "a-migration (postgres, pid" in told["held_by"]
    assert "on audit.events" in told["held_by"]
    assert postgres.password not in lines.getvalue()


def test_a_locked_table_does_not_hold_up_the_questions(postgres, console):
    """Size and facts come at once when a table, Flyway's too, is locked: nothing may wait for ever before pg_dump begins."""
    with (
        sql.connect(postgres.dsn(console), autocommit=False) as blocker,
        closing(server.connect(settings_of(postgres, console))) as session,
    ):
        server.set_timeouts(session, lock_s=0.2)
        free = data_size(session)
        blocker.execute("LOCK TABLE audit.events, public.flyway_schema_history IN ACCESS EXCLUSIVE MODE")
        assert facts(session)["not_readable"] == ["public.flyway_schema_history"]
        assert 0 <= data_size(session) <= 2 * free


def test_timeouts_of_a_role_do_not_reach_our_session(postgres, database):
    """A role's timeouts are made for the application; a question of ours is not cut off by them."""
    role = f"impatient_{secrets.token_hex(4)}"
    sql.execute(postgres.dsn(), f"CREATE ROLE {role} LOGIN PASSWORD 'x'")
    sql.execute(postgres.dsn(), f"ALTER ROLE {role} SET statement_timeout = '50ms'")
    try:
        with closing(server.connect(settings_of(postgres, database, user=role, password="x"))) as session:
            server.set_timeouts(session)
            assert server.query(session, "SELECT pg_sleep(0.2) IS NULL") == [(False,)]
    finally:
        sql.execute(postgres.dsn(), f"DROP ROLE {role}")


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("PGHOSTADDR", "127.0.0.2"),
        ("PGSERVICE", "elsewhere"),
        ("PGREQUIREAUTH", "none"),
        ("PGCHANNELBINDING", "require"),
        ("PGOPTIONS", "-c statement_timeout=1"),
        ("PGCLIENTENCODING", "LATIN1"),
    ],
)
def test_variables_of_libpq_lead_nowhere_else(postgres, database, monkeypatch, variable, value):
    """Our sessions reach what the configuration names, as the programs do; the variable itself stays for ``env:`` references."""
    monkeypatch.setenv(variable, value)
    with closing(server.connect(settings_of(postgres, database))) as session:
        shown = "SELECT current_database(), current_setting('statement_timeout'), current_setting('client_encoding')"
        assert server.query(session, shown) == [(database, "0", "UTF8")]
    assert os.environ[variable] == value


def test_a_database_without_an_encoding(postgres):
    """SQL_ASCII holds any bytes: names are text all the same, the rows are exact, and facts can be written as JSON."""
    name = f"ascii_{secrets.token_hex(4)}"
    sql.execute(
        postgres.dsn(),
        f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE_PROVIDER libc LOCALE 'C'",
    )
    try:
        sql.execute(postgres.dsn(name), "CREATE TABLE t AS SELECT E'\\xe4\\xff'::bytea AS a")
        sql.execute(postgres.dsn(name), "CREATE TABLE raw (a text)")
        sql.execute(postgres.dsn(name), "INSERT INTO raw VALUES (E'\\344\\377')")
        with closing(server.connect(settings_of(postgres, name))) as session:
            found = facts(session)
            assert server.query(session, "SELECT a FROM raw") == [("\\xe4\\xff",)]
        assert (found["database"], found["encoding"]) == (name, "SQL_ASCII")
        assert found["role"]["name"] == "postgres"
        json.dumps(found)
        _done, sink = dump(postgres, name)
        stored = b"".join(MemorySource(sink).read("archive/data/00/public/raw"))
        assert b"\xe4\xff\n" in stored
    finally:
        postgres.drop_database(name)


def test_check_source_finds_a_difference(postgres, console):
    """Counts that differ between stream and SQL fail the dump and name the table."""
    done, _sink = dump(postgres, console)
    sql.execute(postgres.dsn(console), "INSERT INTO audit.events SELECT * FROM audit.events WHERE false")
    table = next(t for t in done.archive.tables if t.summary.rows)
    sql.execute(
        postgres.dsn(console),
        f"DELETE FROM {sql.quoted(table.schema)}.{sql.quoted(table.name)} WHERE ctid = '(0,1)'",
    )
    with (
        source_snapshot(settings_of(postgres, console)) as snapshot,
        pytest.raises(SourceError, match=table.name),
    ):
        snapshot.compare(done.archive.tables)


def test_check_source_uses_the_dumps_own_snapshot(postgres, console):
    """Rows that arrive while the dump runs are in neither count."""

    class Adding(MemorySink):
        def end(self, meta):
            super().end(meta)
            sql.execute(
                postgres.dsn(console),
                "CREATE TABLE IF NOT EXISTS late.t (a int)",
                "INSERT INTO late.t VALUES (1)",
            )

    sql.execute(postgres.dsn(console), "CREATE SCHEMA late", "CREATE TABLE late.t AS SELECT 1 AS a")
    done = dump_database(settings_of(postgres, console), Adding(), tools_of(postgres), check_source=True)
    assert next(t for t in done.archive.tables if t.schema == "late").summary.rows == 1


def test_progress_is_told_in_bytes(postgres, console):
    """The pieces told add up to the archive; the size of the data is a fair total beforehand."""
    told: list[int] = []
    done, _sink = dump(postgres, console, on_bytes=told.append)
    assert sum(told) == done.archive.size
    with server.connect(settings_of(postgres, console)) as connection:
        assert 0.2 < done.archive.size / data_size(connection) < 5


def test_facts_are_complete_and_small(running, fresh):
    """The snapshot's header gets what a restore or an upgrade needs, under 3 KiB."""
    fill_console_like(running.dsn(fresh), scale=0.01)
    with server.connect(settings_of(running, fresh)) as connection:
        found = facts(connection)
    assert len(json.dumps(found).encode()) < 3072
    assert found["server_version"] // 10_000 == running.version
    assert (found["database"], found["encoding"]) == (fresh, "UTF8")
    assert found["role"]["superuser"] is True
    assert found["database_bytes"] > 1_000_000
    assert re.fullmatch(r"[0-9A-F]+/[0-9A-F]+", found["lsn"])
    assert any(name.startswith("plpgsql ") for name in found["extensions"]["names"])
    [migration] = found["flyway"]
    assert migration["version"]
    assert migration["success"] is True
    assert migration["installed_on"]


def test_facts_stay_small_with_many_long_names(postgres, database):
    """Lists are cut, with their true count."""
    name = "ä" * 31
    sql.execute(
        postgres.dsn(database),
        *(f'CREATE SCHEMA "{name[:28]}{i}"' for i in range(30)),
        *(f'CREATE TABLE "{name[:28]}{i}".flyway_schema_history (a int)' for i in range(30)),
        *(f'CREATE TABLE "{name[:28]}{i}"."{name}" (a int)' for i in range(30)),
        *(f'ALTER TABLE "{name[:28]}{i}"."{name}" ENABLE ROW LEVEL SECURITY' for i in range(30)),
        "DROP ROLE IF EXISTS small_facts",
        "CREATE ROLE small_facts LOGIN PASSWORD 'x'",
        "GRANT pg_read_all_data TO small_facts",
    )
    try:
        with server.connect(settings_of(postgres, database, user="small_facts", password="x")) as connection:
            found = facts(connection)
        assert len(json.dumps(found).encode()) < 3072
        assert found["row_security_tables"]["count"] == 30
        assert 0 < len(found["row_security_tables"]["names"]) < 30
        assert found["role"] == {
            "name": "small_facts",
            "superuser": False,
            "bypassrls": False,
            "replication": False,
            "read_all_data": True,
        }
        assert found["not_readable"]
    finally:
        sql.execute(postgres.dsn(database), "DROP ROLE small_facts")


def test_refusals_and_absence_are_told_apart(postgres, database):
    """A wrong password is refused for good; a server that is not there may be back: exit code 5."""
    with pytest.raises(SourceError) as caught:
        server.connect(settings_of(postgres, database, password="wrong-secret"))
    assert "password" in str(caught.value.hint)
    assert "wrong-secret" not in str(caught.value.message)
    with pytest.raises(SourceError):
        server.connect(settings_of(postgres, "no_such_database"))
    with pytest.raises(SourceUnreachable):
        server.connect(settings_of(postgres, database, port=1))
    with pytest.raises(SourceUnreachable):
        server.connect(settings_of(postgres, database, host="no-such-host.invalid"))


def test_several_hosts_and_a_jdbc_url(postgres, console):
    """The first host is down: the dump goes to the second, for our session and for pg_dump alike."""
    settings = resolve(
        url=f"jdbc:postgresql://{postgres.host}:1,{postgres.host}:{postgres.port}/{console}?targetServerType=primary",
        user=postgres.superuser,
        password=postgres.password,
    )
    done = dump_database(settings, MemorySink(), tools_of(postgres), check_source=True)
    assert done.archive.tables


def test_an_odd_password_reaches_the_server(postgres, console):
    """Colons, backslashes, spaces and letters beyond ASCII pass through the password file."""
    sql.execute(
        postgres.dsn(),
        "DROP ROLE IF EXISTS odd_password",
        f"CREATE ROLE odd_password SUPERUSER LOGIN PASSWORD {sql.literal(PASSWORD + 'é')}",
    )
    try:
        settings = settings_of(postgres, console, user="odd_password", password=PASSWORD + "é")
        assert dump_database(settings, MemorySink(), tools_of(postgres)).archive.tables
    finally:
        sql.execute(postgres.dsn(), "DROP ROLE odd_password")


def test_the_encoding_is_the_databases_whatever_the_role_prefers(postgres, database):
    """A role with a ``client_encoding`` of its own dumps the same bytes as any other: digests can be compared."""
    sql.execute(
        postgres.dsn(database),
        "CREATE TABLE words (word text)",
        "INSERT INTO words VALUES ('naïve')",
        "DROP ROLE IF EXISTS latin_reader",
        f"CREATE ROLE latin_reader SUPERUSER LOGIN PASSWORD {sql.literal(PASSWORD)}",
        "ALTER ROLE latin_reader SET client_encoding = 'LATIN1'",
    )
    try:
        settings = settings_of(postgres, database, user="latin_reader", password=PASSWORD)
        theirs = dump_database(settings, MemorySink(), tools_of(postgres), encoding="UTF8")
        (plain,) = dump(postgres, database)[0].archive.tables
        assert theirs.archive.toc.encoding == "UTF8"
        assert [table.summary for table in theirs.archive.tables] == [plain.summary]
    finally:
        sql.execute(postgres.dsn(), "DROP ROLE latin_reader")


def test_tls_with_a_private_authority_and_a_client_certificate(postgres17_tls):
    """verify-full with a private CA, and login by certificate; a libpq without TLS is not chosen."""
    name = f"tls_{secrets.token_hex(4)}"
    postgres17_tls.create_database(name)
    certificate, key = postgres17_tls.client_certificate()
    settings = settings_of(
        postgres17_tls,
        name,
        user="cert_user",
        password=None,
        sslmode="verify-full",
        sslrootcert=str(postgres17_tls.ca_file),
        sslcert=str(certificate),
        sslkey=str(key),
    )
    tools = choose(postgres17_tls.version, tls=settings.tls_required)
    assert tools.tls
    try:
        with server.connect(settings) as connection:
            assert server.query(connection, "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()") == [
                (True,)
            ]
        assert dump_database(settings, MemorySink(), tools).archive.toc.database == name
    finally:
        postgres17_tls.drop_database(name)


def test_a_wrong_authority_is_refused(postgres17_tls, postgres17):
    """A server whose certificate the given authority did not sign, and one without TLS, are refused."""
    system = "/etc/ssl/certs/ca-certificates.crt"
    authority = system if Path(system).exists() else os.devnull
    with pytest.raises(SourceError) as caught:
        server.connect(settings_of(postgres17_tls, "postgres", sslmode="verify-full", sslrootcert=authority))
    assert "sslrootcert" in str(caught.value.hint)
    with pytest.raises(SourceError):
        server.connect(settings_of(postgres17, "postgres", sslmode="require"))


def test_tools_are_found_and_chosen(tmp_path):
    """The same major version is preferred, the newest otherwise; older programs are refused with both versions named."""
    majors = {tools.major for tools in installed()}
    assert {17, 18} <= majors
    assert choose(170_005).major == 17
    assert choose(160_002).major == (16 if 16 in majors else max(majors))
    eighteen = next(tools for tools in installed() if tools.major == 18)
    assert choose(170_005, eighteen.directory).major == 18
    with pytest.raises(SourceError) as caught:
        choose(990_000)
    assert "99" in caught.value.message
    assert "18" in caught.value.message
    with pytest.raises(SourceError) as caught:
        choose(180_000, str(tmp_path))
    assert str(tmp_path) in str(caught.value.hint)
    assert server_tools(18).has(["initdb", "postgres"])
    with pytest.raises(SourceError, match="99"):
        server_tools(99)


def test_a_libpq_without_tls_is_refused_where_tls_is_asked_for():
    """PostgreSQL's programs without TLS are left out when sslmode demands it, in plain words."""
    without = next((tools for tools in installed() if tools.tls is False), None)
    assert without is not None, "the packaged PostgreSQL 18 is built without TLS"
    with pytest.raises(SourceError, match="without TLS"):
        choose(without.major, without.directory, tls=True)


def test_no_password_in_arguments_or_environment(postgres, console):
    """While a dump runs, no process of ours has the password in its arguments or environment."""
    seen: list[str] = []
    stop = threading.Event()

    def watch():
        while not stop.is_set():
            for directory in Path("/proc").glob("[0-9]*"):
                for name in ("cmdline", "environ"):
                    try:
                        content = (directory / name).read_bytes()
                    except OSError:
                        continue
                    if postgres.password.encode() in content:
                        seen.append(f"{directory}/{name}")
            time.sleep(0.01)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        dump(postgres, console, check_source=True)
    finally:
        stop.set()
        watcher.join()
    assert not seen
