"""The node's server of logs, which the API server asks when somebody reads ``pods/NAME/log``."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from devstack.kubelet_container import Container
from devstack.kubelet_pod import HOST, PodRunner

PARTS = 4


class LogServer:
    """HTTPS with a client certificate, as a real node wants it.

    Args:
        settings: port, certificate, key and the authority of clients.
        find: the Pod of a namespace and a name.
    """

    def __init__(self, settings: Mapping[str, Any], find: Callable[[str, str], PodRunner | None]) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                _serve(self, find)

            def log_message(self, *_: object) -> None:
                pass

        trust = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        trust.load_cert_chain(settings["certificate"], settings["key"])
        trust.load_verify_locations(settings["ca_file"])
        trust.verify_mode = ssl.CERT_REQUIRED
        self._server = ThreadingHTTPServer((HOST, settings["port"]), Handler)
        self._server.daemon_threads = True
        self._server.socket = trust.wrap_socket(self._server.socket, server_side=True)

    def start(self) -> None:
        """Serve in the background."""
        threading.Thread(target=self._server.serve_forever, daemon=True).start()


def _serve(request: BaseHTTPRequestHandler, find: Callable[[str, str], PodRunner | None]) -> None:
    parts = urlsplit(request.path)
    words = parts.path.strip("/").split("/")
    options = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    runner = find(words[1], words[2]) if len(words) == PARTS and words[0] == "containerLogs" else None
    container = runner.container(words[3]) if runner else None
    log = container.log_file(previous=options.get("previous") == "true") if container else None
    if container is None or log is None or not log.exists():
        request.send_error(404)
        return
    request.send_response(200)
    request.send_header("Content-Type", "text/plain")
    request.end_headers()
    with log.open("rb") as file:
        whole = file.read()
        if "tailLines" in options:
            lines = whole.splitlines(keepends=True)
            whole = b"".join(lines[len(lines) - min(len(lines), int(options["tailLines"])) :])
        request.wfile.write(whole[: int(options["limitBytes"])] if "limitBytes" in options else whole)
        if options.get("follow") == "true":
            _follow(request, file, container)


def _follow(request: BaseHTTPRequestHandler, file: Any, container: Container) -> None:
    while True:
        running = container.running
        piece = file.read()
        if piece:
            request.wfile.write(piece)
            request.wfile.flush()
        elif not running:
            return
        else:
            time.sleep(0.05)
