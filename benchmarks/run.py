"""``python -m benchmarks.run``: all measurements, as tables on standard output. Takes some ten minutes."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

from benchmarks import base_site, bases, buckets, cases, table
from benchmarks.bucket_site import missing_peers
from benchmarks.site import COMPONENT, Site

NAMES = ("dump-disk", "dump-s3", "incremental", "restore")
ALL_BUCKETS = "buckets"
BIG_MB = 5000
GROWTH = (10_000, 100_000, 300_000)


def main() -> None:
    """Measure, then print."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--size", type=float, default=1000, metavar="MB", help="of the archive (1000)")
    parser.add_argument("--rounds", type=int, default=3, help="interleaved; medians are shown (3)")
    parser.add_argument(
        "--only",
        action="append",
        choices=[*NAMES, *bases.NAMES, ALL_BUCKETS, *buckets.NAMES],
        help=f"this measurement; may be repeated ({ALL_BUCKETS}: all of buckets). Those of clusters and buckets are made only when they are named",
    )
    parser.add_argument("--objects", type=int, default=100_000, help="small ones in a bucket (100000)")
    parser.add_argument("--cluster", type=float, default=2000, metavar="MB", help="of a cluster (2000)")
    parser.add_argument(
        "--big",
        action="store_true",
        help=f"only memory: a backup to each storage and a restore of {BIG_MB} MB",
    )
    parser.add_argument(
        "--growth",
        type=Path,
        metavar="FILE",
        help="only time and memory with 10,000, 100,000 and 300,000 objects, as JSON into this file",
    )
    asked = parser.parse_args()
    if asked.growth:
        asked.growth.write_text(json.dumps(buckets.growth(GROWTH), indent=1) + "\n")
        return
    if asked.rounds < 1 or asked.size <= 0:
        parser.error("--rounds and --size must be greater than zero")
    names = asked.only or NAMES
    of_buckets = [name for name in buckets.NAMES if name in names or ALL_BUCKETS in names]
    lines = _buckets(of_buckets, asked.objects, asked.rounds)
    lines += _bases([name for name in names if name in bases.NAMES], asked.cluster, asked.rounds)
    if asked.big:
        lines += _big(asked.size)
    elif servers := [name for name in names if name in NAMES]:
        lines += _all(asked.size, asked.rounds, servers)
    print("\n" + "\n".join(lines))


def _buckets(names: list[str], objects: int, rounds: int) -> list[str]:
    if not names:
        return []
    if missing := missing_peers():
        raise SystemExit(f"this machine lacks {' and '.join(missing)}: pip install '.[bench]'")
    return buckets.measure(names, objects, rounds)


def _bases(names: list[str], size: float, rounds: int) -> list[str]:
    lines: list[str] = []
    if names and (missing := base_site.missing_peers()):
        raise SystemExit(f"this machine lacks {' and '.join(missing)}")
    for name in names:
        print(f"{name} (load {os.getloadavg()[0]:.2f})", flush=True)
        lines += bases.measure(name, size, rounds)
    return lines


def _all(size: float, rounds: int, names: tuple[str, ...] | list[str]) -> list[str]:
    print(f"load {os.getloadavg()[0]:.2f}; filling a database of about {size:.0f} MB", flush=True)
    with Site(size) as site:
        archive = _archive_size(site)
        lines = table.machine(site, archive, rounds)
        for name in names:
            print(f"{name} (load {os.getloadavg()[0]:.2f})", flush=True)
            lines += _one(site, name, rounds, archive)
        return lines


def _one(site: Site, name: str, rounds: int, size: int) -> list[str]:
    if name == "dump-disk":
        return table.comparison("First dump, to local disk", cases.dump(site, "disk", rounds), size)
    if name == "dump-s3":
        return table.comparison("First dump, to the S3 server", cases.dump(site, "s3", rounds), size)
    if name == "incremental":
        return table.shares(cases.incremental(site, rounds))
    results = cases.restore(site, rounds)
    lines = table.comparison("Restore into a new database", results, size)
    return lines + table.stages(next(iter(results.values())))


def _big(default_size: float) -> list[str]:
    lines: list[str] = []
    for size in (default_size, BIG_MB):
        print(f"memory at about {size:.0f} MB", flush=True)
        with Site(size) as site:
            lines += table.memory(cases.memory(site), _archive_size(site))
    return lines


def _archive_size(site: Site) -> int:
    """Bytes of a snapshot's content; also brings everything into the page cache before the first round."""
    config = site.new_repository("disk")
    (snapshot,) = site.drctl(config, "backup", COMPONENT).document["snapshots"]
    site.remove_repository(config)
    return int(snapshot["bytes_source"])


if __name__ == "__main__":
    main()
