"""Hold a full read of a cluster against what increments said of it: every page of another version must have a reason."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dr_toolkit.postgres import base_marks
from dr_toolkit.postgres.base_increment import relation_file
from dr_toolkit.postgres.base_limits import Limits
from dr_toolkit.postgres.base_marks import Array, Marks

if TYPE_CHECKING:
    import numpy as np
else:
    from dr_toolkit.postgres import numpy_later as np

LISTED = 40
"""Runs of pages that are listed; all are counted."""


@dataclass(slots=True)
class Audit:
    """One audit.

    A page may differ from the parent's because it was changed since: its LSN is after the parent's start. A page that was cut off and
    came back empty has no LSN: there the server's summaries must say that the relation was cut.

    Attributes:
        before: the parent's marks.
        start: the parent's start.
        pages: how many were compared.
        stale: numbers of pages whose difference has no reason, by path.
        cut: numbers of pages that are empty or gone now, by path: `settle` judges them.
        unjudged: pages that could not be judged, because the summaries cannot be read.
    """

    before: Marks
    start: int
    pages: int = 0
    stale: dict[str, Array] = field(default_factory=dict)
    cut: dict[str, Array] = field(default_factory=dict)
    unjudged: int = 0

    def judge(self, path: str, lsns: Array) -> None:
        """Compare one relation's file, whose pages have these LSNs. A file that the parent does not have is new."""
        before = self.before.files.get(path)
        if before is None:
            return
        count = min(len(before), len(lsns))
        self.pages += max(len(before), len(lsns))
        differ = np.nonzero(base_marks.marks_of(lsns[:count]) != before[:count])[0]
        found = lsns[differ]
        stale = differ[(found != 0) & (found <= self.start)]
        # What the parent does not have was added since, and has an LSN to show for it, or is empty.
        added = np.arange(count, len(lsns))
        added = added[(lsns[count:] != 0) & (lsns[count:] <= self.start)]
        cut = np.concatenate([differ[found == 0], np.arange(count, len(before))])
        if len(stale) + len(added):
            self.stale[path] = np.concatenate([stale, added])
        if len(cut):
            self.cut[path] = cut

    def settle(self, limits: Limits | None) -> None:
        """Judge the pages that are empty or gone now, by the limits between the parent's start and this backup's."""
        for path, pages in self.cut.items():
            file = relation_file(path)
            if limits is None or file is None:
                self.unjudged += len(pages)
                continue
            limit = limits.within(file)
            wrong = pages if limit is None else pages[pages < limit]
            if len(wrong):
                self.stale[path] = np.union1d(self.stale.get(path, wrong), wrong)
        self.cut = {}

    @property
    def unexplained(self) -> int:
        """How many pages differ without a reason."""
        return sum(len(pages) for pages in self.stale.values())

    def listed(self) -> list[list[Any]]:
        """Where they are: rows of path, first page, how many."""
        rows = [[path, *run] for path in sorted(self.stale) for run in _runs(self.stale[path])]
        return rows[:LISTED]

    def document(self, against: str) -> dict[str, Any]:
        """For the snapshot's header."""
        return {
            "against": against,
            "pages": self.pages,
            "unexplained": self.unexplained,
            "unjudged": self.unjudged,
            "listed": self.listed(),
        }


def _runs(pages: Array) -> Iterator[tuple[int, int]]:
    """Successive numbers as (first, how many)."""
    for run in np.split(pages, np.nonzero(np.diff(pages) != 1)[0] + 1):
        yield int(run[0]), len(run)
