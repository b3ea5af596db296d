"""Writing a snapshot: entries become chunks, chunks become packs, and the header is created last.

One direction, bounded queues between the stages::

    write() ─ cut ─▶ hash ─▶ known? ─▶ compress and check ─▶ seal into the pack ─▶ store
    caller          pool    caller     pool                   caller               uploads

The native code of the pool's stages (BLAKE3, zstd) and of the store releases the GIL.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, Self

import msgspec

from dr_toolkit import __version__, clock, errors
from dr_toolkit.repository import chunking, crypto, known, layout, records, snapshot, zstd
from dr_toolkit.repository.catalog import PageStore, TreeWriter
from dr_toolkit.repository.entries import Cutting
from dr_toolkit.repository.known import Place
from dr_toolkit.repository.pack_output import PackOutput
from dr_toolkit.repository.records import Begin, Extent, Finish
from dr_toolkit.repository.repository import Repository
from dr_toolkit.repository.snapshot import Header, Snapshot

SEGMENT = 2 << 20
"""Content gathered before it is cut and handed to the pool."""
BATCHES = 6
"""Batches between two stages at most: with ``SEGMENT`` this bounds memory."""
PRIVATE_PREFIX = 32


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


@dataclass(slots=True)
class _Open:
    """The entry that is being written; travels through the queues as the mark of its beginning."""

    path: str
    kind: str
    cutting: Cutting
    size: int = 0
    handed: int = 0


@dataclass(frozen=True, slots=True)
class _End:
    """The mark of an entry's end."""

    entry: _Open
    meta: dict[str, Any]


_Item = _Batch | _Open | _End


