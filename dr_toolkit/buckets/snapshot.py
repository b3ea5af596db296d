"""A bucket into a snapshot: the listing is merged with the parent's entries, what is unchanged is carried forward unread, the rest is fetched ahead."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

from blake3 import blake3

from dr_toolkit.buckets import facts
from dr_toolkit.buckets.client import THREADS, Bucket, Got
from dr_toolkit.buckets.failures import Changed
from dr_toolkit.buckets.listing import Listed
from dr_toolkit.buckets.reading import Part, Reader
from dr_toolkit.errors import SourceError
from dr_toolkit.repository.writer import Carried, SnapshotWriter

RANGE = 4 << 20
"""Bytes of one request at most."""
AHEAD_BYTES = 48 << 20
"""Content that is fetched or on its way at most."""
AHEAD = 4 * THREADS
ASKED = 1000
"""Objects that a listing lacks are asked for at most; of more, a sample."""
_ATTEMPTS = 5
_NAMED = 5
_SECONDS = len("2026-11-24T12:00:00")


@dataclass(slots=True)
class Read:
    """What a run did, by objects.

    Attributes:
        before: objects of the parent.
        kept: carried forward unread.
        added: keys that the parent does not have.
        rewritten: keys that the parent has with other content.
        gone: keys of the parent that are not there any more.
        vanished: deleted between listing and reading.
        torn: changed in the middle of reading; not restorable from this snapshot.
        missed: a sample of those that are gone.
    """

    before: int = 0
    kept: int = 0
    added: int = 0
    rewritten: int = 0
    gone: int = 0
    vanished: list[str] = field(default_factory=list)
    torn: list[str] = field(default_factory=list)
    missed: list[Carried] = field(default_factory=list)

    def miss(self, parent: Carried) -> None:
        """Note that an object of the parent is not listed."""
        self.before += 1
        self.gone += 1
        if len(self.missed) < ASKED:
            self.missed.append(parent)
        elif (place := random.randrange(self.gone)) < ASKED:  # noqa: S311 -- a fair sample, no secret
            self.missed[place] = parent

    def warnings(self) -> list[str]:
        """For people, in the header."""
        found = []
        for keys, text in (
            (self.vanished, "deleted while the backup ran, and are not in it"),
            (self.torn, "changed while they were read, and cannot be restored from this snapshot"),
        ):
            if keys:
                named = ", ".join(f'"{key}"' for key in keys[:_NAMED])
                found.append(f"{len(keys)} objects were {text}: {named}")
        return found


def mass_change(before: int, gone: int, rewritten: int, limit_percent: int) -> str | None:
    """Why a run looks like an accident or an attack: more than the limit of the parent's objects are gone, or were rewritten."""
    for count, what in ((gone, "are gone"), (rewritten, "were rewritten")):
        if before and count * 100 > before * limit_percent:
            return (
                f"{count} of {before} objects {what} since the last snapshot (max_change is {limit_percent}%)"
            )
    return None


@dataclass(frozen=True, slots=True)
class _Step:
    """An object of the merge: carried, or read in ranges."""

    listed: Listed
    carried: Carried | None
    ranges: tuple[tuple[int, int], ...]
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
    waiting: deque[_Step] = deque()
    load = 0
    with Reader(bucket, tags=tags) as reading:
        for step in _steps(listing, writer, done):
            _start(reading, step)
            waiting.append(step)
            load += _weight(step)
            while len(waiting) > AHEAD or load > AHEAD_BYTES:
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
            done.missed, pool.map(bucket.head, [m.info.path for m in done.missed]), strict=True
        ):
            if there is not None and _is_the_same(there, parent):
                raise SourceError(
                    f'the listing of {bucket.where} cannot be believed: it lacks "{parent.info.path}", which is there',
                    on=parent.info.path,
                    hint="run it again; if it stays, look at the server and at proxies before it",
                    unaffected="no snapshot was made; the repository is as it was",
                )


def _is_the_same(there: Listed, parent: Carried) -> bool:
    """Whether it was not written since: a head knows whole seconds only."""
    meta = parent.info.meta
    return (there.etag, there.size) == (meta.get("etag"), parent.info.size) and there.modified[
        :_SECONDS
    ] == str(meta.get("modified"))[:_SECONDS]


def _steps(listing: Iterable[Listed], writer: SnapshotWriter, done: Read) -> Iterator[_Step]:
    """The linear merge of two sorted sequences."""
    parents = (parent for parent in writer.parent_entries() if parent.info.kind == facts.KIND)
    parent = next(parents, None)
    for listed in listing:
        key = listed.key.encode()
        while parent is not None and parent.info.path.encode() < key:
            done.miss(parent)
            parent = next(parents, None)
        if parent is None or parent.info.path != listed.key:
            done.added += 1
            yield _anew(listed, writer)
            continue
        done.before += 1
        if facts.is_same(listed, parent.info.size, parent.info.meta) and parent.present:
            done.kept += 1
            yield _Step(listed, parent, (), deque(), deque())
        else:
            done.rewritten += not facts.is_same(listed, parent.info.size, parent.info.meta)
            yield _anew(listed, writer)
        parent = next(parents, None)
    while parent is not None:
        done.miss(parent)
        parent = next(parents, None)


def _anew(listed: Listed, writer: SnapshotWriter) -> _Step:
    """An object that the parent does not have so: read, unless a killed run has stored it."""
    adopted = writer.adopted(listed.key)
    if (
        adopted is not None
        and adopted.info.kind == facts.KIND
        and facts.is_same(listed, adopted.info.size, adopted.info.meta)
    ):
        return _Step(listed, adopted, (), deque(), deque())
    return _Step(listed, None, _ranges(listed.size), deque(), deque())


def _ranges(size: int) -> tuple[tuple[int, int], ...]:
    """(start, length) of each request; one even for an empty object, whose metadata is wanted."""
    return tuple((start, min(RANGE, size - start)) for start in range(0, size, RANGE)) or ((0, 0),)


def _weight(step: _Step) -> int:
    return 0 if step.carried else min(step.listed.size, RANGE * 2)


def _start(reading: Reader, step: _Step) -> None:
    """Ask for the first two ranges; the others follow while it is written."""
    for start, length in step.ranges[:2]:
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
    step: _Step,
    writer: SnapshotWriter,
    done: Read,
    on_bytes: Callable[[int, int], None],
) -> None:
    if step.carried is not None:
        writer.carry(_carried(step, step.carried))
        on_bytes(step.listed.size, 1)
        return
    for _attempt in range(_ATTEMPTS):
        try:
            first = step.parts.popleft().result()
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
    hasher, got, ranges = blake3(), first, iter(step.ranges[2:])
    writer.begin(step.listed.key, facts.KIND)
    while True:
        hasher.update(got.content)
        writer.write(got.content)
        on_bytes(len(got.content), 0)
        following = next(ranges, None)
        if following is not None:
            step.parts.append(reading.ask(step.listed, *following))
        if not step.parts:
            break
        try:
            got = step.parts.popleft().result()
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
