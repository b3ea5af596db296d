"""Checks of a snapshot's objects in memory: what each level finds, and how much of it a share reads."""

from __future__ import annotations

import random

import pytest

from dr_toolkit import errors
from dr_toolkit.repository import check, layout
from tests.unit.repository.support import back_up, make_world, read_all

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
