"""Write one file whose parts come from several threads in any order: through the page cache, or past it."""

from __future__ import annotations

import errno
import mmap
import os
import threading
from collections.abc import Iterable
from pathlib import Path

ALIGNMENT = 4096
DIRECT_LEAST = 1 << 20
"""Smaller files go through the page cache."""
_BUFFER = 4 << 20
_NO_DIRECT = {errno.EINVAL, errno.EOPNOTSUPP}


class _OfThread(threading.local):
    """Memory that begins where a page does, as writing past the page cache wants it.

    Content comes into it while the processor still has it at hand: a chunk is opened, counted and copied before the next one is.
    """

    def __init__(self) -> None:
        self.buffer = mmap.mmap(-1, _BUFFER)


_of_thread = _OfThread()


class FileParts:
    """A new file. ``write`` may be called from several threads.

    Past the page cache a restore of much data costs a third of the system's time, and evicts nothing. What is read again at once is
    better written through it.

    Args:
        path: of the file; an old one is overwritten.
        size: that it will have.
        direct: write past the page cache what can be, where the file system does so.
    """

    def __init__(self, path: Path, size: int, *, direct: bool) -> None:
        self._size = size
        self._path = path
        self._descriptor = os.open(
            path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
        )
        self._lock = threading.Lock()
        self._direct: int | None = None
        if direct and size >= DIRECT_LEAST:
            os.ftruncate(self._descriptor, size)
            self._direct = _open_direct(path)

    def write(self, offset: int, pieces: Iterable[bytes]) -> int:
        """Write a part; gives its size. Each piece is taken over before the next one is asked for."""
        buffer, used, at = _of_thread.buffer, 0, offset
        for piece in pieces:
            rest = memoryview(piece)
            while rest:
                part = rest[: _BUFFER - used]
                buffer[used : used + len(part)] = part
                used, rest = used + len(part), rest[len(part) :]
                if used == _BUFFER:
                    at += self._put(buffer, used, at)
                    used = 0
        return at + self._put(buffer, used, at) - offset

    def finish(self, mode: int) -> None:
        """All parts are written."""
        if self._direct is not None:
            os.ftruncate(self._descriptor, self._size)
        os.fchmod(self._descriptor, mode)

    def close(self) -> None:
        """Close it; idempotent."""
        for descriptor in (self._descriptor, self._direct):
            if descriptor is not None and descriptor >= 0:
                os.close(descriptor)
        self._descriptor, self._direct = -1, None

    def _put(self, buffer: mmap.mmap, size: int, offset: int) -> int:
        """Write the first bytes of the buffer. Past the page cache the last block of a file is filled up, and cut off at the end."""
        whole = -(-size // ALIGNMENT) * ALIGNMENT
        fits = offset % ALIGNMENT == 0 and (size == whole or offset + size == self._size)
        if self._direct is not None and fits:
            try:
                _write_whole(self._direct, buffer, whole, offset)
            except OSError as error:
                if error.errno not in _NO_DIRECT:
                    raise
            else:
                return size
        # The kernel's own lock of a file spins: four writers of one took three times the CPU.
        with self._lock:
            _write_whole(self._descriptor, buffer, size, offset)
        return size


def _open_direct(path: Path) -> int | None:
    flag = getattr(os, "O_DIRECT", 0)
    if not flag:
        return None
    try:
        return os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC | flag)
    except OSError as error:
        if error.errno in _NO_DIRECT:
            return None
        raise


def _write_whole(descriptor: int, buffer: mmap.mmap, size: int, offset: int) -> None:
    with memoryview(buffer) as view:
        done = 0
        while done < size:
            with view[done:size] as rest:
                done += os.pwrite(descriptor, rest, offset + done)
