"""How much room a server's disk has, where the server runs on this machine. Nobody can ask a server for that by SQL."""

from __future__ import annotations

import os
import struct
from pathlib import Path

from dr_toolkit.errors import DrctlError
from dr_toolkit.postgres import server
from dr_toolkit.postgres.connection import ConnectionSettings

_CONTROL_FILE = Path("global/pg_control")
_SYSTEM_IDENTIFIER = struct.Struct("=Q")
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


def data_directory(connection: server.Connection, settings: ConnectionSettings) -> Path | None:
    """The server's own data directory; None unless it can be seen from here, and the role may ask for it."""
    local = all(host.startswith("/") or host in _LOOPBACK for host, _ in settings.hosts)
    try:
        [(directory,)] = server.query(connection, "SELECT current_setting('data_directory')")
        [(identifier,)] = server.query(connection, "SELECT system_identifier FROM pg_control_system()")
    except DrctlError:  # an ordinary role may not ask
        return None
    found = Path(directory)
    return found if local and _is_server_directory(found, int(identifier)) else None


def free_bytes(directory: Path) -> int | None:
    """Free space of the disk that a directory is on; None where that is not to be had."""
    try:
        found = os.statvfs(directory)
    except OSError:
        return None
    return found.f_bavail * found.f_frsize


def _is_server_directory(directory: Path, identifier: int) -> bool:
    """Whether this is that server's own directory: a port may be forwarded to a machine with equal paths."""
    try:
        with (directory / _CONTROL_FILE).open("rb") as file:
            head = file.read(_SYSTEM_IDENTIFIER.size)
    except OSError:
        return False
    return len(head) == _SYSTEM_IDENTIFIER.size and _SYSTEM_IDENTIFIER.unpack(head)[0] == identifier % (
        1 << 64
    )
