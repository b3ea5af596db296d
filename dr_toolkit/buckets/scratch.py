"""A bucket that lives as long as one verification: made, filled, compared object for object with the snapshot, and removed whatever happens."""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from blake3 import blake3

from dr_toolkit import clock
from dr_toolkit.buckets import facts
from dr_toolkit.buckets.client import Bucket
from dr_toolkit.buckets.failures import Changed
from dr_toolkit.buckets.listing import Listed, Listing
from dr_toolkit.buckets.reading import RANGE, Part, Reader
from dr_toolkit.errors import DrctlError, SourceError, TargetError
from dr_toolkit.repository.entries import EntryInfo, EntrySource

if TYPE_CHECKING:
    from dr_toolkit.repository.s3_settings import S3Settings

LEFT = timedelta(days=1)
"""A scratch bucket that is older was left by a verification that was killed."""
AHEAD = 64
_AHEAD_BYTES = 32 << 20
_TEXTS = ("type", "encoding", "disposition", "language", "cache", "expires")


@contextmanager
def made(prefix: str, settings: S3Settings) -> Iterator[Bucket]:
    """A new and empty bucket. What killed verifications left is removed on the way.

    Args:
        prefix: how its name begins.
        settings: how to reach the server.

    Raises:
        TargetError: it cannot be made.
    """
    name = f"{prefix}-{secrets.token_hex(8)}"
    with closing(Bucket(name, "", settings)) as bucket:
        for left in _left(bucket, f"{prefix}-"):
            with closing(Bucket(left, "", settings)) as old:
                remove(old)
        try:
            bucket.control("create_bucket", Bucket=name)
        except SourceError as error:
            raise TargetError(
                f'the scratch bucket "{name}" cannot be made: {error.message}',
                on=name,
                hint="grant s3:CreateBucket (docs/permissions.md), or remove the component's `scratch`: then a directory is used",
                unaffected="nothing was started",
            ) from error
        try:
            yield bucket
        finally:
            remove(bucket)


def remove(bucket: Bucket) -> None:
    """Delete a bucket and everything in it."""
    with Listing(bucket.where) as listing:
        keys: list[str] = []
        for listed in listing.fill(bucket.pages()):
            keys.append(listed.key)
            if len(keys) == 1000:  # noqa: PLR2004  # S3's limit
                _delete(bucket, keys)
                keys = []
        if keys:
            _delete(bucket, keys)
    bucket.control("delete_bucket", Bucket=bucket.name)


def _delete(bucket: Bucket, keys: list[str]) -> None:
    found = bucket.control(
        "delete_objects", Bucket=bucket.name, Delete={"Objects": [{"Key": key} for key in keys], "Quiet": True}
    )  # fmt: skip
    if errors := found.get("Errors"):
        raise SourceError(
            f'{bucket.where} keeps "{errors[0].get("Key")}": {errors[0].get("Code")}',
            on=bucket.where,
            hint="if it is AccessDenied, grant s3:DeleteObject (docs/permissions.md)",
        )


def _left(bucket: Bucket, prefix: str) -> list[str]:
    """Scratch buckets that are too old; none where this user may not list buckets."""
    try:
        found = bucket.control("list_buckets").get("Buckets", ())
    except DrctlError:
        return []
    oldest = clock.now() - LEFT
    return [
        str(one["Name"])
        for one in found
        if str(one["Name"]).startswith(prefix) and one.get("CreationDate") and one["CreationDate"] < oldest
    ]


@dataclass(slots=True)
class Compared:
    """What a comparison found.

    Attributes:
        count: objects that were looked at.
        failures: a sentence for each difference.
    """

    count: int
    failures: list[str]


@dataclass(frozen=True, slots=True)
class _Asked:
    info: EntryInfo
    listed: Listed
    part: Part
    tags: Future[dict[str, str] | None] | None


def compare(source: EntrySource, bucket: Bucket) -> Compared:
    """Read every object of a bucket back, and compare size, digest, metadata, and the tags that are known, with the snapshot's.

    Args:
        source: the snapshot's objects.
        bucket: has nothing but what was restored.
    """
    done = Compared(0, [])
    waiting: deque[_Asked] = deque()
    load = 0
    with Listing(bucket.where) as listing, Reader(bucket) as reading:
        there = iter(listing.fill(bucket.pages()))
        found = next(there, None)
        for info in source.entries():
            if facts.CHANGED in info.meta:
                continue
            while found is not None and found.key < info.path:  # Python orders text as UTF-8 does
                done.failures.append(f'"{found.key}" is in the scratch bucket, and not in the snapshot')
                found = next(there, None)
            done.count += 1
            if found is None or found.key != info.path:
                done.failures.append(f'the object "{info.path}" is not there after it was restored')
                continue
            if found.size != info.size:
                done.failures.append(f'the object "{info.path}" has {found.size} bytes after it was restored')
                found = next(there, None)
                continue
            part = reading.ask(found, 0, min(RANGE, found.size))
            tags = reading.pool.submit(bucket.tags_of, found.key) if facts.TAGS in info.meta else None
            waiting.append(_Asked(info, found, part, tags))
            load += min(RANGE, found.size)
            found = next(there, None)
            while len(waiting) > AHEAD or load > _AHEAD_BYTES:
                load -= min(RANGE, waiting[0].listed.size)
                done.failures += _differences(bucket, waiting.popleft())
        while waiting:
            done.failures += _differences(bucket, waiting.popleft())
        for left in [found, *there] if found is not None else []:
            done.failures.append(f'"{left.key}" is in the scratch bucket, and not in the snapshot')
    return done


def _differences(bucket: Bucket, asked: _Asked) -> list[str]:
    info, listed = asked.info, asked.listed
    try:
        got = asked.part.result()
        hasher = blake3(got.content)
        asked.part.done_with()
        for start in range(RANGE, listed.size, RANGE):
            hasher.update(bucket.read(listed, start, min(RANGE, listed.size - start)).content)
    except Changed:
        return [f'the object "{info.path}" was changed in the scratch bucket']
    failures = []
    if hasher.hexdigest() != info.meta.get("digest"):
        failures.append(f'the object "{info.path}" is not what was read from the bucket')
    if names := different(info.meta, got.meta):
        failures.append(f'the object "{info.path}" has other metadata than in the bucket: {", ".join(names)}')
    if asked.tags is not None and (asked.tags.result() or {}) != info.meta[facts.TAGS]:
        failures.append(f'the object "{info.path}" has other tags than in the bucket')
    return failures


def different(wanted: Mapping[str, Any], there: Mapping[str, Any]) -> list[str]:
    """What of an object's metadata is not as it should be. A server may give a type to an object that has none."""
    names = [
        name for name in _TEXTS if wanted.get(name) != there.get(name) and (name in wanted or name != "type")
    ]
    own, theirs = dict(wanted.get("user", {})), dict(there.get("user", {}))
    return [*names, *sorted(name for name in own | theirs if own.get(name) != theirs.get(name))]
