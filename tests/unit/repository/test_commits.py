"""What makes a snapshot exist, what shows that one is gone, and what a run may rely on."""

from __future__ import annotations

import base64
import random
from datetime import timedelta

import msgspec
import pytest

from dr_toolkit import clock, errors
from dr_toolkit.repository import crypto, known, layout, pack, snapshot
from dr_toolkit.repository.known import ParentWindow, Place, Recent
from dr_toolkit.repository.records import Extent, PackUse
from dr_toolkit.repository.writer import SnapshotWriter
from tests.unit.repository.support import WEEK, World, back_up, make_world, read_all

CONTENT = random.Random(3).randbytes(200_000)


def delete(world: World, taken: snapshot.Snapshot) -> None:
    world.store.delete(layout.snapshot_name(taken.header.component, taken.id))


def several(world: World, count: int) -> list[snapshot.Snapshot]:
    """Snapshots an hour apart."""
    made = []
    for number in range(count):
        world.clock.advance(hours=1)
        made.append(back_up(world.as_writer(), {"a": b"%d" % number})[0])
    return made


def missing(world: World) -> list[tuple[str, str]]:
    found, failures = world.repository.snapshots()
    return [(f.snapshot, f.problem) for f in world.repository.missing(found, failures)]


def killed(world: World, content: bytes = CONTENT, component: str = "console-db") -> str:
    """A run that stored a pack and then died; the pack's name."""
    before = {item.name for item in world.store.list(layout.PACKS)}
    with SnapshotWriter(world.as_writer(), component, "postgres-dump") as writer:
        writer.begin("a", "table-data")
        writer.write(content)
        writer.end({})
        writer._pipeline.finish()
        writer._output.flush()
        writer._output.wait()
    (name,) = {item.name for item in world.store.list(layout.PACKS)} - before
    return name


# -- the links --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gone", [0, 1, 2])
def test_a_removed_snapshot_is_named_by_a_later_one(gone):
    """Whichever of the earlier ones it is."""
    world = make_world()
    made = several(world, 4)
    assert missing(world) == []
    delete(world, made[gone])
    assert missing(world) == [(made[gone].id, "missing")]


def test_the_newest_can_be_cut_off_unseen_unless_evidence_or_a_point_names_it():
    """From headers alone it cannot be known; a piece of evidence, or a point, is enough."""
    for naming in ("nothing", "evidence", "point"):
        world = make_world()
        newest = several(world, 2)[-1]
        row = {"component": "console-db", "snapshot": newest.id, "digest": newest.digest_text}
        if naming == "evidence":
            world.repository.add_evidence([row], "2026-11-23T12:00:00Z", "x")
        elif naming == "point":
            world.repository.add_point("release", [newest])
        delete(world, newest)
        assert missing(world) == ([] if naming == "nothing" else [(newest.id, "missing")])


def test_an_exchanged_snapshot_is_altered():
    """With the write role a thief seals another header under the name: what others name has another HASH."""
    world = make_world()
    victim, _next = several(world, 2)
    delete(world, victim)
    forged = msgspec.structs.replace(victim.header, entry_count=7)
    world.as_writer().put_header(forged)
    assert missing(world) == [(victim.id, "altered")]


def test_a_retired_snapshot_is_not_missing():
    """Removed on purpose and signed for: nothing to report, and no snapshot any more even if its header comes back."""
    world = make_world()
    first, second = several(world, 2)
    body = world.store.get(layout.snapshot_name("console-db", first.id))
    delete(world, first)
    name = layout.RETIRED + layout.new_timed_id(world.clock.moment)
    rows = [["console-db", first.id, first.digest_text, "policy"]]
    world.store.put(
        name,
        world.repository.keys.sign(
            "retired", name, {"time": clock.rfc3339(world.clock.moment), "snapshots": rows}
        ),
    )
    assert missing(world) == []
    world.store.put(layout.snapshot_name("console-db", first.id), body)
    assert [s.id for s in world.repository.snapshots()[0]] == [second.id]


def test_a_retired_document_of_somebody_else_hides_nothing():
    """It is not signed with the repository's key: it is named, and no snapshot disappears."""
    world = make_world()
    (only,) = several(world, 1)
    name = layout.RETIRED + layout.new_timed_id(world.clock.moment)
    line = msgspec.json.encode(
        {
            "format": 1,
            "repository": world.repository.repository_id.hex(),
            "critical": [],
            "snapshots": [["console-db", only.id, only.digest_text, "lost"]],
        }
    )
    world.store.put(name, crypto.sign_document(b"t" * 32, "retired", name, line))
    assert [s.id for s in world.repository.snapshots()[0]] == [only.id]
    assert [(e.on, e.fault) for e in world.repository.damaged_documents()] == [(name, "signature")]


