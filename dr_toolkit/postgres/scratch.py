"""A throw-away PostgreSQL: private, on a Unix socket only, and gone when the block ends or drctl dies.

::

    with ScratchServer(17) as scratch:
        settings = scratch.database_for(toc)
        restore_into(source, settings, scratch.tools)
"""

from __future__ import annotations

import secrets
import signal
from pathlib import Path
from types import TracebackType
from typing import Self

from dr_toolkit import clock, log, process
from dr_toolkit.errors import DrctlError, ProgramError, TargetError
from dr_toolkit.postgres import restore_needs, scratch_places, scratch_roles, server, swap_settings
from dr_toolkit.postgres.archive_toc import Toc
from dr_toolkit.postgres.connection import ConnectionSettings
from dr_toolkit.postgres.restore_target import session
from dr_toolkit.postgres.scratch_places import clean_leftovers
from dr_toolkit.postgres.tools import Tools, server_tools

__all__ = ["ScratchServer", "clean_leftovers"]

_log = log.get("postgres.scratch")

SUPERUSER = "drctl_scratch"
_PORT = 5432
_START_SECONDS = 60.0
_STEP = 0.02
SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "50",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "1h",
    "shared_buffers": "128MB",
    "maintenance_work_mem": "128MB",
    "autovacuum": "off",
    "timezone": "UTC",
    "log_min_messages": "error",
    "max_prepared_transactions": "0",
}


class Scratch:
    """A PostgreSQL server whose content nobody needs, with a database for each thing that is tried.

    Attributes:
        tools: the programs in use, client programs among them.
        settings: how to reach its maintenance database as superuser.
        notes: what is not as in the source, in plain words.
    """

    settings: ConnectionSettings
    tools: Tools

    def __init__(self) -> None:
        self.notes: list[str] = []
        self._databases = 0

    def trouble(self, error: TargetError) -> TargetError | None:  # noqa: ARG002 - of a server that is not ours nothing is known
        """Whether the server, and not what it was given, is why something failed; None where that is not known."""
        return None

    def database_for(self, toc: Toc) -> ConnectionSettings:
        """Create an empty database with the encoding and locale of the snapshot's source, and say how to reach it.

        Where this installation lacks the locale, it is C, and `notes` says so.

        Raises:
            TargetError: the server refuses.
        """
        self._databases += 1
        name = f"scratch{self._databases}"
        with session(self.settings) as connection:
            wanted = swap_settings.create_from(connection, toc, name)
            try:
                server.query(connection, _plain(wanted))
            except DrctlError as error:
                self.notes.append(
                    f"the scratch database has the locale C, because the source's is not available here: {error.message}"
                )
                plain = "CREATE DATABASE {name} TEMPLATE template0 ENCODING {encoding} LC_COLLATE 'C' LC_CTYPE 'C'"
                server.query(
                    connection,
                    server.statement(plain, name=server.identifier(name), encoding=toc.encoding),
                )
        return self.settings.for_database(name)

    def create_roles(self, toc: Toc, globals_script: bytes) -> None:
        """Make the roles of the snapshot: those of its globals, and others that its archive names.

        What cannot be made here (tablespaces, settings of modules that are not installed) is told in `notes`.
        """
        needed = restore_needs.owners(toc) | restore_needs.grantees(toc) | restore_needs.named_roles(toc)
        with session(self.settings) as connection:
            self.notes += scratch_roles.apply(connection, globals_script, needed)


