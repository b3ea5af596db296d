"""The framing of data blocks: pieces of content, each behind its length, up to a length of zero.

A parser is fed a window of the stream that begins where it stopped before, says how many bytes it understood, and wants more
when it understood none. What it understands goes to a digest; the bytes themselves stay where they are.

pg_dump writes, without compression, one piece for every row of a table. A loop in Python over rows would be slower than
pg_dump, so `one_line_pieces` follows thousands of headers at once. It never guesses: where the pieces are not one line each,
the exact loop takes over and the digest is made from the rows themselves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from dr_toolkit.errors import SourceError, UnknownFormat
from dr_toolkit.postgres.digests import (
    LargeObjectsDigest,
    LargeObjectsSummary,
    RowDigest,
    StatementDigest,
    TableSummary,
)

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
else:
    from dr_toolkit.postgres import numpy_later as np

HEADER = 5
TERMINATOR = b"\\.\n\n\n"
"""The last piece of a table's data: COPY's end marker and two more line feeds."""

_END_LINE = b"\\.\n"  # no row looks like it: COPY writes a backslash twice

_LINE_FEED = 10
_FIRST_WINDOW = 4096
_WORD = 8
_HEADER_BITS = (1 << 8 * HEADER) - 1
_FRACTION_BITS, _EXPONENT_BIAS = 52, 1023
"""Of a double (IEEE 754)."""


class FrameParser(Protocol):
    """Understands the content of one kind of data block."""

    @property
    def done(self) -> bool:
        """Whether the block's end was understood."""

    def feed(self, window: memoryview) -> int:
        """Understand a beginning of the window, at least one byte if there is enough to go on, and give its length."""

    def summary(self) -> TableSummary | LargeObjectsSummary:
        """What the block held; only when ``done``."""


def length_of(window: memoryview) -> int:
    """The length that the header at the window's beginning announces."""
    if window[0]:
        raise SourceError("the archive holds a piece of data of negative length")
    return int.from_bytes(window[1:HEADER], "little")


def one_line_pieces(window: memoryview) -> tuple[int, int]:
    """Find the longest run of whole pieces at the window's beginning of which each holds exactly one line.

    Returns:
        The run's length in bytes and its number of pieces.
    """
    starts = _one_line_starts(window)
    return int(starts[-1]), starts.size - 1


def one_line_text(window: memoryview) -> tuple[int, bytes]:
    """The lines of `one_line_pieces` without their headers.

    Returns:
        The run's length in bytes, headers included, and its text.
    """
    starts = _one_line_starts(window)
    run = np.frombuffer(window[: int(starts[-1])], np.uint8)
    content = np.ones(run.size, np.bool_)
    for place in range(HEADER):
        content[starts[:-1] + place] = False
    return run.size, run[content].tobytes()


def _one_line_starts(window: memoryview) -> npt.NDArray[np.int64]:
    """Where the pieces of such a run begin, and where it ends.

    In COPY's text format a row has one line feed, its last byte. So a piece can begin only after a line feed, and a line
    feed within a header (a length that has the byte 10 in it) shows as a beginning within five bytes of the true one before
    it; a true next one is never that near, because such a length is 10 at least. What remains is checked without exception:
    each header's length must lead exactly to the next beginning.
    """
    data = np.frombuffer(window, np.uint8)
    starts = _after_line_feeds(data)
    distances = np.diff(starts)
    # Nearly always all rows are longer than this, and neither false beginnings nor an end marker can be there.
    if not (distances <= HEADER + len(_END_LINE)).any():
        return _followed(window, starts, distances, None)
    near = np.flatnonzero(distances <= HEADER) + 1
    starts, false = _without(starts, near) if near.size else (starts, near)
    if starts.size == 1:
        return starts
    heads = starts[:-1]
    distances = np.diff(starts)
    possible = np.ones(heads.size, np.bool_)
    possible[false[false < heads.size]] = False
    short = np.flatnonzero(distances == HEADER + len(_END_LINE))
    if short.size:
        at = heads[short] + HEADER
        possible[short] &= (data[at] != _END_LINE[0]) | (data[at + 1] != _END_LINE[1])
    return _followed(window, starts, distances, possible)


