"""The stages between content and packs, in a thread of their own, so that reading a source and storing it overlap.

One direction, bounded queues between the stages::

    add() ─▶ cut ─▶ hash ─▶ known? ─▶ compress and check ─▶ seal into the pack ─▶ store
    caller   stages  pool    stages    pool                   stages                uploads

The native code of all stages (FastCDC, BLAKE3, zstd, AES) and of the store releases the GIL.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from dr_toolkit import errors
from dr_toolkit.repository import chunking, crypto, records, zstd
from dr_toolkit.repository.entries import Cutting, EntryInfo
from dr_toolkit.repository.known import Known, Place, place_of
from dr_toolkit.repository.pack_output import PackOutput
from dr_toolkit.repository.record_spool import RecordSink
from dr_toolkit.repository.records import Begin, Extent, Finish, Zeros

SEGMENT = 1 << 19
"""Content gathered before it is cut and handed to the pool."""
PARCELS = 3
"""Parcels of items that wait for the stages at most; a parcel has little more than ``SEGMENT`` of content."""
PARCEL_ITEMS = 256
BATCHES = 3
"""Batches between two stages at most: with ``SEGMENT`` this bounds memory."""
PRIVATE_PREFIX = 32


@dataclass(slots=True)
class Open:
    """The mark of an entry's beginning, and what is known of it so far."""

    path: str
    kind: str
    cutting: Cutting
    size: int = 0
    handed: int = 0


@dataclass(frozen=True, slots=True)
class Piece:
    """Content of an entry. ``final``: a chunk ends where it ends."""

    entry: Open
    content: bytearray
    final: bool


@dataclass(frozen=True, slots=True)
class End:
    """The mark of an entry's end."""

    entry: Open
    meta: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Carry:
    """An entry of the parent that is taken over as it is, without its content."""

    info: EntryInfo
    extents: Sequence[Extent | Zeros]


@dataclass(frozen=True, slots=True)
class Keep:
    """A part of the parent's entry of the same path that is taken over, at the same place."""

    entry: Open
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Hole:
    """Zero bytes."""

    entry: Open
    offset: int
    length: int


@dataclass(slots=True)
class _Batch:
    """Chunks of one entry, in order. ``skip`` bytes at the start of each chunk are not content (private entries)."""

    path: str
    offset: int
    chunks: list[bytes]
    skip: int
    hashed: Future[list[bytes]]
    ids: list[bytes]
    places: list[Place | None]
    compressed: Future[list[bytes]] | None = None


Item = Open | Piece | End | Carry | Keep | Hole
_Step = _Batch | Open | End | Carry | Keep | Hole


