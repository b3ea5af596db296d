"""Writing a snapshot: entries go through the pipeline into packs, and the header is created last."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, Self

import msgspec

from dr_toolkit import __version__, clock, errors
from dr_toolkit.repository import known, layout, records, snapshot, stretches
from dr_toolkit.repository.catalog import PageStore, TreeWriter
from dr_toolkit.repository.entries import Cutting, EntryInfo
from dr_toolkit.repository.filling import Buffers, Filler, Hole, Keep, Open
from dr_toolkit.repository.pack_output import PackOutput
from dr_toolkit.repository.pipeline import Carry, CarryParts, End, Pipeline, Stages
from dr_toolkit.repository.record_spool import RecordSpool
from dr_toolkit.repository.records import Extent, Zeros
from dr_toolkit.repository.repository import Repository
from dr_toolkit.repository.snapshot import Header, Snapshot
from dr_toolkit.repository.stretches import Stretch
from dr_toolkit.words import counted


@dataclass(frozen=True, slots=True)
class Carried:
    """An entry of the parent.

    Attributes:
        info: of the entry.
        extents: its records; those of a large entry are read from the storage each time that they are walked through.
        present: whether all packs that it needs may be referred to again.
    """

    info: EntryInfo
    extents: Iterable[Extent | Zeros]
    present: bool


class SnapshotWriter:
    """An ``EntrySink`` that becomes a snapshot when it is committed.

    Use as a context manager: leaving it without ``commit`` leaves no snapshot, only packs that a later run adopts.

    Args:
        repository: opened with at least the ``write`` role.
        component: whose snapshot this is.
        kind: of the component.
        full: ignore the parent and everything stored: read and store all anew.
        ordered: whether entries come in ascending order of path, as ``EntrySink`` wants. Without it they may come in any order, each path
            once, and their records are kept aside until the commit.
        read_back: content of entries whose path begins so is stored by this run, and read again from the storage before the commit.
        began: the store's time when the source began to be read, if that was before this.
    """

    def __init__(
        self,
        repository: Repository,
        component: str,
        kind: str,
        *,
        full: bool = False,
        ordered: bool = True,
        read_back: str | None = None,
        began: datetime | None = None,
    ) -> None:
        self._repository = repository
        self._component = component
        self._kind = kind
        self._started = began or repository.store.now()
        self.snapshots, failures = repository.snapshots(component)
        for failure in failures:
            if failure.fault == "missing":
                raise failure  # the repository's keys were rolled back, or are incomplete: sealing to older ones is what a thief wants
        self.warnings = [f"a snapshot does not open: {failure.message}" for failure in failures]
        self.parent, future = snapshot.choose_parent(self.snapshots, self._started)
        self.warnings += future
        if full:
            self.parent = None
        self._known = known.Known(repository, component, self.parent, self._started, full=full)
        if self._known.lost:
            self.warnings.append(_lost_packs(self._known.lost))
        self._output = PackOutput(repository, component, read_back)
        self._prepare_catalog()
        self._spool = None if ordered else RecordSpool(self._tree)
        self._records = self._spool or self._tree
        self._entry: Open | None = None
        self._last_path = b""
        self.entries = self.bytes_source = 0
        self._notes: dict[str, bytes] = {}
        buffers = Buffers()
        self._stages = Stages(
            self._known,
            self._output,
            self._records,
            buffers=buffers,
            chunk_key=repository.keys.derived("chunk-id"),
            anew=read_back,
        )
        self._pipeline = Pipeline(self._stages)
        seed = int.from_bytes(repository.keys.derived("cut")[:4], "big") & 0x7FFFFFFF
        self._filler = Filler(seed, buffers, self._pipeline.add)

    def _prepare_catalog(self) -> None:
        keys = self._repository.keys
        self._pages = PageStore(keys, self._output.put)
        cut_key = keys.derived("cut")
        parents = self._repository.trees(self.parent) if self.parent else (None, None)
        self._tree = TreeWriter("entries", self._pages, cut_key, parents[0])
        self._pack_tree = TreeWriter("packs", self._pages, cut_key, parents[1])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.abort()

    def abort(self) -> None:
        """Stop the threads. Nothing becomes visible. Idempotent."""
        self._output.close()
        self._pipeline.close()
        if self._spool is not None:
            self._spool.close()

    @property
    def lost(self) -> int:
        """How many packs of the parent are gone: what they held cannot be kept."""
        return len(self._known.lost)

    @property
    def bytes_new(self) -> int:
        """Bytes of content that was not stored before; whole after ``commit``."""
        return self._stages.bytes_new

    @property
    def bytes_stored(self) -> int:
        """Bytes of all objects that this run has written so far."""
        return self._output.bytes_stored

    # -- EntrySink ----------------------------------------------------------------------------------------------------

    def begin(self, path: str, kind: str, *, cutting: Cutting = "content") -> None:
        """See ``EntrySink``."""
        self._check_path(path)
        self._entry = Open(path, kind, cutting)
        self._pipeline.add(self._entry)

    def _check_path(self, path: str) -> None:
        encoded = path.encode()
        if (
            self._entry is not None
            or not 0 < len(encoded) <= records.PATH_LIMIT
            or b"\0" in encoded
            or (self._spool is None and encoded <= self._last_path)
        ):
            raise errors.SourceError(
                f'the entry "{path}" cannot follow the one before it',
                on=path,
                unaffected="nothing was committed",
            )
        self._last_path = encoded

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """See ``EntrySink``."""
        self._filler.write(self._current(), memoryview(data))

    def room(self, least: int = 1) -> memoryview:
        """See ``PouringSink``."""
        return self._filler.room(self._current(), least)

    def filled(self, size: int) -> None:
        """See ``PouringSink``."""
        self._filler.filled(self._current(), size)

    def cut(self) -> None:
        """See ``EntrySink``."""
        self._filler.finish(self._current())

    def end(self, meta: Mapping[str, Any]) -> None:
        """See ``EntrySink``."""
        entry = self._current()
        self._filler.finish(entry)
        if len(msgspec.json.encode(meta)) > records.META_LIMIT:
            raise errors.SourceError(
                f'the facts about "{entry.path}" are too large',
                on=entry.path,
                unaffected="nothing was committed",
            )
        self._pipeline.add(End(entry, meta))
        self._entry = None
        self.entries += 1
        self.bytes_source += entry.size

    def keep(self, length: int) -> None:
        """See ``OverlaySink``."""
        entry = self._current()
        self._between(entry, Keep(entry, entry.size, length))

    def zeros(self, length: int) -> None:
        """See ``OverlaySink``."""
        entry = self._current()
        self._between(entry, Hole(entry, entry.size, length))

    def _between(self, entry: Open, part: Keep | Hole) -> None:
        """Content that waits shares its chunk with what comes after the part: a page by itself would be a chunk by itself."""
        if not part.length:
            return
        if entry.cutting == "private":
            self._filler.finish(entry)
        if self._filler.waiting:
            entry.gap(part, self._filler.waiting)
            return
        entry.size += part.length
        entry.handed = entry.size
        self._pipeline.add(part)

    def note(self, name: str, content: bytes) -> None:
        """Keep what the next backup must read, beside the snapshot (docs/format.md, section 9)."""
        self._notes[name] = content

    # -- what the parent has ------------------------------------------------------------------------------------------

    def parent_entries(self, start: str = "") -> Iterator[Carried]:
        """The parent's entries in order of path, those from ``start`` on; nothing without a parent."""
        if self.parent is None:
            return
        tree, _packs = self._repository.trees(self.parent)
        for info, extents in tree.whole_entries(start):
            present = all(self._known.keeps(e.pack) for e in extents if isinstance(e, Extent))
            yield Carried(info, extents, present)

    def parent_stretches(self) -> Iterator[Stretch]:
        """The parent's entries, many at a time; nothing without a parent."""
        if self.parent is None:
            return iter(())
        tree, _packs = self._repository.trees(self.parent)
        return stretches.stretches(tree)

    def keeps(self, packs: Iterable[bytes]) -> bool:
        """Whether all of these packs may be referred to again."""
        return all(self._known.keeps(pack_id) for pack_id in packs)

    def carried(self, stretch: Stretch, number: int) -> Carried:
        """One entry of a stretch by itself."""
        return Carried(stretch.info(number), stretch.extents(number), self.keeps(stretch.packs_of(number)))

    def carry_stretch(self, stretch: Stretch, start: int, end: int) -> None:
        """Take the entries of a stretch from ``start`` up to ``end`` over; they must sort after every earlier one."""
        self._check_path(stretch.begins[start].path)
        self._last_path = stretch.begins[end - 1].path.encode()
        for part in stretch.parts(start, end):
            self._pipeline.add(CarryParts(part))
        self.entries += end - start
        self.bytes_source += sum(finish.size for finish in stretch.finishes[start:end])

    def adopted(self, path: str) -> Carried | None:
        """The entry of this path that a killed run stored as a whole; whoever carries it looks whether it is still the same."""
        found = self._known.whole(path)
        return Carried(found.info, found.extents, present=True) if found else None

    def carry(self, carried: Carried) -> None:
        """Take an entry of the parent over, with no content read. Its path must sort after every earlier one."""
        self._check_path(carried.info.path)
        self._pipeline.add(Carry(carried.info, carried.extents))
        self.entries += 1
        self.bytes_source += carried.info.size

    def _current(self) -> Open:
        if self._entry is None:
            raise errors.SourceError("content was written outside of an entry", on=self._component)
        return self._entry

    # -- the commit ---------------------------------------------------------------------------------------------------

    def commit(
        self,
        source: Mapping[str, Any],
        warnings: Sequence[str] = (),
        *,
        status: Literal["good", "damaged"] = "good",
        found_damaged: Sequence[Snapshot] = (),
    ) -> Snapshot:
        """Make everything durable, then create the header.

        Args:
            source: the source's facts, a few KiB.
            warnings: for people, kept in the header.
            status: ``damaged`` when the source itself reported damage.
            found_damaged: earlier snapshots that this run found damaged.

        Raises:
            CommitRefused: the deadline has passed, or the keys were rotated meanwhile; no snapshot was made.
        """
        if self._entry is not None:
            raise errors.SourceError(f'the entry "{self._entry.path}" was not ended', on=self._entry.path)
        self._pipeline.finish()
        entries_root = self._records.finish()
        self._output.flush()
        for use in self._output.uses():
            self._pack_tree.add(use.pack.hex(), records.BEGIN, use)
        packs_root = self._pack_tree.finish()
        self._pages.flush()
        self._output.wait()
        self._output.read_again()
        moment, behind = snapshot.next_time(self.snapshots, self._started)
        deadline = self._known.oldest(self._started) + timedelta(
            seconds=self._repository.keys.identity.grace_seconds / 2
        )
        snapshot_id = layout.new_timed_id(moment)
        notes = [self._repository.put_note(snapshot_id, *note) for note in self._notes.items()]
        header = Header(
            id=snapshot_id,
            component=self._component,
            kind=self._kind,
            time=clock.rfc3339(moment),
            started=clock.rfc3339(self._started),
            commit_by=clock.rfc3339(deadline),
            parent=self.parent.id if self.parent else None,
            status=status,
            keys=self._repository.keys_reference(),
            entries=entries_root,
            packs=packs_root,
            entry_count=self.entries,
            bytes_source=self.bytes_source,
            bytes_new=self.bytes_new,
            bytes_stored=self.bytes_stored + sum(stored for _row, stored in notes),
            seen=snapshot.unnamed(self.snapshots),
            notes=[row for row, _stored in notes],
            warnings=[*self.warnings, *behind, *warnings],
            source=dict(source),
            tool=f"drctl {__version__}",
            found_damaged=snapshot.still_damaged(self.snapshots, found_damaged),
        )
        return self._create(header, deadline)

    def _create(self, header: Header, deadline: datetime) -> Snapshot:
        repository = self._repository
        repository.check_epoch_is_current()
        now = repository.store.now()
        late = "run it again: what was sent is not sent again"
        if now > deadline:
            raise errors.CommitRefused(
                f"the backup took until {clock.rfc3339(now)}, later than its commit deadline {clock.rfc3339(deadline)}",
                on=self._component,
                hint=late,
                unaffected="no snapshot was made; the repository is as it was",
            )
        made = repository.put_header(header)
        modified = repository.store.head(layout.snapshot_name(header.component, header.id)).modified
        if modified > deadline + timedelta(seconds=1):
            raise errors.CommitRefused(
                f'snapshot "{header.id}" appeared at {clock.rfc3339(modified)}, later than its commit deadline {clock.rfc3339(deadline)}',
                on=self._component,
                hint=f"check that nothing it needs was pruned: drctl verify {header.component} --data; and run the backup again",
            )
        return made


def _lost_packs(lost: Collection[bytes]) -> str:
    return (
        f"{counted(len(lost), 'pack of earlier snapshots is', 'packs of earlier snapshots are')} gone or cut off, {layout.pack_name(min(lost))} for one: what they held "
        "is stored again, and the earlier snapshots are damaged; see: drctl verify"
    )
