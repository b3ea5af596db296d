"""Prove snapshots: that their objects are there, that they open, or that they restore to the source's content. Evidence is signed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from dr_toolkit import __version__, clock, errors, log
from dr_toolkit.config import ComponentConfig, Config
from dr_toolkit.jobs import inspect, kinds, opening, selection
from dr_toolkit.log import Progress
from dr_toolkit.repository import check, layout, pins
from dr_toolkit.repository.repository import Repository
from dr_toolkit.repository.snapshot import Snapshot

if TYPE_CHECKING:
    from dr_toolkit.postgres.sample import Sample

Level = Literal["quick", "data", "restore", "sample", "rehearsal"]
"""A ``sample`` restores a part, says which, and never counts as a proof by restore. A ``rehearsal`` is about an upgrade, not about the snapshot."""

THE_REPOSITORY = "(repository)"
"""Stands where a component's name would, for what belongs to none; no component can have this name."""

_log = log.get("jobs.verify")


@dataclass(frozen=True, slots=True)
class Request:
    """What to verify.

    Attributes:
        components: names; empty for all.
        level: how strongly.
        percent: share of the packs, for ``data``.
        snapshot: a snapshot's id; else the newest good one of each component.
        sample: which part, for ``sample``.
        mark: of a run in a scratch namespace; it goes into the counts, so that the run's evidence is found.
        every: each snapshot of the components, the newest first, and not one of each; for ``quick`` and ``data``.
    """

    components: tuple[str, ...] = ()
    level: Level = "quick"
    percent: float = 100.0
    snapshot: str | None = None
    sample: Sample | None = None
    mark: str | None = None
    every: bool = False


@dataclass(slots=True)
class Result:
    """The outcome for one snapshot; becomes a row of evidence.

    Attributes:
        component: its name.
        snapshot: the id; empty when there is none to verify.
        digest: HASH of the header object, base64.
        level: as asked.
        passed: nothing failed.
        seconds: duration.
        checks: what was looked at, with counts.
        failures: sentences, each naming the object.
        notes: harmless differences, in words.
        signed: whether evidence was stored.
    """

    component: str
    snapshot: str
    digest: str
    level: Level
    passed: bool
    seconds: float = 0.0
    checks: dict[str, Any] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    signed: bool = False

    def row(self) -> dict[str, Any]:
        """As docs/format.md, section 11, wants it."""
        return {
            "component": self.component,
            "snapshot": self.snapshot,
            "digest": self.digest,
            "level": self.level,
            "result": "passed" if self.passed else "failed",
            "seconds": round(self.seconds, 3),
            "checks": self.checks,
            "failures": self.failures[:100],
        }


def run(config: Config, repository: Repository, request: Request, progress: Progress) -> list[Result]:
    """Verify, and store signed evidence where the signing key is at hand.

    Raises:
        NothingToDo: there is no snapshot at all.
    """
    chosen = opening.chosen_components(config, request.components)
    if request.sample is not None:
        _check_parts(chosen)
    snapshots, damaged = repository.snapshots()
    findings = repository.missing(snapshots, damaged)
    if not snapshots and not damaged and not findings:
        raise errors.NothingToDo("there is no snapshot to verify", hint="take one: drctl backup")
    results = []
    for name in chosen:
        lost = [f.text for f in findings if f.component == name]
        lost += [
            f'{e.message} ("{e.on}")'
            for e in damaged
            if (e.on or "").startswith(f"{layout.SNAPSHOTS}{name}/")
        ]
        own = [s for s in snapshots if s.header.component == name]
        lost += inspect.found_damaged(own)
        results += _component(config, repository, request, name, own, lost, progress)
    sign(repository, results)
    return [*results, *_of_the_repository(repository, request.level)]


def _of_the_repository(repository: Repository, level: Level) -> list[Result]:
    """What does not open and belongs to no component: points, pins, evidence. It damages no snapshot, and no proof of one."""
    _signed, unsigned = repository.evidence()
    wrong = [*unsigned, *repository.damaged_documents(), *pins.damaged(repository)]
    sentences = [e.message if (e.on or "") in e.message else f'{e.message} ("{e.on}")' for e in wrong]
    return [Result(THE_REPOSITORY, "", "", level, passed=False, failures=sentences)] if wrong else []


