"""``drctl restore`` without a component: the first screen, and a whole recovery point, on real servers."""

from __future__ import annotations

import json
import os
import pty
import re
import secrets
import subprocess
import time
from pathlib import Path

import pytest

from devstack import sql
from devstack.postgres import PostgresServer
from tests.integration.test_gate import DRCTL, Site, drop


@pytest.fixture
def site(tmp_path, postgres, s3_server, bucket):
    """Two databases and a bucket."""
    found = Site(tmp_path, postgres)
    found.environment |= {
        "KEY": s3_server.access_key,
        "SECRET": s3_server.secret_key,
        "XDG_STATE_HOME": str(tmp_path / "state"),
    }
    found.second = f"{found.database}_sql"
    dsn = postgres.create_database(found.second)
    sql.execute(
        dsn,
        "CREATE TABLE topics AS SELECT n AS id, md5(n::text) || md5((-n)::text) AS noise FROM generate_series(1, 30000) n",
    )
    found.bucket, found.client = bucket, s3_server.client()
    for number in range(9):  # that stay: one rewritten object of one would be a mass change
        found.client.put_object(Bucket=bucket, Key=f"other/{number}", Body=b"other")
    found.client.put_object(Bucket=bucket, Key="block", Body=b"before")
    connection = f'{{host: {postgres.host}, port: {postgres.port}, database: {found.second}, user: postgres, password: "env:DB"}}'
    found.config.write_text(f"""{found.config.read_text()}
  sql-db: {{kind: postgres-dump, connection: {connection}}}
  cortex:
    kind: bucket
    url: s3://{bucket}
    s3: {{endpoint: "{s3_server.endpoint}", access_key_id: "env:KEY", secret_access_key: "env:SECRET"}}
""")
    yield found
    drop(found)


def damage(site: Site) -> None:
    """Everything is wrong after the upgrade."""
    sql.execute(site.dsn, "UPDATE users SET name = 'gone'")
    sql.execute(site.postgres.dsn(site.second), "DROP TABLE topics")
    site.client.put_object(Bucket=site.bucket, Key="block", Body=b"after")


def state(site: Site) -> tuple:
    """What the platform holds."""
    topics = "SELECT count(*) FROM pg_tables WHERE tablename = 'topics'"
    return (
        sql.rows(site.dsn, "SELECT count(*) FROM users WHERE name LIKE 'user %'")[0][0],
        sql.rows(site.postgres.dsn(site.second), topics)[0][0],
        site.client.get_object(Bucket=site.bucket, Key="block")["Body"].read(),
    )


GOOD = (500, 1, b"before")


def on_a_terminal(site: Site, *arguments: str) -> tuple[int, list[str]]:
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [DRCTL, "-c", site.config, *arguments],
        env=site.environment | {"COLUMNS": "120"},
        stdout=follower,
        stderr=subprocess.PIPE,
    )
    os.close(follower)
    shown = b""
    try:
        while piece := os.read(leader, 65536):
            shown += piece
    except OSError:  # the other end is closed
        pass
    os.close(leader)
    process.communicate(timeout=60)
    return process.returncode, shown.decode().splitlines()


def test_the_first_screen_leads_to_the_platform_back(site):
    """What it shows is what the gate proved; its own commands, copied, bring two databases and a bucket back, the old databases are kept."""
    site.gate("--point", "before-48")
    damage(site)
    code, lines = on_a_terminal(site, "restore")
    assert (code, len(lines) <= 25) == (0, True)
    text = "\n".join(lines)
    assert "the newest, and proven" in text
    assert "all proven, pinned until" in text
    commands = [line.split(":", 1)[1].split() for line in lines if line.startswith("everything")]
    assert commands[0] == ["drctl", "restore", "--point", "before-48", "--dry-run"]
    planned = site.json(*commands[0][1:])["plan"]
    assert [s["component"] for s in planned["steps"]] == ["console-db", "sql-db", "cortex"]
    assert all(s["rto_measured_seconds"] > 0 for s in planned["steps"])
    assert state(site) != GOOD
    refused = site.run(*commands[1][1:])
    assert (refused.returncode, "--yes" in refused.stderr) == (2, True)
    done = site.json(*commands[1][1:], "--yes")["restored"]
    assert (state(site), done["failed"], done["left_out"]) == (GOOD, None, {})
    kept = done["components"]["console-db"]["kept"]
    assert sql.rows(site.postgres.dsn(kept), "SELECT DISTINCT name FROM users") == [("gone",)]
    assert not list((site.root / "state").rglob("*.json"))


