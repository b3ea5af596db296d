"""Carry out a replica's plan: copy what differs, write the record, and delete last of all."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from blake3 import blake3

from dr_toolkit.buckets import facts
from dr_toolkit.buckets.client import Bucket
from dr_toolkit.buckets.failures import Changed
from dr_toolkit.buckets.listing import Listed
from dr_toolkit.buckets.part_sizes import PART, part_size
from dr_toolkit.buckets.replica_plan import RECORD, SIZE, TARGET, Held, Step, shown
from dr_toolkit.buckets.replica_quick import WINDOW, Lanes, Outcome, Task
from dr_toolkit.buckets.signing import Content
from dr_toolkit.errors import SourceError
from dr_toolkit.log import NoProgress, Progress
from dr_toolkit.repository.writer import Carried, SnapshotWriter
from dr_toolkit.words import counted

_WAITING = 64
_ATTEMPTS = 5
_NAMED = 5
Walk = Callable[[], Iterator[Step]]


@dataclass(slots=True)
class Done:
    """What a run did besides its plan.

    Attributes:
        objects: recorded, which is what the replica has of the source.
        bytes: of them.
        copied: objects.
        deleted: objects.
        mended: found different by reading both sides (``checksum``), and copied again.
        vanished: deleted at the source while the run went on.
        torn: changed each time they were read; the replica keeps what it had.
    """

    objects: int = 0
    bytes: int = 0
    copied: int = 0
    deleted: int = 0
    mended: int = 0
    vanished: list[str] = field(default_factory=list)
    torn: list[str] = field(default_factory=list)

    def warnings(self) -> list[str]:
        """For people, in the header."""
        found = []
        for keys, text in (
            (self.vanished, "deleted at the source while the run went on"),
            (self.torn, "changed each time they were read, and are not in the replica as they are now"),
        ):
            if keys:
                named = ", ".join(f'"{key}"' for key in keys[:_NAMED])
                found.append(f"{counted(len(keys), 'object was', 'objects were')} {text}: {named}")
        return found


class Torn(Exception):
    """The object changed each time that it was read."""


@dataclass(frozen=True, slots=True)
class Route:
    """From where to where.

    Attributes:
        source: the bucket that is copied.
        target: the replica.
        same_server: the server itself can copy between them.
        checksum: believe no ETag: read both sides of what seems to be the same.
        tags: ask for every object's tags on both sides, and copy them.
    """

    source: Bucket
    target: Bucket
    same_server: bool
    checksum: bool = False
    tags: bool = False


def run(route: Route, walk: Walk, held: Held, writer: SnapshotWriter, progress: Progress) -> Done:
    """Copy, record, delete. Whoever opened the writer commits or aborts it.

    Args:
        route: from where to where.
        walk: begins the steps anew.
        held: what must not be done.
        writer: takes the record.
        progress: told of each object.

    Raises:
        SourceUnreachable: one of the servers went away.
        SourceError: one of them refused.
    """
    done = Done()
    stages: tuple[deque[_Going], ...] = (deque(), deque(), deque())

    def end(step: Step, task: Task | None) -> None:
        _record(step, task, held, writer, done)

    with Lanes(route.source, route.target, same_server=route.same_server) as lanes:
        for step in walk():
            stages[0].append((step, _begin(lanes, route, step, held, progress)))
            _move(stages, WINDOW, end)
            lanes.turn()
        _move(stages, 0, end)
        if not held.deletes:
            done.deleted = _delete(lanes.pool, route, walk)
    return done


_Going = tuple[Step, Task | None]


def _move(stages: Sequence[deque[_Going]], most: int, end: Callable[[Step, Task | None], None]) -> None:
    """Take objects from stage to stage, in order, until each has at most so many."""
    for stage, following in zip(stages, [*stages[1:], None], strict=True):
        while len(stage) > most:
            step, task = stage.popleft()
            if following is None:
                end(step, task)
                continue
            if task is not None:
                task.proceed()
            following.append((step, task))


def _begin(lanes: Lanes, route: Route, step: Step, held: Held, progress: Progress) -> Task | None:
    if step.listed is None or (step.action == "replace" and held.overwrites):
        return None
    if step.action in {"new", "replace", "repair"}:
        patiently = partial(_copy, route, step.listed, progress)
        quick = (
            None if route.tags else lanes.begin(step.listed, _at_target(route, step.key), progress, patiently)
        )
        return quick or lanes.patient(patiently, step.listed.size)
    if route.checksum:
        return lanes.patient(partial(_check, route, step.listed, progress))
    if step.action == "adopt":
        return lanes.patient(partial(_adopt, route, step.listed))
    if route.tags and step.carried is not None:
        return lanes.patient(partial(_compare_tags, route, step.listed, dict(step.carried.info.meta)))
    return None


def _record(step: Step, task: Task | None, held: Held, writer: SnapshotWriter, done: Done) -> None:
    carried = step.carried
    if task is not None:
        try:
            outcome = task.result()
        except Torn:
            done.torn.append(step.key)
        else:
            if outcome.meta is None:
                done.vanished.append(step.key)
            else:
                _write(writer, step.key, outcome, done)
                done.mended += outcome.copied and step.action in {"same", "adopt"}
                return
    elif step.listed is None and not (step.action == "delete" and held.deletes):
        return
    if carried is not None:  # as before: unchanged, kept by a guard, or not readable now
        _keep(writer, carried, done)


def _write(writer: SnapshotWriter, key: str, outcome: Outcome, done: Done) -> None:
    meta = outcome.meta or {}
    writer.begin(key, RECORD)
    writer.end(meta)
    done.objects += 1
    done.bytes += meta[SIZE]
    done.copied += outcome.copied


def _keep(writer: SnapshotWriter, carried: Carried, done: Done) -> None:
    writer.carry(carried)
    done.objects += 1
    done.bytes += int(carried.info.meta[SIZE])


def _delete(pool: ThreadPoolExecutor, route: Route, walk: Walk) -> int:
    """Only after every copy succeeded: a run that fails leaves more than it should, never less."""
    waiting: deque[Future[bool]] = deque()
    count = 0
    for step in walk():
        if step.action != "delete":
            continue
        waiting.append(pool.submit(_delete_one, route, step))
        while len(waiting) > _WAITING:
            count += waiting.popleft().result()
    return count + sum(future.result() for future in waiting)


def _delete_one(route: Route, step: Step) -> bool:
    """Delete what the source itself, asked once more, says is gone: a listing may have left it out.

    Raises:
        SourceError: the source has it, as it was recorded.
    """
    there = route.source.head(step.key)
    if there is not None:
        record = step.carried.info.meta if step.carried else {}
        if (there.etag, there.size) == (record.get("etag"), record.get(SIZE)):
            raise SourceError(
                f'the listing of {route.source.where} cannot be believed: it lacks "{step.key}", which is there',
                on=step.key,
                hint="run it again; if it stays, look at the server and at proxies before it",
                unaffected="the replica has all that it had of it",
            )
        return False  # written again meanwhile: the next run copies it
    route.target.delete(_at_target(route, step.key))
    return True


def _at_target(route: Route, key: str) -> str:
    return route.target.prefix + key.removeprefix(route.source.prefix)


def _copy(route: Route, listed: Listed, progress: Progress) -> Outcome:
    """Copy what the object is now, and look at what the target made of it."""
    for _attempt in range(_ATTEMPTS):
        try:
            meta = _server_copy(route, listed) if route.same_server else _stream(route, listed, progress)
        except Changed:
            now = route.source.head(listed.key)
            if now is None:
                return Outcome(None, copied=False)
            listed = now
            continue
        if route.same_server:
            progress.advance(listed.size)
        progress.advance(0, 1)
        return Outcome(_seen(route, listed) | meta, copied=True)
    raise Torn


def _server_copy(route: Route, listed: Listed) -> dict[str, Any]:
    found = route.source.look(listed.key)
    if found is None or found[0].etag != listed.etag:
        raise Changed
    found[1].update(_tags(route, listed.key))
    route.target.copy_from(route.source, listed, found[1])
    after = route.source.look(listed.key)
    if after is None or after[0].etag != listed.etag:  # not every server keeps the condition of a copy
        raise Changed
    return {name: value for name, value in found[1].items() if name != "version"}


def _stream(route: Route, listed: Listed, progress: Progress) -> dict[str, Any]:
    """Through this machine, in parts; a digest of what passed is kept."""
    key, hasher = _at_target(route, listed.key), blake3()
    size = part_size(listed.size)
    first = route.source.read(listed, 0, min(size, listed.size))
    first.meta.update(_tags(route, listed.key))

    def parts() -> Iterator[Content]:
        hasher.update(first.content)
        progress.advance(len(first.content))
        yield first.content
        for start in range(size, listed.size, size):
            piece = route.source.read(listed, start, min(size, listed.size - start)).content
            hasher.update(piece)
            progress.advance(len(piece))
            yield piece

    if listed.size <= PART:
        route.target.write(key, next(parts()), first.meta)
    else:
        route.target.write_parts(key, parts(), first.meta)
    meta = {name: value for name, value in first.meta.items() if name != "version"}
    return {**meta, "digest": hasher.hexdigest()}


def _seen(route: Route, listed: Listed) -> dict[str, Any]:
    """The source's identity, and how the target shows the object now."""
    key = _at_target(route, listed.key)
    there = route.target.head(key)
    if there is None or there.size != listed.size:
        raise SourceError(
            f'{route.target.where} does not show "{key}" as it was just written',
            on=key,
            hint="look at the target: another writer, a lifecycle rule, or a server that loses what it took",
            unaffected="the source was only read",
        )
    return {**facts.identity(listed), SIZE: listed.size, TARGET: shown(there)}


