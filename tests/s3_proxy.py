"""A proxy before a real S3 server, for what the server cannot be asked for: lost answers, throttling, cut bodies."""

from __future__ import annotations

import http.client
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

CUT = "cut the body"
DROP = "drop the answer"


def error(status: int, code: str) -> tuple[int, bytes]:
    """An answer in S3's form."""
    return (
        status,
        f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>planned</Message></Error>'.encode(),
    )


class S3Proxy:
    """Forwards requests; ``plan`` decides what is done otherwise.

    Attributes:
        plan: called with method, path and headers of each request; ``None`` forwards it, ``DROP`` forwards it and
            closes the connection without an answer, ``CUT`` sends half of the answer's body, a status and body
            (``error``) is sent instead of asking the server.
        seen: method, path and ``Host`` of each request.
    """

    def __init__(self, endpoint: str) -> None:
        self.plan = lambda _method, _path, _headers: None
        self.seen: list[tuple[str, str, str]] = []
        self._target = urlsplit(endpoint).netloc
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._server.server_address[1]

    @property
    def endpoint(self) -> str:
        """The URL to use instead of the server's."""
        return f"http://127.0.0.1:{self.port}"

    def times(self, count: int, action, *, method: str) -> None:
        """Do ``action`` with the next ``count`` requests of a method."""
        left = [count]
        lock = threading.Lock()

        def plan(used, _path, _headers):
            with lock:
                if used != method or left[0] <= 0:
                    return None
                left[0] -= 1
                return action

        self.plan = plan

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    def _handler(self):
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self):
                proxy.seen.append((self.command, self.path, self.headers["Host"]))
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                action = proxy.plan(self.command, self.path, self.headers)
                if isinstance(action, tuple):
                    self.answer(action[0], {"ETag": '"planned"'}, action[1])
                    return
                status, headers, content = self.forward(body)
                if action == DROP:
                    self.close_connection = True
                    self.connection.shutdown(2)
                    return
                self.answer(status, headers, content, cut=action == CUT)

            do_GET = do_POST = do_PUT = do_HEAD = do_DELETE = handle_any  # noqa: N815 -- names of the base class

            def forward(self, body):
                connection = http.client.HTTPConnection(proxy._target, timeout=30)
                connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                for key, value in self.headers.items():
                    connection.putheader(key, value)
                connection.endheaders(body)
                answer = connection.getresponse()
                content = answer.read()
                connection.close()
                return answer.status, dict(answer.getheaders()), content

            def answer(self, status, headers, content, cut=False):
                self.send_response_only(status)
                skipped = {"transfer-encoding", "connection", "content-length"}
                for key, value in headers.items():
                    if key.lower() not in skipped:
                        self.send_header(key, value)
                length = headers.get("Content-Length") if self.command == "HEAD" else None
                self.send_header("Content-Length", length or str(len(content)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(content[: len(content) // 2] if cut else content)
                if cut:
                    self.wfile.flush()
                    self.close_connection = True
                    self.connection.shutdown(2)

            def log_message(self, *_):
                """Quiet."""

        return Handler
