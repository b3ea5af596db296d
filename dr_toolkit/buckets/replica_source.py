"""A replica as something to restore from: the record says what there is, the replica has the content."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace

from dr_toolkit.buckets.client import Bucket
from dr_toolkit.buckets.failures import Changed
from dr_toolkit.buckets.listing import Listed
from dr_toolkit.buckets.part_sizes import PART
from dr_toolkit.buckets.reading import Part, Reader
from dr_toolkit.buckets.replica_plan import SIZE, TARGET
from dr_toolkit.buckets.restore import Names
from dr_toolkit.errors import DataError
from dr_toolkit.repository.entries import EntryInfo, EntrySource

AHEAD = 64
"""Small objects that are asked for ahead."""


class ReplicaSource:
    """An ``EntrySource`` over a record and the bucket that it speaks of.

    Args:
        record: the entries of a replica's run.
        bucket: the replica.
        names: from the source's keys to the replica's.
    """

    def __init__(self, record: EntrySource, bucket: Bucket, names: Names) -> None:
        self._record, self._bucket, self._names = record, bucket, names

    def entries(self, prefix: str = "") -> Iterator[EntryInfo]:
        """As the record has them, with the size of their content."""
        for info in self._record.entries(prefix):
            yield replace(info, size=int(info.meta[SIZE]))

    def read(self, path: str) -> Iterator[bytes]:
        """The content, only as it was when it was recorded.

        Raises:
            DataError: the replica has something else now.
        """
        info = next(self._record.entries(path), None)
        if info is None or info.path != path:
            raise DataError(f'the record has no object "{path}"', on=path)
        listed = self._listed(info)
        for start in range(0, max(listed.size, 1), PART):
            try:
                yield bytes(self._bucket.read(listed, start, min(PART, listed.size - start)).content)
            except Changed:
                raise self._altered(info) from None

    def read_many(self, wanted: Iterable[EntryInfo], most: int) -> Iterator[tuple[EntryInfo, bytes | None]]:
        """See ``BulkSource``."""
        waiting: deque[tuple[EntryInfo, Part | None]] = deque()
        with Reader(self._bucket) as reading:
            for info in wanted:
                small = info.size <= min(most, PART)
                waiting.append((info, reading.ask(self._listed(info), 0, info.size) if small else None))
                if len(waiting) > AHEAD:
                    yield self._content(*waiting.popleft())
            while waiting:
                yield self._content(*waiting.popleft())

    def _content(self, info: EntryInfo, part: Part | None) -> tuple[EntryInfo, bytes | None]:
        if part is None:
            return info, None
        try:
            content = bytes(part.result().content)
        except Changed:
            raise self._altered(info) from None
        part.done_with()
        return info, content

    def _listed(self, info: EntryInfo) -> Listed:
        size, etag, modified = info.meta[TARGET]
        return Listed(self._names.at_target(info.path), size, etag, modified)

    def _altered(self, info: EntryInfo) -> DataError:
        key = self._names.at_target(info.path)
        return DataError(
            f'the replica\'s object "{key}" is not the one that was recorded',
            on=key,
            hint="somebody wrote to the replica, or its server lost it; a new run of drctl backup mends it from the source, if that is still there",
            unaffected="objects that were restored before it are whole",
        )
