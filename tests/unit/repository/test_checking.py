"""Checks of a snapshot's objects in memory: what each level finds, and how much of it a share reads."""

from __future__ import annotations

import random

import pytest

from dr_toolkit import errors
from dr_toolkit.repository import check, layout, repository
from dr_toolkit.repository.memory_store import MemoryStore
from dr_toolkit.repository.reader import SnapshotReader
from dr_toolkit.repository.records import Extent
from tests.unit.repository.support import World, back_up, make_world, read_all

SEED = 7


@pytest.fixture
def kept():
    """A world with one snapshot of some four packs."""
    world = make_world()
    content = {name: random.Random(name).randbytes(15 << 20) for name in "abcd"}
    taken, _writer = back_up(world.as_writer(), content)
    return world, taken


def replace(world, name: str, body: bytes) -> None:
    world.store.delete(name)
    world.store.put(name, body)


def reads(world) -> list[str]:
    """The packs that are read from now on."""
    seen: list[str] = []

    def note(operation, name):
        if operation.startswith("get") and name.startswith(layout.PACKS) and name not in seen:
            seen.append(name)

    world.store.before = note
    return seen


@pytest.mark.parametrize(("percent", "least", "most"), [(0.001, 1, 1), (50, 2, 3), (100, 4, 5)])
def test_a_share_reads_its_share_of_the_packs(kept, percent, least, most):
    """``--data=PERCENT``: that share of the packs, never none, chosen anew each time."""
    world, taken = kept
    seen = reads(world)
    check.data(world.repository, taken, percent, choose=random.Random(SEED))
    assert least <= len(seen) <= most
    others = {tuple(_chosen(world, taken, percent, seed)) for seed in range(20)}
    assert len(others) > 1 or percent == 100


def _chosen(world, taken, percent: float, seed: int) -> list[str]:
    seen = reads(world)
    check.data(world.repository, taken, percent, choose=random.Random(seed))
    return sorted(seen)


@pytest.mark.parametrize("place", [0, 100, 5000, -1, -100])
def test_a_flipped_bit_in_a_pack_is_named_and_never_given_out(kept, place):
    """Header, frame, footer, trailer: the whole check names the pack, and reading stops at it."""
    world, taken = kept
    name = next(iter(world.store.list(layout.PACKS))).name
    body = bytearray(world.store.get(name))
    body[place] ^= 4
    replace(world, name, bytes(body))
    result = check.data(world.repository, taken)
    assert any(name in str(failure) for failure in result.failures), result
    if place >= 0:
        with pytest.raises(errors.DataError):
            read_all(world.repository, taken)


def test_packs_that_changed_places_are_not_believed(kept):
    """Two sound packs under each other's names are as good as lost."""
    world, taken = kept
    one, two = [item.name for item in world.store.list(layout.PACKS)][:2]
    bodies = world.store.get(one), world.store.get(two)
    replace(world, one, bodies[1])
    replace(world, two, bodies[0])
    with pytest.raises(errors.DataError):
        read_all(world.repository, taken)


# -- each kind of object, each kind of damage -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def original():
    """A snapshot of two packs and a catalog, as it was made; tests damage copies."""
    world = make_world()
    content = {f"{n:02}": random.Random(n).randbytes(900_000) for n in range(25)}
    taken, _writer = back_up(world.as_writer(), content)
    return world, taken, content


@pytest.fixture
def damaged(original):
    """The same objects in a world of their own."""
    world, taken, content = original
    store = MemoryStore(world.clock)
    store.objects = dict(world.store.objects)
    trust = world.repository.keys.identity.trust
    opened = repository.open_repository(store, [world.both], trust)
    return World(world.clock, store, world.both, world.writer, opened), taken, content


def one_of(world, folder: str) -> str:
    return next(iter(world.store.list(folder))).name


def given_out(world, taken, content) -> str:
    """Read all; every piece that comes out must be right. The kind of failure that ends it, or an empty string."""
    with SnapshotReader(world.repository, taken) as reader:
        try:
            for entry in list(reader.entries()):
                position = 0
                for piece in reader.read(entry.path):
                    assert piece == content[entry.path][position : position + len(piece)]
                    position += len(piece)
                assert position == len(content[entry.path])
        except errors.DataError as error:
            return error.fault or "none"
    return ""


def flipped(body: bytes, place: int) -> bytes:
    return body[:place] + bytes((body[place] ^ 1,)) + body[place + 1 :]