class SnapshotWriter:
    """An ``EntrySink`` that becomes a snapshot when it is committed.

    Use as a context manager: leaving it without ``commit`` leaves no snapshot, only packs that a later run adopts.

    Args:
        repository: opened with at least the ``write`` role.
        component: whose snapshot this is.
        kind: of the component.
        full: ignore the parent and everything stored: read and store all anew.
    """

    def __init__(self, repository: Repository, component: str, kind: str, *, full: bool = False) -> None:
        self._repository = repository
        self._component = component
        self._kind = kind
        self._started = repository.store.now()
        self._snapshots, failures = repository.snapshots(component)
        for failure in failures:
            if failure.fault == "missing":
                raise failure  # the repository's keys were rolled back, or are incomplete: sealing to older ones is what a thief wants
        self.warnings = [f"a snapshot does not open: {failure.message}" for failure in failures]
        self.parent, future = snapshot.choose_parent(self._snapshots, self._started)
        self.warnings += future
        if full:
            self.parent = None
        self._known = known.Known(repository, component, self.parent, self._started, full=full)
        self._output = PackOutput(repository, component)
        self._prepare_catalog()
        workers = max(2, min(8, os.cpu_count() or 2))
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="drctl-chunk")
        self._buffer = bytearray()
        self._hashing: deque[_Item] = deque()
        self._compressing: deque[_Item] = deque()
        self._entry: _Open | None = None
        self._last_path = b""
        self.entries = self.bytes_source = self.bytes_new = 0
        seed = int.from_bytes(repository.keys.derived("cut")[:4], "big") & 0x7FFFFFFF
        self._cutters: dict[Cutting, chunking.Cutter] = {
            "content": chunking.ContentCutter(seed),
            "fixed": chunking.FixedCutter(),
            "private": chunking.FixedCutter(),
        }

    def _prepare_catalog(self) -> None:
        keys = self._repository.keys
        self._pages = PageStore(keys, self._output.put)
        cut_key = keys.derived("cut")
        parents = self._repository.trees(self.parent) if self.parent else (None, None)
        self._tree = TreeWriter("entries", self._pages, cut_key, parents[0])
        self._pack_tree = TreeWriter("packs", self._pages, cut_key, parents[1])
        self._chunk_key = keys.derived("chunk-id")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.abort()

    def abort(self) -> None:
        """Stop the threads. Nothing becomes visible. Idempotent."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._output.close()

    @property
    def bytes_stored(self) -> int:
        """Bytes of all objects that this run has written so far."""
        return self._output.bytes_stored

    # -- EntrySink ----------------------------------------------------------------------------------------------------

    def begin(self, path: str, kind: str, *, cutting: Cutting = "content") -> None:
        """See ``EntrySink``."""
        encoded = path.encode()
        if (
            self._entry is not None
            or not 0 < len(encoded) <= records.PATH_LIMIT
            or b"\0" in encoded
            or encoded <= self._last_path
        ):
            raise errors.SourceError(
                f'the entry "{path}" cannot follow the one before it',
                on=path,
                unaffected="nothing was committed",
            )
        self._last_path = encoded
        self._entry = _Open(path, kind, cutting)
        self._hashing.append(self._entry)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """See ``EntrySink``."""
        entry = self._current()
        view = memoryview(data)
        entry.size += len(view)
        for start in range(0, len(view), SEGMENT):
            self._buffer += view[start : start + SEGMENT]
            if len(self._buffer) >= SEGMENT:
                self._cut(entry, final=False)

    def cut(self) -> None:
        """See ``EntrySink``."""
        self._cut(self._current(), final=True)

    def end(self, meta: Mapping[str, Any]) -> None:
        """See ``EntrySink``."""
        entry = self._current()
        self._cut(entry, final=True)
        if len(msgspec.json.encode(meta)) > records.META_LIMIT:
            raise errors.SourceError(
                f'the facts about "{entry.path}" are too large',
                on=entry.path,
                unaffected="nothing was committed",
            )
        self._hashing.append(_End(entry, dict(meta)))
        self._entry = None
        self.entries += 1
        self.bytes_source += entry.size
        self._drain(BATCHES)

    def _current(self) -> _Open:
        if self._entry is None:
            raise errors.SourceError("content was written outside of an entry", on=self._component)
        return self._entry

    # -- the pipeline -------------------------------------------------------------------------------------------------

    def _cut(self, entry: _Open, *, final: bool) -> None:
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
        self._drain(BATCHES)

    def _drain(self, keep: int) -> None:
        """Move items along until at most ``keep`` wait in each queue."""
        while len(self._hashing) > keep:
            item = self._hashing.popleft()
            if isinstance(item, _Open):
                self._known.begin(item.path)
            elif isinstance(item, _Batch):
                self._look_up(item)
            self._compressing.append(item)
        while len(self._compressing) > keep:
            self._settle(self._compressing.popleft())

    def _look_up(self, batch: _Batch) -> None:
        batch.ids = batch.hashed.result()
        batch.places = [None if batch.skip else self._known.find(chunk_id) for chunk_id in batch.ids]
        fresh = [
            (c, i) for c, i, place in zip(batch.chunks, batch.ids, batch.places, strict=True) if place is None
        ]
        if fresh:
            batch.compressed = self._pool.submit(compress_chunks, fresh, self._chunk_key)

    def _settle(self, item: _Item) -> None:
        """The last stage, in order: seal what is new, and write the records."""
        if isinstance(item, _Open):
            self._tree.add(item.path, records.BEGIN, Begin(item.path, item.kind))
        elif isinstance(item, _End):
            self._tree.add(item.entry.path, records.FINISH, Finish(item.entry.size, item.meta))
        else:
            self._settle_batch(item)

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

    # -- the commit ---------------------------------------------------------------------------------------------------

    def commit(
        self,
        source: Mapping[str, Any],
        warnings: Sequence[str] = (),
        *,
        status: Literal["good", "damaged"] = "good",
    ) -> Snapshot:
        """Make everything durable, then create the header.

        Args:
            source: the source's facts, a few KiB.
            warnings: for people, kept in the header.
            status: ``damaged`` when the source itself reported damage.

        Raises:
            CommitRefused: the deadline has passed, or the keys were rotated meanwhile; no snapshot was made.
        """
        if self._entry is not None:
            raise errors.SourceError(f'the entry "{self._entry.path}" was not ended', on=self._entry.path)
        self._drain(0)
        entries_root = self._tree.finish()
        self._output.flush()
        for use in self._output.uses():
            self._pack_tree.add(use.pack.hex(), records.BEGIN, use)
        packs_root = self._pack_tree.finish()
        self._pages.flush()
        self._output.wait()
        moment, behind = snapshot.next_time(self._snapshots, self._started)
        deadline = self._known.oldest(self._started) + timedelta(
            seconds=self._repository.keys.identity.grace_seconds / 2
        )
        header = Header(
            id=layout.new_timed_id(moment),
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
            bytes_stored=self.bytes_stored,
            seen=snapshot.unnamed(self._snapshots),
            warnings=[*self.warnings, *behind, *warnings],
            source=dict(source),
            tool=f"drctl {__version__}",
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
