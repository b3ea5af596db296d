"""Read pg_dump's custom format as a stream: its table of contents, then one data block after the other.

::

    archive = open_archive(pipe.stdout)
    archive.toc.raw                      # the exact bytes
    for block in archive.blocks():
        for piece in block.pieces():     # the exact bytes, block.header first
            ...
        block.summary                    # rows and digest, known once the pieces were taken
    archive.finish()                     # everything that the table of contents announces was there
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import BinaryIO

from dr_toolkit.postgres.archive_data import Block, DataBlock
from dr_toolkit.postgres.archive_toc import Toc, TocEntry
from dr_toolkit.postgres.digests import LargeObjectsSummary, TableSummary

__all__ = [
    "Archive",
    "Block",
    "DataBlock",
    "LargeObjectsSummary",
    "TableSummary",
    "Toc",
    "TocEntry",
    "open_archive",
    "restore_stream",
]


class Archive:
    """An archive that is being read; made by `open_archive`."""

    toc: Toc

    def blocks(self) -> Iterator[Block]:
        """Data blocks in the archive's order. Take all pieces of one before asking for the next."""
        raise NotImplementedError

    def finish(self) -> None:
        """Check that the stream ended after the last block and that no announced block is missing."""
        raise NotImplementedError


def open_archive(stream: BinaryIO) -> Archive:
    """Read header and table of contents.

    Raises:
        UnknownFormat: not a custom-format archive, or of a version that is not known.
        SourceError: the stream ended early or holds something impossible.
    """
    raise NotImplementedError


def restore_stream(toc: bytes, blocks: Iterable[Iterable[bytes]]) -> Iterator[bytes]:
    """What to write to ``pg_restore``'s standard input: the exact table of contents, then the chosen blocks.

    ``blocks`` must come in the archive's own order. Without any block it serves ``--section=pre-data`` and ``post-data``.
    """
    yield toc
    for block in blocks:
        yield from block
