"""A backup that is ended, frozen, or loses its source or its storage: said clearly, and without a trace in the repository."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from devstack import data, sql
from devstack.postgres import PostgresServer
from devstack.s3 import S3Server
from dr_toolkit.repository.opening import open_store
from tests.faults.conftest import ATTACHMENTS, source_on
from tests.faults.site import Run, Site, Source

_PATIENCE = 10.0


def dumping(run: Run, site: Site) -> None:
    """The first pack is stored, and ``pg_dump`` is at work."""
    run.until(lambda: site.objects("packs"), "first pack")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_backup_cleanly(site: Site, number: signal.Signals) -> None:
    """The exit code is the shell's for the signal; no snapshot, no program and no password is left."""
    run = site.start("backup", config=site.write_config)
    dumping(run, site)
    run.signal(number)
    answer = run.wait(15).expect(128 + number)
    assert answer.error["code"] == "interrupted"
    assert answer.error["unaffected"]
    site.leaves_no_credentials()
    site.is_as_good_as_before([])


def test_a_signal_ends_a_backup_whose_source_is_silent(site: Site) -> None:
    """The source stands still in the middle: SIGTERM still ends the run within seconds, and ``pg_dump`` with it."""
    run = site.start("backup", config=site.write_config)
    dumping(run, site)
    run.program("pg_dump").suspend()
    run.signal(signal.SIGTERM)
    run.wait(15).expect(143)
    site.leaves_no_credentials()


def test_a_signal_before_the_commit_leaves_no_snapshot(site: Site) -> None:
    """Everything is read and on its way to the storage: SIGTERM ends it without a snapshot, or comes too late for that."""
    run = site.start("backup", config=site.write_config)
    run.until_event("source read")
    run.signal(signal.SIGTERM)
    answer = run.wait(15)
    committed = site.ids()
    assert (answer.code, len(committed)) in {(143, 0), (143, 1), (0, 1)}
    site.is_as_good_as_before(committed)


# -- the storage ------------------------------------------------------------------------------------------------------


def test_the_storage_goes_away_and_comes_back(
    new_s3_site: Callable[..., Site], own_s3: S3Server, source: Source
) -> None:
    """The S3 server is killed in the middle and is back after seconds: the backup goes on and succeeds."""
    site = new_s3_site(own_s3, source)
    run = site.start("backup", config=site.write_config)
    run.until_event("started")
    run.program("pg_dump")
    own_s3.kill()
    run.until_event("trying again")
    own_s3.start()
    made = run.wait().expect(0).snapshot
    assert site.ids() == [made["id"]]
    site.inside("verify", "--data").expect(0)


def test_the_storage_goes_away_for_good(
    new_s3_site: Callable[..., Site], own_s3: S3Server, source: Source
) -> None:
    """The S3 server does not come back: exit 5 after about a minute (here: 10 s); once it is there again, so is the repository.

    Commands that begin meanwhile end in the same way, before they touch the source. SIGTERM ends the wait.
    """
    site = new_s3_site(own_s3, source)
    first = site.backup()["id"]
    assert open_store.__kwdefaults__["retry_seconds"] == 60
    run, ended = (
        site.start("backup", "--full", config=site.write_config, patience=patience)
        for patience in (_PATIENCE, None)
    )
    for one in (run, ended):
        one.until_event("started")
        one.program("pg_dump")
    own_s3.stop()
    others = [site.start(*command, patience=_PATIENCE) for command in (["backup"], ["snapshots"], ["verify"])]
    ended.until_event("trying again")
    ended.signal(signal.SIGTERM)
    ended.wait(20).expect(143)
    for one in (run, *others):
        answer = one.wait(120).expect(5)
        assert answer.error["code"] == "store-unreachable"
        assert answer.error["retry"] is True
        assert one is run or "pg_dump" not in answer.err
        assert one is not run or "as they were" in answer.error["unaffected"]
    site.leaves_no_credentials()
    own_s3.start()
    site.is_as_good_as_before([first])


@pytest.fixture
def own_s3(servers_root: Path) -> Iterator[S3Server]:
    """An S3 server of this test's own, to be stopped."""
    with S3Server(servers_root / "s3-faults") as server:
        yield server


# -- the source -------------------------------------------------------------------------------------------------------


@pytest.fixture
def own_postgres(servers_root: Path) -> Iterator[PostgresServer]:
    """A PostgreSQL of this test's own, to be killed."""
    with PostgresServer(servers_root / "pg-faults") as server:
        dsn = server.create_database("victim")
        data.fill_console_like(dsn, scale=0.02)
        sql.execute(dsn, ATTACHMENTS)
        yield server


def test_the_source_dies(new_site: Callable[..., Site], own_postgres: PostgresServer) -> None:
    """PostgreSQL is killed while it is dumped: exit 5, a retry makes sense, no snapshot; later the backup succeeds."""
    site = new_site(source_on(own_postgres, "victim"))
    run = site.start("backup", config=site.write_config)
    dumping(run, site)
    own_postgres.kill()
    answer = run.wait(60).expect(5)
    assert answer.error["code"] == "source-unreachable"
    assert answer.error["retry"] is True
    assert answer.error["unaffected"]
    site.leaves_no_credentials()
    assert site.inside("backup").expect(5).error["code"] == "source-unreachable"
    own_postgres.start()
    site.is_as_good_as_before([])


def test_the_dump_program_dies(site: Site) -> None:
    """``pg_dump`` is killed after it has written much: exit 1, no snapshot, however much was stored."""
    run = site.start("backup", config=site.write_config)
    dumping(run, site)
    run.program("pg_dump").kill()
    answer = run.wait(60).expect(1)
    assert answer.error["code"] == "source"
    assert answer.error["unaffected"]
    site.is_as_good_as_before([])
