"""An object of 2 GB goes into the repository and back, and drctl's memory stays what it is: nothing of it is ever whole anywhere but in the packs."""

from __future__ import annotations

import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import parse_qs, urlsplit

from blake3 import blake3

from tests.bucket_site import DRCTL, Site
from tests.memory import peak

SIZE = 2_000_000_000
BLOCK = 1 << 20
MEMORY = 280_000_000


def block(number: int) -> bytes:
    """Content that differs from block to block, and takes little room when it is compressed."""
    return (b"%015d\n" % number) * (BLOCK // 16)


def content(start: int, length: int) -> bytes:
    first, last = start // BLOCK, (start + length - 1) // BLOCK
    pieces = b"".join(block(number) for number in range(first, last + 1))
    return pieces[start - first * BLOCK :][:length]


class PatternServer:
    """As much of an S3 server as one large object needs: it makes the content when it is read, and keeps a digest of what is written."""

    access_key, secret_key = "any", "any"

    def __init__(self) -> None:
        self.sizes: dict[int, int] = {}
        self.digests: dict[int, bytes] = {}
        self._listener = ThreadingHTTPServer(
            ("127.0.0.1", 0), type("Handler", (_Handler,), {"server_of": self})
        )
        self._listener.daemon_threads = True
        self._thread = threading.Thread(target=self._listener.serve_forever, args=(0.05,), daemon=True)
        self.endpoint = f"http://127.0.0.1:{self._listener.server_address[1]}"

    def client(self) -> None:
        """None is needed."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown()
        self._listener.server_close()
        self._thread.join(10)


class _Handler(BaseHTTPRequestHandler):
    server_of: PatternServer
    protocol_version = "HTTP/1.1"

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        place, query = urlsplit(self.path), parse_qs(urlsplit(self.path).query, keep_blank_values=True)
        if "versioning" in query:
            self.answer(200, b"<VersioningConfiguration/>")
        elif place.path in {"/pattern", "/pattern/"}:
            row = f'<Contents><Key>large</Key><LastModified>2026-11-24T12:00:00Z</LastModified><ETag>"{"e" * 32}-125"</ETag><Size>{SIZE}</Size></Contents>'
            page = f"<ListBucketResult>{row}<KeyCount>1</KeyCount><IsTruncated>false</IsTruncated></ListBucketResult>"
            self.answer(200, page.encode())
        elif place.path in {"/back", "/back/"}:
            self.answer(
                200,
                b"<ListBucketResult><KeyCount>0</KeyCount><IsTruncated>false</IsTruncated></ListBucketResult>",
            )
        else:
            start, end = map(int, re.findall(r"\d+", self.headers["Range"]))
            found = {"ETag": f'"{"e" * 32}-125"', "Last_Modified": "Tue, 24 Nov 2026 12:00:00 GMT"}
            self.answer(206, content(start, end - start + 1), **found)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if "uploads" in parse_qs(urlsplit(self.path).query, keep_blank_values=True):
            self.answer(
                200,
                b"<InitiateMultipartUploadResult><UploadId>one</UploadId></InitiateMultipartUploadResult>",
            )
        else:
            self.answer(
                200, b"<CompleteMultipartUploadResult><ETag>done</ETag></CompleteMultipartUploadResult>"
            )

    def do_PUT(self) -> None:
        number = int(parse_qs(urlsplit(self.path).query)["partNumber"][0])
        body = self.body()
        self.server_of.sizes[number] = len(body)
        self.server_of.digests[number] = blake3(body).digest()
        self.answer(200, ETag=f'"{number}"')

    def body(self) -> bytes:
        """As botocore sends it: with a length, or in chunks with a checksum behind them."""
        if self.headers.get("Transfer-Encoding", "") != "chunked" and "aws-chunked" not in self.headers.get(
            "Content-Encoding", ""
        ):
            return self.rfile.read(int(self.headers["Content-Length"]))
        pieces = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return b"".join(pieces)

    def log_message(self, *_arguments: object) -> None:
        """Nobody reads it."""


def run(site: Site, *arguments: str) -> int:
    """Run drctl; the largest memory that it had, in bytes."""
    return peak([DRCTL, "-c", site.config, *arguments], site.environment, site.root / "said")


def test_two_gigabytes_in_flat_memory(tmp_path):
    """A backup in ranges and a restore in parts: every part is what it was, and neither run takes more memory than one of small objects may."""
    with PatternServer() as server:
        site = Site(tmp_path, server, "pattern")
        used = [run(site, "backup"), run(site, "restore", "cortex", "--to", "s3://back", "--yes")]
        assert max(used) < MEMORY, used
    starts, position = {}, 0
    for number in sorted(server.sizes):
        starts[number] = position
        position += server.sizes[number]
    assert position == SIZE
    for number, start in starts.items():
        assert server.digests[number] == blake3(content(start, server.sizes[number])).digest()