def test_a_damaged_header_is_reported_once_and_is_no_parent():
    """The next backup goes on with the one before it, warns, and the damaged one is not called missing as well."""
    world = make_world()
    first, second = several(world, 2)
    name = layout.snapshot_name("console-db", second.id)
    body = bytearray(world.store.get(name))
    body[-1] ^= 1
    world.store.delete(name)
    world.store.put(name, bytes(body))
    taken, _writer = back_up(world.as_writer(), {"a": b"3"})
    assert taken.header.parent == first.id
    assert any("does not open" in warning for warning in taken.header.warnings)
    found, failures = world.repository.snapshots()
    assert {s.id for s in found} == {first.id, taken.id}
    assert [f.on for f in failures] == [name]
    assert missing(world) == []


def test_a_header_of_an_epoch_that_never_was_stops_backups_and_says_the_way_out():
    """It could be a rotation that somebody rolled back. Moved away, as the hint says, backups go on."""
    world = make_world()
    first, second = several(world, 2)
    name = layout.snapshot_name("console-db", second.id)
    body = bytearray(world.store.get(name))
    body[11] ^= 64
    world.store.delete(name)
    world.store.put(name, bytes(body))
    with pytest.raises(errors.ObjectMissing, match="of epoch 65") as caught:
        back_up(world.as_writer(), {"a": b"3"})
    assert caught.value.on == name
    assert "move it out of the repository" in (caught.value.hint or "")
    world.store.delete(name)
    taken, _writer = back_up(world.as_writer(), {"a": b"3"})
    assert taken.header.parent == first.id


def test_a_snapshot_of_a_damaged_source_is_no_parent():
    """It is kept and listed, and the next one leans on the last good one."""
    world = make_world()
    (good,) = several(world, 1)
    world.clock.advance(hours=1)
    with SnapshotWriter(world.as_writer(), "console-db", "postgres-dump") as writer:
        bad = writer.commit({}, ["page 7 is broken"], status="damaged")
    (after,) = several(world, 1)
    assert after.header.parent == good.id
    assert [s.id for s in world.repository.snapshots()[0]] == [good.id, bad.id, after.id]


def test_parallel_snapshots_are_all_named_by_the_next():
    """Two runs that did not see each other: the next header names both, and loses track of neither."""
    world = make_world()
    writers = [SnapshotWriter(world.as_writer(), "console-db", "postgres-dump") for _ in range(3)]
    made = []
    for writer in writers:
        with writer:
            made.append(writer.commit({}))
    (after,) = several(world, 1)
    assert {i for i, _ in after.header.seen} == {s.id for s in made}
    delete(world, made[1])
    assert missing(world)[0][0] == made[1].id


def test_a_header_names_64_at_most_the_oldest_first():
    """What does not fit is named by the headers after it."""
    made = [
        snapshot.Snapshot(_header(f"20261123T08{n:02}00Z-" + "0" * 32), crypto.digest(b"%d" % n))
        for n in range(60)
    ]
    made += [
        snapshot.Snapshot(_header(f"20261123T09{n:02}00Z-" + "0" * 32), crypto.digest(b"9%d" % n))
        for n in range(20)
    ]
    rows = snapshot.unnamed(made[::-1])
    assert rows == [(s.id, s.digest) for s in made[:64]]
    named = [
        snapshot.Snapshot(
            msgspec.structs.replace(_header("20261123T100000Z-" + "0" * 32), seen=rows), b"x" * 32
        )
    ]
    assert [i for i, _ in snapshot.unnamed(made + named)] == [s.id for s in made[64:] + named]


def _header(snapshot_id: str) -> snapshot.Header:
    moment = clock.rfc3339(layout.time_of(snapshot_id))
    return snapshot.Header(
        id=snapshot_id, component="console-db", kind="postgres-dump", time=moment, started=moment,
        commit_by=moment, parent=None, status="good", keys=(1, 1, bytes(32)), entries=None, packs=None,
        entry_count=0, bytes_source=0, bytes_new=0, bytes_stored=0,
    )  # fmt: skip


def test_warnings_that_do_not_fit_are_cut_with_a_count():
    """Thousands of warnings do not make a snapshot impossible; facts that do not fit do, and say so."""
    world = make_world()
    with SnapshotWriter(world.as_writer(), "console-db", "postgres-dump") as writer:
        taken = writer.commit({}, [f"warning {n} " + "x" * 50 for n in range(3000)])
    (found,), failures = world.repository.snapshots()
    assert failures == []
    assert found.digest == taken.digest
    kept = found.header.warnings
    assert kept[0].startswith("warning 0 ")
    assert kept[-1] == f"and {3000 - (len(kept) - 1)} more warnings, which are in the log"
    assert world.store.head(layout.snapshot_name("console-db", found.id)).size <= 64 << 10
    with (
        SnapshotWriter(world.as_writer(), "console-db", "postgres-dump") as writer,
        pytest.raises(errors.SourceError, match="too large"),
    ):
        writer.commit({"facts": "x" * (64 << 10)})
    assert len(world.repository.snapshots()[0]) == 1


