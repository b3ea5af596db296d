"""Plain HTTP in front of a real API server, for what it cannot be asked for: throttling, lost answers, expired tokens, forgotten state.

Without a server behind it, it answers by its plan alone.
"""

from __future__ import annotations

import http.client
import json
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

DROP = "close the connection without an answer"
CUT = "send half of the answer's body"
_HOP = {"transfer-encoding", "connection", "content-length", "host"}


def status(code: int, reason: str, *, message: str = "", headers: dict[str, str] | None = None, **details):
    """An answer of the API server that says no."""
    body = {"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": message}
    return code, headers or {}, json.dumps({**body, "details": details}).encode()


def answer(body, **headers: str):
    """An answer that says yes."""
    return 200, headers, json.dumps(body).encode()


class ApiProxy:
    """Forwards requests; ``plan`` decides what is done otherwise.

    Args:
        server: the API server's URL; none for an API server that is the plan alone.
        ca_file: the authority that signed the API server's certificate.

    Attributes:
        plan: called with method, path (with its query) and headers; ``None`` forwards, ``DROP`` and ``CUT`` forward and break the
            answer, else (status, headers, body) is the answer.
        seen: method and path of each request.
        skew: seconds by which the server's clock seems to be ahead.
    """

    def __init__(self, server: str | None = None, ca_file: Path | None = None) -> None:
        self.plan = lambda _method, _path, _headers: None
        self.seen: list[tuple[str, str]] = []
        self.skew = 0.0
        self._server, self._ca = server, ca_file
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._http.shutdown()
        self._http.server_close()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def first(self, count: int, action, *, part: str = "") -> None:
        """Do ``action`` with the next ``count`` requests whose method and path have this part."""
        left, lock = [count], threading.Lock()

        def plan(method, path, _headers):
            with lock:
                if part not in f"{method} {path}" or left[0] <= 0:
                    return None
                left[0] -= 1
                return action

        self.plan = plan

    def kubeconfig(self, path: Path, user: dict[str, object]) -> Path:
        """A kubeconfig that goes through the proxy."""
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "proxied",
            "contexts": [{"name": "proxied", "context": {"cluster": "proxied", "user": "someone"}}],
            "clusters": [{"name": "proxied", "cluster": {"server": self.url}}],
            "users": [{"name": "someone", "user": user}],
        }
        path.write_text(json.dumps(document))
        return path

    def _forward(self, method, path, headers, body):
        parts = urlsplit(self._server)
        trust = ssl.create_default_context(cafile=self._ca)
        connection = http.client.HTTPSConnection(parts.hostname, parts.port, timeout=30, context=trust)
        try:
            connection.request(method, path, body, headers)
            got = connection.getresponse()
            kept = {name: value for name, value in got.getheaders() if name.lower() not in _HOP}
            return got.status, kept, got.read()
        finally:
            connection.close()

    def _handler(self):
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def date_time_string(self, timestamp=None):
                """The time that the answer tells."""
                return super().date_time_string((timestamp or time.time()) + proxy.skew)

            def log_message(self, *_):
                """Say nothing."""

            def _any(self):
                length = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(length) if length else None
                proxy.seen.append((self.command, self.path))
                action = proxy.plan(self.command, self.path, self.headers)
                if action == DROP:
                    self.close_connection = True
                    return
                sent = {name: value for name, value in self.headers.items() if name.lower() not in _HOP}
                try:
                    got = (
                        action
                        if isinstance(action, tuple)
                        else proxy._forward(self.command, self.path, sent, body)
                    )
                except OSError:
                    self.close_connection = True
                    return
                code, headers, content = got
                self.send_response(code)
                for name, value in headers.items():
                    if name.lower() != "date":
                        self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                if action == CUT:
                    self.wfile.write(content[: len(content) // 2])
                    self.close_connection = True
                    return
                self.wfile.write(content)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _any  # noqa: N815

        return Handler
