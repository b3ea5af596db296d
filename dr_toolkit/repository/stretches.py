"""The parent's entries some hundred at a time, in the form in which they can be carried forward without a look at each record.

A bucket of 100,000 objects of which none has changed has 300,000 records. Decoding, counting and encoding each of them took more time than
listing the bucket. Here a run of entries stays what it is in the parent's pages: lines.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from dr_toolkit import errors
from dr_toolkit.repository.catalog_reader import TreeReader
from dr_toolkit.repository.entries import EntryInfo
from dr_toolkit.repository.records import BEGIN, FINISH, Begin, Extent, Finish, Key, Page, Record, Zeros


@dataclass(frozen=True, slots=True)
class Part:
    """Leaf records that lie beside each other in one page.

    Attributes:
        path: of the entry to which the first one belongs.
        records: decoded.
        lines: the same, encoded.
        last: the key of the last one.
    """

    path: str
    records: Sequence[Record]
    lines: list[bytes]
    last: Key

    def keys(self) -> Iterator[tuple[str, int]]:
        """(path, offset) of each record."""
        path = self.path
        for record in self.records:
            if isinstance(record, Begin):
                path = record.path
                yield path, BEGIN
            elif isinstance(record, Extent | Zeros):
                yield path, record.offset
            else:
                yield path, FINISH


@dataclass(slots=True)
class Stretch:
    """Whole entries of a snapshot that lie beside each other.

    Attributes:
        begins: the first record of each.
        finishes: the last record of each.
        firsts: where each begins in ``records``; and the end of them all.
        records: of all of them.
        lines: the same, encoded.
        pages: where in ``records`` pages begin.
    """

    begins: list[Begin] = field(default_factory=list)
    finishes: list[Finish] = field(default_factory=list)
    firsts: list[int] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    lines: list[bytes] = field(default_factory=list)
    pages: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.begins)

    def info(self, number: int) -> EntryInfo:
        """What one entry is."""
        begin, finish = self.begins[number], self.finishes[number]
        return EntryInfo(begin.path, begin.kind, finish.size, finish.meta)

    def extents(self, number: int) -> list[Extent | Zeros]:
        """Where its content is."""
        found = self.records[self.firsts[number] + 1 : self.firsts[number + 1] - 1]
        return [record for record in found if isinstance(record, Extent | Zeros)]

    def parts(self, start: int, end: int) -> Iterator[Part]:
        """The records of the entries from ``start`` up to ``end``, page by page."""
        first, stop, number = self.firsts[start], self.firsts[end], start
        cuts = [first, *(cut for cut in self.pages if first < cut < stop), stop]
        for one, following in pairwise(cuts):
            while self.firsts[number + 1] <= one:
                number += 1
            records = self.records[one:following]
            yield Part(
                self.begins[number].path, records, self.lines[one:following], self._key(number, following - 1)
            )

    def packs(self) -> set[bytes]:
        """All packs that any of them needs."""
        return {record.pack for record in self.records if type(record) is Extent}

    def packs_of(self, number: int) -> set[bytes]:
        """The packs that one of them needs."""
        return {extent.pack for extent in self.extents(number) if isinstance(extent, Extent)}

    def _key(self, number: int, at: int) -> Key:
        while self.firsts[number + 1] <= at:
            number += 1
        record = self.records[at]
        path = self.begins[number].path.encode()
        if isinstance(record, Extent | Zeros):
            return path, record.offset
        return path, BEGIN if isinstance(record, Begin) else FINISH


def stretches(tree: TreeReader, start: str = "") -> Iterator[Stretch]:
    """Entries of a tree, in order. A stretch ends where a page and an entry end together.

    Args:
        tree: of a snapshot.
        start: where to begin; some entries before it may come as well.

    Raises:
        Damaged: the tree is not as the format says.
    """
    found, last = Stretch(), ""
    pages = tree.leaf_pages((start.encode(), BEGIN) if start else None)
    if start:
        pages = _from_whole(pages)
    for page in pages:
        if bool(page.context) != bool(found.records) or (
            found.records and page.context != found.begins[-1].path
        ):
            raise _out_of_order()
        found.pages.append(len(found.records))
        for at, record in enumerate(page.records, len(found.records)):
            if type(record) is Begin:
                if record.path <= last:  # Python orders text as UTF-8 does
                    raise _out_of_order()
                last = record.path
                found.firsts.append(at)
                found.begins.append(record)
            elif type(record) is Finish:
                found.finishes.append(record)
        found.records += page.records
        found.lines += page.lines
        if type(found.records[-1]) is Finish:
            found.firsts.append(len(found.records))
            _check(found)
            yield found
            found = Stretch()
    if found.records:
        raise _out_of_order()


def _from_whole(pages: Iterator[Page]) -> Iterator[Page]:
    """Without the end of an entry that began before the first page."""
    for page in pages:
        first = next((at for at, record in enumerate(page.records) if isinstance(record, Begin)), None)
        if first is not None:
            yield Page(page.level, page.tree, "", page.records[first:], page.lines[first:])
            break
    yield from pages


def _check(stretch: Stretch) -> None:
    """Every entry ends, and its extents cover it."""
    if len(stretch.begins) != len(stretch.finishes):
        raise _out_of_order()
    for number, (first, end) in enumerate(pairwise(stretch.firsts)):
        position = 0
        for record in stretch.records[first + 1 : end - 1]:
            if not isinstance(record, Extent | Zeros) or record.offset != position:
                raise _not_covered(stretch, number)
            if isinstance(record, Extent) and record.start + record.length > record.chunk_length:
                raise _not_covered(stretch, number)
            position += record.length
        if position != stretch.finishes[number].size:
            raise _not_covered(stretch, number)


def _out_of_order() -> errors.Damaged:
    return errors.Damaged(
        "a catalog's records are out of order", fault="structure", on="the snapshot's catalog"
    )


def _not_covered(stretch: Stretch, number: int) -> errors.Damaged:
    path = stretch.begins[number].path
    return errors.Damaged(f'the extents of "{path}" do not cover it', fault="structure", on=path)
