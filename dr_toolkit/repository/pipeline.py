"""The stages between content and packs, in a thread of their own, so that reading a source and storing it overlap.

One direction, bounded queues between the stages::

    write() ─▶ cut ─▶ hash ─▶ known? ─▶ compress and check ─▶ seal into the pack ─▶ store
    caller   caller   pool    stages    pool                   stages                uploads

Where nothing is known, as in a first backup, the chunk id is the hash of what the check has decompressed: one visit to the pool, one hash.
The native code of all stages (FastCDC, BLAKE3, zstd, AES) and of the store releases the GIL.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from dr_toolkit import errors
from dr_toolkit.repository import crypto, records, zstd
from dr_toolkit.repository.entries import EntryInfo
from dr_toolkit.repository.filling import SEGMENT, Buffers, Hole, Keep, New, Open, Piece, spread
from dr_toolkit.repository.known import Known, Place, place_of
from dr_toolkit.repository.pack_output import PackOutput
from dr_toolkit.repository.record_spool import RecordSink
from dr_toolkit.repository.records import Begin, Extent, Finish, Zeros
from dr_toolkit.repository.stretches import Part

_Made = TypeVar("_Made")
PARCELS = 3
"""Parcels of items that wait for the stages at most; a parcel has little more than ``SEGMENT`` of content."""
PARCEL_ITEMS = 256
BATCHES = 3
"""Parcels between two stages at most: with ``SEGMENT`` this bounds memory."""
_EXTENT_BYTES = 512
"""About what an extent that is taken over takes in memory."""


IDENTITY = "etag"
"""An entry whose ``meta`` has this can be told to be the same without being read: packs note what it is."""


@dataclass(frozen=True, slots=True)
class End:
    """The mark of an entry's end."""

    entry: Open
    meta: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Carry:
    """An entry of the parent that is taken over as it is, without its content."""

    info: EntryInfo
    extents: Iterable[Extent | Zeros]


@dataclass(frozen=True, slots=True)
class CarryParts:
    """Records of the parent that lie beside each other, taken over as they are."""

    part: Part


@dataclass(frozen=True, slots=True)
class _Share(Generic[_Made]):
    """A batch's part of what one visit to the pool makes for a parcel."""

    future: Future[list[_Made]]
    start: int
    end: int

    def result(self) -> list[_Made]:
        """Wait for it."""
        return self.future.result()[self.start : self.end]


@dataclass(slots=True)
class _Batch:
    """A piece on its way. ``hashed`` is None where nothing can be known of its chunks before they are stored."""

    piece: Piece
    hashed: _Share[bytes] | None
    compressed: _Share[Frame] | None = None
    places: Sequence[tuple[bytes, Place | None]] = ()


Frame = tuple[bytes, bytes]
"""A chunk id, and the compressed chunk."""
Item = Open | Piece | End | Carry | CarryParts | Keep | Hole
_Step = _Batch | Open | End | Carry | CarryParts | Keep | Hole


