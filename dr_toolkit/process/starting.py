"""Starting a program: in its own session, as the wanted user, by the one thread that lives as long as the process."""

from __future__ import annotations

import contextlib
import os
import pwd
import queue
import shutil
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path

from dr_toolkit import _exec, log
from dr_toolkit.errors import ProgramError
from dr_toolkit.process import streams

_log = log.get("process")

_running: weakref.WeakKeyDictionary[subprocess.Popen[bytes], signal.Signals] = weakref.WeakKeyDictionary()
_running_lock = threading.Lock()


def end_all() -> None:
    """Ask every program of this process to end, for threads that wait for one and that no signal reaches. Waits for none."""
    with _running_lock:
        programs = list(_running.items())
    for popen, number in programs:
        with contextlib.suppress(ProcessLookupError):
            popen.send_signal(number)  # does nothing once it ended


class _Starter:
    """The thread that starts every program, because Linux ties a program's life to the thread that started it."""

    def __init__(self) -> None:
        self._tasks: queue.SimpleQueue[
            tuple[Future[subprocess.Popen[bytes]], Callable[[], subprocess.Popen[bytes]]]
        ]
        self._tasks = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def start(self, task: Callable[[], subprocess.Popen[bytes]]) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name="program-starter", daemon=True)
                self._thread.start()
        future: Future[subprocess.Popen[bytes]] = Future()
        self._tasks.put((future, task))
        return future.result()

    def _serve(self) -> None:
        while True:
            future, task = self._tasks.get()
            try:
                future.set_result(task())
            except (OSError, ValueError, subprocess.SubprocessError) as error:
                future.set_exception(error)
            del future, task


_starter = _Starter()


def start(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None,
    user: str | None,
    cwd: str | None,
    stdin: bool,
    stdout: bool,
    end_signal: signal.Signals = signal.SIGTERM,
    bulk: bool = False,
) -> subprocess.Popen[bytes]:
    """Start a program with the arguments of `Pipe`.

    Raises:
        ProgramError: it is not there or cannot be started.
    """
    environment = dict(os.environ if env is None else env)
    program = shutil.which(argv[0], path=environment.get("PATH", os.defpath))
    if program is None:
        raise ProgramError(
            f'program "{argv[0]}" not found', hint=f'install it, or name its directory, for "{name_of(argv)}"'
        )
    wrapper = [
        sys.executable,
        "-I",
        "-S",
        _exec.__file__,
        str(os.getpid()),
        str(int(end_signal)),
        _identity(user),
        *(_buffered(program, argv, environment) if bulk else (program, *argv)),
    ]

    def task() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            wrapper,
            env=_wrapped(environment),
            cwd=cwd,
            bufsize=streams.BUFFER_BYTES,
            stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
            stdout=subprocess.PIPE if stdout else subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    try:
        popen = _starter.start(task)
    except (OSError, ValueError) as error:
        raise ProgramError(f'"{name_of(argv)}" could not be started: {error}') from error
    with _running_lock:
        _running[popen] = end_signal
    for stream in (popen.stdin, popen.stdout):
        streams.enlarge(stream)
    _log.debug("program started", pid=popen.pid, argv=list(argv))
    return popen


def _buffered(program: str, argv: Sequence[str], environment: Mapping[str, str]) -> list[str]:
    """The program and its arguments, behind coreutils' ``stdbuf`` where that is installed.

    The C library gives a pipe a buffer of 4 KiB. A dump of a gigabyte is then a quarter of a million calls for the program, and as many
    wake-ups of the reader.
    """
    stdbuf = shutil.which("stdbuf", path=environment.get("PATH", os.defpath))
    if stdbuf is None:
        return [program, *argv]
    return [stdbuf, "stdbuf", f"--output={streams.BUFFER_BYTES}", program, *argv[1:]]


def _wrapped(environment: Mapping[str, str]) -> dict[str, str]:
    """The program's environment, packed for the wrapper, which itself needs only the libraries that we run with."""
    ours = {name: value for name, value in os.environ.items() if name.startswith("LD_")}
    return ours | {_exec.CARRIED + name: value for name, value in environment.items()}


def _identity(user: str | None) -> str:
    """The user as the wrapper takes it: ``-`` when nothing is to change."""
    if user is None:
        return "-"
    try:
        entry = pwd.getpwnam(user)
    except KeyError as error:
        raise ProgramError(f'there is no user "{user}" on this machine') from error
    if entry.pw_uid == os.geteuid():
        return "-"
    if os.geteuid() != 0:
        raise ProgramError(f'only root can start a program as user "{user}"')
    groups = os.getgrouplist(user, entry.pw_gid)
    return f"{entry.pw_uid}:{entry.pw_gid}:{','.join(map(str, groups))}"


def name_of(argv: Sequence[str]) -> str:
    """What to call a program in messages."""
    return Path(argv[0]).name
