"""Looking at what is stored: lists, points, one snapshot and its difference to its parent."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from dr_toolkit import errors
from dr_toolkit.jobs import selection
from dr_toolkit.repository import pins
from dr_toolkit.repository.entries import EntryInfo
from dr_toolkit.repository.repository import Evidence, Point, Repository
from dr_toolkit.repository.snapshot import Finding, Snapshot


@dataclass(slots=True)
class Inventory:
    """Everything that is stored, and everything that is wrong with it.

    Attributes:
        snapshots: that open, oldest first.
        points: recovery points, oldest first.
        evidence: signed results by (component, snapshot id); only those whose digest fits the snapshot.
        damaged: an error for each object that does not open.
        missing: snapshots that are named and are gone or altered.
        gates: what gates said, oldest first; their evidence is a judgement and proves no snapshot.
    """

    snapshots: list[Snapshot]
    points: list[Point]
    evidence: dict[tuple[str, str], list[Evidence]]
    damaged: list[errors.DataError] = field(default_factory=list)
    missing: list[Finding] = field(default_factory=list)
    gates: list[Evidence] = field(default_factory=list)


def inventory(repository: Repository, component: str | None = None) -> Inventory:
    """List the repository. ``component`` limits what is shown, not what is checked for being missing."""
    snapshots, damaged = repository.snapshots()
    signed, unsigned = repository.evidence()
    known = {(s.header.component, s.id): s for s in snapshots}
    by_snapshot: dict[tuple[str, str], list[Evidence]] = {}
    gates = [item for item in signed if item.result.get("level") == "gate"]
    for item in signed:
        if item.result.get("level") == "gate":
            continue
        key = (str(item.result.get("component")), str(item.result.get("snapshot")))
        if key in known and item.result.get("digest") == known[key].digest_text:
            by_snapshot.setdefault(key, []).append(item)
    missing = repository.missing(snapshots, damaged)
    shown = [s for s in snapshots if component in {None, s.header.component}]
    wrong = [*damaged, *unsigned, *repository.damaged_documents(), *pins.damaged(repository)]
    return Inventory(shown, list(repository.points()), by_snapshot, wrong, missing, gates)


def found_damaged(snapshots: Iterable[Snapshot]) -> list[str]:
    """A sentence for each audit that found earlier snapshots damaged."""
    by: dict[str, list[str]] = {}
    for each in snapshots:
        if each.damaged_by is not None:
            by.setdefault(each.damaged_by, []).append(each.id)
    return [
        f'the audit of snapshot "{audit}" found {len(ids)} earlier snapshots damaged, "{ids[0]}" for one'
        for audit, ids in by.items()
    ]


def find(repository: Repository, wanted: str) -> Snapshot | Point:
    """A snapshot by id (or a unique part of it), or a point by name or id; of several with a name the one that is pinned.

    Raises:
        SnapshotMissing: there is none.
        UsageError: it fits several, or is the name of a component.
    """
    points = [p for p in repository.points() if wanted in {p.name, p.id}]
    if len(points) > 1:  # a gate that said NO-GO leaves its point, too, and the next one bears the same name
        points = pinned(repository, points) or points
    if len(points) == 1:
        return points[0]
    if points:
        ids = ", ".join(p.id for p in points)
        raise errors.UsageError(
            f'the name "{wanted}" is borne by {len(points)} points: {ids}',
            hint="give the id of the one you mean",
        )
    snapshots, _damaged = repository.snapshots()
    if any(s.header.component == wanted for s in snapshots):
        raise errors.UsageError(
            f'"{wanted}" is a component, not a snapshot', hint=f"choose one of: drctl snapshots {wanted}"
        )
    try:
        return selection.by_id(snapshots, None, wanted)
    except errors.SnapshotMissing as error:
        closed = len(repository.damaged_documents())
        raise errors.SnapshotMissing(
            f'there is neither a recovery point nor a snapshot "{wanted}"',
            on=wanted,
            hint=f"points that do not open: {closed}; see: drctl snapshots" if closed else error.hint,
        ) from None


def pinned(repository: Repository, points: Sequence[Point]) -> list[Point]:
    """Those of the points that are pinned: proven whole when they were."""
    ids = {pin.point for pin in pins.pins(repository)}
    return [point for point in points if point.id in ids]


def lsn_of(found: Snapshot) -> str | None:
    """Where the source's log stood: for a base backup where it ends, for a dump before it began. None where nothing is known."""
    source = found.header.source
    base = source.get("base")
    lsn = (base.get("end_lsn") if isinstance(base, dict) else None) or source.get("lsn")
    return lsn if isinstance(lsn, str) else None


@dataclass(frozen=True, slots=True)
class Change:
    """How one entry differs from the parent's: ``added``, ``removed``, ``changed`` or ``same``."""

    path: str
    change: str
    size: int
    size_before: int


def differences(repository: Repository, found: Snapshot, others: Sequence[Snapshot]) -> list[Change] | None:
    """Entry by entry against the parent; None when there is no parent any more."""
    parent = next((s for s in others if s.id == found.header.parent), None)
    if parent is None:
        return None
    return list(_merge(entries(repository, parent), entries(repository, found)))


def entries(repository: Repository, found: Snapshot, prefix: str = "") -> Iterator[EntryInfo]:
    """The entries of a snapshot; needs no more than the ``write`` role."""
    tree, _packs = repository.trees(found)
    return tree.entries(prefix)


def _merge(before: Iterator[EntryInfo], after: Iterator[EntryInfo]) -> Iterator[Change]:
    old, new = next(before, None), next(after, None)
    while old is not None or new is not None:
        if new is None or (old is not None and old.path.encode() < new.path.encode()):
            assert old is not None  # noqa: S101  # for the type checker: the loop's condition
            yield Change(old.path, "removed", 0, old.size)
            old = next(before, None)
        elif old is None or new.path.encode() < old.path.encode():
            yield Change(new.path, "added", new.size, 0)
            new = next(after, None)
        else:
            same = (
                old.size == new.size
                and old.meta.get("digest") == new.meta.get("digest")
                and "digest" in new.meta
            )
            yield Change(new.path, "same" if same else "changed", new.size, old.size)
            old, new = next(before, None), next(after, None)


@dataclass(frozen=True, slots=True)
class Details:
    """One snapshot, looked at closely.

    Attributes:
        snapshot: itself.
        evidence: signed results whose digest fits.
        entries: its entries, as far as asked.
        changes: against the parent; None when the parent is gone or there was none.
    """

    snapshot: Snapshot
    evidence: list[Evidence]
    entries: list[EntryInfo]
    changes: list[Change] | None


def details(repository: Repository, found: Snapshot, prefix: str = "") -> Details:
    """Everything about one snapshot that the ``write`` role may see.

    Raises:
        NothingToDo: no entry begins with ``prefix``.
    """
    signed, _unsigned = repository.evidence()
    proofs = [
        e
        for e in signed
        if e.result.get("snapshot") == found.id and e.result.get("digest") == found.digest_text
    ]
    others, _damaged = repository.snapshots(found.header.component)
    changes = differences(repository, found, others)
    if changes is not None:
        changes = [c for c in changes if c.path.startswith(prefix)]
    own = list(entries(repository, found, prefix))
    if prefix and not own and not changes:
        raise errors.NothingToDo(
            f'nothing in the snapshot begins with "{prefix}"',
            on=found.id,
            hint=f"see what is in it: drctl show {found.id}",
        )
    return Details(found, proofs, own, changes)
