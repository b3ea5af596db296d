"""Prove a snapshot by restoring it: restore into an empty database, dump that again, compare with what the snapshot says.

The second dump is read for its digests alone and kept nowhere.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING

from dr_toolkit import clock, log
from dr_toolkit.errors import TargetError
from dr_toolkit.log import NoProgress, Progress
from dr_toolkit.postgres import compare, early_digests, restore_plan, second_dump
from dr_toolkit.postgres.archive import DataBlock, open_archive, row_multiset
from dr_toolkit.postgres.archive_toc import Toc
from dr_toolkit.postgres.compare import Difference, DumpFacts, Part, TableName
from dr_toolkit.postgres.connection import ConnectionSettings
from dr_toolkit.postgres.early_digests import EarlyDigests
from dr_toolkit.postgres.restore import RestoreReport, restore_into
from dr_toolkit.postgres.restore_plan import DATA_PREFIX
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


def early_digests_of(source: EntrySource, settings: ConnectionSettings, tools: Tools) -> EarlyDigests:
    """What takes digests while this snapshot is being restored."""
    wanted = early_digests.worth_it(expected_facts(source, restore_plan.toc_of(source)))
    return EarlyDigests(settings, tools, wanted)


def compare_restored(
    source: EntrySource,
    toc: Toc,
    settings: ConnectionSettings,
    tools: Tools,
    *,
    no_owner: bool = False,
    part: Part | None = None,
    early: EarlyDigests | None = None,
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
        early: digests that were taken during the restore; they are used where the rows are still the same.
        two_from_bytes: from so much data on it is read by two dumps side by side.
        progress: told of the bytes read.

    Returns:
        Every difference, failures first.

    Raises:
        TargetError: the database could not be dumped.
    """
    (progress or NoProgress()).start(None, "comparing")
    expected = expected_facts(source, toc)
    actual = _actual(expected, settings, tools, early, two_from_bytes, progress)
    candidates = [
        name for name in compare.out_of_order(expected, actual) if part is None or name in part.loaded
    ]
    multisets = {name: _multisets(source, toc, settings, tools, name) for name in candidates}
    return compare.compare(expected, actual, multisets=multisets, owners=not no_owner, part=part)


def _actual(
    expected: DumpFacts,
    settings: ConnectionSettings,
    tools: Tools,
    early: EarlyDigests | None,
    two_from_bytes: int,
    progress: Progress | None,
) -> DumpFacts:
    """What the restored database holds, of which as little as possible is read again."""
    taken = early.taken if early else frozenset()
    rest = replace(expected, tables={n: t for n, t in expected.tables.items() if n not in taken})
    aside = compare.second_half(rest, at_least=two_from_bytes)
    found = second_dump.facts(settings, tools, aside=aside, without=sorted(taken), progress=progress)
    # After that dump, so that as little as possible comes between this and the swap.
    tables = dict(early.settled()) if early else {}
    again = [name for name in sorted(taken - tables.keys()) if ("TABLE", *name) in found.objects]
    if again:
        tables |= second_dump.rows(settings, tools, again)
    return replace(found, tables={**found.tables, **tables})


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
    early = early_digests_of(source, settings, tools)
    report = restore_into(
        source,
        settings,
        tools,
        jobs=jobs,
        sample=sample,
        options=("--no-tablespaces",),
        early=early,
        progress=progress,
    )
    restored = clock.monotonic()
    part = part_of(toc, sample, report.loaded) if sample else None
    differences = compare_restored(source, toc, settings, tools, part=part, early=early, progress=progress)
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
    with second_dump.opened(settings, tools, *second_dump.only([name])) as stream:
        for block in open_archive(stream).blocks():
            if (block.entry.namespace or "", block.entry.tag) == name:
                return row_multiset(_pieces(block))
    raise TargetError(f'table "{".".join(name)}" disappeared while it was compared')


def _pieces(block: DataBlock) -> Iterator[bytes]:
    yield block.header.raw
    for piece in block.pieces():
        yield bytes(piece)
