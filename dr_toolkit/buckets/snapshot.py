"""A bucket into a snapshot: the listing is merged with the parent's entries, what is unchanged is carried forward unread, the rest is fetched ahead."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from blake3 import blake3

from dr_toolkit.buckets import facts, merging
from dr_toolkit.buckets.client import THREADS, Bucket, Got
from dr_toolkit.buckets.failures import Changed
from dr_toolkit.buckets.listing import Listed
from dr_toolkit.buckets.merging import Read, Same
from dr_toolkit.buckets.reading import RANGE, Part, Reader
from dr_toolkit.errors import SourceError
from dr_toolkit.repository.entries import EntryInfo
from dr_toolkit.repository.writer import Carried, SnapshotWriter

AHEAD_BYTES = 24 << 20
"""Content of the objects after the one that is being written that is fetched or on its way at most."""
AHEAD_RANGES = 6
"""Ranges of the object that is being written that are fetched or on their way at most."""
AHEAD = 4 * THREADS
_ATTEMPTS = 5
_RECORD_BYTES = 700
"""About what a record of an entry that is carried forward takes in memory."""
_SECONDS = len("2026-11-24T12:00:00")


@dataclass(frozen=True, slots=True)
class _Step:
    """An object: carried by itself, or read in ranges, of which ``ranges`` has those that nobody has asked for yet."""

    listed: Listed
    carried: Carried | None
    ranges: Iterator[tuple[int, int]]
    parts: deque[Part]
    tags: deque[Future[dict[str, str] | None]]


def take(
    bucket: Bucket,
    listing: Iterable[Listed],
    writer: SnapshotWriter,
    on_bytes: Callable[[int, int], None],
    *,
    tags: bool = False,
) -> Read:
    """Write all objects as entries, in order. Whoever opened the writer commits or aborts it.

    Args:
        bucket: the source.
        listing: complete, and sorted.
        writer: a snapshot in the making; its parent is compared with.
        on_bytes: told bytes and objects as they are done.
        tags: ask for every object's tags, also where nothing else changed.

    Raises:
        SourceUnreachable: the server went away.
        SourceError: it refused.
    """
    done = Read()
    waiting: deque[_Step | Same] = deque()
    load = 0
    with Reader(bucket, tags=tags) as reading:
        for found in merging.merge(listing, writer, done):
            for step in _begun(reading, found, writer):
                waiting.append(step)
                load += _weight(step)
            while waiting and (isinstance(waiting[0], Same) or len(waiting) > AHEAD or load > AHEAD_BYTES):
                first = waiting.popleft()
                load -= _weight(first)
                _write(reading, first, writer, done, on_bytes)
        while waiting:
            _write(reading, waiting.popleft(), writer, done, on_bytes)
    return done


def check_missed(bucket: Bucket, done: Read) -> None:
    """Ask for objects that the listing lacks. One that is there as it was shows that the listing left it out.

    Raises:
        SourceError: there is one.
    """
    with ThreadPoolExecutor(THREADS, thread_name_prefix="drctl-object") as pool:
        for parent, there in zip(
            done.missed, pool.map(bucket.head, [m.path for m in done.missed]), strict=True
        ):
            if there is not None and _is_the_same(there, parent):
                raise SourceError(
                    f'the listing of {bucket.where} cannot be believed: it lacks "{parent.path}", which is there',
                    on=parent.path,
                    hint="run it again; if it stays, look at the server and at proxies before it",
                    unaffected="no snapshot was made; the repository is as it was",
                )


def _is_the_same(there: Listed, parent: EntryInfo) -> bool:
    """Whether it was not written since: a head knows whole seconds only."""
    meta = parent.meta
    return (there.etag, there.size) == (meta.get("etag"), parent.size) and there.modified[:_SECONDS] == str(
        meta.get("modified")
    )[:_SECONDS]


def _begun(reading: Reader, found: Same | Listed, writer: SnapshotWriter) -> Iterator[_Step | Same]:
    """Ask for what is to be read. Where tags are wanted, every object is asked about."""
    if isinstance(found, Listed):
        steps = iter((_anew(found, writer),))
    elif not reading.tags:
        yield found
        return
    else:
        steps = (
            _Step(listed, writer.carried(found.stretch, number), iter(()), deque(), deque())
            for number, listed in zip(range(found.start, found.end), found.rows, strict=True)
        )
    for step in steps:
        _start(reading, step)
        yield step


def _anew(listed: Listed, writer: SnapshotWriter) -> _Step:
    """An object that the parent does not have so: read, unless a killed run has stored it."""
    adopted = writer.adopted(listed.key)
    if (
        adopted is not None
        and adopted.info.kind == facts.KIND
        and facts.is_same(listed, adopted.info.size, adopted.info.meta)
    ):
        return _Step(listed, adopted, iter(()), deque(), deque())
    return _Step(listed, None, _ranges(listed.size), deque(), deque())


def _ranges(size: int) -> Iterator[tuple[int, int]]:
    """(start, length) of each request; one even for an empty object, whose metadata is wanted. An object of 5 TB has a million."""
    return ((start, min(RANGE, size - start)) for start in range(0, max(size, 1), RANGE))


def _weight(step: _Step | Same) -> int:
    if isinstance(step, Same):
        return step.stretch.held(step.start, step.end) * _RECORD_BYTES
    return 0 if step.carried else min(step.listed.size, RANGE * 2)


def _start(reading: Reader, step: _Step) -> None:
    """Ask for the first two ranges; the others follow while it is written."""
    for start, length in itertools.islice(step.ranges, 2):
        step.parts.append(reading.ask(step.listed, start, length))
    if reading.tags:
        step.tags.append(reading.pool.submit(reading.bucket.tags_of, step.listed.key, step.listed.version))


def _tags(step: _Step) -> dict[str, Any]:
    """The tags as a part of ``meta``; nothing where there are none, or where the object is gone."""
    found = step.tags.popleft().result() if step.tags else None
    return {facts.TAGS: found} if found else {}


def _carried(step: _Step, carried: Carried) -> Carried:
    """The parent's entry, with the tags of now: they change without anything else."""
    if not step.tags:
        return carried
    meta = {name: value for name, value in carried.info.meta.items() if name != facts.TAGS}
    return replace(carried, info=replace(carried.info, meta=meta | _tags(step)))


