"""Take one snapshot of a bucket, or bring its replica up to date."""

from __future__ import annotations

from dr_toolkit import clock, errors, log
from dr_toolkit.buckets import history, merging, moment, snapshot
from dr_toolkit.buckets.history import Kept
from dr_toolkit.buckets.listing import Listing
from dr_toolkit.buckets.versions import Versions
from dr_toolkit.config import BucketConfig, ComponentConfig, Config
from dr_toolkit.jobs import bucket_replica, opening
from dr_toolkit.jobs.bucket_places import opened
from dr_toolkit.jobs.kinds import Source
from dr_toolkit.log import Progress
from dr_toolkit.repository.repository import Repository
from dr_toolkit.repository.snapshot import Snapshot
from dr_toolkit.repository.writer import SnapshotWriter
from dr_toolkit.words import counted

ALARM = "mass change: "
"""How a header's warning begins when the bucket changed so much that somebody should look."""

_NAMED = 5

_log = log.get("jobs.backup")


def look(config: Config, component: ComponentConfig) -> Source:
    """Lists the bucket."""
    wanted = opening.expect(component, BucketConfig)
    with opened(config, wanted) as bucket, Listing(bucket.where) as listing:
        listing.fill(bucket.pages())
        return Source(bucket.where, listing.bytes)


def foresee(config: Config, repository: Repository, name: str, component: ComponentConfig) -> list[str]:
    """What a replica's run would do, in sentences; a snapshot has nothing to add to its size."""
    wanted = opening.expect(component, BucketConfig)
    if wanted.mode != "replica":
        return []
    found = bucket_replica.foresee(config, repository, name, wanted)
    plan = found.plan
    counts = (
        f"to {found.place}: {plan.new} new, {plan.replace} changed, {plan.repair} to mend, {plan.same + plan.adopt} the same, "
        f"{plan.delete} to delete, {plan.foreign} not from the source"
    )
    return [
        counts,
        *(f"WARNING: {reason}; code 3" for reason in found.held.reasons),
    ]


def take(
    config: Config,
    repository: Repository,
    name: str,
    component: ComponentConfig,
    *,
    full: bool,
    progress: Progress,
) -> Snapshot:
    """List the bucket, read what changed, and commit.

    Raises:
        SourceError: the listing cannot be believed, or the server refused; no snapshot was made.
        GuardTripped: the snapshot was made, and the bucket changed so much that somebody should look.
    """
    wanted = opening.expect(component, BucketConfig)
    if wanted.mode == "replica":
        return bucket_replica.take(config, repository, name, wanted, full=full, progress=progress)
    with (
        opened(config, wanted) as bucket,
        SnapshotWriter(repository, name, wanted.kind, full=full) as writer,
        moment.listed(bucket, history=wanted.versions == "all", expected=_expected(writer)) as found,
    ):
        if writer.parent is not None and writer.parent.header.kind != wanted.kind:
            writer.parent = None  # it was a replica until now: its record has no content
        _log.info("started", component=name, parent=writer.parent.id if writer.parent else None)
        older = found.versions if wanted.versions == "all" else None
        progress.start(found.listing.bytes + (older.older_bytes if older else 0), name)
        done = snapshot.take(bucket, found.listing, writer, progress.advance, tags=wanted.tags)
        snapshot.check_missed(bucket, done)
        kept = history.take(bucket, older, writer, progress.advance, tags=wanted.tags) if older else None
        alarm = merging.mass_change(done.before, done.gone, done.rewritten, wanted.max_change)
        source = {
            "bucket": bucket.name,
            "prefix": bucket.prefix,
            **({"moment": clock.rfc3339(found.moment)} if found.moment else {}),
            "objects": found.listing.count - len(done.vanished),
            "kept": done.kept,
            "added": done.added,
            "rewritten": done.rewritten,
            "gone": done.gone,
            **({"mass_change": alarm} if alarm else {}),
            **(_history(older, kept) if older and kept else {}),
        }
        _log.info("source read", component=name, bytes=writer.bytes_source)
        warnings = [*([f"{ALARM}{alarm}"] if alarm else []), *found.warnings, *done.warnings()]
        taken = writer.commit(source, [*warnings, *(_vanished(kept) if kept else [])])
    if alarm:
        raise errors.GuardTripped(
            f'snapshot "{taken.id}" was taken, but {alarm}',
            on=taken.id,
            hint="an endpoint or prefix that is wrong, a clean-up, or an attack look like this: compare with the snapshot before it (drctl show)",
            unaffected="earlier snapshots are as they were",
        )
    return taken


def _expected(writer: SnapshotWriter) -> int:
    """About how many objects the bucket has."""
    return writer.parent.header.entry_count if writer.parent is not None else 0


def _history(older: Versions, kept: Kept) -> dict[str, int]:
    """What the header says of older versions."""
    return {
        "older_versions": older.older_count - len(kept.vanished),
        "older_versions_kept": kept.carried,
        "delete_markers": older.markers,
    }


def _vanished(kept: Kept) -> list[str]:
    if not kept.vanished:
        return []
    named = ", ".join(f'"{key}"' for key in kept.vanished[:_NAMED])
    return [
        f"{counted(len(kept.vanished), 'older version was deleted for good while the backup ran, and is', 'older versions were deleted for good while the backup ran, and are')} not in it: {named}"
    ]
