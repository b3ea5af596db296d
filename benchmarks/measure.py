"""Run programs, and say what they took: time, processor time, memory, and the servers' processor time meanwhile."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

SAMPLE_SECONDS = 0.02


@dataclass(slots=True)
class Run:
    """What one run took.

    Attributes:
        seconds: from start to end.
        cpu: user and system seconds of the programs and of their children.
        servers_cpu: the same of the servers, meanwhile.
        rss: the largest resident memory of the watched program alone, in bytes (0: none was watched).
        stored: bytes that were added to the repository, where that was asked.
        document: what drctl printed.
    """

    seconds: float
    cpu: float
    servers_cpu: float
    rss: int = 0
    stored: int = 0
    document: dict[str, Any] = field(default_factory=dict)


class Servers:
    """The process trees of the servers.

    Args:
        pids: give each tree's first process.
    """

    def __init__(self, *pids: Callable[[], int | None]) -> None:
        self._pids = pids

    def cpu(self) -> float:
        """Processor seconds so far, of living processes and of those that their parents have waited for."""
        total = 0.0
        for pid in self._pids:
            with contextlib.suppress(psutil.NoSuchProcess):
                first = psutil.Process(pid())
                for process in (first, *first.children(recursive=True)):
                    with contextlib.suppress(psutil.NoSuchProcess):
                        total += sum(process.cpu_times()[:4])
        return total


class _Watch:
    """Notes the high-water mark of one process's memory, as the kernel keeps it."""

    def __init__(self, pid: int) -> None:
        self.peak = 0
        self._status = Path(f"/proc/{pid}/status")
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    def stop(self) -> int:
        self._ended.set()
        self._thread.join()
        return self.peak

    def _sample(self) -> None:
        while not self._ended.wait(SAMPLE_SECONDS):
            with contextlib.suppress(OSError):
                for line in self._status.read_text().splitlines():
                    if line.startswith("VmHWM:"):
                        self.peak = max(self.peak, int(line.split()[1]) * 1024)


def pipeline(
    commands: Sequence[Sequence[str]],
    servers: Servers,
    *,
    env: Mapping[str, str],
    watch: bool = False,
    user: str | None = None,
) -> tuple[Run, bytes]:
    """Run programs, each reading what the one before it writes.

    Args:
        commands: the programs.
        servers: whose work is counted beside.
        env: of all of them, whole.
        watch: note the memory of the only program.
        user: whom the programs run as; None for ourselves.

    Returns:
        What it took, and what the last one printed.

    Raises:
        SystemExit: one of them failed.
    """
    os.sync()  # nobody pays for what the one before has left to be written
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as complaints:
        before, began = servers.cpu(), time.monotonic()
        running = _start(commands, env, out, complaints, user)
        watched = _Watch(running[0].pid) if watch else None
        cpu = sum(_wait(process) for process in running)
        seconds = time.monotonic() - began
        peak = watched.stop() if watched else 0
        out.seek(0)
        complaints.seek(0)
        for command, process in zip(commands, running, strict=True):
            if process.returncode:
                said = (complaints.read() + out.read()).decode(errors="replace")[-2000:]
                raise SystemExit(f"{Path(command[0]).name} ended with {process.returncode}:\n{said}")
        return Run(seconds, cpu, servers.cpu() - before, peak), out.read()


def drctl(arguments: Sequence[str], servers: Servers, *, env: Mapping[str, str]) -> Run:
    """Run drctl, and keep the document that it prints.

    Args:
        arguments: its command line, from the program on.
        servers: whose work is counted beside.
        env: whole.
    """
    run, out = pipeline([[*arguments, "--output", "json"]], servers, env=env, watch=True)
    run.document = json.loads(out)
    return run


def _start(
    commands: Sequence[Sequence[str]], env: Mapping[str, str], out: Any, complaints: Any, user: str | None
) -> list[subprocess.Popen[bytes]]:
    running: list[subprocess.Popen[bytes]] = []
    group = pwd.getpwnam(user).pw_gid if user else None
    for number, command in enumerate(commands):
        last = number == len(commands) - 1
        process = subprocess.Popen(
            list(command),
            env=dict(env),
            stdin=running[-1].stdout if running else subprocess.DEVNULL,
            stdout=out if last else subprocess.PIPE,
            stderr=complaints,
            cwd="/",
            user=user,
            group=group,
            extra_groups=[] if user else None,
        )
        if running and (pipe := running[-1].stdout) is not None:
            pipe.close()  # the next one has it
        running.append(process)
    return running


def _wait(process: subprocess.Popen[bytes]) -> float:
    """Wait for its end; gives its processor seconds, with those of its children."""
    _pid, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return usage.ru_utime + usage.ru_stime
