"""Prove a snapshot by restoring it: restore into an empty database, dump that again, compare with what the snapshot says.

The second dump is read for its digests alone and kept nowhere.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, cast

from dr_toolkit import clock, log, process
from dr_toolkit.errors import ProgramError, SourceError, TargetError
from dr_toolkit.log import NoProgress, Progress
from dr_toolkit.postgres import compare, restore_plan
from dr_toolkit.postgres.archive import (
    Contents,
    DataBlock,
    TableSummary,
    contents,
    open_archive,
    row_multiset,
)
from dr_toolkit.postgres.archive_stream import Readable
from dr_toolkit.postgres.archive_toc import Toc
from dr_toolkit.postgres.compare import Difference, DumpFacts, Part, TableName
from dr_toolkit.postgres.connection import ConnectionSettings, credentials
from dr_toolkit.postgres.dump_environment import comparable
from dr_toolkit.postgres.restore import RestoreReport, restore_into
from dr_toolkit.postgres.restore_plan import DATA_PREFIX
from dr_toolkit.postgres.restore_program import failure
from dr_toolkit.postgres.sample import Sample, part_of
from dr_toolkit.postgres.scratch import Scratch
from dr_toolkit.postgres.tools import Tools
from dr_toolkit.repository.entries import EntryInfo, EntrySource

if TYPE_CHECKING:
    from typing_extensions import Buffer

_log = log.get("postgres.verify")

GLOBALS_PATH = "globals.sql"
TWO_FROM_BYTES = 64 << 20
"""From so much data on, the restored database is read by two dumps side by side; below, a second one costs more than it gains."""


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What a verification by restore found.

    Attributes:
        differences: failures first, then notes.
        restore: what the restore did.
        seconds: duration of ``start``, ``restore`` and ``compare``.
        notes: what was not as in the source, in plain words.
    """

    differences: tuple[Difference, ...]
    restore: RestoreReport
    seconds: dict[str, float]
    notes: tuple[str, ...] = ()

    @property
    def proven(self) -> bool:
        """Whether what was restored is what the snapshot says."""
        return not compare.failures(self.differences)


def expected_facts(source: EntrySource, toc: Toc) -> DumpFacts:
    """What a restore of this snapshot must give back, without reading its data."""
    return compare.dump_facts(toc, (info.meta for info in source.entries(DATA_PREFIX)))


def actual_facts(
    settings: ConnectionSettings,
    tools: Tools,
    *,
    aside: Sequence[TableName] = (),
    progress: Progress | None = None,
) -> DumpFacts:
    """What a database holds, by dumps that are read and not kept. Nobody else may change it meanwhile.

    Args:
        settings: the database.
        tools: client programs.
        aside: tables that a second dump reads at the same time.
        progress: told of the bytes read.

    Raises:
        TargetError: ``pg_dump`` failed.
    """
    notes = progress or NoProgress()
    if not aside:
        with _dump(settings, tools) as stream:
            found = contents(stream, on_bytes=notes.advance)
        return compare.facts_of(found.toc, found.tables, found.large_objects)
    patterns = [_pattern(name) for name in aside]
    first: Contents | None = None
    tables: dict[TableName, TableSummary] = {}
    try:
        # In this order: whatever ends the block ends the second dump too, before its reader is waited for.
        with (
            ThreadPoolExecutor(1, thread_name_prefix="drctl-compare") as pool,
            _dump(settings, tools, "--data-only", *(f"--table={pattern}" for pattern in patterns)) as other,
        ):
            second = pool.submit(contents, other, on_bytes=notes.advance)
            with _dump(
                settings, tools, *(f"--exclude-table-data={pattern}" for pattern in patterns)
            ) as stream:
                first = contents(stream, on_bytes=notes.advance)
            tables = second.result().tables
    except TargetError:
        # pg_dump refuses to dump none of the tables that it was asked for. That they are missing is for the comparison to say.
        if first is None or any(_has_table(first.toc, name) for name in aside):
            raise
    return compare.facts_of(first.toc, {**first.tables, **tables}, first.large_objects)


def _has_table(toc: Toc, name: TableName) -> bool:
    return any(entry.desc == "TABLE" and (entry.namespace or "", entry.tag) == name for entry in toc.entries)


def compare_restored(
    source: EntrySource,
    toc: Toc,
    settings: ConnectionSettings,
    tools: Tools,
    *,
    no_owner: bool = False,
    part: Part | None = None,
    two_from_bytes: int = TWO_FROM_BYTES,
    progress: Progress | None = None,
) -> list[Difference]:
    """Compare a restored database with the snapshot that it came from.

    Args:
        source: the snapshot's entries.
        toc: its table of contents.
        settings: the restored database.
        tools: client programs, best of the version that made the snapshot.
        no_owner: owners and privileges were left out.
        part: what was restored, where it was not everything.
        two_from_bytes: from so much data on it is read by two dumps side by side.
        progress: told of the bytes read.

    Returns:
        Every difference, failures first.

    Raises:
        TargetError: the database could not be dumped.
    """
    (progress or NoProgress()).start(None, "comparing")
    expected = expected_facts(source, toc)
    aside = compare.second_half(expected, at_least=two_from_bytes)
    actual = actual_facts(settings, tools, aside=aside, progress=progress)
    candidates = [
        name for name in compare.out_of_order(expected, actual) if part is None or name in part.loaded
    ]
    multisets = {name: _multisets(source, toc, settings, tools, name) for name in candidates}
    return compare.compare(expected, actual, multisets=multisets, owners=not no_owner, part=part)


