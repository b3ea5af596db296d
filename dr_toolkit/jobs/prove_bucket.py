"""Verification by restore of a bucket: every object into a scratch directory or bucket, read back and compared, then removed whatever happens."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from blake3 import blake3

from dr_toolkit import clock, errors
from dr_toolkit.buckets import directory, facts, restore, scratch
from dr_toolkit.buckets.history import KEY
from dr_toolkit.buckets.listing import Listing
from dr_toolkit.buckets.restore import Names, Objects
from dr_toolkit.buckets.versions import HISTORY
from dr_toolkit.config import BucketConfig, Config
from dr_toolkit.config.bucket import ScratchBuckets
from dr_toolkit.jobs import opening
from dr_toolkit.jobs.bucket_places import split
from dr_toolkit.log import Progress
from dr_toolkit.repository.reader import SnapshotReader
from dr_toolkit.repository.repository import Repository
from dr_toolkit.repository.snapshot import Snapshot
from dr_toolkit.words import counted


def restore_check(
    config: Config, repository: Repository, found: Snapshot, progress: Progress
) -> tuple[dict[str, Any], list[str], list[str]]:
    """Restore all objects into scratch, and compare sizes and digests with what was read from the bucket.

    Returns:
        What was checked (counts and seconds), failures, and notes.

    Raises:
        DataError: the snapshot's own objects are damaged.
        TargetError: there is no room for scratch.
    """
    component = config.components.get(found.header.component)
    if isinstance(component, BucketConfig) and component.scratch is not None:
        return _in_bucket(config, component, component.scratch, repository, found, progress)
    size, free = found.header.bytes_source, shutil.disk_usage(tempfile.gettempdir()).free
    if free < size:
        raise errors.TargetError(
            f"scratch needs {size} bytes in {tempfile.gettempdir()} and {free} are free",
            on=found.id,
            hint="set TMPDIR to a directory on a larger disk",
        )
    began = clock.monotonic()
    progress.start(size, f"{found.header.component}: writing")
    with (
        tempfile.TemporaryDirectory(prefix="drctl-scratch-") as place,
        SnapshotReader(repository, found) as source,
    ):
        written = directory.write(source, Path(place), "", progress)
        wrote = clock.monotonic()
        compared, failures = directory.compare(source, Path(place))
    checks = {
        "objects": compared,
        "bytes": size,
        "seconds": {"write": round(wrote - began, 3), "compare": round(clock.monotonic() - wrote, 3)},
    }
    if compared != written:
        failures.append(f"{counted(written, 'object was', 'objects were')} written and {compared} compared")
    torn = found.header.entry_count - compared - int(found.header.source.get("delete_markers", 0))
    notes = (
        [
            f"{counted(torn, 'object changed while it was read, and is', 'objects changed while they were read, and are')} not restorable"
        ]
        if torn
        else []
    )
    return checks, failures, notes


def _in_bucket(
    config: Config,
    component: BucketConfig,
    place: ScratchBuckets,
    repository: Repository,
    found: Snapshot,
    progress: Progress,
) -> tuple[dict[str, Any], list[str], list[str]]:
    """Restore all objects into a bucket that is made for it; older versions are read."""
    began, size = clock.monotonic(), found.header.bytes_source
    settings = opening.s3_settings(place.s3 or component.s3, config)
    progress.start(size, f"{found.header.component}: writing")
    with (
        SnapshotReader(repository, found) as source,
        scratch.made(split(place.url)[0], settings) as bucket,
        Listing(bucket.where) as nothing,
    ):
        objects = Objects(source)
        steps = restore.steps(objects, "", nothing.fill(bucket.pages()), Names("", ""))
        written = restore.run(objects, bucket, steps, exact=False, progress=progress)
        wrote = clock.monotonic()
        compared = scratch.compare(objects, bucket)
        older, failures = _older(source)
    checks = {
        "objects": compared.count,
        "bytes": size,
        "scratch_bucket": bucket.name,
        **({"older_versions_read": older} if older else {}),
        "seconds": {"write": round(wrote - began, 3), "compare": round(clock.monotonic() - wrote, 3)},
    }
    failures = [*compared.failures, *failures]
    if compared.count != written.new:
        failures.append(
            f"{counted(written.new, 'object was', 'objects were')} written and {compared.count} compared"
        )
    notes = (
        [
            f"{counted(len(written.torn), 'object changed while it was read, and is', 'objects changed while they were read, and are')} not restorable"
        ]
        if written.torn
        else []
    )
    return checks, failures, notes


def _older(source: SnapshotReader) -> tuple[int, list[str]]:
    """Read the older versions, and compare their digests."""
    count, failures = 0, []
    for info in source.entries(HISTORY):
        if info.kind != facts.VERSION or facts.CHANGED in info.meta:
            continue
        count += 1
        hasher = blake3()
        for piece in source.read(info.path):
            hasher.update(piece)
        if hasher.hexdigest() != info.meta.get("digest"):
            failures.append(
                f'an older version of "{info.meta.get(KEY)}" is not what was read from the bucket'
            )
    return count, failures
