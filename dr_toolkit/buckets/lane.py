"""Many small HTTP requests at once, in one thread: the quick way for requests that succeed at once.

A thread for each request costs more than the request: the threads of Python wait for each other at every call into the system. Here one
thread sends requests over many connections and reads whichever answer comes next. Only what is plain is understood: one whole answer
of a known length. For everything else (a cut connection, a silent server, a redirect of the protocol) an exchange ends without an answer, and
whoever asked asks again by the slow way, which knows about retries and errors.
"""

from __future__ import annotations

import selectors
import socket
import ssl
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from dr_toolkit import clock

_RECEIVE = 64 << 10
_HEAD_LIMIT = 64 << 10
_LOOK_SECONDS = 0.5
_CONNECT_SECONDS = 10.0
GOOD = frozenset({200, 204, 206})
"""Of an answer with any other status nobody hears."""
_BODILESS = frozenset({204, 304})
_BLOCKED = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer.

    Attributes:
        status: HTTP's.
        headers: names in lower case.
        content: the whole body, not decoded.
    """

    status: int
    headers: dict[str, str]
    content: bytearray | memoryview


@dataclass(slots=True, eq=False)
class Exchange:
    """One request and what came of it.

    Attributes:
        head: first line and headers.
        body: sent after it.
        most: bytes of content that are taken; a larger answer is none.
        into: where content of exactly this length is received; any other, and all without it, into memory of its own.
        bodiless: the answer has no content, whatever its headers say (HEAD).
        reply: the answer; None while there is none, and when no good one came.
        done: nothing more will happen.
        on_failure: called when no good answer came.
    """

    head: bytes
    body: bytes = b""
    most: int = _RECEIVE
    into: memoryview | None = None
    bodiless: bool = False
    reply: Reply | None = None
    done: bool = False
    on_failure: Callable[[], None] | None = field(default=None, repr=False)


@dataclass(slots=True, eq=False)
class _Connection:
    """A connection, and the exchange that it is busy with.

    Attributes:
        unsent: what of the request is not sent yet.
        received: the answer so far: its head at first, then only its content.
        filled: bytes of the content that are there.
        moved: when the last byte went either way.
    """

    link: socket.socket
    exchange: Exchange | None = None
    unsent: memoryview = field(default_factory=lambda: memoryview(b""))
    received: bytearray | memoryview = field(default_factory=bytearray)
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    filled: int = -1
    moved: float = 0.0
    writing: bool = False


class Lane:
    """Connections to one server. For one thread; use as a context manager.

    Args:
        endpoint: the server's URL.
        ca_file: certificates that are trusted besides the system's.
        connections: open at most.
        stall_seconds: how long the server may be silent.
    """

    def __init__(self, endpoint: str, *, ca_file: str | None, connections: int, stall_seconds: float) -> None:
        parts = urlsplit(endpoint)
        self._host = parts.hostname or ""
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        if self._tls is not None and ca_file:
            self._tls.load_verify_locations(ca_file)
        self._port = parts.port or (443 if self._tls else 80)
        self._limit = connections
        self._stall = stall_seconds
        self._selector = selectors.DefaultSelector()
        self._all: set[_Connection] = set()
        self._idle: list[_Connection] = []
        self._queue: deque[Exchange] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for connection in tuple(self._all):
            connection.exchange = None
            self._drop(connection)
        self._queue.clear()
        self._selector.close()

    def start(self, exchange: Exchange) -> None:
        """Send a request as soon as a connection is free."""
        self._queue.append(exchange)
        self._feed()

    def wait(self, exchange: Exchange) -> Reply | None:
        """Work until an exchange is done. None: no good answer came."""
        while not exchange.done:
            self.turn(_LOOK_SECONDS)
        return exchange.reply

    def turn(self, seconds: float = 0.0) -> None:
        """Move everything along that can be moved, waiting for at most so long that something can be."""
        ready = self._selector.select(seconds)
        for key, events in ready:
            connection: _Connection = key.data
            try:
                if events & selectors.EVENT_WRITE:
                    self._send(connection)
                if events & selectors.EVENT_READ:
                    self._receive(connection)
            except (OSError, ValueError):
                self._drop(connection)
        if not ready and seconds:
            self._end_stalled()
        self._feed()

    # -- connections ---------------------------------------------------------------------------------------------------

    def _feed(self) -> None:
        """Give waiting requests to free connections."""
        while self._queue and (self._idle or len(self._all) < self._limit):
            exchange = self._queue.popleft()
            try:
                connection = self._idle.pop() if self._idle else self._connect()
            except OSError:
                _end(exchange)
                continue
            connection.exchange = exchange
            connection.moved = clock.monotonic()
            connection.unsent = memoryview(exchange.head + exchange.body if exchange.body else exchange.head)
            try:
                self._send(connection)
            except OSError:
                self._drop(connection)

    def _connect(self) -> _Connection:
        link = socket.create_connection((self._host, self._port), min(_CONNECT_SECONDS, self._stall))
        try:
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is not None:
                link = self._tls.wrap_socket(link, server_hostname=self._host)
            link.settimeout(0.0)
        except BaseException:
            link.close()
            raise
        connection = _Connection(link)
        self._selector.register(link, selectors.EVENT_READ, connection)
        self._all.add(connection)
        return connection

    def _drop(self, connection: _Connection) -> None:
        """Close it; its exchange ends without an answer."""
        if connection not in self._all:
            return
        self._all.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        self._selector.unregister(connection.link)
        connection.link.close()
        exchange, connection.exchange = connection.exchange, None
        if exchange is not None:
            _end(exchange)

    def _end_stalled(self) -> None:
        oldest = clock.monotonic() - self._stall
        for connection in tuple(self._all):
            if connection.exchange is not None and connection.moved < oldest:
                self._drop(connection)

    # -- one request ---------------------------------------------------------------------------------------------------

    def _send(self, connection: _Connection) -> None:
        while connection.unsent:
            try:
                sent = connection.link.send(connection.unsent)
            except _BLOCKED:
                self._want_writing(connection, wanted=True)
                return
            connection.unsent = connection.unsent[sent:]
            connection.moved = clock.monotonic()
        self._want_writing(connection, wanted=False)

    def _want_writing(self, connection: _Connection, *, wanted: bool) -> None:
        if connection.writing != wanted:
            connection.writing = wanted
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if wanted else 0)
            self._selector.modify(connection.link, events, connection)

    def _receive(self, connection: _Connection) -> None:
        """Take what is there. TLS may hold more than the system shows, so read until nothing comes."""
        while True:
            try:
                if isinstance(connection.received, bytearray) and connection.filled < 0:
                    piece = connection.link.recv(_RECEIVE)
                    got = len(piece)
                    connection.received += piece
                else:
                    got = connection.link.recv_into(memoryview(connection.received)[connection.filled :])
                    connection.filled += got
            except _BLOCKED:
                return
            exchange = connection.exchange
            if not got or exchange is None:  # closed by the server, or it speaks unasked
                self._drop(connection)
                return
            if connection.filled < 0 and not _understood(connection, exchange):
                continue
            if connection.filled >= len(connection.received):
                self._finish(connection, exchange)
                return
            connection.moved = clock.monotonic()

    def _finish(self, connection: _Connection, exchange: Exchange) -> None:
        connection.exchange = None
        if connection.status in GOOD:
            exchange.reply = Reply(connection.status, connection.headers, connection.received)
            exchange.done, exchange.on_failure = True, None
        else:
            _end(exchange)
        connection.received, connection.filled = bytearray(), -1
        if connection.headers.get("connection", "").lower() == "close" or connection.unsent:
            self._drop(connection)
        else:
            self._idle.append(connection)


def _understood(connection: _Connection, exchange: Exchange) -> bool:
    """Whether the head is whole; then ``received`` becomes the content.

    Raises:
        ValueError: an answer that only the slow way understands.
    """
    received = bytes(connection.received)
    end = received.find(b"\r\n\r\n")
    if end < 0:
        if len(received) > _HEAD_LIMIT:
            raise ValueError("a head without an end")
        return False
    connection.status, connection.headers = parsed(received[:end])
    length = 0
    if not exchange.bodiless and connection.status not in _BODILESS:
        if "transfer-encoding" in connection.headers:
            raise ValueError("the length is not known")
        length = int(connection.headers["content-length"]) if "content-length" in connection.headers else -1
    there = len(received) - end - 4
    if not 0 <= there <= length <= exchange.most:
        raise ValueError("the length is not known, or too large, or more came")
    into = exchange.into
    content = bytearray(length) if into is None or len(into) != length else into
    content[:there] = received[end + 4 :]
    connection.received, connection.filled = content, there
    return True


def _end(exchange: Exchange) -> None:
    """Without an answer."""
    failed, exchange.on_failure = exchange.on_failure, None
    exchange.done = True
    if failed is not None:
        failed()


def parsed(head: bytes) -> tuple[int, dict[str, str]]:
    """Status and headers of an answer's head; of a name that comes several times, all values.

    Raises:
        ValueError: not plain HTTP/1.1.
    """
    first, *lines = head.decode("latin-1").split("\r\n")
    if not first.startswith("HTTP/1.1 ") or first.startswith("HTTP/1.1 1"):
        raise ValueError("not a final answer of HTTP/1.1")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or name[:1] in {" ", "\t"}:
            raise ValueError("not a header")
        name, value = name.lower(), value.strip()
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return int(first[9:12]), headers
