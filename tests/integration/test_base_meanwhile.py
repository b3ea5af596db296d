"""What happens to files while they are sent: cut, dropped, made. The server promises a size, and fills up with zeros what is gone by then."""

import shutil
import time
from collections.abc import Iterator

import pytest

from devstack import sql
from devstack.postgres import PostgresServer
from dr_toolkit.jobs import opening
from dr_toolkit.postgres import base_backup as reading
from dr_toolkit.postgres.base_overlay import FILES
from dr_toolkit.postgres.base_tar import Member, TarStream
from dr_toolkit.repository.reader import SnapshotReader
from dr_toolkit.repository.snapshot import Snapshot
from tests.base_site import BaseSite, ask, base_of, open_directory

BYTES = 24 << 20
"""More than lies between the server's file and us: sockets' buffers and the pipe take some 10 MB."""
LOOK = "SELECT count(*), coalesce(sum(id), 0), md5(coalesce(string_agg(body, '' ORDER BY id), '')) FROM "
TABLES = ("cut", "emptied", "made", "kept")


@pytest.fixture(scope="module", params=[18, 16])
def site(request: pytest.FixtureRequest) -> Iterator[BaseSite]:
    """A server with increments, and one without."""
    root = open_directory()
    settings = {"autovacuum": "off"} | ({"summarize_wal": "on"} if request.param >= 17 else {})
    with PostgresServer(root / "pg", version=request.param, settings=settings) as server:
        sql.execute(
            server.dsn(), "CREATE TABLE kept (id int, body text)", "INSERT INTO kept VALUES (1, 'kept')"
        )
        yield BaseSite(root, server)
    shutil.rmtree(root, ignore_errors=True)


def _fill(dsn: str) -> None:
    for name, rows in (("cut", BYTES // 8192), ("emptied", 300), ("dropped", 300)):
        sql.execute(
            dsn,
            f"CREATE TABLE {name} (id int, body text)",
            f"ALTER TABLE {name} ALTER body SET STORAGE PLAIN",
            f"INSERT INTO {name} SELECT g, repeat('x', 7900) FROM generate_series(1, {rows}) g",
        )
    sql.execute(dsn, "CHECKPOINT")


def _meanwhile(dsn: str) -> None:
    """Cut by VACUUM at its end, emptied (the file is cut to nothing, and another number takes its place), dropped, and made."""
    sql.execute(dsn, "DELETE FROM cut WHERE id > 100", "TRUNCATE emptied", "DROP TABLE dropped")
    sql.execute(dsn, "INSERT INTO emptied VALUES (7, 'again')", "CREATE TABLE made (id int, body text)")
    sql.execute(dsn, "INSERT INTO made SELECT g, 'new' FROM generate_series(1, 1000) g")
    for _ in range(100):  # a count of rows that still runs keeps the dead ones
        sql.execute(dsn, "VACUUM cut")
        if sql.rows(dsn, "SELECT pg_relation_size('cut') < 2000000") == [(True,)]:
            return
        time.sleep(0.1)
    pytest.fail("VACUUM does not cut the table")


def test_files_that_are_cut_dropped_or_made_while_they_are_sent(
    site: BaseSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The entry has the promised size, zeros at its end and the sum that the manifest says; after recovery every table is the source's,
    and so it is in the next snapshot, which builds on that one.
    """
    dsn, increments = site.source.dsn(), site.source.version >= 17
    if increments:
        site.backup()
    _fill(dsn)
    [(path,)] = sql.rows(dsn, "SELECT pg_relation_filepath('cut')")
    sizes: list[int] = []

    class Pausing(TarStream):
        """Lets the server wait in the middle of the file."""

        def members(self) -> Iterator[Member]:
            for member in super().members():
                if member.path == path:
                    sizes.append(member.size)
                    _meanwhile(dsn)
                yield member

    with monkeypatch.context() as patched:
        patched.setattr(reading, "TarStream", Pausing)
        taken = site.backup()
    assert sizes == [BYTES]
    sent = _content(site, taken, FILES + path)
    assert len(sent) == BYTES
    assert sent[:8192].strip(b"\0") != b""
    assert sent[-(4 << 20) :].strip(b"\0") == b"", "the end was gone when the server came to it"
    snapshots = [taken, site.backup()] if increments else [taken]
    assert {base_of(each)["method"] for each in snapshots} == {"increment" if increments else "full"}
    for each in snapshots:
        with site.running(each) as settings:
            assert {name: ask(settings, LOOK + name, "postgres") for name in TABLES} == {
                name: sql.rows(dsn, LOOK + name) for name in TABLES
            }
            assert ask(settings, "SELECT to_regclass('dropped')", "postgres") == [(None,)]


def _content(site: BaseSite, taken: Snapshot, path: str) -> bytes:
    with opening.opened_repository(site.config) as repository, SnapshotReader(repository, taken) as reader:
        return b"".join(reader.read(path))
