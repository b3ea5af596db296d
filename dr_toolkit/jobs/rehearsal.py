"""An upgrade tried beforehand: the new Console on a restored copy of its database, in a namespace that is closed and then deleted."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote

from dr_toolkit import clock, log
from dr_toolkit.cluster import rehearsal_environment, rehearsal_log, rehearsal_shape
from dr_toolkit.cluster.client import Cluster
from dr_toolkit.cluster.rehearsal import Limits, Ready, Rehearsal, Seen
from dr_toolkit.cluster.rehearsal_environment import Given
from dr_toolkit.cluster.rehearsal_objects import Start
from dr_toolkit.cluster.rehearsal_shape import Shape
from dr_toolkit.cluster.scratch_objects import Guest, Order
from dr_toolkit.cluster.scratch_state import State
from dr_toolkit.config import (
    Config,
    RehearsalConfig,
    SecretRef,
    is_reference,
    resolve_secret,
)
from dr_toolkit.jobs import (
    prove_in_namespace,
    rehearsal_serve,
    rehearsal_source,
    rehearsal_verdict,
    selection,
    verify,
)
from dr_toolkit.jobs.recipients import vault_reader
from dr_toolkit.jobs.rehearsal_target import Target, Wanted, target_of
from dr_toolkit.jobs.rehearsal_verdict import Reason
from dr_toolkit.jobs.verify import Result
from dr_toolkit.log import Progress
from dr_toolkit.repository.repository import Repository
from dr_toolkit.repository.snapshot import Snapshot

_log = log.get("jobs.rehearsal")

_MARGIN = 60
"""Seconds that the guest's own deadline, and that of the copy, are behind ours."""
_CONNECTIONS = "200"
_LINES = 200


@dataclass(slots=True)
class Outcome:
    """What a rehearsal found.

    Attributes:
        application: its name.
        component: whose snapshot was restored.
        snapshot: which.
        image: that was started.
        workload: whose shape it had.
        source: where that shape comes from.
        reasons: what speaks against the upgrade; none where all went well.
        notes: what was not as it will be, in words.
        migrated: what the migrations did, in words.
        before: migration histories before.
        after: migration histories after.
        seconds: until its container ran (``start``), the last migration was seen (``migrations``) and it was healthy (``health``); ``all`` of it.
        errors: lines with the level ERROR that count.
        expected: lines that the closed network or the configuration explains.
        lines: the end of its log.
        signed: whether evidence was stored.
    """

    application: str
    component: str
    snapshot: str
    image: str
    workload: str
    source: str
    reasons: list[Reason] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    migrated: str = ""
    before: tuple[Mapping[str, Any], ...] = ()
    after: tuple[Mapping[str, Any], ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)
    errors: tuple[str, ...] = ()
    expected: int = 0
    lines: list[str] = field(default_factory=list)
    signed: bool = False

    @property
    def passed(self) -> bool:
        """Whether nothing speaks against the upgrade."""
        return not self.reasons


def shape_of(
    config: Config,
    repository: Repository,
    target: Target,
    wanted: Wanted,
    snapshots: Mapping[str, Snapshot],
) -> tuple[Shape, str]:
    """The workload as the chart renders it, and the image that it is started with.

    Raises:
        TargetError: there is no such workload.
        ConfigError: what is needed to render it is not here.
    """
    found = rehearsal_source.shape_of(
        config, repository, target.name, target.application, snapshots, wanted.chart
    )
    image = wanted.image or target.settings.image
    if image is None and wanted.chart is None and wanted.to_version:
        image = rehearsal_shape.upgraded(found.image, wanted.to_version)
    return found, image or found.image


