"""Whose time a run's time is, looked at every 5 ms by the kernel's own count of each process's processor time, which is in nanoseconds.

What counts as what:

- **drctl**: its own process with all its threads, the start of Python and its imports among them, and the Python that starts each program until
  it has become that program (``dr_toolkit/_exec.py``).
- **PostgreSQL**: the source's server, and all programs that drctl starts (``pg_dump``, ``initdb``, ``pg_restore``, scratch servers).
- **S3**: the server, which has the bucket and the repository.
- **waiting**: none of these used the processor: they waited for a disk, the network, a timer of somebody, or the cluster. The cluster is in no
  group, because an idle API server uses the processor, too: what it takes from us can only be in here, or beside one of the others.

Two answers come from that. ``shares`` divides each slice among those who used the processor in it, by how much they used: together with ``waiting``
they are 1. ``alone`` is what the bar of the gate speaks of, the time that is *not* spent in PostgreSQL or S3: of each slice what drctl used, less what of it must have been
beside another group's work. As little overlap as possible is assumed, so it can only be too large. What a process uses after the last look at it, and one that lives for less than
a slice, is lost: mostly backends of PostgreSQL, and so to our disadvantage again. On a busy machine ``waiting`` also has the time in which somebody
wanted a processor and got none; measure on a quiet one.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SLICE_SECONDS = 0.005
OURS, PROGRAMS, WAITING = "drctl", "PostgreSQL", "waiting"
_PROC = "/proc"
_STARTERS = ("python", "drctl")
"""Names that a program's process has before it is that program."""


@dataclass(slots=True)
class Divided:
    """What a run took, and whose it was.

    Attributes:
        seconds: wall time.
        cpu: processor seconds by group.
        shares: of the wall time, by group; together 1.
        alone: share of the wall time in which drctl used the processor, and nobody that it works with did.
        document: what drctl printed.
    """

    seconds: float = 0.0
    cpu: dict[str, float] = field(default_factory=dict)
    shares: dict[str, float] = field(default_factory=dict)
    alone: float = 0.0
    document: dict[str, Any] = field(default_factory=dict)


class _Processes:
    """All processes of the groups, found when they appear and kept until they end.

    Args:
        first: the group of each first process; its descendants are of the same, those of drctl are programs.
    """

    def __init__(self, first: Mapping[int, str]) -> None:
        self._group: dict[int, str] = dict(first)
        self._used = {pid: _clock(pid) or 0.0 for pid in first}
        self._seen: set[int] = set(first)
        self._starting: set[int] = set()

    def watch(self, pid: int, group: str) -> None:
        """A new first process; what it has used so far counts."""
        self._group[pid], self._used[pid] = group, 0.0
        self._seen.add(pid)

    def used(self) -> dict[str, float]:
        """By group, since the last look."""
        self._look()
        found: dict[str, float] = {}
        for pid, group in list(self._group.items()):
            now = _clock(pid)
            if now is None:
                del self._group[pid], self._used[pid]
                self._starting.discard(pid)
                continue
            name = OURS if pid in self._starting else group
            found[name] = found.get(name, 0.0) + max(0.0, now - self._used[pid])
            self._used[pid] = now
        return found

    def _look(self) -> None:
        for pid in list(self._starting):
            if not _stat(pid)[0].startswith(_STARTERS):
                self._starting.discard(pid)
        there = {int(name) for name in os.listdir(_PROC) if name.isdigit()}  # noqa: PTH208  # 200 times a second
        for pid in sorted(there - self._seen):
            name, parent = _stat(pid)
            if parent in self._group:
                above = self._group[parent]
                self._group[pid], self._used[pid] = PROGRAMS if above == OURS else above, 0.0
                if above == OURS and name.startswith(_STARTERS):
                    self._starting.add(pid)
        self._seen &= there
        self._seen |= there


def run(
    command: Sequence[str], *, env: Mapping[str, str], servers: Mapping[str, Callable[[], int | None]]
) -> Divided:
    """Run drctl and divide its time.

    Args:
        command: with everything but ``--output json``.
        env: whole.
        servers: by group, the first process of each.

    Raises:
        SystemExit: it failed.
    """
    processes = _Processes({pid: name for name, first in servers.items() if (pid := first()) is not None})
    processes.used()  # finds what the servers have started by now
    processes.used()
    found = Divided(cpu=dict.fromkeys([OURS, PROGRAMS, *servers], 0.0))
    spent: dict[str, float] = dict.fromkeys([*found.cpu, WAITING], 0.0)
    alone = 0.0
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as said:
        began = last = time.monotonic()
        process = subprocess.Popen([*command, "--output", "json"], env=dict(env), stdout=out, stderr=said)
        processes.watch(process.pid, OURS)
        while process.poll() is None:
            time.sleep(SLICE_SECONDS)
            used, now = processes.used(), time.monotonic()
            for name, value in used.items():
                found.cpu[name] += value
            alone += divide(spent, used, now - last)
            last = now
        found.seconds = last - began
        out.seek(0)
        said.seek(0)
        if process.returncode:
            raise SystemExit((said.read() + out.read()).decode(errors="replace")[-2000:])
        answer = out.read()
        found.document = json.loads(answer) if answer.startswith(b"{") else {}
    found.shares = {name: value / found.seconds for name, value in spent.items()}
    found.alone = alone / found.seconds
    return found


def divide(spent: dict[str, float], used: Mapping[str, float], seconds: float) -> float:
    """Add one slice to what was spent, and say how much of it was drctl's alone. Pure but for ``spent``."""
    total = sum(used.values())
    scale = min(1.0, seconds / total) if total else 0.0
    for name, value in used.items():
        spent[name] += value * scale
    spent[WAITING] += max(0.0, seconds - total)
    ours = used.get(OURS, 0.0)
    return max(0.0, min(ours, seconds - min(seconds, total - ours)))


def _clock(pid: int) -> float | None:
    """The processor time of a whole process; None when it ended. The number is that of POSIX's ``clock_getcpuclockid``."""
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        return None


def _stat(pid: int) -> tuple[str, int]:
    """A process's name and its parent."""
    try:
        with Path(_PROC, str(pid), "stat").open(encoding="utf-8", errors="replace") as file:
            head, _, tail = file.read().rpartition(")")
    except OSError:
        return "", 0
    return head.partition("(")[2], int(tail.split()[1])
