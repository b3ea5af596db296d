"""Every supported PostgreSQL, with everything unusual in it: dumped, backed up whole, restored and proven through the command line.

The clients are the server's own where it has any, and newer ones where not (13 and 14 from npm have none). What a restore gives is
compared with the source: each table's rows, for both kinds.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from devstack import data, sql, versions
from devstack.postgres import PostgresServer
from tests import base_site

TABLES = """
    SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'm') AND n.nspname !~ '^(pg_|information_schema)' AND c.relpersistence = 'p' AND c.relispopulated ORDER BY 1
"""
DIGEST = "SELECT count(*), coalesce(sum(hashtextextended(t::text, 0)), 0)::text FROM {} AS t"
OTHERS = (
    "SELECT lomowner::regrole::text, loid::text, md5(lo_get(loid)) FROM (SELECT oid AS loid, lomowner FROM pg_largeobject_metadata) AS l ORDER BY 2",
    "SELECT sequencename, last_value FROM pg_sequences ORDER BY 1",
    "SELECT polname, pg_get_expr(polqual, polrelid) FROM pg_policy ORDER BY 1",
    "SELECT tgname, pg_get_triggerdef(oid), tgenabled FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1, 2",
    "SELECT evtname, evtenabled FROM pg_event_trigger ORDER BY 1",
    "SELECT extname, extversion FROM pg_extension ORDER BY 1",
    "SELECT conname, pg_get_constraintdef(oid), convalidated FROM pg_constraint WHERE contype <> 'n' ORDER BY 1, 2",
)


INCREMENTS_FROM = 17
SEGMENT = 1 << 30


@dataclass(frozen=True)
class Version:
    """One server with an unusual cluster in it, and a configured drctl."""

    server: PostgresServer
    site: base_site.BaseSite


@pytest.fixture(scope="module", params=versions.chosen(), ids=lambda version: f"pg{version}")
def version(request: pytest.FixtureRequest) -> Iterator[Version]:
    root = Path(tempfile.mkdtemp(prefix="drctl-matrix-"))
    root.chmod(0o755)
    # Checksums always: what an older server does not do by itself is tried here as well.
    # And increments, where the version has them: the second snapshot of the cluster is one.
    summaries = {"summarize_wal": "on"} if request.param >= INCREMENTS_FROM else {}
    with PostgresServer(root / "pg", version=request.param, checksums=True, settings=summaries) as server:
        data.unusual_cluster(server)
        yield Version(
            server, base_site.BaseSite(root, server, dumps=dict(zip("ab", data.ODD_NAMES, strict=True)))
        )
    shutil.rmtree(root, ignore_errors=True)


def _second_segment(server: PostgresServer) -> None:
    """A table of more than 1 GB, whose file has a second segment: rows at both ends, and between them pages that were never written.

    Such pages are what a server leaves that stopped right after it had made a file longer. To write a gigabyte took minutes for each version.
    """
    dsn = server.create_database("segments")
    rows = "INSERT INTO large SELECT n, repeat(md5(n::text), 240) FROM generate_series({}) AS n"
    sql.execute(
        dsn,
        "CREATE TABLE large (id int, filler text)",
        "ALTER TABLE large ALTER filler SET STORAGE PLAIN, SET (autovacuum_enabled = off)",
        rows.format("1, 3000"),
    )
    file = _file_of_large(server)
    with stopped(server):
        os.truncate(file, SEGMENT)
    sql.execute(dsn, rows.format("130001, 135000"))
    assert sql.rows(dsn, f"SELECT pg_relation_size('large') > {SEGMENT}") == [(True,)]
    assert file.with_name(f"{file.name}.1").stat().st_size > 0


def _both_segments(server: PostgresServer) -> None:
    """Pages of both segments change, and the end of the second one is cut off and grows again."""
    dsn, file = server.dsn("segments"), _file_of_large(server)
    sql.execute(
        dsn,
        "UPDATE large SET filler = 'changed' WHERE id % 1000 = 0",
        "DELETE FROM large WHERE id > 133000",
        "VACUUM large",
    )
    [(cut,)] = sql.rows(dsn, "SELECT pg_relation_size('large')")
    with stopped(
        server
    ):  # without a map of free space what is new goes to the end, and not into the pages between
        file.with_name(f"{file.name}_fsm").unlink()
    sql.execute(
        dsn, "INSERT INTO large SELECT n, repeat('again', 1500) FROM generate_series(200001, 201500) AS n"
    )
    assert sql.rows(dsn, f"SELECT {cut} > {SEGMENT}, pg_relation_size('large') > {cut}") == [(True, True)]


def _file_of_large(server: PostgresServer) -> Path:
    [(path,)] = sql.rows(server.dsn("segments"), "SELECT pg_relation_filepath('large')")
    return server.data / str(path)


@contextmanager
def stopped(server: PostgresServer) -> Iterator[None]:
    """The server does not run while the block does."""
    server.stop()
    try:
        yield
    finally:
        server.start()


def test_both_kinds_come_back_and_are_proven(version: Version) -> None:
    """Both dumps and the cluster pass ``verify --restore`` in scratch of the same major version."""
    site = version.site
    taken = site.drctl("backup")["snapshots"]
    assert {snapshot["component"]: snapshot["status"] for snapshot in taken} == {
        "a": "good",
        "b": "good",
        "base": "good",
    }
    results = site.drctl("verify", "--restore")["results"]
    assert [
        (r["component"], r["result"], r.get("failures")) for r in results if r["result"] != "passed"
    ] == []
    checks = next(r["checks"] for r in results if r["component"] == "base")
    assert checks["pg_verifybackup"] is True
    assert checks["databases"] >= 5, "postgres, template1, both odd ones, the empty one"
    counted = checks["row_counts"]
    assert counted["exact"] == counted["tables"] > 50, "nobody wrote meanwhile"
    if version.server.version != 16:  # the package of 16 has no extensions
        assert checks["pg_amcheck"] is True
        assert checks["visibility_maps"] > 100


@pytest.mark.timeout(1200 if versions.large() else 300)
def test_a_restored_cluster_holds_what_the_source_holds(version: Version) -> None:
    """A second backup, restored: every table's rows, and what else a database has, in each database; roles with their passwords."""
    server, site = version.server, version.site
    sql.execute(
        server.dsn(data.ODD_NAMES[0]),
        "INSERT INTO public.stamped SELECT n, 'later' FROM generate_series(10, 4000) n",
    )
    if (
        versions.large()
    ):  # here and not in the fixture: what the other tests do is not done with a gigabyte more
        _second_segment(server)
        site.drctl("backup", "base")
        _both_segments(server)
    expected = contents(server)
    [taken] = site.drctl("backup", "base")["snapshots"]
    assert taken["parent"] is None or taken["method"] == (
        "increment" if server.version >= INCREMENTS_FROM else "full"
    )
    place = site.root / "restored"
    assert site.drctl("restore", "base", "--to", str(place))["restored"]["started"] is True
    with base_site.in_place_of(server, place):
        assert contents(server) == expected
        role = server.dsn(data.EMPTY_NAME, user="With a Password", password='p\'ass "wörd"')
        assert sql.rows(role, "SHOW work_mem") == [("8MB",)], "the password is still right"
    shutil.rmtree(place)
    if versions.large():
        server.drop_database("segments")


