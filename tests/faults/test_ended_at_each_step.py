"""A gate and a restore of everything, asked to end or killed at each step: nothing live is lost, nothing is left, and the next run goes on."""

from __future__ import annotations

import secrets
import shutil
import signal
import tempfile
import time
from pathlib import Path

import pytest

from devstack import sql
from tests.integration.test_gate import Site, drop

TERM, KILL = signal.SIGTERM, signal.SIGKILL


@pytest.fixture
def place():
    """For scratch: every user can enter it, and a socket's path fits."""
    found = Path(tempfile.mkdtemp(prefix="ended-"))
    found.chmod(0o755)
    yield found
    shutil.rmtree(found, ignore_errors=True)


@pytest.fixture
def site(tmp_path, postgres, place):
    """Two small databases."""
    other = f"gate_{secrets.token_hex(4)}"
    found = Site(tmp_path, postgres, more=f"""
  sql-db:
    kind: postgres-dump
    connection: {{host: {postgres.host}, port: {postgres.port}, database: {other}, user: postgres, password: "env:DB"}}
    restore_connection: {{user: postgres, password: "env:ADMIN"}}
""")  # fmt: skip
    found.other = postgres.create_database(other)
    sql.execute(found.other, "CREATE TABLE topics AS SELECT n AS id FROM generate_series(1, 200) n")
    found.environment |= {"TMPDIR": str(place), "XDG_STATE_HOME": str(tmp_path / "state")}
    yield found
    drop(found)
    for (name,) in sql.rows(postgres.dsn(), f"SELECT datname FROM pg_database WHERE datname ~ '^{other}'"):
        postgres.drop_database(name)


def end_at(process, event: str, number: signal.Signals, times: int = 1) -> None:
    """Send the signal when an event was logged so many times."""
    assert process.stderr is not None
    for line in process.stderr:
        times -= f'"{event}"' in line
        if times == 0:
            break
    else:
        raise AssertionError(f"{event} was never logged")
    process.send_signal(number)
    _out, said = process.communicate(timeout=90)
    assert process.returncode in ((143, 0) if number == TERM else (-9, 0)), said
    assert "Traceback" not in said


def test_a_gate_ended_at_each_step(site, place, postgres):
    """Look, backup, proof, pin: asked to end it leaves no scratch; however it ends, the live data is as it was, a pin speaks for proven snapshots only, and the next one says GO."""
    live = (
        sql.rows(site.dsn, "SELECT count(*) FROM users"),
        sql.rows(site.other, "SELECT sum(id) FROM topics"),
    )
    steps = [
        ("look", TERM), ("source read", KILL), ("snapshot taken", TERM), ("backup", KILL),
        ("scratch server started", TERM), ("verified", KILL), ("proof", TERM), ("pin", KILL),
    ]  # fmt: skip
    for event, number in steps:
        before = site.pins()
        end_at(site.start("pre-upgrade"), event, number)
        assert site.pins() - before in ((0,) if event not in {"proof", "pin"} else (0, 1)), event
        if number == TERM:
            assert list(place.iterdir()) == [], event
    # Taken over from the runs before, so that these two come to their step at once.
    for event in ("backup", "pin"):
        before = site.pins()
        end_at(site.start("pre-upgrade", "--reuse", "1h"), event, TERM)
        assert (site.pins() - before, list(place.iterdir())) in (
            ((0, []),) if event == "backup" else ((0, []), (1, []))
        ), event
    gate = site.gate()
    assert (gate["go"], list(place.iterdir())) == (True, [])
    assert live == (
        sql.rows(site.dsn, "SELECT count(*) FROM users"),
        sql.rows(site.other, "SELECT sum(id) FROM topics"),
    )


def contents(site: Site) -> tuple[int, int]:
    """Rows of both live databases: (500, 200) as in the point, (0, 0) as damaged since."""
    users = sql.rows(site.dsn, "SELECT count(*) FROM users")[0][0]
    return users, sql.rows(site.other, "SELECT count(*) FROM topics")[0][0]


@pytest.mark.parametrize(
    ("event", "times", "number", "expected"),
    [
        ("restoring", 1, TERM, {(0, 0)}),
        ("compared", 1, KILL, {(0, 0)}),
        ("compared", 2, TERM, {(0, 0), (500, 0)}),
        ("names swapped", 1, KILL, {(500, 0), (500, 200)}),
        ("names swapped", 2, TERM, {(500, 200)}),
    ],
)
def test_a_restore_of_everything_ended_at_each_step(site, place, postgres, event, times, number, expected):
    """Each live database is the old or the restored one and takes connections; --resume finishes what is left and leaves nothing half-restored."""
    site.json("backup", "--point", "before")
    sql.execute(site.dsn, "DELETE FROM users")
    sql.execute(site.other, "DELETE FROM topics")
    end_at(site.start("restore", "--point", "before", "--yes"), event, number, times)
    assert contents(site) in expected
    if number == KILL:
        todo = {f["todo"] for f in site.json("doctor", code=0)["findings"] if f["todo"]}
        assert "drctl restore --point before --resume" in todo
    time.sleep(0.3)  # the server notices that sessions of the killed run are gone
    went_on = site.run("restore", "--point", "before", "--yes", "--resume")
    assert went_on.returncode == 0, went_on.stderr
    assert contents(site) == (500, 200)
    half = "SELECT count(*) FROM pg_database WHERE datname ~ '_drctl_' AND datname ~ '^gate_'"
    assert sql.rows(postgres.dsn(), half) == [(0,)]
