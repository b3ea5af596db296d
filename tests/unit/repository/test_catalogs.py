"""Catalogs as trees of pages: any records come back, what a tree is depends on nothing but its records, and edits are cheap."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from dr_toolkit import errors
from dr_toolkit.repository import layout, records
from dr_toolkit.repository.catalog import PAGE_CEILING, PageStore, TreeWriter
from dr_toolkit.repository.catalog_reader import HELD, TreeReader
from dr_toolkit.repository.records import Begin, Extent, Finish, Zeros
from dr_toolkit.repository.stretches import stretches
from tests.unit.repository.support import World, make_world

if TYPE_CHECKING:
    from dr_toolkit.repository.records import Leaf, Root

Rows = list[tuple[str, int, "Leaf"]]
LETTERS = "aZ/-_.0 é☃𐐷￿"


@pytest.fixture(scope="module")
def world() -> World:
    """One repository for all trees: what is put into it never meets."""
    return make_world()


def write(world: World, rows: Rows, parent: Root | None = None) -> tuple[Root | None, int]:
    """Write a tree of entries; its root, and the number of pages that were stored for it."""
    keys, pages = world.repository.keys, PageStore(world.repository.keys, world.store.put)
    stored: list[bytes] = []
    add = pages.add
    pages.add = lambda content, page_id: stored.append(page_id) or add(content, page_id)  # type: ignore[method-assign,func-returns-value]
    source = TreeReader(world.repository.pages, parent, "entries") if parent else None
    tree = TreeWriter("entries", pages, keys.derived("cut"), source)
    for row in rows:
        tree.add(*row)
    root = tree.finish()
    pages.flush()
    return root, len(stored)


def read(world: World, root: Root | None) -> Rows:
    """Every record of a tree with its key."""
    found = []
    for path, record in TreeReader(world.repository.pages, root, "entries").leaves():
        where = {Begin: records.BEGIN, Finish: records.FINISH}
        found.append((path, where.get(type(record), getattr(record, "offset", 0)), record))
    return found


def pages_of(world: World, root: Root, level: int) -> list[records.Index]:
    return list(TreeReader(world.repository.pages, root, "entries").references(level))


def entry(path: str, made: random.Random, extents: int) -> Rows:
    """The records of one entry: chunks of made-up packs, and zeros."""
    rows: Rows = [(path, records.BEGIN, Begin(path, "table-data"))]
    position = 0
    for number in range(extents):
        length = made.randint(1, 200_000)
        record: Leaf = Zeros(position, length)
        if made.random() < 0.9:
            record = Extent(
                position, length, made.randbytes(32), 0, length, made.randbytes(16), number, 5000, length + 17
            )
        rows.append((path, position, record))
        position += length
    return [
        *rows,
        (path, records.FINISH, Finish(position, {"rows": extents, "note": "x" * made.randint(0, 99)})),
    ]


def entries(seed: int, count: int) -> dict[str, Rows]:
    """Entries of every size under paths of every alphabet."""
    made = random.Random(seed)
    paths = {"".join(made.choices(LETTERS, k=made.randint(1, 12))) + f"{n:x}" for n in range(count)}
    return {path: entry(path, made, made.choice([0, 0, 1, 2, 7, 300])) for path in sorted(paths)}


def joined(content: dict[str, Rows]) -> Rows:
    return [row for path in sorted(content, key=str.encode) for row in content[path]]


@pytest.mark.parametrize(("seed", "count"), [(1, 0), (2, 1), (3, 3), (4, 40), (5, 150), (6, 400)])
def test_any_records_come_back(world, seed, count):
    """Whatever the number and size of records, and wherever the pages are cut."""
    rows = joined(entries(seed, count))
    root, _stored = write(world, rows)
    assert read(world, root) == rows
    assert (root is None) == (not rows)


@pytest.mark.parametrize("seed", range(8))
def test_a_tree_depends_on_its_records_only(world, seed):
    """After any edits on the parent, it has the leaves that it has without one, and index pages begin at the same keys."""
    made, content, parent = random.Random(seed), entries(seed, 120), None
    for _step in range(4):
        parent, _stored = write(world, joined(content), parent)
        for path in made.sample(sorted(content), min(len(content), 15)):
            content.pop(path) if made.random() < 0.5 else content.update({path: entry(path, made, 5)})  # type: ignore[func-returns-value]
        new = f"new{made.randint(0, 99999)}"
        content[new] = entry(new, made, made.choice([0, 3, 600]))
    grown, _stored = write(world, joined(content), parent)
    alone, _stored = write(world, joined(content))
    assert grown is not None
    assert alone is not None
    assert grown.level == alone.level
    assert [(i.key, i.page_id) for i in pages_of(world, grown, 0)] == [
        (i.key, i.page_id) for i in pages_of(world, alone, 0)
    ]
    for level in range(grown.level + 1):
        assert [i.key for i in pages_of(world, grown, level)] == [
            i.key for i in pages_of(world, alone, level)
        ]
    assert read(world, grown) == joined(content)


def test_an_unchanged_tree_stores_no_page(world):
    """Not even its root."""
    rows = joined(entries(11, 400))
    first, stored = write(world, rows)
    assert stored > 20
    assert write(world, rows, first) == (first, 0)


@pytest.mark.parametrize("place", [0.0, 0.5, 1.0])
def test_one_changed_entry_stores_a_page_of_each_level(world, place):
    """An insertion moves no other cut: beside the path to the root, at most a neighbour is stored again."""
    content = entries(12, 600)
    first, stored = write(world, joined(content))
    path = sorted(content, key=str.encode)[int(place * (len(content) - 1))]
    content[path + "+"] = entry(path + "+", random.Random(1), 3)
    second, again = write(world, joined(content), first)
    assert first is not None
    assert again <= 2 * (first.level + 1) + 1 < stored / 3
    assert read(world, second) == joined(content)


def test_large_records_stay_within_the_limit_of_a_page(world):
    """Facts of 60 KiB an entry: pages are cut by size, a reader takes them, and the parent's are shared."""
    note = "x" * 60_000
    rows: Rows = []
    for number in range(40):
        path = f"e{number:03}"
        rows += [(path, -1, Begin(path, "x")), (path, records.FINISH, Finish(0, {"note": note}))]
    root, stored = write(world, rows)
    assert stored >= 40 * 60_000 // PAGE_CEILING
    assert read(world, root) == rows
    assert write(world, rows, root) == (root, 0)


