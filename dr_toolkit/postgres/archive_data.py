"""Data blocks of pg_dump's custom format, one after the other."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from dr_toolkit.errors import SourceError, UnknownFormat
from dr_toolkit.postgres.archive_frames import FrameParser, LargeObjectFrames, StatementFrames, TableFrames
from dr_toolkit.postgres.archive_stream import ByteReader, truncated
from dr_toolkit.postgres.archive_toc import Toc, TocEntry
from dr_toolkit.postgres.digests import LargeObjectsSummary, TableSummary
from dr_toolkit.repository.entries import PouringSink

BLOCK_HEADER = 6
_LARGE = 1 << 20
_LEAST = 256 << 10

_TABLE_DATA, _LARGE_OBJECTS = 1, 3


@dataclass(frozen=True, slots=True)
class BlockHeader:
    """The beginning of a data block.

    Attributes:
        raw: its exact bytes: the block's type and the dump id.
        large_objects: whether the block holds large objects, else one table's data.
        dump_id: of the entry in the table of contents that the data belong to.
    """

    raw: bytes
    large_objects: bool
    dump_id: int

    @classmethod
    def parse(cls, raw: bytes) -> BlockHeader:
        """Read the header.

        Raises:
            UnknownFormat: a type of block that is not known.
        """
        if raw[0] not in (_TABLE_DATA, _LARGE_OBJECTS) or raw[1]:
            raise UnknownFormat(f"the archive holds a data block of unknown type {raw[0]}")
        return cls(raw, raw[0] == _LARGE_OBJECTS, int.from_bytes(raw[2:], "little"))


class DataBlock:
    """One data block that is being read.

    Args:
        header: its beginning, already read.
        entry: its entry in the table of contents.
        reader: stands behind the header.
    """

    def __init__(self, header: BlockHeader, entry: TocEntry, reader: ByteReader) -> None:
        self.header = header
        self.entry = entry
        self._reader = reader
        self._parser = _parser(header, entry, reader.capacity)

    @property
    def done(self) -> bool:
        """Whether all pieces were taken."""
        return self._parser.done

    def pieces(self) -> Iterator[memoryview]:
        """The block's exact bytes after its header; a piece is valid until the next one is asked for.

        Raises:
            SourceError: the stream ended within the block, or the block holds something impossible.
        """
        reader, parser = self._reader, self._parser
        while not parser.done:
            window = reader.window()
            used = parser.feed(window) if window else 0
            if used:
                yield window[:used]
                reader.skip(used)
            elif not reader.more():
                raise truncated(reader.position)

    def pour(self, sink: PouringSink) -> int:
        """Write the block's exact bytes after its header into an open entry. Those of a large block are read into the sink's own memory.

        Returns:
            How many bytes they are.

        Raises:
            SourceError: see `pieces`.
        """
        reader, parser = self._reader, self._parser
        size = 0
        while not parser.done:
            # A small block would be read with others behind it, which must be copied back.
            if size >= _LARGE and len(reader.window()) < _LEAST and (poured := self._read_into(sink)):
                size += poured
                continue
            window = reader.window()
            used = parser.feed(window) if window else 0
            if used:
                sink.write(window[:used])
                reader.skip(used)
                size += used
            elif not reader.more():
                raise truncated(reader.position)
        return size

    def _read_into(self, sink: PouringSink) -> int:
        """Read into the sink's memory as much as there is room; gives 0 where a piece is longer than that, or the stream ended."""
        reader, parser = self._reader, self._parser
        room = sink.room(_LEAST)[: reader.capacity]
        window = room[: reader.fill(room)]
        used = parser.feed(window) if window else 0
        reader.put_back(window[used:], used)
        sink.filled(used)
        return used

    @property
    def summary(self) -> TableSummary | LargeObjectsSummary:
        """What the block held; only after all pieces were taken."""
        return self._parser.summary()


def _parser(header: BlockHeader, entry: TocEntry, capacity: int) -> FrameParser:
    if header.large_objects:
        return LargeObjectFrames()
    return TableFrames(capacity) if entry.copy_statement else StatementFrames()


def read_blocks(reader: ByteReader, toc: Toc) -> Iterator[DataBlock]:
    """Data blocks up to the end of the stream, each announced by the table of contents and none missing.

    The pieces of a block that were not taken are passed over (and checked) before the next.

    Raises:
        SourceError: the stream ended early, or a block is missing, twice there, or not announced.
        UnknownFormat: a type of block that is not known.
    """
    announced = {entry.dump_id: entry for entry in toc.entries if entry.has_data}
    while not reader.at_end():
        header = BlockHeader.parse(reader.take(BLOCK_HEADER))
        entry = announced.pop(header.dump_id, None)
        if entry is None:
            raise SourceError(
                f"the archive holds data number {header.dump_id}, which its table of contents does not announce"
            )
        block = DataBlock(header, entry, reader)
        yield block
        for _piece in block.pieces():
            pass
    if announced:
        names = [f'"{entry.namespace}.{entry.tag}"' for entry in announced.values()]
        raise SourceError(
            f"the archive ended before the data of {', '.join(names[:5])}{' and others' if len(names) > 5 else ''}",  # noqa: PLR2004
            hint="pg_dump's own messages say why it stopped; run the backup again",
        )


_NAME = r'(?:"(?:[^"]|"")*"|[^\s".,()]+)'
_COPY = re.compile(rf"COPY {_NAME}(?:\.{_NAME})? *(?:\((.*)\) )?FROM stdin;\s*", re.DOTALL)


def columns_of(copy_statement: str) -> tuple[str, ...]:
    """Names of the columns in ``COPY schema.table (a, "b c") FROM stdin;``; none if it is not such a statement."""
    match = _COPY.fullmatch(copy_statement)
    if match is None or match[1] is None:
        return ()
    names = re.findall(_NAME, match[1])
    return tuple(name[1:-1].replace('""', '"') if name.startswith('"') else name for name in names)
