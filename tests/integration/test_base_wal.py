"""WAL while a cluster is backed up: kept for the backup, never so much that the server's disk fills, and never lacking in silence."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest

from devstack import sql
from devstack.postgres import PostgresServer
from dr_toolkit.postgres import base_checks
from tests.base_site import BaseSite, open_directory

DRCTL = Path(sys.executable).with_name("drctl")
SETTINGS = {
    "max_replication_slots": "2",
    "max_wal_size": "64MB",
    "min_wal_size": "32MB",
    "autovacuum": "off",
    "checkpoint_completion_target": "0",
}
SLOTS = "SELECT count(*) FROM pg_replication_slots"


@pytest.fixture(scope="module")
def source() -> Iterator[PostgresServer]:
    """A server of this module's own with room for two slots."""
    place = open_directory()
    with PostgresServer(place / "pg", version=18, settings=SETTINGS) as server:
        sql.execute(
            server.dsn(),
            "CREATE TABLE t AS SELECT g AS id, md5(g::text) AS body FROM generate_series(1, 50000) g",
        )
        yield server
    shutil.rmtree(place, ignore_errors=True)


@pytest.fixture
def root() -> Iterator[Path]:
    path = open_directory()
    yield path
    shutil.rmtree(path, ignore_errors=True)


def no_slot_is_left(dsn: str) -> bool:
    """Whether the slot goes in time: the server ends a session a moment after its client is gone."""
    deadline = time.monotonic() + 60
    while sql.rows(dsn, SLOTS) != [(0,)]:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def during_a_backup(site: BaseSite, work: Callable[[], bool], *options: str, code: int = 1) -> dict:
    """The failure of a slow backup during which ``work`` was done until it said that it was enough."""
    dsn = site.source.dsn()
    with subprocess.Popen(
        [DRCTL, "-c", site.root / "job.yaml", "backup", *options, "--output", "json"],
        env=os.environ | {"DRCTL_TEST_DB": site.source.password}, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    ) as running:  # fmt: skip
        try:
            deadline = time.monotonic() + 60
            while sql.rows(dsn, "SELECT count(*) FROM pg_stat_replication WHERE state = 'backup'") != [(1,)]:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            while running.poll() is None and not work():
                assert time.monotonic() < deadline
                time.sleep(0.2)
            output, _ = running.communicate(timeout=60)
        finally:
            running.kill()
    assert running.returncode == code, output
    [failure] = json.loads(output)["failures"]
    return failure


def test_a_backup_ends_before_the_disk_is_full(source: PostgresServer, root: Path) -> None:
    """More WAL than may be held: the backup fails and says so, the slot is gone at once, and nothing became visible."""
    site = BaseSite(root, source, max_rate=512, max_wal_kept="48Mi")

    def write() -> bool:
        sql.execute(source.dsn(), "UPDATE t SET body = 'x' WHERE id = 1")
        sql.rows(source.dsn(), "SELECT pg_switch_wal()")
        return sql.rows(source.dsn(), SLOTS) == [(0,)]

    failure = during_a_backup(site, write)
    assert "fills the server's disk" in failure["message"]
    assert "48 MiB are allowed" in failure["message"]
    assert "max_wal_kept" in failure["hint"]
    assert no_slot_is_left(source.dsn())
    assert site.drctl("snapshots")["snapshots"] == []


def test_wal_that_the_server_removed_is_missed(source: PostgresServer, root: Path) -> None:
    """The server's own limit comes first: the backup ends as soon as the WAL is gone, and names the setting."""
    site = BaseSite(root, source, max_rate=512)
    source.settings["max_slot_wal_keep_size"] = "16MB"
    source.restart()

    def write() -> bool:
        for _ in range(6):
            sql.execute(source.dsn(), "UPDATE t SET body = 'y' WHERE id = 1")
            sql.rows(source.dsn(), "SELECT pg_switch_wal()")
        sql.execute(source.dsn(), "CHECKPOINT")
        return False

    try:
        failure = during_a_backup(site, write)
    finally:
        del source.settings["max_slot_wal_keep_size"]
        source.restart()
    assert "max_slot_wal_keep_size" in failure["message"]
    assert site.drctl("snapshots")["snapshots"] == []


