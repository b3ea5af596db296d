"""Entries that come in any order: the snapshot is the same as if they had come sorted."""

from __future__ import annotations

import random

import pytest

from dr_toolkit import errors
from dr_toolkit.repository.writer import SnapshotWriter
from tests.unit.repository.support import make_world, read_all


def write(writer: SnapshotWriter, paths: list[str], content: dict[str, bytes]) -> None:
    for path in paths:
        writer.begin(path, "file", cutting="fixed")
        writer.write(content[path])
        writer.end({"mode": 0o600})


def test_any_order_gives_the_sorted_catalog():
    """Shuffled entries are read back whole and in order, and a later run in another order stores no page and no pack anew."""
    world = make_world()
    content = {f"d{n % 7}/f{n:04d}": random.Random(n).randbytes(n * 997) for n in range(400)}
    stored = []
    for seed in (1, 2):
        paths = random.Random(seed).sample(sorted(content), len(content))
        with SnapshotWriter(world.as_writer(), "c", "postgres-base", ordered=False) as writer:
            write(writer, paths, content)
            taken = writer.commit({})
        assert read_all(world.repository, taken) == content
        stored.append(writer.bytes_stored)
    assert stored[1] == 0


def test_a_path_that_comes_twice_is_refused():
    """Whatever lies between the two, no snapshot is made."""
    world = make_world()
    with SnapshotWriter(world.as_writer(), "c", "postgres-base", ordered=False) as writer:
        write(writer, ["b", "a", "b"], {"a": b"1", "b": b"2"})
        with pytest.raises(errors.SourceError, match="out of order"):
            writer.commit({})
    assert world.repository.snapshots("c")[0] == []


def test_order_is_still_asked_of_others():
    """Without ``ordered=False`` an entry that sorts before the last one is an error at once."""
    world = make_world()
    with SnapshotWriter(world.as_writer(), "c", "k") as writer:
        write(writer, ["b"], {"b": b"2"})
        with pytest.raises(errors.SourceError, match="cannot follow"):
            writer.begin("a", "file")
