"""Verification by restore of a bucket: every object into a scratch directory, read back and compared, then removed whatever happens."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from dr_toolkit import clock, errors
from dr_toolkit.buckets import directory
from dr_toolkit.config import Config
from dr_toolkit.log import Progress
from dr_toolkit.repository.reader import SnapshotReader
from dr_toolkit.repository.repository import Repository
from dr_toolkit.repository.snapshot import Snapshot


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
    del config
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
        tempfile.TemporaryDirectory(prefix="drctl-scratch-") as scratch,
        SnapshotReader(repository, found) as source,
    ):
        written = directory.write(source, Path(scratch), "", progress)
        wrote = clock.monotonic()
        compared, failures = directory.compare(source, Path(scratch))
    checks = {
        "objects": compared,
        "bytes": size,
        "seconds": {"write": round(wrote - began, 3), "compare": round(clock.monotonic() - wrote, 3)},
    }
    if compared != written:
        failures.append(f"{written} objects were written and {compared} compared")
    torn = found.header.entry_count - compared - int(found.header.source.get("delete_markers", 0))
    notes = [f"{torn} objects changed while they were read, and are not restorable"] if torn else []
    return checks, failures, notes
