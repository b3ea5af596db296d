"""``drctl restore --undo`` and ``--cleanup`` on real servers: back to what was before a restore, and nothing dropped by accident."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import textwrap
from datetime import UTC, datetime

import pytest

from devstack import sql
from dr_toolkit.postgres import kept, swap
from dr_toolkit.postgres.swap_names import UNDOING, Marker, old_name, read_past, undone_comment
from tests.integration.test_gate import DRCTL, Site, drop
from tests.restoring import settings_of

KILLED = """
    import json, os, signal, sys, threading
    from dr_toolkit.postgres import kept, server, swap_sql
    from dr_toolkit.postgres.connection import resolve

    given = json.load(sys.stdin)
    query = server.query

    def watched(connection, statement, parameters=()):
        if statement == swap_sql.SWAP:
            threading.Timer(given["delay"], lambda: os.kill(os.getpid(), signal.SIGKILL)).start()
        return query(connection, statement, parameters)

    server.query = watched
    kept.undo(resolve(**given["connection"]), given["name"], terminate=True)
"""


@pytest.fixture
def site(tmp_path, postgres):
    """Two databases, of which one has been restored: its live content is "restored", the kept one has "written since"."""
    found = Site(tmp_path, postgres)
    found.second = f"{found.database}_sql"
    sql.execute(postgres.create_database(found.second), "CREATE TABLE t AS SELECT 1 AS a")
    connection = f'{{host: {postgres.host}, port: {postgres.port}, database: {found.second}, user: postgres, password: "env:DB"}}'
    with found.config.open("a") as file:
        file.write(f"  sql-db: {{kind: postgres-dump, connection: {connection}}}\n")
    sql.execute(
        postgres.dsn(),
        f"COMMENT ON DATABASE {found.database} IS 'the console''s'",
        f"ALTER DATABASE {found.database} SET work_mem = '5MB'",
    )
    found.json("backup", "console-db")
    sql.execute(found.dsn, "UPDATE users SET name = 'written since'")
    yield found
    drop(found)


def restored(site: Site) -> str:
    """Restore once; the name under which the replaced database is kept."""
    return site.json("restore", "console-db", "--yes")["restored"]["kept"]


def content(site: Site, database: str | None = None) -> str:
    [(found,)] = sql.rows(
        site.postgres.dsn(database or site.database),
        "SELECT CASE WHEN min(name) = 'written since' THEN 'before' ELSE 'restored' END FROM users",
    )
    return found


def databases(site: Site) -> list[str]:
    return [
        name
        for (name,) in sql.rows(
            site.postgres.dsn(),
            "SELECT datname FROM pg_database WHERE datname LIKE %s",
            f"{site.database}%",
        )
    ]


def comment(site: Site, name: str) -> str:
    [(text,)] = sql.rows(
        site.postgres.dsn(),
        "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = %s",
        name,
    )
    return text


def test_undo_gives_the_database_from_before_back_once(site):
    """The plan changes nothing; after it the old content is live, the restored one is kept; a second --undo goes no step further back."""
    assert site.run("restore", "--undo").returncode == 1  # there is nothing to undo yet
    first = restored(site)
    second = restored(site)  # by mistake once more: two databases are kept
    planned = site.json("restore", "--undo", "--dry-run")["plan"]["steps"]
    assert [(s["component"], s["back_to"]) for s in planned] == [("console-db", second), ("sql-db", None)]
    assert content(site) == "restored"
    assert site.run("restore", "console-db", "--undo").returncode == 2  # nobody is there to confirm it
    sql.execute(site.dsn, "UPDATE users SET name = 'written since' WHERE id = 1")
    undone = site.json("restore", "console-db", "--undo", "--yes")["undone"]["components"]["console-db"]
    assert (content(site), undone["unavailable_seconds"] < 5) == (
        "restored",
        True,
    )  # what the first restore gave
    assert sql.rows(site.dsn, "SELECT count(*) FROM users WHERE name = 'written since'") == [(0,)]
    assert comment(site, site.database) == "the console's"
    assert sql.rows(site.dsn, "SHOW work_mem") == [("5MB",)]
    again = site.run("restore", "console-db", "--undo", "--yes")
    assert (again.returncode, undone["kept"] in again.stderr) == (1, True)
    listed = site.json("restore", "--cleanup", "--dry-run")["kept"]
    assert [(row["database"], row["why"]) for row in listed] == [
        (first, "replaced"),
        (undone["kept"], "undone"),
    ]
    assert content(site, first) == "before"
    for wrong in (["--undo", "--cleanup"], ["--undo", "--snapshot", "x"], ["--cleanup", "--resume"]):
        assert site.run("restore", *wrong).returncode == 2


def test_undo_works_where_the_live_database_was_dropped(site):
    """Somebody dropped the restored database: the kept one gets its name, and its comment of a kept one goes; until then it cannot be dropped."""
    name = restored(site)
    site.postgres.drop_database(site.database)
    refused = site.run("restore", "--cleanup", "--yes")
    assert (refused.returncode, "last copy" in refused.stderr + refused.stdout) == (1, True)
    done = site.json("restore", "--undo", "--yes")["undone"]["components"]["console-db"]
    assert (content(site), done["kept"], comment(site, site.database)) == ("before", None, None)
    assert name not in databases(site)


def test_cleanup_drops_only_what_was_put_aside_and_agreed_to(site):
    """A look-alike without our comment, a stranger with it, a database in use and one whose name was not typed all stay."""
    name = restored(site)
    alike, stranger = f"{site.database}_old_20260101T000000Z", f"{site.database}_mine"
    for other in (alike, stranger):
        site.postgres.create_database(other)
    text = comment(site, name).replace("'", "''")
    sql.execute(site.postgres.dsn(), f"COMMENT ON DATABASE {stranger} IS '{text}'")
    assert site.run("restore", "--cleanup").returncode == 2
    with sql.connect(site.postgres.dsn(name)):
        used = site.json("restore", "--cleanup", "--yes", code=1)["cleanup"]
        assert (used["dropped"], used["failed"][0]["database"]) == ([], name)
    assert typed(site, "another") == 0
    assert name in databases(site)
    assert typed(site, name) == 0
    assert sorted(databases(site)) == sorted([site.database, site.second, alike, stranger])
    assert content(site) == "restored"


def typed(site: Site, answer: str) -> int:
    """Answer the question of --cleanup at a terminal; the exit code."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [DRCTL, "-c", site.config, "restore", "--cleanup"],
        env=site.environment, stdin=follower, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    os.close(follower)
    os.write(leader, answer.encode() + b"\n")
    process.communicate(timeout=60)
    os.close(leader)
    return process.returncode


