"""Snapshots in memory: what is stored, what the write role can do, and what happens when things go wrong in the middle."""

from __future__ import annotations

import random
import threading
import time
from datetime import timedelta

import pytest

from dr_toolkit import errors
from dr_toolkit.repository import layout, repository
from dr_toolkit.repository.reader import SnapshotReader
from dr_toolkit.repository.writer import SnapshotWriter
from tests.unit.repository.support import back_up, make_world, read_all

MEGABYTE = 1 << 20


def noise(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


def edited(content: bytes, at: int, insertion: bytes) -> bytes:
    return content[:at] + insertion + content[at:]


def packs(world) -> list[str]:
    return [item.name for item in world.store.list(layout.PACKS)]


@pytest.mark.parametrize("size", [0, 1, 16 << 10, (256 << 10) + 1, 5 * MEGABYTE + 3])
@pytest.mark.parametrize("cutting", ["content", "fixed", "private"])
def test_what_is_written_is_read(size, cutting):
    """Every kind of cutting gives back exactly the bytes, at the sizes where cutting changes its mind."""
    world = make_world()
    content = {"a": noise(size), "b/c": noise(size, 2), "z": b""}
    taken, _writer = back_up(world.as_writer(), content, cutting=cutting)
    assert read_all(world.repository, taken) == content


def test_thousands_of_small_entries():
    """Entries far smaller than a chunk share packs and come back in order."""
    world = make_world()
    content = {f"t/{number:05d}": b"row %d\n" % number for number in range(2000)}
    taken, _writer = back_up(world.as_writer(), content)
    assert read_all(world.repository, taken) == content
    assert len(packs(world)) == 1


def test_unchanged_content_stores_no_pack():
    """The second snapshot has the whole content and stores only its header."""
    world = make_world()
    content = {"a": noise(4 * MEGABYTE), "b": noise(100)}
    back_up(world.as_writer(), content)
    before = packs(world)
    again, writer = back_up(world.as_writer(), content)
    assert packs(world) == before
    assert (writer.bytes_new, writer.bytes_stored) == (0, 0)
    assert read_all(world.repository, again) == content


@pytest.mark.parametrize("at", [0, 3 * MEGABYTE, 8 * MEGABYTE])
def test_an_insertion_moves_few_chunks(at):
    """Cuts follow the content: what is inserted at the beginning, in the middle or at the end costs a few chunks."""
    world = make_world()
    content = noise(8 * MEGABYTE)
    back_up(world.as_writer(), {"a": content})
    taken, writer = back_up(world.as_writer(), {"a": edited(content, at, b"a row more\n")})
    assert 0 < writer.bytes_new < MEGABYTE
    assert read_all(world.repository, taken) == {"a": edited(content, at, b"a row more\n")}


def test_the_write_role_goes_on_and_reads_nothing():
    """It takes incremental snapshots, but can neither open a pack nor read a snapshot that it has just written."""
    world = make_world()
    opened = world.as_writer()
    taken, _writer = back_up(opened, {"a": noise(MEGABYTE)})
    _again, writer = back_up(opened, {"a": noise(MEGABYTE)})
    assert writer.bytes_new == 0
    with pytest.raises(errors.DrctlError, match="open key"), SnapshotReader(opened, taken) as reader:
        b"".join(reader.read("a"))
    assert read_all(world.repository, taken) == {"a": noise(MEGABYTE)}


def test_another_repositorys_keys_are_refused():
    """Whoever puts keys of their own in place gets no later backup sealed to them: the pin does not fit."""
    world, other = make_world(), make_world()
    back_up(world.as_writer(), {"a": b"1"})
    for item in list(world.store.list("")):
        if item.name.startswith((layout.KEYS, layout.REPOSITORY)):
            world.store.delete(item.name)
    for item in list(other.store.list("")):
        if item.name.startswith((layout.KEYS, layout.REPOSITORY)):
            world.store.put(item.name, other.store.get(item.name))
    with pytest.raises(errors.DrctlError):
        repository.open_repository(
            world.store, [world.writer, other.writer], world.repository.keys.identity.trust
        )


def test_packs_of_a_killed_run_are_adopted():
    """A run that ends without a commit leaves no snapshot; the next one sends nothing of it again."""
    world = make_world()
    content = noise(40 * MEGABYTE)
    with SnapshotWriter(world.as_writer(), "console-db", "postgres-dump") as writer:
        writer.begin("a", "table-data")
        writer.write(content)
        writer.end({})
        writer.begin("b", "table-data")
    left = packs(world)
    assert left
    assert world.repository.snapshots("console-db") == ([], [])
    taken, writer = back_up(world.as_writer(), {"a": content})
    assert set(left) <= set(packs(world))
    stored = sum(world.store.head(name).size for name in left)
    assert writer.bytes_new < len(content) - stored + MEGABYTE
    assert read_all(world.repository, taken) == {"a": content}


def test_packs_of_another_component_are_not_adopted():
    """Content of one component says nothing about another's."""
    world = make_world()
    content = noise(20 * MEGABYTE)
    with SnapshotWriter(world.as_writer(), "sql-db", "postgres-dump") as writer:
        writer.begin("a", "table-data")
        writer.write(content)
        writer.end({})
    _taken, writer = back_up(world.as_writer(), {"a": content})
    assert writer.bytes_new == len(content)


def test_a_run_that_is_too_late_commits_nothing():
    """The store's clock passed the commit deadline while the source was read: packs may be pruned, so no snapshot."""
    world = make_world()
    with SnapshotWriter(world.as_writer(), "console-db", "postgres-dump") as writer:
        writer.begin("a", "table-data")
        writer.write(b"content")
        writer.end({})
        world.clock.advance(days=4)
        with pytest.raises(errors.CommitRefused, match="deadline"):
            writer.commit({})
    assert world.repository.snapshots("console-db") == ([], [])


def test_two_runs_at_once_are_both_whole():
    """They do not know of each other; each commits, each is read."""
    world = make_world()
    with (
        SnapshotWriter(world.as_writer(), "console-db", "postgres-dump") as one,
        SnapshotWriter(world.as_writer(), "console-db", "postgres-dump") as two,
    ):
        taken = []
        for writer, content in ((one, b"1"), (two, b"2")):
            writer.begin("a", "table-data")
            writer.write(content)
            writer.end({})
        taken = [one.commit({}), two.commit({})]
    assert [read_all(world.repository, s)["a"] for s in taken] == [b"1", b"2"]
    assert len(world.repository.snapshots("console-db")[0]) == 2


def test_a_clock_an_hour_back_keeps_the_order():
    """The next snapshot is dated after the newest, says so, has it as its parent, and is chosen as the newest."""
    world = make_world()
    first, _writer = back_up(world.as_writer(), {"a": b"1"})
    world.clock.advance(hours=-1)
    second, _writer = back_up(world.as_writer(), {"a": b"2"})
    assert second.id > first.id
    assert second.header.parent == first.id
    assert any("behind the newest snapshot" in warning for warning in second.header.warnings)
    world.clock.advance(hours=2)
    third, _writer = back_up(world.as_writer(), {"a": b"3"})
    assert third.header.warnings == []
    assert [s.id for s in world.repository.snapshots("console-db")[0]] == [first.id, second.id, third.id]


def test_a_snapshot_from_the_future_is_no_parent():
    """A clock that was days ahead once does not make every later snapshot wrong."""
    world = make_world()
    world.clock.advance(days=30)
    ahead, _writer = back_up(world.as_writer(), {"a": b"1"})
    world.clock.advance(days=-30)
    taken, _writer = back_up(world.as_writer(), {"a": b"2"})
    assert taken.header.parent is None
    assert any(ahead.id in warning for warning in taken.header.warnings)
    assert taken.header.moment <= world.clock.moment + timedelta(seconds=1)


def test_private_content_cannot_be_confirmed():
    """The same small secret twice has two ids and is stored twice: nobody who can write can test a guess."""
    world = make_world()
    back_up(world.as_writer(), {"globals.sql": b"ALTER ROLE a"}, cutting="private")
    _again, writer = back_up(world.as_writer(), {"globals.sql": b"ALTER ROLE a"}, cutting="private")
    assert writer.bytes_new == len(b"ALTER ROLE a")
    with SnapshotReader(world.repository, _again) as reader:
        assert b"".join(reader.read("globals.sql")) == b"ALTER ROLE a"


def test_equal_content_in_one_run_is_stored_once():
    """Eight copies of a table cost one."""
    world = make_world()
    _taken, writer = back_up(world.as_writer(), {f"copy-{n}": noise(3 * MEGABYTE) for n in range(8)})
    assert writer.bytes_new < 4 * MEGABYTE


@pytest.mark.parametrize(
    ("first", "then"), [("b", "a"), ("a", "a"), ("a", ""), ("a", "b\0"), ("a", "b" * 5000)]
)
def test_entries_come_in_order_under_names_that_fit(first, then):
    """A component that breaks the order of paths, or names an entry in a way that cannot be kept, is stopped."""
    world = make_world()
    with SnapshotWriter(world.as_writer(), "console-db", "postgres-dump") as writer:
        writer.begin(first, "x")
        writer.end({})
        with pytest.raises(errors.SourceError):
            writer.begin(then, "x")


def test_content_outside_an_entry_and_open_entries_are_refused():
    """Neither ends up in a snapshot in silence."""
    world = make_world()
    with SnapshotWriter(world.as_writer(), "console-db", "postgres-dump") as writer:
        with pytest.raises(errors.SourceError):
            writer.write(b"lost")
        writer.begin("a", "x")
        with pytest.raises(errors.SourceError, match="not ended"):
            writer.commit({})


def test_facts_that_are_too_large_are_refused():
    """An entry's facts are bounded, because a reader refuses more."""
    world = make_world()
    with SnapshotWriter(world.as_writer(), "console-db", "postgres-dump") as writer:
        writer.begin("a", "x")
        with pytest.raises(errors.SourceError, match="too large"):
            writer.end({"columns": "x" * 70_000})


@pytest.mark.parametrize("size", [1000, 60 * MEGABYTE])
def test_a_failed_upload_is_the_runs_failure(size):
    """An upload fails in the background, early or at the end: its own error is raised, and nothing is committed."""
    world = make_world()
    failure = errors.StoreFull("no space left", on="packs/")

    def refuse(operation, name):
        if operation == "put" and name.startswith(layout.PACKS):
            raise failure

    opened = world.as_writer()
    world.store.before = refuse
    with pytest.raises(errors.StoreFull, match="no space left"):
        back_up(opened, {"a": noise(size)})
    world.store.before = None
    assert world.repository.snapshots("console-db") == ([], [])
    assert read_all(world.repository, back_up(opened, {"a": b"1"})[0]) == {"a": b"1"}


def test_giving_up_does_not_wait_for_a_storage_that_hangs():
    """An upload hangs, the caller leaves: within seconds, and nothing appears."""
    world = make_world()
    hanging, free = threading.Event(), threading.Event()

    def hang(operation, name):
        if operation == "put" and name.startswith(layout.PACKS):
            hanging.set()
            free.wait(60)

    opened = world.as_writer()
    world.store.before = hang
    try:
        with SnapshotWriter(opened, "console-db", "postgres-dump") as writer:
            writer.begin("a", "table-data")
            writer.write(noise(30 * MEGABYTE))
            assert hanging.wait(30)
            began = time.monotonic()
        assert time.monotonic() - began < 20
    finally:
        free.set()
    world.store.before = None
    assert world.repository.snapshots("console-db") == ([], [])


def test_a_lost_pack_is_stored_again():
    """What the parent kept in a pack that is gone is not referred to: the new snapshot is whole, the loss is told."""
    world = make_world()
    content = {"a": noise(MEGABYTE), "b": noise(MEGABYTE, 2)}
    back_up(world.as_writer(), content)
    (name,) = packs(world)
    world.store.delete(name)
    taken, _writer = back_up(world.as_writer(), content)
    assert any(name in warning for warning in taken.header.warnings)
    assert read_all(world.repository, taken) == content
