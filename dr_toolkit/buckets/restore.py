"""A snapshot's objects back into a bucket: what is there already stays, what differs is copied, and nothing is deleted unless asked."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal

from dr_toolkit.buckets import facts
from dr_toolkit.buckets.client import PART, Bucket, part_size
from dr_toolkit.buckets.listing import Listing
from dr_toolkit.log import Progress
from dr_toolkit.repository.entries import EntryInfo, EntrySource

THREADS = 8
_WAITING = 4 * THREADS


@dataclass(frozen=True, slots=True)
class Step:
    """What happens to one key of the target: ``new``, ``replace``, ``same``, ``extra`` (only in the target) or ``torn``."""

    action: Literal["new", "replace", "same", "extra", "torn"]
    key: str
    info: EntryInfo | None


@dataclass(slots=True)
class Plan:
    """Counts of the steps.

    Attributes:
        new: copied where nothing is.
        replace: copied over something else.
        same: left as they are.
        extra: only in the target.
        torn: keys that cannot be restored from this snapshot.
        bytes: to copy.
    """

    new: int = 0
    replace: int = 0
    same: int = 0
    extra: int = 0
    torn: list[str] = field(default_factory=list)
    bytes: int = 0


class Objects:
    """Of a snapshot the objects alone, without older versions and delete markers.

    Args:
        source: the snapshot.
    """

    def __init__(self, source: EntrySource) -> None:
        self._source = source
        self.read = source.read

    def entries(self, prefix: str = "") -> Iterator[EntryInfo]:
        """See ``EntrySource``."""
        return (
            info for info in self._source.entries(prefix) if info.kind not in {facts.VERSION, facts.MARKER}
        )


@dataclass(frozen=True, slots=True)
class Names:
    """How keys are called at the target: one prefix is exchanged for another, which keeps their order."""

    source: str
    target: str

    def at_target(self, key: str) -> str:
        """The target's key."""
        return self.target + key.removeprefix(self.source)


def steps(source: EntrySource, prefix: str, listing: Listing, names: Names) -> Iterator[Step]:
    """The linear merge of the snapshot with what the target has.

    Two objects are the same when size and ETag are; an object that was uploaded in other parts has another ETag and is copied again.
    """
    there = iter(listing)
    found = next(there, None)
    for info in source.entries(prefix):
        key = names.at_target(info.path)
        while found is not None and found.key.encode() < key.encode():
            yield Step("extra", found.key, None)
            found = next(there, None)
        is_there = found is not None and found.key == key
        if facts.CHANGED in info.meta:
            yield Step("torn", key, info)
        elif found is None or not is_there:
            yield Step("new", key, info)
        elif (found.size, found.etag) == (info.size, info.meta.get("etag")):
            yield Step("same", key, info)
        else:
            yield Step("replace", key, info)
        if is_there:
            found = next(there, None)
    while found is not None:
        yield Step("extra", found.key, None)
        found = next(there, None)


def count(walk: Iterator[Step]) -> Plan:
    """What the steps amount to."""
    plan = Plan()
    for step in walk:
        if step.action == "torn":
            plan.torn.append(step.key)
            continue
        setattr(plan, step.action, getattr(plan, step.action) + 1)
        if step.action in {"new", "replace"} and step.info is not None:
            plan.bytes += step.info.size
    return plan


def run(
    source: EntrySource, bucket: Bucket, walk: Iterator[Step], *, exact: bool, progress: Progress
) -> Plan:
    """Carry the steps out, several at once.

    Args:
        source: the snapshot.
        bucket: the target.
        walk: the steps.
        exact: delete what only the target has.
        progress: told of each object.

    Returns:
        What was done.
    """
    done = Plan()
    waiting: deque[Future[Any]] = deque()
    with ThreadPoolExecutor(THREADS, thread_name_prefix="drctl-put") as pool:
        try:
            for step in walk:
                if step.action == "torn":
                    done.torn.append(step.key)
                    continue
                setattr(done, step.action, getattr(done, step.action) + 1)
                if step.action == "extra" and exact:
                    waiting.append(pool.submit(bucket.delete, step.key))
                elif step.action in {"new", "replace"} and step.info is not None:
                    done.bytes += step.info.size
                    waiting.append(pool.submit(_copy, source, step.info, bucket, step.key, progress))
                while len(waiting) > _WAITING:
                    waiting.popleft().result()
            while waiting:
                waiting.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    return done


def _copy(source: EntrySource, info: EntryInfo, bucket: Bucket, key: str, progress: Progress) -> None:
    if info.size <= PART:
        bucket.write(key, b"".join(source.read(info.path)), info.meta)
        progress.advance(info.size, 1)
        return
    bucket.write_parts(key, parts(source, info, progress), info.meta)
    progress.advance(0, 1)


def parts(source: EntrySource, info: EntryInfo, progress: Progress) -> Iterator[bytes]:
    """The content in parts of one size, as the plan of parts says; only the last may be smaller."""
    size, buffer = part_size(info.size), bytearray()
    for piece in source.read(info.path):
        buffer += piece
        while len(buffer) >= size:
            progress.advance(size)
            yield bytes(buffer[:size])
            del buffer[:size]
    if buffer:
        progress.advance(len(buffer))
        yield bytes(buffer)
