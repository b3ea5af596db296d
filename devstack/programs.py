"""Start, wait for and stop a server's process; users, ports and directories for it."""

from __future__ import annotations

import contextlib
import os
import pwd
import random
import shutil
import signal
import socket
import stat
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil

from dr_toolkit.errors import ProgramError

LAUNCHER = Path(__file__).with_name("launch.py")
# Below the range from which the kernel takes ports for outgoing connections: such a port could be taken by a
# client while its server is stopped for a moment.
PORTS = range(15000, 32000)
LOG_TAIL = 4096


def free_port() -> int:
    """Find a TCP port that nobody listens on.

    Returns:
        The port.
    """
    for _ in range(200):
        port = random.choice(PORTS)
        if is_free(port):
            return port
    raise ProgramError("no free port was found on 127.0.0.1", hint="stop servers that are no longer needed")


def free_pair(distance: int) -> tuple[int, int]:
    """Find two free ports, for a program that computes the second from the first.

    Args:
        distance: how far apart they are.

    Returns:
        The ports.
    """
    for _ in range(200):
        port = free_port()
        if port + distance in PORTS and is_free(port + distance):
            return port, port + distance
    raise ProgramError(f"no two free ports at a distance of {distance} were found on 127.0.0.1")


def is_free(port: int) -> bool:
    """Tell whether nobody listens on a port of loopback.

    Args:
        port: the port.
    """
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def installed_script(name: str) -> str | None:
    """Find a program that pip installed beside this interpreter, else on the PATH.

    Args:
        name: the program.

    Returns:
        Its full path.
    """
    path = Path(sysconfig.get_path("scripts")) / name
    return str(path) if path.exists() else shutil.which(name)


def unprivileged_user() -> str | None:
    """Name the user that servers which refuse root are started as.

    Returns:
        None when we are not root; otherwise ``postgres`` where it exists, else ``nobody``.
    """
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


def open_to_all(path: Path) -> bool:
    """Tell whether every user can reach and read ``path``.

    Args:
        path: a file or a directory.
    """
    path = path.resolve()
    readable = path.stat().st_mode & stat.S_IROTH
    return bool(readable) and all(parent.stat().st_mode & stat.S_IXOTH for parent in path.parents)


def alive(pid: int) -> bool:
    """Tell whether a process exists and is no zombie.

    Args:
        pid: the process.
    """
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def log_tail(path: Path) -> str:
    """Read the end of a log.

    Args:
        path: the log; it may be missing.

    Returns:
        Its last few KiB.
    """
    if not path.exists():
        return ""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - LOG_TAIL))
        return file.read().decode(errors="replace")


def run(argv: Sequence[str], *, user: str | None = None, environment: Mapping[str, str] | None = None) -> str:
    """Run a program that ends by itself.

    Args:
        argv: the program's full path and its arguments.
        user: the user to become; needs root.
        environment: its whole environment.

    Returns:
        What it wrote.

    Raises:
        ProgramError: it failed.
    """
    completed = subprocess.run(
        launch(argv, user, signal.SIGKILL),
        env=dict(environment or base_environment()),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd="/",
        check=False,
        timeout=120,
        text=True,
        errors="replace",
    )
    if completed.returncode != 0:
        name = Path(argv[0]).name
        raise ProgramError(
            f'"{name}" ended with {completed.returncode}: {completed.stdout[-LOG_TAIL:]}',
            on=name,
            stderr=completed.stdout,
        )
    return completed.stdout


def base_environment() -> dict[str, str]:
    """Make a small environment for a server, so that a user's settings do not reach it."""
    return {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC", "HOME": "/nonexistent"}


class Server:
    """One process of a server, with its log.

    It dies with the *thread* that called ``start`` (that is how Linux counts parents), so start servers from the main
    thread.

    Args:
        name: what it is called in messages.
        log: where its output is written.
        user: the user to become; needs root.
        death_signal: what it receives when we die.
    """

    def __init__(
        self, name: str, log: Path, *, user: str | None = None, death_signal: signal.Signals = signal.SIGKILL
    ) -> None:
        self.name = name
        self.log = log
        self._user = user
        self._death_signal = death_signal
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The process's id while it runs."""
        return self._process.pid if self._process else None

    @property
    def running(self) -> bool:
        """Whether the process is alive."""
        return self._process is not None and self._process.poll() is None

    def start(self, argv: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        """Start the process and return at once.

        Args:
            argv: the program's full path and its arguments.
            environment: its whole environment.
        """
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                launch(argv, self._user, self._death_signal),
                env=dict(environment or base_environment()),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd="/",
                start_new_session=True,
            )

    def wait_until(self, ready: Callable[[], bool], *, timeout: float = 30) -> None:
        """Wait until the server answers.

        Args:
            ready: asks once.
            timeout: seconds after which to give up.

        Raises:
            ProgramError: the process ended, or was not ready in time; the end of its log is in the message.
        """
        deadline = time.monotonic() + timeout
        while not ready():
            if not self.running:
                raise self._failure("ended while it was starting")
            if time.monotonic() > deadline:
                raise self._failure(f"was not ready after {timeout:.0f} s")
            time.sleep(0.01)

    def stop(self, *signals: signal.Signals, patience: float = 10) -> None:
        """End the process: each signal in turn, and at last SIGKILL. Stopping a stopped server is fine.

        Args:
            signals: what to send, gentlest first.
            patience: seconds to wait after each.
        """
        process, self._process = self._process, None
        if process is None:
            return
        for number in (*signals, signal.SIGKILL):
            if process.poll() is not None:
                break
            process.send_signal(number)
            process.send_signal(signal.SIGCONT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(patience)

    def kill_tree(self) -> None:
        """SIGKILL the process and all its children, as a crash would."""
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        # Stopped first, so that it makes no new child while we look for them.
        process.send_signal(signal.SIGSTOP)
        children = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        for child in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        process.wait(10)
        deadline = time.monotonic() + 10
        # A zombie holds nothing any more; how soon init buries it is not our matter.
        while any(map(alive, (child.pid for child in children))) and time.monotonic() < deadline:
            time.sleep(0.01)

    def pause(self) -> None:
        """Freeze the process, and return when every thread of it stands still."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGSTOP)
        deadline = time.monotonic() + 10
        while not _stands_still(self._process.pid) and time.monotonic() < deadline:
            time.sleep(0.005)

    def resume(self) -> None:
        """Let a frozen process go on."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    def _failure(self, what: str) -> ProgramError:
        tail = log_tail(self.log)
        return ProgramError(f'"{self.name}" {what}; the end of its log: {tail}', on=self.name, stderr=tail)


def _stands_still(pid: int) -> bool:
    """Tell whether a process is stopped; on Linux, the last of its threads too."""
    try:
        states = [
            task.joinpath("stat").read_text().rpartition(")")[2].split()[0]
            for task in Path(f"/proc/{pid}/task").iterdir()
        ]
    except FileNotFoundError:
        return psutil.Process(pid).status() == psutil.STATUS_STOPPED
    return set(states) == {"T"}


def launch(argv: Sequence[str], user: str | None, death_signal: signal.Signals) -> list[str]:
    """Make the command that starts a program so that it dies with us.

    Args:
        argv: the program's full path and its arguments.
        user: the user to become; needs root.
        death_signal: what it receives when we die.

    Returns:
        The command.
    """
    number = str(int(death_signal))
    return [sys.executable, "-I", "-S", str(LAUNCHER), str(os.getpid()), user or "-", number, *argv]
