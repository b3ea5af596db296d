"""kill -9 at every step of a restore: the live name is there and open, and the next run puts everything in order."""

from __future__ import annotations

import json
import pickle
import secrets
import signal
import subprocess
import sys
import textwrap
import threading
import time
from datetime import UTC, datetime

import psycopg
import pytest

from devstack import sql
from devstack.postgres import PostgresServer
from dr_toolkit.errors import TargetError
from dr_toolkit.jobs import doctor_left
from dr_toolkit.postgres.restore_plan import toc_of
from dr_toolkit.postgres.swap import beside, repair
from dr_toolkit.postgres.swap_left import Leftovers, leftovers
from dr_toolkit.postgres.swap_plan import plan
from tests.restoring import settings_of, snapshot

RUN = """
    import json, os, pickle, signal, sys, threading

    from dr_toolkit import clock
    from dr_toolkit.postgres import server, swap_sql
    from dr_toolkit.postgres.connection import resolve
    from dr_toolkit.postgres.restore import restore_into
    from dr_toolkit.postgres.restore_plan import toc_of
    from dr_toolkit.postgres.swap import beside
    from dr_toolkit.postgres.swap_plan import plan
    from dr_toolkit.postgres.tools import choose

    given = json.load(sys.stdin)
    step, delay = given["step"], given["delay"]
    settings = resolve(**given["connection"])
    with open(given["source"], "rb") as file:
        source = pickle.load(file)

    def die():
        os.kill(os.getpid(), signal.SIGKILL)

    def reached(name):
        if name == step:
            die()

    class Dying:
        entries = staticmethod(source.entries)

        @staticmethod
        def read(path):
            for piece in source.read(path):
                if path.startswith("archive/data/"):
                    yield piece[:10]
                    reached("data")
                    yield piece[10:]
                else:
                    yield piece

    query = server.query

    def watched(connection, statement, parameters=()):
        if statement == swap_sql.SWAP and step == "swap":
            threading.Timer(delay, die).start()
        if "CREATE DATABASE" in str(statement):
            reached("create")
        return query(connection, statement, parameters)

    server.query = watched
    intended = plan(settings, toc_of(source), snapshot="S1", now=clock.now())
    reached("planned")
    with beside(settings, intended) as new:
        reached("created")
        restore_into(Dying, new.settings, choose(given["version"]))
        reached("restored")
        new.verified()
        reached("verified")
        new.swap(terminate=True, seconds=given["seconds"])
        reached("swapped")
    print("done")
"""
OLD, RESTORED = [1, 2, 3], [1, 2]


class Run:
    """A restore in a process of its own."""

    def __init__(self, running, live, source, directory, *, step="", delay=0.0, seconds=5.0) -> None:
        path = directory / f"source-{secrets.token_hex(3)}"
        path.write_bytes(pickle.dumps(source))
        self.process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(RUN)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        connection = {
            "host": running.host,
            "port": running.port,
            "database": live,
            "user": running.superuser,
            "password": running.password,
        }
        given = {
            "step": step,
            "delay": delay,
            "seconds": seconds,
            "connection": connection,
            "source": str(path),
            "version": running.version,
        }
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(given))
        self.process.stdin.close()
        self.process.stdin = None

    def end(self) -> int:
        _, stderr = self.process.communicate(timeout=60)
        self.stderr = stderr
        return self.process.returncode


@pytest.fixture
def live(postgres):
    name = f"live_{secrets.token_hex(4)}"
    postgres.create_database(name)
    sql.execute(postgres.dsn(name), "CREATE TABLE t (a int)", "INSERT INTO t VALUES (1), (2)")
    yield name
    for database in names(postgres, name):
        postgres.drop_database(database)


@pytest.fixture
def source(postgres, live):
    taken = snapshot(postgres, live)
    sql.execute(postgres.dsn(live), "INSERT INTO t VALUES (3)")
    return taken


def names(running, live):
    found = sql.rows(
        running.dsn(), "SELECT datname FROM pg_database WHERE starts_with(datname, %s) ORDER BY 1", live
    )
    return [str(row[0]) for row in found]


def rows(running, database):
    return [row[0] for row in sql.rows(running.dsn(database), "SELECT a FROM t ORDER BY 1")]


def no_session_left(running, live):
    """Wait until the killed run's sessions have ended; the server notices when it next reads or writes."""
    for _ in range(200):
        [(count,)] = sql.rows(
            running.dsn(),
            "SELECT count(*) FROM pg_stat_activity WHERE application_name IN ('drctl', 'pg_restore') AND pid <> pg_backend_pid()",
        )
        if count == 0:
            return
        time.sleep(0.05)
    raise AssertionError("sessions of a killed run are still there")


@pytest.mark.parametrize(
    ("step", "delay"),
    [
        *((step, 0.0) for step in ("planned", "created", "data", "restored", "verified", "swapped")),
        *(("swap", delay) for delay in (0.0, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05)),
    ],
)
def test_killed_at_any_step(postgres, live, source, tmp_path, step, delay):
    """The live name is there and open with the old or the restored rows; the second run leaves no trace of the first."""
    with psycopg.connect(postgres.dsn(live), autocommit=True):  # somebody to be ended
        run = Run(postgres, live, source, tmp_path, step=step, delay=delay)
        status = run.end()
    assert status == -signal.SIGKILL or (step == "swap" and status == 0), run.stderr
    no_session_left(postgres, live)
    found = rows(postgres, live)
    assert found in (OLD, RESTORED)
    if step not in {"swap", "swapped"}:
        assert found == OLD
        left = leftovers(settings_of(postgres, live))  # what the doctor looks at
        assert (left.closed, len(left.half_restored)) == (False, 0 if step == "planned" else 1)

    again = Run(postgres, live, source, tmp_path)
    assert again.end() == 0, again.stderr
    assert rows(postgres, live) == RESTORED
    left = names(postgres, live)
    assert not [name for name in left if "_drctl_" in name]
    kept = [rows(postgres, name) for name in left if "_old_" in name]
    assert OLD in kept


