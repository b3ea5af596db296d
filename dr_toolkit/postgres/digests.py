"""What a table's or large objects' content is, in a few bytes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TableSummary:
    """A table's content as dumped.

    Attributes:
        rows: number of rows; None when the data is not COPY text.
        digest: BLAKE3 (hex) over ``00 || LE32(length) || row`` of every row in order.
        size: bytes of the rows themselves.
    """

    rows: int | None
    digest: str
    size: int


@dataclass(frozen=True, slots=True)
class LargeObjectsSummary:
    """Large objects as dumped.

    Attributes:
        count: how many.
        digest: order-independent: the sum modulo 2^256 of BLAKE3(LE64(oid) || LE64(length) || BLAKE3(content)), hex.
        size: bytes of their content.
    """

    count: int
    digest: str
    size: int


def row_multiset(pieces: Iterable[bytes]) -> str:
    """Order-independent digest of a table data block's rows: the sum modulo 2^256 of the rows' BLAKE3, hex."""
    raise NotImplementedError
