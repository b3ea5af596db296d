"""Whose time a run's time is: every tenth of a second is divided among those who used the processor in it, by how much they used.

drctl is its own process alone. Programs that it starts (``pg_dump``, ``pg_restore``, scratch servers) count as PostgreSQL. A tenth of a second in which none of
them used the processor is waiting: for a disk, for a timer, for the cluster. The division does not depend on how busy the machine is with other things.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import psutil

SLICE_SECONDS = 0.1
OURS, PROGRAMS, WAITING = "drctl", "PostgreSQL", "waiting"


@dataclass(slots=True)
class Divided:
    """What a run took, and whose it was.

    Attributes:
        seconds: wall time.
        cpu: processor seconds by group.
        shares: of the wall time, by group; together 1.
        document: what drctl printed.
    """

    seconds: float = 0.0
    cpu: dict[str, float] = field(default_factory=dict)
    shares: dict[str, float] = field(default_factory=dict)
    document: dict[str, Any] = field(default_factory=dict)


class _Group:
    """The processor seconds of some processes since the last look, those that ended meanwhile left out."""

    def __init__(self) -> None:
        self._known: dict[int, float] = {}

    def used(self, processes: Sequence[psutil.Process]) -> float:
        total, now = 0.0, {}
        for one in processes:
            with contextlib.suppress(psutil.Error):
                times = one.cpu_times()
                now[one.pid] = times.user + times.system
                total += max(0.0, now[one.pid] - self._known.get(one.pid, 0.0))
        self._known = now
        return total


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
    found = Divided()
    spent: dict[str, float] = dict.fromkeys([OURS, PROGRAMS, *servers, WAITING], 0.0)
    found.cpu = dict.fromkeys([OURS, PROGRAMS, *servers], 0.0)
    groups = {name: _Group() for name in (OURS, "programs", *servers)}
    trees = {name: psutil.Process(pid()) for name, pid in servers.items()}
    for name, first in trees.items():
        groups[name].used(_tree(first))
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as said:
        began = last = time.monotonic()
        process = subprocess.Popen([*command, "--output", "json"], env=dict(env), stdout=out, stderr=said)
        ours = psutil.Process(process.pid)
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(SLICE_SECONDS)
            used = {OURS: groups[OURS].used([ours]), PROGRAMS: groups["programs"].used(_tree(ours)[1:])}
            for name, first in trees.items():
                used[name] = used.get(name, 0.0) + groups[name].used(_tree(first))
            now = time.monotonic()
            _divide(spent, found.cpu, used, now - last)
            last = now
            if process.returncode is not None:
                break
        found.seconds = last - began
        out.seek(0)
        said.seek(0)
        if process.returncode:
            raise SystemExit((said.read() + out.read()).decode(errors="replace")[-2000:])
        answer = out.read()
        found.document = json.loads(answer) if answer.startswith(b"{") else {}
    found.shares = {name: value / found.seconds for name, value in spent.items()}
    return found


def _divide(
    spent: dict[str, float], cpu: dict[str, float], used: Mapping[str, float], seconds: float
) -> None:
    total = sum(used.values())
    if total == 0:
        spent[WAITING] += seconds
        return
    for name, value in used.items():
        cpu[name] += value
        spent[name] += seconds * value / total


def _tree(first: psutil.Process) -> list[psutil.Process]:
    try:
        return [first, *first.children(recursive=True)]
    except psutil.Error:
        return [first]