def test_a_slot_that_cannot_be_made(
    source: PostgresServer, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slots that are all taken are seen before anything starts; taken a moment later, the error says what was to be made."""
    site = BaseSite(root, source)
    dsn = source.dsn()
    assert no_slot_is_left(dsn)
    for name in ("one", "two"):
        sql.rows(dsn, f"SELECT pg_create_physical_replication_slot('{name}')")
    try:
        [(_name, seen)] = site.outcome().failures
        assert "all 2 replication slots are in use (max_replication_slots)" in seen.message
        monkeypatch.setattr(base_checks, "problems", lambda _facts: [])
        [(_name, late)] = site.outcome().failures
        assert (
            "slot that keeps WAL for the backup cannot be made: the server refused a statement: all replication slots are in use"
            in late.message
        )
    finally:
        for name in ("one", "two"):
            sql.rows(dsn, f"SELECT pg_drop_replication_slot('{name}')")
    assert site.backup().header.status == "good"


def test_the_command_line_says_how_gently(source: PostgresServer, root: Path) -> None:
    """``--checkpoint`` and ``--max-rate`` reach the server, over what is configured; for no base backup they are wrong."""
    site = BaseSite(root, source, dumps={"dumped": "postgres"}, max_rate=1024)
    asked: list[str] = []

    def look() -> bool:
        rows = sql.rows(source.dsn(), "SELECT query FROM pg_stat_activity WHERE backend_type = 'walsender'")
        asked.extend(query for (query,) in rows)
        sql.rows(source.dsn(), "SELECT pg_terminate_backend(pid) FROM pg_stat_replication")
        return True

    during_a_backup(site, look, "base", "--max-rate", "513", "--checkpoint", "spread", code=5)
    assert "MAX_RATE 513" in asked[0]
    assert "CHECKPOINT 'fast'" not in asked[0]
    assert "postgres-base" in site.drctl("backup", "dumped", "--max-rate", "513", code=2)["error"]["message"]


def test_the_senders_that_are_needed_are_counted(source: PostgresServer, root: Path) -> None:
    """``max_wal_senders = 0`` and ``wal_level = minimal`` are refused before anything starts."""
    site = BaseSite(root, source)
    source.settings |= {"max_wal_senders": "0", "wal_level": "minimal"}
    source.restart()
    try:
        [(_name, error)] = site.outcome().failures
    finally:
        del source.settings["max_wal_senders"], source.settings["wal_level"]
        source.restart()
    assert 'wal_level is "minimal"' in error.message
    assert "all 0 WAL senders are in use (max_wal_senders)" in error.message


def on_a_small_disk(root: Path) -> None:
    """In a mount namespace of its own: ``pg_wal`` on a disk of 160 MiB. See ``test_a_full_pg_wal``."""
    with PostgresServer(root / "pg", version=18, settings=SETTINGS) as server:
        sql.execute(
            server.dsn(),
            "CREATE TABLE t AS SELECT g AS id, md5(g::text) AS body FROM generate_series(1, 50000) g",
        )
        server.stop()
        wal = server.data / "pg_wal"
        kept = wal.rename(wal.with_name("wal.kept"))
        wal.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=160m", "tmpfs", wal], check=True)
        shutil.copytree(kept, wal, dirs_exist_ok=True)
        for path in (wal, *wal.rglob("*")):
            shutil.chown(path, kept.owner(), kept.group())
        wal.chmod(0o700)
        shutil.rmtree(kept)
        server.start()
        site = BaseSite(root, server, max_rate=512)

        def write() -> bool:
            sql.execute(server.dsn(), "UPDATE t SET body = 'x' WHERE id = 1")
            sql.rows(server.dsn(), "SELECT pg_switch_wal()")
            return sql.rows(server.dsn(), SLOTS) == [(0,)]

        failure = during_a_backup(site, write)
        assert "fills the server's disk" in failure["message"], failure
        assert server.running
        sql.execute(server.dsn(), "CHECKPOINT")

        def fill() -> bool:
            with suppress(OSError), (wal / "filler").open("wb") as file:
                while True:
                    file.write(bytes(1 << 20))
            with suppress(psycopg.Error):
                while True:
                    write()
            return True

        failure = during_a_backup(site, fill, code=5)
        assert "went away" in failure["message"], failure
        assert "No space left on device" in server.log.read_text()
        (wal / "filler").unlink()
        server.stop()
        server.start()
        assert site.drctl("snapshots")["snapshots"] == []
        quick = (root / "job.yaml").read_text().replace("max_rate: 512", "")
        site.job = site._load("job", quick)
        assert site.backup().header.status == "good"
        server.stop()
        subprocess.run(["umount", wal], check=True)


def test_a_full_pg_wal(root: Path) -> None:
    """On a small disk a backup ends before its WAL fills it, and the server lives; where others fill it, the server dies, the backup
    fails with that, and with room again the next one is good.
    """
    ours = ["--map-current-user", "--keep-caps"] if os.geteuid() else []
    work = "import pathlib, sys; from tests.integration.test_base_wal import on_a_small_disk as f; f(pathlib.Path(sys.argv[1]))"
    done = subprocess.run(
        ["unshare", "--mount", *ours, sys.executable, "-c", work, root],
        cwd=Path(__file__).parents[2], env=os.environ | {"PYTHONPATH": "."}, capture_output=True, text=True, check=False, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_restarted_server_ends_the_backup(source: PostgresServer, root: Path) -> None:
    """Restarted in good order in the middle: no snapshot, no slot, and the next run is good."""
    site = BaseSite(root, source, max_rate=512)
    dsn = source.dsn()

    def restart() -> bool:
        source.restart()
        return True

    failure = during_a_backup(site, restart, code=5)
    assert "went away" in failure["message"]
    assert no_slot_is_left(dsn)
    assert site.drctl("snapshots")["snapshots"] == []
