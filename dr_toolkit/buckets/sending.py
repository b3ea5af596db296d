"""Requests that change a bucket or look at it, by the thousand: each first by the quick way, and by the patient way where that gave no good answer.

The counterpart of ``reading``. A request that is sent again after its answer was lost does the same once more: writing, copying and deleting may be repeated.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from dr_toolkit.buckets.client import Bucket, seen
from dr_toolkit.buckets.lane import Exchange, Lane, Reply
from dr_toolkit.buckets.listing import Listed
from dr_toolkit.buckets.signing import Content

CONNECTIONS = 32
THREADS = 8
LARGE_AT_ONCE = 1
"""Objects that are not small: with what is fetched ahead for it, one takes some 100 MB."""
SMALL = 1 << 20
"""Objects up to this size are sent by the quick way."""
_Result = TypeVar("_Result")
_COPIED = re.compile(rb'<CopyObjectResult.*<ETag>(?:"|&#34;|&quot;)?([^<&"]*)', re.DOTALL)


@dataclass(frozen=True, slots=True)
class Looked:
    """What was found: an object and its metadata, or None."""

    there: tuple[Listed, dict[str, Any]] | None


class Sent(Generic[_Result]):
    """A request that is on its way.

    Args:
        sender: whose connections it uses.
        good: makes the result of an answer; None where the patient way has to say what it is.
        patiently: the same by the patient way.
    """

    def __init__(
        self, sender: Sender, good: Callable[[Reply], _Result | None], patiently: Callable[[], _Result]
    ) -> None:
        self._sender = sender
        self._good = good
        self._patiently = patiently
        self._exchange: Exchange | None = None
        self._patient: Future[_Result] | None = None

    def start(self, head: bytes, body: bytes = b"", *, bodiless: bool = False) -> None:
        """Send it by the quick way."""
        self._exchange = Exchange(head, body, bodiless=bodiless, on_failure=self.ask_patiently)
        self._sender.lane.start(self._exchange)

    def ask_patiently(self, pool: ThreadPoolExecutor | None = None) -> None:
        """Send it in a thread that knows about retries and errors."""
        self._patient = (pool or self._sender.pool).submit(self._patiently)

    def result(self) -> _Result:
        """Wait for it.

        Raises:
            Changed: the object that was asked for is not what it was.
            SourceUnreachable, SourceError: the server went away, or refused.
        """
        if self._exchange is not None:
            reply, self._exchange = self._sender.lane.wait(self._exchange), None
            if reply is not None and (found := self._good(reply)) is not None:
                return found
        if self._patient is None:
            self.ask_patiently()
        assert self._patient is not None  # noqa: S101  # for the type checker: it was just asked
        return self._patient.result()


class Sender:
    """Sends requests to one bucket. For one thread; use as a context manager.

    Args:
        bucket: the target.
    """

    def __init__(self, bucket: Bucket) -> None:
        self.bucket = bucket
        self.pool = ThreadPoolExecutor(THREADS, thread_name_prefix="drctl-put")
        self._large = ThreadPoolExecutor(LARGE_AT_ONCE, thread_name_prefix="drctl-large")
        self.lane: Lane = bucket.lane(CONNECTIONS)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.lane.__exit__(kind, error, trace)
        for pool in (self.pool, self._large):
            pool.shutdown(wait=True, cancel_futures=True)

    def write(self, key: str, content: Content, meta: Mapping[str, Any]) -> Sent[str]:
        """Write a small object; the result is the id of the new version, empty without versioning."""
        sent = Sent(self, _version, lambda: self.bucket.write(key, content, meta))
        try:
            head = self.bucket.write_head(key, content, meta)
        except ValueError:
            sent.ask_patiently()
        else:
            sent.start(head, bytes(content))
        return sent

    def look(self, key: str) -> Sent[Looked]:
        """What an object is now and its metadata; the result is None inside when it is gone."""
        sent: Sent[Looked] = Sent(self, partial(_looked, key), lambda: Looked(self.bucket.look(key)))
        return self._started(sent, self.bucket.look_head(key), bodiless=True)

    def copy(self, source: Bucket, listed: Listed, patiently: Callable[[], str]) -> Sent[str]:
        """Let the server copy a small object of another of its buckets; the result is the copy's ETag, empty where nobody told.

        Args:
            source: a bucket of the same server.
            listed: the object there.
            patiently: the same, where the quick way does not come to its end.
        """
        sent: Sent[str] = Sent(self, _copied, patiently)
        return self._started(sent, self.bucket.copy_head(source, listed))

    def _started(
        self, sent: Sent[_Result], head: bytes, body: bytes = b"", *, bodiless: bool = False
    ) -> Sent[_Result]:
        sent.start(head, body, bodiless=bodiless)
        return sent

    def in_pool(self, work: Callable[[], _Result], *, large: bool = False) -> Sent[_Result]:
        """Do something that is not one small request; with a large object, beside few others."""
        sent = Sent(self, lambda _reply: None, work)
        sent.ask_patiently(self._large if large else None)
        return sent


def _version(reply: Reply) -> str:
    return reply.headers.get("x-amz-version-id", "")


def _looked(key: str, reply: Reply) -> Looked | None:
    there = reply.headers
    if not there.get("content-length", "").isdecimal() or "last-modified" not in there:
        return None
    return Looked(seen(key, there))


def _copied(reply: Reply) -> str | None:
    """A server may say that all is well and then in the content that it is not."""
    found = _COPIED.search(reply.content)
    return found[1].decode() if found else None