def test_a_script_that_forgot_the_component_is_told(site):
    """The screen is shown, and the code says that nothing was restored; JSON is an answer of its own."""
    site.json("backup", "console-db")
    assert site.run("restore").returncode == 2
    [first, second, _cortex] = site.json("restore")["restorable"]
    assert (first["proven"], first["why"], second["snapshot"], second["why"]) == (
        False, "the newest, not proven", None, "it was never backed up",
    )  # fmt: skip
    for wrong in (
        ["--yes"],
        ["--snapshot", "x"],
        ["--point", "a", "--at", "2026-11-24T00:00:00Z"],
        ["console-db", "--point", "a"],
    ):
        assert site.run("restore", *wrong).returncode == 2


def packs(site: Site) -> list[Path]:
    """Of a first backup: one pack of each component, in their order."""
    found = [p for p in (site.root / "repository/packs").rglob("*") if p.is_file()]
    return sorted(found, key=lambda p: p.stat().st_mtime_ns)


def flip(pack: Path) -> bytes:
    """One bit in the middle; what it held before."""
    content = pack.read_bytes()
    half = len(content) // 2
    pack.chmod(0o600)
    pack.write_bytes(content[:half] + bytes([content[half] ^ 1]) + content[half + 1 :])
    return content


def databases(site: Site) -> int:
    pattern = f"^{site.database}"
    return sql.rows(site.postgres.dsn(), f"SELECT count(*) FROM pg_database WHERE datname ~ '{pattern}'")[0][
        0
    ]


def test_it_stops_at_a_failure_and_goes_on_where_it_stopped(site):
    """One database is damaged: none is swapped. The bucket is: both are, and are not restored again when the cause is gone."""
    site.json("backup", "--point", "before")
    damage(site)
    broken = state(site)
    [_first, second, bucket] = packs(site)
    content = flip(second)
    planned = site.run("restore", "--point", "before", "--dry-run").stdout
    assert "no database is swapped before all of them are restored aside and compared" in planned
    stopped = site.json("restore", "--point", "before", "--yes", code=3)["restored"]
    assert (stopped["components"], stopped["failed"]["component"], stopped["not_begun"]) == (
        {},
        "sql-db",
        ["cortex"],
    )
    assert (stopped["dropped_again"], state(site), databases(site)) == (["console-db"], broken, 2)
    second.write_bytes(content)
    content = flip(bucket)
    stopped = site.json("restore", "--point", "before", "--yes", code=3)["restored"]
    assert (list(stopped["components"]), stopped["failed"]["component"]) == (
        ["console-db", "sql-db"],
        "cortex",
    )
    assert state(site) == (500, 1, b"after")
    bucket.write_bytes(content)
    sql.execute(site.dsn, "INSERT INTO users VALUES (999, 'written since')")
    went_on = site.json("restore", "--point", "before", "--yes", "--resume")["restored"]
    done = "done by an earlier run"
    assert (list(went_on["components"]), went_on["left_out"]) == (
        ["cortex"],
        {"console-db": done, "sql-db": done},
    )
    assert state(site) == GOOD
    assert sql.rows(site.dsn, "SELECT count(*) FROM users") == [(501,)]


def test_a_digest_mismatch_in_one_database_swaps_none(site):
    """What was restored is not what the snapshot says, in the second database: the first keeps its live name as well, and nothing is left."""
    sql.execute(
        site.postgres.dsn(site.second),
        "CREATE FUNCTION slow(s int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT s'",
        "CREATE TABLE waits AS SELECT 4 AS s",
        "CREATE INDEX ON waits (slow(s))",  # comes after the rows, and gives this test four seconds
        "CREATE OR REPLACE FUNCTION slow(s int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(s); RETURN s; END'",
    )
    site.json("backup", "--point", "before")
    damage(site)
    broken = state(site)
    process = site.start("restore", "--point", "before", "--yes", "--output", "json")
    lose_a_row(site)
    out, said = process.communicate(timeout=120)
    stopped = json.loads(out)["restored"]
    assert (process.returncode, stopped["failed"]["code"]) == (3, "verification-failed"), said
    assert "topics" in stopped["failed"]["message"]
    assert (stopped["components"], stopped["dropped_again"], stopped["not_begun"]) == (
        {},
        ["console-db"],
        ["cortex"],
    )
    assert (state(site), databases(site)) == (broken, 2)


def lose_a_row(site: Site) -> None:
    """A row goes from the database that is being restored, after it was loaded and before it is compared."""
    new = f"SELECT datname FROM pg_database WHERE datname ~ '^{site.second}.'"
    for _ in range(600):
        found = sql.rows(site.postgres.dsn(), new)
        there = (
            found
            and sql.rows(site.postgres.dsn(found[0][0]), "SELECT to_regclass('topics') IS NOT NULL")[0][0]
        )
        if there and sql.rows(site.postgres.dsn(found[0][0]), "SELECT count(*) FROM topics") == [(30000,)]:
            sql.execute(site.postgres.dsn(found[0][0]), "DELETE FROM topics WHERE id = 7")
            return
        time.sleep(0.05)
    raise AssertionError("it was never loaded")