def _followed(
    window: memoryview,
    starts: npt.NDArray[np.int64],
    distances: npt.NDArray[np.int64],
    possible: npt.NDArray[np.bool_] | None,
) -> npt.NDArray[np.int64]:
    """The beginnings up to the first whose header does not lead exactly to the next one, or that is not ``possible``."""
    if starts.size == 1:
        return starts
    heads = starts[:-1]
    leads = np.empty(heads.size, np.bool_)
    # The same bytes as overlapping integers of 64 bits, so that one gather fetches whole headers.
    inside = int(np.searchsorted(heads, len(window) - _WORD, side="right"))
    if inside:
        words: npt.NDArray[np.uint64] = np.ndarray((len(window) - _WORD + 1,), "<u8", window, strides=(1,))
        expected = (distances[:inside] - HEADER).astype(np.uint64) << np.uint64(8)
        np.equal(words[heads[:inside]] & np.uint64(_HEADER_BITS), expected, out=leads[:inside])
    for place in range(inside, heads.size):
        head = int(heads[place])
        length = int.from_bytes(window[head + 1 : head + HEADER], "little")
        leads[place] = window[head] == 0 and length == distances[place] - HEADER
    if possible is not None:
        leads &= possible
    count = int(leads.size if leads.all() else leads.argmin())
    return starts[: count + 1]


def _after_line_feeds(data: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """Zero, and the position after each line feed."""
    found = line_feeds(data)
    starts = np.empty(found.size + 1, np.int64)
    starts[0] = 0
    np.add(found, 1, out=starts[1:])
    return starts


def line_feeds(data: npt.NDArray[np.uint8]) -> npt.NDArray[np.intp]:
    """Positions of line feeds.

    numpy looks for what is not zero byte by byte. Rows are longer than that: whole words without a line feed are sorted out first, which
    takes half the time.
    """
    marks = data == _LINE_FEED
    whole = marks.size // _WORD * _WORD
    words = marks[:whole].view("<u8")
    hit = np.flatnonzero(words != 0)
    found = words[hit]
    if marks[whole:].any() or (found & (found - np.uint64(1))).any():  # two in a word: short rows
        return np.flatnonzero(marks)
    # A mark is a 1 in one of a word's eight bytes. As a floating-point number its exponent says in which.
    exponents = found.astype("<f8").view("<i8") >> _FRACTION_BITS
    at: npt.NDArray[np.intp] = hit * _WORD + ((exponents - _EXPONENT_BIAS) >> 3)
    return at


def _without(
    starts: npt.NDArray[np.int64], near: npt.NDArray[np.intp]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.intp]]:
    """Drop the places ``near`` others from ``starts``.

    Returns:
        What remains, and the indices of those that are followed by a dropped one outside their header: such a piece holds
        more than one line.
    """
    keep = np.ones(starts.size, np.bool_)
    keep[near] = False
    owners = np.cumsum(keep)[near] - 1
    remaining = starts[keep]
    return remaining, owners[starts[near] - remaining[owners] > HEADER]


