"""A proxy before a real S3 server, for what the server cannot be asked for: throttling, lost answers, cut and false bodies, silence, listings that lie.

It forwards every request as it is, so that signatures stay right, and counts them. A plan decides which of them go wrong, and how.
"""

from __future__ import annotations

import http.client
import io
import socket
import struct
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import urlsplit

CUT = "half of the body, then the connection is closed"
RESET = "half of the body, then the connection is reset"
SHORT = "half of the body, and its length says so"
FALSE = "one byte of the body is another"
FALSE_SENT = "one byte of what is sent to the server is another"
STALL = "half of the body, then silence"
DROP = "the server does what it was asked, and its answer is lost"
_SILENCE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Edit:
    """The server's answer, with another body.

    Attributes:
        change: makes the new body of the old one.
    """

    change: Callable[[bytes], bytes]


@dataclass(frozen=True, slots=True)
class Ask:
    """Another question is put to the server. Only a server that looks at no signature answers it.

    Attributes:
        path: with its query.
    """

    path: str


Action = str | Edit | Ask | tuple[int, bytes] | None
Plan = Callable[[str, str, Any], Action]


def error(status: int, code: str) -> tuple[int, bytes]:
    """An answer in S3's form."""
    return (
        status,
        f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>planned</Message></Error>'.encode(),
    )


class S3Proxy:
    """Forwards requests; ``plan`` decides what is done otherwise. Use as a context manager.

    Args:
        endpoint: the server's URL, without TLS.

    Attributes:
        plan: called with method, path and headers of each request. ``None`` forwards it; a status and a body (``error``) are answered
            without asking the server; the other actions are the constants of this module, and ``Edit``.
        seen: method, path and ``Host`` of each request.
    """

    def __init__(self, endpoint: str) -> None:
        self.plan: Plan = _forward
        self.seen: list[tuple[str, str, str]] = []
        self.server = urlsplit(endpoint).netloc
        self.closing = threading.Event()
        self._listener = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"proxy": self}))
        self._listener.daemon_threads = True
        self._thread = threading.Thread(target=self._listener.serve_forever, args=(0.05,), daemon=True)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._listener.server_address[1])

    @property
    def endpoint(self) -> str:
        """The URL to use instead of the server's."""
        return f"http://127.0.0.1:{self.port}"

    def times(self, count: int, action: Action, *, method: str, part: str = "") -> None:
        """Do ``action`` with the next ``count`` requests of a method whose path has ``part`` in it, and nothing with the others."""
        left = [count]
        lock = threading.Lock()

        def plan(used: str, path: str, _headers: Any) -> Action:
            with lock:
                if used != method or part not in path or left[0] <= 0:
                    return None
                left[0] -= 1
                return action

        self.plan = plan

    def calm(self) -> None:
        """From now on nothing goes wrong."""
        self.plan = _forward

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._listener.shutdown()
        self._listener.server_close()
        self._thread.join(10)


def _forward(_method: str, _path: str, _headers: Any) -> Action:
    return None


def _flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :] if content else content


class _Handler(BaseHTTPRequestHandler):
    """One connection to the proxy."""

    proxy: S3Proxy
    protocol_version = "HTTP/1.1"

    def handle_any(self) -> None:
        self.proxy.seen.append((self.command, self.path, self.headers["Host"]))
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        action = self.proxy.plan(self.command, self.path, self.headers)
        if isinstance(action, tuple):
            self.answer(action[0], {"ETag": '"planned"'}, action[1])
            return
        if isinstance(action, Ask):
            self.path = action.path
        status, headers, content = self.forward(_flipped(body) if action == FALSE_SENT else body)
        if action == DROP:
            self.end()
            return
        if isinstance(action, Edit):
            content = action.change(content)
        elif action == FALSE:
            content = _flipped(content)
        elif action == SHORT:
            content = content[: len(content) // 2]
        self.answer(status, headers, content, action)

    do_GET = do_POST = do_PUT = do_HEAD = do_DELETE = handle_any  # noqa: N815 -- names of the base class

    def forward(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(self.proxy.server, timeout=30)
        connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for key, value in self.headers.items():
            connection.putheader(key, value)
        connection.endheaders(body)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer.status, dict(answer.getheaders()), content

    def answer(self, status: int, headers: Mapping[str, str], content: bytes, action: Action = None) -> None:
        self.send_response_only(status)
        skipped = {"transfer-encoding", "connection", "content-length"}
        for key, value in headers.items():
            if key.lower() not in skipped:
                self.send_header(key, value)
        length = headers.get("Content-Length") if self.command == "HEAD" else None
        self.send_header("Content-Length", length or str(len(content)))
        self.end_headers()
        half = isinstance(action, str) and action in {CUT, RESET, STALL}
        if self.command != "HEAD":
            self.wfile.write(content[: len(content) // 2] if half else content)
        if half:
            self.wfile.flush()
            if action == STALL:
                self.proxy.closing.wait(_SILENCE_SECONDS)
            self.end(reset=action == RESET)

    def end(self, *, reset: bool = False) -> None:
        self.close_connection = True
        if reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            self.wfile = io.BytesIO()
        else:
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *_: Any) -> None:
        """Quiet."""
