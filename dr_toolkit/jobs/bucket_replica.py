"""Bring a bucket's replica up to date, and record what it has as a snapshot without content."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass

from dr_toolkit import errors, log
from dr_toolkit.buckets import replica, replica_plan, sharding
from dr_toolkit.buckets.client import Bucket
from dr_toolkit.buckets.listing import Listing
from dr_toolkit.buckets.replica import Route
from dr_toolkit.buckets.replica_plan import Held, Plan
from dr_toolkit.buckets.restore import Names
from dr_toolkit.config import BucketConfig, Config
from dr_toolkit.jobs import opening
from dr_toolkit.jobs.bucket_places import opened, split
from dr_toolkit.log import Progress
from dr_toolkit.repository import snapshot as snapshots
from dr_toolkit.repository.repository import Repository
from dr_toolkit.repository.snapshot import Snapshot
from dr_toolkit.repository.writer import Carried, SnapshotWriter
from dr_toolkit.words import counted

KIND = "bucket-replica"
"""The kind of a record's header: its entries have no content of their own."""

_log = log.get("jobs.backup")


@dataclass(frozen=True, slots=True)
class Foreseen:
    """What a run would do.

    Attributes:
        plan: counts of actions.
        held: what the guards would forbid.
        place: where the replica is.
    """

    plan: Plan
    held: Held
    place: str


@contextmanager
def opened_target(config: Config, component: BucketConfig) -> Iterator[Bucket]:
    """The bucket of the replica.

    Raises:
        ConfigError: it is the source itself, or one lies within the other.
    """
    if component.to is None:
        raise errors.ConfigError("a replica needs `to`", on=component.url)
    (name, prefix), (source, source_prefix) = split(component.to.url), split(component.url)
    settings = opening.s3_settings(component.to.s3 or component.s3, config)
    inside = prefix.startswith(source_prefix) or source_prefix.startswith(prefix)
    if name == source and inside and settings.endpoint == component.s3.endpoint:
        raise errors.ConfigError(
            f'the replica "{component.to.url}" and its source "{component.url}" lie within each other',
            on=component.to.url,
            hint="name another bucket or folder",
        )
    with closing(Bucket(name, prefix, settings)) as bucket:
        yield bucket


@contextmanager
def _opened(
    config: Config, component: BucketConfig, expected: Snapshot | None, *, checksum: bool
) -> Iterator[tuple[Route, Listing, Listing]]:
    """Both buckets, listed completely; about as many objects are expected as the last record has."""
    count = expected.header.entry_count if expected is not None else 0
    with (
        opened(config, component) as source,
        opened_target(config, component) as target,
        Listing(source.where) as listed,
        Listing(target.where) as there,
    ):
        sharding.fill(source, listed, count)
        sharding.fill(target, there, count)
        own = opening.s3_settings(component.s3, config)
        other = component.to.s3 if component.to else None
        same = other is None or opening.s3_settings(other, config) == own
        yield Route(source, target, same, checksum, component.tags), listed, there


def foresee(config: Config, repository: Repository, name: str, component: BucketConfig) -> Foreseen:
    """What a run would do; changes nothing."""
    known, _damaged = repository.snapshots(name)
    parent, _warnings = snapshots.choose_parent(known, opening.moment(repository))
    records: Iterator[Carried] = iter(())
    if parent is not None and parent.header.kind == KIND:
        tree, _packs = repository.trees(parent)
        records = (Carried(info, extents, present=True) for info, extents in tree.whole_entries())
    with _opened(config, component, parent, checksum=False) as (route, listed, there):
        names = Names(route.source.prefix, route.target.prefix)
        walk = replica_plan.steps(iter(listed), records, iter(there), names)
        plan = replica_plan.count(walk, there.count)
        held = replica_plan.held(plan, component.max_delete, component.max_change)
        return Foreseen(plan, held, route.target.where)


def take(
    config: Config,
    repository: Repository,
    name: str,
    component: BucketConfig,
    *,
    full: bool,
    progress: Progress,
) -> Snapshot:
    """List both sides, plan, copy, record, delete, and commit the record.

    Args:
        config: the configuration.
        repository: takes the record.
        name: the component's.
        component: with ``mode: replica``.
        full: believe no ETag: read both sides of what seems to be the same.
        progress: told of bytes and objects.

    Raises:
        SourceError: a listing cannot be believed, or a server refused; nothing was deleted.
        GuardTripped: everything was done but what a limit forbids.
    """
    with (
        SnapshotWriter(repository, name, KIND) as writer,
        _opened(config, component, writer.parent, checksum=full) as (route, listed, there),
    ):
        _log.info("started", component=name, parent=writer.parent.id if writer.parent else None)
        names = Names(route.source.prefix, route.target.prefix)

        def walk() -> Iterator[replica_plan.Step]:
            return replica_plan.steps(iter(listed), _records(writer), iter(there), names)

        plan = replica_plan.count(walk(), there.count)
        held = replica_plan.held(plan, component.max_delete, component.max_change)
        progress.start(listed.bytes if full else plan.bytes, name)
        done = replica.run(route, walk, held, writer, progress)
        source = {
            "bucket": route.source.name,
            "prefix": route.source.prefix,
            "replica": route.target.where,
            "replica_prefix": route.target.prefix,
            "objects": done.objects,
            "bytes": done.bytes,
            "copied": done.copied,
            "mended": done.mended,
            "deleted": done.deleted,
            "withheld": [*held.reasons],
            "foreign": plan.foreign,
        }
        taken = writer.commit(source, [*held.reasons, *_foreign(plan), *done.warnings()])
    _log.info("replica written", component=name, **asdict(plan))
    if held.reasons:
        raise errors.GuardTripped(
            "; ".join(held.reasons),
            on=route.target.where,
            hint="an endpoint or prefix that is wrong, a clean-up, or an attack look like this: look at the source; if it is meant, raise max_delete or max_change for one run",
            unaffected=f'what is new was copied; record "{taken.id}"',
        )
    return taken


def _records(writer: SnapshotWriter) -> Iterator[Carried]:
    """The last run's record; a component that was a snapshot until now has none."""
    if writer.parent is None or writer.parent.header.kind != KIND:
        return iter(())
    return writer.parent_entries()


def _foreign(plan: Plan) -> list[str]:
    if not plan.foreign:
        return []
    return [
        f"{counted(plan.foreign, 'object of the replica is not from the source, or was changed there since; it is left as it is', 'objects of the replica are not from the source, or were changed there since; they are left as they are')}"
    ]