def _write(
    reading: Reader,
    step: _Step | Same,
    writer: SnapshotWriter,
    done: Read,
    on_bytes: Callable[[int, int], None],
) -> None:
    if isinstance(step, Same):
        writer.carry_stretch(step.stretch, step.start, step.end)
        on_bytes(
            sum(finish.size for finish in step.stretch.finishes[step.start : step.end]), step.end - step.start
        )
        return
    if step.carried is not None:
        writer.carry(_carried(step, step.carried))
        on_bytes(step.listed.size, 1)
        return
    for _attempt in range(_ATTEMPTS):
        try:
            first = step.parts[0].result()
        except Changed:
            # What was listed with its version is that moment's: what is there now is later.
            now = None if step.listed.version else reading.bucket.head(step.listed.key)
            if now is None:
                done.vanished.append(step.listed.key)
                return
            step = _Step(now, None, _ranges(now.size), deque(), deque())
            _start(reading, step)
            continue
        _write_parts(reading, step, first, writer, done, on_bytes)
        return
    _torn(step, writer, done)


def _write_parts(
    reading: Reader,
    step: _Step,
    first: Got,
    writer: SnapshotWriter,
    done: Read,
    on_bytes: Callable[[int, int], None],
) -> None:
    hasher, got = blake3(), first
    writer.begin(step.listed.key, facts.KIND)
    while True:
        for following in itertools.islice(step.ranges, AHEAD_RANGES - len(step.parts)):
            step.parts.append(reading.ask(step.listed, *following))
        hasher.update(got.content)
        writer.write(got.content)
        on_bytes(len(got.content), 0)
        step.parts.popleft().done_with()
        if not step.parts:
            break
        try:
            got = step.parts[0].result()
        except Changed:
            done.torn.append(step.listed.key)
            writer.end({facts.CHANGED: True})
            return
    on_bytes(0, 1)
    writer.end({**facts.identity(step.listed), **first.meta, **_tags(step), "digest": hasher.hexdigest()})


def _torn(step: _Step, writer: SnapshotWriter, done: Read) -> None:
    """It changed each time that it was asked for."""
    done.torn.append(step.listed.key)
    writer.begin(step.listed.key, facts.KIND)
    writer.end({facts.CHANGED: True})
