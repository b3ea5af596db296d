"""Runbooks are carried out, line by line, on real servers after the disaster that they are for."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import subprocess
import sys
from pathlib import Path

from devstack import sql
from devstack.postgres import PostgresServer
from dr_toolkit.postgres import tools
from tests.integration.test_gate import Site
from tests.integration.test_platform_restore import GOOD, state
from tests.integration.test_platform_restore import site as site  # noqa: PLC0414  # a fixture

ROOT = Path(__file__).parents[2]
ELSEWHERE = ("kubectl ", "drctl restore secrets", "drctl restore releases")
"""What only a cluster can carry out; tests/cli parses these lines, and tests/kube restores both kinds."""


def commands(page: str) -> list[str]:
    text = (ROOT / "runbooks" / page).read_text()
    blocks = re.findall(r"^```\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


def carried_out(site: Site, line: str, **replaced: str) -> subprocess.CompletedProcess[str]:
    for old, new in replaced.items():
        line = line.replace(old, new)
    return site.run(*line.split()[1:])


def test_a_lost_sql_database_comes_back(site):
    """The database was dropped; at the end it has its rows, is backed up and proven."""
    site.json("backup")
    site.postgres.drop_database(site.second)
    lines = [line for line in commands("sql-db-lost.md") if not line.startswith(ELSEWHERE)]
    assert len(lines) >= 6
    for line in lines:
        done = carried_out(site, line)
        assert done.returncode == 0, f"{line}: {done.stdout}{done.stderr}"
    assert sql.rows(site.postgres.dsn(site.second), "SELECT count(*) FROM topics") == [(30000,)]


def test_a_corrupted_console_database_comes_back(site):
    """Every line of the page, and back again at its end; what asks for a name does so, and is answered with --yes here."""
    taken = site.json("backup", "console-db")["snapshots"][0]["time"]
    sql.execute(site.dsn, "UPDATE users SET name = 'corrupted'")
    place = {"2026-11-23T08:00:00Z": taken, "/var/tmp/": f"{site.root}/"}
    asked, rows = [], []
    for line in commands("console-db-lost.md"):
        if line.startswith(ELSEWHERE):
            continue
        done = carried_out(site, line, **place)
        if done.returncode == 2:
            assert "nobody is there to confirm it" in done.stderr, line
            asked.append(line)
            done = carried_out(site, f"{line} --yes")
        assert done.returncode == 0, f"{line}: {done.stdout}{done.stderr}"
        rows.append(sql.rows(site.dsn, "SELECT count(*) FROM users WHERE name LIKE 'user %'")[0][0])
    assert asked == [
        "drctl restore console-db",
        "drctl restore console-db --undo",
        "drctl restore console-db --cleanup",
    ]
    assert (rows[0], max(rows), rows[-1]) == (0, 500, 0)
    assert (site.root / "console.dump").stat().st_size > 0


def test_a_lost_platform_comes_back_on_other_servers(site, servers_root):
    """Everything is gone but repository and keys: databases on a new server, objects in the bucket, and OK at the end."""
    site.json("backup", "--point", "before-loss")
    for name in (site.database, site.second):
        site.postgres.drop_database(name)
    for number in range(9):
        site.client.delete_object(Bucket=site.bucket, Key=f"other/{number}")
    site.client.delete_object(Bucket=site.bucket, Key="block")
    dump = f"{site.root}/console.dump"
    with PostgresServer(servers_root / f"new-{secrets.token_hex(3)}") as new:
        place = {"host=new-postgresql": f"host={new.host},port={new.port}", "/var/tmp/console.dump": dump}
        site.environment |= {"DB": new.password, "ADMIN": new.password}
        for line in commands("platform-lost.md"):
            if line.startswith(ELSEWHERE):
                continue
            if line == "drctl backup":  # the page says: write the new servers into drctl.yaml first
                text = site.config.read_text().replace(f"port: {site.postgres.port},", f"port: {new.port},")
                site.config.write_text(text)
            done = carried_out(site, line, **place)
            # no terminal here; a bucket that was just written anew
            expected = {"drctl restore": 2, "drctl backup": 3}.get(line, 0)
            assert done.returncode == expected, f"{line}: {done.stdout}{done.stderr}"
        before, site.postgres, site.dsn = site.postgres, new, new.dsn(site.database)
        found, site.postgres = state(site), before
    assert found == GOOD


def test_without_drctl_the_data_comes_out(site):
    """The script, a copy of the repository and the key are enough; PostgreSQL's own programs do the rest."""
    site.json("backup", "console-db")
    copy, dump, rescued = site.root / "copy", site.root / "console.dump", f"{site.database}_rescued"
    shutil.copytree(site.root / "repository", copy)
    programs = tools.choose(site.postgres.version)
    environment = os.environ | dict(programs.env) | {
        "PGHOST": site.postgres.host, "PGPORT": str(site.postgres.port), "PGUSER": "postgres", "PGPASSWORD": site.postgres.password,
    }  # fmt: skip
    said = []
    for written in commands("drctl-unusable.md"):
        line = written
        for old, new in (
            ("/var/tmp/copy", copy),
            ("/var/tmp/console.dump", dump),
            ("safe.key", site.root / "read.key"),
            ("conduktor_rescued", rescued),
        ):
            line = line.replace(old, str(new))
        words = line.split()
        if words[0] == "createdb":
            site.postgres.create_database(rescued)
            continue
        words[0] = sys.executable if words[0] == "python" else programs.program(words[0])
        done = subprocess.run(
            words, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, f"{line}: {done.stdout}{done.stderr}"
        said.append(done.stdout)
    assert "TABLE DATA public users" in said[2]
    assert sql.rows(site.postgres.dsn(rescued), "SELECT count(*) FROM users") == [(500,)]
