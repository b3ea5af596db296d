"""Memory for packs, used again: touching 16 MiB of new pages for each took more time than sealing what goes into them.

It begins where a page of memory does, as a store that writes past the page cache wants it.
"""

from __future__ import annotations

import mmap
from collections import deque

SIZE = 18 << 20
"""What a pack takes with its last frame and its footer; where that is not enough, more is fetched."""
_KEPT = 3


class Room:
    """Bytes that are appended to a buffer. Used by one thread at a time."""

    def __init__(self) -> None:
        self._buffer = _pages(SIZE)
        self._view = memoryview(self._buffer)
        self._content = self._view[:0]
        self.size = 0

    def append(self, data: bytes) -> None:
        """Add ``data``."""
        self.taken(len(data))[:] = data

    def taken(self, length: int) -> memoryview:
        """The next ``length`` bytes, to be filled."""
        start, self.size = self.size, self.size + length
        if self.size > len(self._view):
            larger = _pages(self.size + SIZE)
            larger[:start] = self._view[:start]
            self._buffer, self._view = larger, memoryview(larger)
        return self._view[start : self.size]

    def content(self) -> memoryview:
        """All that was added; nothing more may be added."""
        self._content = self._view[: self.size]
        return self._content

    def emptied(self) -> bool:
        """Forget the content; False, and nothing is done, while somebody still looks at it."""
        try:
            self._content.release()
            self._view.release()
            # Python refuses to change the length of what anybody looks at, through however many views. It is the same length here.
            self._buffer.resize(len(self._buffer))
        except BufferError:
            return False
        self._view = memoryview(self._buffer)
        self._content, self.size = self._view[:0], 0
        return True


def _pages(size: int) -> mmap.mmap:
    pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    # A program may be started while a store writes from these pages past the cache, and open(2), "O_DIRECT", asks that they not be
    # copied by a fork then.
    if hasattr(mmap, "MADV_DONTFORK"):
        pages.madvise(mmap.MADV_DONTFORK)
    return pages


class Rooms:
    """Rooms that are used again. Safe to use from several threads."""

    def __init__(self) -> None:
        self._free: deque[Room] = deque(maxlen=_KEPT)

    def take(self) -> Room:
        """An empty room."""
        try:
            return self._free.pop()
        except IndexError:
            return Room()

    def give_back(self, room: Room) -> None:
        """The content was stored. A storage that failed at first may still hold it for an attempt that was given up: then it is left alone."""
        if room.emptied():
            self._free.append(room)
