"""What the server's WAL summaries say of relations that were cut: below which block a relation's old content may still be used.

``pg_basebackup --incremental`` tells the length of a file, but not where the relation was cut before it grew again. The summaries do, and
without that word rows come back that were deleted (docs/incremental-bug.md).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass

from dr_toolkit import clock
from dr_toolkit.errors import SourceError
from dr_toolkit.postgres import server
from dr_toolkit.postgres.base_increment import Increment, RelationFile, Shape, Unfit
from dr_toolkit.postgres.base_manifest import format_lsn, parse_lsn
from dr_toolkit.postgres.connection import ConnectionSettings

_AVAILABLE = "SELECT tli::bigint, start_lsn::text, end_lsn::text FROM pg_available_wal_summaries()"
_LIMITS = """
    WITH c AS MATERIALIZED (
        SELECT s.start_lsn, c.* FROM pg_available_wal_summaries() s, LATERAL pg_wal_summary_contents(s.tli, s.start_lsn, s.end_lsn) c
        WHERE s.tli = %s AND s.end_lsn > %s::pg_lsn AND s.start_lsn < %s::pg_lsn),
    l AS (
        SELECT reltablespace, reldatabase, relfilenode, relforknumber, min(relblocknumber) AS lowest
        FROM c WHERE is_limit_block GROUP BY 1, 2, 3, 4)
    SELECT l.reltablespace::bigint, l.reldatabase::bigint, l.relfilenode::bigint, l.relforknumber::int, l.lowest::bigint,
           CASE WHEN l.lowest > 0 THEN ARRAY(
               SELECT DISTINCT c.relblocknumber::bigint FROM c
               WHERE (c.reltablespace, c.reldatabase, c.relfilenode, c.relforknumber)
                     = (l.reltablespace, l.reldatabase, l.relfilenode, l.relforknumber)
                     AND NOT c.is_limit_block AND c.relblocknumber >= l.lowest
                     AND NOT EXISTS (
                         SELECT FROM c k
                         WHERE (k.reltablespace, k.reldatabase, k.relfilenode, k.relforknumber)
                               = (c.reltablespace, c.reldatabase, c.relfilenode, c.relforknumber)
                               AND k.is_limit_block AND k.start_lsn > c.start_lsn AND k.relblocknumber <= c.relblocknumber))
           ELSE '{}' END
    FROM l
"""
"""The lowest length of each relation that was cut, and the blocks above it that were written after they were last cut off."""
_CUT = """
    SELECT DISTINCT c.reltablespace::bigint, c.reldatabase::bigint, c.relfilenode::bigint
    FROM pg_available_wal_summaries() s, LATERAL pg_wal_summary_contents(s.tli, s.start_lsn, s.end_lsn) c
    WHERE s.tli = %s AND s.end_lsn > %s::pg_lsn AND c.is_limit_block
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
        later: blocks above that which were written after they were last cut off, in blocks of the whole fork.
    """

    def __init__(
        self,
        lowest: Mapping[Relation, int],
        shape: Shape,
        later: Mapping[Relation, Collection[int]] | None = None,
    ) -> None:
        self._lowest = lowest
        self._later = later or {}
        self._segment = shape.segment

    def within(self, file: RelationFile) -> int | None:
        """The limit within a file, which may be less than 0 or more than it has; None when the relation was not cut."""
        lowest = self._lowest.get(file.relation)
        return None if lowest is None else lowest - file.segment * self._segment

    def lacking(self, file: RelationFile, head: Increment) -> int | None:
        """A block that was written after it was cut off and that the increment does not list; None when it lists them all.

        A server puts its summaries together in the order of a directory. Where the cut comes last, it forgets what was written later.
        """
        first = file.segment * self._segment
        wanted = {b - first for b in self._later.get(file.relation, ()) if first <= b < first + head.length}
        return min(wanted - set(head.blocks), default=None) if wanted else None


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
    found = {
        (space, base, number, fork): (lowest, blocks) for space, base, number, fork, lowest, blocks in rows
    }
    return Limits({k: v[0] for k, v in found.items()}, shape, {k: v[1] for k, v in found.items() if v[1]})


def cut(settings: ConnectionSettings, timeline: int, start: int) -> frozenset[tuple[int, int, int]]:
    """Relations (tablespace, database, number) that were cut or made since an LSN, as far as the server knows by now.

    They are best sent whole: what an increment says of them is where servers are wrong.
    """
    try:
        with closing(server.connect(settings)) as session:
            server.set_timeouts(session)
            rows = server.query(session, _CUT, (timeline, format_lsn(start)))
    except SourceError:
        return frozenset()
    return frozenset((int(space), int(base), int(number)) for space, base, number in rows)


def _await(session: server.Connection, timeline: int, start: int, end: int, patience: float) -> None:
    deadline = clock.monotonic() + patience
    while (gap := _gap(session, timeline, start, end)) is not None:
        if clock.monotonic() >= deadline:
            raise Unfit(f"no WAL summary covers {format_lsn(gap)} on timeline {timeline}")
        clock.sleep(_STEP)


def _gap(session: server.Connection, timeline: int, start: int, end: int) -> int | None:
    found = server.query(session, _AVAILABLE)
    return uncovered([Summary(tli, parse_lsn(a), parse_lsn(b)) for tli, a, b in found], timeline, start, end)