def test_a_restored_dump_holds_what_the_source_holds(version: Version) -> None:
    """A dump goes into a new database of the same server, and has equal tables; a large one is loaded frozen, in its order."""
    server, site = version.server, version.site
    sql.execute(
        server.dsn(data.ODD_NAMES[0]),
        "CREATE TABLE public.of_many_widths AS SELECT n, repeat('x', 50 + n * 7919 % 1500) AS text FROM generate_series(1, 4000) n",
    )
    site.drctl("backup", "a")
    restored = site.drctl("restore", "a", "--to", "restored a", "--yes")["restored"]
    try:
        assert not any("public.of_many_widths" in note for note in restored["notes"])
        assert digests(server, "restored a") == digests(server, data.ODD_NAMES[0])
    finally:
        server.drop_database("restored a")


def contents(server: PostgresServer) -> dict[str, object]:
    """What every database holds."""
    names = [
        str(name)
        for (name,) in sql.rows(server.dsn(), "SELECT datname FROM pg_database WHERE datallowconn ORDER BY 1")
    ]
    found: dict[str, object] = {
        "roles": sql.rows(
            server.dsn(),
            "SELECT rolname, rolpassword, rolvaliduntil, setconfig FROM pg_authid a LEFT JOIN pg_db_role_setting s ON s.setrole = a.oid ORDER BY 1, 4",
        )
    }
    for name in names:
        found[name] = digests(server, name), [sql.rows(server.dsn(name), query) for query in OTHERS]
    return found


def digests(server: PostgresServer, name: str) -> dict[str, object]:
    """Each table's number of rows, and a sum over their text."""
    dsn = server.dsn(name)
    tables = [str(table) for (table,) in sql.rows(dsn, TABLES)]
    with sql.connect(dsn) as connection:
        return {table: connection.execute(sql.trusted(DIGEST.format(table))).fetchall() for table in tables}
