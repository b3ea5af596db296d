"""PostgreSQL's own increments, put together by its own program: what ours is held against."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from devstack import programs
from devstack.postgres import PostgresServer
from dr_toolkit.postgres import base_start, tools
from dr_toolkit.postgres.base_start import Target

if TYPE_CHECKING:
    from dr_toolkit.postgres.connection import ConnectionSettings


class Stock:
    """One server's backups by its own programs, in directories."""

    def __init__(self, root: Path, source: PostgresServer) -> None:
        self._root, self._source = root, source
        self._count = 0

    def take(self, before: Path | None = None) -> Path:
        """A full backup, or an increment on an earlier one."""
        self._count += 1
        place = self._root / f"stock-{self._count}"
        increment = [f"--incremental={before / 'backup_manifest'}"] if before else []
        self._run("pg_basebackup", "-D", str(place), "-c", "fast", "-X", "fetch", *increment)
        return place

    def combine(self, *places: Path, verify: bool = True) -> Path:
        """What `pg_combinebackup` makes of them; `pg_verifybackup` must call it good (not without WAL)."""
        result = self._root / f"combined-{places[-1].name}"
        self._run("pg_combinebackup", *map(str, places), "-o", str(result))
        if verify:
            self._run("pg_verifybackup", "-q", str(result))
        return result

    def tar(self, target: Path, before: Path | None = None) -> None:
        """A backup as one tar, without WAL; ``before`` is the manifest that an increment is asked against."""
        increment = [f"--incremental={before}"] if before else []
        output = self._run("pg_basebackup", "-D", "-", "-F", "tar", "-c", "fast", "-X", "none", *increment)
        target.write_bytes(output)

    def _run(self, program: str, *arguments: str) -> bytes:
        source = self._source
        environment = {
            "PATH": os.defpath, "LC_ALL": "C", "PGHOST": source.host, "PGPORT": str(source.port),
            "PGUSER": source.superuser, "PGPASSWORD": source.password,
        }  # fmt: skip
        done = subprocess.run(
            [str(source._server_programs / program), *arguments],
            env=environment, capture_output=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    @contextmanager
    def running(self, place: Path) -> Iterator[ConnectionSettings]:
        """A server on a copy of a directory."""
        copy = place.with_name(f"run-{place.name}")
        shutil.copytree(place, copy, symlinks=True)
        copy.chmod(0o700)
        user = programs.unprivileged_user()
        if user is not None:
            for path in (copy, *copy.rglob("*")):
                shutil.chown(path, user)
        chosen = tools.server_tools(self._source.version, str(self._source._server_programs))
        try:
            with base_start.started(chosen, copy, Target(1, 1, "postgres", 0), user) as settings:
                yield settings
        finally:
            shutil.rmtree(copy, ignore_errors=True)
