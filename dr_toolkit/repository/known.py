"""What need not be sent again: chunks of the parent, of this run, and of packs that a killed run left.

No global index: the parent's extents are looked at through a window that moves along with the entry, so memory does not grow with the
size of the repository (docs/format.md, section 13).
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import msgspec

from dr_toolkit import clock, errors, log
from dr_toolkit.repository import layout, pack
from dr_toolkit.repository.catalog_reader import TreeReader
from dr_toolkit.repository.entries import EntryInfo
from dr_toolkit.repository.records import Extent, PackUse, Zeros
from dr_toolkit.repository.repository import Repository
from dr_toolkit.repository.snapshot import Snapshot
from dr_toolkit.repository.store import ListedObject

WINDOW = 16384
"""Extents of the parent kept on either side of the place last matched: 1 GiB each way."""
RECENT = 16384
"""Chunks of this run that are remembered."""
WHOLES_LIMIT = 50_000
"""Entries adopted as a whole at most; the others are read again, and not stored again."""
ADOPTED_LIMIT = 200_000
"""Frames adopted at most: 12 GiB of content in some 60 MB of memory."""


class Place(msgspec.Struct, frozen=True, gc=False):
    """Where a chunk is: pack id, frame number, frame offset, frame length; and the chunk's length."""

    pack: bytes
    frame: int
    offset: int
    length: int
    chunk_length: int


def place_of(extent: Extent) -> Place:
    """The place that an extent names."""
    return Place(extent.pack, extent.frame, extent.frame_offset, extent.frame_length, extent.chunk_length)


class ParentWindow:
    """Chunk ids of the parent's entry of the same path, near the place where the backup is.

    Args:
        entries: the parent's entries tree; None without a parent.
        avoid: packs whose chunks are to be stored again, because the parent uses less than half of them, or they are gone.
    """

    def __init__(self, entries: TreeReader | None, avoid: Collection[bytes]) -> None:
        self._entries = entries
        self._avoid = avoid
        self._extents: Iterator[Extent] = iter(())
        self._order: deque[tuple[int, bytes]] = deque()
        self._places: dict[bytes, tuple[int, Place]] = {}
        self._read = 0
        self._path: str | None = None

    def begin(self, path: str) -> None:
        """Move to another entry."""
        self._order.clear()
        self._places.clear()
        self._read = 0
        self._extents = iter(())
        self._path = path

    def _open(self) -> None:
        """Look at the parent's entry: not before something is asked, because most of an increment's entries ask nothing."""
        found = self._entries.extents(self._path) if self._entries and self._path is not None else None
        self._path = None
        self._extents = (e for e in found or () if isinstance(e, Extent))
        self._fill(WINDOW)

    def find(self, chunk_id: bytes) -> Place | None:
        """The chunk's place, if the window holds it."""
        if self._path is not None:
            self._open()
        found = self._places.get(chunk_id)
        if found is None:
            return None
        number, place = found
        self._fill(number + WINDOW)
        while self._order and self._order[0][0] < number - WINDOW:
            gone, old = self._order.popleft()
            if self._places.get(old, (-1, None))[0] == gone:
                del self._places[old]
        return place

    def _fill(self, to: int) -> None:
        while self._read < to:
            extent = next(self._extents, None)
            if extent is None:
                return
            if extent.pack not in self._avoid:
                self._order.append((self._read, extent.chunk_id))
                self._places[extent.chunk_id] = (self._read, place_of(extent))
            self._read += 1


class KeptExtents:
    """Parts of the parent's entries, for entries that take them over. Within an entry they are asked for in ascending order.

    Args:
        entries: the parent's entries tree; None without a parent.
    """

    def __init__(self, entries: TreeReader | None) -> None:
        self._entries = entries
        self._path: str | None = None
        self._walk: Iterator[Extent | Zeros] = iter(())
        self._ahead: Extent | Zeros | None = None

    def cut(self, path: str, offset: int, length: int) -> Iterator[Extent | Zeros]:
        """What covers ``length`` bytes at ``offset``.

        Raises:
            Damaged: the parent's entry does not reach so far.
        """
        if path != self._path:
            self._path, self._ahead = path, None
            self._walk = (self._entries.extents(path) if self._entries else None) or iter(())
        end = offset + length
        while offset < end:
            if self._ahead is None or self._ahead.offset + self._ahead.length <= offset:
                self._ahead = next(self._walk, None)
                if self._ahead is None:
                    raise errors.Damaged(
                        f'the parent\'s entry "{path}" is shorter than it was', fault="structure", on=path
                    )
                continue
            part = part_of(self._ahead, offset, end)
            yield part
            offset += part.length


