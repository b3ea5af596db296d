"""Increments of PostgreSQL 17 and 18: every snapshot is a full one, and right where the stock tools are wrong."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from devstack import sql
from devstack.postgres import PostgresServer
from tests.base_site import BaseSite, ask, base_of, open_directory

CONTENT = "SELECT count(*), sum(id), md5(string_agg(body, '|' ORDER BY id)) FROM t"


@pytest.fixture(scope="module", params=[18, 17])
def source(request: pytest.FixtureRequest) -> Iterator[PostgresServer]:
    """A server of this module's own that writes WAL summaries."""
    root = open_directory()
    settings = {"summarize_wal": "on", "autovacuum": "off", "wal_level": "replica"}
    with PostgresServer(root / "pg", version=request.param, settings=settings) as server:
        sql.execute(server.dsn(), "CREATE EXTENSION pg_visibility")
        yield server
    shutil.rmtree(root, ignore_errors=True)


@pytest.fixture
def root() -> Iterator[Path]:
    path = open_directory()
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def site(source: PostgresServer, root: Path) -> BaseSite:
    return BaseSite(root, source)


def test_an_increment_is_a_full(site: BaseSite) -> None:
    """By the write role alone; each snapshot restores as ``pg_verifybackup`` wants it, to what the server said then."""
    dsn = site.source.dsn()
    sql.execute(dsn, "DROP TABLE IF EXISTS t", "CREATE TABLE t (id int PRIMARY KEY, body text)")
    sql.execute(dsn, "INSERT INTO t SELECT g, md5(g::text) FROM generate_series(1, 30000) g")
    taken, expected = [site.backup()], [sql.rows(dsn, CONTENT)]
    for change in (
        "UPDATE t SET body = 'changed' WHERE id % 3000 = 0",
        "DELETE FROM t WHERE id > 29000",
        "INSERT INTO t SELECT g, 'new' FROM generate_series(40000, 45000) g",
    ):
        sql.execute(dsn, change)
        taken.append(site.backup())
        expected.append(sql.rows(dsn, CONTENT))
    assert [base_of(each)["method"] for each in taken] == ["full", *["increment"] * 3], [
        base_of(t) for t in taken
    ]
    assert taken[1].header.bytes_stored < taken[0].header.bytes_stored / 2
    site.restore(taken[2])
    for each, content in zip(taken, expected, strict=True):
        with site.running(each) as settings:
            assert ask(settings, CONTENT, "postgres") == content
