"""Row counts that are held against a restored cluster: exact where nothing moved, true bounds where much did."""

import shutil
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest

from devstack import sql
from devstack.postgres import PostgresServer
from dr_toolkit.jobs import opening
from dr_toolkit.postgres import base_counts, connection
from dr_toolkit.postgres.base_counts import Database, Table
from dr_toolkit.repository.reader import SnapshotReader
from dr_toolkit.repository.snapshot import Snapshot
from tests.base_site import BaseSite, open_directory

ODD = 'Odd "näme"'


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    path = open_directory()
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="module")
def source(root: Path) -> Iterator[PostgresServer]:
    """A server with tables that nobody touches, one that everything happens to, and a large one."""
    with PostgresServer(root / "pg", version=18, settings={"wal_level": "replica"}) as server:
        dsn = server.create_database(ODD)
        sql.execute(
            dsn,
            'CREATE TABLE "Quiet ""one""" AS SELECT generate_series(1, 5000) AS id',
            "CREATE TABLE parted (id int) PARTITION BY RANGE (id)",
            "CREATE TABLE part PARTITION OF parted FOR VALUES FROM (0) TO (1000)",
            "INSERT INTO parted SELECT generate_series(1, 999)",
            "CREATE TABLE parent_of AS SELECT generate_series(1, 7) AS id",
            "CREATE TABLE child_of () INHERITS (parent_of)",
            "INSERT INTO child_of VALUES (8)",
            "CREATE MATERIALIZED VIEW seen AS SELECT * FROM parted",
            "CREATE UNLOGGED TABLE forgotten AS SELECT 1",
            "CREATE TABLE queue AS SELECT g AS id, 'x' AS body FROM generate_series(1, 2000) g",
            "CREATE TABLE truncated AS SELECT generate_series(1, 300) AS id",
            "CREATE TABLE gone AS SELECT generate_series(1, 300) AS id",
            "CREATE TABLE rewritten AS SELECT generate_series(1, 300) AS id",
            "CREATE TABLE large AS SELECT repeat('x', 500) AS body FROM generate_series(1, 5000)",
            "DELETE FROM queue WHERE id % 3 = 0",
        )
        yield server


def counted(site: BaseSite, taken: Snapshot) -> dict[str, Table]:
    with opening.opened_repository(site.config) as repository, SnapshotReader(repository, taken) as reader:
        databases = base_counts.decoded(b"".join(reader.read(base_counts.ENTRY)))
    return {table.name: table for one in databases if one.name == ODD for table in one.tables}


def test_quiet_tables_are_counted_exactly(source: PostgresServer, root: Path) -> None:
    """Both bounds are what the source says, whatever sort of table it is; what is too large or unlogged is left out, and said."""
    place = root / "quiet"
    place.mkdir()
    site = BaseSite(place, source, count_rows="1Mi")
    taken = site.backup()
    found = counted(site, taken)
    expected = {'public.Quiet "one"': 5000, "public.part": 999, "public.parent_of": 7, "public.child_of": 1, "public.seen": 999,
                "public.queue": 1334, "public.truncated": 300, "public.gone": 300, "public.rewritten": 300}  # fmt: skip
    assert {name: (table.least, table.most) for name, table in found.items()} == {
        n: (c, c) for n, c in expected.items()
    }
    [result] = site.drctl("verify", "--restore")["results"]
    assert result["checks"]["row_counts"] == {
        "tables": 9,
        "exact": 9,
        "rows": sum(expected.values()),
        "not_counted": 1,
    }
    assert "1 table was not counted" in " ".join(result["notes"])


def test_a_busy_cluster_is_never_called_wrong(source: PostgresServer, root: Path) -> None:
    """Rows come, change and go, tables are truncated, dropped and rewritten while the backup runs: the bounds hold."""
    place = root / "busy"
    place.mkdir()
    site = BaseSite(place, source, max_rate=8192)
    dsn, ended = source.dsn(ODD), threading.Event()

    def work() -> None:
        once = [
            "TRUNCATE truncated",
            "DROP TABLE gone",
            "ALTER TABLE rewritten ALTER id TYPE bigint",
            "VACUUM FULL part",
        ]
        number = 0
        while not ended.is_set():
            number += 1
            sql.execute(
                dsn,
                f"INSERT INTO queue SELECT g, 'new' FROM generate_series({number * 10000}, {number * 10000 + 20}) g",
                f"UPDATE queue SET body = 'y' WHERE id % 50 = {number % 50}",
                f"DELETE FROM queue WHERE id % 40 = {number % 40}",
            )
            if number % 10 == 0 and once:
                sql.execute(dsn, once.pop(0))

    # One that began long before keeps the horizon back.
    with sql.connect(dsn) as waiting:
        waiting.execute("SELECT pg_current_xact_id()")
        worker = threading.Thread(target=work)
        worker.start()
        try:
            taken = site.backup()
        finally:
            ended.set()
            worker.join()
    found = counted(site, taken)
    assert found["public.queue"].least != found["public.queue"].most
    [result] = site.drctl("verify", "--restore")["results"]
    assert result["result"] == "passed", result
    assert result["checks"]["row_counts"]["exact"] < result["checks"]["row_counts"]["tables"]


def test_every_difference_is_named(source: PostgresServer) -> None:
    """More rows, fewer rows, a table or a database that is gone: each with its name; what nobody can know is no difference."""
    settings = connection.resolve(
        host=source.host, port=source.port, database="postgres", user="postgres", password=source.password, sslmode="disable"
    )  # fmt: skip
    [known] = [one for one in base_counts.before(settings, 1 << 30) if one.name == ODD]
    [quiet] = [table for table in known.tables if "Quiet" in table.name]
    for most, least, word in (
        (4999, 4999, "has 5000"),
        (6000, 5001, "has 5000"),
        (6000, 0, ""),
        (5000, None, ""),
    ):
        one = Database(ODD, known.xmin, "0/0", [Table(quiet.oid, quiet.name, most, least)], 0)
        done = base_counts.compare(settings, [one])
        assert [word in failure for failure in done.failures] == ([True] if word else [])
    for gone, failures in ((Table(1, "public.gone", 5, 5), 1), (Table(1, "public.gone", 5, None), 0)):
        for name in (ODD, "no such"):
            assert (
                len(base_counts.compare(settings, [Database(name, 9, "0/0", [gone], 0)]).failures) == failures
            )


def test_a_locked_table_and_a_role_without_rights_cost_nothing_else(source: PostgresServer) -> None:
    """What cannot be counted is left out; the others are counted."""
    dsn = source.dsn(ODD)
    with suppress(psycopg.Error):
        sql.execute(dsn, "CREATE ROLE counter LOGIN REPLICATION PASSWORD 'counter'")
    sql.execute(dsn, "GRANT SELECT ON parted, part, queue TO counter")
    settings = connection.resolve(
        host=source.host, port=source.port, database="postgres", user="counter", password="counter", sslmode="disable"
    )  # fmt: skip
    with sql.connect(dsn) as locking, locking.transaction():
        locking.execute("LOCK TABLE queue IN ACCESS EXCLUSIVE MODE")
        [known] = [one for one in base_counts.before(settings, 1 << 30) if one.name == ODD]
    assert [table.name for table in known.tables] == ["public.part"]
    assert known.left_out >= 6