# -- the deadline and adoption ----------------------------------------------------------------------------------------


def test_the_deadline_is_half_the_grace_period():
    """At it a run still commits; it is written in the header."""
    world = make_world()
    with SnapshotWriter(world.as_writer(), "console-db", "postgres-dump") as writer:
        began = world.clock.moment
        world.clock.advance(seconds=WEEK / 2)
        taken = writer.commit({})
    assert clock.parse_rfc3339(taken.header.commit_by) == began + timedelta(seconds=WEEK / 2)


def test_the_deadline_counts_from_the_oldest_adopted_pack():
    """A pack that a killed run left is a day old: there is a day less."""
    world = make_world()
    killed(world)
    world.clock.advance(days=1)
    with SnapshotWriter(world.as_writer(), "console-db", "postgres-dump") as writer:
        writer.begin("a", "table-data")
        writer.write(CONTENT)
        writer.end({})
        world.clock.advance(days=2, hours=13)
        with pytest.raises(errors.CommitRefused, match="deadline"):
            writer.commit({})
    assert writer.bytes_new == 0
    taken, writer = back_up(world.as_writer(), {"a": b"other"})
    assert clock.parse_rfc3339(taken.header.commit_by) == world.clock.moment + timedelta(seconds=WEEK / 2)


def test_a_header_that_appears_too_late_is_a_failure():
    """The storage took the header but dated it after the deadline: the run fails and says what to look at."""
    world = make_world()
    opened = world.as_writer()

    def sleep(operation: str, name: str) -> None:
        if operation == "put" and name.startswith(layout.SNAPSHOTS):
            world.clock.advance(days=4)

    world.store.before = sleep
    with pytest.raises(errors.CommitRefused, match="later than its commit deadline") as caught:
        back_up(opened, {"a": b"1"})
    assert "drctl verify console-db --data" in str(caught.value.hint)
    assert not caught.value.unaffected


@pytest.mark.parametrize(("hours", "adopted"), [(41, True), (43, False)])
def test_packs_older_than_a_quarter_of_the_grace_period_are_not_adopted(hours, adopted):
    """Pruning may have listed them."""
    world = make_world()
    killed(world)
    world.clock.advance(hours=hours)
    taken, writer = back_up(world.as_writer(), {"a": CONTENT})
    assert writer.bytes_new == (0 if adopted else len(CONTENT))
    assert read_all(world.repository, taken) == {"a": CONTENT}


def test_a_damaged_pack_is_not_adopted():
    """A killed run's pack whose footer does not open, or that was cut short, is stored again."""
    for place in (-20, None):
        world = make_world()
        name = killed(world)
        body = bytearray(world.store.get(name))
        world.store.delete(name)
        if place is None:
            body = body[:-100]
        else:
            body[place] ^= 1
        world.store.put(name, bytes(body))
        taken, writer = back_up(world.as_writer(), {"a": CONTENT})
        assert writer.bytes_new == len(CONTENT)
        assert read_all(world.repository, taken) == {"a": CONTENT}


def test_adopted_content_is_found_under_any_path():
    """An adopted chunk is known by its content, wherever the next run meets it, and the catalog counts its pack rightly."""
    world = make_world()
    name = killed(world)
    taken, writer = back_up(world.as_writer(), {"renamed": CONTENT})
    assert writer.bytes_new == 0
    (use,) = world.repository.trees(taken)[1].packs()
    assert layout.pack_name(use.pack) == name
    assert use.size == world.store.head(name).size
    assert 0 < use.used < use.size


def test_full_relies_on_nothing():
    """``--full``: neither the parent nor packs that are there."""
    world = make_world()
    back_up(world.as_writer(), {"a": CONTENT})
    killed(world, CONTENT[::-1])
    with SnapshotWriter(world.as_writer(), "console-db", "postgres-dump", full=True) as writer:
        for path, content in (("a", CONTENT), ("b", CONTENT[::-1])):
            writer.begin(path, "table-data")
            writer.write(content)
            writer.end({})
        taken = writer.commit({})
    assert taken.header.parent is None
    assert writer.bytes_new == 2 * len(CONTENT)