@pytest.mark.parametrize(
    ("folder", "place", "kind"),
    [
        (layout.PACKS, 0, "structure"),  # magic
        (layout.PACKS, 7, "version"),
        (layout.PACKS, 11, "missing"),  # another epoch
        (layout.PACKS, 20, "commitment"),  # salt
        (layout.PACKS, 50, "commitment"),
        (layout.PACKS, 77, "version"),  # suite
        (layout.PACKS, 79, "structure"),
        (layout.PACKS, 500, "authentication"),  # HPKE
        (layout.PACKS, 40_000, "authentication"),  # a frame
        (layout.CATALOGS, 0, "structure"),
        (layout.CATALOGS, 7, "version"),
        (layout.CATALOGS, 11, "missing"),
        (layout.CATALOGS, 20, "commitment"),
        (layout.CATALOGS, 50, "commitment"),
        (layout.CATALOGS, 300, "authentication"),
    ],
)
def test_a_flipped_bit_has_its_kind(damaged, folder, place, kind):
    """It is named with the object by the whole check, and a reader stops with that kind of failure, nothing wrong given out."""
    world, taken, content = damaged
    name = one_of(world, folder)
    replace(world, name, flipped(world.store.get(name), place))
    result = check.data(world.repository, taken)
    assert any(on == name for on, _message in result.failures), result.failures
    assert given_out(world, taken, content) == kind


@pytest.mark.parametrize("place", [0, 7, 11, 20, 50, *range(76, 400, 40)])
def test_a_flipped_bit_in_a_header_is_reported(damaged, place):
    """Wherever it is; the snapshot is no longer listed as one that opens."""
    world, taken, _content = damaged
    name = layout.snapshot_name("console-db", taken.id)
    replace(world, name, flipped(world.store.get(name), place))
    found, failures = world.repository.snapshots()
    assert found == []
    assert [f.on for f in failures] == [name]
    assert failures[0].fault in (
        {"structure", "truncated", "authentication"}
        if place >= 76
        else {{0: "structure", 7: "version", 11: "missing"}.get(place, "commitment")}
    )


@pytest.mark.parametrize("back", [1, 5, 12, 13, 100, 1000])
def test_a_flipped_bit_in_a_footer_is_named(damaged, back):
    """Restores do not need it, so they still succeed; the check names the pack."""
    world, taken, content = damaged
    name = one_of(world, layout.PACKS)
    body = world.store.get(name)
    replace(world, name, flipped(body, len(body) - back))
    assert any(on == name for on, _message in check.data(world.repository, taken).failures)
    assert given_out(world, taken, content) == ""


@pytest.mark.parametrize("folder", [layout.PACKS, layout.CATALOGS])
@pytest.mark.parametrize("damage", ["deleted", "cut", "short", "empty", "longer"])
def test_an_object_of_another_size_is_named_by_both_checks(damaged, folder, damage):
    """Gone, cut off at an end or in the middle, or with bytes after its end: the quick check is enough for packs."""
    world, taken, content = damaged
    name = one_of(world, folder)
    body = world.store.get(name)
    changed = {"cut": body[:-1], "short": body[: len(body) // 2], "empty": b"", "longer": body + b"x"}
    world.store.delete(name)
    if damage != "deleted":
        world.store.put(name, changed[damage])
    assert any(on == name for on, _message in check.data(world.repository, taken).failures)
    if folder == layout.PACKS:
        assert any(on == name for on, _message in check.quick(world.repository, taken).failures)
    # Nothing that is needed is behind the end: a restore may succeed, but never with other content.
    fault = given_out(world, taken, content)
    if damage in {"deleted", "short", "empty"}:
        assert fault in {"none", "missing", "truncated"}


def test_frames_that_changed_places_do_not_open(damaged):
    """A frame is sealed for its number: two of one pack, exchanged with everything else in place, are found."""
    world, taken, content = damaged
    wanted, _packs = world.repository.trees(taken)
    name = one_of(world, layout.PACKS)
    frames = [r for _path, r in wanted.leaves() if isinstance(r, Extent) and layout.pack_name(r.pack) == name]
    one, two = frames[1], frames[2]
    body = world.store.get(name)
    first = body[one.frame_offset : one.frame_offset + one.frame_length]
    second = body[two.frame_offset : two.frame_offset + two.frame_length]
    assert two.frame_offset == one.frame_offset + one.frame_length
    moved = body[: one.frame_offset] + second + first + body[two.frame_offset + two.frame_length :]
    replace(world, name, moved)
    assert len(moved) == len(body)
    assert check.quick(world.repository, taken).failures == []
    assert [on for on, _message in check.data(world.repository, taken).failures] == [name]
    assert given_out(world, taken, content) == "authentication"


def test_one_damaged_object_hides_no_other(damaged):
    """Every damaged pack is named, not only the first."""
    world, taken, _content = damaged
    names = [item.name for item in world.store.list(layout.PACKS)]
    assert len(names) > 1
    for name in names:
        replace(world, name, flipped(world.store.get(name), 40_000))
    assert {on for on, _message in check.data(world.repository, taken).failures} == set(names)


def test_nothing_is_found_where_nothing_is_wrong(original):
    """Both checks count what they looked at."""
    world, taken, content = original
    packs = list(world.store.list(layout.PACKS))
    quick, whole = check.quick(world.repository, taken), check.data(world.repository, taken)
    assert quick.failures == whole.failures == []
    assert quick.packs == whole.packs == len(packs)
    assert quick.catalog_objects == whole.catalog_objects == len(list(world.store.list(layout.CATALOGS)))
    assert whole.bytes_read == sum(item.size for item in packs)
    assert given_out(world, taken, content) == ""
