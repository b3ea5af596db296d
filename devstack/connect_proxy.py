"""A forward proxy as companies have them: ``CONNECT host:port``, then bytes in both directions; with a password where it is asked for one."""

from __future__ import annotations

import base64
import socket
import threading
from typing import Self

_LONGEST_HEAD = 16 << 10
_PIECE = 64 << 10


class ConnectProxy:
    """Tunnels TCP connections. Use as a context manager.

    Args:
        user: who may use it; empty for everybody.
        password: of the user.

    Attributes:
        seen: the targets of all tunnels that were asked for.
        refused: how many were refused, for want of the password.
    """

    def __init__(self, user: str = "", password: str = "") -> None:
        self.seen: list[str] = []
        self.refused = 0
        self._wanted = base64.b64encode(f"{user}:{password}".encode()).decode() if user else ""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)

    @property
    def address(self) -> str:
        """Where it listens."""
        host, port = self._listener.getsockname()
        return f"{host}:{port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for one in self._open:
            one.close()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(client)
            threading.Thread(target=self._tunnel, args=(client,), daemon=True).start()

    def _tunnel(self, client: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head and len(head) < _LONGEST_HEAD:
            piece = client.recv(_PIECE)
            if not piece:
                return
            head += piece
        first, *lines = head.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
        method, _, rest = first.partition(" ")
        target = rest.partition(" ")[0]
        self.seen.append(target)
        given = dict(
            line.lower().split(": ", 1)[:1] + line.split(": ", 1)[1:] for line in lines if ": " in line
        )
        if self._wanted and given.get("proxy-authorization") != f"Basic {self._wanted}":
            self.refused += 1
            client.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            client.close()
            return
        host, _, port = target.rpartition(":")
        if method != "CONNECT":
            client.sendall(b"HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n\r\n")
            client.close()
            return
        server = socket.create_connection((host, int(port)), timeout=10)
        server.settimeout(None)
        self._open.append(server)
        client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        threading.Thread(target=_copy, args=(server, client), daemon=True).start()
        _copy(client, server)


def _copy(source: socket.socket, target: socket.socket) -> None:
    """Copy until the end; the end is passed on."""
    try:
        while piece := source.recv(_PIECE):
            target.sendall(piece)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        return
