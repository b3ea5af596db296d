"""What a table's or large objects' content is, in a few bytes that can be compared.

A table's digest is BLAKE3 over ``00 || LE32(length) || row`` of each row in order, a row being one line of COPY's text format with
its line feed. The bytes that pg_dump writes for a table in an uncompressed archive are, until now, exactly that, so that the
digest costs one pass over bytes that are at hand; another cutting of the same rows gives the same digest.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from blake3 import blake3

from dr_toolkit.errors import SourceError, UnknownFormat

if TYPE_CHECKING:
    import numpy as np
else:
    from dr_toolkit.postgres import numpy_later as np

_MODULUS = 1 << 256
_HEADER = struct.Struct("<BI")
_LARGE_OBJECT = struct.Struct("<QQ")
_TERMINATOR = b"\\."
_AFTER_TERMINATOR = b"\n\n"
_MAX_ROW = (1 << 31) - 1


@dataclass(frozen=True, slots=True)
class TableSummary:
    """A table's content as dumped.

    Attributes:
        rows: number of rows; None when the data is not COPY text (the digest is then over the statements' bytes).
        digest: hexadecimal.
        size: bytes of the rows themselves.
    """

    rows: int | None
    digest: str
    size: int


@dataclass(frozen=True, slots=True)
class LargeObjectsSummary:
    """Large objects as dumped; the digest does not depend on their order.

    Attributes:
        count: how many.
        digest: the sum modulo 2^256 of BLAKE3(LE64(oid) || LE64(length) || BLAKE3(content)), hexadecimal.
        size: bytes of their content.
    """

    count: int
    digest: str
    size: int

    def __add__(self, other: LargeObjectsSummary) -> LargeObjectsSummary:
        total = (int(self.digest, 16) + int(other.digest, 16)) % _MODULUS
        return LargeObjectsSummary(self.count + other.count, f"{total:064x}", self.size + other.size)


NO_LARGE_OBJECTS = LargeObjectsSummary(0, "0" * 64, 0)


class RowDigest:
    """Counts and hashes the rows of one table."""

    def __init__(self) -> None:
        self._hasher = blake3()
        self._rows = 0
        self._size = 0
        self._partial = bytearray()
        self._after: bytearray | None = None

    def framed(self, data: memoryview, rows: int) -> None:
        """Take rows that already stand in the digest's form, headers and all."""
        self._hasher.update(data)
        self._rows += rows
        self._size += len(data) - rows * _HEADER.size

    def begin_row(self, length: int) -> None:
        """Take the header of one long row; its bytes follow through `continue_row`."""
        self._hasher.update(_HEADER.pack(0, length))
        self._rows += 1
        self._size += length

    def continue_row(self, data: memoryview) -> None:
        """Take a part of the row that `begin_row` announced."""
        self._hasher.update(data)

    def text(self, data: bytes | memoryview) -> None:
        """Take any piece of COPY text, cut anywhere. A row is kept in memory until its end is seen."""
        if self._after is not None:
            self._after += data[: len(_AFTER_TERMINATOR) + 1]  # enough to see that there is too much
            return
        self._partial += data
        if len(self._partial) > _MAX_ROW:
            raise SourceError("a row of the archive is longer than 2 GiB")
        end = self._partial.rfind(b"\n", len(self._partial) - len(data)) + 1
        if end == 0:
            return
        lines = bytes(self._partial[:end]).split(b"\n")[:-1]
        del self._partial[:end]
        if _TERMINATOR in lines:
            at = lines.index(_TERMINATOR)
            self._after = bytearray(b"".join(line + b"\n" for line in lines[at + 1 :]) + self._partial)
            lines, self._partial = lines[:at], bytearray()
        self._hasher.update(b"".join([_HEADER.pack(0, len(line) + 1) + line + b"\n" for line in lines]))
        self._rows += len(lines)
        self._size += sum(map(len, lines)) + len(lines)

    def terminated(self) -> None:
        """Note that COPY's end marker was seen."""
        self._after = bytearray(_AFTER_TERMINATOR)

    def summary(self) -> TableSummary:
        """Rows and digest of everything taken.

        Raises:
            SourceError: the end marker is missing.
            UnknownFormat: something other than two line feeds follows the end marker.
        """
        if self._after is None:
            raise SourceError("a table's data ended without COPY's end marker")
        if self._after != _AFTER_TERMINATOR:
            raise UnknownFormat("a table's data holds something after COPY's end marker")
        return TableSummary(self._rows, self._hasher.hexdigest(), self._size)


class StatementDigest:
    """Hashes table data that is not COPY text (``pg_dump --inserts``)."""

    def __init__(self) -> None:
        self._hasher = blake3()
        self._size = 0

    def text(self, data: bytes | memoryview) -> None:
        """Take a piece."""
        self._hasher.update(data)
        self._size += len(data)

    def summary(self) -> TableSummary:
        """Digest of everything taken, without a number of rows."""
        return TableSummary(None, self._hasher.hexdigest(), self._size)


class LargeObjectsDigest:
    """Counts and hashes large objects."""

    def __init__(self) -> None:
        self._count = 0
        self._size = 0
        self._sum = 0
        self._oid = 0
        self._length = 0
        self._hasher = blake3()

    def begin(self, oid: int) -> None:
        """Start the next large object."""
        self._oid, self._length, self._hasher = oid, 0, blake3()

    def content(self, data: bytes | memoryview) -> None:
        """Take a piece of its content."""
        self._hasher.update(data)
        self._length += len(data)

    def end(self) -> None:
        """Close the large object."""
        record = blake3(_LARGE_OBJECT.pack(self._oid, self._length) + self._hasher.digest()).digest()
        self._sum = (self._sum + int.from_bytes(record, "big")) % _MODULUS
        self._count += 1
        self._size += self._length

    def summary(self) -> LargeObjectsSummary:
        """What was taken so far."""
        return LargeObjectsSummary(self._count, f"{self._sum:064x}", self._size)


def multiset(batches: Iterable[list[bytes]]) -> str:
    """Order-independent digest: the sum modulo 2^256 of the rows' BLAKE3 as big-endian numbers, hexadecimal."""
    total = 0
    for rows in batches:
        digests = b"".join([blake3(row).digest() for row in rows])
        # Eight columns of 32 bits each, summed apart: far fewer big numbers than rows.
        columns = np.frombuffer(digests, ">u4").reshape(-1, 8).sum(axis=0, dtype=np.uint64)
        total += sum(int(column) << (32 * (7 - place)) for place, column in enumerate(columns))
    return f"{total % _MODULUS:064x}"


def lines_of(pieces: Iterable[bytes | memoryview]) -> Iterator[list[bytes]]:
    """Cut COPY text into its rows, several at a time, up to and without the end marker.

    Raises:
        SourceError: the end marker is missing.
    """
    partial: list[bytes] = []  # a long row is joined once
    for piece in pieces:
        first, *others = bytes(piece).split(b"\n")
        partial.append(first)
        if not others:
            continue
        lines = [b"".join(partial), *others[:-1]]
        partial = [others[-1]]
        if _TERMINATOR in lines:
            yield [line + b"\n" for line in lines[: lines.index(_TERMINATOR)]]
            return
        yield [line + b"\n" for line in lines]
    raise SourceError("a table's data ended without COPY's end marker")
