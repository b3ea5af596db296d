"""Copies of small objects to a replica, many at once in one thread.

An object goes through up to three requests (read or copy, write, look), and thousands are on their way. Whatever is not plain at any of them
(an answer that is no good one, an object that changed, a copy that does not look like its source) starts the whole object anew by the patient way.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Protocol, Self

from blake3 import blake3

from dr_toolkit.buckets import facts
from dr_toolkit.buckets.client import Bucket
from dr_toolkit.buckets.failures import Changed
from dr_toolkit.buckets.listing import Listed
from dr_toolkit.buckets.reading import Reader
from dr_toolkit.buckets.replica_plan import SIZE, TARGET, shown
from dr_toolkit.buckets.sending import SMALL, Looked, Sender, Sent
from dr_toolkit.log import Progress

THREADS = 8
LARGE_AT_ONCE = 3
"""Objects that are not small and pass through this machine, each with a part in memory."""
WINDOW = 48
"""Objects between two requests."""
_OWN = {"version", "class"}
"""In ``meta``: what belongs to the place, and not to the object."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one object.

    Attributes:
        meta: its record; None when it vanished.
        copied: whether the target was written.
    """

    meta: dict[str, Any] | None
    copied: bool


class Task(Protocol):
    """One object on its way."""

    def proceed(self) -> None:
        """Wait for the request that is under way, and start the next one, if there is one."""

    def result(self) -> Outcome:
        """Wait for the end."""


@dataclass(frozen=True, slots=True)
class Patient:
    """A task in a thread."""

    future: Future[Outcome]

    def proceed(self) -> None:
        """See ``Task``."""

    def result(self) -> Outcome:
        """See ``Task``."""
        return self.future.result()


class Lanes:
    """Connections to both sides. For one thread; use as a context manager.

    Args:
        source: the bucket that is copied.
        target: the replica.
        same_server: the server itself can copy between them.
    """

    def __init__(self, source: Bucket, target: Bucket, *, same_server: bool) -> None:
        self.same_server = same_server
        self.source = source
        self._open = ExitStack()
        self.pool = ThreadPoolExecutor(THREADS, thread_name_prefix="drctl-replica")
        self._large = ThreadPoolExecutor(LARGE_AT_ONCE, thread_name_prefix="drctl-large")
        for pool in (self.pool, self._large):
            self._open.callback(pool.shutdown, wait=True, cancel_futures=True)
        self.target = self._open.enter_context(Sender(target))
        self.looking = self._open.enter_context(Sender(source))
        self.reading = self._open.enter_context(Reader(source))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._open.close()

    def turn(self) -> None:
        """Move along what can be moved on the side that nobody waits for."""
        (self.looking.lane if self.same_server else self.reading.lane).turn()

    def patient(self, work: Callable[[], Outcome], size: int = 0) -> Patient:
        """Do it in a thread that knows about retries and errors; beside few others, where content of so many bytes passes."""
        few = size > SMALL and not self.same_server
        return Patient((self._large if few else self.pool).submit(work))

    def begin(
        self, listed: Listed, key: str, progress: Progress, patiently: Callable[[], Outcome]
    ) -> Task | None:
        """Start to copy a small object; None for one that is not small.

        Args:
            listed: at the source.
            key: at the target.
            progress: told of it at the end.
            patiently: the same by the patient way.
        """
        if listed.size > SMALL:
            return None
        kind = _Copied if self.same_server else _Streamed
        return kind(self, listed, key, progress, patiently)


class _Quick:
    """What both ways have in common."""

    def __init__(
        self, lanes: Lanes, listed: Listed, key: str, progress: Progress, patiently: Callable[[], Outcome]
    ) -> None:
        self._lanes, self._listed, self._key = lanes, listed, key
        self._progress, self._patiently = progress, patiently
        self._slow: Patient | None = None
        self._theirs: Sent[Looked] | None = None
        self._meta: dict[str, Any] = {}
        self._start()

    def _start(self) -> None:
        raise NotImplementedError

    def _give_up(self) -> None:
        self._slow = self._lanes.patient(self._patiently)

    def _look(self) -> None:
        self._theirs = self._lanes.target.look(self._key)

    def _is_as_copied(self, there: Listed, meta: dict[str, Any]) -> bool:
        raise NotImplementedError

    def result(self) -> Outcome:
        """See ``Task``."""
        if self._slow is None:
            found = self._theirs.result().there if self._theirs else None
            if found is not None and self._is_as_copied(*found):
                self._progress.advance(self._listed.size, 1)
                record = {**facts.identity(self._listed), SIZE: self._listed.size, TARGET: shown(found[0])}
                return Outcome(record | self._meta, copied=True)
            self._give_up()
        assert self._slow is not None  # noqa: S101  # for the type checker: it was just set
        return self._slow.result()


class _Copied(_Quick):
    """By the server itself: believed where the copy's ETag, size and metadata are those of the source."""

    def _start(self) -> None:
        self._copy = self._lanes.target.copy(self._lanes.source, self._listed, lambda: "")
        self._ours = self._lanes.looking.look(self._listed.key)

    def proceed(self) -> None:
        """See ``Task``."""
        if self._theirs is not None or self._slow is not None:
            return
        etag, ours = self._copy.result(), self._ours.result().there
        if ours is None or not etag == ours[0].etag == self._listed.etag:
            self._give_up()
            return
        self._meta = {name: value for name, value in ours[1].items() if name != "version"}
        self._look()

    def _is_as_copied(self, there: Listed, meta: dict[str, Any]) -> bool:
        same = (there.size, there.etag) == (self._listed.size, self._listed.etag)
        return same and _kept(meta) == _kept(self._meta)


class _Streamed(_Quick):
    """Through this machine; a digest of what passed is kept."""

    def _start(self) -> None:
        self._part = self._lanes.reading.ask(self._listed, 0, self._listed.size)
        self._sent: Sent[str] | None = None

    def proceed(self) -> None:
        """See ``Task``."""
        if self._slow is not None:
            return
        if self._sent is not None:
            self._sent.result()
            self._look()
            return
        try:
            got = self._part.result()
        except Changed:
            self._give_up()
            return
        meta = {name: value for name, value in got.meta.items() if name != "version"}
        self._meta = {**meta, "digest": blake3(got.content).hexdigest()}
        self._sent = self._lanes.target.write(self._key, got.content, meta)

    def _is_as_copied(self, there: Listed, _meta: dict[str, Any]) -> bool:
        return there.size == self._listed.size


def _kept(meta: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in meta.items() if name not in _OWN}
