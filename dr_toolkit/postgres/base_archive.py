"""A snapshot's cluster as a plain tar, for a pipe: what ``pg_basebackup -D - -Ft`` would have written then."""

from __future__ import annotations

import tarfile
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime
from typing import Protocol

from dr_toolkit.errors import Damaged
from dr_toolkit.log import Progress
from dr_toolkit.postgres.base_backup import MANIFEST
from dr_toolkit.postgres.base_files import LAST, LEFT_OUT, THREADS, mode_of, place_of
from dr_toolkit.postgres.base_overlay import FILES
from dr_toolkit.postgres.base_sums import Checksums
from dr_toolkit.repository.entries import EntryInfo, EntrySource

INCOMPLETE = "INCOMPLETE"
"""Begins, and never ends, a stream that failed between two files: GNU tar says nothing of a stream that just stops there."""
_SMALL = 1 << 20
_AHEAD = 32
_USER = "postgres"
_BLOCK = tarfile.BLOCKSIZE
_END = bytes(2 * _BLOCK)


class Writable(Protocol):
    """Where the stream goes. It may gather what it is given until ``flush``."""

    def write(self, data: bytes, /) -> object:
        """Take all of it."""

    def flush(self) -> object:
        """Hand it on."""


def write_archive(source: EntrySource, out: Writable, moment: datetime, progress: Progress) -> int:
    """Write the cluster: sorted, ``global/pg_control`` and then the manifest last, so that nothing starts on a part of it.

    Each piece was held against its chunk id before it is written. The end-of-archive marker is written when all is well, and at no
    other time.

    Args:
        source: the snapshot.
        out: takes the stream.
        moment: of the snapshot, as the time of every file.
        progress: told of each file.

    Returns:
        How many files there are.

    Raises:
        Damaged: an entry has an impossible path, or does not open.
    """
    archive = _Archive(out, int(moment.timestamp()))
    sums = Checksums(b"".join(source.read(MANIFEST)))
    try:
        for info, content in _contents(source):
            if info.kind == "directory":
                archive.directory(str(place_of(info)), mode_of(info))
                continue
            path = str(place_of(info))
            archive.begin(path, info.size, mode_of(info))
            for piece in sums.through(path, content):
                archive.content(piece)
                progress.advance(len(piece))
            archive.end()
            progress.advance(0, 1)
        manifest = sums.manifest()
        archive.begin(MANIFEST, len(manifest), 0o600)
        archive.content(manifest)
        archive.end()
    except BaseException:
        archive.break_off()
        raise
    out.write(_END)
    out.flush()
    return archive.files - 1


class _Archive:
    """Members one after the other."""

    def __init__(self, out: Writable, moment: int) -> None:
        self._out = out
        self._moment = moment
        self._left: int | None = None
        self._size = 0
        self._broken = False
        self.files = 0

    def directory(self, path: str, mode: int) -> None:
        self._write(self._header(path, 0, mode, tarfile.DIRTYPE))

    def begin(self, path: str, size: int, mode: int) -> None:
        self._write(self._header(path, size, mode, tarfile.REGTYPE))
        self._left = self._size = size

    def content(self, piece: bytes) -> None:
        assert self._left is not None  # noqa: S101 - for the type checker
        if len(piece) > self._left:
            raise Damaged("an entry is longer than the catalog says", fault="structure")
        self._left -= len(piece)
        self._write(piece)

    def end(self) -> None:
        if self._left:
            raise Damaged("an entry is shorter than the catalog says", fault="structure")
        self._write(bytes(-self._size % _BLOCK))
        self._left = None
        self.files += 1

    def break_off(self) -> None:
        """Leave the stream in the middle of a file, so that every reader of tars complains."""
        if self._broken:
            return
        try:
            if not self._left:
                self._out.write(bytes(-self._size % _BLOCK) if self._left is not None else b"")
                self._out.write(self._header(INCOMPLETE, _BLOCK, 0o600, tarfile.REGTYPE))
            self._out.flush()
        except OSError:
            return  # whoever read it is gone, and that is being told

    def _header(self, path: str, size: int, mode: int, kind: bytes) -> bytes:
        info = tarfile.TarInfo(path)
        info.size, info.mode, info.type, info.mtime = size, mode, kind, self._moment
        info.uname = info.gname = _USER
        return info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")

    def _write(self, data: bytes) -> None:
        try:
            self._out.write(data)
        except BaseException:
            self._broken = True  # it may have taken a part
            raise


def _contents(source: EntrySource) -> Iterator[tuple[EntryInfo, Iterator[bytes]]]:
    """Entries in order, the control file last. Small files are fetched some ahead of their turn; a large one fetches ahead itself."""
    last: EntryInfo | None = None
    waiting: deque[tuple[EntryInfo, Future[list[bytes]] | None]] = deque()
    with ThreadPoolExecutor(THREADS, thread_name_prefix="drctl-file") as pool:
        try:
            for info in source.entries(FILES):
                if info.path in LEFT_OUT:
                    continue
                if info.path == LAST:
                    last = info
                    continue
                small = info.kind != "directory" and info.size <= _SMALL
                waiting.append((info, pool.submit(_whole, source, info.path) if small else None))
                if len(waiting) > _AHEAD:
                    yield _turn(source, *waiting.popleft())
            while waiting:
                yield _turn(source, *waiting.popleft())
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    if last is None:
        raise Damaged("the snapshot has no control file", fault="structure", on=LAST)
    yield last, source.read(last.path)


def _turn(
    source: EntrySource, info: EntryInfo, fetched: Future[list[bytes]] | None
) -> tuple[EntryInfo, Iterator[bytes]]:
    if info.kind == "directory":
        return info, iter(())
    return info, iter(fetched.result()) if fetched is not None else source.read(info.path)


def _whole(source: EntrySource, path: str) -> list[bytes]:
    return list(source.read(path))
