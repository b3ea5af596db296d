"""Verification of a replica: every recorded object is read where an application would read it, and compared with what was copied."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from dr_toolkit import clock
from dr_toolkit.buckets import replica, replica_quick
from dr_toolkit.buckets.client import Bucket
from dr_toolkit.buckets.failures import Changed
from dr_toolkit.buckets.listing import Listed
from dr_toolkit.buckets.replica_plan import SIZE, TARGET
from dr_toolkit.buckets.restore import Names
from dr_toolkit.config import BucketConfig, Config
from dr_toolkit.jobs import opening
from dr_toolkit.jobs.bucket_replica import opened_target
from dr_toolkit.log import Progress
from dr_toolkit.repository.entries import EntryInfo
from dr_toolkit.repository.reader import SnapshotReader
from dr_toolkit.repository.repository import Repository
from dr_toolkit.repository.snapshot import Snapshot
from dr_toolkit.words import counted

_WAITING = 8 * replica_quick.THREADS


def restore_check(
    config: Config, repository: Repository, found: Snapshot, progress: Progress
) -> tuple[dict[str, Any], list[str], list[str]]:
    """Read the whole replica. Nothing is written anywhere.

    Returns:
        What was checked (counts and seconds), failures, and notes.

    Raises:
        DataError: the record itself is damaged.
        SourceUnreachable: the replica's server is away.
    """
    name = found.header.component
    component = opening.expect(opening.known_component(config, name), BucketConfig)
    began = clock.monotonic()
    progress.start(int(found.header.source.get("bytes", 0)), f"{name}: reading the replica")
    waiting: deque[Future[tuple[str | None, bool]]] = deque()
    checks = {"objects": 0, "bytes": 0, "digests": 0}
    failures: list[str] = []

    def take(future: Future[tuple[str | None, bool]]) -> None:
        problem, digest = future.result()
        checks["digests"] += digest
        if problem is not None:
            failures.append(problem)

    with (
        SnapshotReader(repository, found) as record,
        opened_target(config, component) as bucket,
        ThreadPoolExecutor(replica_quick.THREADS, thread_name_prefix="drctl-replica") as pool,
    ):
        names = Names(str(found.header.source.get("prefix", "")), bucket.prefix)
        for info in record.entries():
            checks["objects"] += 1
            checks["bytes"] += int(info.meta[SIZE])
            waiting.append(pool.submit(_one, bucket, names.at_target(info.path), info, progress))
            while len(waiting) > _WAITING:
                take(waiting.popleft())
        while waiting:
            take(waiting.popleft())
    unread = checks["objects"] - checks["digests"]
    notes = [
        f"{counted(unread, 'object was copied by the server itself: it was', 'objects were copied by the server itself: they were')} read whole, and compared by size and ETag, not by a digest of the source (drctl backup {name} --checksum makes one)"
    ]
    seconds = {"read": round(clock.monotonic() - began, 3)}
    return {**checks, "seconds": seconds}, failures, notes if unread else []


def _one(bucket: Bucket, key: str, info: EntryInfo, progress: Progress) -> tuple[str | None, bool]:
    """What is wrong with one object, and whether a digest could tell."""
    size, etag, modified = info.meta[TARGET]
    expected = info.meta.get("digest")
    try:
        digest = replica.digest_of(bucket, Listed(key, size, etag, modified), progress)
    except Changed:
        return f'the replica\'s object "{key}" is gone, or is not the one that was recorded', False
    if not size and bucket.head(key) is None:
        return f'the replica\'s object "{key}" is gone', False
    progress.advance(0, 1)
    if expected is None:
        return None, False
    return (
        None if digest == expected else f'the replica\'s object "{key}" has other content than was copied'
    ), True