class Stages:
    """What happens to items, one after the other. Used by one thread.

    Args:
        known: what need not be stored again.
        output: takes new chunks.
        tree: takes the records.
        buffers: get back the buffers of pieces that are done with.
        chunk_key: makes chunk ids.
        anew: entries whose path begins so are stored by this run, whatever is there already; None for none.
    """

    def __init__(
        self,
        known: Known,
        output: PackOutput,
        tree: RecordSink,
        *,
        buffers: Buffers,
        chunk_key: bytes,
        anew: str | None = None,
    ) -> None:
        self._known = known
        self._output = output
        self._tree = tree
        self._chunk_key = chunk_key
        self._anew = anew
        workers = max(2, min(8, os.cpu_count() or 2))
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="drctl-chunk")
        self._buffers = buffers
        self._hashing: deque[list[_Step]] = deque()
        self._compressing: deque[list[_Step]] = deque()
        self._broken = False
        self.bytes_new = 0

    def take(self, items: Sequence[Item]) -> None:
        """Take items, and move those before them along. After a failure nothing more is taken."""
        if self._broken:
            return
        self._broken = True
        self._hashing.append(self._begun(items))
        self.drain(BATCHES)
        self._broken = False

    def _begun(self, items: Sequence[Item]) -> list[_Step]:
        """One visit to the pool for all content of a parcel: thousands of small entries would make a visit each."""
        chunks = [chunk for item in items if isinstance(item, Piece) for chunk in item.chunks]
        if not chunks:
            return [item for item in items if not isinstance(item, Piece)]
        steps: list[_Step] = []
        hashed = None if self._known.nothing else self._pool.submit(hash_chunks, chunks, self._chunk_key)
        framed = self._pool.submit(compress_chunks, chunks, self._chunk_key) if hashed is None else None
        at = 0
        for item in items:
            if not isinstance(item, Piece):
                steps.append(item)
                continue
            end = at + len(item.chunks)
            ids = _Share(hashed, at, end) if hashed else None
            steps.append(_Batch(item, ids, _Share(framed, at, end) if framed else None))
            at = end
        return steps

    def drain(self, keep: int = 0) -> None:
        """Move parcels along until at most ``keep`` wait in each queue."""
        while len(self._hashing) > keep:
            steps = self._hashing.popleft()
            self._look_up(steps)
            self._compressing.append(steps)
        while len(self._compressing) > keep:
            for step in self._compressing.popleft():
                self._settle(step)

    def close(self) -> None:
        """Stop the pool."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _look_up(self, steps: Sequence[_Step]) -> None:
        chunks: list[memoryview] = []
        expected: list[bytes] = []
        fresh: list[tuple[_Batch, int, int]] = []
        for step in steps:
            if isinstance(step, Open):
                self._known.begin(step.path)
            elif isinstance(step, _Batch) and step.hashed is not None:
                piece, start = step.piece, len(chunks)
                step.places = [(i, self._find(piece, i)) for i in step.hashed.result()]
                for chunk, (chunk_id, place) in zip(piece.chunks, step.places, strict=True):
                    if place is None:
                        chunks.append(chunk)
                        expected.append(chunk_id)
                if len(chunks) > start:
                    fresh.append((step, start, len(chunks)))
        if fresh:
            framed = self._pool.submit(compress_chunks, chunks, self._chunk_key, expected)
            for batch, start, end in fresh:
                batch.compressed = _Share(framed, start, end)

    def _find(self, piece: Piece, chunk_id: bytes) -> Place | None:
        """Where a chunk is stored already, if that may be used."""
        anew = piece.skip or (self._anew is not None and piece.path.startswith(self._anew))
        return None if anew else self._known.find(chunk_id)

    def _settle(self, item: _Step) -> None:
        """The last stage, in order: seal what is new, and write the records."""
        if isinstance(item, Open):
            self._tree.add(item.path, records.BEGIN, Begin(item.path, item.kind))
        elif isinstance(item, End):
            entry = item.entry
            self._tree.add(entry.path, records.FINISH, Finish(entry.size, dict(item.meta)))
            if IDENTITY in item.meta:
                self._output.ended(entry.path, entry.kind, entry.size, item.meta)
        elif isinstance(item, Carry):
            self._settle_carried(item.info, item.extents)
        elif isinstance(item, CarryParts):
            self._settle_part(item.part)
        elif isinstance(item, Hole):
            self._tree.add(item.entry.path, item.offset, Zeros(item.offset, item.length))
        elif isinstance(item, Keep):
            self._settle_extents(item.entry.path, self._known.kept(item.entry.path, item.offset, item.length))
        else:
            self._settle_batch(item)

    def _settle_carried(self, info: EntryInfo, extents: Iterable[Extent | Zeros]) -> None:
        self._tree.add(info.path, records.BEGIN, Begin(info.path, info.kind))
        self._settle_extents(info.path, extents)
        self._tree.add(info.path, records.FINISH, Finish(info.size, dict(info.meta)))

    def _settle_part(self, part: Part) -> None:
        for pack_id in self._output.use_all(part.records, self._known.size_of):
            self._known.adopts(pack_id)
        self._tree.extend(part)

    def _settle_extents(self, path: str, extents: Iterable[Extent | Zeros]) -> None:
        for extent in extents:
            if isinstance(extent, Extent):
                self._known.adopts(extent.pack)
                self._output.use(place_of(extent), self._known.size_of(extent.pack))
            self._tree.add(path, extent.offset, extent)

    def _settle_batch(self, batch: _Batch) -> None:
        piece, places = batch.piece, list[tuple[bytes, Place]]()
        lengths = [len(chunk) - piece.skip for chunk in piece.chunks]
        offset = piece.offset
        for length, (chunk_id, known, frame) in zip(lengths, self._placed(batch), strict=True):
            place = known
            if place is None and batch.hashed is not None:
                place = self._find(piece, chunk_id)  # stored since it was looked up, by an entry nearby
            if place is None:
                place = self._output.add(chunk_id, length + piece.skip, frame, piece.path, offset)
                self.bytes_new += length
                if not piece.skip:
                    self._known.remember(chunk_id, place)
            self._output.use(place, self._known.size_of(place.pack))
            places.append((chunk_id, place))
            offset += length
        self._buffers.give_back(piece.buffer)
        for part in spread(piece.laid or [New(piece.offset, piece.size)], lengths):
            if isinstance(part, Keep | Hole):
                self._settle(part)
                continue
            new, number, at = part
            chunk_id, place = places[number]
            extent = Extent(
                new.offset,
                new.length,
                chunk_id,
                at + piece.skip,
                place.chunk_length,
                place.pack,
                place.frame,
                place.offset,
                place.length,
            )
            self._tree.add(piece.path, new.offset, extent)

    def _placed(self, batch: _Batch) -> Iterator[tuple[bytes, Place | None, bytes]]:
        """Each chunk's id, its place where it is known, else its frame."""
        frames = iter(batch.compressed.result() if batch.compressed else ())
        if batch.hashed is None:
            for chunk_id, frame in frames:
                yield chunk_id, self._find(batch.piece, chunk_id), frame
        for chunk_id, place in batch.places:
            yield chunk_id, place, b"" if place else next(frames)[1]


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
        if isinstance(item, Piece):
            self._bytes += item.size
        elif isinstance(item, Carry):
            self._bytes += len(item.extents) * _EXTENT_BYTES if isinstance(item.extents, Sequence) else 0
        elif isinstance(item, CarryParts):
            self._bytes += len(item.part.lines) * _EXTENT_BYTES
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


