"""A full read is held against what increments said: what differs without a reason is found, and nobody takes it for good again."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from devstack import sql
from devstack.postgres import PostgresServer
from dr_toolkit import errors
from dr_toolkit.jobs import base_plan, inspect, opening, status, verify
from dr_toolkit.log import NoProgress
from dr_toolkit.postgres.base_limits import Limits
from dr_toolkit.reporting import documents, text
from tests.base_site import COMPONENT, BaseSite, ask, base_of, open_directory
from tests.integration.test_increment_bugs import DELETED, change, prepare


@pytest.fixture(scope="module", params=[18, 17])
def source(request: pytest.FixtureRequest) -> Iterator[PostgresServer]:
    root = open_directory()
    settings = {"summarize_wal": "on", "autovacuum": "off"}
    with PostgresServer(root / "pg", version=request.param, settings=settings) as server:
        yield server
    shutil.rmtree(root, ignore_errors=True)


@pytest.fixture
def root() -> Iterator[Path]:
    path = open_directory()
    yield path
    shutil.rmtree(path, ignore_errors=True)


def test_an_audit_finds_what_increments_had_wrong(
    source: PostgresServer, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the rule for limits an increment is as wrong as `pg_combinebackup`'s; the audit finds it, names the pages, and tells everybody."""
    dsn = source.dsn()
    prepare(dsn)
    site = BaseSite(root, source)
    first = site.backup()
    sql.execute(dsn, "UPDATE seen SET body = 'y' WHERE id = 1")
    with monkeypatch.context() as patched:
        patched.setattr(base_plan.base_limits, "cut", lambda *_range: frozenset())
        patched.setattr(base_plan.base_limits, "read", lambda _settings, shape, *_range: Limits({}, shape))
        second = site.backup()
        change(dsn)
        third = site.backup()
    assert [base_of(s)["method"] for s in (first, second, third)] == ["full", "increment", "increment"]
    # More writing, which is a reason for differences.
    sql.execute(dsn, "UPDATE seen SET body = 'later'", "TRUNCATE tail", "INSERT INTO tail VALUES (1, 'x')")
    outcome = site.outcome(audit=True)
    [(_name, error)] = outcome.failures
    [audited] = outcome.snapshots
    assert isinstance(error, errors.VerificationFailed)
    found = base_of(audited)["audit"]
    [(relation,)] = sql.rows(dsn, "SELECT pg_relation_filepath('regrown')")
    assert {path for path, _first, _count in found["listed"]} == {relation}
    assert (found["unjudged"], found["pages"] > 3000, found["against"]) == (0, True, third.id)
    assert audited.header.status == "good"
    with opening.opened_repository(site.config) as repository:
        stock = inspect.inventory(repository)
        states = {s.id: s.header.status for s in stock.snapshots}
        assert states == {first.id: "good", second.id: "damaged", third.id: "damaged", audited.id: "good"}
        assert "DAMAGED" in text.inventory(stock, repository.store.now())
        assert documents.inventory(stock)["problems"]
        standings, *_drill = status.run(site.config, repository, ())
        assert status.exit_code(standings) == 3
        [result] = verify.run(site.config, repository, verify.Request(), NoProgress())
        assert (result.snapshot, result.passed) == (audited.id, False)
    later = site.backup()
    assert (later.header.parent, base_of(later)["method"]) == (audited.id, "increment")
    # What the audit found is not forgotten when its own snapshot is gone.
    (root / "repository" / "snapshots" / COMPONENT / audited.id).unlink()
    with opening.opened_repository(site.config) as repository:
        snapshots, _failures = repository.snapshots()
        assert {s.id for s in snapshots if s.damaged_by == later.id} == {second.id, third.id}
    with site.running(later) as settings:
        assert ask(settings, DELETED, "postgres") == sql.rows(dsn, DELETED)
    sql.execute(dsn, "DROP TABLE regrown, seen, tail")


def test_an_audit_of_what_is_right_finds_nothing(source: PostgresServer, root: Path) -> None:
    """After cuts, growth, new and dropped tables: every difference has its reason, by default after so many increments."""
    dsn = source.dsn()
    prepare(dsn)
    site = BaseSite(root, source, audit_every=2)
    site.backup()
    change(dsn)
    site.backup()
    sql.execute(dsn, "CREATE TABLE fresh AS SELECT g FROM generate_series(1, 5000) g", "VACUUM FULL seen")
    second = site.backup()
    sql.execute(
        dsn, "DELETE FROM regrown WHERE id < 100", "DELETE FROM fresh", "VACUUM fresh", "DROP TABLE tail"
    )
    audited = site.backup()
    assert (base_of(second)["increments"], base_of(audited)["increments"]) == (2, 0)
    assert base_of(audited)["reason"] == "audit after 2 increments"
    found = base_of(audited)["audit"]
    assert (found["unexplained"], found["unjudged"], found["pages"] > 3000) == (0, 0, True)
    sql.execute(dsn, "DROP TABLE regrown, seen, fresh")
