"""Which snapshot is meant: by id, by time, or the newest good one. Pure functions of the list."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

from dr_toolkit import clock, errors
from dr_toolkit.repository.snapshot import Snapshot

SHORTEST_ID = 4


def choose(
    snapshots: Sequence[Snapshot],
    component: str,
    *,
    snapshot_id: str | None = None,
    at: datetime | None = None,
) -> Snapshot:
    """The snapshot that is meant.

    Args:
        snapshots: of the component, oldest first.
        component: for the messages.
        snapshot_id: an id, or enough of its beginning or end to be unique.
        at: the newest good one whose time is not after this.

    Raises:
        SnapshotMissing: there is none.
        UsageError: the id fits several.
    """
    if snapshot_id is not None:
        return by_id(snapshots, component, snapshot_id)
    good = [s for s in snapshots if s.header.status == "good" and (at is None or s.header.moment <= at)]
    if not good:
        moment = "" if at is None else f" from {clock.rfc3339(at)} or before"
        raise errors.SnapshotMissing(
            f'there is no good snapshot of "{component}"{moment}',
            on=component,
            hint=f"see what there is: drctl snapshots {component}",
        )
    return good[-1]


def by_id(snapshots: Sequence[Snapshot], component: str | None, wanted: str) -> Snapshot:
    """The snapshot whose id is, begins or ends with ``wanted``; ``component`` is for the messages."""
    of = f' of "{component}"' if component else ""
    see = f"drctl snapshots {component or ''}".rstrip()
    exact = [s for s in snapshots if s.id == wanted]
    partial = [
        s
        for s in snapshots
        if len(wanted) >= SHORTEST_ID and (s.id.startswith(wanted) or s.id.endswith(wanted))
    ]
    found = exact or partial
    if len(found) > 1:
        raise errors.UsageError(
            f'"{wanted}" fits {len(found)} snapshots{of}',
            hint="give more of the id",
            on=component or wanted,
        )
    if not found:
        raise errors.SnapshotMissing(
            f'there is no snapshot "{wanted}"{of}',
            on=component or wanted,
            hint=f"see what there is: {see}",
        )
    return found[0]


def check_one_namespace(elsewhere: str | None, namespaces: Collection[str], component: str) -> None:
    """Whether a snapshot's namespaces can be compared with one other. Pure.

    Raises:
        UsageError: it has several, and which of them is meant nobody said.
    """
    if elsewhere is not None and len(namespaces) > 1:
        raise errors.UsageError(
            f'"{component}" has {len(namespaces)} namespaces, and --map names one',
            on=component,
            hint="compare by hand, in a configuration for that place",
            unaffected="nothing was started",
        )
