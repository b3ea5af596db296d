"""Reading a snapshot: the catalog names frames, frames are fetched in runs, opened, checked, cut and given out in order."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Self

from dr_toolkit import errors
from dr_toolkit.repository import layout, pack
from dr_toolkit.repository.entries import EntryInfo
from dr_toolkit.repository.records import Extent, Zeros
from dr_toolkit.repository.repository import Repository
from dr_toolkit.repository.snapshot import Snapshot
from dr_toolkit.repository.stretches import Stretch, stretches

RUN_LIMIT = 4 << 20
"""Content of one fetch at most."""
GAP_LIMIT = 64 << 10
"""Unwanted bytes between two frames that are fetched along rather than by a second request."""
AHEAD = 3
"""Fetches under way for each entry that is being read."""
PIECE_LIMIT = 1 << 20
BATCH_ENTRIES = 1024
"""Small entries that are fetched together at most."""
OPENED_PACKS = 256


_Place = tuple[bytes, int, int, int, int, bytes]
"""All that an extent claims of its frame: two that differ in anything are opened and checked apart."""


def _place(extent: Extent) -> _Place:
    return (
        extent.pack,
        extent.frame_offset,
        extent.frame,
        extent.frame_length,
        extent.chunk_length,
        extent.chunk_id,
    )


@dataclass(slots=True)
class _Run:
    """Successive extents that are fetched together.

    Where increments were laid over a file its parts alternate between packs, and several are of one frame: a run opens each frame once.

    Attributes:
        offset: of the first one.
        extents: each with the place of its frame.
        places: how many extents are of each frame.
        length: bytes to hold at once.
    """

    offset: int = 0
    extents: list[tuple[Extent | Zeros, _Place | None]] = field(default_factory=list)
    places: dict[_Place, int] = field(default_factory=dict)
    length: int = 0

    def add(self, part: Extent | Zeros) -> None:
        """Join one more, whatever its length."""
        place = _place(part) if isinstance(part, Extent) else None
        if place is None:
            self.length += part.length
        else:
            if place not in self.places:
                self.length += max(place[4], place[3])
            self.places[place] = self.places.get(place, 0) + 1
        self.extents.append((part, place))

    def spans(self) -> Iterator[list[_Place]]:
        """Frames that lie close together in one pack, to be fetched by one request."""
        span: list[_Place] = []
        end = 0
        for place in sorted(self.places):
            pack_id, offset, _frame, length, *_chunk = place
            if span and (pack_id != span[0][0] or offset > end + GAP_LIMIT):
                yield span
                span = []
            end = max(end, offset + length) if span else offset + length
            span.append(place)
        if span:
            yield span


@dataclass(slots=True)
class _Batch:
    """Entries whose content is fetched together.

    Attributes:
        run: all of their extents.
        entries: each with the number of extents up to its end; None for one that is not fetched.
        parts: how many extents there are.
    """

    run: _Run = field(default_factory=_Run)
    entries: list[tuple[EntryInfo, int | None]] = field(default_factory=list)
    parts: int = 0
    future: Future[list[bytes]] | None = None

    def contents(self) -> Iterator[tuple[EntryInfo, bytes | None]]:
        """Wait for it."""
        pieces, start = self.future.result() if self.future else [], 0
        for info, end in self.entries:
            if end is None:
                yield info, None
                continue
            yield info, pieces[start] if end == start + 1 else b"".join(pieces[start:end])
            start = end

    def cancel(self) -> None:
        """It is not wanted any more."""
        if self.future is not None:
            self.future.cancel()


class Packs:
    """Opened packs: content keys are unsealed once and kept. Safe to use from several threads."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._opened: OrderedDict[bytes, pack.OpenedPack] = OrderedDict()
        self._lock = threading.Lock()

    def open(self, pack_id: bytes) -> pack.OpenedPack:
        """The pack, its content key at hand (role ``read``)."""
        with self._lock:
            found = self._opened.get(pack_id)
            if found is not None:
                self._opened.move_to_end(pack_id)
                return found
        name = layout.pack_name(pack_id)
        header = self._repository.store.get_range(name, 0, pack.HEADER_SIZE)
        opened = pack.open_pack(header, name, self._repository.keys)
        with self._lock:
            self._opened[pack_id] = opened
            while len(self._opened) > OPENED_PACKS:
                self._opened.popitem(last=False)
        return opened


