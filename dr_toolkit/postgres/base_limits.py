"""What the server's WAL summaries say of relations that were cut: below which block a relation's old content may still be used.

``pg_basebackup --incremental`` tells the length of a file, but not where the relation was cut before it grew again. The summaries do, and
without that word rows come back that were deleted (docs/incremental-bug.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass

from dr_toolkit import clock
from dr_toolkit.errors import SourceError
from dr_toolkit.postgres import server
from dr_toolkit.postgres.base_increment import RelationFile, Shape, Unfit
from dr_toolkit.postgres.base_manifest import format_lsn, parse_lsn
from dr_toolkit.postgres.connection import ConnectionSettings

_AVAILABLE = "SELECT tli::bigint, start_lsn::text, end_lsn::text FROM pg_available_wal_summaries()"
_LIMITS = """
    SELECT c.reltablespace::bigint, c.reldatabase::bigint, c.relfilenode::bigint, c.relforknumber::int, min(c.relblocknumber)::bigint
    FROM pg_available_wal_summaries() s, LATERAL pg_wal_summary_contents(s.tli, s.start_lsn, s.end_lsn) c
    WHERE s.tli = %s AND s.end_lsn > %s::pg_lsn AND s.start_lsn < %s::pg_lsn AND c.is_limit_block
    GROUP BY 1, 2, 3, 4
"""

_STEP = 0.2
Relation = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Summary:
    """One summary: the WAL from ``start`` to ``end`` on a timeline."""

    timeline: int
    start: int
    end: int


class Limits:
    """The lowest length of each relation that was cut, in blocks of the whole fork.

    Args:
        lowest: by (tablespace, database, relation, fork).
        shape: the server's.
    """

    def __init__(self, lowest: Mapping[Relation, int], shape: Shape) -> None:
        self._lowest = lowest
        self._segment = shape.segment

    def within(self, file: RelationFile) -> int | None:
        """The limit within a file, which may be less than 0 or more than it has; None when the relation was not cut."""
        lowest = self._lowest.get(file.relation)
        return None if lowest is None else lowest - file.segment * self._segment


def uncovered(summaries: Iterable[Summary], timeline: int, start: int, end: int) -> int | None:
    """From where on no summary covers the WAL between two LSNs; None when all of it is covered. Pure."""
    position = start
    for each in sorted((s for s in summaries if s.timeline == timeline), key=lambda s: s.start):
        if each.start > position:
            break
        position = max(position, each.end)
    return position if position < end else None


def read(
    settings: ConnectionSettings, shape: Shape, timeline: int, start: int, end: int, *, patience: float = 0
) -> Limits:
    """Ask the server for the limits between two LSNs.

    Args:
        settings: the server.
        shape: its sizes.
        timeline: where both are.
        start: the first.
        end: the second.
        patience: seconds to wait for summaries that are not written yet.

    Raises:
        Unfit: the summaries do not cover it, or cannot be read.
    """
    try:
        with closing(server.connect(settings)) as session:
            server.set_timeouts(session)
            _await(session, timeline, start, end, patience)
            rows = server.query(session, _LIMITS, (timeline, format_lsn(start), format_lsn(end)))
    except Unfit:
        raise
    except SourceError as error:
        raise Unfit(f"the server's WAL summaries cannot be read: {error.message}") from error
    return Limits(
        {(space, database, number, fork): lowest for space, database, number, fork, lowest in rows}, shape
    )


def _await(session: server.Connection, timeline: int, start: int, end: int, patience: float) -> None:
    deadline = clock.monotonic() + patience
    while (gap := _gap(session, timeline, start, end)) is not None:
        if clock.monotonic() >= deadline:
            raise Unfit(f"no WAL summary covers {format_lsn(gap)} on timeline {timeline}")
        clock.sleep(_STEP)


def _gap(session: server.Connection, timeline: int, start: int, end: int) -> int | None:
    found = server.query(session, _AVAILABLE)
    return uncovered([Summary(tli, parse_lsn(a), parse_lsn(b)) for tli, a, b in found], timeline, start, end)
