"""How one base backup reads the cluster: whole, or as an increment against the parent; and what is kept for the next one."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from dr_toolkit import errors, log
from dr_toolkit.postgres import base_increment, base_limits, base_manifest, base_marks, base_method
from dr_toolkit.postgres.base_audit import Audit
from dr_toolkit.postgres.base_marks import Marks
from dr_toolkit.postgres.base_method import Before, State
from dr_toolkit.postgres.base_overlay import FILES, MarkedFiles, OverlaidFiles, Parent, PlainFiles
from dr_toolkit.postgres.connection import ConnectionSettings
from dr_toolkit.repository.chunking import FIXED
from dr_toolkit.repository.repository import Repository
from dr_toolkit.repository.snapshot import Snapshot
from dr_toolkit.repository.writer import SnapshotWriter

MANIFEST_NOTE = "backup-manifest"
FRAGMENTS = 4
"""Extents for each block of 128 KiB that a file may have on average.

Reading such a file back costs about 1.5 times the processor time of a whole one (``python -m benchmarks.fragments``; docs/benchmarks.md).
Twice as many cost 2.4 times; half as many save little, and have files read and stored again twice as often.
"""
_LOOKED_AT = 2
_PATIENCE = 60.0
"""Seconds that an audit waits for the server's summaries; an increment need not, because the server waits itself."""
_log = log.get("jobs.backup")


@dataclass(slots=True)
class Plan:
    """What one run does.

    Attributes:
        files: writes the cluster's files.
        manifest: what the server's increment is asked against; None for a full read.
        reason: why the cluster is read whole; None for an increment.
        increments: since the cluster was last read whole, this one counted.
        now: the server's state.
        audit: of a full read that is held against the parent.
        parent: the snapshot that increments are laid over, or that is audited.
    """

    files: PlainFiles | OverlaidFiles
    manifest: bytes | None
    reason: str | None
    increments: int
    now: State | None
    audit: Audit | None = None
    parent: Snapshot | None = None

    @property
    def method(self) -> str:
        """In a word."""
        return "full" if self.manifest is None else "increment"

    def keep_notes(self, writer: SnapshotWriter, manifest: bytes) -> None:
        """Keep what the next increment is asked against."""
        if isinstance(self.files, MarkedFiles | OverlaidFiles):
            writer.note(MANIFEST_NOTE, manifest)
            writer.note(base_marks.NOTE, self.files.marks.encoded())

    def document(self) -> dict[str, Any]:
        """For the snapshot's header."""
        return {
            "method": self.method,
            "reason": self.reason,
            "increments": self.increments,
            "state": self.now.document() if self.now else None,
            **({"audit": self.audit.document(self.parent.id)} if self.audit and self.parent else {}),
        }

    def settle(self, settings: ConnectionSettings, start: int) -> None:
        """After a full read: judge what only the server's summaries can tell.

        Args:
            settings: the source.
            start: of this backup.
        """
        if self.audit is None or self.now is None:
            return
        limits = None
        if self.audit.cut:
            try:
                limits = base_limits.read(
                    settings, self.now.shape, self.now.timeline, self.audit.start, start, patience=_PATIENCE
                )
            except base_increment.Unfit as why:
                _log.warning("pages that are empty now were not judged", reason=why.message)
        self.audit.settle(limits)
        _log.info("audited", pages=self.audit.pages, unexplained=self.audit.unexplained)

    def damaged(self, snapshots: Sequence[Snapshot]) -> list[Snapshot]:
        """The snapshots that an audit with a finding speaks against."""
        if self.audit is None or self.parent is None or not self.audit.unexplained:
            return []
        return lineage(self.parent, snapshots)


def lineage(last: Snapshot, snapshots: Sequence[Snapshot]) -> list[Snapshot]:
    """Increments back to the last snapshot that was read whole, and all increments upon them. Pure."""
    known = {s.id: s for s in snapshots}
    found: dict[str, Snapshot] = {}
    each: Snapshot | None = last
    while each is not None and _base_of(each).get("method") == "increment":
        found[each.id] = each
        each = known.get(each.header.parent or "")
    for other in sorted(snapshots, key=lambda s: s.id):
        if other.header.parent in found and _base_of(other).get("method") == "increment":
            found[other.id] = other
    return list(found.values())


