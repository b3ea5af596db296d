"""Back up a whole cluster: ``pg_basebackup``'s tar stream as entries of a snapshot, one for each file."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal, Protocol, cast

from dr_toolkit import log, process
from dr_toolkit.errors import DrctlError, ProgramError, SourceError, SourceUnreachable
from dr_toolkit.postgres import base_manifest
from dr_toolkit.postgres.base_increment import Unfit
from dr_toolkit.postgres.base_manifest import WalRange
from dr_toolkit.postgres.base_overlay import PlainFiles
from dr_toolkit.postgres.base_slot import HeldWal
from dr_toolkit.postgres.base_tar import Member, Readable, TarStream
from dr_toolkit.postgres.connection import ConnectionSettings, credentials
from dr_toolkit.postgres.tools import Tools
from dr_toolkit.repository.entries import PouringSink

MANIFEST = "backup_manifest"
PROGRAM = "pg_basebackup"

_log = log.get("postgres.base")
_WAL = re.compile(r"pg_wal/([0-9A-F]{24})")
_CHECKSUMS = re.compile(r"checksum error occurred|checksum verification fail", re.IGNORECASE)
_INCREMENT = re.compile(
    r"ERROR: +([^\n]*(?:WAL summar|manifest|incremental backup|WAL summarization)[^\n]*)", re.IGNORECASE
)
"""What a server says that does not have what an increment needs."""
_ERROR = re.compile(r"(?:ERROR|FATAL|PANIC): +([^\n]+)")
_GONE = re.compile(
    r"server closed the connection|terminating connection|could not connect|connection to server .* failed|"
    r"could not receive data|the database system is|no connection to the server|COPY stream ended before",
    re.IGNORECASE,
)


@dataclass(slots=True)
class BaseBackup:
    """What was written.

    Attributes:
        files: how many.
        directories: how many.
        wal: sizes of WAL segments, by name.
        ranges: WAL that recovery needs.
        damaged: what the server said about page checksums; None when all were right.
        manifest: the server's own, verbatim.
    """

    files: int = 0
    directories: int = 0
    wal: dict[str, int] = field(default_factory=dict)
    ranges: list[WalRange] = field(default_factory=list)
    damaged: str | None = None
    manifest: bytes = b""

    @property
    def target(self) -> WalRange:
        """The last range: its end and timeline are what recovery must reach."""
        return self.ranges[-1]


class FileWriter(Protocol):
    """Writes the files of a cluster as entries."""

    def write(self, member: Member, stream: TarStream, sink: PouringSink) -> None:
        """Write one file or directory, whose content is the stream's next."""


def read_cluster(
    settings: ConnectionSettings,
    sink: PouringSink,
    tools: Tools,
    *,
    segment_size: int,
    checkpoint: Literal["fast", "spread"] = "fast",
    max_rate: int | None = None,
    on_bytes: Callable[[int], None] | None = None,
    files: FileWriter | None = None,
    increment_of: bytes | None = None,
    held: HeldWal | None = None,
) -> BaseBackup:
    """Read a cluster into a sink that takes entries in any order. Whoever opened the sink commits or aborts it.

    Args:
        settings: the source.
        sink: takes the entries.
        tools: with a ``pg_basebackup`` of the server's version or newer.
        segment_size: bytes of a WAL segment.
        checkpoint: how the server makes its checkpoint.
        max_rate: KiB each second at most.
        on_bytes: told the number of bytes after each read.
        files: writes each file; else as the server sends it.
        increment_of: ask for an increment against the backup that this manifest is of.
        held: WAL that is held on the server; the backup ends when it becomes too much.

    Raises:
        Unfit: the increment that was asked for cannot be had or used.
        SourceUnreachable: the server went away.
        SourceError: ``pg_basebackup`` failed, ended early, or WAL that recovery needs is not in the stream.
    """
    with (
        _manifest_file(increment_of) as earlier,
        credentials(settings) as env,
        process.Pipe([*_arguments(tools, checkpoint, max_rate), *earlier], env=env | dict(tools.env)) as pipe,
    ):
        made, writer = BaseBackup(), files or PlainFiles()
        if held is not None:
            held.ends(pipe.ask_to_end)
        try:
            stream = TarStream(cast("Readable", pipe.stdout), on_bytes)
            for member in stream.members():
                if member.path == MANIFEST:
                    made.manifest = b"".join(stream.content())
                else:
                    writer.write(member, stream, sink)
                    _count(member, made)
        except SourceError:
            if held is not None:
                held.check()
            # Where the stream has ended, pg_basebackup says why. Where it has not, it would wait for us for ever.
            if pipe.stdout is not None and not pipe.stdout.read(1):
                _finish(pipe, settings, made)
            raise
        if held is not None:
            held.check()
        _finish(pipe, settings, made)
    _check(made, segment_size)
    return _with_manifest(sink, made)