class ScratchServer(Scratch):
    """A PostgreSQL server of one major version that exists for one ``with`` block.

    Args:
        major: the major version.
        programs: directory with that version's server programs; None to look for them.
        tools: the programs themselves, if already chosen.
        parent: where to make its directory; None for the system's place for temporary files.

    Raises:
        SourceError: no programs of that version.
        TargetError: it cannot be started here.
    """

    def __init__(
        self,
        major: int,
        *,
        programs: str | None = None,
        tools: Tools | None = None,
        parent: Path | None = None,
    ) -> None:
        super().__init__()
        self.tools = tools or server_tools(major, programs)
        self._parent = parent
        self._user = scratch_places.unprivileged_user()
        self._password = secrets.token_urlsafe(24)
        self._place: scratch_places.Place | None = None
        self._pipe: process.Pipe | None = None

    def __enter__(self) -> Self:
        scratch_places.check_programs(self.tools.program("postgres"), self._user)
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def directory(self) -> Path:
        """Where it lives."""
        if self._place is None:
            raise TargetError("the scratch server is not running")
        return self._place.directory

    def trouble(self, error: TargetError) -> TargetError | None:
        """Whether the server, and not what it was given, is why something failed: no room, or it is gone."""
        if self._pipe is None or self._place is None:
            return None
        said = self._pipe.stderr_tail()
        if (found := scratch_places.trouble(error, self._place.directory, said)) is not None:
            return found
        if self._pipe.running():
            return None
        return TargetError(
            f"the scratch server ended by itself: {_last(said)}",
            hint="look at free memory, and at the limits of this machine or container",
            unaffected="the snapshot was not judged; the scratch place is removed",
        )

    def stop(self) -> None:
        """End the server at once and remove all of it. May be called twice."""
        try:
            if self._pipe is not None:
                self._pipe.stop()
        finally:
            if self._place is not None:
                self._place.remove()
            self._pipe, self._place = None, None

    def _start(self) -> None:
        self._place = scratch_places.Place(self._user, self._parent)
        began = clock.monotonic()
        directory = self._place.directory
        self._initialize(directory)
        data = directory / "data"
        self._pipe = process.Pipe(
            [self.tools.program("postgres"), "-D", str(data), "-k", str(directory)],
            env=self._environment(),
            user=self._user,
            stdout=False,
            cwd="/",
            end_signal=signal.SIGQUIT,  # nothing of it is worth an orderly end
        )
        self.settings = ConnectionSettings(
            hosts=((str(directory), _PORT),),
            database="postgres",
            user=SUPERUSER,
            password=self._password,
            sslmode="disable",
        )
        self._wait_until_ready(data)
        _log.info("scratch server started", version=self.tools.version, seconds=clock.monotonic() - began)

    def _initialize(self, directory: Path) -> None:
        password_file = directory / "password"
        password_file.touch(mode=0o600)
        password_file.write_text(self._password + "\n")
        if self._user is not None:
            scratch_places.give(password_file, self._user)
        argv = [
            self.tools.program("initdb"),
            *("-D", str(directory / "data"), "-U", SUPERUSER, f"--pwfile={password_file}"),
            *("--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync"),
        ]
        try:
            process.run(argv, env=self._environment(), user=self._user, cwd="/", timeout=_START_SECONDS)
        except ProgramError as error:
            raise _not_started(error.stderr or error.message) from error
        finally:
            password_file.unlink()
        lines = "".join(f"{name} = '{value}'\n" for name, value in SETTINGS.items())
        with (directory / "data" / "postgresql.conf").open("a") as file:
            file.write(lines)

    def _wait_until_ready(self, data: Path) -> None:
        deadline = clock.monotonic() + _START_SECONDS
        while clock.monotonic() < deadline:
            if self._pipe is None or not self._pipe.running():
                break
            if _says_ready(data):
                return
            clock.sleep(_STEP)
        raise _not_started(self._pipe.stderr_tail() if self._pipe else "")

    def _environment(self) -> dict[str, str]:
        return {"PATH": f"{self.tools.directory}:/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC", **self.tools.env}


def _plain(statement: str) -> str:
    """Without the source's tablespace, which a scratch server does not have."""
    head, _, tail = statement.rpartition(" TABLESPACE = ")
    return head if head and "'" not in tail else statement


def _says_ready(data: Path) -> bool:
    """What ``pg_ctl`` looks at; line 8 is the server's state."""
    try:
        lines = (data / "postmaster.pid").read_text().splitlines()
    except OSError:
        return False
    return len(lines) > 7 and lines[7].strip() == "ready"  # noqa: PLR2004 - the file's eighth line


def _last(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return "; ".join(lines[-3:]) or "it said nothing"


def _not_started(said: str) -> TargetError:
    return TargetError(
        f"the scratch server could not be started: {_last(said)}",
        hint="look at free memory and disk, and at the limits of this machine or container",
        unaffected="nothing but the scratch place was touched",
    )