@pytest.mark.parametrize("prefix", ["", "a", "é", "Z/", "nothing"])
def test_entries_by_prefix(world, prefix):
    """Those whose paths begin so, in order of their bytes, with size and facts; pages of extents alone are not read."""
    content = entries(13, 300)
    root, _stored = write(world, joined(content))
    found = list(TreeReader(world.repository.pages, root, "entries").entries(prefix))
    assert [e.path for e in found] == sorted((p for p in content if p.startswith(prefix)), key=str.encode)
    for one in found:
        last = content[one.path][-1][2]
        assert isinstance(last, Finish)
        assert (one.size, one.meta) == (last.size, last.meta)


def test_one_entry_is_read_by_few_pages(world):
    """Somewhere in a tree of many pages: the path from the root, and the entry's own."""
    content = entries(14, 600)
    root, stored = write(world, joined(content))
    assert root is not None
    pages = world.as_writer().pages
    opened: list[object] = []
    decoded = pages._decoded
    pages._decoded = lambda reference: opened.append(reference) or decoded(reference)  # type: ignore[method-assign,func-returns-value]
    path = next(p for p in sorted(content) if len(content[p]) == 9)
    extents = TreeReader(pages, root, "entries").extents(path)
    assert extents is not None
    assert list(extents) == [row[2] for row in content[path][1:-1]]
    assert len(opened) <= root.level + 3 < stored


def test_records_out_of_order_are_refused(world):
    """The writer's own mistake does not become a catalog that nobody can read."""
    tree = TreeWriter("entries", PageStore(world.repository.keys, world.store.put), b"k" * 32)
    tree.add("b", records.BEGIN, Begin("b", "x"))
    for path, offset in (("a", records.BEGIN), ("b", records.BEGIN)):
        with pytest.raises(errors.SourceError, match="out of order"):
            tree.add(path, offset, Begin(path, "x"))


def test_a_tree_is_not_taken_for_the_other(world):
    """A root of entries where packs are expected, or one level off, is no catalog."""
    root, _stored = write(world, joined(entries(15, 20)))
    assert root is not None
    for reader in (
        TreeReader(world.repository.pages, root, "packs"),
        TreeReader(world.repository.pages, records.Root(root.level + 1, root.page), "entries"),
    ):
        with pytest.raises(errors.Damaged) as caught:
            list(reader.leaves())
        assert caught.value.fault == "structure"
        assert layout.CATALOGS in str(caught.value.on)


