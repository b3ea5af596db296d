"""Bring a bucket's objects back: into the same or another bucket, or into a directory."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from dr_toolkit import clock, errors, log
from dr_toolkit.buckets import directory, history_restore, restore
from dr_toolkit.buckets.listing import Listing
from dr_toolkit.buckets.replica_source import ReplicaSource
from dr_toolkit.buckets.restore import Names, Objects, Plan
from dr_toolkit.config import BucketConfig, Config
from dr_toolkit.jobs import bucket_backup, bucket_history, bucket_replica, opening
from dr_toolkit.jobs.bucket_places import opened
from dr_toolkit.jobs.request import Request, choose
from dr_toolkit.log import Progress
from dr_toolkit.repository.entries import BulkSource
from dr_toolkit.repository.reader import SnapshotReader
from dr_toolkit.repository.repository import Repository
from dr_toolkit.repository.snapshot import Snapshot
from dr_toolkit.words import counted

KINDS = ("bucket", bucket_replica.KIND)
_FILE = "file:"

_log = log.get("jobs.restore")


@dataclass(frozen=True, slots=True)
class Prepared:
    """A restore that is planned and not yet begun.

    Attributes:
        request: what was asked.
        snapshot: which one.
        place: where it goes, without secrets.
        plan: what would be done; None for a directory.
        seconds_lost: time between the snapshot and now.
        bytes: of the snapshot; of what is written, where that is a directory.
        doubts: what speaks against this snapshot.
        history: what would be done, where all versions are wanted.
        torn: keys that changed while they were read and are not written, where the target is a directory.
    """

    request: Request
    snapshot: Snapshot
    place: str
    plan: Plan | None
    seconds_lost: float
    bytes: int
    doubts: tuple[str, ...] = ()
    history: history_restore.Plan | None = None
    torn: tuple[str, ...] = ()


@dataclass(slots=True)
class Done:
    """What a restore did.

    Attributes:
        prepared: the plan.
        result: counts; None for a directory.
        files: written into a directory.
        history: counts, where all versions were wanted.
        seconds: it took.
    """

    prepared: Prepared
    result: Plan | None = None
    files: int = 0
    history: history_restore.Plan | None = None
    seconds: dict[str, float] = field(default_factory=dict)


def prepare(config: Config, repository: Repository, request: Request) -> Prepared:
    """Compare with the target. Changes nothing.

    Raises:
        UsageError: the target is none for a bucket.
        TargetError: the directory is somebody's.
        NothingToDo: nothing has the prefix.
        GuardTripped: ``exact`` with nothing to restore would only delete.
    """
    component = opening.expect(opening.known_component(config, request.component), BucketConfig)
    elsewhere = request.to is not None and request.to not in component.places
    if request.tables or (elsewhere and not str(request.to).startswith(("s3://", _FILE))):
        raise errors.UsageError(
            "a bucket is restored into a bucket or a directory",
            on=request.component,
            hint=f"drctl restore {request.component} --to s3://other-bucket, --to file:/var/tmp/objects, or --to a name of the component's `places`",
            unaffected="nothing was started",
        )
    found, doubted = choose(repository, request)
    doubted = (*doubted, *_alarms(found))
    if found.header.kind not in KINDS:
        raise errors.UsageError(f'snapshot "{found.id}" is of kind "{found.header.kind}"', on=found.id)
    lost = (opening.moment(repository) - found.header.moment).total_seconds()
    size = int(found.header.source.get("bytes", 0)) or found.header.bytes_source
    if request.to is not None and request.to.startswith(_FILE):
        place = request.to.removeprefix(_FILE)
        directory.check_empty(Path(place))
        with _source(config, component, repository, found) as source:
            there = directory.survey(Objects(source), request.prefix)
        _check_any(found, request, bool(there.objects or there.torn))
        _check_space(Path(place), there.bytes)
        return Prepared(request, found, place, None, lost, there.bytes, doubted, torn=tuple(there.torn))
    with (
        _source(config, component, repository, found) as source,
        opened(config, component, request.to) as bucket,
        Listing(bucket.where) as listing,
    ):
        names = _names(found, bucket.prefix)
        bucket.prefix = names.at_target(_wanted(request, names))
        place = bucket.where
        if request.history is not None:
            bucket_history.check(found)
            older = bucket_history.plan(source, bucket, _wanted(request, names), names, Path(request.history))
            return Prepared(request, found, place, None, lost, size, doubted, older)
        listing.fill(bucket.pages())
        plan = restore.count(restore.steps(Objects(source), _wanted(request, names), listing, names))
    if request.exact and plan.extra and not plan.new + plan.replace + plan.same:
        raise errors.GuardTripped(
            f'snapshot "{found.id}" has nothing below "{request.prefix}": --exact would delete {counted(plan.extra, "object")} and restore none',
            on=found.id,
            unaffected="nothing was deleted",
        )
    _check_any(found, request, bool(plan.new + plan.replace + plan.same or plan.torn))
    return Prepared(request, found, place, plan, lost, size, doubted)


def run(
    config: Config, repository: Repository, prepared: Prepared, progress: Progress, *, end_sessions: bool
) -> Done:
    """Carry a plan out. The target is listed again: it may have changed since the plan."""
    del end_sessions
    request, began = prepared.request, clock.monotonic()
    done = Done(prepared)
    component = opening.expect(opening.known_component(config, request.component), BucketConfig)
    planned = prepared.history or prepared.plan
    progress.start(planned.bytes if planned else prepared.bytes, f"{request.component}: writing")
    with _source(config, component, repository, prepared.snapshot) as source:
        if request.history is not None:
            with opened(config, component, request.to) as bucket:
                names = _names(prepared.snapshot, bucket.prefix)
                wanted = _wanted(request, names)
                bucket.prefix = names.at_target(wanted)
                done.history = bucket_history.run(
                    source, bucket, wanted, names, Path(request.history), progress
                )
        elif prepared.plan is None:
            done.files = directory.write(Objects(source), Path(prepared.place), request.prefix, progress)
        else:
            with (
                opened(config, component, request.to) as bucket,
                Listing(bucket.where) as listing,
            ):
                names = _names(prepared.snapshot, bucket.prefix)
                bucket.prefix = names.at_target(_wanted(request, names))
                listing.fill(bucket.pages())
                steps = restore.steps(Objects(source), _wanted(request, names), listing, names)
                done.result = restore.run(source, bucket, steps, exact=request.exact, progress=progress)
    done.seconds["write"] = clock.monotonic() - began
    _log.info("restored", to=prepared.place, snapshot=prepared.snapshot.id)
    return done


@contextmanager
def _source(
    config: Config, component: BucketConfig, repository: Repository, found: Snapshot
) -> Iterator[BulkSource]:
    """What to restore from: the snapshot, or the replica that it is the record of."""
    with SnapshotReader(repository, found) as reader:
        if found.header.kind != bucket_replica.KIND:
            yield reader
            return
        with bucket_replica.opened_target(config, component) as bucket:
            yield ReplicaSource(reader, bucket, _names(found, bucket.prefix))


def _names(found: Snapshot, target: str) -> Names:
    prefix = found.header.source.get("prefix")
    return Names(prefix if isinstance(prefix, str) else "", target)


def _wanted(request: Request, names: Names) -> str:
    """The prefix that was asked for, at least the one under which the snapshot was taken."""
    return request.prefix if request.prefix.startswith(names.source) else names.source + request.prefix


def _alarms(found: Snapshot) -> list[str]:
    """A snapshot that saw a mass change may hold the damage that is to be undone."""
    return [
        f"it was taken after a {warning}: if that was the damage, choose one from before it with --snapshot"
        for warning in found.header.warnings
        if warning.startswith(bucket_backup.ALARM)
    ]


def _check_any(found: Snapshot, request: Request, there: bool) -> None:
    """A prefix that names nothing is a slip of the hand: a restore of nothing must not look like one of something."""
    if request.prefix and not there:
        raise errors.NothingToDo(
            f'snapshot "{found.id}" has nothing below "{request.prefix}"',
            on=found.id,
            hint=f"see what it has: drctl show {found.id}",
            unaffected="nothing was started",
        )


def _check_space(place: Path, size: int) -> None:
    there = next(path for path in (place.absolute(), *place.absolute().parents) if path.is_dir())
    free = shutil.disk_usage(there).free
    if free < size:
        raise errors.TargetError(
            f'"{place}" needs {size} bytes and {free} are free',
            on=str(place),
            hint="name a directory on a larger disk",
            unaffected="nothing was started",
        )
