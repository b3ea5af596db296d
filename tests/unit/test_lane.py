"""The quick way for requests: it gives whole good answers, and nothing at all in place of every other."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import Self

import pytest

from dr_toolkit.buckets.lane import Exchange, Lane, parsed

GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nETag: e\r\n\r\nhello"
ASKED = b"GET /k HTTP/1.1\r\n\r\n"


class Server:
    """Answers each request with the next of some bytes; None closes the connection."""

    def __init__(self, *answers: bytes | None) -> None:
        self.connections = 0
        self._answers = list(answers)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while self._answers:
            link, _address = self._listener.accept()
            self.connections += 1
            with link, suppress(ConnectionError):
                while link.recv(65536):
                    answer = self._answers.pop(0) if self._answers else None
                    if answer is None:
                        break
                    link.sendall(answer)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        self._thread.join(5)


def lane(server: Server, stall: float = 5.0) -> Lane:
    return Lane(server.endpoint, ca_file=None, connections=1, stall_seconds=stall)


def test_answers_come_over_one_connection():
    """A connection is used again; names of headers are in lower case."""
    with Server(GOOD, GOOD) as server, lane(server) as quick:
        for _ in range(2):
            exchange = Exchange(ASKED)
            quick.start(exchange)
            reply = quick.wait(exchange)
            assert reply is not None
            assert (reply.status, reply.headers["etag"], bytes(reply.content)) == (200, "e", b"hello")
        assert server.connections == 1


def test_content_is_received_where_it_is_wanted():
    """Memory that is used again takes content of exactly its length; other content comes into memory of its own."""
    with Server(GOOD, GOOD) as server, lane(server) as quick:
        for length in (5, 6):
            memory = bytearray(length)
            exchange = Exchange(ASKED, into=memoryview(memory))
            quick.start(exchange)
            reply = quick.wait(exchange)
            assert reply is not None
            assert bytes(reply.content) == b"hello"
            assert bytes(memory) == (b"hello" if length == 5 else bytes(6))


@pytest.mark.parametrize(
    "answer",
    [
        None,
        b"",
        GOOD[:-2],
        GOOD + b"more",
        GOOD.replace(b"200 OK", b"503 Slow Down"),
        GOOD.replace(b"Content-Length: 5", b"Transfer-Encoding: chunked"),
        GOOD.replace(b"Content-Length: 5", b"Content-Length: 5000000"),
        GOOD.replace(b"Content-Length: 5\r\n", b""),
        GOOD.replace(b"HTTP/1.1", b"HTTP/1.0"),
        GOOD.replace(b"ETag: e", b"no header"),
    ],
    ids=["closed", "silent", "short", "long", "throttled", "chunked", "huge", "no-length", "old", "not-http"],
)
def test_whatever_else_comes_is_no_answer(answer):
    """The exchange ends without an answer, and whoever asked is told once."""
    told: list[bool] = []
    with Server(answer) as server, lane(server, stall=0.2) as quick:
        exchange = Exchange(ASKED, most=100, on_failure=lambda: told.append(True))
        quick.start(exchange)
        assert quick.wait(exchange) is None
    assert told == [True]


def test_a_server_that_is_away_is_no_answer():
    """A refused connection ends the exchange like everything else."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        endpoint = f"http://127.0.0.1:{taken.getsockname()[1]}"
    with Lane(endpoint, ca_file=None, connections=1, stall_seconds=1.0) as quick:
        exchange = Exchange(ASKED)
        quick.start(exchange)
        assert quick.wait(exchange) is None


def test_a_header_that_comes_twice_has_both_values():
    """As every other client of HTTP reads it."""
    assert parsed(b"HTTP/1.1 200 OK\r\nA: 1\r\na: 2") == (200, {"a": "1, 2"})
