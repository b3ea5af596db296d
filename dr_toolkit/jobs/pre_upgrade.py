"""The gate before an upgrade: a recovery point of everything, proven by restore, and GO only then."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from dr_toolkit import clock, errors, log
from dr_toolkit.config import ComponentConfig, Config
from dr_toolkit.jobs import (
    backup,
    deadline,
    gate,
    gate_facts,
    gate_rehearsal,
    inspect,
    kinds,
    opening,
    proofs,
    side_by_side,
    verify,
)
from dr_toolkit.jobs.gate import Check, Question, Verdict
from dr_toolkit.jobs.inspect import Inventory
from dr_toolkit.jobs.rehearsal_target import Target, Wanted
from dr_toolkit.log import Progress
from dr_toolkit.repository import pins
from dr_toolkit.repository.repository import Point, Repository
from dr_toolkit.repository.snapshot import Snapshot

if TYPE_CHECKING:
    from dr_toolkit.jobs.quiet import Session
    from dr_toolkit.jobs.rehearsal import Outcome

_log = log.get("jobs.pre_upgrade")
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Request:
    """What the gate is asked.

    Attributes:
        question: release and version.
        point: name of the recovery point; None for ``pre-upgrade-<time>``.
        reuse: snapshots and proofs that are not older are taken instead of new ones; None for new ones.
        accept: names of checks that need not be fine.
        deadline: for everything.
        keep: how long the point is pinned.
        rehearse: the upgrade that is tried on a restored copy; None for none.
    """

    question: Question
    point: str | None = None
    reuse: timedelta | None = None
    accept: tuple[str, ...] = ()
    deadline: timedelta = timedelta(hours=1)
    keep: timedelta = timedelta(days=90)
    rehearse: Wanted | None = None


@dataclass(slots=True)
class Report:
    """What the gate found and did.

    Attributes:
        request: what was asked.
        moment: when it began, by the storage's clock.
        checks: everything that was looked at.
        snapshots: by component; taken, or taken over.
        proven: seconds that the restore of each proven component took.
        point: the recovery point; None when a component has no snapshot.
        pin: until when it is pinned; None when it is not.
        seconds: by stage.
        verdict: the answer.
        rehearsal: what trying the upgrade found; None where it was not asked for, or could not be done.
    """

    request: Request
    moment: datetime
    checks: list[Check] = field(default_factory=list)
    snapshots: dict[str, Snapshot] = field(default_factory=dict)
    proven: dict[str, float] = field(default_factory=dict)
    point: Point | None = None
    pin: datetime | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    verdict: Verdict = field(default_factory=lambda: gate.decide((), None))
    rehearsal: Outcome | None = None


def check_accepted(names: Sequence[str]) -> None:
    """Only checks that exist, and without which there still is a way back.

    Raises:
        UsageError: one is none of them.
    """
    for name in names:
        if name in gate.NEVER_ACCEPTED or name not in gate.CHECKS:
            allowed = ", ".join(n for n in gate.CHECKS if n not in gate.NEVER_ACCEPTED)
            why = "cannot be accepted" if name in gate.CHECKS else "is no check"
            raise errors.UsageError(
                f'"{name}" {why}', hint=f"can be accepted: {allowed}", unaffected="nothing was started"
            )


def plan(config: Config, repository: Repository, request: Request) -> Report:
    """The checks that change nothing (``--dry-run``); what a run would add to them is not in it."""
    chosen = opening.chosen_components(config, ())
    report = Report(request, opening.moment(repository))
    stock = inspect.inventory(repository)
    report.checks += gate_facts.look(config, chosen, stock, request.question)
    report.snapshots = _reusable(chosen, stock, request.reuse, report.moment)
    report.checks += gate_rehearsal.plan(config, repository, request.rehearse, request.accept)
    report.verdict = gate.decide(report.checks, None, request.accept)
    return report


def run(
    config: Config,
    repository: Repository,
    request: Request,
    progress: Progress,
    session: Session | None = None,
) -> Report:
    """Look, take, prove, pin, judge. What fails is a reason; only the repository's own errors, and the cluster's, are raised.

    Args:
        config: the configuration.
        repository: opened with both roles.
        request: what is asked.
        progress: told of each stage.
        session: applications that are at zero while the snapshots are taken; None to leave them alone.
    """
    chosen = opening.chosen_components(config, ())
    if request.point:
        backup.check_point_name(request.point)
        _check_not_borne(repository, request.point)
    report = Report(request, repository.store.now())
    target = gate_rehearsal.target(config, request.rehearse, request.accept)
    try:
        with deadline.limit(request.deadline.total_seconds()):
            _work(config, repository, report, chosen, progress, session, target)
    except deadline.Expired:
        progress.close()
        _overdue(report, chosen)
    report.verdict = gate.decide(report.checks, chosen, request.accept)
    _log.info("judged", go=report.verdict.go, reasons=[c.name for c in report.verdict.reasons])
    return report


def _check_not_borne(repository: Repository, name: str) -> None:
    """A name leads to one proven point: in an incident nobody should have to choose between two.

    Raises:
        UsageError: a pinned point has it.
    """
    borne = inspect.pinned(repository, [point for point in repository.points() if point.name == name])
    if borne:
        raise errors.UsageError(
            f'the name "{name}" is that of a pinned point already: {borne[0].id}',
            on=name,
            hint="choose another name, or leave --point out",
            unaffected="nothing was started",
        )


def _work(
    config: Config,
    repository: Repository,
    report: Report,
    chosen: Mapping[str, ComponentConfig],
    progress: Progress,
    session: Session | None,
    target: Target | None,
) -> None:
    began = clock.monotonic()
    stock = inspect.inventory(repository)
    report.checks += gate_facts.look(config, chosen, stock, report.request.question)
    began = _timed(report, "look", began)
    try:
        if session is not None:
            session.down(progress)
            began = _timed(report, "scale down", began)
        _take(config, repository, report, chosen, stock, progress)
    finally:  # a deadline and a signal come this way, too
        if session is not None:
            session.up(progress)
    began = _timed(report, "backup", began)
    if report.request.rehearse is not None:
        _rehearse(config, repository, report, target, progress)
        began = _timed(report, "rehearsal", began)
    _prove(config, repository, report, stock, progress)
    began = _timed(report, "proof", began)
    _pin(repository, report)
    _timed(report, "pin", began)


def _timed(report: Report, stage: str, began: float) -> float:
    now = clock.monotonic()
    report.seconds[stage] = round(now - began, 3)
    _log.info("stage done", stage=stage, seconds=report.seconds[stage])
    return now


def _take(
    config: Config,
    repository: Repository,
    report: Report,
    chosen: Mapping[str, ComponentConfig],
    stock: Inventory,
    progress: Progress,
) -> None:
    report.snapshots = _reusable(chosen, stock, report.request.reuse, report.moment)
    wanted = tuple(name for name in chosen if name not in report.snapshots)
    if wanted:
        with _proofs_at_hand(config, {chosen[name].kind for name in wanted}):
            outcome = backup.run_beside(config, repository, wanted, progress, side_by_side.width())
        taken = report.snapshots | {s.header.component: s for s in outcome.snapshots}
        report.snapshots = {name: taken[name] for name in chosen if name in taken}
        report.checks += [
            Check("backup", name, "failed", error.message, error.hint) for name, error in outcome.failures
        ]
    report.checks += [_taken(name, s, taken=name in wanted) for name, s in report.snapshots.items()]
    if len(report.snapshots) == len(chosen):
        _tie(repository, report)


@contextmanager
def _proofs_at_hand(config: Config, found: Collection[str]) -> Iterator[None]:
    """Import what proves these kinds meanwhile: for a good part of a backup it is the server that works."""
    loading = threading.Thread(
        target=lambda: [kinds.proof_of(kind, config.verify.scratch) for kind in sorted(found)],
        name="drctl-imports",
    )
    loading.start()
    try:
        yield
    finally:
        loading.join()


def _tie(repository: Repository, report: Report) -> None:
    """Make the recovery point. Where it cannot be, the snapshots are still worth proving: the report has to say what there is."""
    name = report.request.point or f"pre-upgrade-{report.moment:%Y%m%dT%H%M%SZ}"
    try:
        report.point = repository.add_point(name, list(report.snapshots.values()))
    except errors.DrctlError as error:
        text = f'"{name}" cannot be made: {error.message}'
        report.checks.append(Check("point", None, "failed", text, error.hint))


def _reusable(
    chosen: Mapping[str, ComponentConfig], stock: Inventory, reuse: timedelta | None, now: datetime
) -> dict[str, Snapshot]:
    """The newest good snapshot of each component that has one that is fresh enough. Pure."""
    if reuse is None:
        return {}
    fresh = [
        s
        for s in sorted(stock.snapshots, key=lambda s: s.id)
        if s.header.component in chosen
        and s.header.status == "good"
        and now - reuse <= s.header.moment <= now
    ]
    return {s.header.component: s for s in fresh}


def _taken(name: str, found: Snapshot, *, taken: bool) -> Check:
    header = found.header
    if header.status != "good":
        return Check("backup", name, "failed", f'snapshot "{header.id}" is marked damaged')
    warnings = f"; {'; '.join(header.warnings)}" if header.warnings else ""
    how = "taken" if taken else "taken over, because it is fresh enough"
    lsn = inspect.lsn_of(found)
    at = f" at LSN {lsn}" if lsn else ""
    return Check("backup", name, "ok", f"{header.id} of {header.time}{at}, {how}{warnings}")


def _rehearse(
    config: Config, repository: Repository, report: Report, target: Target | None, progress: Progress
) -> None:
    """Try the upgrade; the restore that it takes is the proof of its snapshot, too."""
    wanted = report.request.rehearse
    found = gate_rehearsal.run(config, repository, wanted, target, report.snapshots, progress)
    report.checks.append(found.check)
    report.rehearsal = found.outcome
    if found.proof is not None:
        name = found.proof.component
        report.checks.append(_proof(name, found.proof))
        if found.proof.passed:
            report.proven[name] = found.proof.seconds


def _prove(
    config: Config, repository: Repository, report: Report, stock: Inventory, progress: Progress
) -> None:
    """Restore into scratch, or take a signed proof of this very snapshot that is fresh enough."""
    wanted = []
    judged = {check.component for check in report.checks if check.name == "proof"}
    for name, found in report.snapshots.items():
        if name in judged:  # in the rehearsal
            continue
        known = _known_proof(found, stock, report)
        if known is None:
            wanted.append(found)
            continue
        report.proven[name] = known
        report.checks.append(Check("proof", name, "ok", f"its signed proof is fresh enough ({known:.1f} s)"))
    for name, result in proofs.run(config, repository, wanted, progress):
        report.checks.append(_proof(name, result))
        if isinstance(result, verify.Result) and result.passed:
            report.proven[name] = result.seconds


def _proof(name: str, result: verify.Result | errors.DrctlError) -> Check:
    if isinstance(result, errors.DrctlError):
        return Check("proof", name, "unknown", result.message, result.hint)
    if not result.passed:
        text = "; ".join(result.failures[:_SHOWN])
        hint = f"take a whole new one: drctl backup {name} --full; then: drctl verify {name} --restore"
        return Check("proof", name, "failed", text, hint)
    note = "" if result.signed else "; the evidence could not be stored"
    return Check("proof", name, "ok", f"restored into scratch and compared in {result.seconds:.1f} s{note}")


def _known_proof(found: Snapshot, stock: Inventory, report: Report) -> float | None:
    if report.request.reuse is None:
        return None
    own = [
        e
        for e in stock.evidence.get((found.header.component, found.id), [])
        if e.result.get("level") == "restore"
        and clock.parse_rfc3339(e.time) >= report.moment - report.request.reuse
    ]
    last = max(own, key=lambda e: e.time, default=None)
    return float(last.result["seconds"]) if last and last.result.get("result") == "passed" else None


def _pin(repository: Repository, report: Report) -> None:
    if report.point is None:
        if any(check.name == "point" for check in report.checks):
            return
        text = "there is no recovery point, because not every component has a snapshot"
        report.checks.append(Check("point", None, "failed", text))
        return
    times = sorted(s.header.moment for s in report.snapshots.values())
    spread = (times[-1] - times[0]).total_seconds()
    text = f'"{report.point.name}", its snapshots within {spread:.0f} s'
    if len(report.proven) < len(report.snapshots):
        report.checks.append(
            Check("point", None, "unknown", f"{text}; not pinned, because not all are proven")
        )
        return
    until = report.moment + report.request.keep
    try:
        report.pin = pins.pin(repository, report.point, until).until
    except errors.DrctlError as error:  # whatever it was: the report has to say what was taken and proven
        report.checks.append(
            Check("point", None, "failed", f"{text}; it cannot be pinned: {error.message}", error.hint)
        )
        return
    report.checks.append(Check("point", None, "ok", f"{text}, pinned until {clock.rfc3339(until)}"))


def _overdue(report: Report, chosen: Mapping[str, ComponentConfig]) -> None:
    """What the deadline left undone, in words."""
    limit = f"the deadline of {report.request.deadline.total_seconds():.0f} s passed before"
    made = {(c.name, c.component) for c in report.checks}
    for name in chosen:
        for check in ("backup", "proof"):
            if (check, name) not in made:
                report.checks.append(
                    Check(check, name, "unknown", f"{limit} it was done", "give it longer with --deadline")
                )
    if ("point", None) not in made:
        report.checks.append(Check("point", None, "unknown", f"{limit} it was pinned"))
    if report.request.rehearse is not None and "rehearsal" not in {check.name for check in report.checks}:
        hint = "give it longer with --deadline"
        report.checks.append(Check("rehearsal", None, "unknown", f"{limit} the upgrade was tried", hint))