@pytest.mark.parametrize("delay", [0.0, 0.01])
def test_killed_while_it_swaps_back(site, delay):
    """Killed at any moment: the live name is there and open with one of both contents, both are still there, and --undo ends well."""
    name = restored(site)
    connection = settings_of(site.postgres, site.database)
    run = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(KILLED)],
        stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    host, port = connection.hosts[0]
    given = {
        "host": host,
        "port": port,
        "database": site.database,
        "user": "postgres",
        "password": connection.password,
    }
    _out, said = run.communicate(json.dumps({"delay": delay, "name": name, "connection": given}), timeout=60)
    assert run.returncode in (0, -signal.SIGKILL), said
    there = databases(site)
    assert {content(site, one) for one in there if one != site.second} == {"before", "restored"}
    again = site.run("restore", "console-db", "--undo", "--yes")
    assert again.returncode in (0, 1), again.stderr  # 1: it was done already
    assert content(site) == "before"


def test_a_server_that_died_while_it_swapped_back_loses_nothing(site):
    """Both databases are left closed with our marker: the next restore opens both, and does not take the kept one for a half-restored one."""
    name = restored(site)
    marker = Marker(site.database, "S1", UNDOING, "2026-11-25T10:00:00Z").text()
    sql.execute(
        site.postgres.dsn(),
        f"COMMENT ON DATABASE {sql.quoted(name)} IS '{marker}'",
        f"ALTER DATABASE {sql.quoted(name)} ALLOW_CONNECTIONS false",
        f"ALTER DATABASE {site.database} ALLOW_CONNECTIONS false",
    )
    settings = settings_of(site.postgres, site.database)
    assert [one.name for one in kept.look(settings).kept] == [name]
    repaired = swap.repair(settings)
    assert (repaired.reopened, repaired.dropped) == ((site.database,), ())
    assert (content(site), content(site, name)) == ("restored", "before")
    assert comment(site, name).startswith("replaced by drctl at 2026-11-25T10:00:00Z with snapshot S1;")


def test_only_exact_names_are_taken_for_ours():
    """A database beside another one whose name begins alike is not touched, nor one whose comment is a person's."""
    moment = datetime(2026, 11, 25, tzinfo=UTC)
    name = old_name("console", moment)
    ours = undone_comment("2026-11-25T00:00:00Z", "S1")
    assert read_past(name, "console", ours) is not None
    assert read_past(name, "console_two", ours) is None
    assert read_past(name, "consol", ours) is None
    assert read_past("console_old_backup", "console", ours) is None
    assert read_past(name, "console", "kept by Ann") is None
    long = "x" * 63
    assert read_past(old_name(long, moment), long, ours) is not None
