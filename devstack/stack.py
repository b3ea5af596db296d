"""All three servers at once."""

from __future__ import annotations

import contextlib
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from devstack.bao import BaoServer
from devstack.postgres import PostgresServer
from devstack.s3 import S3Server


class Stack:
    """PostgreSQL, an S3 server and OpenBao below one directory.

    All are started from the calling thread, because a server dies with the thread that started it; they get ready side by
    side.

    Args:
        root: where; a temporary directory if not given. It is removed at the end of ``with``.
        version: PostgreSQL's major version.
        fsync: run PostgreSQL as safely, and as slowly, as in production.
    """

    def __init__(self, root: Path | None = None, *, version: int = 18, fsync: bool = False) -> None:
        self.root = root or Path(tempfile.mkdtemp(prefix="devstack-"))
        self.root.mkdir(parents=True, exist_ok=True)
        # Root starts PostgreSQL as another user, who must get through.
        self.root.chmod(0o755)
        self.postgres = PostgresServer(self.root / "postgres", version=version, fsync=fsync)
        self.s3 = S3Server(self.root / "s3")
        self.bao = BaoServer(self.root / "bao")

    def start(self) -> Self:
        """Start all servers; when one fails, those before it are removed.

        Returns:
            The stack itself.
        """
        with self._removed_on_failure():
            self.bao.begin()
            self.s3.begin()
            self.postgres.start()
            self.bao.finish()
            self.s3.finish()
        return self

    def remove(self) -> None:
        """Stop all servers and delete everything that they wrote."""
        for server in (self.postgres, self.s3, self.bao):
            server.remove()
        shutil.rmtree(self.root, ignore_errors=True)

    def environment(self) -> dict[str, str]:
        """Say how to reach the servers, in the variables that their clients read.

        Returns:
            Values by variable.
        """
        return {
            "DATABASE_URL": self.postgres.dsn(),
            "PGHOST": self.postgres.host,
            "PGPORT": str(self.postgres.port),
            "PGUSER": self.postgres.superuser,
            "PGPASSWORD": self.postgres.password,
            "AWS_ENDPOINT_URL": self.s3.endpoint,
            "AWS_REGION": self.s3.region,
            "AWS_ACCESS_KEY_ID": self.s3.access_key,
            "AWS_SECRET_ACCESS_KEY": self.s3.secret_key,
            "VAULT_ADDR": self.bao.address,
            "VAULT_TOKEN": self.bao.root_token,
        }

    def environment_lines(self) -> str:
        """Write the environment for a shell.

        Returns:
            One ``export`` a line.
        """
        return "\n".join(f"export {name}={shlex.quote(value)}" for name, value in self.environment().items())

    @contextlib.contextmanager
    def _removed_on_failure(self) -> Iterator[None]:
        with contextlib.ExitStack() as undo:
            undo.callback(self.remove)
            yield
            undo.pop_all()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.remove()