def part_of(extent: Extent | Zeros, start: int, end: int) -> Extent | Zeros:
    """The part of an extent that lies between two offsets of its entry; itself when that is all of it."""
    first, last = max(start, extent.offset), min(end, extent.offset + extent.length)
    if (first, last) == (extent.offset, extent.offset + extent.length):
        return extent
    if isinstance(extent, Zeros):
        return Zeros(first, last - first)
    moved = extent.start + first - extent.offset
    return msgspec.structs.replace(extent, offset=first, length=last - first, start=moved)


class Recent:
    """The last chunks of this run."""

    def __init__(self) -> None:
        self._places: OrderedDict[bytes, Place] = OrderedDict()

    def add(self, chunk_id: bytes, place: Place) -> None:
        """Remember a chunk."""
        self._places[chunk_id] = place
        if len(self._places) > RECENT:
            self._places.popitem(last=False)

    def find(self, chunk_id: bytes) -> Place | None:
        """The chunk's place, if it is remembered."""
        return self._places.get(chunk_id)


@dataclass(frozen=True, slots=True)
class Whole:
    """An entry of a killed run that was stored as a whole."""

    info: EntryInfo
    extents: list[Extent]


@dataclass(slots=True)
class Adopted:
    """Frames of packs that no snapshot refers to yet, left by a killed run.

    Attributes:
        places: by chunk id.
        sizes: of the packs, by pack id.
        ages: modification times of the packs, by pack id.
        wholes: entries that are in one of the packs as a whole, by path.
    """

    places: dict[bytes, Place]
    sizes: dict[bytes, int]
    ages: dict[bytes, datetime]
    wholes: dict[str, Whole] = field(default_factory=dict)

    def find(self, chunk_id: bytes) -> Place | None:
        """The chunk's place, if a pack of a killed run holds it."""
        return self.places.get(chunk_id)


def adopt(
    repository: Repository,
    listed: Iterable[ListedObject],
    component: str,
    used: Collection[bytes],
    now: datetime,
    since: datetime | None,
) -> Adopted:
    """Open the footers of packs that may be left of a killed run of ``component``.

    Args:
        repository: footers come from here.
        listed: the objects in the folder of packs.
        component: whose content is wanted.
        used: packs that the parent refers to.
        now: the store's time.
        since: when the parent's run began; older packs belong to it or to earlier ones. None without a parent.
    """
    adopted = Adopted({}, {}, {})
    oldest = now - timedelta(seconds=repository.keys.identity.grace_seconds / 4)
    for item in listed:
        pack_id = layout.parse_pack_name(item.name)
        if (
            pack_id is None
            or pack_id in used
            or item.modified < oldest
            or (since is not None and item.modified < since)
        ):
            continue
        try:
            footer = repository.footer(pack_id, item.size)
        except errors.DataError as error:
            log.get(__name__).warning("pack not adopted", pack=item.name, reason=error.message)
            continue
        # The header's epoch is the footer's; packs of an earlier epoch may be of a writer that was removed since.
        if footer.epoch == repository.keys.current.epoch and any(
            s.get("component") == component for s in footer.sources
        ):
            _take(adopted, footer, pack_id, item.size, item.modified)
        if len(adopted.places) > ADOPTED_LIMIT:
            break
    return adopted


def _take(adopted: Adopted, footer: pack.Footer, pack_id: bytes, size: int, modified: datetime) -> None:
    offset = pack.HEADER_SIZE
    extents: dict[int, list[Extent]] = {}
    for number, (chunk_id, chunk_length, frame_length, source, start) in enumerate(footer.frames):
        adopted.places[chunk_id] = Place(pack_id, number, offset, frame_length, chunk_length)
        if "meta" in footer.sources[source]:
            extents.setdefault(source, []).append(
                Extent(start, chunk_length, chunk_id, 0, chunk_length, pack_id, number, offset, frame_length)
            )
        offset += frame_length
    adopted.sizes[pack_id], adopted.ages[pack_id] = size, modified
    for source, found in extents.items():
        whole = _whole(footer.sources[source], found)
        if whole is not None and len(adopted.wholes) < WHOLES_LIMIT:
            adopted.wholes[whole.info.path] = whole