def _check_parts(chosen: Mapping[str, ComponentConfig]) -> None:
    for component in chosen.values():
        kinds.sampling_of(component.kind)


def _component(
    config: Config,
    repository: Repository,
    request: Request,
    name: str,
    snapshots: Sequence[Snapshot],
    lost: list[str],
    progress: Progress,
) -> list[Result]:
    if request.every and snapshots:
        # The newest first: what is read whole for it is not read again for an older one.
        read: set[tuple[bytes, int]] = set()
        newest, *older = reversed(snapshots)
        return [
            one(config, repository, request, newest, progress, lost, read),
            *(one(config, repository, request, found, progress, (), read) for found in older),
        ]
    try:
        found = selection.choose(snapshots, name, snapshot_id=request.snapshot)
    except errors.SnapshotMissing as error:
        return [Result(name, "", "", request.level, passed=False, failures=[*lost, error.message])]
    return [one(config, repository, request, found, progress, lost)]


def one(
    config: Config,
    repository: Repository,
    request: Request,
    found: Snapshot,
    progress: Progress,
    lost: Sequence[str] = (),
    read: set[tuple[bytes, int]] | None = None,
) -> Result:
    """Verify one snapshot; stores no evidence.

    Args:
        config: the configuration.
        repository: opened with the ``read`` role.
        request: the level, and what belongs to it.
        found: the snapshot.
        progress: told of each stage.
        lost: what is known to be missing of its component.
        read: for ``data``, packs that this run has read whole and found right; grows.
    """
    name = found.header.component
    result = Result(name, found.id, found.digest_text, request.level, passed=False)
    started = clock.monotonic()
    try:
        _look(config, repository, request, found, result, progress, set() if read is None else read)
    except errors.DataError as error:
        result.failures.append(error.message)
    finally:
        progress.close()
    if request.mark:
        result.checks = {**result.checks, "scratch": request.mark}
    result.failures += lost
    result.seconds = clock.monotonic() - started
    result.passed = not result.failures
    _log.info("verified", component=name, snapshot=found.id, level=request.level, passed=result.passed)
    return result


def _look(
    config: Config,
    repository: Repository,
    request: Request,
    found: Snapshot,
    result: Result,
    progress: Progress,
    read: set[tuple[bytes, int]],
) -> None:
    kind, place = found.header.kind, config.verify.scratch
    if request.level in {"restore", "sample"}:
        if request.sample is not None:
            looked = kinds.sampling_of(kind, place).sample_check(
                config, repository, found, progress, request.sample
            )
        else:
            looked = kinds.proof_of(kind, place).restore_check(config, repository, found, progress)
        result.checks, result.failures, result.notes = looked
        # There the Job has stored its own evidence, which is where this comes from.
        result.signed = kinds.in_namespace(kind, place)
        return
    if kind == "bucket-replica":
        result.notes = [
            "the record of the replica was looked at, not the replica itself: drctl verify --restore reads it"
        ]
    if request.level == "quick":
        findings = check.quick(repository, found)
    else:
        progress.start(None, f"{found.header.component}: reading")
        findings = check.data(
            repository, found, request.percent, read, advance=lambda count: progress.advance(count, 1)
        )
    result.checks = {
        "packs": findings.packs,
        "catalog_objects": findings.catalog_objects,
        "frames": findings.frames,
        "bytes_read": findings.bytes_read,
    }
    if request.level == "data":
        result.checks["percent"] = request.percent
    result.failures = [
        sentence if name in sentence else f'{sentence} ("{name}")' for name, sentence in findings.failures
    ]


def sign(repository: Repository, results: list[Result]) -> None:
    """Store signed evidence of one run, where the signing key is at hand."""
    unsigned = [result for result in results if result.snapshot and not result.signed]
    rows = [result.row() for result in unsigned]
    if not rows:
        return
    try:
        repository.add_evidence(rows, clock.rfc3339(opening.moment(repository)), f"drctl {__version__}")
    except errors.DrctlError as error:
        # What was found counts, stored or not, whatever keeps it from being stored: a read-only copy, a key file that is away, a Vault
        # that does not answer. An error here would take the place of damage that was found.
        _log.warning("evidence not stored", reason=error.message)
        return
    for result in unsigned:
        result.signed = True