def test_a_swap_that_nobody_wrote_down_is_not_made_twice(site):
    """Killed between the swap and the journal: --resume sees what the server kept, so that --undo still leads to what was before the restore."""
    site.json("backup", "--point", "before")
    taken = {s["component"]: s["id"] for s in site.json("snapshots")["snapshots"]}
    damage(site)
    journal = site.root / "state/drctl/restore-before.json"
    journal.parent.mkdir(parents=True)
    journal.write_text('{"began": "2026-01-01T00:00:00Z", "done": []}')
    site.json("restore", "console-db", "--snapshot", taken["console-db"], "--yes")
    went_on = site.json("restore", "--point", "before", "--yes", "--resume")["restored"]
    assert went_on["left_out"] == {"console-db": "done by an earlier run"}
    assert (state(site), journal.exists()) == (GOOD, False)
    site.json("restore", "console-db", "--undo", "--yes")
    assert state(site)[0] == 0


def test_everything_goes_to_another_server_when_it_is_mapped(site, servers_root):
    """--map: the databases and objects appear elsewhere, and what is configured stays as it is; a key that fits nothing is named."""
    site.json("backup", "--point", "before")
    damage(site)
    broken = state(site)
    elsewhere = f"{site.bucket}-drill"
    site.client.create_bucket(Bucket=elsewhere)
    with PostgresServer(servers_root / f"map-{secrets.token_hex(3)}") as other:
        site.environment["ADMIN"] = site.environment["DB"] = other.password
        mapped = f"port={other.port},host={other.host},cortex.url=s3://{elsewhere}"
        done = site.json("restore", "--point", "before", "--yes", "--map", mapped)["restored"]
        assert done["failed"] is None
        assert sql.rows(other.dsn(site.database), "SELECT count(*) FROM users") == [(500,)]
    assert site.client.get_object(Bucket=elsewhere, Key="block")["Body"].read() == b"before"
    assert state(site) == broken
    for wrong in ("x=1", "gone.host=a", "cortex.host=a", "namespace", "cortex.url=nonsense", "port=high"):
        assert site.run("restore", "--point", "before", "--yes", "--map", wrong).returncode == 2, wrong


def test_as_of_a_time_takes_the_newest_of_each_before_it(site):
    """The plan shows the spread; what a component does not have from before stops it."""
    site.json("backup")
    time_of = max(s["time"] for s in site.json("snapshots")["snapshots"])
    plan = site.json("restore", "--at", time_of, "--dry-run")["plan"]
    assert (len(plan["steps"]), 0 <= plan["spread_seconds"] < 60) == (3, True)
    assert site.run("restore", "--at", "2020-01-01T00:00:00Z", "--dry-run").returncode == 3


def test_what_needs_a_decision_is_left_to_a_person(site):
    """A whole cluster goes into a directory that only a person can name: the plan says so and restores the rest."""
    server = site.postgres
    connection = f'{{host: {server.host}, port: {server.port}, database: postgres, user: postgres, password: "env:DB"}}'
    site.config.write_text(
        f"{site.config.read_text()}\n  base: {{kind: postgres-base, connection: {connection}}}\n"
    )
    site.json("backup", "--point", f"p-{secrets.token_hex(2)}")
    name = json.loads(site.run("snapshots", "--output", "json").stdout)["points"][0]["name"]
    steps = {s["component"]: s for s in site.json("restore", "--point", name, "--dry-run")["plan"]["steps"]}
    assert steps["base"]["left_out"]
    assert steps["console-db"]["left_out"] is None
    text = site.run("restore", "--point", name, "--dry-run").stdout
    assert "LEFT OUT base" in text


def test_the_runbook_brings_the_platform_back_after_an_upgrade(site):
    """Every drctl command of runbooks/upgrade-went-wrong.md, in order: the gate before, the damage after it, the way back, and OK at the end."""
    text = (Path(__file__).parents[2] / "runbooks/upgrade-went-wrong.md").read_text()
    commands = [
        line
        for block in re.findall(r"^```\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        for line in block.splitlines()
    ]
    codes = []
    for number, line in enumerate(commands):
        if not line.startswith("drctl "):
            assert line.startswith("kubectl ")
            continue
        done = site.run(*line.split()[1:])
        codes.append(done.returncode)
        if number == 0:
            assert done.stdout.startswith("GO"), done.stdout + done.stderr
            damage(site)
    # gate, how bad, the screen (no terminal here), the plan, back, the same with nothing left to do, OK, proofs, status
    assert codes == [0, 3, 2, 0, 0, 0, 0, 0, 0], codes
    assert state(site) == GOOD
