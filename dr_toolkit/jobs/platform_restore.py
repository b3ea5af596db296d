"""Bring everything back: one plan for all components of a recovery point, carried out in one order, continued where it stopped."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from dr_toolkit import clock, errors, log
from dr_toolkit.config import Config
from dr_toolkit.jobs import inspect, kinds, selection
from dr_toolkit.jobs.restore import Request
from dr_toolkit.log import Progress
from dr_toolkit.repository.repository import Point, Repository
from dr_toolkit.repository.snapshot import Snapshot

_log = log.get("jobs.restore")


@dataclass(frozen=True, slots=True)
class Step:
    """One component's part.

    Attributes:
        component: its name.
        kind: of the snapshot.
        snapshot: that is restored.
        prepared: the kind's own plan; None when there is none to carry out.
        left: why it is left to a person, or was done before; empty when it will be done.
        hint: what that person does.
        seconds: that its last proven restore took; None when there was none.
    """

    component: str
    kind: str
    snapshot: Snapshot
    prepared: Any
    left: str = ""
    hint: str | None = None
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What will be done, in this order.

    Attributes:
        name: of the point, or the time; what a person types to agree, and the journal's key.
        steps: in their order.
        spread: seconds between the oldest and the newest snapshot.
    """

    name: str
    steps: tuple[Step, ...]
    spread: float


@dataclass(slots=True)
class Outcome:
    """What came of it.

    Attributes:
        plan: what was planned.
        done: what each component's restore did, by name.
        failed: the component at which it stopped, and why.
    """

    plan: Plan
    done: dict[str, Any] = field(default_factory=dict)
    failed: tuple[str, errors.DrctlError] | None = None


class Journal:
    """What was done of one plan, on this machine: a file, so that a run that was killed can be continued.

    Args:
        path: the file; its directory is made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def done(self) -> frozenset[tuple[str, str]]:
        """(component, snapshot id) of finished steps.

        Raises:
            DataError: the file is not a journal.
        """
        try:
            rows = json.loads(self.path.read_text("utf-8"))["done"]
            return frozenset((str(component), str(snapshot)) for component, snapshot in rows)
        except FileNotFoundError:
            return frozenset()
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise errors.DataError(
                f'"{self.path}" cannot be read as the journal of a restore',
                on=str(self.path),
                hint="remove it to begin anew",
                unaffected="nothing was started",
            ) from error

    def add(self, step: Step) -> None:
        """Note a finished step, durably."""
        rows = sorted({*self.done(), (step.component, step.snapshot.id)})
        partial = self.path.with_name(f"{self.path.name}.{os.getpid()}")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("w", encoding="utf-8") as file:
                json.dump({"done": rows}, file)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(self.path)
        except OSError as error:  # the restore itself went well
            _log.warning("journal not written", path=str(self.path), reason=str(error.strerror))

    def clear(self) -> None:
        """Forget: the plan was carried out, or is begun anew."""
        self.path.unlink(missing_ok=True)


def journal_of(name: str) -> Journal:
    """The journal of a plan, in the user's state directory."""
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local/state")
    return Journal(Path(base) / "drctl" / f"restore-{name.replace(':', '')}.json")


def plan(
    config: Config,
    repository: Repository,
    *,
    point: str | None,
    at: datetime | None,
    done: Callable[[str], frozenset[tuple[str, str]]] = lambda _name: frozenset(),
) -> Plan:
    """Plan every component. Changes nothing.

    Args:
        config: the configuration.
        repository: opened with the ``read`` role.
        point: name or id of a recovery point; or None, with ``at``.
        at: each component's newest good snapshot not after this.
        done: (component, snapshot id) of steps that an earlier run finished, by the plan's name.

    Raises:
        SnapshotMissing: the point, or a snapshot of it, is not there.
        Damaged: a snapshot is not the one that the point names.
        TargetError: a target cannot take its component; nothing was started.
    """
    stock = inspect.inventory(repository)
    name, chosen = choose(config, repository, stock, point=point, at=at)
    finished = done(name)
    seconds = measured(stock)
    steps = [
        _step(config, repository, snapshot, finished, seconds.get(snapshot.header.component))
        for snapshot in in_order(chosen)
    ]
    times = [s.snapshot.header.moment for s in steps]
    return Plan(name, tuple(steps), (max(times) - min(times)).total_seconds())


