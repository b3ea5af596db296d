"""The one gate for other programs.

Always a list, never a shell. Each program runs in its own session, so that Ctrl-C reaches drctl alone (drctl then decides how
its programs end) and no program can ask a terminal for a password. Secrets go through the environment or files: an argument
list is public on the machine and is logged.

A program dies with drctl, even when drctl is killed with SIGKILL. Linux ends it when the *thread* that started it ends, not
the process; so every program is started by one thread of this module that lives as long as the process.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self, cast

from dr_toolkit import log
from dr_toolkit.errors import ProgramError
from dr_toolkit.process import starting, streams
from dr_toolkit.process.starting import end_all

__all__ = ["Completed", "Pipe", "end_all", "find_program", "run"]

_TAIL_BYTES = 16 << 10
_LINE_CHARACTERS = 300
_GRACE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Completed:
    """A program that ended.

    Attributes:
        returncode: its exit status; negative is the signal that ended it.
        stdout: all that it wrote to standard output.
        stderr: the end (16 KiB) of what it wrote to standard error, secrets masked.
    """

    returncode: int
    stdout: bytes
    stderr: str


def run(  # noqa: D417 - env, user and cwd are those of Pipe
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    input: bytes | None = None,  # noqa: A002 - the standard library's name for it
    timeout: float | None = None,
    user: str | None = None,
    check: bool = True,
    cwd: str | None = None,
) -> Completed:
    """Run a program to its end and keep what it said; for little output. Streams are for `Pipe`.

    Args:
        argv: the program (a name to look for in ``PATH``, or a path) and its arguments; never a secret.
        input: what it reads on standard input; ``None``: nothing.
        timeout: seconds after which it is ended.
        check: whether an exit status other than 0 is an error.

    Raises:
        ProgramError: not found, not startable, out of time, or (with ``check``) an exit status other than 0.
    """
    popen = starting.start(argv, env=env, user=user, cwd=cwd, stdin=input is not None, stdout=True)
    try:
        stdout, stderr = popen.communicate(input, timeout)
    except subprocess.TimeoutExpired as error:
        raise ProgramError(
            f'"{starting.name_of(argv)}" did not end within {timeout:g} s',
            hint="rerun with -vv to see how it was started",
        ) from error
    finally:
        _end(popen, signal.SIGTERM)
        _close(popen)
    text = _text(stderr[-_TAIL_BYTES:])
    if check and popen.returncode != 0:
        raise _failure(argv, popen.returncode, text)
    return Completed(popen.returncode, stdout, text)


class Pipe:
    """A running program whose standard output is read, or whose standard input is written, as a stream.

    Standard error is read by a thread; its end is kept. Leaving the ``with`` block stops the program if it still runs.

    Args:
        argv: the program (a name to look for in ``PATH``, or a path) and its arguments; never a secret.
        env: its whole environment; ``None``: this process's.
        user: the name of the user to run it as (needs root); ``None`` or the present user: no change.
        stdin: whether its standard input is written by us; else it reads nothing.
        stdout: whether its standard output is read by us; else it goes nowhere.
        cwd: its working directory.
        end_signal: how it is asked to end, by `stop` and when drctl dies. A PostgreSQL server wants SIGINT.
        bulk: whether it writes much to its standard output, of which nothing is waited for: it gets a large buffer. Ours has none.

    Attributes:
        stdin: the stream to write, or ``None``. Buffered: close it, or call `finish`.
        stdout: the stream to read, or ``None``. ``read(n)`` gives n bytes, fewer only at the end; with ``bulk`` what there is.
        pid: the program's process id.

    Raises:
        ProgramError: the program is not there or cannot be started.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        user: str | None = None,
        stdin: bool = False,
        stdout: bool = True,
        cwd: str | None = None,
        end_signal: signal.Signals = signal.SIGTERM,
        bulk: bool = False,
    ) -> None:
        self._argv = tuple(argv)
        self._end_signal = end_signal
        self._popen = starting.start(
            argv, env=env, user=user, cwd=cwd, stdin=stdin, stdout=stdout, end_signal=end_signal, bulk=bulk
        )
        self.stdin = cast("BinaryIO | None", self._popen.stdin)
        self.stdout = streams.gathered(self._popen.stdout, buffered=not bulk)
        self.pid: int = self._popen.pid
        self._tail = bytearray()
        self._drain = threading.Thread(target=self._read_stderr, name=f"stderr-{self.pid}", daemon=True)
        self._drain.start()

    def wait(self) -> int:
        """Wait for its end and give the exit status; negative is the signal that ended it. Read its output first."""
        return self._popen.wait()

    def running(self) -> bool:
        """Whether it still runs."""
        return self._popen.poll() is None

    def finish(self) -> None:
        """Close its input, wait for its end, and insist that it went well. Read its output to the end first.

        Raises:
            ProgramError: it ended with an exit status other than 0, or by a signal.
        """
        if self.stdin is not None:
            with contextlib.suppress(BrokenPipeError):  # its exit status says whether that was right
                self.stdin.close()
        status = self.wait()
        self._close()
        if status != 0:
            raise _failure(self._argv, status, self.stderr_tail())

    def ask_to_end(self) -> None:
        """Ask it to end, and leave its streams to whoever reads them. For another thread than theirs."""
        self._popen.send_signal(self._end_signal)

    def stop(self) -> None:
        """Ask it to end; after 5 s, end it and its whole process group. Does nothing to a program that ended."""
        _end(self._popen, self._end_signal)
        self._close()

    def stderr_tail(self) -> str:
        """The last 16 KiB of its standard error so far (all of it once it ended), secrets masked."""
        if not self.running():
            self._drain.join(timeout=1.0)  # bounded: a grandchild may keep the pipe open
        return _text(bytes(self._tail))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _close(self) -> None:
        self._drain.join(timeout=1.0)
        for stream in (self.stdin, self.stdout):
            streams.close(stream)

    def _read_stderr(self) -> None:
        stream = self._popen.stderr
        if stream is None:
            return
        with (
            stream
        ):  # closed here and nowhere else: a grandchild may keep the pipe open when the program is long gone
            while data := os.read(stream.fileno(), _TAIL_BYTES):
                self._tail += data
                del self._tail[:-_TAIL_BYTES]


def find_program(name: str, directories: Sequence[str]) -> str | None:
    """The path of a program in the first of these directories that has it, then in ``PATH``; ``None`` if nobody has it."""
    for directory in directories:
        candidate = Path(directory) / name
        if candidate.is_file() and os.access(candidate, os.X_OK):
            return str(candidate)
    return shutil.which(name)


def _end(popen: subprocess.Popen[bytes], number: signal.Signals) -> None:
    if popen.poll() is not None:
        return
    popen.send_signal(number)
    try:
        popen.wait(_GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(popen.pid, signal.SIGKILL)  # not yet waited for, so the number is still its own
        popen.wait()


def _close(popen: subprocess.Popen[bytes]) -> None:
    for stream in (popen.stdin, popen.stdout, popen.stderr):
        streams.close(stream)


def _text(data: bytes) -> str:
    return log.masked(data.decode("utf-8", "replace"))


def _failure(argv: Sequence[str], status: int, stderr: str) -> ProgramError:
    name = starting.name_of(argv)
    if status < 0:
        how = f"was ended by signal {-status} ({signal.Signals(-status).name})"
    else:
        how = f"ended with exit status {status}"
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    said = f": {lines[-1][:_LINE_CHARACTERS]}" if lines else ""
    return ProgramError(f'"{name}" {how}{said}', stderr=stderr)
