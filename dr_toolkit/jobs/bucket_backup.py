"""Take one snapshot of a bucket."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from urllib.parse import urlsplit

from dr_toolkit import errors, log
from dr_toolkit.buckets import snapshot
from dr_toolkit.buckets.client import Bucket
from dr_toolkit.buckets.listing import Listing
from dr_toolkit.config import BucketConfig, ComponentConfig, Config
from dr_toolkit.jobs import opening
from dr_toolkit.jobs.kinds import Source
from dr_toolkit.log import Progress
from dr_toolkit.repository.repository import Repository
from dr_toolkit.repository.snapshot import Snapshot
from dr_toolkit.repository.writer import SnapshotWriter

ALARM = "mass change: "
"""How a header's warning begins when the bucket changed so much that somebody should look."""

_log = log.get("jobs.backup")


def split(url: str) -> tuple[str, str]:
    """Bucket and prefix of ``s3://bucket/folder``; the prefix ends in a slash, or is empty."""
    parts = urlsplit(url)
    folder = parts.path.strip("/")
    return parts.netloc, f"{folder}/" if folder else ""


@contextmanager
def opened(config: Config, component: BucketConfig, url: str | None = None) -> Iterator[Bucket]:
    """The component's bucket, or another one of the same server."""
    name, prefix = split(url or component.url)
    with closing(Bucket(name, prefix, opening.s3_settings(component.s3, config))) as bucket:
        yield bucket


def look(config: Config, component: ComponentConfig) -> Source:
    """Lists the bucket."""
    with opened(config, opening.expect(component, BucketConfig)) as bucket, Listing(bucket.where) as listing:
        listing.fill(bucket.pages())
        return Source(bucket.where, listing.bytes)


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
    with (
        opened(config, wanted) as bucket,
        Listing(bucket.where) as listing,
        SnapshotWriter(repository, name, wanted.kind, full=full) as writer,
    ):
        _log.info("started", component=name, parent=writer.parent.id if writer.parent else None)
        listing.fill(bucket.pages())
        progress.start(listing.bytes, name)
        done = snapshot.take(bucket, listing, writer, progress.advance)
        alarm = snapshot.mass_change(done.before, done.gone, done.rewritten, wanted.max_change)
        source = {
            "bucket": bucket.name,
            "prefix": bucket.prefix,
            "objects": listing.count - len(done.vanished),
            "kept": done.kept,
            "added": done.added,
            "rewritten": done.rewritten,
            "gone": done.gone,
        }
        _log.info("source read", component=name, bytes=writer.bytes_source)
        taken = writer.commit(source, [*([f"{ALARM}{alarm}"] if alarm else []), *done.warnings()])
    if alarm:
        raise errors.GuardTripped(
            f'snapshot "{taken.id}" was taken, but {alarm}',
            on=taken.id,
            hint="an endpoint or prefix that is wrong, a clean-up, or an attack look like this: compare with the snapshot before it (drctl show)",
            unaffected="earlier snapshots are as they were",
        )
    return taken