def _with_manifest(sink: PouringSink, made: BaseBackup) -> BaseBackup:
    sink.begin(MANIFEST, "manifest", cutting="fixed")
    sink.write(made.manifest)
    sink.end({})
    return made


def _arguments(tools: Tools, checkpoint: str, max_rate: int | None) -> list[str]:
    return [
        tools.program(PROGRAM),
        *("--pgdata=-", "--format=tar", "--wal-method=fetch", "--no-password", "--label=drctl"),
        f"--checkpoint={checkpoint}",
        *([f"--max-rate={max_rate}"] if max_rate else []),
    ]


@contextmanager
def _manifest_file(manifest: bytes | None) -> Iterator[list[str]]:
    """The option for an increment: ``pg_basebackup`` reads the earlier manifest from a file."""
    if manifest is None:
        yield []
        return
    with tempfile.NamedTemporaryFile(prefix="drctl-manifest-") as file:
        file.write(manifest)
        file.flush()
        yield [f"--incremental={file.name}"]


def _count(member: Member, made: BaseBackup) -> None:
    if member.kind == "directory":
        made.directories += 1
        return
    made.files += 1
    if found := _WAL.fullmatch(member.path):
        made.wal[found[1]] = member.size


def _check(made: BaseBackup, segment_size: int) -> None:
    if not made.manifest:
        raise SourceError("the server sent no backup manifest", unaffected="no snapshot was made")
    made.ranges = base_manifest.wal_ranges(made.manifest)
    missing = base_manifest.missing_segments(made.ranges, segment_size, made.wal)
    if missing:
        raise SourceError(
            f"{len(missing)} WAL segments that recovery needs are not in the backup, {missing[0]} for one",
            on=missing[0],
            hint="run the backup again",
            unaffected="no snapshot was made",
        )
    _log.debug("cluster read", files=made.files, end=base_manifest.format_lsn(made.target.end))


def _finish(pipe: process.Pipe, settings: ConnectionSettings, made: BaseBackup) -> None:
    """Insist on a good end; a server that reports damaged pages has sent everything, and is told apart."""
    try:
        pipe.finish()
    except ProgramError as error:
        if _CHECKSUMS.search(error.stderr):
            made.damaged = _first_warning(error.stderr)
            return
        raise _explained(error, settings) from error


def _first_warning(stderr: str) -> str:
    lines = [line.strip() for line in stderr.splitlines() if _CHECKSUMS.search(line)]
    return lines[0][:300] if lines else "checksum error"


def _explained(error: ProgramError, settings: ConnectionSettings) -> DrctlError:
    on, told = settings.redacted(), _ERROR.search(error.stderr)
    # The last line may be a hint, which says nothing by itself.
    said = told[1].strip() if told else error.message
    if _GONE.search(error.stderr):
        return SourceUnreachable(
            f"the server went away during the backup: {said}", on=on, unaffected="no snapshot was made"
        )
    hint = None
    if found := _INCREMENT.search(error.stderr):
        return Unfit(f"the server cannot make the increment: {found[1].strip()}", on=on)
    if "pg_hba.conf" in error.stderr:
        hint = 'pg_hba.conf needs a line for the database "replication" and the backup\'s role'
    elif "permission denied" in error.stderr or "must be superuser or replication" in error.stderr:
        hint = "the backup's role needs REPLICATION"
    return SourceError(f"pg_basebackup failed: {said}", on=on, hint=hint, unaffected="no snapshot was made")