def hash_chunks(chunks: Sequence[memoryview], key: bytes) -> list[bytes]:
    """Chunk ids of ``chunks``."""
    return [crypto.keyed_hash(key, chunk) for chunk in chunks]


def compress_chunks(
    chunks: Sequence[memoryview], key: bytes, expected: Sequence[bytes] | None = None
) -> list[Frame]:
    """Compress chunks, and check each frame by decompressing it and hashing what comes out.

    Encoders have had bugs that cost others data; one is found here, before anything is stored.

    Args:
        chunks: the content.
        key: makes chunk ids.
        expected: the chunk ids where they are known. Without them what was decompressed is compared with the chunk, and its hash is the id.

    Raises:
        Damaged: a chunk does not survive.
    """
    frames = []
    for number, chunk in enumerate(chunks):
        frame = zstd.compress(chunk)
        content = zstd.decompress(frame, len(chunk), "a new chunk")
        chunk_id = crypto.keyed_hash(key, content)
        # bytes.startswith is memcmp; == with a memoryview would compare byte by byte.
        survives = (
            expected[number] == chunk_id
            if expected is not None
            else len(content) == len(chunk) and content.startswith(chunk)
        )
        if not survives:
            raise errors.Damaged(
                "a chunk does not survive compression",
                fault="chunk-id",
                hint="check this machine's memory and zstd library",
            )
        frames.append((chunk_id, frame))
    return frames
