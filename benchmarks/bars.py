"""What is promised of buckets, held beside what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median

from benchmarks.cases import Results
from benchmarks.table import MEGA, header, peak, row

MEMORY_MB = 250


@dataclass(frozen=True, slots=True)
class Bar:
    """One promise: the median of our times, divided by that of the fastest other contender, is at most this.

    Attributes:
        work: what is done.
        limit: of the ratio.
        than: whom we are compared with.
    """

    work: str
    limit: float
    than: str


BARS = {
    "bucket-first": Bar("first snapshot to disk", 0.8, "the faster of rclone copy and s5cmd cp"),
    "bucket-unchanged": Bar("unchanged, second run", 1.2, "a bare listing, the faster of two"),
    "bucket-changed": Bar("1% changed", 1.5, "a bare listing plus the GETs"),
    "bucket-large": Bar("20 objects of 100 MB", 1.0, "rclone with crypt"),
    "bucket-replica": Bar("replica between two buckets", 1.0, "rclone sync"),
    "bucket-restore": Bar("restore into an empty bucket", 1.0, "rclone copy up"),
}


def ratio(results: Results) -> float:
    """Our median time as a share of the fastest other's.

    Args:
        results: by contender; ours is the first.
    """
    ours, *others = (median(run.seconds for run in runs) for runs in results.values())
    return ours / min(others)


def judged(measured: Mapping[str, Results]) -> list[str]:
    """The bars as a table, each met or missed.

    Args:
        measured: by the name of the case; what is absent was not measured.
    """
    lines = ["### Bars", "", *header("work", "must be at most", "measured", "rounds", "state")]
    for name, bar in BARS.items():
        wanted = f"{bar.limit:.2f} of {bar.than}"
        if name not in measured:
            lines.append(row(bar.work, wanted, "", "", "not measured"))
            continue
        found = ratio(measured[name])
        rounds = len(next(iter(measured[name].values())))
        lines.append(row(bar.work, wanted, f"{found:.2f}", str(rounds), _state(found <= bar.limit)))
    memory = max((peak(next(iter(results.values()))) for results in measured.values()), default=0) / MEGA
    if memory:
        lines.append(
            row(
                "drctl's memory, in all of them",
                f"{MEMORY_MB} MB",
                f"{memory:.0f} MB",
                "",
                _state(memory < MEMORY_MB),
            )
        )
    return [*lines, ""]


def _state(met: bool) -> str:
    return "**met**" if met else "**missed**"
