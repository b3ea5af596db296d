"""Data blocks of pg_dump's custom format."""

from __future__ import annotations

from collections.abc import Iterator

from dr_toolkit.postgres.archive_toc import TocEntry
from dr_toolkit.postgres.digests import LargeObjectsSummary, TableSummary


class DataBlock:
    """One data block that is being read."""

    entry: TocEntry
    header: bytes

    def pieces(self) -> Iterator[memoryview]:
        """The block's exact bytes, header first; a piece is valid until the next one is asked for."""
        raise NotImplementedError

    @property
    def summary(self) -> TableSummary | LargeObjectsSummary:
        """What the block holds; only after all pieces were taken."""
        raise NotImplementedError


Block = DataBlock
