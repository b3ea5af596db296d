"""Parts of objects, asked for ahead: each first by the quick way, and by the patient way where that gave no good answer at once."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from dr_toolkit.buckets import facts, providers
from dr_toolkit.buckets.client import THREADS, Bucket, Got
from dr_toolkit.buckets.lane import Exchange, Lane
from dr_toolkit.buckets.listing import Listed

RANGE = 4 << 20
"""Bytes of one request at most."""
_WORTH_KEEPING = 1 << 20
"""Memory for less comes out of the heap, and costs next to nothing."""


@dataclass(slots=True, eq=False)
class Part:
    """A part of an object that was asked for."""

    reader: Reader
    listed: Listed
    start: int
    length: int
    exchange: Exchange | None = None
    memory: bytearray | None = field(default=None, repr=False)
    patient: Future[Got] | None = field(default=None, repr=False)

    def result(self) -> Got:
        """Wait for it.

        Raises:
            Changed: the object was written again or deleted since it was listed.
            SourceUnreachable, SourceError: the server went away, or refused.
        """
        if self.exchange is not None:
            reply, self.exchange = self.reader.lane.wait(self.exchange), None
            if reply is not None and len(reply.content) == self.length:
                etag = reply.headers.get("etag", "").strip('"')
                false = providers.is_false(reply.content, self.listed.size, etag, reply.headers)
                if etag == self.listed.etag and not false:
                    return Got(reply.content, facts.from_lower(reply.headers))
        if self.patient is None:
            self.ask_patiently()
        assert self.patient is not None  # noqa: S101  # for the type checker: it was just asked
        return self.patient.result()

    def done_with(self) -> None:
        """Nobody looks at the content any more, which has come: its memory may be used again."""
        if self.memory is not None and self.exchange is None:
            self.reader.free.append(self.memory)
            self.memory = None

    def ask_patiently(self) -> None:
        """Ask in a thread that knows about retries and errors."""
        self.patient = self.reader.pool.submit(self.reader.bucket.read, self.listed, self.start, self.length)


class Reader:
    """Asks for parts of objects of one bucket. For one thread; use as a context manager.

    Args:
        bucket: the source.
        tags: whether tags are wanted as well.
    """

    def __init__(self, bucket: Bucket, *, tags: bool = False) -> None:
        self.bucket = bucket
        self.tags = tags
        self.pool = ThreadPoolExecutor(THREADS, thread_name_prefix="drctl-object")
        self.lane: Lane = bucket.lane()
        self.free: deque[bytearray] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.lane.__exit__(kind, error, trace)
        self.pool.shutdown(wait=True, cancel_futures=True)

    def ask(self, listed: Listed, start: int, length: int) -> Part:
        """Ask for a part of an object, only of the content that was listed."""
        part = Part(self, listed, start, length)
        try:
            head = self.bucket.read_head(listed, start, length)
        except ValueError:
            part.ask_patiently()
            return part
        part.exchange = Exchange(
            head, most=length + 1, into=self._memory(part), on_failure=part.ask_patiently
        )
        self.lane.start(part.exchange)
        return part

    def _memory(self, part: Part) -> memoryview | None:
        """Memory that is used again: new pages for every range took more time than receiving it."""
        if not _WORTH_KEEPING <= part.length <= RANGE:
            return None
        part.memory = self.free.pop() if self.free else bytearray(RANGE)
        return memoryview(part.memory)[: part.length]
