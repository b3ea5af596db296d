"""Records of entries that come in any order: kept aside entry by entry, and given to the tree in order at the end.

A base backup's files come in the order of the server's directories, and a catalog is sorted. Only records are kept aside, never
content: some 200 bytes for each 128 KiB, in memory up to 16 MiB, then in a temporary file without a name.
"""

from __future__ import annotations

import tempfile
from typing import Protocol

from dr_toolkit import errors
from dr_toolkit.repository import records
from dr_toolkit.repository.catalog import TreeWriter
from dr_toolkit.repository.records import Root
from dr_toolkit.repository.stretches import Part

_IN_MEMORY = 16 << 20


class RecordSink(Protocol):
    """Takes the records of one entry after the other."""

    def add(self, path: str, offset: int, record: records.Leaf) -> None:
        """Append a record whose key is (path, offset)."""

    def extend(self, part: Part) -> None:
        """Append records of the parent as they are encoded there."""

    def finish(self) -> Root | None:
        """All records are there: the tree's root, or None for no records."""


class RecordSpool:
    """A ``RecordSink`` that takes entries in any order; within an entry, records come in order.

    Args:
        tree: gets the records, sorted, at the end.
    """

    def __init__(self, tree: TreeWriter) -> None:
        self._tree = tree
        self._file = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115 - closed by close()
        self._parts: list[tuple[bytes, int, int]] = []
        self._start = 0

    def add(self, path: str, offset: int, record: records.Leaf) -> None:
        """See ``RecordSink``."""
        try:
            self._file.write(records.encode(record) + b"\n")
        except OSError as error:
            raise errors.SourceError(
                f"the records of the snapshot cannot be kept aside: {error.strerror}",
                on=path,
                hint="make room where temporary files are written (TMPDIR)",
                unaffected="nothing was committed",
            ) from error
        if offset == records.FINISH:
            end = self._file.tell()
            self._parts.append((path.encode(), self._start, end))
            self._start = end

    def extend(self, part: Part) -> None:
        """See ``RecordSink``."""
        for (path, offset), record in zip(part.keys(), part.records, strict=True):
            if not isinstance(record, records.Index):
                self.add(path, offset, record)

    def finish(self) -> Root | None:
        """See ``RecordSink``. A path that came twice is refused by the tree."""
        for encoded, start, end in sorted(self._parts):
            path = encoded.decode()
            self._file.seek(start)
            for record in records.decode_lines(self._file.read(end - start)):
                self._tree.add(path, _offset(record), record)
        return self._tree.finish()

    def close(self) -> None:
        """Forget everything. Idempotent."""
        self._file.close()


def _offset(record: records.EntryRecord) -> int:
    if isinstance(record, records.Extent | records.Zeros):
        return record.offset
    return records.FINISH if isinstance(record, records.Finish) else records.BEGIN
