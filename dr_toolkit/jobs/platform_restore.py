"""Bring everything back: one plan for all components of a recovery point, carried out in one order, continued where it stopped."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from dr_toolkit import clock, errors, log
from dr_toolkit.config import BucketConfig, Config
from dr_toolkit.jobs import inspect, kinds, selection, way_back
from dr_toolkit.jobs.journal import Journal, journal_of
from dr_toolkit.jobs.request import Request
from dr_toolkit.log import Progress
from dr_toolkit.repository.repository import Point, Repository
from dr_toolkit.repository.snapshot import Snapshot

if TYPE_CHECKING:
    from dr_toolkit.jobs import quiet

_log = log.get("jobs.restore")

REPORTED = frozenset({"helm", "secrets"})
"""Kinds of which nothing is written, only reported."""


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
        rest: the applications that are scaled to zero first, and back at the end.
    """

    name: str
    steps: tuple[Step, ...]
    spread: float
    rest: tuple[quiet.Rest, ...] = ()


@dataclass(slots=True)
class Outcome:
    """What came of it.

    Attributes:
        plan: what was planned.
        done: what each component's restore did, by name.
        failed: the component at which it stopped, and why.
        dropped: components whose databases were restored aside, and dropped again because another one failed.
        unreported: components that could not be compared with what is live, and why; nothing waits for that.
        resting: applications that are still at zero, because it stopped.
        awake: what the applications said after they were scaled up, in words, and whether it is well.
    """

    plan: Plan
    done: dict[str, Any] = field(default_factory=dict)
    failed: tuple[str, errors.DrctlError] | None = None
    dropped: tuple[str, ...] = ()
    unreported: list[tuple[str, errors.DrctlError]] = field(default_factory=list)
    resting: tuple[str, ...] = ()
    awake: list[tuple[bool, str]] = field(default_factory=list)


def plan(
    config: Config,
    repository: Repository,
    *,
    point: str | None,
    at: datetime | None,
    resume: bool = False,
    rest: Sequence[quiet.Rest] = (),
    namespace: str | None = None,
) -> Plan:
    """Plan every component. Changes nothing.

    Args:
        config: the configuration.
        repository: opened with the ``read`` role.
        point: name or id of a recovery point; or None, with ``at``.
        at: each component's newest good snapshot not after this.
        resume: leave out what an earlier run of the same plan finished.
        rest: the applications that are scaled to zero first, and back at the end.
        namespace: where releases and Secrets are compared with, when it is not their own.

    Raises:
        SnapshotMissing: the point, or a snapshot of it, is not there.
        Damaged: a snapshot is not the one that the point names.
        TargetError: a target cannot take its component; nothing was started.
    """
    stock = inspect.inventory(repository)
    name, chosen = choose(config, repository, stock, point=point, at=at)
    finished = _finished(config, journal_of(name), chosen) if resume else frozenset()
    seconds, instead = measured(stock), taken_from(chosen, _endpoints(config))
    steps = []
    for snapshot in in_order(chosen):
        component = snapshot.header.component
        over = _passed_over(config, snapshot, finished, instead.get(component))
        step = _step(config, repository, snapshot, namespace) if over is None else over
        steps.append(replace(step, seconds=seconds.get(component)))
    times = [s.snapshot.header.moment for s in steps]
    return Plan(name, tuple(steps), (max(times) - min(times)).total_seconds(), tuple(rest))


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


def taken_from(chosen: Sequence[Snapshot], endpoints: Mapping[str, str | None]) -> Mapping[str, str]:
    """Replicas whose bucket also comes back from a snapshot: that component, by theirs. Pure.

    A replica holds what the bucket was last. Restored behind the snapshot of the same moment as the databases, it would undo it.

    Args:
        chosen: what is restored.
        endpoints: of each configured component that is a bucket: two servers may have buckets of one name.
    """

    def place(found: Snapshot) -> tuple[object, ...]:
        source = found.header.source
        return source.get("bucket"), source.get("prefix"), endpoints.get(found.header.component)

    # One that is not configured here is left to a person: then the replica is what there is.
    snapshots = {
        place(s): s.header.component
        for s in chosen
        if s.header.kind == "bucket" and s.header.component in endpoints
    }
    replicas = [s for s in chosen if s.header.kind == "bucket-replica"]
    return {s.header.component: snapshots[place(s)] for s in replicas if place(s) in snapshots}


