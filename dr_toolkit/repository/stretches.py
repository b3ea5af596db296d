"""The parent's entries some hundred at a time, in the form in which they can be carried forward without a look at each record.

A bucket of 100,000 objects of which none has changed has 300,000 records. Decoding, counting and encoding each of them took more time than
listing the bucket. Here a run of entries stays what it is in the parent's pages: lines.

Memory is bounded: an object of 5 TB has some 80 million extents, so an entry with more than ``HELD`` records is walked through and not held.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from dr_toolkit import errors
from dr_toolkit.repository.catalog_reader import HELD, Extents, TreeReader
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

    def extents(self, number: int) -> Iterable[Extent | Zeros]:
        """Where its content is; may be walked through more than once."""
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

    def held(self, start: int, end: int) -> int:
        """How many records of these entries are in memory."""
        return self.firsts[end] - self.firsts[start]

    def before_the_open(self) -> tuple[Stretch, Stretch]:
        """Cut it before its last entry, which does not end yet."""
        at = self.firsts.pop()
        whole = Stretch(
            self.begins[:-1],
            self.finishes,
            [*self.firsts, at],
            self.records[:at],
            self.lines[:at],
            [cut for cut in self.pages if cut < at],
        )
        pages = [cut - at for cut in self.pages if cut >= at]
        return whole, Stretch(self.begins[-1:], [], [0], self.records[at:], self.lines[at:], pages)

    def _key(self, number: int, at: int) -> Key:
        while self.firsts[number + 1] <= at:
            number += 1
        return _key_of(self.begins[number].path, self.records[at])


@dataclass(slots=True)
class Large(Stretch):
    """One entry that has too many records to be held: they are read from the tree whenever they are asked for.

    Attributes:
        tree: of the snapshot.
        needed: the packs that it needs.
    """

    tree: TreeReader | None = None
    needed: set[bytes] = field(default_factory=set)

    def extents(self, number: int) -> Iterable[Extent | Zeros]:
        """Where its content is; may be walked through more than once."""
        return Extents(self._from, self.begins[number].path)

    def parts(self, start: int, end: int) -> Iterator[Part]:
        """Its records, page by page."""
        path = self.begins[start].path
        begun = end == start
        for page in self._from.leaf_pages((path.encode(), BEGIN)):
            first = 0 if begun else _place(page.records, path)
            stop = next(
                (at for at, r in enumerate(page.records[first:], first + 1) if isinstance(r, Finish)), None
            )
            records = page.records[first:stop]
            yield Part(path, records, page.lines[first:stop], _key_of(path, records[-1]))
            begun = True
            if stop is not None:
                return

    def packs(self) -> set[bytes]:
        """All packs that it needs."""
        return self.needed

    def packs_of(self, number: int) -> set[bytes]:
        """The same: there is one entry."""
        del number
        return self.needed

    @property
    def _from(self) -> TreeReader:
        assert self.tree is not None  # noqa: S101 -- for the type checker: a field after fields with defaults
        return self.tree


def _place(records: Sequence[Record], path: str) -> int:
    """Where an entry begins in a page."""
    return next(at for at, r in enumerate(records) if isinstance(r, Begin) and r.path == path)


def _key_of(path: str, record: Record) -> Key:
    if isinstance(record, Extent | Zeros):
        return path.encode(), record.offset
    return path.encode(), BEGIN if isinstance(record, Begin) else FINISH


def stretches(tree: TreeReader, start: str = "", *, most: int = HELD) -> Iterator[Stretch]:
    """Entries of a tree, in order. A stretch ends where a page and an entry end together, or before an entry that would make it too large.

    Args:
        tree: of a snapshot.
        start: where to begin; some entries before it may come as well.
        most: records that are held in memory, give or take a page.

    Raises:
        Damaged: the tree is not as the format says.
    """
    found, last = Stretch(), ""
    pages = _Pages(tree.leaf_pages((start.encode(), BEGIN) if start else None))
    if start:
        pages = _Pages(_from_whole(pages))
    for page in pages:
        last = _append(found, page, last)
        if type(found.records[-1]) is Finish:
            found.firsts.append(len(found.records))
            _check(found)
            yield found
            found = Stretch()
        elif len(found.records) > most:
            whole, found = found.before_the_open()
            if whole.records:
                _check(whole)
                yield whole
            if len(found.records) > most:
                yield _large(tree, found, pages)
                found = Stretch()
    if found.records:
        raise _out_of_order()


class _Pages:
    """Pages, of which one can be put back."""

    def __init__(self, pages: Iterable[Page]) -> None:
        self._pages = iter(pages)
        self._back: Page | None = None

    def __iter__(self) -> Iterator[Page]:
        return self

    def __next__(self) -> Page:
        page, self._back = self._back, None
        return page or next(self._pages)

    def put_back(self, page: Page) -> None:
        """It comes next."""
        self._back = page


def _append(found: Stretch, page: Page, last: str) -> str:
    """Add a page to a stretch; gives the path of the newest entry, which sorts after ``last``."""
    if bool(page.context) != bool(found.records) or (found.records and page.context != found.begins[-1].path):
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
    return last


def _large(tree: TreeReader, found: Stretch, pages: _Pages) -> Large:
    """Walk to the end of an entry of which the first records were read."""
    begin, position, packs = found.begins[0], 0, set[bytes]()
    records: Iterable[Record] = found.records[1:]
    page: Page | None = None
    while True:
        for at, record in enumerate(records, 1):
            if isinstance(record, Finish):
                if record.size != position:
                    raise _not_covered(begin.path)
                if page is not None and at < len(page.records):
                    pages.put_back(Page(page.level, page.tree, "", page.records[at:], page.lines[at:]))
                return Large([begin], [record], [0, 0], tree=tree, needed=packs)
            _check_extent(record, position, begin.path)
            if isinstance(record, Extent):
                packs.add(record.pack)
            position += record.length if isinstance(record, Extent | Zeros) else 0
        page = next(pages, None)
        if page is None or page.context != begin.path:
            raise _out_of_order()
        records = page.records


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
        position, path = 0, stretch.begins[number].path
        for record in stretch.records[first + 1 : end - 1]:
            _check_extent(record, position, path)
            position += record.length  # type: ignore[union-attr]  # an extent, as was just looked
        if position != stretch.finishes[number].size:
            raise _not_covered(path)


def _check_extent(record: Record, position: int, path: str) -> None:
    """It is an extent, it begins there, and it is within its chunk."""
    if not isinstance(record, Extent | Zeros) or record.offset != position:
        raise _not_covered(path)
    if isinstance(record, Extent) and record.start + record.length > record.chunk_length:
        raise _not_covered(path)


def _out_of_order() -> errors.Damaged:
    return errors.Damaged(
        "a catalog's records are out of order", fault="structure", on="the snapshot's catalog"
    )


def _not_covered(path: str) -> errors.Damaged:
    return errors.Damaged(f'the extents of "{path}" do not cover it', fault="structure", on=path)