class TableFrames:
    """COPY text.

    Args:
        capacity: the largest window that will ever be given; a longer piece is passed on in parts.
    """

    def __init__(self, capacity: int) -> None:
        self._ended = False
        self._capacity = capacity
        self._digest = RowDigest()
        self._look_at = _FIRST_WINDOW  # grows: the tables are many and most are small
        self._long_row = 0
        self._pieces: _Pieces | None = None

    @property
    def done(self) -> bool:
        """See `FrameParser`."""
        return self._ended if self._pieces is None else self._pieces.done

    def feed(self, window: memoryview) -> int:
        """See `FrameParser`."""
        if self._pieces is not None:
            return self._pieces.feed(window)
        if self._long_row:
            return self._continue_row(window)
        used, rows = one_line_pieces(window[: self._look_at])
        if rows:
            self._look_at = min(2 * self._look_at, self._capacity)
            self._digest.framed(window[:used], rows)
            return used
        return self._one_piece(window)

    def summary(self) -> TableSummary:
        """See `FrameParser`."""
        return self._digest.summary()

    def _one_piece(self, window: memoryview) -> int:
        if len(window) < HEADER:
            return 0
        length = length_of(window)
        whole = HEADER + length
        if length == 0:
            self._ended = True
            return whole
        if whole > self._capacity:
            self._long_row = length
            self._digest.begin_row(length)
            return HEADER
        return self._whole_piece(window, whole) if whole <= len(window) else 0

    def _whole_piece(self, window: memoryview, whole: int) -> int:
        content = bytes(window[HEADER:whole])
        if content == TERMINATOR:
            self._digest.terminated()
            self._pieces = _Pieces(self._digest)  # whatever still comes is not a row
            return whole
        if content.find(b"\n") == len(content) - 1 and content != _END_LINE:
            self._digest.framed(window[:whole], 1)
            return whole
        self._pieces = _Pieces(self._digest)
        return self._pieces.feed(window)

    def _continue_row(self, window: memoryview) -> int:
        part = window[: self._long_row]
        at = bytes(part).find(b"\n")
        self._long_row -= len(part)
        ends_well = at == len(part) - 1 if self._long_row == 0 else at == -1
        if not ends_well:
            raise UnknownFormat(
                "the archive holds a long piece of data that is not exactly one row",
                hint="use the pg_dump of PostgreSQL 18 or older",
            )
        self._digest.continue_row(part)
        return len(part)


class _Pieces:
    """The exact loop, for pieces cut in any way."""

    def __init__(self, digest: RowDigest | StatementDigest) -> None:
        self.done = False
        self._digest = digest
        self._left = 0

    def feed(self, window: memoryview) -> int:
        at = 0
        while at < len(window):
            if self._left:
                part = window[at : at + self._left]
                self._digest.text(part)
                self._left -= len(part)
                at += len(part)
            elif len(window) - at < HEADER:
                break
            else:
                self._left = length_of(window[at : at + HEADER])
                at += HEADER
                if self._left == 0:
                    self.done = True
                    break
        return at


class StatementFrames:
    """Table data that is not COPY text."""

    def __init__(self) -> None:
        self._digest = StatementDigest()
        self._pieces = _Pieces(self._digest)

    @property
    def done(self) -> bool:
        """See `FrameParser`."""
        return self._pieces.done

    def feed(self, window: memoryview) -> int:
        """See `FrameParser`."""
        return self._pieces.feed(window)

    def summary(self) -> TableSummary:
        """See `FrameParser`."""
        return self._digest.summary()


class LargeObjectFrames:
    """Large objects: an oid and its pieces, and so on up to an oid of zero."""

    def __init__(self) -> None:
        self.done = False
        self._digest = LargeObjectsDigest()
        self._inside = False
        self._left = 0

    def feed(self, window: memoryview) -> int:
        """See `FrameParser`."""
        at = 0
        while at < len(window) and not self.done:
            if self._left:
                part = window[at : at + self._left]
                self._digest.content(part)
                self._left -= len(part)
                at += len(part)
            elif len(window) - at < HEADER:
                break
            else:
                self._header(window[at : at + HEADER])
                at += HEADER
        return at

    def summary(self) -> LargeObjectsSummary:
        """See `FrameParser`."""
        return self._digest.summary()

    def _header(self, header: memoryview) -> None:
        if self._inside:
            self._left = length_of(header)
            if self._left == 0:
                self._digest.end()
                self._inside = False
            return
        # An oid above 2^31 is written as a negative integer.
        value = int.from_bytes(header[1:], "little")
        oid = (-value if header[0] else value) % (1 << 32)
        if oid == 0:
            self.done = True
            return
        self._digest.begin(oid)
        self._inside = True
