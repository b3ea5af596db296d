"""The tar stream of ``pg_basebackup``, read once and forwards."""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

from dr_toolkit.errors import SourceError
from dr_toolkit.repository.entries import PouringSink

BLOCK = 512
_READ = 1 << 20
_PADDING = bytes(BLOCK)


class Readable(Protocol):
    """``read(n)`` gives n bytes, fewer only at the end."""

    def read(self, size: int, /) -> bytes:
        """Read."""

    def readinto(self, buffer: memoryview, /) -> int:
        """The same, into memory that is there already; gives how many."""


@dataclass(frozen=True, slots=True)
class Member:
    """One file or directory of the cluster.

    Attributes:
        path: relative to the data directory, without a trailing slash; ``.`` is never given.
        kind: what it is.
        size: bytes of content.
        mode: permission bits.
    """

    path: str
    kind: Literal["file", "directory"]
    size: int
    mode: int


class TarStream:
    """Members of a tar stream, each with its content, in the order in which they come.

    Args:
        stream: what ``pg_basebackup`` writes.
        on_bytes: told the number of bytes after each read, for progress.
    """

    def __init__(self, stream: Readable, on_bytes: Callable[[int], None] | None = None) -> None:
        self._stream = stream
        self._on_bytes = on_bytes
        self._left = 0
        self._padding = 0

    def members(self) -> Iterator[Member]:
        """Each member; its content must be read before the next one is asked for, or it is skipped.

        Raises:
            SourceError: the stream ends early, or holds what a cluster cannot hold.
        """
        while True:
            for _piece in self.content():
                pass
            self._exactly(self._padding)
            header = self._exactly(BLOCK)
            if header == _PADDING:
                self._to_the_end()
                return
            member = _member(header)
            self._left, self._padding = member.size, -member.size % BLOCK
            if member.path != ".":
                yield member

    def content(self) -> Iterator[bytes]:
        """The present member's content, in pieces of at most 1 MiB."""
        while self._left:
            piece = self._exactly(min(self._left, _READ))
            self._left -= len(piece)
            yield piece

    def take(self, size: int) -> bytes:
        """The next bytes of the present member's content: as many as asked, fewer only at its end."""
        piece = self._exactly(min(self._left, size))
        self._left -= len(piece)
        return piece

    def pour(self, sink: PouringSink) -> Iterator[memoryview]:
        """Put the rest of the present member's content into a sink; gives each piece as it lies there, until the next is asked for."""
        while self._left:
            piece = sink.room()[: self._left]
            self._came(self._stream.readinto(piece), len(piece))
            self._left -= len(piece)
            yield piece
            sink.filled(len(piece))

    def _exactly(self, size: int) -> bytes:
        data = self._stream.read(size) if size else b""
        self._came(len(data), size)
        return data

    def _came(self, size: int, wanted: int) -> None:
        if self._on_bytes is not None and size:
            self._on_bytes(size)
        if size != wanted:
            raise SourceError(
                "pg_basebackup's stream ended before the end of the backup",
                hint="look at the server's log, then run the backup again",
                unaffected="no snapshot was made",
            )

    def _to_the_end(self) -> None:
        """After the first empty block only empty ones may come."""
        while data := self._stream.read(_READ):
            if data.strip(b"\0"):
                raise SourceError(
                    "pg_basebackup wrote something after the end of its archive",
                    hint="a server with tablespaces cannot be backed up to standard output",
                    unaffected="no snapshot was made",
                )


def _member(header: bytes) -> Member:
    try:
        found = tarfile.TarInfo.frombuf(header, "utf-8", "strict")
    except (tarfile.HeaderError, UnicodeDecodeError) as error:
        raise SourceError(
            f"pg_basebackup's stream cannot be understood: {error}", unaffected="no snapshot was made"
        ) from error
    path = found.name.removeprefix("./").rstrip("/") or "."
    if found.isdir():
        return Member(path, "directory", 0, found.mode & 0o7777)
    if found.isreg():
        return Member(path, "file", found.size, found.mode & 0o7777)
    raise SourceError(
        f'"{path}" in the data directory is a link',
        on=path,
        hint="tablespaces are not supported yet: back this server up with postgres-dump",
        unaffected="no snapshot was made",
    )
