"""After an upgrade: a new snapshot, compared with the recovery point from before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from dr_toolkit import errors
from dr_toolkit.config import Config
from dr_toolkit.jobs import backup, gate, gate_facts, inspect, opening
from dr_toolkit.jobs.gate import Check, Question, Verdict
from dr_toolkit.log import Progress
from dr_toolkit.repository.repository import Point, Repository
from dr_toolkit.repository.snapshot import Snapshot
from dr_toolkit.words import counted

_SHOWN = 5
_NOT_LATER = frozenset({"transactions", "replication", "space", "repository"})
"""Checks that matter before an upgrade only."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked.

    Attributes:
        point: the recovery point from before, by name or id.
        question: release and version.
        accept: names of checks that need not be fine.
    """

    point: str
    question: Question
    accept: tuple[str, ...] = ()


@dataclass(slots=True)
class Report:
    """What was found.

    Attributes:
        request: what was asked.
        moment: when.
        point: from before.
        before: its snapshots by component.
        proven: seconds that the proven restores of these took, by component.
        after: the new snapshots by component.
        checks: everything that was looked at.
        verdict: the answer.
    """

    request: Request
    moment: datetime
    point: Point
    before: dict[str, Snapshot]
    proven: dict[str, float]
    after: dict[str, Snapshot] = field(default_factory=dict)
    checks: list[Check] = field(default_factory=list)
    verdict: Verdict = field(default_factory=lambda: gate.decide((), None))


def run(config: Config, repository: Repository, request: Request, progress: Progress) -> Report:
    """Look, take a snapshot of everything, compare, judge.

    Raises:
        SnapshotMissing: there is no such point.
        UsageError: the name is a snapshot's.
    """
    chosen = opening.chosen_components(config, ())
    point = inspect.find(repository, request.point)
    if not isinstance(point, Point):
        raise errors.UsageError(f'"{request.point}" is a snapshot and no recovery point', on=request.point)
    stock = inspect.inventory(repository)
    report = Report(request, opening.moment(repository), point, *_before(point, stock))
    report.checks += _gone(point, report.before)
    facts = gate_facts.look(config, chosen, stock, request.question)
    report.checks += [check for check in facts if check.name not in _NOT_LATER]
    outcome = backup.run(config, repository, backup.Request(), progress)
    report.after = {s.header.component: s for s in outcome.snapshots}
    report.checks += [Check("backup", s.header.component, "ok", s.id) for s in outcome.snapshots]
    report.checks += [Check("backup", n, "failed", e.message, e.hint) for n, e in outcome.failures]
    for name, _snapshot_id, _digest in point.snapshots:
        report.checks += _compared(repository, name, report.before.get(name), report.after.get(name))
    report.verdict = gate.decide(report.checks, None, request.accept)
    return report


def _before(point: Point, stock: inspect.Inventory) -> tuple[dict[str, Snapshot], dict[str, float]]:
    """The point's snapshots that are there unaltered, and what their proven restores took."""
    known = {(s.header.component, s.id, s.digest_text): s for s in stock.snapshots}
    found = {row[0]: known[row] for row in point.snapshots if row in known}
    seconds = {}
    for name, snapshot in found.items():
        passed = [
            e.result
            for e in stock.evidence.get((name, snapshot.id), [])
            if e.result.get("level") == "restore" and e.result.get("result") == "passed"
        ]
        if passed:
            seconds[name] = float(passed[-1]["seconds"])
    return found, seconds


def _gone(point: Point, found: Mapping[str, Snapshot]) -> Iterator[Check]:
    return (
        Check("repository", name, "failed", f'the point\'s snapshot "{snapshot}" is gone or altered')
        for name, snapshot, _digest in point.snapshots
        if name not in found
    )


def _compared(
    repository: Repository, name: str, before: Snapshot | None, after: Snapshot | None
) -> Iterator[Check]:
    if before is None or after is None:
        return
    rows_before, rows_after = rows_of(repository, before), rows_of(repository, after)
    fewer = less(rows_before, rows_after)
    if fewer:
        more = f"; and {len(fewer) - _SHOWN} more" if len(fewer) > _SHOWN else ""
        text = "; ".join(fewer[:_SHOWN]) + more
        yield Check("counts", name, "failed", text, "look whether the new version meant that")
    elif rows_before:
        total_before, total_after = sum(rows_before.values()), sum(rows_after.values())
        yield Check(
            "counts",
            name,
            "ok",
            f"{counted(len(rows_before), 'table')}, none smaller: {counted(total_before, 'row')}, now {total_after}",
        )


def rows_of(repository: Repository, found: Snapshot) -> dict[str, int]:
    """Rows by entry, of the entries that have any to count."""
    return {
        entry.path: entry.meta["rows"]
        for entry in inspect.entries(repository, found)
        if isinstance(entry.meta.get("rows"), int)
    }


def less(before: Mapping[str, int], after: Mapping[str, int]) -> list[str]:
    """What is gone or has fewer rows, in words. Pure."""
    return [
        f"{path} is gone ({counted(rows, 'row')})"
        if path not in after
        else f"{path} has {counted(after[path], 'row')}, and had {rows}"
        for path, rows in sorted(before.items())
        if after.get(path, -1) < rows
    ]
