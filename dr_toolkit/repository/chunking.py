"""Where entries are cut into chunks. The format does not depend on it (docs/format.md, section 6)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import pyfastcdc

MINIMUM = 32 << 10
AVERAGE = 64 << 10
MAXIMUM = 256 << 10
FIXED = 128 << 10


class Cutter(Protocol):
    """Cuts a buffer that begins at a chunk boundary."""

    def lengths(self, buffer: memoryview, *, final: bool) -> Iterator[int]:
        """Lengths of whole chunks from the start of ``buffer``. Unless ``final``, what might still grow is left."""


class ContentCutter:
    """FastCDC: cuts depend on the content near them, so that an insertion moves no other cut.

    Args:
        seed: of the repository (from its cut key), so that lengths of chunks say nothing about known content.
    """

    def __init__(self, seed: int) -> None:
        self._engine = pyfastcdc.FastCDC(avg_size=AVERAGE, min_size=MINIMUM, max_size=MAXIMUM, seed=seed)

    def lengths(self, buffer: memoryview, *, final: bool) -> Iterator[int]:
        """See ``Cutter``."""
        rest = len(buffer)
        for chunk in self._engine.cut_buf(buffer):
            rest -= chunk.length
            # The last one may only end where the buffer does: it is decided when more has come.
            if rest == 0 and not final and chunk.length < MAXIMUM:
                return
            yield chunk.length


class FixedCutter:
    """Blocks of one size, for files that change in place."""

    def __init__(self, block: int = FIXED) -> None:
        self._block = block

    def lengths(self, buffer: memoryview, *, final: bool) -> Iterator[int]:
        """See ``Cutter``."""
        whole, rest = divmod(len(buffer), self._block)
        yield from (self._block for _ in range(whole))
        if final and rest:
            yield rest
