"""Write an archive that is being read into a snapshot, so that the exact archive is the concatenation of its entries.

====================================================  ================  ==============================================
path                                                  kind              content
====================================================  ================  ==============================================
``archive/00-toc``                                    ``toc``           header and table of contents
``archive/data/<run>/<schema>/<table>``               ``table-data``    one table's data block
``archive/data/<run>/~large-objects/<dump id>``       ``large-objects``  a data block of large objects
====================================================  ================  ==============================================

Ascending order of path is the archive's order: pg_dump writes tables mostly by name, and where it does not, the number of the
run goes up. Names that a path cannot hold are percent-encoded; the true ones are in the entry's metadata.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dr_toolkit.postgres.archive import Archive, DataBlock, LargeObjectsSummary, TableSummary, Toc, columns_of
from dr_toolkit.postgres.digests import NO_LARGE_OBJECTS
from dr_toolkit.repository.entries import PouringSink

TOC_PATH = "archive/00-toc"
DATA_PREFIX = "archive/data/"
LARGE_OBJECTS = "~large-objects"

_COLUMNS_LIMIT = 16 << 10
_SHORT_RUNS = 90


@dataclass(frozen=True, slots=True)
class DumpedTable:
    """One table of a dump.

    Attributes:
        schema: its schema.
        name: its name.
        oid: its oid in the source.
        summary: rows and digest.
    """

    schema: str
    name: str
    oid: int
    summary: TableSummary


@dataclass(frozen=True, slots=True)
class DumpedArchive:
    """What was written.

    Attributes:
        toc: the archive's table of contents.
        tables: in the archive's order.
        large_objects: all of them together.
        size: bytes of the archive.
    """

    toc: Toc
    tables: tuple[DumpedTable, ...]
    large_objects: LargeObjectsSummary
    size: int


def write_archive(archive: Archive, sink: PouringSink) -> DumpedArchive:
    """Write all of an archive's bytes as entries.

    Raises:
        SourceError: the archive ends early or holds something impossible.
        UnknownFormat: the archive holds something that is not known.
    """
    toc = archive.toc
    sink.begin(TOC_PATH, "toc")
    sink.write(toc.raw)
    sink.end(_toc_meta(toc))
    size = len(toc.raw)
    paths = Paths()
    tables = []
    large_objects = NO_LARGE_OBJECTS
    for block in archive.blocks():
        size += _write_block(block, paths.path(block), sink)
        summary = block.summary
        if isinstance(summary, TableSummary):
            tables.append(DumpedTable(block.entry.namespace or "", block.entry.tag, block.entry.oid, summary))
        else:
            large_objects += summary
    return DumpedArchive(toc, tuple(tables), large_objects, size)


def _write_block(block: DataBlock, path: str, sink: PouringSink) -> int:
    sink.begin(path, "large-objects" if block.header.large_objects else "table-data")
    sink.write(block.header.raw)
    # The dump id moves whenever an object is added anywhere: in a chunk of its own it spoils no other.
    sink.cut()
    size = len(block.header.raw)
    size += block.pour(sink)
    sink.end(_block_meta(block))
    return size


def _toc_meta(toc: Toc) -> Mapping[str, Any]:
    return {
        "archive_version": f"{toc.version[0]}.{toc.version[1]}",
        "dump_version": toc.dump_version,
        "server_version": toc.server_version,
        "database": toc.database,
        "encoding": toc.encoding,
        "entries": len(toc.entries),
        "created": f"{toc.created}Z",  # pg_dump runs with TZ=UTC
    }


def _block_meta(block: DataBlock) -> Mapping[str, Any]:
    summary, entry = block.summary, block.entry
    if isinstance(summary, LargeObjectsSummary):
        return {
            "dump_id": entry.dump_id,
            "count": summary.count,
            "digest": summary.digest,
            "bytes": summary.size,
        }
    columns = columns_of(entry.copy_statement)
    meta = {
        "schema": entry.namespace,
        "table": entry.tag,
        "dump_id": entry.dump_id,
        "oid": entry.oid,
        "rows": summary.rows,
        "digest": summary.digest,
        "data_bytes": summary.size,
        "columns": columns,
    }
    if len(json.dumps(columns)) > _COLUMNS_LIMIT:
        meta["columns"] = None
        meta["columns_count"] = len(columns)
    return meta


class Paths:
    """Gives each data block a path that sorts after the one before."""

    def __init__(self) -> None:
        self._run = 0
        self._last = b""

    def path(self, block: DataBlock) -> str:
        """The block's path; call once for each block, in the archive's order."""
        if block.header.large_objects:
            return self.following(LARGE_OBJECTS, f"{block.header.dump_id:010d}")
        return self.following(_component(block.entry.namespace or "", "~"), _component(block.entry.tag, ""))

    def following(self, folder: str, name: str) -> str:
        """The path for these names, in the present run or the next."""
        rest = f"{folder}/{name}"
        if rest.encode() <= self._last:
            self._run += 1
        self._last = rest.encode()
        return f"{DATA_PREFIX}{_run_name(self._run)}/{rest}"


def _run_name(run: int) -> str:
    """Two digits; from 90 on "9" and five more, which still sorts."""
    return f"{run:02d}" if run < _SHORT_RUNS else f"9{run - _SHORT_RUNS:05d}"


def _component(name: str, reserved_first: str) -> str:
    encoded = "".join(_encoded(name, reserved_first))
    if encoded in ("", ".", ".."):
        return encoded.replace(".", "%2E") or "%00"
    return encoded


def _encoded(name: str, reserved_first: str) -> Iterator[str]:
    for place, character in enumerate(name):
        if character in "/%" or not character.isprintable() or (place == 0 and character in reserved_first):
            yield "".join(f"%{byte:02X}" for byte in character.encode())
        else:
            yield character
