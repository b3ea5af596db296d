"""CRC-32C of files whose checksum the server's manifest does not know, because they were put together from its increments."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache

import google_crc32c

from dr_toolkit.postgres import base_manifest
from dr_toolkit.postgres.base_overlay import LABEL

_POLYNOMIAL = 0x82F63B78
_ONE = 1 << 31
"""The polynomial 1: the lowest power is the highest bit."""


class FileSum:
    """The sum of one file whose parts come in any order. Safe to use from several threads."""

    def __init__(self) -> None:
        self._parts: list[tuple[int, int, int]] = []

    def add(self, offset: int, pieces: Iterable[bytes]) -> None:
        """Count a part."""
        for _piece in self.through(offset, pieces):
            pass

    def through(self, offset: int, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """Pass a part on, and count it."""
        size = value = 0
        for piece in pieces:
            size, value = size + len(piece), google_crc32c.extend(value, piece)
            yield piece
        self._parts.append((offset, size, value))

    def result(self) -> tuple[int, int]:
        """Size and sum of all parts."""
        size = value = 0
        for _offset, length, more in sorted(self._parts):
            size, value = size + length, combined(value, more, length)
        return size, value


def combined(first: int, second: int, length: int) -> int:
    """The sum of two contents, one after the other, from their sums and the length of the second. Pure."""
    return _times(_shift(length), first) ^ second


@lru_cache(maxsize=64)
def _shift(length: int) -> int:
    """What a sum is multiplied by when so many bytes follow: x to the power of their bits."""
    product, power = _ONE, _ONE >> 8
    while length:
        if length & 1:
            product = _times(power, product)
        power = _times(power, power)
        length >>= 1
    return product


def _times(left: int, right: int) -> int:
    """The product of two polynomials over GF(2), modulo CRC-32C's."""
    product = 0
    for bit in range(31, -1, -1):
        if left >> bit & 1:
            product ^= right
        right = right >> 1 ^ (_POLYNOMIAL if right & 1 else 0)
    return product


class Checksums:
    """What `pg_verifybackup` must know of a restored cluster beside the server's own manifest. Safe to use from several threads.

    The sums are of what the repository gave, each chunk of which was just held against its id; never of what lies on the disk.

    Args:
        manifest: the server's, as it is in the snapshot.
    """

    def __init__(self, manifest: bytes) -> None:
        self._manifest = manifest
        overlaid = base_manifest.overlaid(manifest)
        self._wanted = overlaid | {LABEL} if overlaid else overlaid
        self._found: dict[str, tuple[int, int]] = {}

    def wants(self, path: str) -> bool:
        """Whether a file's sum is needed."""
        return path in self._wanted

    def through(self, path: str, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """Pass a file's content on in order, and keep its sum where it is needed."""
        if path not in self._wanted:
            yield from pieces
            return
        size = value = 0
        for piece in pieces:
            size, value = size + len(piece), google_crc32c.extend(value, piece)
            yield piece
        self._found[path] = size, value

    def keep(self, path: str, found: FileSum) -> None:
        """Keep a file's sum."""
        self._found[path] = found.result()

    def manifest(self) -> bytes:
        """The restored cluster's manifest: the server's own, verbatim, where nothing was put together."""
        return base_manifest.of_restored(self._manifest, self._found) if self._wanted else self._manifest
