"""Content on its way into the pipeline: gathered in buffers that are used again, and cut into chunks where it lies.

A chunk is a view of its buffer, from here until it is compressed, so that content is copied once. Whoever is done with a buffer
gives it back.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from dr_toolkit.repository import chunking
from dr_toolkit.repository.entries import Cutting

SEGMENT = 1 << 19
"""New content in a buffer, at least, when it is handed to the stages in the middle of an entry."""
CAPACITY = SEGMENT + chunking.MAXIMUM
"""Of a buffer: what may still grow is carried over, and is shorter than the longest chunk."""
_WORTH_A_BUFFER = CAPACITY // 2
PRIVATE_PREFIX = 32
REACH = 4 << 20
"""How far apart in an entry the content of one chunk may begin: what a reader fetches at once, so that it opens few chunks twice."""


@dataclass(slots=True)
class Open:
    """The mark of an entry's beginning, and what is known of it so far.

    Attributes:
        path, kind, cutting: as the source said.
        size: so far.
        handed: up to where it was handed over.
        laid: what comes after that, where not all of it is new content.
    """

    path: str
    kind: str
    cutting: Cutting
    size: int = 0
    handed: int = 0
    laid: list[Laid] = field(default_factory=list)

    @property
    def too_far(self) -> bool:
        """Whether what comes now should not share a chunk with what waits."""
        return bool(self.laid) and self.size - self.laid[0].offset >= REACH

    def gap(self, part: Keep | Hole, waiting: int) -> None:
        """Something that is no new content comes, while so many bytes of content wait."""
        if not self.laid:
            self.laid.append(New(self.handed, waiting))
        self.laid.append(part)
        self.size += part.length


@dataclass(frozen=True, slots=True)
class New:
    """The place of new content in an entry."""

    offset: int
    length: int


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


Laid = New | Keep | Hole


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
        laid: where the content goes, and what lies between, in order; empty where it goes to ``offset`` and what follows.
    """

    path: str
    offset: int
    chunks: Sequence[memoryview]
    skip: int
    size: int
    buffer: bytearray
    laid: Sequence[Laid] = ()


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

    @property
    def waiting(self) -> int:
        """Bytes of content that were not handed over yet."""
        return self._used

    def write(self, entry: Open, data: memoryview) -> None:
        """Append content."""
        if entry.too_far:
            self.finish(entry)
        self._comes(entry, len(data))
        at = 0
        while at < len(data):
            part = data[at : at + CAPACITY - self._used]
            memoryview(self._buffer)[self._used : self._used + len(part)] = part
            self._used += len(part)
            at += len(part)
            if self._used == CAPACITY:
                self._hand_over(entry, final=False)

    def room(self, entry: Open, least: int) -> memoryview:
        """Place for the next content, at least ``least`` bytes: a whole number of pages of a database, when what came before was."""
        if CAPACITY - self._used < least:
            self._hand_over(entry, final=False)
        return memoryview(self._buffer)[self._used :]

    def filled(self, entry: Open, size: int) -> None:
        """So many bytes of ``room`` are content now."""
        self._comes(entry, size)
        self._used += size
        if self._used == CAPACITY:
            self._hand_over(entry, final=False)

    def finish(self, entry: Open) -> None:
        """A chunk ends here."""
        if self._used:
            self._hand_over(entry, final=True)

    @staticmethod
    def _comes(entry: Open, size: int) -> None:
        if entry.laid:
            entry.laid.append(New(entry.size, size))
        entry.size += size

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
        laid, entry.laid = taken_from(entry.laid, None if final else size)
        piece = Piece(entry.path, entry.handed, chunks, PRIVATE_PREFIX if private else 0, size, buffer, laid)
        entry.handed = laid[-1].offset + laid[-1].length if laid else entry.handed + size
        self._send(piece)


def taken_from(laid: Sequence[Laid], size: int | None) -> tuple[list[Laid], list[Laid]]:
    """Cut a list where so many bytes of its new content end; None takes all. Pure."""
    if size is None:
        return list(laid), []
    taken: list[Laid] = []
    for number, part in enumerate(laid):
        if not isinstance(part, New):
            taken.append(part)
            continue
        if part.length > size:
            first = [New(part.offset, size)] if size else []
            return taken + first, [New(part.offset + size, part.length - size), *laid[number + 1 :]]
        taken.append(part)
        size -= part.length
    return taken, []


def spread(laid: Sequence[Laid], lengths: Sequence[int]) -> Iterator[Keep | Hole | tuple[New, int, int]]:
    """What lies between, and each place of new content with the number of its chunk and where in that it begins. Pure.

    Args:
        laid: where the content of the chunks goes, and what lies between.
        lengths: of the chunks.
    """
    number = at = 0
    for part in laid:
        if not isinstance(part, New):
            yield part
            continue
        offset, end = part.offset, part.offset + part.length
        while offset < end:
            length = min(end - offset, lengths[number] - at)
            yield New(offset, length), number, at
            offset, at = offset + length, at + length
            if at == lengths[number]:
                number, at = number + 1, 0


def _chunks(content: memoryview, lengths: Sequence[int], prefix: int) -> list[memoryview]:
    """Chunks of these lengths; each with so many random bytes in front that nobody can guess it."""
    chunks, at = [], 0
    for length in lengths:
        chunk = content[at : at + length]
        chunks.append(memoryview(os.urandom(prefix) + chunk) if prefix else chunk)
        at += length
    return chunks