def test_the_doctor_tells_a_closed_database_from_one_that_a_person_closed():
    """Only with a swap's mark beside it; each finding says what to run."""
    closed = list(doctor_left.of_databases("console-db", Leftovers("live", True, ("live_drctl_x",))))
    assert [(f.level, "drctl resume" in f.todo) for f in closed] == [("failed", True), ("warning", True)]
    assert list(doctor_left.of_databases("console-db", Leftovers("live", False, ()))) == []
    assert [f.todo for f in doctor_left.of_plans(["before"])] == ["drctl restore --point before --resume"]


def test_a_client_killed_in_the_closed_moment_leaves_the_rest_to_the_server(servers_root, tmp_path):
    """While the swap is held up, the client dies: the server gives up by itself and opens the live database again."""
    with held_up(servers_root) as (running, source):
        run = Run(running, "live", source, tmp_path, seconds=2.0)
        wait_until(lambda: not is_open(running))
        run.process.kill()
        run.end()
        wait_until(lambda: is_open(running))
        assert rows(running, "live") == OLD
        assert repair(settings_of(running, "live")).dropped
        assert names(running, "live") == ["live"]


def test_a_server_killed_in_the_closed_moment_is_repaired_by_the_next_run(servers_root, tmp_path):
    """Only if the server itself dies is the live database left closed; the marker says who closed it."""
    with held_up(servers_root) as (running, source):
        run = Run(running, "live", source, tmp_path, seconds=30.0)
        wait_until(lambda: not is_open(running))
        running.kill()
        assert run.end() == 1
        running.start()
        assert not is_open(running)
        repaired = repair(settings_of(running, "live"))
        assert repaired.reopened == ("live",)
        assert len(repaired.dropped) == 1
        assert rows(running, "live") == OLD
        sql.execute(running.dsn("live"), "ROLLBACK PREPARED 'held up'")
        again = Run(running, "live", source, tmp_path)
        assert again.end() == 0, again.stderr
        assert rows(running, "live") == RESTORED


def test_a_database_that_was_closed_by_a_person_stays_closed(postgres, live, source):
    """Repair opens only what a swap had closed, and drops only what carries our marker."""
    stranger = f"{live}_drctl_20260101T000000Z"
    commented = f"{live}_drctl_20260101T000001Z"
    for name in (stranger, commented):
        postgres.create_database(name)
    sql.execute(
        postgres.dsn(),
        f"ALTER DATABASE {live} ALLOW_CONNECTIONS false",
        f"COMMENT ON DATABASE {sql.quoted(commented)} IS 'drctl: mine'",
    )
    repaired = repair(settings_of(postgres, live))
    assert (repaired.reopened, repaired.dropped, repaired.left) == ((), (), (stranger,))
    assert names(postgres, live) == [live, stranger, commented]
    with pytest.raises(psycopg.OperationalError, match="not currently accepting"):
        sql.rows(postgres.dsn(live), "SELECT 1")


def test_a_cancelled_swap_leaves_the_live_database_open(servers_root, tmp_path):
    """Somebody cancels our statement in the closed moment: the live database is opened before the error comes out."""
    with held_up(servers_root) as (running, source):
        settings = settings_of(running, "live")
        intended = plan(settings, toc_of(source), snapshot="S", now=datetime.now(UTC))

        def cancel():
            wait_until(lambda: not is_open(running))
            statement = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE application_name = 'drctl'"
            sql.rows(running.dsn(), statement)

        canceller = threading.Thread(target=cancel)
        canceller.start()
        try:
            with pytest.raises(TargetError, match="cancel"), beside(settings, intended) as new:
                new.swap(terminate=True, seconds=30)
        finally:
            canceller.join()
        assert rows(running, "live") == OLD
        assert names(running, "live") == ["live"]


class held_up:  # noqa: N801 - used like a function
    """A server of its own, on which a prepared transaction keeps every swap of ``live`` from succeeding."""

    def __init__(self, root) -> None:
        self.running = PostgresServer(
            root / f"held-{secrets.token_hex(3)}", settings={"max_prepared_transactions": "5"}
        )

    def __enter__(self):
        running = self.running.start()
        running.create_database("live")
        dsn = running.dsn("live")
        sql.execute(dsn, "CREATE TABLE t (a int)", "INSERT INTO t VALUES (1), (2)")
        source = snapshot(running, "live")
        sql.execute(
            dsn, "INSERT INTO t VALUES (3)", "BEGIN; INSERT INTO t VALUES (9); PREPARE TRANSACTION 'held up'"
        )
        return running, source

    def __exit__(self, *_):
        self.running.remove()


def is_open(running) -> bool:
    [(allowed,)] = sql.rows(running.dsn(), "SELECT datallowconn FROM pg_database WHERE datname = 'live'")
    return bool(allowed)


def wait_until(true) -> None:
    for _ in range(600):
        if true():
            return
        time.sleep(0.05)
    raise AssertionError("waited in vain")