@pytest.mark.parametrize(("seed", "most"), [*((n, HELD) for n in range(4)), (4, 40), (5, 0)])
def test_carried_stretches_make_the_same_tree(world, seed, most):
    """Whatever is held in memory, runs of the parent's entries, taken over as lines between new ones and left-out ones, are the tree that their records make."""
    made, content = random.Random(seed), entries(seed + 20, 200)
    parent, _stored = write(world, joined(content))
    source = TreeReader(world.repository.pages, parent, "entries")
    tree = TreeWriter(
        "entries", PageStore(world.repository.keys, world.store.put), world.repository.keys.derived("cut"), source
    )  # fmt: skip
    left: dict[str, Rows] = {}
    for stretch in stretches(source, most=most):
        start = 0
        while start < len(stretch):
            end = made.randint(start + 1, len(stretch))
            for part in stretch.parts(start, end):
                tree.extend(part)
            left |= {begin.path: content[begin.path] for begin in stretch.begins[start:end]}
            start = end
            if start < len(stretch) and made.random() < 0.5:
                if made.random() < 0.5:
                    path = stretch.begins[start - 1].path + "\x01"
                    left[path] = entry(path, made, made.choice([0, 2, 300]))
                    for row in left[path]:
                        tree.add(*row)
                start += made.randint(0, 1)
    grown = tree.finish()
    tree._pages.flush()
    alone, _stored = write(world, joined(left))
    assert grown is not None
    assert alone is not None
    assert read(world, grown) == joined(left)
    assert [(i.key, i.page_id, i.records) for i in pages_of(world, grown, 0)] == [
        (i.key, i.page_id, i.records) for i in pages_of(world, alone, 0)
    ]


def test_a_whole_tree_carried_stores_no_page(world):
    """Large records, whose pages are cut by size, too."""
    note = "x" * 60_000
    rows = joined(entries(31, 300))
    for number in range(30):
        path = f"\U0010ffff{number:03}"
        rows += [(path, -1, Begin(path, "x")), (path, records.FINISH, Finish(0, {"note": note}))]
    parent, _stored = write(world, rows)
    source = TreeReader(world.repository.pages, parent, "entries")
    stored: list[str] = []
    pages = PageStore(world.repository.keys, lambda name, _data: stored.append(name))
    tree = TreeWriter("entries", pages, world.repository.keys.derived("cut"), source)
    for stretch in stretches(source):
        for part in stretch.parts(0, len(stretch)):
            tree.extend(part)
    assert tree.finish() == parent
    pages.flush()
    assert stored == []


def test_a_very_large_entry_is_never_held(world):
    """An object of terabytes has millions of extents. Here at most 50 records are to be held: of entries before and after, and of no entry with more."""
    made = random.Random(33)
    content = {path: entry(path, made, count) for path, count in {"a": 3, "b": 4000, "c": 0, "d": 900, "e": 30, "f": 3}.items()}  # fmt: skip
    root, _stored = write(world, joined(content))
    source = TreeReader(world.repository.pages, root, "entries")
    page = max(index.records for index in pages_of(world, root, 0))
    lengths, large = [], []
    for stretch in stretches(source, most=50):
        lengths.append(len(stretch.records))
        large += [begin.path for begin in stretch.begins if not stretch.records]
        for number, begin in enumerate(stretch.begins):
            wanted = [row[2] for row in content[begin.path]]
            parts = list(stretch.parts(number, number + 1))
            assert [record for part in parts for record in part.records] == wanted
            assert max(len(part.records) for part in parts) <= page
            assert list(stretch.extents(number)) == wanted[1:-1] == list(stretch.extents(number))
            assert stretch.packs_of(number) == {r.pack for r in wanted if isinstance(r, Extent)}
    assert "b" in large
    assert max(lengths) <= 50 + page < 4000
    alone = {info.path: extents for info, extents in source.whole_entries(most=50)}
    assert [path for path in alone if not isinstance(alone[path], list)] == ["b", "d"]
    assert {path: list(extents) for path, extents in alone.items()} == {
        path: [row[2] for row in rows[1:-1]] for path, rows in content.items()
    }


def test_a_part_out_of_order_is_refused(world):
    """The same run of entries twice."""
    root, _stored = write(world, joined(entries(32, 5)))
    stretch = next(stretches(TreeReader(world.repository.pages, root, "entries")))
    tree = TreeWriter("entries", PageStore(world.repository.keys, world.store.put), b"k" * 32)
    part = next(stretch.parts(0, len(stretch)))
    tree.extend(part)
    with pytest.raises(errors.SourceError, match="out of order"):
        tree.extend(part)


@pytest.mark.parametrize(
    "rows",
    [
        [("a", -1, Begin("a", "x")), ("a", records.FINISH, Finish(5, {}))],
        [("a", -1, Begin("a", "x")), ("a", 3, Zeros(3, 2)), ("a", records.FINISH, Finish(2, {}))],
        [("a", -1, Begin("a", "x")), ("b", -1, Begin("b", "x")), ("b", records.FINISH, Finish(0, {}))],
        [("a", -1, Begin("a", "x")), ("a", 0, Zeros(0, 2))],
    ],
    ids=["size", "gap", "no end", "cut"],
)
@pytest.mark.parametrize("most", [0, HELD])
def test_entries_that_are_not_whole_are_not_carried(world, rows, most):
    """What no writer makes is damage, and does not come into another snapshot."""
    root, _stored = write(world, rows)
    with pytest.raises(errors.Damaged):
        list(stretches(TreeReader(world.repository.pages, root, "entries"), most=most))
