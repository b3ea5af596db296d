"""The linear merge of a sorted listing with the parent's entries: which objects are as they were, and which are to be read.

Nearly always nearly everything is as it was. So the two are compared some hundred at a time, and looked at one by one only where they differ.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice

from dr_toolkit.buckets import facts
from dr_toolkit.buckets.listing import Listed
from dr_toolkit.repository.entries import EntryInfo
from dr_toolkit.repository.stretches import Stretch
from dr_toolkit.repository.writer import SnapshotWriter
from dr_toolkit.words import counted

ASKED = 1000
"""Objects that a listing lacks are asked for at most; of more, a sample."""
_NAMED = 5


@dataclass(slots=True)
class Read:
    """What a run did, by objects.

    Attributes:
        before: objects of the parent.
        kept: carried forward unread.
        added: keys that the parent does not have.
        rewritten: keys that the parent has with other content.
        gone: keys of the parent that are not there any more.
        vanished: deleted between listing and reading.
        torn: changed in the middle of reading; not restorable from this snapshot.
        missed: a sample of those that are gone.
    """

    before: int = 0
    kept: int = 0
    added: int = 0
    rewritten: int = 0
    gone: int = 0
    vanished: list[str] = field(default_factory=list)
    torn: list[str] = field(default_factory=list)
    missed: list[EntryInfo] = field(default_factory=list)

    def miss(self, parent: EntryInfo) -> None:
        """Note that an object of the parent is not listed."""
        self.gone += 1
        if len(self.missed) < ASKED:
            self.missed.append(parent)
        elif (place := random.randrange(self.gone)) < ASKED:  # noqa: S311 -- a fair sample, no secret
            self.missed[place] = parent

    def warnings(self) -> list[str]:
        """For people, in the header."""
        found = []
        for keys, one, many in (
            (
                self.vanished,
                "object was deleted while the backup ran, and is not in it",
                "objects were deleted while the backup ran, and are not in it",
            ),
            (
                self.torn,
                "object was changed while it was read, and cannot be restored from this snapshot",
                "objects were changed while they were read, and cannot be restored from this snapshot",
            ),
        ):
            if keys:
                named = ", ".join(f'"{key}"' for key in keys[:_NAMED])
                found.append(f"{counted(len(keys), one, many)}: {named}")
        return found


def mass_change(before: int, gone: int, rewritten: int, limit_percent: int) -> str | None:
    """Why a run looks like an accident or an attack: more than the limit of the parent's objects are gone, or were rewritten."""
    for count, what in ((gone, "are gone"), (rewritten, "were rewritten")):
        if before and count * 100 > before * limit_percent:
            return (
                f"{count} of {before} objects {what} since the last snapshot (max_change is {limit_percent}%)"
            )
    return None


@dataclass(frozen=True, slots=True)
class Same:
    """Objects beside each other that are as the parent has them: the entries of ``stretch`` from ``start`` up to ``end``, as ``rows`` lists them."""

    stretch: Stretch
    start: int
    end: int
    rows: list[Listed]


class _Rows:
    """A listing of which some rows can be looked at before they are taken."""

    def __init__(self, listing: Iterable[Listed]) -> None:
        self._rows = iter(listing)
        self._ahead: list[Listed] = []
        self._at = 0

    def look(self, count: int) -> list[Listed]:
        """The next rows; fewer at the end."""
        if self._at:
            del self._ahead[: self._at]
            self._at = 0
        self._ahead += islice(self._rows, max(0, count - len(self._ahead)))
        return self._ahead[:count]

    def first(self) -> Listed | None:
        """The next row."""
        if self._at == len(self._ahead):
            self._ahead, self._at = list(islice(self._rows, 1)), 0
        return self._ahead[self._at] if self._ahead else None

    def drop(self, count: int = 1) -> None:
        """The next rows, which have been looked at, are done with."""
        self._at += count


def merge(listing: Iterable[Listed], writer: SnapshotWriter, done: Read) -> Iterator[Same | Listed]:
    """All objects that the listing shows, in order: those that are as they were, and those that are to be read.

    Args:
        listing: complete, and sorted.
        writer: knows the parent.
        done: counts what is found.
    """
    rows = _Rows(listing)
    for stretch in writer.parent_stretches():
        count = len(stretch)
        ahead = rows.look(count)
        present = writer.keeps(stretch.packs())
        if present and ahead == _as_listed(stretch, versions=bool(ahead and ahead[0].version)):
            rows.drop(count)
            done.before += count
            done.kept += count
            yield Same(stretch, 0, count, ahead)
        else:
            yield from _one_by_one(rows, stretch, writer, done, present=present)
    while (row := rows.first()) is not None:
        done.added += 1
        rows.drop()
        yield row


def _as_listed(stretch: Stretch, *, versions: bool) -> list[Listed]:
    """How a listing shows the objects if nothing has changed."""
    if any(begin.kind != facts.KIND for begin in stretch.begins):
        return []
    try:
        return [
            Listed(
                begin.path,
                finish.size,
                finish.meta["etag"],
                finish.meta["modified"],
                finish.meta["version"] if versions else "",
            )
            for begin, finish in zip(stretch.begins, stretch.finishes, strict=True)
        ]
    except KeyError:  # changed while it was read, or has no version
        return []


def _one_by_one(
    rows: _Rows, stretch: Stretch, writer: SnapshotWriter, done: Read, *, present: bool
) -> Iterator[Same | Listed]:
    """The same for a stretch in which something is different."""
    run: list[Listed] = []
    for number, begin in enumerate(stretch.begins):
        row = rows.first()
        while row is not None and row.key < begin.path:  # Python orders text as UTF-8 does
            if run:
                yield Same(stretch, number - len(run), number, run)
                run = []
            done.added += 1
            rows.drop()
            yield row
            row = rows.first()
        is_object = begin.kind == facts.KIND
        done.before += is_object
        if row is not None and is_object and row.key == begin.path:
            rows.drop()
            finish = stretch.finishes[number]
            same = facts.is_same(row, finish.size, finish.meta)
            if same and (present or writer.keeps(stretch.packs_of(number))):
                done.kept += 1
                run.append(row)
                continue
            done.rewritten += not same
        elif is_object:
            done.miss(stretch.info(number))
            row = None
        else:
            row = None
        if run:
            yield Same(stretch, number - len(run), number, run)
            run = []
        if row is not None:
            yield row
    if run:
        yield Same(stretch, len(stretch) - len(run), len(stretch), run)
