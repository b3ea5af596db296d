"""A program's pipes: large, read in large pieces, closed without complaint."""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import sys
import termios
from array import array
from typing import IO, TYPE_CHECKING, BinaryIO, cast

from dr_toolkit import clock

if TYPE_CHECKING:
    from typing_extensions import Buffer

BUFFER_BYTES = 256 << 10
_PIPE_BYTES = 1 << 20
_WORTH_READING = 256 << 10
_MOMENT_S = 0.002
_SHORTEST_S = 0.000_1


def enlarge(stream: IO[bytes] | None) -> None:
    """A pipe of 1 MiB instead of 64 KiB means fewer switches between the program and us."""
    if stream is not None and sys.platform == "linux":
        with contextlib.suppress(OSError):  # over the machine's limit for one user: slower, not wrong
            fcntl.fcntl(stream.fileno(), fcntl.F_SETPIPE_SZ, _PIPE_BYTES)


class _Gathering(io.RawIOBase):
    """Reads a pipe in large pieces, giving the program a moment to fill it.

    PostgreSQL's programs write 4 KiB at a time. A reader that waits in ``read`` is woken by each of them, which costs both sides
    more than the copying: a third of what reading a dump takes. The moment is as long as the program needs for a piece and no
    longer: one that fills the pipe in less would wait for us.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._moment = _MOMENT_S
        self._waiting = array("i", [0])

    def readable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._stream.fileno()

    def readinto(self, buffer: Buffer, /) -> int:
        view = memoryview(buffer)
        if self._has() < min(len(view), _WORTH_READING):
            clock.sleep(self._moment)
            came = self._has()
            if came > _PIPE_BYTES // 2:
                self._moment = max(_SHORTEST_S, self._moment / 2)
            elif came < _WORTH_READING:
                self._moment = min(_MOMENT_S, self._moment * 2)
        return os.readv(self.fileno(), [view])

    def _has(self) -> int:
        fcntl.ioctl(self.fileno(), termios.FIONREAD, self._waiting)
        return self._waiting[0]

    def close(self) -> None:
        self._stream.close()
        super().close()


def gathered(stream: IO[bytes] | None, *, buffered: bool) -> BinaryIO | None:
    """The pipe's reading end; ``None`` where there is none.

    Args:
        stream: the pipe.
        buffered: whether with a buffer. Through it a part of what is read in large pieces is copied once more.
    """
    if stream is None:
        return None
    gathering = _Gathering(stream)
    return io.BufferedReader(gathering, BUFFER_BYTES) if buffered else cast("BinaryIO", gathering)


def close(stream: IO[bytes] | None) -> None:
    """Close a stream, if there is one; what its other end thinks of that is its own."""
    if stream is not None:
        with contextlib.suppress(OSError):
            stream.close()
