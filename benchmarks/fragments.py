"""``python -m benchmarks.fragments``: what a restore pays for a file over which many increments were laid, in processor seconds.

A file of random pages is stored whole, then increments of random pages are laid over it. After some of them the file is read back as a
restore reads it. The figures decide ``FRAGMENTS`` in ``dr_toolkit/jobs/base_plan.py``: how many extents a block of 128 KiB may have.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import shutil
import tempfile
import time
from pathlib import Path

from dr_toolkit.config import load
from dr_toolkit.jobs import initialise, opening
from dr_toolkit.keys import key_file
from dr_toolkit.repository.chunking import FIXED
from dr_toolkit.repository.reader import SnapshotReader
from dr_toolkit.repository.repository import Repository
from dr_toolkit.repository.snapshot import Snapshot
from dr_toolkit.repository.writer import SnapshotWriter

PAGE = 8192
PATH = "cluster/base/5/16384"
ROUNDS = 3
_CONFIG = """
version: 1
repository: {{url: "file://{root}/repository"}}
keys:
  write: {{type: key-file, role: write, path: {root}/write.key}}
  read: {{type: key-file, role: read, path: {root}/read.key}}
components:
  base:
    kind: postgres-base
    connection: {{host: localhost, database: postgres, user: postgres}}
"""


def main() -> None:
    """Measure, then print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=128, metavar="MIB", help="of the file (128)")
    parser.add_argument(
        "--changed", type=float, default=2.0, metavar="PERCENT", help="of pages, each time (2)"
    )
    asked = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="drctl-bench-"))
    try:
        _measure(root, asked.size * (1 << 20) // PAGE, asked.changed / 100)
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _measure(root: Path, pages: int, share: float) -> None:
    (root / "drctl.yaml").write_text(_CONFIG.format(root=root))
    for role in ("write", "read"):
        key_file.generate(str(root / f"{role}.key"))
    config = load(root / "drctl.yaml")
    initialise.run(config)
    chance = random.Random(5)
    print(f"{pages * PAGE >> 20} MiB, {share:.1%} of its pages changed at random each time")
    print(f"{'overlays':>8} {'extents/block':>13} {'CPU s':>7} {'wall s':>7} {'of whole':>8}")
    first = 0.0
    for number in range(65):
        with opening.opened_repository(config) as repository:
            taken = _write(repository, pages, set() if number == 0 else _some(chance, pages, share))
            if number & (number - 1) == 0:
                extents, used, wall = _read(repository, taken)
                first = first or used
                blocks = pages * PAGE / FIXED
                print(
                    f"{number:>8} {extents / blocks:>13.2f} {used:>7.3f} {wall:>7.3f} {used / first:>8.2f}",
                    flush=True,
                )


def _some(chance: random.Random, pages: int, share: float) -> set[int]:
    return set(chance.sample(range(pages), max(1, int(pages * share))))


def _write(repository: Repository, pages: int, changed: set[int]) -> Snapshot:
    with SnapshotWriter(repository, "base", "postgres-base", ordered=False) as writer:
        writer.begin(PATH, "file", cutting="fixed")
        number = 0
        while number < pages:
            if writer.parent is None or number in changed:
                writer.write(_page())
                number += 1
                continue
            start = number
            while number < pages and number not in changed:
                number += 1
            writer.keep((number - start) * PAGE)
        writer.end({})
        return writer.commit({})


def _page() -> bytes:
    """Half of it compresses, as rows do."""
    return os.urandom(PAGE // 2) + bytes(PAGE // 2)


def _read(repository: Repository, taken: Snapshot) -> tuple[int, float, float]:
    """Extents, and the best processor and wall time of some rounds."""
    tree, _packs = repository.trees(taken)
    extents = sum(1 for _extent in tree.extents(PATH) or ())
    found = []
    for _round in range(ROUNDS):
        began, used = time.perf_counter(), _used()
        with SnapshotReader(repository, taken) as reader:
            for _piece in reader.read(PATH):
                pass
        found.append((_used() - used, time.perf_counter() - began))
    return extents, min(u for u, _ in found), min(w for _, w in found)


def _used() -> float:
    mine = resource.getrusage(resource.RUSAGE_SELF)
    return mine.ru_utime + mine.ru_stime


if __name__ == "__main__":
    main()
