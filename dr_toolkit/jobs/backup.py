"""Take snapshots: one component after the other, or side by side; what fails in one leaves the others as they are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field

from dr_toolkit import clock, errors, log
from dr_toolkit.config import ComponentConfig, Config, PostgresBaseConfig
from dr_toolkit.jobs import kinds, opening, side_by_side
from dr_toolkit.log import Progress
from dr_toolkit.repository import layout
from dr_toolkit.repository import snapshot as snapshots
from dr_toolkit.repository.repository import Point, Repository
from dr_toolkit.repository.snapshot import Snapshot

_log = log.get("jobs.backup")
_POINT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True, slots=True)
class Request:
    """What to back up.

    Attributes:
        components: names; empty for all.
        point: tie the snapshots together under this name.
        full: ignore the parent and everything stored.
        checksum: of replicas: believe no ETag, read both sides.
        audit: of base backups: read the cluster whole, and hold it against what increments said.
        checkpoint: of base backups: how the server makes its checkpoint; else as configured.
        max_rate: of base backups: KiB each second; else as configured.
    """

    components: tuple[str, ...] = ()
    point: str | None = None
    full: bool = False
    checksum: bool = False
    audit: bool = False
    checkpoint: str | None = None
    max_rate: int | None = None


@dataclass(slots=True)
class Outcome:
    """What came of it.

    Attributes:
        snapshots: taken.
        seconds: by snapshot id.
        failures: (component, why), for those that failed.
        point: made when nothing failed.
        point_wanted: whether one was asked for.
    """

    snapshots: list[Snapshot] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    failures: list[tuple[str, errors.DrctlError]] = field(default_factory=list)
    point: Point | None = None
    point_wanted: bool = False


@dataclass(frozen=True, slots=True)
class Planned:
    """What a backup would do (``--dry-run``).

    Attributes:
        component: its name.
        source: where it would be read from, without secrets.
        bytes: what it would roughly read; None where the role may not know.
        parent: the snapshot it would compare with.
        programs: directory of the programs it would use; empty for none.
        foreseen: what else can be said of the run.
    """

    component: str
    source: str
    bytes: int | None
    parent: str | None
    programs: str
    foreseen: tuple[str, ...] = ()


def check_point_name(name: str) -> None:
    """A point's name must be one (docs/format.md, section 11)."""
    if not _POINT_NAME.fullmatch(name):
        raise errors.UsageError(
            f'"{name}" cannot be the name of a point',
            hint="letters, digits, dot, underscore and hyphen, at most 100",
            unaffected="nothing was started",
        )


def run(config: Config, repository: Repository, request: Request, progress: Progress) -> Outcome:
    """Take the snapshots.

    Errors of a component are in the outcome; errors of the repository itself are raised.
    """
    chosen = opening.chosen_components(config, request.components)
    _check_checksum(request, chosen)
    _check_audit(request, chosen)
    chosen = _as_asked(request, chosen)
    outcome = Outcome(point_wanted=request.point is not None)
    for name, component in chosen.items():
        started = clock.monotonic()
        try:
            made = _one(config, repository, name, component, request, progress)
        except errors.DrctlError as error:
            _failed(outcome, name, error)
            continue
        finally:
            progress.close()
        _made(outcome, made, component, clock.monotonic() - started)
    if request.point and not outcome.failures:
        _tie(repository, request.point, outcome)
    return outcome


def run_beside(
    config: Config, repository: Repository, names: tuple[str, ...], progress: Progress, most: int
) -> Outcome:
    """Take the snapshots of several components side by side, so that they are of nearly one moment.

    Args:
        config: the configuration.
        repository: opened with the ``write`` role.
        names: of the components.
        progress: told of all of them in one line.
        most: at a time.

    Returns:
        As ``run`` does; snapshots in the order of the names.
    """
    chosen = opening.chosen_components(config, names)
    outcome, request = Outcome(), Request(names)

    def take(name: str, part: Progress) -> tuple[Snapshot, float]:
        started = clock.monotonic()
        try:
            made = _one(config, repository, name, chosen[name], request, part)
        finally:
            part.close()
        return made, clock.monotonic() - started

    # Databases first: they are what changes while the others are read.
    order = sorted(chosen, key=lambda name: not chosen[name].kind.startswith("postgres"))
    for name, task in side_by_side.run(order, most, take, progress):
        _arrived(outcome, name, chosen[name], task)
    place = {name: number for number, name in enumerate(chosen)}
    outcome.snapshots.sort(key=lambda s: place[s.header.component])
    outcome.failures.sort(key=lambda failure: place[failure[0]])
    return outcome


