"""The databases that backups are tried on."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from devstack import data, sql
from devstack.postgres import PostgresServer


def dumped(server: PostgresServer, database: str) -> str:
    argv = [server.bin_dir / "pg_dump", "--restrict-key=same", server.dsn(database)]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


def events_digest(server: PostgresServer, database: str) -> str:
    rows = sql.rows(server.dsn(database), "SELECT events::text FROM audit.events ORDER BY id")
    return hashlib.sha256("\n".join(row for (row,) in rows).encode()).hexdigest()


def restored(server: PostgresServer, source: str, target: str, tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    dsn = server.dsn(source, user=data.BACKUP_ROLE, password="backup password")
    subprocess.run([server.bin_dir / "pg_dump", "-Fc", "-f", archive, dsn], check=True)
    into = server.dsn(target, user=data.RESTORE_ROLE, password="restore password")
    subprocess.run([server.bin_dir / "pg_restore", "--exit-on-error", "-d", into, archive], check=True)


def test_the_seed_decides_every_row(postgres: PostgresServer, new_database: Callable[[], str]) -> None:
    """Two databases with one seed dump the same text, also after the same changes; another seed gives other rows."""
    same, again, other = new_database(), new_database(), new_database()
    for name, seed in ((same, 1), (again, 1), (other, 2)):
        data.fill_console_like(postgres.dsn(name), scale=0.02, seed=seed)
        data.append_events(postgres.dsn(name), 0.01)
        data.update_events(postgres.dsn(name), 0.1)
    assert dumped(postgres, same) == dumped(postgres, again)
    assert events_digest(postgres, same) != events_digest(postgres, other)


def test_the_rows_grow_with_the_scale(postgres: PostgresServer, database: str) -> None:
    """Flyway's history is complete at any scale; the audit log is the largest table."""
    dsn = postgres.dsn(database)
    data.fill_console_like(dsn, scale=0.05)
    assert sql.rows(dsn, "SELECT max(version::int), bool_and(success) FROM public.flyway_schema_history") == [
        (112, True)
    ]
    assert sql.rows(dsn, "SELECT count(*) FROM audit.events") == [(3500,)]
    largest = "SELECT relname FROM pg_class WHERE relkind = 'r' ORDER BY pg_relation_size(oid) DESC LIMIT 1"
    assert sql.rows(dsn, f"{largest}") == [("events",)]


def test_changes_are_as_large_as_asked_for(postgres: PostgresServer, database: str) -> None:
    """A part of the audit log is appended, or changed all over."""
    dsn = postgres.dsn(database)
    data.fill_console_like(dsn, scale=0.2)
    assert data.append_events(dsn, 0.01) == 140
    assert 90 < data.update_events(dsn, 0.01) < 200
    assert sql.rows(dsn, "SELECT count(*) FROM audit.events WHERE revision > 0")[0][0] > 90


@pytest.mark.parametrize("fill", [data.fill_console_like, data.unusual_database])
def test_the_roles_back_up_and_restore(
    postgres: PostgresServer, new_database: Callable[[], str], tmp_path: Path, fill: Callable[[str], None]
) -> None:
    """With the roles' rights a dump and a restore go through, and the copy dumps the same text."""
    source, target = new_database(), new_database()
    fill(postgres.dsn(source))
    data.backup_role(postgres.dsn(source), "backup password", bypass_rls=fill is data.unusual_database)
    data.restore_role(postgres.dsn(source), "restore password")
    restored(postgres, source, target, tmp_path)
    # A dump has no settings and privileges of the database itself, so nothing else may differ.
    assert dumped(postgres, source) == dumped(postgres, target)


def test_the_backup_role_changes_nothing(postgres: PostgresServer, database: str) -> None:
    """It reads every table and cannot write one; a second call gives it another password."""
    data.fill_console_like(postgres.dsn(database), scale=0.01)
    for password in ("first", "it's \\ second"):
        data.backup_role(postgres.dsn(database), password)
    dsn = postgres.dsn(database, user=data.BACKUP_ROLE, password="it's \\ second")
    assert sql.rows(dsn, "SELECT count(*) FROM audit.events") == [(700,)]
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        sql.execute(dsn, "DELETE FROM audit.events")
    with pytest.raises(psycopg.OperationalError, match="password"):
        sql.rows(postgres.dsn(database, user=data.BACKUP_ROLE, password="first"), "SELECT 1")