def run(
    config: Config,
    repository: Repository,
    found: Snapshot,
    target: Target,
    shape: Shape,
    image: str,
    progress: Progress,
) -> tuple[Result, Outcome | None]:
    """Restore and prove a snapshot in a scratch namespace, then start the new version on the copy.

    Args:
        config: the configuration.
        repository: opened with the ``read`` role.
        found: the snapshot of Console's main database.
        target: what is tried.
        shape: the workload.
        image: of the new version.
        progress: told of each stage.

    Returns:
        The proof of the snapshot, its evidence signed; and what the rehearsal found, None where the proof failed.

    Raises:
        TargetError: it could not be tried there. That says nothing about the snapshot, nor about the upgrade.
    """
    began = clock.monotonic()
    settings, key, password = target.settings, secrets.token_hex(32), secrets.token_urlsafe(24)
    log.mask(password)
    order = _order(config, found, target, shape, {"key": key, "password": password})
    wanted = prove_in_namespace.configured(config)
    result = Result(found.header.component, found.id, found.digest_text, "restore", passed=False, signed=True)

    def told(text: str) -> None:
        progress.start(None, f"{target.name}: {text}")

    try:
        with Cluster(config.cluster) as cluster:
            prove_in_namespace.clean(cluster)
            with Rehearsal(cluster, order, key) as place:
                copy = place.wait_for_copy(wanted.start_timeout.total_seconds(), told)
                state = copy if isinstance(copy, State) else State("done", code=0)
                looked = prove_in_namespace.answer(repository, found, order, state, place.log())
                result.checks, result.failures, result.notes = looked
                result.seconds = clock.monotonic() - began
                result.passed = not result.failures
                if not isinstance(copy, Ready) or not result.passed:
                    return result, None
                start = _start(config, settings, shape, image, copy, password)
                outcome = _outcome(target, found, shape, start, copy)
                seen = place.watch(copy, start, _limits(settings), told)
    finally:
        progress.close()
    _judge(outcome, seen, copy, settings, shape)
    outcome.seconds["all"] = round(clock.monotonic() - began, 3)
    _sign(repository, found, outcome)
    return result, outcome


def _order(config: Config, found: Snapshot, target: Target, shape: Shape, words: Mapping[str, str]) -> Order:
    wanted, settings = prove_in_namespace.configured(config), target.settings
    order = prove_in_namespace.order_of(config, wanted, found, ())
    kept = int((settings.start_timeout + settings.timeout + settings.settle).total_seconds()) + _MARGIN
    arguments = (
        *("scratch", "serve", found.header.component),
        *("--snapshot", found.id, "--for", f"{kept}s", "--log-format", "json"),
    )
    given = {rehearsal_serve.KEY: words["key"], rehearsal_serve.PASSWORD: words["password"]}
    cpu, memory = rehearsal_shape.resources(shape.container, settings.cpu, settings.memory)
    return replace(
        order,
        arguments=arguments,
        environment={**order.environment, **given},
        database_settings={**order.database_settings, "max_connections": _CONNECTIONS},
        timeout=order.timeout + kept,
        expires=order.expires + settings.start_timeout + settings.timeout + settings.settle,
        guest=Guest(cpu, memory),
    )


def _start(
    config: Config, settings: RehearsalConfig, shape: Shape, image: str, copy: Ready, password: str
) -> Start:
    reader = vault_reader(config)
    own = {
        name: (resolve_secret(SecretRef(value), vault=reader) or "") if is_reference(value) else value
        for name, value in settings.environment.items()
    }
    cpu, memory = rehearsal_shape.resources(shape.container, settings.cpu, settings.memory)
    limits = _limits(settings)
    return Start(
        image=image,
        shape=shape,
        given=rehearsal_environment.prepare(shape, database_url(copy, password), own),
        cpu=cpu,
        memory=memory,
        seconds=int(limits.start + limits.health + limits.settle) + _MARGIN,
    )


def database_url(copy: Ready, password: str) -> str:
    """The copy's address as Console reads it. Pure."""
    host = f"[{copy.address}]" if ":" in copy.address else copy.address
    user, name = quote(copy.role, safe=""), quote(copy.database, safe="")
    return f"postgresql://{user}:{quote(password, safe='')}@{host}:{copy.port}/{name}?sslmode=disable"


def _limits(settings: RehearsalConfig) -> Limits:
    return Limits(
        settings.start_timeout.total_seconds(),
        settings.timeout.total_seconds(),
        settings.settle.total_seconds(),
    )


def _outcome(target: Target, found: Snapshot, shape: Shape, start: Start, copy: Ready) -> Outcome:
    return Outcome(
        target.name,
        target.component,
        found.id,
        start.image,
        shape.workload,
        shape.source,
        notes=list(start.given.notes),
        before=copy.histories,
    )


