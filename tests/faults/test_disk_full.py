"""A full disk where a restore goes to: the live database is as it was, nothing half-restored stays, and a proof that found no room judges nothing."""

from __future__ import annotations

import secrets
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest

from devstack import sql
from tests.integration.test_gate import Site, drop, names

NOISE = "SELECT n AS id, md5(n::text) || md5((-n)::text) || md5((n * 7)::text) AS noise FROM generate_series(1, 60000) n"
"""Some 9 MB as a table, and little less in a snapshot."""


@contextmanager
def small_disk(megabytes: int):
    """A filesystem of a few megabytes that every user can write to."""
    place = Path(tempfile.mkdtemp(prefix="full-"))
    size = f"size={megabytes}m"
    command = ["mount", "-t", "tmpfs", "-o", f"{size},mode=1777", "tmpfs", str(place)]
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        place.rmdir()
        pytest.skip("no small filesystem can be mounted here (that needs root)")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)
        shutil.rmtree(place, ignore_errors=True)


@pytest.fixture
def site(tmp_path, postgres):
    found = Site(tmp_path, postgres)
    sql.execute(found.dsn, f"CREATE TABLE topics AS {NOISE}")
    found.environment["XDG_STATE_HOME"] = str(tmp_path / "state")
    yield found
    drop(found)


def test_a_restore_into_a_full_disk_leaves_the_live_database(site, postgres):
    """The plan refuses what does not fit; where others filled the disk meanwhile, the restore fails, says so, and drops what it had begun."""
    with small_disk(48) as disk:
        space = f"small_{secrets.token_hex(3)}"
        place = disk / "space"
        place.mkdir()
        shutil.chown(place, disk_owner(postgres))
        sql.execute(postgres.dsn(), f"CREATE TABLESPACE {space} LOCATION '{place}'")
        try:
            sql.execute(postgres.dsn(), f"ALTER DATABASE {site.database} SET TABLESPACE {space}")
            site.json("backup")
            sql.execute(site.dsn, "UPDATE users SET name = 'written since'")
            (disk / "filler").write_bytes(bytes(22 << 20))
            done = site.run("restore", "console-db", "--yes")
            assert done.returncode == 1, done.stdout + done.stderr
            assert "o space left on device" in done.stderr or "are free" in done.stderr
            assert "Traceback" not in done.stderr
            assert sql.rows(site.dsn, "SELECT DISTINCT name FROM users") == [("written since",)]
            assert left(site) == [(site.database,)]
            (disk / "filler").unlink()
            site.json("restore", "console-db", "--yes")
            assert sql.rows(site.dsn, "SELECT count(DISTINCT name) FROM users") == [(500,)]
        finally:
            drop(site)
            sql.execute(postgres.dsn(), f"DROP TABLESPACE {space}")


def left(site: Site) -> list[tuple]:
    return sql.rows(
        site.postgres.dsn(), f"SELECT datname FROM pg_database WHERE datname ~ '^{site.database}'"
    )


def disk_owner(postgres) -> str:
    """Who the server runs as."""
    return Path(f"/proc/{postgres.pid}").owner()


def test_a_proof_without_room_is_no_go_and_judges_nothing(site):
    """The snapshot is good: the gate says that it was not proved and why; no evidence says that it failed, and with room it is GO."""
    with small_disk(45) as disk:
        site.environment["TMPDIR"] = str(disk)
        gate = site.gate(code=3)
        assert names(gate) == [("proof", "console-db"), ("point", None)]
        assert "o space left on device" in gate["reasons"][0]["text"]
        assert gate["reasons"][0]["state"] == "unknown"
        assert list(disk.iterdir()) == []
        [shown] = site.json("snapshots")["snapshots"]
        assert shown["evidence"] == []
        del site.environment["TMPDIR"]
    assert site.gate("--reuse", "1h")["go"] is True
