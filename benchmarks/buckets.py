"""The measurements of buckets: each contender once a round, against the same server."""

from __future__ import annotations

import shutil
from collections.abc import Callable

from benchmarks import table
from benchmarks.bucket_site import SOURCE, BucketSite
from benchmarks.cases import Contender, Results, interleaved
from benchmarks.measure import Run

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


def measure(name: str, objects: int, rounds: int) -> list[str]:
    """One measurement on a server of its own.

    Args:
        name: one of ``NAMES``.
        objects: small ones in the bucket; the large ones are always 20 of 100 MB.
        rounds: how many.

    Returns:
        Its table.
    """
    size, count = (LARGE, LARGE_OBJECTS) if name == "bucket-large" else (SMALL, objects)
    with BucketSite(count, size) as site:
        title = f"{name}: {count:,} objects of {size:,} bytes"
        return table.comparison(title, _CASES[name](site, rounds), site.bytes)


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
    config = site.repository()
    site.drctl(config, "backup")
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
    config = site.repository()
    site.drctl(config, "backup")

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
    config, folder = site.repository(), site.new_folder()
    site.drctl(config, "backup")
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

    return interleaved({"drctl restore": ours, "rclone copy": peer}, rounds)


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