def _adopt(route: Route, listed: Listed) -> Outcome:
    """It is there already, by its size and ETag; the metadata is compared before that is believed."""
    ours, theirs = route.source.look(listed.key), route.target.look(_at_target(route, listed.key))
    if ours is None:
        return Outcome(None, copied=False)
    kept = [
        {name: value for name, value in side[1].items() if name not in {"version", "class"}}
        for side in (ours, theirs)
        if side is not None
    ]
    if route.tags and theirs is not None:
        kept[0].update(_tags(route, listed.key))
        kept[1].update(_as_meta(route.target.tags_of(theirs[0].key)))
    if len(kept) != 2 or kept[0] != kept[1] or ours[0].etag != listed.etag:  # noqa: PLR2004 - both sides
        return _copy(route, listed if ours[0].etag == listed.etag else ours[0], NoProgress())
    return Outcome(_seen(route, listed) | kept[0], copied=False)


def _compare_tags(route: Route, listed: Listed, record: dict[str, Any]) -> Outcome:
    """Tags are changed without anything else: both sides are asked."""
    ours = _tags(route, listed.key).get(facts.TAGS)
    theirs = _as_meta(route.target.tags_of(_at_target(route, listed.key))).get(facts.TAGS)
    if ours == theirs == record.get(facts.TAGS):
        return Outcome(record, copied=False)
    return _copy(route, listed, NoProgress())