class SnapshotReader:
    """A ``ScatteredSource``.

    Use as a context manager. ``read`` may be called from several threads at once.

    Args:
        repository: opened with the ``read`` role.
        snapshot: which.
        threads: that fetch and open.
    """

    def __init__(self, repository: Repository, snapshot: Snapshot, threads: int = 4) -> None:
        self.snapshot = snapshot
        self._repository = repository
        self._tree, _packs = repository.trees(snapshot)
        self._packs = Packs(repository)
        self._chunk_key = repository.keys.derived("chunk-id")
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="drctl-get")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def entries(self, prefix: str = "") -> Iterator[EntryInfo]:
        """See ``EntrySource``."""
        return self._tree.entries(prefix)

    def read(self, path: str) -> Iterator[bytes]:
        """See ``EntrySource``."""
        return self._stream(self._extents_of(path))

    def deliver(self, path: str, take: Callable[[int, Iterator[bytes]], None]) -> None:
        """See ``ScatteredSource``."""
        waiting: deque[Future[None]] = deque()
        held: _Run | None = None
        try:
            for run in _runs(self._extents_of(path)):
                if held is not None:
                    waiting.append(self._pool.submit(self._hand, held, take))
                    if len(waiting) > AHEAD:
                        waiting.popleft().result()
                held = run
            if held is not None:
                self._hand(held, take)  # the last, or the only one, here: most files of a cluster are small
            while waiting:
                waiting.popleft().result()
        finally:
            wait(
                [future for future in waiting if not future.cancel()]
            )  # whoever takes may close its file now

    def _extents_of(self, path: str) -> Iterator[Extent | Zeros]:
        extents = self._tree.extents(path)
        if extents is None:
            raise errors.DataError(
                f'snapshot "{self.snapshot.id}" has no entry "{path}"',
                on=path,
                hint=f"list what it holds: drctl show {self.snapshot.id}",
            )
        return extents

    def _hand(self, run: _Run, take: Callable[[int, Iterator[bytes]], None]) -> None:
        take(run.offset, self._open(run))

    def read_many(self, wanted: Iterable[EntryInfo], most: int) -> Iterator[tuple[EntryInfo, bytes | None]]:
        """See ``BulkSource``. What lies together in a pack is fetched by one request, whosever it is."""
        waiting: deque[_Batch] = deque()
        batch = _Batch()
        try:
            for info, extents in self._placed(wanted, most):
                for extent in extents or ():
                    for part in _bounded(extent):
                        batch.run.add(part)
                        batch.parts += 1
                batch.entries.append((info, None if extents is None else batch.parts))
                if batch.run.length >= RUN_LIMIT or len(batch.entries) >= BATCH_ENTRIES:
                    batch.future = self._pool.submit(self._whole, batch.run)
                    waiting.append(batch)
                    batch = _Batch()
                if len(waiting) > AHEAD:
                    yield from waiting.popleft().contents()
            batch.future = self._pool.submit(self._whole, batch.run)
            waiting.append(batch)
            while waiting:
                yield from waiting.popleft().contents()
        finally:
            for left in waiting:
                left.cancel()

    def _placed(
        self, wanted: Iterable[EntryInfo], most: int
    ) -> Iterator[tuple[EntryInfo, list[Extent | Zeros] | None]]:
        """Entries with their extents, by one walk through the catalog beside that of whoever wants them; None of a large one, which has many."""
        walk: Iterator[Stretch] | None = None
        stretch, number = Stretch(), 0
        for info in wanted:
            if info.size > most:
                walk, stretch, number = None, Stretch(), 0
                yield info, None
                continue
            walk = walk or stretches(self._tree, info.path)
            while number == len(stretch) or stretch.begins[number].path != info.path:
                if number < len(stretch):
                    number += 1
                    continue
                found = next(walk, None)
                if found is None:
                    raise errors.DataError(
                        f'snapshot "{self.snapshot.id}" has no entry "{info.path}"', on=info.path
                    )
                stretch, number = found, 0
            yield info, list(stretch.extents(number))

    def _stream(self, extents: Iterator[Extent | Zeros]) -> Iterator[bytes]:
        runs = _runs(extents)
        waiting: deque[Future[list[bytes]]] = deque()
        try:
            for run in runs:
                waiting.append(self._pool.submit(self._fetch, run))
                if len(waiting) > AHEAD:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()

    def _fetch(self, run: _Run) -> list[bytes]:
        return _joined(self._open(run))

    def _whole(self, run: _Run) -> list[bytes]:
        return list(self._open(run))

    def _open(self, run: _Run) -> Iterator[bytes]:
        """Fetch a run, and open a frame when its first extent is asked for: each piece is used while the processor still has it at hand."""
        fetched: dict[_Place, tuple[pack.OpenedPack, memoryview]] = {}
        for span in run.spans():
            self._fetch_span(span, fetched)
        chunks: dict[_Place, bytes] = {}
        for extent, place in run.extents:
            if isinstance(extent, Zeros) or place is None:
                yield bytes(extent.length)
                continue
            chunk = chunks.get(place)
            if chunk is None:
                opened, sealed = fetched.pop(place)
                _pack, _offset, frame, _length, chunk_length, chunk_id = place
                chunk = opened.chunk(frame, sealed, chunk_length, chunk_id, self._chunk_key)
                if run.places[place] > 1:
                    chunks[place] = chunk
            whole = extent.start == 0 and extent.length == len(chunk)
            yield chunk if whole else chunk[extent.start : extent.start + extent.length]

    def _fetch_span(
        self, span: list[_Place], fetched: dict[_Place, tuple[pack.OpenedPack, memoryview]]
    ) -> None:
        opened = self._packs.open(span[0][0])
        start = span[0][1]
        end = max(offset + length for _pack, offset, _frame, length, *_chunk in span)
        content = memoryview(self._repository.store.get_range(opened.name, start, end - start))
        for place in span:
            _pack, offset, _frame, length, *_chunk = place
            fetched[place] = opened, content[offset - start : offset - start + length]