def run(
    config: Config,
    repository: Repository,
    planned: Plan,
    progress: Progress,
    journal: Journal,
    session: quiet.Session | None = None,
) -> Outcome:
    """Carry the plan out; at the first failure the rest is left as it is, and the applications stay at zero.

    Databases are all restored aside and compared first; only then the first of them gets the live name.

    Args:
        config: the configuration.
        repository: opened with the ``read`` role.
        planned: the plan.
        progress: told of each stage.
        journal: of this plan.
        session: the applications and their leases; None where none is configured.
    """
    outcome = Outcome(planned)
    journal.begin()
    if session is not None:
        session.down(progress)
    with ExitStack() as stack:
        ready: dict[str, kinds.Ready] = {}

        def restore_aside(step: Step, beside: kinds.Beside) -> None:
            ready[step.component] = stack.enter_context(
                beside.aside(config, repository, step.prepared, progress)
            )

        def finish(step: Step) -> None:
            outcome.done[step.component] = (
                ready[step.component].finish(end_sessions=True)
                if step.component in ready
                else kinds.restore_of(step.kind).run(
                    config, repository, step.prepared, progress, end_sessions=True
                )
            )
            journal.add(step.component, step.snapshot.id)

        # No database gets its name before all of them are there and were compared.
        for step, beside in _databases(planned):
            _attempt(outcome, step, session, progress, partial(restore_aside, step, beside))
        outcome.dropped = tuple(ready) if outcome.failed else ()
        for step in planned.steps:
            if not step.left:
                _attempt(outcome, step, session, progress, partial(finish, step))
    if outcome.failed:
        outcome.resting = tuple(rest.name for rest in planned.rest)
        return outcome
    if session is not None:
        session.up(progress)
        outcome.awake = session.health()
    journal.clear()
    return outcome


def _databases(planned: Plan) -> Iterator[tuple[Step, kinds.Beside]]:
    """The steps that can be restored and compared before the first of them is swapped."""
    for step in planned.steps:
        beside = None if step.left else kinds.beside_of(step.kind)
        if beside is not None:
            yield step, beside


def _attempt(
    outcome: Outcome,
    step: Step,
    session: quiet.Session | None,
    progress: Progress,
    work: Callable[[], None],
) -> None:
    """One piece of work, as long as none before it failed."""
    if outcome.failed:
        return
    try:
        if session is not None:
            session.check()
        work()
    except errors.DrctlError as error:
        _log.error("restore failed", component=step.component, code=error.code, reason=error.message)
        if step.kind in REPORTED:
            outcome.unreported.append((step.component, error))
        else:
            outcome.failed = (step.component, error)
    finally:
        progress.close()


def _endpoints(config: Config) -> Mapping[str, str | None]:
    buckets = {name: one for name, one in config.components.items() if isinstance(one, BucketConfig)}
    return {name: one.s3.endpoint for name, one in buckets.items()}


def _finished(config: Config, journal: Journal, chosen: Sequence[Snapshot]) -> frozenset[tuple[str, str]]:
    """What the journal has, and databases that were swapped by a run that died before it could write that down."""
    began = journal.began()
    swapped = {
        (s.header.component, s.id)
        for s in chosen
        if began and way_back.replaced_since(config, s.header.component, s.id, began)
    }
    return journal.done() | swapped


def _at(config: Config, snapshots: Sequence[Snapshot], at: datetime) -> list[Snapshot]:
    return [
        selection.choose([s for s in snapshots if s.header.component == name], name, at=at)
        for name in config.components
    ]


def _passed_over(
    config: Config, found: Snapshot, finished: frozenset[tuple[str, str]], same: str | None
) -> Step | None:
    """The step of a snapshot that is not restored, with the reason; None for one that is."""
    name, kind = found.header.component, found.header.kind
    if (name, found.id) in finished:
        return Step(name, kind, found, None, "done by an earlier run")
    if name not in config.components:
        hint = "configure it, or restore it by hand"
        return Step(name, kind, found, None, "it is not configured here", hint)
    if same is not None:
        hint = f"if that is wanted, afterwards: drctl restore {name}"
        return Step(name, kind, found, None, f'its bucket comes back from the snapshot of "{same}"', hint)
    return None


def _step(config: Config, repository: Repository, found: Snapshot, namespace: str | None) -> Step:
    name, kind = found.header.component, found.header.kind
    try:
        # Of releases and Secrets a report is made: what differs from the live ones. Installing is a person's.
        request = Request(name, found.id, diff=kind == "helm", namespace=namespace)
        prepared = kinds.restore_of(kind).prepare(config, repository, request)
    except errors.DrctlError as error:
        # A usage error: it needs to be told where to, which is a person's decision. For a report nothing else waits.
        if kind not in REPORTED and not isinstance(error, errors.UsageError):
            raise
        return Step(name, kind, found, None, error.message, error.hint)
    return Step(name, kind, found, prepared)


def measured(stock: inspect.Inventory) -> Mapping[str, float]:
    """Seconds of the newest passed restore of each component."""
    passed = [
        (e.time, component, float(e.result["seconds"]))
        for (component, _id), items in stock.evidence.items()
        for e in items
        if e.result.get("level") == "restore" and e.result.get("result") == "passed"
    ]
    return {component: seconds for _time, component, seconds in sorted(passed)}
