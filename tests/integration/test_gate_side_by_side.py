"""Proofs beside each other: two scratch servers at a time, and none of them left, however the gate ends."""

from __future__ import annotations

import secrets
import shutil
import signal
import tempfile
import time
from pathlib import Path

import pytest

from devstack import sql
from tests.integration.test_gate import Site, drop, names

SLOW = (
    "CREATE FUNCTION slow(s int) RETURNS bool LANGUAGE sql AS 'SELECT true'",
    "CREATE TABLE waits (s int CHECK (slow(s)))",
    "INSERT INTO waits VALUES (300)",
    "CREATE OR REPLACE FUNCTION slow(s int) RETURNS bool LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(s); RETURN true; END'",
)
"""A row whose restore takes five minutes, and whose dump takes none."""


@pytest.fixture
def place():
    """A directory for scratch that every user can enter, with a path that is short enough for a socket."""
    found = Path(tempfile.mkdtemp(prefix="side-"))
    found.chmod(0o755)
    yield found
    shutil.rmtree(found, ignore_errors=True)


@pytest.fixture
def site(tmp_path, postgres, place):
    """Two databases whose restores do not end by themselves."""
    other = f"gate_{secrets.token_hex(4)}"
    found = Site(tmp_path, postgres, more=f"""
  sql-db:
    kind: postgres-dump
    connection: {{host: {postgres.host}, port: {postgres.port}, database: {other}, user: postgres, password: "env:ADMIN"}}
verify: {{parallel: 2}}
""")  # fmt: skip
    for dsn in (found.dsn, postgres.create_database(other)):
        sql.execute(dsn, *SLOW)
    found.environment["TMPDIR"] = str(place)
    yield found
    drop(found)
    postgres.drop_database(other)


def places(place: Path) -> list[Path]:
    return [found.parent.parent for found in place.glob("drctl-scratch-*/data/postmaster.pid")]


def servers(place: Path) -> list[str]:
    """Processes that work somewhere below."""
    found = []
    for process in Path("/proc").glob("[0-9]*/cwd"):
        try:
            where = process.readlink()
        except OSError:
            continue
        if place in where.parents:
            found.append(process.parent.name)
    return found


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_two_are_restored_at_a_time_and_none_is_left(site, place, number):
    """Both scratch servers are there at once; asked to end, the gate removes both; killed, the next one does."""
    gate = site.start("pre-upgrade")
    for _ in range(600):
        if len(places(place)) == 2:
            break
        time.sleep(0.1)
    assert len(places(place)) == 2, "they never were beside each other"
    gate.send_signal(number)
    _out, said = gate.communicate(timeout=60)
    assert gate.returncode == (143 if number == signal.SIGTERM else -9), said
    for _ in range(100):
        if not servers(place):
            break
        time.sleep(0.1)
    assert servers(place) == []
    if number == signal.SIGKILL:
        assert len(list(place.glob("drctl-scratch-*"))) == 2
        assert len(site.json("scratch", "gc")["scratch"]["directories"]) == 2
    assert list(place.iterdir()) == []
    assert (site.pins(), len(site.json("snapshots")["snapshots"])) == (0, 2)


def test_the_deadline_ends_all_of_them(site, place):
    """Neither is proven when the time is over: NO-GO names both, and both scratch servers are gone."""
    gate = site.gate("--deadline", "12s", code=3)
    assert names(gate) == [("proof", "console-db"), ("proof", "sql-db"), ("point", None)]
    assert all("deadline of 12 s" in reason["text"] for reason in gate["reasons"][:2])
    assert (servers(place), list(place.iterdir())) == ([], [])
