"""One HTTP request to a server on loopback. Not urllib's opener, which would go through the proxies of the machine."""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit


def request(
    url: str,
    *,
    method: str = "GET",
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    ca_file: Path | None = None,
    timeout: float = 10,
) -> tuple[int, bytes]:
    """Send one request on a connection of its own.

    Args:
        url: where.
        method: the HTTP method.
        body: what to send.
        headers: more headers.
        ca_file: the authority to trust, for HTTPS.
        timeout: seconds for each step.

    Returns:
        The status and the answer's body.

    Raises:
        OSError: the server cannot be reached.
        http.client.HTTPException: it does not speak HTTP.
    """
    parts = urlsplit(url)
    host, port = parts.hostname or "127.0.0.1", parts.port
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        trust = ssl.create_default_context(cafile=ca_file)
        connection = http.client.HTTPSConnection(host, port, timeout=timeout, context=trust)
    else:
        connection = http.client.HTTPConnection(host, port, timeout=timeout)
    try:
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request(method, target, body, dict(headers or {}))
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()
