"""``SIGKILL`` at each stage of a cluster's increment, and in the middle of its restore: what was good stays good, and the next run goes on."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from devstack import sql
from devstack.postgres import PostgresServer
from tests.base_site import COMPONENT, BaseSite, ask, base_of, open_directory

DRCTL = Path(sys.executable).with_name("drctl")
SUM = "SELECT count(*), sum(id), md5(string_agg(body, '|' ORDER BY id)) FROM t"
TRAPPED = """
import os, signal, sys
from dr_toolkit.cli import main
from dr_toolkit.postgres.base_slot import HeldWal
from dr_toolkit.repository.file_store import FileStore

folder, after = sys.argv[1], sys.argv[2] == "after"
put = FileStore.put

def trapped(self, name, data):
    if name.startswith(folder) and not after:
        os.kill(os.getpid(), signal.SIGKILL)
    put(self, name, data)
    if name.startswith(folder):
        os.kill(os.getpid(), signal.SIGKILL)

FileStore.put = trapped
if folder == "slot":
    HeldWal.ends = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
sys.exit(main.run(sys.argv[3:]))
"""
STAGES = [
    ("slot", "before"), ("packs/", "after"), ("notes/", "before"), ("catalogs/", "after"), ("snapshots/", "before")
]  # fmt: skip


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    path = open_directory()
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="module")
def site(root: Path) -> Iterator[BaseSite]:
    """A cluster with a snapshot, on a server that makes increments."""
    settings = {"summarize_wal": "on", "autovacuum": "off"}
    with PostgresServer(root / "pg", version=18, settings=settings) as server:
        sql.execute(
            server.dsn(),
            "CREATE TABLE t (id int PRIMARY KEY, body text)",
            "INSERT INTO t SELECT g, md5(g::text) FROM generate_series(1, 20000) g",
        )
        made = BaseSite(root, server)
        made.backup()
        yield made


def killed(site: BaseSite, folder: str, when: str) -> None:
    """A backup by the write role that dies there."""
    arguments = [sys.executable, "-c", TRAPPED, folder, when, "-c", site.root / "job.yaml", "backup"]
    environment = os.environ | {"DRCTL_TEST_DB": site.source.password}
    done = subprocess.run(
        arguments, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


def snapshots(site: BaseSite) -> list[str]:
    return [path.name for path in (site.root / "repository" / "snapshots" / COMPONENT).iterdir()]


@pytest.mark.parametrize(
    ("folder", "when"), STAGES, ids=[f"{when}-{folder.strip('/')}" for folder, when in STAGES]
)
def test_killed_before_the_commit(site: BaseSite, folder: str, when: str) -> None:
    """No snapshot, no slot that holds WAL, no program that still reads; the next run is an increment against the same parent."""
    dsn = site.source.dsn()
    sql.execute(dsn, f"UPDATE t SET body = '{when} {folder}' WHERE id % 7 = 0")
    before = snapshots(site)
    killed(site, folder, when)
    assert snapshots(site) == before
    deadline = time.monotonic() + 30
    while sql.rows(
        dsn, "SELECT (SELECT count(*) FROM pg_replication_slots) + (SELECT count(*) FROM pg_stat_replication)"
    ) != [(0,)]:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    taken = site.backup()
    assert (taken.header.parent, base_of(taken)["method"]) == (max(before), "increment")


def test_killed_after_the_commit(site: BaseSite) -> None:
    """The header is there: so is the snapshot, and the next one is against it. After all those kills the content is the source's."""
    sql.execute(site.source.dsn(), "UPDATE t SET body = 'committed' WHERE id % 9 = 0")
    before = snapshots(site)
    killed(site, "snapshots/", "after")
    [made] = set(snapshots(site)) - set(before)
    taken = site.backup()
    assert taken.header.parent == made
    with site.running(taken) as settings:
        assert ask(settings, SUM, "postgres") == sql.rows(site.source.dsn(), SUM)
    assert site.drctl("verify", "--data")["results"][0]["result"] == "passed"


def test_a_killed_restore_goes_on(site: BaseSite, root: Path) -> None:
    """Killed twice while it writes, nothing can be started on what is there; the third run ends as the first would have."""
    place = root / "restored"
    command = [
        DRCTL,
        "-c",
        site.root / "people.yaml",
        "restore",
        COMPONENT,
        "--to",
        place,
        "--output",
        "json",
    ]
    environment = os.environ | {"DRCTL_TEST_DB": site.source.password}
    for some in (50, 300):
        with subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as running:
            while running.poll() is None and sum(1 for _ in place.rglob("*")) < some:
                time.sleep(0.002)
            running.kill()
        assert not (place / "global" / "pg_control").exists()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert json.loads(done.stdout)["restored"]["started"] is True, done.stdout + done.stderr
    assert not list(place.rglob("*drctl*"))