def plan(
    repository: Repository,
    writer: SnapshotWriter,
    settings: ConnectionSettings,
    now: State | None,
    audit_every: int,
    refused: str | None,
) -> Plan:
    """Choose.

    Args:
        repository: with the parent.
        writer: of the snapshot that is made.
        settings: the source.
        now: the server's state; None when it cannot make increments.
        audit_every: how many increments at most.
        refused: why an increment was given up already.
    """
    parent = writer.parent
    base = _base_of(parent)
    before = (
        Before(base.get("state"), int(base.get("increments", 0)), _has_notes(parent), writer.lost)
        if parent
        else None
    )
    reason = refused or base_method.reason_for_full(now, before, audit_every)
    if reason is None and parent is not None and now is not None:
        try:
            return _increment(repository, writer, parent, settings, now)
        except errors.DataError as error:
            reason = f"the parent's notes cannot be used: {error.message}"
    return _whole(repository, parent, now, reason or "")


def _whole(repository: Repository, parent: Snapshot | None, now: State | None, reason: str) -> Plan:
    if now is None:
        return Plan(PlainFiles(), None, reason, 0, None)
    audit = None
    if parent is not None and auditable(_base_of(parent), now) and _has_notes(parent):
        try:
            note = repository.note(parent, base_marks.NOTE) or b""
            audit = Audit(Marks.decoded(note), base_manifest.parse_lsn(str(_base_of(parent)["start_lsn"])))
        except (errors.DataError, errors.SourceError) as error:
            _log.warning("no audit", reason=error.message)
    files = MarkedFiles(now.shape, judge=audit.judge if audit else None)
    return Plan(files, None, reason, 0, now, audit, parent)


def auditable(base: Mapping[str, Any], now: State) -> bool:
    """Whether a full read can be held against a snapshot: an increment of the same cluster, on the same timeline. Pure."""
    then = base.get("state")
    same = ("system", "timeline", "block", "segment", "catalog")
    return (
        base.get("method") == "increment"
        and isinstance(then, dict)
        and all(then.get(name) == getattr(now, name) for name in same)
    )


def _increment(
    repository: Repository, writer: SnapshotWriter, parent: Snapshot, settings: ConnectionSettings, now: State
) -> Plan:
    manifest, marks = repository.note(parent, MANIFEST_NOTE), repository.note(parent, base_marks.NOTE)
    if manifest is None or marks is None:
        raise errors.ObjectMissing("a note is not there", fault="missing")
    sizes, overlays = _files_of(repository, parent)
    base = _base_of(parent)
    old = Parent(
        sizes,
        overlays,
        Marks.decoded(marks),
        base_manifest.parse_lsn(str(base["start_lsn"])),
        int(base["timeline"]),
        partial(base_limits.read, settings, now.shape),
    )
    files = OverlaidFiles(now.shape, old, writer)
    broken = _fragmented(repository, parent, sizes, overlays)
    if broken:
        _log.info("fragmented files are read whole", files=len(broken))
    cut = base_limits.cut(settings, old.timeline, old.start)
    asked = base_manifest.for_upload(manifest, lambda path: path in broken or _sent_whole(path, cut))
    return Plan(files, asked, None, int(base.get("increments", 0)) + 1, now, parent=parent)


def _sent_whole(path: str, cut: Collection[tuple[int, int, int]] = ()) -> bool:
    """Relations that were cut, and all visibility maps: what increments say of them is not right in many versions."""
    file = base_increment.relation_file(path)
    return file is not None and (file.fork == base_increment.VISIBILITY_MAP or file.relation[:3] in cut)


def too_fragmented(extents: int, size: int) -> bool:
    """Whether a file is to be read whole: it has more than so many extents for each block that it would have then. Pure."""
    return extents > FRAGMENTS * (size // FIXED + 1)


def _fragmented(
    repository: Repository, parent: Snapshot, sizes: Mapping[str, int], overlays: Mapping[str, int]
) -> set[str]:
    """Files of the parent that are too fragmented. Only those are looked at over which several increments were laid."""
    tree, _packs = repository.trees(parent)
    found = set()
    for path in (path for path, count in overlays.items() if count >= _LOOKED_AT):
        extents = sum(1 for _extent in tree.extents(FILES + path) or ())
        if too_fragmented(extents, sizes[path]):
            found.add(path)
    return found


def _files_of(repository: Repository, parent: Snapshot) -> tuple[dict[str, int], dict[str, int]]:
    sizes, overlays = {}, {}
    tree, _packs = repository.trees(parent)
    for info in tree.entries(FILES):
        path = info.path.removeprefix(FILES)
        sizes[path] = info.size
        if count := info.meta.get("overlays"):
            overlays[path] = int(count)
    return sizes, overlays


def _has_notes(parent: Snapshot | None) -> bool:
    return parent is not None and {MANIFEST_NOTE, base_marks.NOTE} <= {row[0] for row in parent.header.notes}


def _base_of(parent: Snapshot | None) -> Mapping[str, Any]:
    base = parent.header.source.get("base") if parent else None
    return base if isinstance(base, dict) else {}