def _tags(route: Route, key: str) -> dict[str, Any]:
    """The source's, as a part of ``meta``; nothing where they are not wanted."""
    return _as_meta(route.source.tags_of(key)) if route.tags else {}


def _as_meta(tags: dict[str, str] | None) -> dict[str, Any]:
    return {facts.TAGS: tags} if tags else {}


def _check(route: Route, listed: Listed, progress: Progress) -> Outcome:
    """Read both sides; copy when they are not the same."""
    try:
        digest = digest_of(route.source, listed, progress)
    except Changed:
        return _copy(route, listed, progress)
    outcome = _adopt(route, listed)
    if outcome.copied or outcome.meta is None:
        return outcome
    there = route.target.head(_at_target(route, listed.key))
    try:
        same = there is not None and digest_of(route.target, there, NoProgress()) == digest
    except Changed:
        same = False
    if not same:
        return _copy(route, listed, NoProgress())
    progress.advance(0, 1)
    return Outcome({**outcome.meta, "digest": digest}, copied=False)


def digest_of(bucket: Bucket, listed: Listed, progress: Progress) -> str:
    """BLAKE3 of an object's content, read in parts on the condition of its ETag.

    Raises:
        Changed: it is not the listed one any more.
    """
    hasher = blake3()
    for start in range(0, listed.size, PART):
        piece = bucket.read(listed, start, min(PART, listed.size - start)).content
        hasher.update(piece)
        progress.advance(len(piece))
    return hasher.hexdigest()
