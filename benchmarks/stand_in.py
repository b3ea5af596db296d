"""A stand-in for an S3 server with any number of small objects, for the memory and processor time of drctl alone: it keeps nothing, and answers at once.

Filling a real server with 300,000 objects takes longer than everything that is to be measured.
"""

from __future__ import annotations

import asyncio
import hashlib
import multiprocessing
import re
from multiprocessing.connection import Connection
from typing import Self
from urllib.parse import parse_qs, urlsplit

PAGE = 1000
SIZE = 4096
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_NUMBER = re.compile(r"/(\d{8})\.bin")


class StandIn:
    """The server, in a process of its own: buckets called ``objects-N`` have so many, all others are empty and take everything. A context manager."""

    access_key, secret_key, region = "any", "any", "us-east-1"

    def __init__(self) -> None:
        self._ours, theirs = multiprocessing.Pipe()
        self._process = multiprocessing.Process(target=_serve, args=(theirs,), daemon=True)
        self.endpoint = ""

    @property
    def pid(self) -> int | None:
        """The process's id."""
        return self._process.pid

    def __enter__(self) -> Self:
        self._process.start()
        self.endpoint = f"http://127.0.0.1:{self._ours.recv()}"
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.join()


def _serve(ready: Connection) -> None:
    async def main() -> None:
        server = await asyncio.get_running_loop().create_server(_Client, "127.0.0.1", 0)
        ready.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(main())


class _Client(asyncio.Protocol):
    """One connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # for the type checker
        self._transport = transport
        self._data = b""

    def data_received(self, data: bytes) -> None:
        self._data += data
        while (end := self._data.find(b"\r\n\r\n")) >= 0:
            head = self._data[:end]
            found = _LENGTH.search(head)
            whole = end + 4 + (int(found[1]) if found else 0)
            if len(self._data) < whole:
                return
            self._data = self._data[whole:]
            method, target, _version = head[: head.index(b"\r\n")].decode().split(" ")
            self._transport.write(_answer(method, target))


def _answer(method: str, target: str) -> bytes:
    parts = urlsplit(target)
    bucket, key = parts.path.lstrip("/").partition("/")[::2]
    if method == "PUT":
        return b'HTTP/1.1 200 OK\r\nETag: "put"\r\nContent-Length: 0\r\n\r\n'
    if key:
        number = _NUMBER.search(target)
        content = hashlib.shake_128((number[1] if number else "").encode()).digest(SIZE)  # does not compress
        return (
            b'HTTP/1.1 200 OK\r\nETag: "e-1"\r\nContent-Type: application/octet-stream\r\n'
            b"Last-Modified: Tue, 24 Nov 2026 12:00:00 GMT\r\nContent-Length: 4096\r\n\r\n" + content
        )
    query = parse_qs(parts.query, keep_blank_values=True)
    page = b"<VersioningConfiguration/>" if "versioning" in query else _page(bucket, query)
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(page) + page


def _page(bucket: str, query: dict[str, list[str]]) -> bytes:
    count = int(bucket.removeprefix("objects-")) if bucket.startswith("objects-") else 0
    start = int(query.get("continuation-token", ["0"])[0])
    end = min(count, start + PAGE)
    rows = "".join(
        f"<Contents><Key>blocks/{number // 100:06}/{number:08}.bin</Key><LastModified>2026-11-24T12:00:00Z</LastModified>"
        f"<ETag>&quot;e-1&quot;</ETag><Size>{SIZE}</Size><StorageClass>STANDARD</StorageClass></Contents>"
        for number in range(start, end)
    )
    more = end < count
    token = f"<NextContinuationToken>{end}</NextContinuationToken>" if more else ""
    return (
        f"<ListBucketResult><IsTruncated>{'true' if more else 'false'}</IsTruncated><EncodingType>url</EncodingType>"
        f"{token}<KeyCount>{end - start}</KeyCount>{rows}</ListBucketResult>"
    ).encode()
