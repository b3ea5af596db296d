"""From a repository's URL to a store."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from dr_toolkit.errors import ConfigError
from dr_toolkit.repository.s3_settings import S3Settings
from dr_toolkit.repository.store import is_name

if TYPE_CHECKING:
    from dr_toolkit.repository.store import Store

_EXAMPLES = 'write it like "s3://bucket/prefix" or "file:///var/lib/drctl"'


def open_store(
    url: str, s3: S3Settings | None = None, *, create: bool = False, retry_seconds: float = 60.0
) -> Store:
    """Open the storage of a repository.

    Args:
        url: ``s3://bucket/prefix`` or ``file:///path``.
        s3: how to reach the server, for ``s3://``.
        create: make a missing directory; for ``init`` only. A bucket is never made.
        retry_seconds: how long a request to S3 is tried again.

    Raises:
        ConfigError: the URL or the settings are impossible.
        StoreUnreachable: the directory is not there, or there are no credentials.
    """
    parts = urlsplit(url)
    if parts.query or parts.fragment or parts.password:
        raise ConfigError("the repository's URL has a query, a fragment or a password", hint=_EXAMPLES)
    if parts.scheme == "file":
        from dr_toolkit.repository.file_store import FileStore  # noqa: PLC0415 -- only what is needed

        return FileStore(_directory(parts.netloc, unquote(parts.path), url), create=create)
    if parts.scheme == "s3":
        from dr_toolkit.repository.s3_store import S3Store  # noqa: PLC0415 -- only what is needed

        prefix = parts.path.strip("/")
        if not parts.netloc or (prefix and not is_name(prefix)):
            raise ConfigError(f'"{url}" does not name a bucket and a plain prefix', hint=_EXAMPLES)
        return S3Store(parts.netloc, prefix, s3 or S3Settings(), retry_seconds=retry_seconds)
    raise ConfigError(f'"{url}" is not the URL of a repository', hint=_EXAMPLES)


def _directory(host: str, path: str, url: str) -> str:
    """The path of a ``file:`` URL."""
    if host not in {"", "localhost"} or not path.startswith("/") or PurePosixPath(path) == PurePosixPath("/"):
        raise ConfigError(f'"{url}" does not name a directory of this machine', hint=_EXAMPLES)
    return path
