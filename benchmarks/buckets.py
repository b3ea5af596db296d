"""The measurements of buckets: each contender once a round, against the same server."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Sequence

from benchmarks import bars, table
from benchmarks.bucket_site import SOURCE, BucketSite
from benchmarks.cases import Contender, Results, interleaved
from benchmarks.measure import Run
from benchmarks.stand_in import StandIn

NAMES = (
    "bucket-first",
    "bucket-unchanged",
    "bucket-changed",
    "bucket-large",
    "bucket-replica",
    "bucket-restore",
)
SMALL = 4096
LARGE, LARGE_OBJECTS = 100_000_000, 20
CHANGED = 0.01


def measure(names: Sequence[str], objects: int, rounds: int) -> list[str]:
    """Measurements, on one server for all of small objects and another for the large ones.

    Args:
        names: of ``NAMES``.
        objects: small ones in the bucket; the large ones are always 20 of 100 MB.
        rounds: how many.

    Returns:
        The machine, a table for each, and the bars.
    """
    lines = table.buckets(rounds)
    measured: dict[str, Results] = {}
    began = time.monotonic()
    for size, count, chosen in (
        (SMALL, objects, [name for name in NAMES if name in names and name != "bucket-large"]),
        (LARGE, LARGE_OBJECTS, [name for name in names if name == "bucket-large"]),
    ):
        if not chosen:
            continue
        print(f"filling a bucket with {count:,} objects of {size:,} bytes", flush=True)
        with BucketSite(count, size) as site:
            for name in chosen:
                print(f"{name} (load {os.getloadavg()[0]:.2f}, {_minutes(began)})", flush=True)
                try:
                    measured[name] = _CASES[name](site, rounds)
                except (
                    SystemExit
                ) as error:  # a program failed: the other measurements are wanted all the same
                    print(f"!!! {name} FAILED: {error}", flush=True)
                    continue
                title = f"{name}: {count:,} objects of {size:,} bytes"
                lines += table.comparison(title, measured[name], site.bytes)
    print(f"done after {_minutes(began)}", flush=True)
    return lines + bars.judged(measured)


def _minutes(began: float) -> str:
    return f"{(time.monotonic() - began) / 60:.1f} minutes"


def growth(counts: Sequence[int]) -> list[dict[str, float]]:
    """What one run of each sort takes with ever more objects, against a stand-in for a server.

    Args:
        counts: of objects.

    Returns:
        For each count the seconds, CPU seconds and memory of a first and of an unchanged snapshot, and of a restore.
    """
    rows = []
    for count in counts:
        with StandIn() as server, BucketSite(0, SMALL, server=server) as site:
            config = site.repository(source=f"objects-{count}")
            row: dict[str, float] = {"objects": count}
            for name, arguments in (
                ("first", ["backup"]),
                ("unchanged", ["backup"]),
                ("restore", ["restore", "blocks", "--to", "s3://back", "--yes"]),
            ):
                run = site.drctl(config, *arguments)
                row |= {f"{name}_seconds": run.seconds, f"{name}_cpu": run.cpu, f"{name}_memory": run.rss}
                print(
                    f"  {count:,} {name}: {run.seconds:.1f} s, {run.cpu:.2f} s CPU, {run.rss / 1e6:.0f} MB",
                    flush=True,
                )
            rows.append(row)
    return rows


def first(site: BucketSite, rounds: int) -> Results:
    """A first snapshot to disk, against copies in a directory that are neither packed nor encrypted."""
    return interleaved(
        {
            "drctl backup": lambda: _first_backup(site),
            "rclone copy": _into_folder(site, lambda folder: site.rclone("copy", f"s3:{SOURCE}", folder)),
            "s5cmd cp": _into_folder(site, lambda folder: site.s5cmd("cp", f"s3://{SOURCE}/*", f"{folder}/")),
        },
        rounds,
    )


def unchanged(site: BucketSite, rounds: int) -> Results:
    """A second snapshot of the same, against a bare listing."""
    config = site.filled_repository()
    return interleaved(
        {
            "drctl backup, unchanged": lambda: site.drctl(config, "backup"),
            "s5cmd ls": lambda: site.s5cmd("ls", f"s3://{SOURCE}/*"),
            "rclone lsf": lambda: site.rclone("lsf", "-R", "--fast-list", f"s3:{SOURCE}"),
        },
        rounds,
    )


def changed(site: BucketSite, rounds: int) -> Results:
    """A snapshot after 1% was written again, against a listing and the reading of as many objects."""
    config = site.filled_repository()

    def ours() -> Run:
        site.put(site.some(CHANGED))
        return site.drctl(config, "backup")

    def peer() -> Run:
        listing = site.s5cmd("ls", f"s3://{SOURCE}/*")
        names = site.root / "names"
        names.write_text("".join(f"{site.key(number)}\n" for number in site.some(CHANGED)))
        read = _into_folder(
            site,
            lambda folder: site.rclone(
                "copy", "--no-traverse", "--files-from", str(names), f"s3:{SOURCE}", folder
            ),
        )()
        return Run(
            listing.seconds + read.seconds, listing.cpu + read.cpu, listing.servers_cpu + read.servers_cpu
        )

    return interleaved({"drctl backup, 1% changed": ours, "s5cmd ls, then rclone copy of 1%": peer}, rounds)


def large(site: BucketSite, rounds: int) -> Results:
    """A first snapshot of large objects, against rclone into an encrypted directory."""

    def peer() -> Run:
        folder = site.new_folder()
        try:
            return site.rclone("copy", f"s3:{SOURCE}", site.crypt(str(folder)))
        finally:
            shutil.rmtree(folder)

    return interleaved({"drctl backup": lambda: _first_backup(site), "rclone copy into crypt": peer}, rounds)


def replica(site: BucketSite, rounds: int) -> Results:
    """Everything into an empty bucket of the same server."""

    def ours() -> Run:
        bucket = site.new_bucket()
        config = site.repository(replica_to=bucket)
        run = site.drctl(config, "backup")
        site.remove_repository(config)
        site.drop(bucket)
        return run

    def peer() -> Run:
        bucket = site.new_bucket()
        run = site.rclone("sync", f"s3:{SOURCE}", f"s3:{bucket}")
        site.drop(bucket)
        return run

    return interleaved({"drctl backup, replica": ours, "rclone sync": peer}, rounds)


def restore(site: BucketSite, rounds: int) -> Results:
    """From the repository into an empty bucket, against rclone from a directory."""
    config, folder = site.filled_repository(), site.new_folder()
    site.rclone("copy", f"s3:{SOURCE}", str(folder))

    def ours() -> Run:
        bucket = site.new_bucket()
        run = site.drctl(config, "restore", "blocks", "--to", f"s3://{bucket}", "--yes")
        site.drop(bucket)
        return run

    def peer() -> Run:
        bucket = site.new_bucket()
        run = site.rclone("copy", str(folder), f"s3:{bucket}")
        site.drop(bucket)
        return run

    results = interleaved({"drctl restore": ours, "rclone copy": peer}, rounds)
    shutil.rmtree(folder)
    return results


def _first_backup(site: BucketSite) -> Run:
    config = site.repository()
    run = site.drctl(config, "backup")
    site.remove_repository(config)
    return run


def _into_folder(site: BucketSite, work: Callable[[str], Run]) -> Contender:
    def contender() -> Run:
        folder = site.new_folder()
        try:
            return work(str(folder))
        finally:
            shutil.rmtree(folder)

    return contender


_CASES = {
    "bucket-first": first,
    "bucket-unchanged": unchanged,
    "bucket-changed": changed,
    "bucket-large": large,
    "bucket-replica": replica,
    "bucket-restore": restore,
}
