"""The packs that one run writes, and how much of every pack its snapshot uses."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

from dr_toolkit import errors
from dr_toolkit.repository import crypto
from dr_toolkit.repository.known import Place
from dr_toolkit.repository.pack import FRAMES_LIMIT, TARGET, PackBuilder
from dr_toolkit.repository.records import Extent, PackUse, Record
from dr_toolkit.repository.repository import Repository
from dr_toolkit.repository.room import Room, Rooms
from dr_toolkit.repository.store import Buffer

UPLOADS = 2
"""Objects on their way at once: with a pack's size this bounds memory."""
_LOOK_UP_SECONDS = 0.5
LAST_SECONDS = 5.0
"""How long objects that are on their way are waited for when the run is given up."""


class PackOutput:
    """Seals chunks into packs and stores finished objects in the background. Used by one thread, but for ``close``.

    Args:
        repository: where objects go.
        component: noted in the packs' footers.
        read_back: packs with content of entries whose path begins so are read again, by `read_again`; None for none.
    """

    def __init__(self, repository: Repository, component: str, read_back: str | None = None) -> None:
        self._repository = repository
        self._component = component
        self._uploads = ThreadPoolExecutor(UPLOADS, thread_name_prefix="drctl-put")
        self._putting: deque[Future[None]] = deque()
        self._closed = False
        self._pack: PackBuilder | None = None
        self._rooms = Rooms()
        self._room: Room | None = None
        self._sizes: dict[bytes, int] = {}
        self._used: dict[bytes, int] = {}
        self._bytes_used: dict[bytes, int] = {}
        self._read_back = read_back
        self._again = False
        self._digests: dict[str, bytes] = {}
        self.bytes_stored = 0

    def add(self, chunk_id: bytes, chunk_length: int, compressed: bytes, path: str, offset: int) -> Place:
        """Seal a chunk into the current pack."""
        if self._pack is None:
            self._room = self._rooms.take()
            self._pack = PackBuilder(self._repository.keys, self._room)
        pack = self._pack
        frame, position, length = pack.add(chunk_id, chunk_length, compressed, self._component, path, offset)
        self._again |= self._read_back is not None and path.startswith(self._read_back)
        place = Place(pack.pack_id, frame, position, length, chunk_length)
        if pack.size >= TARGET or pack.frames >= FRAMES_LIMIT:
            self.flush()
        return place

    def ended(self, path: str, kind: str, size: int, meta: Mapping[str, Any]) -> None:
        """Note in the pack that is being filled what an entry is, if it is there as a whole."""
        if self._pack is not None:
            self._pack.ended(path, kind, size, meta)

    def use(self, place: Place, size: int | None) -> None:
        """Note that the snapshot refers to ``place``. ``size`` is the pack's, when it is an older one."""
        if size is not None:
            self._sizes[place.pack] = size
        # One bit for each frame: a set of numbers would take a gigabyte for a terabyte.
        frames, bit = self._used.get(place.pack, 0), 1 << place.frame
        if not frames & bit:
            self._used[place.pack] = frames | bit
            self._bytes_used[place.pack] = self._bytes_used.get(place.pack, 0) + place.length

    def use_all(self, found: Iterable[Record], size_of: Callable[[bytes], int | None]) -> Collection[bytes]:
        """The same for all extents of some records; gives the packs that they refer to."""
        packs: dict[bytes, dict[int, int]] = {}
        last, frames = b"", {}
        for record in found:
            if type(record) is Extent:
                if record.pack != last:
                    last, frames = record.pack, packs.setdefault(record.pack, {})
                frames[record.frame] = record.frame_length
        for pack_id, lengths in packs.items():
            known, mask, more = self._used.get(pack_id, 0), 0, sum(lengths.values())
            for frame in lengths:
                mask |= 1 << frame
            if known & mask:
                more -= sum(length for frame, length in lengths.items() if known >> frame & 1)
            self._used[pack_id] = known | mask
            self._bytes_used[pack_id] = self._bytes_used.get(pack_id, 0) + more
            if (size := size_of(pack_id)) is not None:
                self._sizes[pack_id] = size
        return packs

    def uses(self) -> Iterator[PackUse]:
        """A record for every pack that the snapshot refers to, in order of pack id. After ``flush``."""
        for pack_id in sorted(self._bytes_used):
            yield PackUse(pack_id, self._sizes[pack_id], self._bytes_used[pack_id])

    def flush(self) -> None:
        """Finish the current pack, whatever its size."""
        if self._pack is None:
            return
        pack, self._pack = self._pack, None
        body = pack.finish()
        self._sizes[pack.pack_id] = len(body)
        if self._again:
            self._digests[pack.name], self._again = crypto.digest(body), False
        self._send(pack.name, body, self._room)

    def read_again(self) -> None:
        """After ``wait``: the packs that are to be read back are in the storage as they were sent.

        Raises:
            ObjectMissing, Damaged: one is not.
        """
        for name, digest in self._digests.items():
            if crypto.digest(self._repository.store.get(name)) != digest:
                raise errors.Damaged(
                    f'"{name}" is not in the storage as it was sent',
                    fault="authentication",
                    on=name,
                    hint="the storage alters what it keeps: find out why before anything is trusted to it",
                )

    def put(self, name: str, data: bytes | bytearray) -> None:
        """Store an object in the background; waits when ``UPLOADS`` are on their way."""
        self._send(name, data, None)

    def _send(self, name: str, data: Buffer, room: Room | None) -> None:
        while len(self._putting) >= UPLOADS:
            self._settled(self._putting.popleft())
        self.bytes_stored += len(data)  # before it is sent: a room's content is gone once it is stored
        self._putting.append(self._uploads.submit(self._store, name, data, room))

    def _store(self, name: str, data: Buffer, room: Room | None) -> None:
        self._repository.store.put(name, data)
        del data
        if room is not None:
            self._rooms.give_back(room)

    def wait(self) -> None:
        """Wait until every object is durable.

        Raises:
            DrctlError: the first failure of an upload.
        """
        if self._pack is not None:
            raise errors.SourceError("a pack was left open", on=self._component)
        while self._putting:
            self._settled(self._putting.popleft())

    def _settled(self, upload: Future[None]) -> None:
        """Wait for one upload, but not after ``close``, which another thread may call."""
        while not wait([upload], timeout=_LOOK_UP_SECONDS).done:
            if self._closed:
                raise errors.CommitRefused("the backup was given up", on=self._component)
        upload.result()

    def close(self) -> None:
        """Stop. What is on its way gets a moment; a storage that is away keeps nobody waiting. Idempotent."""
        self._closed = True
        self._uploads.shutdown(wait=False, cancel_futures=True)
        wait([f for f in tuple(self._putting) if not f.cancelled()], timeout=LAST_SECONDS)