def test_a_pack_that_is_little_used_is_stored_again():
    """The parent uses less than half of it: what is left moves to a new pack, so that the old one can be pruned."""
    for rest, moves in ((10, True), (90, False)):
        world = make_world()
        content = {f"{n:03}": random.Random(n).randbytes(20_000) for n in range(100)}
        back_up(world.as_writer(), content)
        kept = dict(list(content.items())[:rest])
        back_up(world.as_writer(), kept)
        taken, writer = back_up(world.as_writer(), kept)
        assert writer.bytes_new == (rest * 20_000 if moves else 0)
        assert read_all(world.repository, taken) == kept
        again, writer = back_up(world.as_writer(), kept)
        assert writer.bytes_new == 0
        assert read_all(world.repository, again) == kept


@pytest.mark.parametrize("size", [100, 20_000])
def test_private_content_has_no_id_twice(size):
    """The same content, under the same path: other chunk ids each time, none of them that of the content itself."""
    world = make_world()
    ids: set[bytes] = set()
    for _time in range(3):
        taken, _writer = back_up(world.as_writer(), {"globals.sql": CONTENT[:size]}, cutting="private")
        extents = [r for _p, r in world.repository.trees(taken)[0].leaves() if isinstance(r, Extent)]
        assert [e.start for e in extents] == [32] * len(extents)
        assert sum(e.length for e in extents) == size
        ids |= {e.chunk_id for e in extents}
    assert len(ids) == 3 * len(extents)
    assert crypto.keyed_hash(world.repository.keys.derived("chunk-id"), CONTENT[:size]) not in ids


# -- the windows ------------------------------------------------------------------------------------------------------


class Entries:
    """A parent's tree with one entry of ``count`` extents."""

    def __init__(self, count: int) -> None:
        self.count, self.read = count, 0

    def extents(self, path: str):
        return self._extents() if path == "a" else None

    def _extents(self):
        for number in range(self.count):
            self.read += 1
            yield Extent(number, 1, chunk_id(number), 0, 1, number.to_bytes(16, "big"), 0, 5000, 17)


def chunk_id(number: int) -> bytes:
    return number.to_bytes(32, "big")


def test_the_window_moves_along_and_stays_bounded(monkeypatch):
    """Every chunk of an unchanged entry is found, some of it at a time; what was left far behind is forgotten."""
    monkeypatch.setattr(known, "WINDOW", 50)
    parent = Entries(1000)
    window = ParentWindow(parent, ())  # type: ignore[arg-type]
    window.begin("a")
    for number in range(1000):
        found = window.find(chunk_id(number))
        assert found is not None
        assert found.pack == number.to_bytes(16, "big")
        assert len(window._order) <= 101
        assert len(window._places) <= 101
        assert parent.read <= number + 51
    assert window.find(chunk_id(0)) is None
    assert window.find(chunk_id(960)) is not None
    window.begin("b")
    assert window.find(chunk_id(960)) is None


def test_the_window_jumps_over_what_was_deleted(monkeypatch):
    """A hole smaller than the window does not lose the rest; repeated content is found where it was last."""
    monkeypatch.setattr(known, "WINDOW", 50)
    window = ParentWindow(Entries(1000), ())  # type: ignore[arg-type]
    window.begin("a")
    for number in range(0, 1000, 45):
        assert window.find(chunk_id(number)) is not None


def test_the_window_leaves_out_what_is_to_be_avoided():
    """Chunks in sparse or lost packs are not offered."""
    window = ParentWindow(Entries(10), {(3).to_bytes(16, "big")})  # type: ignore[arg-type]
    window.begin("a")
    assert [n for n in range(10) if window.find(chunk_id(n)) is None] == [3]


def test_what_this_run_stored_is_remembered_up_to_a_limit(monkeypatch):
    """The oldest is forgotten first."""
    monkeypatch.setattr(known, "RECENT", 10)
    recent = Recent()
    for number in range(25):
        recent.add(chunk_id(number), Place(b"p" * 16, number, 5000, 17, 1))
    assert [n for n in range(25) if recent.find(chunk_id(n))] == list(range(15, 25))


@pytest.mark.parametrize(("used", "sparse"), [(0, True), (4999, True), (5000, False), (10_000, False)])
def test_sparse_is_less_than_half(used, sparse):
    """Of the pack without its header."""
    use = PackUse(b"p" * 16, 10_000 + pack.HEADER_SIZE, used)
    assert known._is_sparse(use) is sparse


def test_the_digest_of_a_header_is_its_objects():
    """What later headers and evidence name is HASH of the object as it is stored."""
    world = make_world()
    (taken,) = several(world, 1)
    body = world.store.get(layout.snapshot_name("console-db", taken.id))
    assert base64.b64decode(taken.digest_text) == crypto.digest(body)
