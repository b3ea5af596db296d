"""Reading entries whose parts alternate between packs and share frames."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import pytest

from dr_toolkit.repository import filling, reader
from dr_toolkit.repository.chunking import FIXED
from dr_toolkit.repository.reader import SnapshotReader
from dr_toolkit.repository.records import Extent
from dr_toolkit.repository.snapshot import Snapshot
from dr_toolkit.repository.writer import SnapshotWriter
from tests.unit.repository.support import make_world

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


def test_pages_that_changed_share_chunks() -> None:
    """Of pages with others between them sixteen make a chunk, and none reaches over more than a reader fetches at once."""
    world = make_world()
    opened, pages = world.as_writer(), 4 * filling.REACH // PAGE
    with SnapshotWriter(opened, "base", "postgres-base", ordered=False) as writer:
        _add(writer, "f", [bytes([n % 251]) * PAGE for n in range(pages)])
        writer.commit({})
    wanted = {n: os.urandom(PAGE) for n in range(0, pages, 4)}
    with SnapshotWriter(opened, "base", "postgres-base", ordered=False) as writer:
        _add(writer, "f", [wanted.get(n, PAGE) for n in range(pages)])
        taken = writer.commit({})
    tree, _packs = world.repository.trees(taken)
    chunks: dict[bytes, list[int]] = {}
    for extent in tree.extents("f") or ():
        if isinstance(extent, Extent) and extent.offset // PAGE in wanted and extent.length == PAGE:
            chunks.setdefault(extent.chunk_id, []).append(extent.offset)
    assert sum(map(len, chunks.values())) == len(wanted)
    assert len(chunks) == len(wanted) * PAGE // FIXED
    assert max(offsets[-1] - offsets[0] for offsets in chunks.values()) < filling.REACH


@pytest.mark.parametrize("seed", range(5))
def test_whatever_is_laid_over_what_is_read(seed: int) -> None:
    """Written, kept and empty parts of any length, in files of any length, over each other: every snapshot is right to the byte."""
    world, chance = make_world(), random.Random(seed)
    opened, state = world.as_writer(), {f"f{n}": b"" for n in range(3)}
    taken: list[tuple[Snapshot, dict[str, bytes]]] = []
    for _round in range(4):
        with SnapshotWriter(opened, "base", "postgres-base", ordered=False) as writer:
            for path, before in state.items():
                parts, size = list[bytes | int](), 0
                for _part in range(chance.randrange(40)):
                    length = chance.choice((1, 5, PAGE, 3 * PAGE, 16 * PAGE, 100 * PAGE))
                    kind = chance.choice(("write", "write", "keep", "zeros"))
                    if kind == "keep" and size + length <= len(before):
                        parts.append(length)
                    else:
                        parts.append(-length if kind == "zeros" else chance.randbytes(length))
                    size += length
                state[path] = _add(writer, path, parts, before)
            taken.append((writer.commit({}), dict(state)))
    for snapshot, expected in taken:
        with SnapshotReader(world.repository, snapshot) as source:
            for path, content in expected.items():
                assert b"".join(source.read(path)) == content
                scattered = bytearray(len(content))
                source.deliver(path, partial(_put, scattered))
                assert scattered == content


def _add(writer: SnapshotWriter, path: str, parts: Sequence[bytes | int], before: bytes = b"") -> bytes:
    """Write an entry: content, or how many bytes are kept, or below zero how many are zero. Gives what it is then."""
    content = bytearray()
    writer.begin(path, "file", cutting="fixed")
    for part in parts:
        if isinstance(part, bytes):
            writer.write(part)
            content += part
        elif part > 0:
            writer.keep(part)
            content += before[len(content) : len(content) + part]
        else:
            writer.zeros(-part)
            content += bytes(-part)
    writer.end({})
    return bytes(content)


def _put(target: bytearray, offset: int, pieces: Iterator[bytes]) -> None:
    for piece in pieces:
        target[offset : offset + len(piece)] = piece
        offset += len(piece)
