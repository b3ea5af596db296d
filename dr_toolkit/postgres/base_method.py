"""How a base backup is read: whole, or as the server's own increment against the parent. Facts by SQL, the choice as a pure function."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from dr_toolkit.errors import SourceError
from dr_toolkit.postgres import server
from dr_toolkit.postgres.base_increment import Shape
from dr_toolkit.words import counted

FROM = 170_000
"""The first version that has native increments."""
_FIXED_IN = {17: 8, 18: 2}
"""The first minor version whose increments of files over 1 GB can be used."""
_STATE = """
    SELECT current_setting('server_version_num')::int, s.system_identifier::text, s.catalog_version_no,
           CASE WHEN pg_is_in_recovery() THEN (SELECT timeline_id FROM pg_control_checkpoint())
                ELSE ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int END,
           current_setting('data_checksums') = 'on', current_setting('block_size')::int,
           (SELECT setting::int FROM pg_settings WHERE name = 'segment_size'),
           current_setting('summarize_wal') = 'on'
    FROM pg_control_system() s
"""
_READABLE = """
    SELECT has_function_privilege('pg_available_wal_summaries()', 'EXECUTE')
           AND has_function_privilege('pg_wal_summary_contents(bigint, pg_lsn, pg_lsn)', 'EXECUTE')
"""


@dataclass(frozen=True, slots=True)
class State:
    """What must be the same, or be there, for an increment.

    Attributes:
        version: of the server, as a number.
        system: the cluster's identifier.
        catalog: version of the system catalogs.
        timeline: where the server writes WAL.
        checksums: whether pages have them.
        block: bytes of a page.
        segment: pages of a file.
        summaries: whether the server writes WAL summaries.
        readable: whether the role may read them.
    """

    version: int
    system: str
    catalog: int
    timeline: int
    checksums: bool
    block: int
    segment: int
    summaries: bool
    readable: bool

    @property
    def shape(self) -> Shape:
        """Sizes that are built into the server."""
        return Shape(self.block, self.segment)

    def document(self) -> dict[str, Any]:
        """For the snapshot's header."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Before:
    """The parent, as far as an increment depends on it.

    Attributes:
        state: the server's, then; None when the snapshot does not say.
        increments: how many there were since the cluster was last read whole.
        notes: whether it keeps what an increment needs.
        lost: how many of its packs are gone.
    """

    state: Mapping[str, Any] | None
    increments: int
    notes: bool
    lost: int = 0


def state(connection: server.Connection) -> State | None:
    """Ask the server; None where it is too old for increments, or the role may not know."""
    if connection.info.server_version < FROM:
        return None
    try:
        [row] = server.query(connection, _STATE)
        [(readable,)] = server.query(connection, _READABLE)
    except SourceError:
        return None
    values: list[Any] = [*row, readable]
    return State(*values)


def reason_for_full(now: State | None, before: Before | None, audit_every: int) -> str | None:
    """Why the cluster is read whole; None when an increment will do.

    Args:
        now: the server's state; None when it has no increments, or does not say.
        before: the parent; None without one.
        audit_every: how many increments at most before the cluster is read whole; 0 for no limit.
    """
    if before is None:
        return "there is no parent"
    if now is None:
        return "the server has no increments (PostgreSQL 17 and newer have), or does not tell its state"
    return _of_server(now) or _of_parent(now, before) or _of_count(before, audit_every)


def _of_server(now: State) -> str | None:
    if not now.summaries:
        return "the server writes no WAL summaries (summarize_wal is off)"
    if not now.readable:
        return "the role may not read WAL summaries (pg_wal_summary_contents)"
    major, minor = divmod(now.version, 10_000)
    if minor < _FIXED_IN.get(major, 0):
        return f"PostgreSQL {major}.{minor} sends increments of large tables that cannot be used; {major}.{_FIXED_IN[major]} is right"
    return None


def _of_parent(now: State, before: Before) -> str | None:
    then = before.state
    if then is None or not before.notes:
        return "the parent does not have what an increment needs"
    if before.lost:
        return f"{counted(before.lost, 'pack of the parent is', 'packs of the parent are')} gone"
    changed = {
        "system": "it is another cluster than the parent's",
        "catalog": "the server's major version changed",
        "timeline": f"the timeline changed from {then.get('timeline')} to {now.timeline}",
        "checksums": "the setting of data checksums changed",
        "block": "the size of pages changed",
        "segment": "the size of files changed",
    }
    return next((why for name, why in changed.items() if then.get(name) != getattr(now, name)), None)


def _of_count(before: Before, audit_every: int) -> str | None:
    if audit_every and before.increments >= audit_every:
        return f"audit after {before.increments} increments"
    return None
