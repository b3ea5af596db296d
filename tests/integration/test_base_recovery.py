"""Restored clusters that do not simply open: a standby follows its primary, a recovery goes on from an archive."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from devstack import sql
from devstack.postgres import PostgresServer
from dr_toolkit import clock
from tests.base_site import COMPONENT, BaseSite, ask, base_of, open_directory

IDS = "SELECT array_agg(id ORDER BY id) FROM t"


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    path = open_directory()
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="module")
def source(root: Path) -> Iterator[PostgresServer]:
    """A server of this module's own with an archive of its WAL."""
    archive = root / "archive"
    archive.mkdir()
    archive.chmod(0o777)
    settings = {
        "archive_mode": "on",
        "archive_command": f"cp %p {archive}/%f",
        "max_connections": "70",
        "summarize_wal": "on",
        "full_page_writes": "on",
        "checkpoint_timeout": "1h",  # one between two backups of an idle standby would end its idleness
    }
    with PostgresServer(root / "pg", version=18, settings=settings) as server:
        sql.execute(server.dsn(), "CREATE TABLE t (id int)", "INSERT INTO t VALUES (1)")
        yield server


@pytest.fixture(scope="module")
def site(source: PostgresServer, root: Path) -> BaseSite:
    """One snapshot; its header has the time, by the server, that recovery must reach: after all that was committed before it began."""
    made = BaseSite(root, source)
    [(before,)] = sql.rows(source.dsn(), "SELECT date_trunc('second', clock_timestamp())")
    time = clock.parse_rfc3339(base_of(made.backup())["time"])
    [(after,)] = sql.rows(source.dsn(), "SELECT clock_timestamp()")
    assert before <= time <= after
    return made


@contextmanager
def started(site: BaseSite, restored: Path) -> Iterator[PostgresServer]:
    """The restored directory under a server of its own, beside the source."""
    source = site.source
    own = {
        "unix_socket_directories": "",
        "max_connections": source.settings["max_connections"],
        "summarize_wal": "on",
    }
    server = PostgresServer(restored.with_name(f"{restored.name}-run"), version=source.version, settings=own)
    server.password = source.password
    shutil.copytree(restored, server.data, symlinks=True)
    for path in (server.data, *server.data.rglob("*")):
        shutil.chown(path, source.data.owner(), source.data.group())
    with server:
        yield server


def test_a_standby_follows_its_primary(site: BaseSite, root: Path) -> None:
    """``--standby``: checked without parting from the primary, then it follows, and has what was written after the backup."""
    passfile = root / "passfile"
    passfile.write_text(f"*:*:*:*:{site.source.password}\n")
    passfile.chmod(0o600)
    shutil.chown(passfile, site.source.data.owner())
    way = f"host={site.source.host} port={site.source.port} user=postgres passfile={passfile}"
    place = root / "standby"
    done = site.drctl(
        "restore", COMPONENT, "--to", str(place), "--standby", "--recovery", f"primary_conninfo={way}"
    )["restored"]
    assert (done["started"], done["signal"]) == (True, "standby.signal")
    assert (place / "standby.signal").exists()
    sql.execute(site.source.dsn(), "INSERT INTO t VALUES (2)")
    with started(site, place) as server:
        [(lsn,)] = sql.rows(site.source.dsn(), "SELECT pg_current_wal_lsn()::text")
        caught_up = f"SELECT pg_is_in_recovery() AND pg_last_wal_replay_lsn() >= '{lsn}'"
        for _ in range(600):
            if sql.rows(server.dsn(), caught_up) == [(True,)]:
                break
            sql.rows(server.dsn(), "SELECT pg_sleep(0.1)")
        assert sql.rows(server.dsn(), IDS) == [([1, 2],)]
        idle_standby(server, root / "of-standby")


def idle_standby(standby: PostgresServer, place: Path) -> None:
    """A standby as the source, where nothing happens between two backups: the server has no increment, so it is read whole and says so."""
    place.mkdir()
    site = BaseSite(place, standby)
    first, second = site.backup(), site.backup()
    assert "manifest requires WAL" in str(base_of(second)["reason"]), base_of(second)
    with site.running(second) as settings:
        assert ask(settings, IDS, "postgres") == [([1, 2],)]
    assert (first.header.status, second.header.status) == ("good", "good")


def test_a_recovery_goes_on_to_its_target(site: BaseSite, root: Path) -> None:
    """``--recovery``: checked at the end of the backup, then it recovers from the archive to the target and no further."""
    dsn = site.source.dsn()
    sql.execute(dsn, "INSERT INTO t VALUES (3)")
    sql.rows(dsn, "SELECT pg_create_restore_point('before_the_mistake')")
    sql.execute(dsn, "DELETE FROM t")
    [(name,)] = sql.rows(dsn, "SELECT pg_walfile_name(pg_switch_wal())")
    for _ in range(600):
        if (root / "archive" / name).exists():
            break
        sql.rows(dsn, "SELECT pg_sleep(0.1)")
    place = root / "recovered"
    for below in ("recovery_target_time=2020-01-01 00:00:00+00", "recovery_target_lsn=0/1000000"):
        early = ("--recovery", "restore_command=false", "--recovery", below)
        error = site.drctl("restore", COMPONENT, "--to", str(place), *early, code=2)["error"]
        assert "must reach" in error["message"]
    assert not place.exists()
    asked = [
        f"restore_command=cp {root}/archive/%f %p", "recovery_target_name=before_the_mistake", "recovery_target_action=promote"
    ]  # fmt: skip
    done = site.drctl(
        "restore", COMPONENT, "--to", str(place), *(part for text in asked for part in ("--recovery", text))
    )
    assert (done["restored"]["started"], done["restored"]["signal"]) == (True, "recovery.signal")
    assert not (place / "standby.signal").exists()
    with started(site, place) as server:
        for _ in range(600):
            if sql.rows(server.dsn(), "SELECT pg_is_in_recovery()") == [(False,)]:
                break
            sql.rows(server.dsn(), "SELECT pg_sleep(0.1)")
        ids = sql.rows(server.dsn(), IDS)[0][0]
        assert ids[0] == 1
        assert 3 in ids
