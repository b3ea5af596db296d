"""Older versions and delete markers into a snapshot: what an earlier snapshot knows by its id is carried forward, the rest is fetched ahead."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

from blake3 import blake3

from dr_toolkit.buckets import facts
from dr_toolkit.buckets.client import THREADS, Bucket, Got
from dr_toolkit.buckets.failures import Changed
from dr_toolkit.buckets.listing import Listed
from dr_toolkit.buckets.reading import RANGE
from dr_toolkit.buckets.snapshot import AHEAD, AHEAD_BYTES
from dr_toolkit.buckets.versions import HISTORY, Older, Versions
from dr_toolkit.repository.writer import Carried, SnapshotWriter

KEY, ORDER = "key", "order"
"""In ``meta`` of an older version: the object's key, and its place among those of the same key and time."""


@dataclass(slots=True)
class Kept:
    """What became of the older versions and delete markers.

    Attributes:
        carried: known by their ids, and not read again.
        read: fetched.
        markers: delete markers.
        vanished: deleted for good between listing and reading.
    """

    carried: int = 0
    read: int = 0
    markers: int = 0
    vanished: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Step:
    older: Older
    carried: Carried | None
    first: Future[Got] | None
    tags: Future[dict[str, str] | None] | None


def take(
    bucket: Bucket,
    versions: Versions,
    writer: SnapshotWriter,
    on_bytes: Callable[[int, int], None],
    *,
    tags: bool = False,
) -> Kept:
    """Write all older versions and delete markers as entries, after the objects.

    Args:
        bucket: the source.
        versions: complete.
        writer: a snapshot in the making, which has the objects already.
        on_bytes: told bytes and objects as they are done.
        tags: ask for the tags of what is read.

    Raises:
        SourceUnreachable: the server went away.
        SourceError: it refused.
    """
    kept = Kept()
    waiting: deque[_Step] = deque()
    load = 0
    with ThreadPoolExecutor(THREADS, thread_name_prefix="drctl-version") as pool:
        try:
            for older, carried in _merged(versions, writer):
                first = found = None
                if carried is None and not older.version.marker:
                    first = pool.submit(bucket.read, _listed(older), 0, min(RANGE, older.version.size))
                    found = (
                        pool.submit(bucket.tags_of, older.version.key, older.version.version)
                        if tags
                        else None
                    )
                waiting.append(_Step(older, carried, first, found))
                load += _weight(waiting[-1])
                while len(waiting) > AHEAD or load > AHEAD_BYTES:
                    step = waiting.popleft()
                    load -= _weight(step)
                    _write(bucket, step, writer, kept, on_bytes)
            while waiting:
                _write(bucket, waiting.popleft(), writer, kept, on_bytes)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    return kept


def _merged(versions: Versions, writer: SnapshotWriter) -> Iterator[tuple[Older, Carried | None]]:
    """Each with what the parent has of the same version: as an older one too, or as the object of then."""
    parents = writer.parent_entries(HISTORY)
    parent = next(parents, None)
    for older in versions.older():
        path = older.path.encode()
        while parent is not None and parent.info.path.encode() < path:
            parent = next(parents, None)
        found = parent if parent is not None and parent.info.path == older.path else None
        if found is None and not older.version.marker:
            found = next(writer.parent_entries(older.version.key), None)
            found = found if found is not None and found.info.path == older.version.key else None
        yield older, found if found is not None and found.present and _is_same(older, found) else None


def _is_same(older: Older, carried: Carried) -> bool:
    version, meta = older.version, carried.info.meta
    if version.marker:
        return carried.info.kind == facts.MARKER and meta.get("version") == version.version
    return carried.info.kind in {facts.KIND, facts.VERSION} and facts.is_same(
        _listed(older), carried.info.size, meta
    )


def _listed(older: Older) -> Listed:
    version = older.version
    return Listed(version.key, version.size, version.etag, version.modified, version.version)


def _weight(step: _Step) -> int:
    return min(step.older.version.size, RANGE) if step.first else 0


def _meta(older: Older) -> dict[str, Any]:
    return {KEY: older.version.key, ORDER: older.order}


def _write(
    bucket: Bucket, step: _Step, writer: SnapshotWriter, kept: Kept, on_bytes: Callable[[int, int], None]
) -> None:
    older = step.older
    kept.markers += older.version.marker
    if step.carried is not None:
        info = step.carried.info
        kind = facts.MARKER if older.version.marker else facts.VERSION
        meta = {**info.meta, **_meta(older)}
        writer.carry(replace(step.carried, info=replace(info, path=older.path, kind=kind, meta=meta)))
        kept.carried += not older.version.marker
        on_bytes(info.size, 1)
    elif step.first is None:
        writer.begin(older.path, facts.MARKER)
        writer.end({"modified": older.version.modified, "version": older.version.version, **_meta(older)})
        on_bytes(0, 1)
    else:
        _read(bucket, step, step.first, writer, kept, on_bytes)


def _read(
    bucket: Bucket,
    step: _Step,
    first: Future[Got],
    writer: SnapshotWriter,
    kept: Kept,
    on_bytes: Callable[[int, int], None],
) -> None:
    """A version never changes; it may be deleted for good, by a rule of the bucket for one."""
    older, listed = step.older, _listed(step.older)
    try:
        got = first.result()
    except Changed:
        kept.vanished.append(listed.key)
        return
    meta = {**facts.identity(listed), **got.meta, **_meta(older)}
    found = step.tags.result() if step.tags else None
    if found:
        meta[facts.TAGS] = found
    hasher, position = blake3(), 0
    writer.begin(older.path, facts.VERSION)
    while True:
        hasher.update(got.content)
        writer.write(got.content)
        on_bytes(len(got.content), 0)
        position += len(got.content)
        if position >= listed.size:
            break
        try:
            got = bucket.read(listed, position, min(RANGE, listed.size - position))
        except Changed:
            kept.vanished.append(listed.key)
            writer.end({facts.CHANGED: True, **_meta(older)})
            return
    kept.read += 1
    on_bytes(0, 1)
    writer.end({**meta, "digest": hasher.hexdigest()})
