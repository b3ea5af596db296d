"""Back up one database: ``pg_dump``'s archive and the server's globals, as entries of a snapshot."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from dr_toolkit import log, process
from dr_toolkit.errors import DrctlError, ProgramError, SourceError, SourceUnreachable
from dr_toolkit.postgres.connection import ConnectionSettings, credentials
from dr_toolkit.postgres.dump_check import SourceSnapshot, source_snapshot
from dr_toolkit.postgres.dump_environment import comparable
from dr_toolkit.postgres.dump_wait import FIRST_S, lock_holders, told_while_waiting
from dr_toolkit.postgres.globals import Globals, read_globals, write_globals
from dr_toolkit.postgres.server import LARGE_OBJECTS
from dr_toolkit.postgres.tools import Tools
from dr_toolkit.repository.entries import PouringSink

if TYPE_CHECKING:
    from dr_toolkit.postgres.archive_stream import Readable
    from dr_toolkit.postgres.dump_entries import DumpedArchive

LOCK_WAIT_S = 300

_log = log.get("postgres.dump")

_GONE = re.compile(
    r"server closed the connection|terminating connection|connection to server .* failed|could not connect|"
    r"could not receive data|SSL SYSCALL error|the database system is|no connection to the server",
    re.IGNORECASE,
)
_LOCKED = re.compile(r"timeout.*LOCK TABLE", re.DOTALL)
_COMPLAINT = re.compile(r"pg_dump(all)?: (error|detail): ")
_LINE_LIMIT = 300
_LINES = 4


@dataclass(frozen=True, slots=True)
class Dump:
    """What a backup of a database wrote.

    Attributes:
        archive: tables, large objects and sizes.
        tools: the programs that were used.
        checked: whether row counts were compared with the source's by SQL.
        warnings: what a person should know, in plain words.
    """

    archive: DumpedArchive
    tools: Tools
    checked: bool
    warnings: tuple[str, ...]


class RunningDump:
    """A ``pg_dump`` that was started and is read by `write`; made by `running`."""

    def __init__(
        self,
        settings: ConnectionSettings,
        tools: Tools,
        pipe: process.Pipe,
        snapshot: SourceSnapshot | None,
        lock_wait_s: float,
    ) -> None:
        self._settings = settings
        self._tools = tools
        self._pipe = pipe
        self._snapshot = snapshot
        self._lock_wait_s = lock_wait_s

    def write(
        self,
        sink: PouringSink,
        *,
        tell_after_s: float = FIRST_S,
        on_bytes: Callable[[int], None] | None = None,
    ) -> Dump:
        """Write the archive's entries, then the globals. Whoever opened the sink commits or aborts it.

        Args:
            sink: takes the entries.
            tell_after_s: how long ``pg_dump`` may wait before the log tells whom it waits for.
            on_bytes: told the number of bytes after each read, for progress.

        Raises:
            SourceUnreachable: the server went away.
            SourceError: ``pg_dump`` failed, ended early, or the source has other rows than the dump.
            UnknownFormat: ``pg_dump`` wrote an archive that is not known.
        """
        # pg_dumpall's few questions are asked while the tables are read: at the end everybody would wait for them.
        with ThreadPoolExecutor(1, thread_name_prefix="drctl-globals") as beside:
            archive, asked = self._archive(sink, beside, tell_after_s, on_bytes)
            _log.debug("archive read", tables=len(archive.tables), bytes=archive.size)
            if self._snapshot is not None:
                self._snapshot.compare(archive.tables)
            try:
                found = asked.result()
            except ProgramError as error:
                raise _explained(error, self._settings) from error
        write_globals(found, sink)
        warnings = self._settings.warnings + found.warnings
        return Dump(archive, self._tools, self._snapshot is not None, warnings)

    def _archive(
        self,
        sink: PouringSink,
        beside: Executor,
        tell_after_s: float,
        on_bytes: Callable[[int], None] | None,
    ) -> tuple[DumpedArchive, Future[Globals]]:
        # pg_dump asks the server for a while before it writes: time enough to import numpy.
        from dr_toolkit.postgres.archive import open_archive  # noqa: PLC0415
        from dr_toolkit.postgres.dump_entries import write_archive  # noqa: PLC0415

        pipe, settings = self._pipe, self._settings
        try:
            with told_while_waiting(settings, self._lock_wait_s, first_s=tell_after_s):
                opened = open_archive(cast("Readable", pipe.stdout), on_bytes=on_bytes)
            asked = beside.submit(read_globals, settings, self._tools)
            archive = write_archive(opened, sink)
        except SourceError:
            # Where the stream has ended, pg_dump says why. Where it has not, pg_dump would wait for us for ever.
            if pipe.stdout is not None and not pipe.stdout.read(1):
                _finish(pipe, settings)
            raise
        _finish(pipe, settings)
        return archive, asked


@contextmanager
def running(
    settings: ConnectionSettings,
    tools: Tools,
    *,
    encoding: str | None = None,
    check_source: bool = False,
    lock_wait_s: float = LOCK_WAIT_S,
) -> Iterator[RunningDump]:
    """Start ``pg_dump``, which asks the server for a while before there is anything to read; it ends with the block.

    Args:
        settings: the source.
        tools: client programs that fit the source (`tools.choose`).
        encoding: the database's own. Without it ``pg_dump`` writes in what the role's settings ask for, and no later dump has
            the same digests.
        check_source: also count every table's rows by SQL, in the same snapshot.
        lock_wait_s: how long to wait for a table that somebody has locked.

    Raises:
        SourceUnreachable: the server went away.
        ProgramError: ``pg_dump`` cannot be started.
    """
    with ExitStack() as stack:
        snapshot = stack.enter_context(source_snapshot(settings)) if check_source else None
        env = stack.enter_context(credentials(settings))
        pipe = process.Pipe(
            _arguments(tools, lock_wait_s, encoding, snapshot),
            env=comparable(env) | dict(tools.env),
            bulk=True,
        )
        stack.enter_context(pipe)
        yield RunningDump(settings, tools, pipe, snapshot, lock_wait_s)


def _arguments(
    tools: Tools, lock_wait_s: float, encoding: str | None, snapshot: SourceSnapshot | None
) -> list[str]:
    arguments = [
        tools.program("pg_dump"),
        "--format=custom",
        "--compress=0",  # every version understands this; "none" only 16 and newer
        "--no-password",
        f"--lock-wait-timeout={int(lock_wait_s * 1000)}",
    ]
    if encoding:
        arguments.append(f"--encoding={encoding}")
    return [*arguments, f"--snapshot={snapshot.name}"] if snapshot else arguments


def _finish(pipe: process.Pipe, settings: ConnectionSettings) -> None:
    try:
        pipe.finish()
    except ProgramError as error:
        raise _explained(error, settings) from error


def _explained(error: ProgramError, settings: ConnectionSettings) -> DrctlError:
    said = _said(error.stderr)
    message = f"{error.message.partition(':')[0]}: {said}" if said else error.message
    place, unaffected = settings.redacted(), "no snapshot was made; earlier ones are as they were"
    if _GONE.search(error.stderr):
        return SourceUnreachable(
            message, on=place, hint="look at the server, then run the backup again", unaffected=unaffected
        )
    if _LOCKED.search(error.stderr):
        message += f"; locks are held by {lock_holders(settings)}"
    return SourceError(message, on=place, hint=_hint(error.stderr), unaffected=unaffected)


def _said(stderr: str) -> str:
    """What a program of PostgreSQL complained about, without the queries that it quotes."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    told = [line for line in lines if _COMPLAINT.match(line)] or lines[-2:]
    return " ".join(line[:_LINE_LIMIT] for line in told[:_LINES])


def _hint(stderr: str) -> str | None:
    if "permission denied for large object" in stderr:
        return LARGE_OBJECTS
    if "permission denied" in stderr:
        return (
            "the backup's role needs pg_read_all_data (PostgreSQL 14 and newer), or SELECT on what is named"
        )
    if "row-level security" in stderr or "row security" in stderr:
        return "the backup's role needs BYPASSRLS, or the dump would leave rows out"
    if _LOCKED.search(stderr):
        return (
            "something holds a lock on a table, a migration for example; run the backup again when it is done"
        )
    return None
