"""Bring all versions of a bucket's objects back, oldest first, into a bucket with versioning."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from dr_toolkit import errors
from dr_toolkit.buckets import history_restore, moment
from dr_toolkit.buckets.client import Bucket
from dr_toolkit.buckets.history_restore import Plan, Step
from dr_toolkit.buckets.restore import Names
from dr_toolkit.buckets.versions import Versions
from dr_toolkit.log import Progress
from dr_toolkit.repository.entries import EntrySource
from dr_toolkit.repository.snapshot import Snapshot


def plan(source: EntrySource, bucket: Bucket, prefix: str, names: Names, report: Path) -> Plan:
    """What would be written. Changes nothing.

    Raises:
        TargetError: the target cannot keep versions, or the report's file is there.
    """
    if os.path.lexists(report):
        raise errors.TargetError(
            f'"{report}" exists',
            on=str(report),
            hint="name a new file for the list of ids",
            unaffected="nothing was started",
        )
    if not moment.versioning(bucket).enabled:
        raise errors.TargetError(
            f"{bucket.where} does not keep versions",
            on=bucket.where,
            hint="turn its versioning on, or restore without --versions",
            unaffected="nothing was started",
        )
    found = Plan()
    with _steps(source, bucket, prefix, names) as steps:
        for step in steps:
            found.add(step)
    return found


def run(
    source: EntrySource, bucket: Bucket, prefix: str, names: Names, report: Path, progress: Progress
) -> Plan:
    """Write what the target does not have yet, and the report."""
    with _steps(source, bucket, prefix, names) as steps, _new_file(report) as lines:
        return history_restore.run(source, bucket, steps, lines, progress)


def check(found: Snapshot) -> None:
    """Refuse a snapshot without history.

    Raises:
        UsageError: it was taken without ``versions: all``.
    """
    if "older_versions" not in found.header.source:
        raise errors.UsageError(
            f'snapshot "{found.id}" has the latest versions only',
            on=found.id,
            hint="restore without --versions; for the next snapshots set versions: all",
            unaffected="nothing was started",
        )


@contextmanager
def _steps(source: EntrySource, bucket: Bucket, prefix: str, names: Names) -> Iterator[Iterator[Step]]:
    with Versions(bucket.where) as there:
        there.fill(moment.pages(bucket))
        yield history_restore.steps(source, prefix, there, names)


@contextmanager
def _new_file(path: Path) -> Iterator[IO[str]]:
    try:
        file = path.open("x", encoding="utf-8")
    except OSError as error:
        raise errors.TargetError(
            f'"{path}" cannot be written: {error.strerror}',
            on=str(path),
            hint="name a new file in a directory that is there",
            unaffected="nothing was started",
        ) from error
    with file:
        yield file
