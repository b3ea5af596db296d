"""A real HTTP server that answers as Console and Gateway do, as well or as badly as a test wants."""

from __future__ import annotations

import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

from devstack.tls import Authority


class HealthServer:
    """Answers on loopback until the block ends.

    Args:
        authority: signs its certificate; None for plain HTTP.

    Attributes:
        status: of the answer about readiness.
        versions: the body of the answer about versions; None for a page that is not there.
        held: while it is cleared, no answer comes.
    """

    def __init__(self, authority: Authority | None = None) -> None:
        self.status, self.versions = 200, b'{"platform": "1.46.0", "gateway": "3.9.0"}'
        self.held = threading.Event()
        self.held.set()
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                owner.held.wait(30)
                about_versions = self.path.endswith("versions")
                body = owner.versions if about_versions else b"[]"
                self.send_response(404 if body is None else 200 if about_versions else owner.status)
                self.send_header("Content-Length", str(len(body or b"")))
                self.end_headers()
                self.wfile.write(body or b"")

            def log_message(self, *_arguments: object) -> None:
                """Keep quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.handle_error = lambda *_arguments: None  # a client that does not wait is no failure
        self._scheme = "http"
        if authority is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*authority.issue_server())
            # Not while accepting: a client that refuses the certificate must not end the server.
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
            self._scheme = "https"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"{self._scheme}://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.held.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=10)
