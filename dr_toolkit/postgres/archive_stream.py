"""Bytes from a stream in one reused buffer, so that memory stays bounded and nothing is copied twice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from dr_toolkit.errors import SourceError

CAPACITY = 1 << 20


class Readable(Protocol):
    """The one thing needed of a stream."""

    def readinto(self, buffer: memoryview, /) -> int | None:
        """Fill the buffer's beginning; 0 at the end of the stream."""


class ByteReader:
    """A window that moves over a stream.

    Args:
        stream: where the bytes come from.
        on_bytes: told the number of bytes after each read.
        capacity: size of the buffer; the window never grows beyond it.
    """

    def __init__(
        self, stream: Readable, *, on_bytes: Callable[[int], None] | None = None, capacity: int = CAPACITY
    ) -> None:
        self._stream = stream
        self._on_bytes = on_bytes
        self._view = memoryview(bytearray(capacity))
        self._start = 0
        self._end = 0
        self._finished = False
        self.position = 0
        """How many bytes of the stream were consumed."""

    @property
    def capacity(self) -> int:
        """The largest number of bytes that the window can show at once."""
        return len(self._view)

    def window(self) -> memoryview:
        """The bytes that were read and not consumed; valid until `more` is called."""
        return self._view[self._start : self._end]

    def skip(self, count: int) -> None:
        """Consume bytes of the window."""
        self._start += count
        self.position += count

    def more(self) -> bool:
        """Widen the window as far as the buffer goes; False if the stream has ended."""
        if self._start:
            length = self._end - self._start
            self._view[:length] = self._view[self._start : self._end]
            self._start, self._end = 0, length
        before, self._end = self._end, self._read(self._view, self._end)
        return self._end > before

    def fill(self, room: memoryview) -> int:
        """Move the window into other memory, which is larger than the window, and read on there.

        Returns:
            How many bytes are in ``room``. What is not consumed of them has to be `put_back`.
        """
        length = self._end - self._start
        room[:length] = self._view[self._start : self._end]
        self._start = self._end = 0
        return self._read(room, length)

    def put_back(self, rest: memoryview, consumed: int) -> None:
        """Make ``rest`` the window, after ``consumed`` bytes of what `fill` gave were consumed."""
        self._view[: len(rest)] = rest
        self._start, self._end = 0, len(rest)
        self.position += consumed

    def _read(self, room: memoryview, end: int) -> int:
        """Read until there is no room, or no more; gives where the content ends."""
        before = end
        while end < len(room) and not self._finished:
            count = self._stream.readinto(room[end:])
            self._finished = not count
            end += count or 0
        if self._on_bytes and end > before:
            self._on_bytes(end - before)
        return end

    def at_end(self) -> bool:
        """Whether nothing is left."""
        return self._start == self._end and not self.more()

    def take(self, count: int) -> bytes:
        """Consume exactly this many bytes, which may be more than the buffer holds.

        Raises:
            SourceError: the stream ended before.
        """
        taken = bytearray()
        while len(taken) < count:
            if self._start == self._end and not self.more():
                raise truncated(self.position)
            piece = self.window()[: count - len(taken)]
            taken += piece
            self.skip(len(piece))
        return bytes(taken)


def truncated(position: int) -> SourceError:
    """The error for a stream that ends where it must not."""
    return SourceError(
        f"the archive ended in the middle, after {position} bytes",
        hint="pg_dump's own messages say why it stopped; run the backup again",
    )