def _runs(extents: Iterator[Extent | Zeros]) -> Iterator[_Run]:
    """Successive extents, as many as may be held at once. This is done for each extent in Python, so it does little."""
    run = _Run()
    for extent in extents:
        for part in _bounded(extent):
            place = _place(part) if isinstance(part, Extent) else None
            held = part.length if place is None else max(place[4], place[3])
            if run.extents and run.length + held > RUN_LIMIT and place not in run.places:
                yield run
                run = _Run(part.offset)
            if place not in run.places:
                run.length += held
            run.extents.append((part, place))
            if place is not None:
                run.places[place] = run.places.get(place, 0) + 1
    if run.extents:
        yield run


def _bounded(extent: Extent | Zeros) -> Iterable[Extent | Zeros]:
    """Long runs of zeros in parts, so that memory stays bounded."""
    if isinstance(extent, Extent):
        return (extent,)
    return (
        Zeros(extent.offset + start, min(PIECE_LIMIT, extent.length - start))
        for start in range(0, extent.length, PIECE_LIMIT)
    )


def _joined(pieces: Iterable[bytes]) -> list[bytes]:
    """Fewer, larger pieces: whoever reads handles each one in Python."""
    joined: list[bytes] = []
    group: list[bytes] = []
    size = 0
    for piece in pieces:
        if group and size + len(piece) > PIECE_LIMIT:
            joined.append(b"".join(group))
            group, size = [], 0
        group.append(piece)
        size += len(piece)
    return [*joined, b"".join(group)] if group else joined
