"""Reading entries whose parts alternate between packs and share frames."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from dr_toolkit.repository import reader
from dr_toolkit.repository.reader import SnapshotReader
from dr_toolkit.repository.writer import SnapshotWriter
from tests.unit.repository.support import make_world

if TYPE_CHECKING:
    import pytest

PAGE = 8192
PAGES = 256


def test_each_frame_is_opened_once_for_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of which every second page was laid over: right to the byte, with as many frames opened as there are, and few requests."""
    world = make_world()
    opened, content = world.as_writer(), bytearray(os.urandom(PAGES * PAGE))
    with SnapshotWriter(opened, "base", "postgres-base", ordered=False) as writer:
        writer.begin("f", "file", cutting="fixed")
        writer.write(content)
        writer.end({})
        writer.commit({})
    with SnapshotWriter(opened, "base", "postgres-base", ordered=False) as writer:
        writer.begin("f", "file", cutting="fixed")
        for number in range(PAGES):
            if number % 2:
                fresh = os.urandom(PAGE)
                writer.write(fresh)
                content[number * PAGE : (number + 1) * PAGE] = fresh
            else:
                writer.keep(PAGE)
        writer.end({})
        taken = writer.commit({})
    ranges = list[str]()
    get_range = world.store.get_range

    def counted(name: str, start: int, length: int) -> Any:
        ranges.append(name)
        return get_range(name, start, length)

    monkeypatch.setattr(world.store, "get_range", counted)
    with SnapshotReader(world.repository, taken) as source:
        assert b"".join(source.read("f")) == content
    runs = -(-PAGES * PAGE * 2 // reader.RUN_LIMIT)
    # For each of the two packs a request for its key, and one for each run.
    assert len([name for name in ranges if name.startswith("packs/")]) <= 2 + 2 * (runs + 1)
