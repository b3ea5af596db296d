"""Reading a snapshot: the catalog names frames, frames are fetched in runs, opened, checked, cut and given out in order."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Self

from dr_toolkit import errors
from dr_toolkit.repository import layout, pack
from dr_toolkit.repository.entries import EntryInfo
from dr_toolkit.repository.records import Extent, Zeros
from dr_toolkit.repository.repository import Repository
from dr_toolkit.repository.snapshot import Snapshot

RUN_LIMIT = 4 << 20
"""Content of one fetch at most."""
GAP_LIMIT = 64 << 10
"""Unwanted bytes between two frames that are fetched along rather than by a second request."""
AHEAD = 3
"""Fetches under way for each entry that is being read."""
PIECE_LIMIT = 1 << 20
OPENED_PACKS = 256


@dataclass(slots=True)
class _Run:
    """Extents whose frames lie close together in one pack."""

    extents: list[Extent | Zeros] = field(default_factory=list)
    pack: bytes = b""
    start: int = 0
    end: int = 0
    length: int = 0

    def takes(self, extent: Extent | Zeros) -> bool:
        """Whether ``extent`` may join."""
        if not self.extents:
            return True
        if self.length + extent.length > RUN_LIMIT:
            return False
        if isinstance(extent, Zeros):
            return True
        return not self.pack or (
            extent.pack == self.pack and self.end <= extent.frame_offset <= self.end + GAP_LIMIT
        )

    def add(self, extent: Extent | Zeros) -> None:
        """Join ``extent``."""
        self.extents.append(extent)
        self.length += extent.length
        if isinstance(extent, Extent):
            if not self.pack:
                self.pack, self.start = extent.pack, extent.frame_offset
            self.end = extent.frame_offset + extent.frame_length


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
    """An ``EntrySource``.

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
        extents = self._tree.extents(path)
        if extents is None:
            raise errors.DataError(
                f'snapshot "{self.snapshot.id}" has no entry "{path}"',
                on=path,
                hint=f"list what it holds: drctl show {self.snapshot.id}",
            )
        return self._stream(extents)

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
        opened: pack.OpenedPack | None = None
        fetched = memoryview(b"")
        if run.pack:
            opened = self._packs.open(run.pack)
            fetched = memoryview(
                self._repository.store.get_range(opened.name, run.start, run.end - run.start)
            )
        pieces: list[bytes] = []
        for extent in run.extents:
            if isinstance(extent, Zeros):
                pieces.append(bytes(extent.length))
            elif opened is not None:
                position = extent.frame_offset - run.start
                sealed = fetched[position : position + extent.frame_length]
                chunk = opened.chunk(
                    extent.frame, sealed, extent.chunk_length, extent.chunk_id, self._chunk_key
                )
                whole = extent.start == 0 and extent.length == len(chunk)
                pieces.append(chunk if whole else chunk[extent.start : extent.start + extent.length])
        return _joined(pieces)


def _runs(extents: Iterator[Extent | Zeros]) -> Iterator[_Run]:
    run = _Run()
    for extent in extents:
        for part in _bounded(extent):
            if not run.takes(part):
                yield run
                run = _Run()
            run.add(part)
    if run.extents:
        yield run


def _bounded(extent: Extent | Zeros) -> Iterator[Extent | Zeros]:
    """Long runs of zeros in parts, so that memory stays bounded."""
    if isinstance(extent, Extent):
        yield extent
        return
    for start in range(0, extent.length, PIECE_LIMIT):
        yield Zeros(extent.offset + start, min(PIECE_LIMIT, extent.length - start))


def _joined(pieces: list[bytes]) -> list[bytes]:
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
