"""What must be there for a snapshot to be of use is read again from the storage before the commit."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from dr_toolkit import errors
from dr_toolkit.repository.writer import SnapshotWriter
from tests.unit.repository.support import make_world, read_all

if TYPE_CHECKING:
    from dr_toolkit.repository.repository import Repository
    from dr_toolkit.repository.snapshot import Snapshot


def take(opened: Repository, wal: bytes) -> Snapshot:
    with SnapshotWriter(opened, "base", "postgres-base", ordered=False, read_back="wal/") as writer:
        for path, content in (("wal/1", wal), ("data/1", bytes(100_000))):
            writer.begin(path, "file", cutting="fixed")
            writer.write(content)
            writer.end({})
        return writer.commit({})


@pytest.mark.parametrize("damage", ["altered", "lost"])
def test_a_storage_that_does_not_keep_what_it_takes_is_found(
    damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Altered or lost right after it was accepted: no snapshot, and the write role alone finds it."""
    world = make_world()
    put = world.store.put

    def forgetful(name: str, data: bytes) -> None:
        content = bytearray(data)
        if name.startswith("packs/"):
            if damage == "lost":
                return
            content[len(content) // 2] ^= 1
        put(name, bytes(content))

    monkeypatch.setattr(world.store, "put", forgetful)
    opened = world.as_writer()
    with pytest.raises(errors.DataError):
        take(opened, os.urandom(300_000))
    assert opened.snapshots("base")[0] == []


def test_what_is_read_back_is_this_runs_own() -> None:
    """WAL that an earlier snapshot has too is stored again: what was read back is what recovery will read."""
    world, wal = make_world(), os.urandom(300_000)
    first, second = (take(world.as_writer(), wal) for _ in range(2))
    assert second.header.bytes_new == len(wal)
    assert read_all(world.repository, second) == read_all(world.repository, first)