def choose(
    config: Config,
    repository: Repository,
    stock: inspect.Inventory,
    *,
    point: str | None,
    at: datetime | None,
) -> tuple[str, list[Snapshot]]:
    """Name and snapshots of a point, or of a time.

    Raises:
        SnapshotMissing: the point, or a snapshot of it, is not there.
        Damaged: a snapshot is not the one that the point names.
    """
    if point is None:
        assert at is not None  # noqa: S101  # for the type checker: one of both is given
        return clock.rfc3339(at), _at(config, stock.snapshots, at)
    found = inspect.find(repository, point)
    if not isinstance(found, Point):
        raise errors.UsageError(f'"{point}" is a snapshot and no recovery point', on=point)
    return found.name, of_point(found, stock.snapshots)


def of_point(point: Point, snapshots: Sequence[Snapshot]) -> list[Snapshot]:
    """The snapshots that a point names, unaltered. Pure.

    Raises:
        SnapshotMissing: one is gone.
        Damaged: one has another HASH than the point says.
    """
    known = {(s.header.component, s.id): s for s in snapshots}
    chosen = []
    for component, snapshot_id, digest in point.snapshots:
        found = known.get((component, snapshot_id))
        if found is None:
            raise errors.SnapshotMissing(
                f'snapshot "{snapshot_id}" of "{component}", which point "{point.name}" names, is not there',
                on=snapshot_id,
                hint="restore the other components one by one: drctl restore COMPONENT",
                unaffected="nothing was started",
            )
        if found.digest_text != digest:
            raise errors.Damaged(
                f'snapshot "{snapshot_id}" is not the one that point "{point.name}" names',
                fault="authentication",
                on=snapshot_id,
                unaffected="nothing was started",
            )
        chosen.append(found)
    if not chosen:
        raise errors.NothingToDo(f'point "{point.name}" has no snapshot', on=point.name)
    return chosen


def in_order(chosen: Sequence[Snapshot]) -> list[Snapshot]:
    """Databases first, then what refers to them: the order of the table of kinds. Pure."""
    order = {kind: place for place, kind in enumerate(kinds.known())}
    return sorted(chosen, key=lambda s: (order.get(s.header.kind, len(order)), s.header.component))


def run(
    config: Config, repository: Repository, planned: Plan, progress: Progress, journal: Journal
) -> Outcome:
    """Carry the plan out, step by step; at the first failure the rest is left as it is."""
    outcome = Outcome(planned)
    for step in planned.steps:
        if step.left:
            continue
        job = kinds.restore_of(step.kind)
        try:
            outcome.done[step.component] = job.run(
                config, repository, step.prepared, progress, end_sessions=True
            )
        except errors.DrctlError as error:
            _log.error("restore failed", component=step.component, code=error.code, reason=error.message)
            outcome.failed = (step.component, error)
            return outcome
        finally:
            progress.close()
        journal.add(step)
    journal.clear()
    return outcome


def _at(config: Config, snapshots: Sequence[Snapshot], at: datetime) -> list[Snapshot]:
    return [
        selection.choose([s for s in snapshots if s.header.component == name], name, at=at)
        for name in config.components
    ]


def _step(
    config: Config,
    repository: Repository,
    found: Snapshot,
    finished: frozenset[tuple[str, str]],
    seconds: float | None,
) -> Step:
    name, kind = found.header.component, found.header.kind
    if (name, found.id) in finished:
        return Step(name, kind, found, None, "done by an earlier run", seconds=seconds)
    if name not in config.components:
        hint = "configure it, or restore it by hand"
        return Step(name, kind, found, None, "it is not configured here", hint, seconds)
    try:
        prepared = kinds.restore_of(kind).prepare(config, repository, Request(name, found.id))
    except errors.UsageError as error:  # it needs to be told where to: a person's decision
        return Step(name, kind, found, None, error.message, error.hint, seconds)
    return Step(name, kind, found, prepared, seconds=seconds)


def measured(stock: inspect.Inventory) -> Mapping[str, float]:
    """Seconds of the newest passed restore of each component."""
    passed = [
        (e.time, component, float(e.result["seconds"]))
        for (component, _id), items in stock.evidence.items()
        for e in items
        if e.result.get("level") == "restore" and e.result.get("result") == "passed"
    ]
    return {component: seconds for _time, component, seconds in sorted(passed)}
