"""What is to be restored, and which snapshot that means: the same for every kind, and free of every kind's libraries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from dr_toolkit import errors
from dr_toolkit.jobs import doubts, selection
from dr_toolkit.repository.repository import Repository
from dr_toolkit.repository.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Request:
    """What to restore, and where to.

    Attributes:
        component: its name.
        snapshot: an id; else the newest good one, or the newest not after ``at``.
        at: see ``snapshot``.
        to: None for the live database; a new database's name; a ``postgresql://`` URL; or ``file:PATH``.
        tables: only these (``schema.table``); they need ``to``.
        swap: give the live name to the restored database.
        no_owner: leave out owners and privileges.
        jobs: programs side by side.
        start: whether a restored cluster is checked, started and asked (``postgres-base``).
        prefix: only keys that begin with this (``bucket``).
        exact: delete what only the target has (``bucket``).
        diff: compare with what is live instead (``helm``).
        history: bring all versions back, and write this file with their ids (``bucket``).
        namespace: compare with what is live in this one instead (``helm``, ``secrets``).
        standby: the cluster is to follow another (``postgres-base``).
        recovery: settings of a recovery that goes on, ``NAME=VALUE`` (``postgres-base``).
    """

    component: str
    snapshot: str | None = None
    at: datetime | None = None
    to: str | None = None
    tables: tuple[str, ...] = ()
    swap: bool = True
    no_owner: bool = False
    jobs: int = 2
    start: bool = True
    prefix: str = ""
    exact: bool = False
    diff: bool = False
    history: str | None = None
    namespace: str | None = None
    standby: bool = False
    recovery: tuple[str, ...] = ()


def choose(repository: Repository, request: Request) -> tuple[Snapshot, tuple[str, ...]]:
    """The snapshot that is meant, and what speaks against it.

    Raises:
        NothingToDo: the component has none.
        SnapshotMissing: there is no such snapshot.
        Damaged: it is marked damaged, or was exchanged, and was not named.
    """
    snapshots, damaged = repository.snapshots(request.component)
    if not snapshots and not damaged:
        raise errors.NothingToDo(
            f'"{request.component}" has no snapshot to restore',
            on=request.component,
            hint="take one: drctl backup",
        )
    found = selection.choose(snapshots, request.component, snapshot_id=request.snapshot, at=request.at)
    if found.header.status != "good" and request.snapshot is None:
        raise errors.Damaged(f'snapshot "{found.id}" is marked damaged', on=found.id)
    return found, _doubts(repository, found, damaged, request)


def _doubts(
    repository: Repository, found: Snapshot, damaged: Sequence[errors.DataError], request: Request
) -> tuple[str, ...]:
    """What speaks against this snapshot; only one that was named is taken although it is not the one that was proven."""
    everything, failures = repository.snapshots()
    evidence, _unsigned = repository.evidence()
    findings = repository.missing(everything, failures)
    signed = [f for f in findings if f.named_by.startswith("evidence")]
    if request.snapshot is None and (reasons := doubts.altered(found, signed)):
        raise errors.Damaged(
            f'snapshot "{found.id}" was exchanged: {"; ".join(reasons)}',
            on=found.id,
            hint="choose another one with --snapshot; see: drctl snapshots",
            unaffected="nothing was started",
        )
    return doubts.doubts(found, damaged=damaged, findings=findings, evidence=evidence, at=request.at)