def _arrived(
    outcome: Outcome, name: str, component: ComponentConfig, task: Future[tuple[Snapshot, float]]
) -> None:
    try:
        made, seconds = task.result()
    except errors.DrctlError as error:
        _failed(outcome, name, error)
        return
    _made(outcome, made, component, seconds)


def _failed(outcome: Outcome, name: str, error: errors.DrctlError) -> None:
    error.unaffected = error.unaffected or "earlier snapshots are as they were"
    _log.answered("backup failed", component=name, code=error.code, reason=error.message)
    outcome.failures.append((name, error))


def _made(outcome: Outcome, made: Snapshot, component: ComponentConfig, seconds: float) -> None:
    name = made.header.component
    outcome.snapshots.append(made)
    outcome.seconds[made.id] = round(seconds, 3)
    _log.info("snapshot taken", component=name, snapshot=made.id, head=made.digest_text)
    auditor = kinds.audit_of(component.kind)
    if auditor is not None and (objection := auditor.objection(made)) is not None:
        _log.error("audit failed", component=name, reason=objection.message)
        outcome.failures.append((name, objection))


def _tie(repository: Repository, point: str, outcome: Outcome) -> None:
    """Make the recovery point. Where it cannot be, its snapshots are there all the same, and the answer must have them."""
    try:
        outcome.point = repository.add_point(point, outcome.snapshots)
    except errors.DrctlError as error:
        error.unaffected = "the snapshots above were taken, and are good; only nothing ties them together"
        _log.answered("no point was made", point=point, code=error.code, reason=error.message)
        outcome.failures.append((f"point {point}", error))


def plan(config: Config, repository: Repository, request: Request) -> list[Planned]:
    """What ``run`` would do; reads the source's size and nothing more."""
    planned = []
    for name, component in opening.chosen_components(config, request.components).items():
        source = kinds.backup_of(component.kind).look(config, component)
        foresight = kinds.foresight_of(component.kind)
        foreseen = foresight.foresee(config, repository, name, component) if foresight else []
        known, _damaged = repository.snapshots(name)
        parent, _warnings = snapshots.choose_parent(known, repository.store.now())
        planned.append(
            Planned(
                name,
                source.place,
                source.bytes,
                None if request.full or parent is None else parent.id,
                source.programs,
                tuple(foreseen),
            )
        )
    return planned


def _one(
    config: Config,
    repository: Repository,
    name: str,
    component: ComponentConfig,
    request: Request,
    progress: Progress,
) -> Snapshot:
    with _damage_explained(name):
        auditor = kinds.audit_of(component.kind) if request.audit else None
        if auditor is not None:
            return auditor.take(
                config, repository, name, component, full=request.full, progress=progress, audit=True
            )
        taker = kinds.backup_of(component.kind)
        return taker.take(
            config, repository, name, component, full=request.full or request.checksum, progress=progress
        )


def _check_checksum(request: Request, chosen: dict[str, ComponentConfig]) -> None:
    others = [name for name, component in chosen.items() if getattr(component, "mode", "") != "replica"]
    if request.checksum and others:
        raise errors.UsageError(
            f'"{others[0]}" is not a replica',
            on=others[0],
            hint="--checksum is for components with mode: replica; name them",
            unaffected="nothing was started",
        )


def _check_audit(request: Request, chosen: dict[str, ComponentConfig]) -> None:
    others = [name for name, component in chosen.items() if kinds.audit_of(component.kind) is None]
    if request.audit and others:
        raise errors.UsageError(
            f'"{others[0]}" has no increments to audit',
            on=others[0],
            hint="--audit is for components of the kind postgres-base; name them",
            unaffected="nothing was started",
        )


def _as_asked(request: Request, chosen: dict[str, ComponentConfig]) -> dict[str, ComponentConfig]:
    """What was asked on the command line wins over the configuration, for the components that know it."""
    asked = {"checkpoint": request.checkpoint, "max_rate": request.max_rate}
    wanted = {name: value for name, value in asked.items() if value is not None}
    knowing = [name for name, component in chosen.items() if isinstance(component, PostgresBaseConfig)]
    if wanted and not knowing:
        raise errors.UsageError(
            "--checkpoint and --max-rate are for components of the kind postgres-base",
            hint="name one",
            unaffected="nothing was started",
        )
    return {
        name: component.model_copy(update=wanted) if name in knowing else component
        for name, component in chosen.items()
    }


@contextmanager
def _damage_explained(name: str) -> Iterator[None]:
    try:
        yield
    except errors.DataError as error:
        if (error.on or "").startswith(layout.CATALOGS):
            error.hint = f"the snapshot before this one is damaged; take one that needs nothing of it: drctl backup {name} --full"
        raise
