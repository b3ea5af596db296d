"""Content on its way into the pipeline: gathered in buffers that are used again, and cut into chunks where it lies.

A chunk is a view of its buffer, from here until it is compressed, so that content is copied once. Whoever is done with a buffer
gives it back.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dr_toolkit.repository import chunking
from dr_toolkit.repository.entries import Cutting

SEGMENT = 1 << 19
"""New content in a buffer, at least, when it is handed to the stages in the middle of an entry."""
CAPACITY = SEGMENT + chunking.MAXIMUM
"""Of a buffer: what may still grow is carried over, and is shorter than the longest chunk."""
_WORTH_A_BUFFER = CAPACITY // 2
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
    """Whole chunks of an entry, in order.

    Attributes:
        path: of the entry.
        offset: in it, of the first chunk.
        chunks: the content; ``skip`` bytes at the start of each are none.
        skip: see ``chunks``.
        size: of all chunks.
        buffer: what the chunks are views of; to be given back to the ``Buffers`` that it came from.
    """

    path: str
    offset: int
    chunks: Sequence[memoryview]
    skip: int
    size: int
    buffer: bytearray


class Buffers:
    """Buffers of one size that are used again. Safe to use from several threads."""

    def __init__(self) -> None:
        self._free: deque[bytearray] = deque()

    def take(self) -> bytearray:
        """A buffer whose content is anything."""
        try:
            return self._free.pop()
        except IndexError:
            return bytearray(CAPACITY)

    def give_back(self, buffer: bytearray) -> None:
        """Nobody looks at ``buffer`` any more."""
        if len(buffer) == CAPACITY:
            self._free.append(buffer)


class Filler:
    """Gathers one entry's content after the other. Used by the thread that writes.

    Args:
        seed: of the content cutter.
        buffers: where buffers come from.
        hand_over: takes whole chunks, in order.
    """

    def __init__(self, seed: int, buffers: Buffers, hand_over: Callable[[Piece], None]) -> None:
        self._buffers = buffers
        self._send = hand_over
        self._buffer = buffers.take()
        self._used = 0
        self._cutters: dict[Cutting, chunking.Cutter] = {
            "content": chunking.ContentCutter(seed),
            "fixed": chunking.FixedCutter(),
            "private": chunking.FixedCutter(),
        }

    def write(self, entry: Open, data: memoryview) -> None:
        """Append content."""
        entry.size += len(data)
        at = 0
        while at < len(data):
            part = data[at : at + CAPACITY - self._used]
            memoryview(self._buffer)[self._used : self._used + len(part)] = part
            self._used += len(part)
            at += len(part)
            if self._used == CAPACITY:
                self._hand_over(entry, final=False)

    def room(self) -> memoryview:
        """Place for the next content, never empty: a whole number of pages of a database, when what came before was."""
        return memoryview(self._buffer)[self._used :]

    def filled(self, entry: Open, size: int) -> None:
        """So many bytes of ``room`` are content now."""
        entry.size += size
        self._used += size
        if self._used == CAPACITY:
            self._hand_over(entry, final=False)

    def finish(self, entry: Open) -> None:
        """A chunk ends here."""
        if self._used:
            self._hand_over(entry, final=True)

    def _hand_over(self, entry: Open, *, final: bool) -> None:
        """Send whole chunks on; what may still grow begins the next buffer."""
        view = memoryview(self._buffer)[: self._used]
        lengths = list(self._cutters[entry.cutting].lengths(view, final=final))
        size = sum(lengths)
        buffer, self._used = self._buffer, self._used - size
        if final and size < _WORTH_A_BUFFER:
            buffer = bytearray(view)  # thousands of small entries may be on their way at once
        else:
            self._buffer = self._buffers.take()
            memoryview(self._buffer)[: self._used] = view[size:]
        private = entry.cutting == "private"
        chunks = _chunks(memoryview(buffer), lengths, PRIVATE_PREFIX if private else 0)
        piece = Piece(entry.path, entry.handed, chunks, PRIVATE_PREFIX if private else 0, size, buffer)
        entry.handed += size
        self._send(piece)


def _chunks(content: memoryview, lengths: Sequence[int], prefix: int) -> list[memoryview]:
    """Chunks of these lengths; each with so many random bytes in front that nobody can guess it."""
    chunks, at = [], 0
    for length in lengths:
        chunk = content[at : at + length]
        chunks.append(memoryview(os.urandom(prefix) + chunk) if prefix else chunk)
        at += length
    return chunks