def _judge(outcome: Outcome, seen: Seen, copy: Ready, settings: RehearsalConfig, shape: Shape) -> None:
    found = rehearsal_log.read(seen.lines, settings.expected_errors)
    budget = rehearsal_shape.budget(shape.container)
    outcome.reasons = rehearsal_verdict.reasons(seen, copy.histories, found, _limits(settings), budget)
    outcome.migrated = rehearsal_verdict.migrated(copy.histories, seen.histories)
    outcome.after = seen.histories
    outcome.seconds = dict(seen.seconds)
    outcome.errors, outcome.expected = found.lines, found.expected
    outcome.lines = [log.masked(line) for line in seen.lines[-_LINES:]]
    _log.info("rehearsed", image=outcome.image, passed=outcome.passed, seconds=outcome.seconds)


def _sign(repository: Repository, found: Snapshot, outcome: Outcome) -> None:
    """Evidence of its own level: it says what was tried, and is no proof of the snapshot."""
    checks: dict[str, Any] = {
        "application": outcome.application,
        "image": outcome.image,
        "workload": outcome.workload,
        "source": outcome.source,
        "before": [dict(one) for one in outcome.before],
        "after": [dict(one) for one in outcome.after],
        "seconds": outcome.seconds,
        "errors": len(outcome.errors),
        "expected_errors": outcome.expected,
        "not_as_live": outcome.notes[:50],
    }
    row = Result(
        found.header.component,
        found.id,
        found.digest_text,
        "rehearsal",
        passed=outcome.passed,
        seconds=outcome.seconds["all"],
        checks=checks,
        failures=[reason.text for reason in outcome.reasons],
    )
    verify.sign(repository, [row])
    outcome.signed = row.signed


@dataclass(frozen=True, slots=True)
class Alone:
    """A rehearsal without the gate.

    Attributes:
        proof: of the snapshot that was restored for it.
        outcome: what it found; None where the proof failed.
    """

    proof: Result
    outcome: Outcome | None

    @property
    def passed(self) -> bool:
        """Whether nothing speaks against the upgrade."""
        return self.outcome is not None and self.outcome.passed


@dataclass(frozen=True, slots=True)
class Planned:
    """What a rehearsal would start, and with what.

    Attributes:
        target: what is tried.
        snapshot: that would be restored.
        image: of the new version.
        shape: the workload.
        given: what its container would get; of its values only names are for people.
    """

    target: Target
    snapshot: Snapshot
    image: str
    shape: Shape
    given: Given


def plan(config: Config, repository: Repository, wanted: Wanted, snapshot_id: str | None) -> Planned:
    """Find everything that a rehearsal needs. Changes nothing.

    Raises:
        ConfigError, TargetError: it cannot be tried.
        SnapshotMissing: there is no such snapshot.
    """
    target, found, shape, image = _chosen(config, repository, wanted, snapshot_id)
    given = rehearsal_environment.prepare(shape, "", target.settings.environment)
    return Planned(target, found, image, shape, given)


def _chosen(
    config: Config, repository: Repository, wanted: Wanted, snapshot_id: str | None
) -> tuple[Target, Snapshot, Shape, str]:
    target = target_of(config, wanted)
    snapshots, _damaged = repository.snapshots()
    own = [one for one in snapshots if one.header.component == target.component]
    found = selection.choose(own, target.component, snapshot_id=snapshot_id)
    newest = {one.header.component: one for one in snapshots if one.header.status == "good"}
    shape, image = shape_of(config, repository, target, wanted, newest)
    return target, found, shape, image


def alone(
    config: Config, repository: Repository, wanted: Wanted, snapshot_id: str | None, progress: Progress
) -> Alone:
    """Try an upgrade on the newest good snapshot, or on one that is named; takes no backup.

    Args:
        config: the configuration.
        repository: opened with the ``read`` role.
        wanted: what is to be tried.
        snapshot_id: of Console's main database; None for the newest good one.
        progress: told of each stage.

    Raises:
        ConfigError, TargetError: it cannot be tried.
        SnapshotMissing: there is no such snapshot.
    """
    target, found, shape, image = _chosen(config, repository, wanted, snapshot_id)
    return Alone(*run(config, repository, found, target, shape, image, progress))
