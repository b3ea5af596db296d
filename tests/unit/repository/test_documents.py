"""Points, pins, evidence, notes: each that is damaged or made up is found and named, and none hides or stops anything else."""

from __future__ import annotations

import base64
import json
import random
from datetime import timedelta

import pytest

from dr_toolkit.repository import check, layout, pins
from dr_toolkit.repository.writer import SnapshotWriter
from tests.unit.repository.support import World, back_up, make_world, read_all

CONTENT = {"a": b"content " * 100}
HASH = base64.b64encode(bytes(32)).decode()


def change(world: World, name: str, body: bytes) -> None:
    world.store.delete(name)
    world.store.put(name, body)


def flipped(body: bytes, position: int) -> bytes:
    changed = bytearray(body)
    changed[position] ^= 1 << (position % 8)
    return bytes(changed)


@pytest.fixture
def world() -> World:
    """One snapshot, proven and in two points, one of which is pinned twice."""
    made = make_world()
    taken, _writer = back_up(made.as_writer(), CONTENT)
    first = made.repository.add_point("first", [taken])
    made.repository.add_point("second", [taken])
    for days in (1, 2):
        pins.pin(made.repository, first, made.clock.moment + timedelta(days=days))
    row = {"component": "console-db", "snapshot": taken.id, "digest": taken.digest_text, "level": "restore"}
    for _ in range(2):
        made.repository.add_evidence([row], "2026-01-01T00:00:00Z", "x")
    return made


def readable(world: World) -> tuple[int, int, int]:
    """How many points, pins and results still count."""
    opened = world.repository
    return len(list(opened.points())), len(list(pins.pins(opened))), len(opened.evidence()[0])


def named(world: World) -> list[str | None]:
    """Objects that are said to be damaged."""
    opened = world.repository
    return [e.on for e in (*opened.evidence()[1], *opened.damaged_documents(), *pins.damaged(opened))]


@pytest.mark.parametrize("folder", [layout.POINTS, layout.PINS, layout.EVIDENCE])
def test_a_flipped_bit_is_named_and_hides_no_other(world: World, folder: str) -> None:
    """Anywhere in the object: it alone is left out, the snapshot stays restorable, and nothing is taken for missing."""
    assert readable(world) == (2, 2, 2)
    name = min(item.name for item in world.store.list(folder))
    body = world.store.get(name)
    chance = random.Random(folder)
    for position in {0, len(body) // 2, len(body) - 1, *(chance.randrange(len(body)) for _ in range(20))}:
        change(world, name, flipped(body, position))
        assert named(world) == [name]
        assert sum(readable(world)) == 5
        found, failures = world.repository.snapshots()
        assert read_all(world.repository, found[0]) == CONTENT
        assert (failures, world.repository.missing(found)) == ([], [])
    for wrong in (body[:-1], body + b"\n", b""):
        change(world, name, wrong)
        assert named(world) == [name]


@pytest.mark.parametrize(
    "changes",
    [
        {"id": "20260101T000000Z-" + "0" * 32},
        {"id": None},
        {"name": 7},
        {"time": None},
        {"snapshots": None},
        {"snapshots": 3},
        {"snapshots": [["console-db", "x"]]},
        {"snapshots": [["console-db", 5, HASH]]},
        {"snapshots": [["console-db", "x", "no hash"]]},
        {"snapshots": ["abc"]},
        {"snapshots": [["console-db", "x", "YQ=="]]},
        {"format": 2},
        {"critical": ["new"]},
    ],
    ids=str,
)
def test_a_point_that_a_thief_made_up_stops_nothing(world: World, changes: dict[str, object]) -> None:
    """The write role can seal any fields: what is no point is said to be none, and the others count."""
    thief = world.as_writer()
    point_id = layout.new_timed_id(world.clock.moment)
    fields = {
        "format": 1, "critical": [], "id": point_id, "name": "x", "time": "2026-01-01T00:00:00Z", "snapshots": [],
    }  # fmt: skip
    thief._put_sealed(layout.point_name(point_id), b"T", json.dumps(fields | changes).encode())
    assert named(world) == [layout.point_name(point_id)]
    assert readable(world) == (2, 2, 2)
    found, _failures = world.repository.snapshots()
    assert world.repository.missing(found) == []


def test_a_point_under_another_name_is_refused(world: World) -> None:
    """A copy of an old point under a newer id would be taken for the newest."""
    name = next(item.name for item in world.store.list(layout.POINTS))
    moved = layout.point_name(layout.new_timed_id(world.clock.moment + timedelta(days=1)))
    world.store.put(moved, world.store.get(name))
    assert named(world) == [moved]


@pytest.mark.parametrize("damage", ["flip", "truncate", "append", "delete", "exchange"])
def test_a_note_is_verified(damage: str) -> None:
    """A snapshot's notes are checked with its data, each is named, and its content restores without them."""
    world = make_world()
    with SnapshotWriter(world.as_writer(), "base", "postgres-base") as writer:
        writer.begin("a", "x")
        writer.write(CONTENT["a"])
        writer.end({"size": len(CONTENT["a"])})
        writer.note("manifest", b"one " * 500)
        writer.note("page-marks", b"two " * 500)
        taken = writer.commit({})
    assert check.data(world.repository, taken).failures == []
    name, other = layout.note_name(taken.id, "manifest"), layout.note_name(taken.id, "page-marks")
    body = world.store.get(name)
    bodies = {
        "flip": flipped(body, len(body) // 2),
        "truncate": body[:-1],
        "append": body + b"\n",
        "exchange": world.store.get(other),
    }
    world.store.delete(name)
    if damage != "delete":
        world.store.put(name, bodies[damage])
    assert [on for on, _sentence in check.data(world.repository, taken).failures] == [name]
    quick = [on for on, _sentence in check.quick(world.repository, taken).failures]
    assert quick == ([name] if damage == "delete" else [])
    assert read_all(world.repository, taken) == CONTENT
