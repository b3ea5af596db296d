"""A snapshot's objects back into a bucket: what is there already stays, what differs is copied, and nothing is deleted unless asked."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from blake3 import blake3

from dr_toolkit.buckets import facts
from dr_toolkit.buckets.client import Bucket
from dr_toolkit.buckets.failures import Changed
from dr_toolkit.buckets.listing import Listed, Listing
from dr_toolkit.buckets.part_sizes import PART, part_size
from dr_toolkit.buckets.reading import RANGE
from dr_toolkit.buckets.sending import CONNECTIONS, SMALL, Sender, Sent
from dr_toolkit.errors import SourceError
from dr_toolkit.log import Progress
from dr_toolkit.repository.entries import BulkSource, EntryInfo, EntrySource

_WAITING = 4 * CONNECTIONS
_WAITING_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Step:
    """What happens to one key of the target.

    Attributes:
        action: ``new``, ``replace``, ``same``, ``extra`` (only in the target) or ``torn``.
        key: the target's.
        info: what the snapshot has.
        doubtful: what is to be replaced, where its ETag does not say that it differs: only its content does.
    """

    action: Literal["new", "replace", "same", "extra", "torn"]
    key: str
    info: EntryInfo | None
    doubtful: Listed | None = None


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

    def __init__(self, source: BulkSource) -> None:
        self._source = source
        self.read, self.read_many = source.read, source.read_many

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

    Two objects are the same when size and ETag are. An object that was uploaded in other parts has another ETag: then it is in doubt.
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
            yield Step("replace", key, info, found if _is_doubtful(found, info) else None)
        if is_there:
            found = next(there, None)
    while found is not None:
        yield Step("extra", found.key, None)
        found = next(there, None)


def _is_doubtful(found: Listed, info: EntryInfo) -> bool:
    """Whether the ETags differ and the contents may all the same be equal: one of the two was uploaded in parts."""
    in_parts = "-" in f"{found.etag}{info.meta.get('etag')}"
    return found.size == info.size > SMALL and in_parts and "digest" in info.meta


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


def run(source: BulkSource, bucket: Bucket, walk: Iterator[Step], *, exact: bool, progress: Progress) -> Plan:
    """Carry the steps out, many at once.

    Args:
        source: the snapshot.
        bucket: the target.
        walk: the steps.
        exact: delete what only the target has.
        progress: told of each object.

    Returns:
        What was done.
    """
    with Sender(bucket) as sender:
        work = _Work(source, sender, progress)
        for info, content in source.read_many(work.wanted(walk, exact=exact), SMALL):
            work.copy(info, content)
        work.settle(0)
    return work.done


class _Work:
    """A restore that is under way.

    Args:
        source: the snapshot.
        sender: to the target.
        progress: told of each object.
    """

    def __init__(self, source: BulkSource, sender: Sender, progress: Progress) -> None:
        self._source, self._sender, self._progress = source, sender, progress
        self._steps: deque[Step] = deque()
        self._waiting: deque[tuple[Sent[Any], int | None]] = deque()
        self._load = 0
        self._counting = threading.Lock()
        self.done = Plan()

    def wanted(self, walk: Iterator[Step], *, exact: bool) -> Iterator[EntryInfo]:
        """What is to be copied; on the way there, what only the target has is deleted."""
        for step in walk:
            if step.action == "torn":
                self.done.torn.append(step.key)
                continue
            with self._counting:
                setattr(self.done, step.action, getattr(self.done, step.action) + 1)
            if step.action == "extra" and exact:
                gone = self._sender.in_pool(partial(self._sender.bucket.delete, step.key))
                self._waiting.append((gone, None))
                self.settle(_WAITING)
            elif step.action in {"new", "replace"} and step.info is not None:
                with self._counting:
                    self.done.bytes += step.info.size
                self._steps.append(step)
                yield step.info

    def copy(self, info: EntryInfo, content: bytes | None) -> None:
        """Write one object, whose content is there if it is small."""
        step = self._steps.popleft()
        key = step.key
        if content is None:
            work = partial(self._copy_large, info, step)
            self._waiting.append((self._sender.in_pool(work, large=True), None))
        else:
            self._waiting.append((self._sender.write(key, content, info.meta), len(content)))
            self._load += len(content)
        self.settle(_WAITING)

    def _copy_large(self, info: EntryInfo, step: Step) -> None:
        bucket = self._sender.bucket
        if step.doubtful is not None and _is_equal(bucket, step.doubtful, info):
            with self._counting:
                self.done.replace -= 1
                self.done.same += 1
                self.done.bytes -= info.size
            self._progress.advance(info.size, 1)
            return
        _copy(self._source, info, bucket, step.key, self._progress)

    def settle(self, most: int) -> None:
        """Wait until at most so many requests are on their way."""
        while len(self._waiting) > most or self._load > _WAITING_BYTES:
            sent, size = self._waiting.popleft()
            sent.result()
            if size is not None:
                self._load -= size
                self._progress.advance(size, 1)


def _is_equal(bucket: Bucket, there: Listed, info: EntryInfo) -> bool:
    """Whether the target's object has the content that was read from the source: reading it is cheaper than writing it again."""
    hasher = blake3()
    try:
        for start in range(0, there.size, RANGE):
            hasher.update(bucket.read(there, start, min(RANGE, there.size - start)).content)
    except (Changed, SourceError):  # who may not read the target writes
        return False
    return hasher.hexdigest() == info.meta.get("digest")


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
            with memoryview(buffer) as view:
                part = bytes(view[:size])
            del buffer[:size]
            yield part
    if buffer:
        progress.advance(len(buffer))
        yield bytes(buffer)
