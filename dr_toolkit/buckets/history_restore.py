"""The history of objects back into a bucket with versioning: of each key every version and delete marker in turn, the oldest first.

The target gives ids and times of its own. A report keeps the snapshot's beside them.
"""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import groupby
from typing import IO, Literal

from dr_toolkit.buckets import facts
from dr_toolkit.buckets.client import Bucket
from dr_toolkit.buckets.history import KEY
from dr_toolkit.buckets.part_sizes import PART
from dr_toolkit.buckets.restore import Names, parts
from dr_toolkit.buckets.version_pages import Version
from dr_toolkit.buckets.versions import Versions, path_prefix
from dr_toolkit.log import Progress
from dr_toolkit.repository.entries import EntryInfo, EntrySource

THREADS = 8
_WAITING = 4 * THREADS
Action = Literal["new", "goes_on", "same", "on_top"]


@dataclass(frozen=True, slots=True)
class Step:
    """One key.

    Attributes:
        action: ``new`` (the target never had it), ``goes_on`` (it has the older part of this history: a restore was broken off), ``same``, or
            ``on_top`` (it has another history, and this one is written over it; nothing is lost).
        key: the target's.
        infos: this history, the oldest first.
        there: what the target has of it.
    """

    action: Action
    key: str
    infos: list[EntryInfo]
    there: Sequence[Version]


@dataclass(slots=True)
class Plan:
    """Counts of keys by what happens to them, and of what is written.

    Attributes:
        versions: written.
        markers: delete markers written.
        bytes: of the versions.
        torn: keys of which a version cannot be restored from this snapshot.
    """

    new: int = 0
    goes_on: int = 0
    same: int = 0
    on_top: int = 0
    versions: int = 0
    markers: int = 0
    bytes: int = 0
    torn: list[str] = field(default_factory=list)

    def add(self, step: Step) -> None:
        """Count a step."""
        setattr(self, step.action, getattr(self, step.action) + 1)
        for info in missing(step):
            if facts.CHANGED in info.meta:
                self.torn.append(step.key)
            elif info.kind == facts.MARKER:
                self.markers += 1
            else:
                self.versions += 1
                self.bytes += info.size


def histories(source: EntrySource, prefix: str) -> Iterator[tuple[str, list[EntryInfo]]]:
    """Each key of a snapshot with all its versions, the oldest first, in order of keys."""
    objects = (info for info in source.entries(prefix) if info.kind == facts.KIND)
    older = groupby(source.entries(path_prefix(prefix)), key=lambda info: str(info.meta[KEY]))
    newest, group = next(objects, None), next(older, None)
    while newest is not None or group is not None:
        if group is None or (newest is not None and newest.path.encode() < group[0].encode()):
            assert newest is not None  # noqa: S101  # for the type checker: the loop's condition
            yield newest.path, [newest]
            newest = next(objects, None)
            continue
        key, found = group[0], list(group[1])
        if newest is not None and newest.path == key:
            found.append(newest)
            newest = next(objects, None)
        yield key, found
        group = next(older, None)


def steps(source: EntrySource, prefix: str, target: Versions, names: Names) -> Iterator[Step]:
    """The linear merge of the snapshot with what the target has."""
    there = target.histories()
    found = next(there, None)
    for key, infos in histories(source, prefix):
        at_target = names.at_target(key)
        while found is not None and found[0].encode() < at_target.encode():
            found = next(there, None)
        has = found[1] if found is not None and found[0] == at_target else []
        yield Step(action_of(infos, has), at_target, infos, has)


def action_of(infos: Sequence[EntryInfo], there: Sequence[Version]) -> Action:
    """What is to be done with a key, by its two histories."""
    if not there:
        return "new"
    restorable = [info for info in infos if facts.CHANGED not in info.meta]
    if len(there) > len(restorable) or not all(map(_alike, restorable, there)):
        return "on_top"
    return "same" if len(there) == len(restorable) else "goes_on"


def missing(step: Step) -> list[EntryInfo]:
    """What is to be written."""
    return step.infos if step.action in {"new", "on_top"} else step.infos[len(step.there) :]


def run(
    source: EntrySource, bucket: Bucket, walk: Iterator[Step], report: IO[str], progress: Progress
) -> Plan:
    """Carry the steps out: keys side by side, the versions of one key in turn.

    Args:
        source: the snapshot.
        bucket: the target; its versioning is on.
        walk: the steps.
        report: gets a line for each version.
        progress: told of each version.

    Returns:
        What was done.
    """
    done = Plan()
    waiting: deque[Future[None]] = deque()
    noting = threading.Lock()

    def note(line: dict[str, object]) -> None:
        with noting:
            report.write(json.dumps(line) + "\n")

    with ThreadPoolExecutor(THREADS, thread_name_prefix="drctl-put") as pool:
        try:
            for step in walk:
                done.add(step)
                waiting.append(pool.submit(_key, source, bucket, step, note, progress))
                while len(waiting) > _WAITING:
                    waiting.popleft().result()
            while waiting:
                waiting.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    return done


def _key(
    source: EntrySource,
    bucket: Bucket,
    step: Step,
    note: Callable[[dict[str, object]], None],
    progress: Progress,
) -> None:
    for info, there in (
        zip(step.infos, step.there, strict=False) if step.action in {"same", "goes_on"} else ()
    ):
        note(_line(step.key, info, there.version, written=False))
    for info in missing(step):
        if facts.CHANGED not in info.meta:
            note(_line(step.key, info, _write(source, bucket, step.key, info, progress), written=True))


def _write(source: EntrySource, bucket: Bucket, key: str, info: EntryInfo, progress: Progress) -> str:
    if info.kind == facts.MARKER:
        made = bucket.delete(key)
        progress.advance(0, 1)
        return made
    if info.size <= PART:
        made = bucket.write(key, b"".join(source.read(info.path)), info.meta)
        progress.advance(info.size, 1)
        return made
    made = bucket.write_parts(key, parts(source, info, progress), info.meta)
    progress.advance(0, 1)
    return made


def _line(key: str, info: EntryInfo, target: str, *, written: bool) -> dict[str, object]:
    return {
        "key": key,
        "version": info.meta.get("version", facts.NO_VERSION),
        "modified": info.meta.get("modified"),
        "delete_marker": info.kind == facts.MARKER,
        "size": info.size,
        "target_version": target,
        "written": written,
    }


def _alike(info: EntryInfo, there: Version) -> bool:
    """Whether the target's version may be this one. ETags of uploads in parts depend on the parts."""
    if there.marker or info.kind == facts.MARKER:
        return there.marker and info.kind == facts.MARKER
    etags = str(info.meta.get("etag", "")), there.etag
    return info.size == there.size and (etags[0] == etags[1] or any("-" in etag for etag in etags))
