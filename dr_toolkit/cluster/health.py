"""What an application of the platform says about itself: whether it is ready, and which version it is."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import urllib3
from urllib3 import exceptions
from urllib3.exceptions import HTTPError

_OK = 200
TIMEOUT_S = 5.0
_LIMIT = 64 << 10

ENDPOINTS = {
    "console": ("/api/health/ready", "/api/versions", "platform"),
    "gateway": ("/health/ready", "/versions", "gateway"),
}
"""By kind of application: where readiness and versions are asked for, and the key of its own version."""


@dataclass(frozen=True, slots=True)
class Health:
    """What came back.

    Attributes:
        ready: whether it says that it is ready.
        version: its own version; empty where it did not say.
        text: in words.
    """

    ready: bool
    version: str
    text: str


def ask(kind: str, url: str, ca_file: str | None = None, *, timeout_s: float = TIMEOUT_S) -> Health:
    """Ask once; whatever goes wrong is an answer, too.

    Args:
        kind: of application: ``console`` or ``gateway``.
        url: where its endpoints are.
        ca_file: certificates that are trusted instead of the system's.
        timeout_s: for each of the two questions.
    """
    ready_path, versions_path, key = ENDPOINTS[kind]
    base = url.rstrip("/")
    options = {"ca_certs": ca_file} if ca_file else {}
    with urllib3.PoolManager(retries=False, timeout=urllib3.Timeout(total=timeout_s), **options) as pool:  # type: ignore[arg-type]
        try:
            status, _body = _get(pool, base + ready_path)
        except (HTTPError, OSError) as error:
            return Health(
                ready=False, version="", text=f"{base} does not answer: {_reason(error, timeout_s)}"
            )
        try:
            version = _version(pool, base + versions_path, key)
        except (HTTPError, OSError):
            version = ""
    if status != _OK:
        return Health(ready=False, version=version, text=f"{base}{ready_path} answers {status}")
    shown = f", version {version}" if version else ""
    return Health(ready=True, version=version, text=f"{base}{ready_path} answers {status}{shown}")


def _reason(error: Exception, timeout_s: float) -> str:
    """Why, in words that say what to look at."""
    if isinstance(error, exceptions.SSLError):
        cause = error.args[0] if error.args else error
        said = getattr(cause, "verify_message", "") or getattr(cause, "reason", "") or "TLS failed"
        return f'its certificate or TLS is refused ({said}); "ca_file" names who is trusted'
    if isinstance(error, exceptions.NewConnectionError):  # it counts among the time-outs, too
        return "the connection is refused, or there is no such host"
    if isinstance(error, exceptions.TimeoutError):
        return f"nothing came within {timeout_s:g} s"
    return type(error).__name__


def _version(pool: urllib3.PoolManager, url: str, key: str) -> str:
    status, body = _get(pool, url)
    if status != _OK:
        return ""
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""
    found = value.get(key) if isinstance(value, dict) else None
    return found if isinstance(found, str) else ""


def _get(pool: urllib3.PoolManager, url: str) -> tuple[int, bytes]:
    answer = pool.request("GET", url, preload_content=False, redirect=False)
    try:
        return answer.status, answer.read(_LIMIT)
    finally:
        answer.close()