def _whole(source: Mapping[str, Any], extents: list[Extent]) -> Whole | None:
    """The entry that a footer speaks of, if its frames are all of it."""
    path, kind, size, meta = (source.get(name) for name in ("path", "kind", "size", "meta"))
    ends = [extent.offset + extent.length for extent in extents]
    follows = [extent.offset for extent in extents] == [0, *ends[:-1]]
    if not (isinstance(path, str) and isinstance(kind, str) and isinstance(meta, dict)):
        return None
    if not follows or ends[-1] != size:
        return None
    return Whole(EntryInfo(path, kind, ends[-1], meta), extents)


class Known:
    """All of it together: the parent's window, this run's chunks, adopted packs.

    Args:
        repository: opened with at least the ``write`` role.
        component: whose backup runs.
        parent: the newest good snapshot, or None.
        started: the store's time when the run began.
        full: know nothing.
    """

    def __init__(
        self,
        repository: Repository,
        component: str,
        parent: Snapshot | None,
        started: datetime,
        *,
        full: bool,
    ) -> None:
        entries = None
        self._packs: dict[bytes, PackUse] = {}
        if parent is not None:
            entries, packs = repository.trees(parent)
            self._packs = {use.pack: use for use in packs.packs()}
        self.lost = set(self._packs)
        """Packs that the parent refers to and that are gone, or not of their size: what they held is stored again."""
        self._recent = Recent()
        self._adopted = Adopted({}, {}, {})
        self._oldest_used: datetime | None = None
        if not full:
            since = clock.parse_rfc3339(parent.header.started) if parent else None
            listed = self._listed(repository)
            self._adopted = adopt(repository, listed, component, self._packs.keys(), started, since)
            for _rest in listed:
                pass
        avoid = self.lost | {pack for pack, use in self._packs.items() if _is_sparse(use)}
        self._avoid = avoid
        self._window = ParentWindow(entries, avoid)
        self._kept = KeptExtents(entries)

    def _listed(self, repository: Repository) -> Iterator[ListedObject]:
        for item in repository.store.list(layout.PACKS):
            pack_id = layout.parse_pack_name(item.name)
            use = self._packs.get(pack_id) if pack_id else None
            if use is not None and use.size == item.size:
                self.lost.discard(use.pack)
            yield item

    @property
    def nothing(self) -> bool:
        """Whether nothing is known but what this run has stored: there is no parent, and nothing was adopted."""
        return not self._packs and not self._adopted.places

    def begin(self, path: str) -> None:
        """The next lookups are for the entry ``path``."""
        self._window.begin(path)

    def find(self, chunk_id: bytes) -> Place | None:
        """Where the chunk is already, or None."""
        place = self._window.find(chunk_id) or self._recent.find(chunk_id)
        if place is None:
            place = self._adopted.find(chunk_id)
            if place is not None:
                age = self._adopted.ages[place.pack]
                self._oldest_used = min(age, self._oldest_used or age)
        return place

    def whole(self, path: str) -> Whole | None:
        """The entry of this path, if a killed run stored it as a whole. Whoever takes it over looks whether it is still the same."""
        return self._adopted.wholes.get(path)

    def adopts(self, pack_id: bytes) -> None:
        """Note that an adopted pack is referred to: its age bounds the commit."""
        age = self._adopted.ages.get(pack_id)
        if age is not None:
            self._oldest_used = min(age, self._oldest_used or age)

    def keeps(self, pack_id: bytes) -> bool:
        """Whether the parent's chunks in this pack may be referred to again: it is there, and still well used."""
        return pack_id in self._packs and pack_id not in self._avoid

    def kept(self, path: str, offset: int, length: int) -> Iterator[Extent | Zeros]:
        """The parent's extents of that part of its entry."""
        return self._kept.cut(path, offset, length)

    def remember(self, chunk_id: bytes, place: Place) -> None:
        """A chunk was stored by this run."""
        self._recent.add(chunk_id, place)

    def size_of(self, pack_id: bytes) -> int | None:
        """The size of a pack that this run did not write."""
        use = self._packs.get(pack_id)
        return use.size if use else self._adopted.sizes.get(pack_id)

    def oldest(self, started: datetime) -> datetime:
        """What the commit deadline counts from: the run's start, or the oldest pack that was adopted."""
        return min(started, self._oldest_used or started)


def _is_sparse(use: PackUse) -> bool:
    """Whether the parent uses less than half of a pack: its chunks are then stored again, so that the pack dies."""
    return use.used * 2 < use.size - pack.HEADER_SIZE