def verify_restore(
    source: EntrySource,
    scratch: Scratch,
    tools: Tools,
    *,
    jobs: int = 2,
    sample: Sample | None = None,
    progress: Progress | None = None,
) -> VerifyReport:
    """Restore a snapshot into a scratch server, roles and all, and compare what it gives with what the snapshot says.

    Args:
        source: the snapshot's entries.
        scratch: a running scratch server of the source's major version.
        tools: client programs (`restore_needs.client_major` says which version).
        jobs: how many programs load data side by side.
        sample: only a part of the rows; None for everything.
        progress: told of each stage.

    Raises:
        TargetError: the snapshot could not be restored.
        Damaged: its content is.
    """
    began = clock.monotonic()
    toc = restore_plan.toc_of(source)
    scratch.create_roles(toc, _globals(source))
    settings = scratch.database_for(toc)
    prepared = clock.monotonic()
    report = restore_into(
        source, settings, tools, jobs=jobs, sample=sample, options=("--no-tablespaces",), progress=progress
    )
    restored = clock.monotonic()
    part = part_of(toc, sample, report.loaded) if sample else None
    differences = compare_restored(source, toc, settings, tools, part=part, progress=progress)
    seconds = {
        "start": round(prepared - began, 3),
        "restore": round(restored - prepared, 3),
        "compare": round(clock.monotonic() - restored, 3),
    }
    _log.info("verified by restore", differences=len(differences), **seconds)
    return VerifyReport(tuple(differences), report, seconds, tuple(scratch.notes))


def _globals(source: EntrySource) -> bytes:
    there = any(info.path == GLOBALS_PATH for info in source.entries(GLOBALS_PATH))
    return b"".join(source.read(GLOBALS_PATH)) if there else b""


def _multisets(
    source: EntrySource, toc: Toc, settings: ConnectionSettings, tools: Tools, name: TableName
) -> tuple[str, str]:
    """Order-independent digests of one table: the snapshot's and the restored database's."""
    info = next(
        info
        for info in source.entries(DATA_PREFIX)
        if (info.meta.get("schema") or "", info.meta.get("table")) == name
    )
    return _stored_multiset(source, toc, info), _dumped_multiset(settings, tools, name)


def _stored_multiset(source: EntrySource, toc: Toc, info: EntryInfo) -> str:
    """Of the stored rows, if these are the rows that were digested at the backup; else something that equals nothing.

    Both databases would agree on rows that were exchanged in the snapshot: only its digest knows better.
    """
    stream = _Stream(chain([toc.raw], source.read(info.path)))
    block = next(open_archive(stream).blocks())
    pieces = _pieces(block)
    found = row_multiset(pieces)
    for _piece in pieces:  # what follows the last row
        pass
    return found if block.summary.digest == info.meta.get("digest") else "not what was digested"


class _Stream(io.RawIOBase):
    """Pieces as a stream."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        super().__init__()
        self._pieces = pieces
        self._left = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer, /) -> int:
        view = memoryview(buffer)
        while not self._left:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._left = piece
        count = min(len(view), len(self._left))
        view[:count] = self._left[:count]
        self._left = self._left[count:]
        return count


def _dumped_multiset(settings: ConnectionSettings, tools: Tools, name: TableName) -> str:
    with _dump(settings, tools, "--data-only", f"--table={_pattern(name)}") as stream:
        for block in open_archive(stream).blocks():
            if (block.entry.namespace or "", block.entry.tag) == name:
                return row_multiset(_pieces(block))
    raise TargetError(f'table "{".".join(name)}" disappeared while it was compared')


def _pattern(name: TableName) -> str:
    # Within double quotes a pattern's characters stand for themselves.
    return ".".join('"' + part.replace('"', '""') + '"' for part in name)


def _pieces(block: DataBlock) -> Iterator[bytes]:
    yield block.header.raw
    for piece in block.pieces():
        yield bytes(piece)


@contextmanager
def _dump(settings: ConnectionSettings, tools: Tools, *options: str) -> Iterator[Readable]:
    """A dump as a stream. Its exit status is checked when the block ends without an error and the stream was read to its end."""
    argv = [
        tools.program("pg_dump"),
        *("--format=custom", "--compress=0", "--no-password"),
        *options,
    ]
    with credentials(settings) as env, process.Pipe(argv, env=comparable(env) | dict(tools.env)) as pipe:
        try:
            yield cast("Readable", pipe.stdout)
        except SourceError as error:
            # A dump that broke off: pg_dump says why, unless it is still there and we did not understand it.
            if pipe.stdout is not None and not pipe.stdout.read(1):
                _finish(pipe, settings)
            raise TargetError(
                f"the second dump cannot be read: {error.message}", on=settings.redacted()
            ) from error
        if pipe.stdout is not None and not pipe.stdout.read(1):  # else the rest was not wanted
            _finish(pipe, settings)


def _finish(pipe: process.Pipe, settings: ConnectionSettings) -> None:
    try:
        pipe.finish()
    except ProgramError as error:
        raise failure(
            "pg_dump", "reading the restored database", pipe.stderr_tail(), error, on=settings.redacted()
        ) from error
