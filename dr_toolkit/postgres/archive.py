"""Read pg_dump's custom format as a stream: its table of contents, then one data block after the other.

::

    archive = open_archive(pipe.stdout)
    archive.toc.raw                      # the exact bytes up to the first data block
    for block in archive.blocks():
        block.header.raw                 # the exact bytes of the block's header
        for piece in block.pieces():     # the exact bytes of the rest, on their way through
            ...
        block.summary                    # rows and digest, known once the pieces were taken

Concatenated, these bytes are the archive. Once ``blocks()`` has run to its end, everything that the table of contents announces
was there, and whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from dr_toolkit.errors import SourceError
from dr_toolkit.postgres.archive_data import BLOCK_HEADER, BlockHeader, DataBlock, columns_of, read_blocks
from dr_toolkit.postgres.archive_frames import HEADER, length_of, one_line_text
from dr_toolkit.postgres.archive_stream import CAPACITY, ByteReader, Readable
from dr_toolkit.postgres.archive_toc import Toc, TocEntry, read_toc
from dr_toolkit.postgres.digests import (
    NO_LARGE_OBJECTS,
    LargeObjectsSummary,
    TableSummary,
    lines_of,
    multiset,
)

__all__ = [
    "Archive",
    "Contents",
    "DataBlock",
    "LargeObjectsSummary",
    "TableSummary",
    "Toc",
    "TocEntry",
    "columns_of",
    "contents",
    "open_archive",
    "restore_stream",
    "row_multiset",
]


class Archive:
    """An archive that is being read; made by `open_archive`."""

    def __init__(self, reader: ByteReader) -> None:
        self._reader = reader
        self.toc = read_toc(reader)

    def blocks(self) -> Iterator[DataBlock]:
        """Data blocks in the archive's order, once. See `archive_data.read_blocks` for what is raised."""
        return read_blocks(self._reader, self.toc)


def open_archive(
    stream: Readable, *, on_bytes: Callable[[int], None] | None = None, capacity: int = CAPACITY
) -> Archive:
    """Read header and table of contents.

    Args:
        stream: the archive, at its beginning.
        on_bytes: told the number of bytes after each read.
        capacity: bytes of buffer.

    Raises:
        UnknownFormat: not an uncompressed archive in custom format, or of a version that is not known.
        SourceError: the stream ended early or holds something impossible.
    """
    return Archive(ByteReader(stream, on_bytes=on_bytes, capacity=capacity))


@dataclass(frozen=True, slots=True)
class Contents:
    """What an archive holds, without the data.

    Attributes:
        toc: its table of contents.
        tables: by schema and name.
        large_objects: all of them together.
    """

    toc: Toc
    tables: dict[tuple[str, str], TableSummary]
    large_objects: LargeObjectsSummary


def contents(stream: Readable, *, on_bytes: Callable[[int], None] | None = None) -> Contents:
    """Read a whole archive for its digests alone."""
    archive = open_archive(stream, on_bytes=on_bytes)
    tables: dict[tuple[str, str], TableSummary] = {}
    large_objects = NO_LARGE_OBJECTS
    for block in archive.blocks():
        for _piece in block.pieces():
            pass
        summary = block.summary
        if isinstance(summary, TableSummary):
            tables[block.entry.namespace or "", block.entry.tag] = summary
        else:
            large_objects += summary
    return Contents(archive.toc, tables, large_objects)


def row_multiset(block: Iterable[bytes]) -> str:
    """Order-independent digest of a table's rows: the sum modulo 2^256 of the rows' BLAKE3, hexadecimal.

    Args:
        block: the exact bytes of one table's data block, header first, cut anywhere.

    Raises:
        SourceError: the block is cut off or has no end marker.
    """
    return multiset(lines_of(_unframed(block)))


def _unframed(block: Iterable[bytes]) -> Iterator[bytes]:
    """The content of a table's data block without its framing."""
    pending = b""
    header_seen = False
    left = 0
    for piece in block:
        pending += piece
        if not header_seen:
            if len(pending) < BLOCK_HEADER:
                continue
            BlockHeader.parse(pending[:BLOCK_HEADER])
            pending = pending[BLOCK_HEADER:]
            header_seen = True
        used, left, text = _content(memoryview(pending), left)
        pending = pending[used:]
        yield text
    if left or pending or not header_seen:
        raise SourceError("a table's data ended in the middle")


def _content(window: memoryview, left: int) -> tuple[int, int, bytes]:
    """Content of a window's pieces: bytes understood, bytes that the last piece still lacks, and the content."""
    parts: list[bytes] = []
    at = 0
    fast = True
    while at < len(window):
        if left:
            parts.append(bytes(window[at : at + left]))
            at += len(parts[-1])
            left -= len(parts[-1])
            continue
        if fast:
            used, text = one_line_text(window[at:])
            parts.append(text)
            at += used
            fast = used > 0  # in another framing a second look would cost as much again for every piece
        if len(window) - at < HEADER:
            break
        left = length_of(window[at : at + HEADER])
        at += HEADER
    return at, left, b"".join(parts)


def restore_stream(toc: bytes, blocks: Iterable[Iterable[bytes]]) -> Iterator[bytes]:
    """What to write to ``pg_restore``'s standard input: the exact table of contents, then the chosen blocks.

    ``blocks`` must come in the archive's own order. Without any block it serves ``--section=pre-data`` and ``post-data``.

    For data, ``pg_restore --section=data -L LIST`` must be told the entries that are meant, or it looks in vain for the
    blocks that were left out: a line ``<dump id>; <table oid> <oid> <desc> ...`` for each. What is in the data section without a
    block (``SEQUENCE SET``, ``BLOB METADATA`` before its ``BLOBS``, their comments and privileges, statistics) goes into the
    list of one load, in the table of contents' order.

    From version 17 on ``pg_restore`` begins each session with ``SET transaction_timeout = 0``, which servers before 17 refuse, and no
    option leaves it out. Into such a server run it *without* ``--exit-on-error``: it goes on, and ends with exit status 1. The
    restore is good when every line ``pg_restore: error:`` on standard error is the one about the unrecognized parameter
    "transaction_timeout". (Count lines, not "errors ignored": with ``-j`` that number is smaller than the number of sessions.)
    A ``pg_restore`` of the archive's own major version has none of this, where it is at hand.
    """
    yield toc
    for block in blocks:
        yield from block
