"""A drill: everything of a recovery point restored into scratch, in the order of an incident, and timed. The history is the evidence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from dr_toolkit import clock, errors, log
from dr_toolkit.config import Config
from dr_toolkit.jobs import inspect, platform_restore, verify
from dr_toolkit.jobs.inspect import Inventory
from dr_toolkit.log import Progress
from dr_toolkit.repository.repository import Evidence, Repository
from dr_toolkit.repository.snapshot import Snapshot

_log = log.get("jobs.drill")


@dataclass(frozen=True, slots=True)
class Planned:
    """What a drill restores.

    Attributes:
        name: of the point, or what was chosen.
        snapshots: in the order of a restore.
        spread: seconds between the oldest and the newest.
        seconds: that each component's last proven restore took.
    """

    name: str
    snapshots: tuple[Snapshot, ...]
    spread: float
    seconds: Mapping[str, float]


@dataclass(slots=True)
class Outcome:
    """What came of it.

    Attributes:
        planned: what was to be restored.
        results: of each component that could be tried.
        failed: (component, why) of those that could not: no room, no programs, no server. The data is not judged by that.
        seconds: for all of it.
    """

    planned: Planned
    results: list[verify.Result] = field(default_factory=list)
    failed: list[tuple[str, errors.DrctlError]] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether everything came back, and is what it was."""
        return not self.failed and all(result.passed for result in self.results)


@dataclass(frozen=True, slots=True)
class Past:
    """One drill of the history.

    Attributes:
        time: when it ended, RFC 3339.
        name: of the point.
        components: (name, seconds, whether it passed).
        expected: how many components it was to restore.
        seconds: for all of it.
    """

    time: str
    name: str
    components: tuple[tuple[str, float, bool], ...]
    expected: int
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether everything came back, and was what it was."""
        return len(self.components) == self.expected and all(good for _n, _s, good in self.components)


def plan(config: Config, repository: Repository, *, point: str | None, at: datetime | None) -> Planned:
    """Choose what to restore: a point, each component's newest not after a time, or else the newest whole point.

    Raises:
        SnapshotMissing: it is not there.
        NothingToDo: there is no snapshot.
    """
    stock = inspect.inventory(repository)
    if point is None and at is None:
        name, chosen = _newest(stock)
    else:
        name, chosen = platform_restore.choose(config, repository, stock, point=point, at=at)
    snapshots = tuple(platform_restore.in_order(chosen))
    times = [s.header.moment for s in snapshots]
    spread = (max(times) - min(times)).total_seconds()
    return Planned(name, snapshots, spread, platform_restore.measured(stock))


def run(config: Config, repository: Repository, planned: Planned, progress: Progress) -> Outcome:
    """Restore everything into scratch and compare it; what fails does not keep the rest from being tried."""
    outcome, began = Outcome(planned), clock.monotonic()
    for found in planned.snapshots:
        name = found.header.component
        try:
            outcome.results.append(
                verify.one(config, repository, verify.Request(level="restore"), found, progress)
            )
        except errors.DrctlError as error:
            _log.error("component not restored", component=name, code=error.code, reason=error.message)
            outcome.failed.append((name, error))
    outcome.seconds = clock.monotonic() - began
    note = {
        "name": planned.name,
        "components": len(planned.snapshots),
        "seconds": round(outcome.seconds, 3),
        "spread_seconds": planned.spread,
    }
    for result in outcome.results:
        result.checks["drill"] = note
        result.signed = False  # a scratch namespace has stored its own, which knows of no drill
    verify.sign(repository, outcome.results)
    _log.info("drilled", point=planned.name, passed=outcome.passed, seconds=round(outcome.seconds, 1))
    return outcome


def history(evidence: Iterable[Evidence]) -> list[Past]:
    """Every drill there was evidence of, oldest first. Pure."""
    runs: dict[str, list[Evidence]] = {}
    for item in evidence:
        if isinstance(_note(item).get("name"), str):
            runs.setdefault(item.run, []).append(item)
    found = []
    for items in runs.values():
        note = _note(items[0])
        parts = tuple(
            (str(i.result["component"]), float(i.result["seconds"]), i.result.get("result") == "passed")
            for i in items
        )
        found.append(
            Past(
                items[0].time,
                str(note["name"]),
                parts,
                int(note.get("components", len(parts))),
                float(note.get("seconds", 0.0)),
            )
        )
    return sorted(found, key=lambda past: past.time)


def past(repository: Repository) -> list[Past]:
    """The history of a repository; a role that lists is enough."""
    signed, _unsigned = repository.evidence()
    return history(signed)


def _note(item: Evidence) -> dict[str, Any]:
    checks = item.result.get("checks")
    note = checks.get("drill") if isinstance(checks, dict) else None
    return note if isinstance(note, dict) else {}


def _newest(stock: Inventory) -> tuple[str, Sequence[Snapshot]]:
    """The newest point of which everything is there; without one, the newest good snapshot of each component."""
    for point in sorted(stock.points, key=lambda p: p.id, reverse=True):
        try:
            return point.name, platform_restore.of_point(point, stock.snapshots)
        except (errors.DataError, errors.NothingToDo):
            continue
    newest = {
        s.header.component: s
        for s in sorted(stock.snapshots, key=lambda s: s.id)
        if s.header.status == "good"
    }
    if not newest:
        raise errors.NothingToDo("there is no snapshot to restore", hint="take one: drctl backup")
    return "the newest of each", list(newest.values())