class Stages:
    """What happens to items, one after the other. Used by one thread.

    Args:
        known: what need not be stored again.
        output: takes new chunks.
        tree: takes the records.
        seed: of the content cutter.
        chunk_key: makes chunk ids.
    """

    def __init__(
        self, known: Known, output: PackOutput, tree: RecordSink, *, seed: int, chunk_key: bytes
    ) -> None:
        self._known = known
        self._output = output
        self._tree = tree
        self._chunk_key = chunk_key
        workers = max(2, min(8, os.cpu_count() or 2))
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="drctl-chunk")
        self._buffer = bytearray()
        self._hashing: deque[_Step] = deque()
        self._compressing: deque[_Step] = deque()
        self._cutters: dict[Cutting, chunking.Cutter] = {
            "content": chunking.ContentCutter(seed),
            "fixed": chunking.FixedCutter(),
            "private": chunking.FixedCutter(),
        }
        self._broken = False
        self.bytes_new = 0

    def take(self, items: Sequence[Item]) -> None:
        """Take items, and move those before them along. After a failure nothing more is taken."""
        if self._broken:
            return
        self._broken = True
        for item in items:
            self._take(item)
        self._broken = False

    def _take(self, item: Item) -> None:
        if isinstance(item, Piece):
            self._buffer = self._buffer + item.content if self._buffer else item.content
            self._cut(item.entry, final=item.final)
        else:
            if isinstance(item, Keep | Hole):
                item.entry.handed += item.length
            self._hashing.append(item)
        self.drain(BATCHES)

    def drain(self, keep: int = 0) -> None:
        """Move items along until at most ``keep`` wait in each queue."""
        while len(self._hashing) > keep:
            item = self._hashing.popleft()
            if isinstance(item, Open):
                self._known.begin(item.path)
            elif isinstance(item, _Batch):
                self._look_up(item)
            self._compressing.append(item)
        while len(self._compressing) > keep:
            self._settle(self._compressing.popleft())

    def close(self) -> None:
        """Stop the pool."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _cut(self, entry: Open, *, final: bool) -> None:
        """Turn the buffer into a batch of whole chunks; what may still grow stays."""
        private = entry.cutting == "private"
        if private and not final and len(self._buffer) < records.CHUNK_LIMIT - PRIVATE_PREFIX - SEGMENT:
            return
        lengths = list(self._cutters[entry.cutting].lengths(self._buffer, final=final))
        if not lengths:
            return
        view, position, chunks = memoryview(self._buffer), 0, []
        for length in lengths:
            piece = bytes(view[position : position + length])
            chunks.append(os.urandom(PRIVATE_PREFIX) + piece if private else piece)
            position += length
        view.release()
        del self._buffer[:position]
        hashed = self._pool.submit(hash_chunks, chunks, self._chunk_key)
        skip = PRIVATE_PREFIX if private else 0
        self._hashing.append(_Batch(entry.path, entry.handed, chunks, skip, hashed, [], []))
        entry.handed += position

    def _look_up(self, batch: _Batch) -> None:
        batch.ids = batch.hashed.result()
        batch.places = [None if batch.skip else self._known.find(chunk_id) for chunk_id in batch.ids]
        fresh = [
            (c, i) for c, i, place in zip(batch.chunks, batch.ids, batch.places, strict=True) if place is None
        ]
        if fresh:
            batch.compressed = self._pool.submit(compress_chunks, fresh, self._chunk_key)

    def _settle(self, item: _Step) -> None:
        """The last stage, in order: seal what is new, and write the records."""
        if isinstance(item, Open):
            self._tree.add(item.path, records.BEGIN, Begin(item.path, item.kind))
        elif isinstance(item, End):
            self._tree.add(item.entry.path, records.FINISH, Finish(item.entry.size, dict(item.meta)))
        elif isinstance(item, Carry):
            self._settle_carried(item.info, item.extents)
        elif isinstance(item, Hole):
            self._tree.add(item.entry.path, item.offset, Zeros(item.offset, item.length))
        elif isinstance(item, Keep):
            self._settle_extents(item.entry.path, self._known.kept(item.entry.path, item.offset, item.length))
        else:
            self._settle_batch(item)

    def _settle_carried(self, info: EntryInfo, extents: Sequence[Extent | Zeros]) -> None:
        self._tree.add(info.path, records.BEGIN, Begin(info.path, info.kind))
        self._settle_extents(info.path, extents)
        self._tree.add(info.path, records.FINISH, Finish(info.size, dict(info.meta)))

    def _settle_extents(self, path: str, extents: Iterable[Extent | Zeros]) -> None:
        for extent in extents:
            if isinstance(extent, Extent):
                self._output.use(place_of(extent), self._known.size_of(extent.pack))
            self._tree.add(path, extent.offset, extent)

    def _settle_batch(self, batch: _Batch) -> None:
        compressed = iter(batch.compressed.result() if batch.compressed else ())
        offset = batch.offset
        for chunk, chunk_id, found in zip(batch.chunks, batch.ids, batch.places, strict=True):
            length, place = len(chunk) - batch.skip, found
            if place is None:
                place = self._output.add(chunk_id, len(chunk), next(compressed), batch.path, offset)
                self.bytes_new += length
                if not batch.skip:
                    self._known.remember(chunk_id, place)
            self._output.use(place, self._known.size_of(place.pack))
            self._tree.add(
                batch.path,
                offset,
                Extent(
                    offset,
                    length,
                    chunk_id,
                    batch.skip,
                    place.chunk_length,
                    place.pack,
                    place.frame,
                    place.offset,
                    place.length,
                ),
            )
            offset += length


class Pipeline:
    """Runs the stages in a thread. Its methods are for one other thread.

    Args:
        stages: used by the pipeline's thread alone until ``finish`` or ``close`` has returned.
    """

    def __init__(self, stages: Stages) -> None:
        self._stages = stages
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="drctl-stages")
        self._going: deque[Future[None]] = deque()
        self._parcel: list[Item] = []
        self._bytes = 0

    def add(self, item: Item) -> None:
        """Hand an item over; waits while too much is on its way.

        Raises:
            DrctlError: an item before this one failed.
        """
        self._parcel.append(item)
        self._bytes += len(item.content) if isinstance(item, Piece) else 0
        if self._bytes >= SEGMENT or len(self._parcel) >= PARCEL_ITEMS:
            self._send(PARCELS)

    def finish(self) -> None:
        """Wait until every item has gone through all stages.

        Raises:
            DrctlError: one of them failed.
        """
        self._send(0)
        self._settled(0)
        self._stages.drain()

    def close(self) -> None:
        """Stop; what has not gone through is dropped. Idempotent."""
        self._thread.shutdown(wait=True, cancel_futures=True)
        self._stages.close()

    def _send(self, limit: int) -> None:
        self._settled(limit)
        self._going.append(self._thread.submit(self._stages.take, self._parcel))
        self._parcel, self._bytes = [], 0

    def _settled(self, limit: int) -> None:
        while len(self._going) > limit:
            self._going.popleft().result()


def hash_chunks(chunks: Sequence[bytes], key: bytes) -> list[bytes]:
    """Chunk ids of ``chunks``."""
    return [crypto.keyed_hash(key, chunk) for chunk in chunks]


def compress_chunks(chunks: Sequence[tuple[bytes, bytes]], key: bytes) -> list[bytes]:
    """Compress (chunk, chunk id) pairs, and check each by decompressing and hashing it again.

    Encoders have had bugs that cost others data; one is found here, before anything is stored.
    """
    frames = []
    for chunk, chunk_id in chunks:
        frame = zstd.compress(chunk)
        if crypto.keyed_hash(key, zstd.decompress(frame, len(chunk), "a new chunk")) != chunk_id:
            raise errors.Damaged(
                "a chunk does not survive compression",
                fault="chunk-id",
                hint="check this machine's memory and zstd library",
            )
        frames.append(frame)
    return frames
