"""The first screen of an incident: which snapshot is recommended and why; and the order of a whole restore."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from dr_toolkit import errors
from dr_toolkit.jobs import overview, platform_restore
from dr_toolkit.jobs.inspect import Inventory
from dr_toolkit.reporting import overview_text
from dr_toolkit.repository.repository import Evidence, Point
from dr_toolkit.repository.snapshot import Finding

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


def snapshot(minutes: int, component: str = "db", status: str = "good", kind: str = "postgres-dump"):
    moment = NOW - timedelta(minutes=minutes)
    text = f"{moment:%Y%m%dT%H%M%SZ}-{minutes:032x}"
    header = SimpleNamespace(
        component=component, status=status, kind=kind, moment=moment, id=text, bytes_source=5 << 20
    )
    return SimpleNamespace(id=text, header=header, digest_text=f"digest {text}")


def proof(
    found, result: str = "passed", level: str = "restore", seconds: float = 4.0, minute: int = 58
) -> Evidence:
    return Evidence(
        "run", f"2026-11-24T11:{minute}:00Z", {"level": level, "result": result, "seconds": seconds}
    )


def stock(*snapshots, proofs=(), points=(), damaged=(), missing=()) -> Inventory:
    evidence = {}
    for found, item in proofs:
        evidence.setdefault((found.header.component, found.id), []).append(item)
    return Inventory(list(snapshots), list(points), evidence, list(damaged), list(missing))


OLD, NEW = snapshot(60), snapshot(5)


@pytest.mark.parametrize(
    ("proofs", "expected", "why"),
    [
        ([(OLD, proof(OLD)), (NEW, proof(NEW))], NEW, "the newest, and proven"),
        ([(OLD, proof(OLD))], NEW, f"the newest, not proven; proven: {OLD.id}"),
        ([], NEW, "the newest, not proven"),
        ([(OLD, proof(OLD)), (NEW, proof(NEW, "failed"))], OLD, "the newer ones failed their proof"),
        ([(NEW, proof(NEW, "passed", level="data"))], NEW, "the newest, not proven"),
        ([(OLD, proof(OLD)), (NEW, proof(NEW)), (NEW, proof(NEW, "failed", level="data", minute=59))], OLD, "the newer ones failed their proof"),
        ([(OLD, proof(OLD, "failed")), (NEW, proof(NEW, "failed"))], None, "its snapshots are damaged, or failed their proof"),
    ],
)  # fmt: skip
def test_the_newest_is_recommended_unless_its_proof_failed(proofs, expected, why):
    """And a person reads why, and which one is proven."""
    found = overview.choose("db", stock(OLD, NEW, proofs=proofs), NOW)
    assert (found.snapshot, found.why) == (expected, why)


def test_what_was_exchanged_or_damaged_is_not_recommended():
    """A snapshot with another digest than somebody signed for is passed over; one from the future too."""
    marked, future = snapshot(1, status="damaged"), snapshot(-60)
    exchanged = Finding("db", NEW.id, "altered", 'evidence "x"')
    found = overview.choose("db", stock(OLD, NEW, marked, future, missing=[exchanged]), NOW)
    assert found.snapshot is OLD
    assert overview.choose("db", stock(), NOW).why == "it was never backed up"


def test_the_best_point_is_the_newest_that_is_whole_and_proven():
    """One that lacks a snapshot is never recommended; an unproven one only where there is no proven one."""
    older = Point("1", "older", "t", (("db", OLD.id, OLD.digest_text),))
    newer = Point("2", "newer", "t", (("db", NEW.id, NEW.digest_text),))
    broken = Point("3", "broken", "t", (("db", NEW.id, "another digest"),))
    points = [older, newer, broken]

    def best(*proofs):
        found = overview.overview(["db"], stock(OLD, NEW, points=points, proofs=proofs), [], NOW)
        assert [p.whole for p in found.points] == [False, True, True]
        # Of an incomplete one the ids still say how old it is.
        assert [p.age for p in found.points] == [300.0, 300.0, 3600.0]
        return found.best.point.name

    assert best((OLD, proof(OLD))) == "older"
    assert best((OLD, proof(OLD)), (NEW, proof(NEW))) == "newer"
    assert best() == "newer"


def test_the_screen_fits_a_terminal_however_much_there_is():
    """Thirty components and points: at most 25 lines, and a command that names a snapshot in full enough a way."""
    names = [f"component-{n:02}" for n in range(30)]
    snapshots = [snapshot(n + 1, name) for n, name in enumerate(names)]
    points = [
        Point(
            f"{n:02}",
            f"pre-upgrade-{n}",
            "t",
            tuple((s.header.component, s.id, s.digest_text) for s in snapshots),
        )
        for n in range(30)
    ]
    found = overview.overview(names, stock(*snapshots, points=points, damaged=[errors.Damaged("x")]), [], NOW)
    text = overview_text.text(found)
    assert len(text.splitlines()) <= 25
    assert max(map(len, text.splitlines())) <= 110
    assert "ATTENTION: 1 object is damaged" in text
    assert "drctl restore --point pre-upgrade-29" in text


def test_databases_come_before_what_refers_to_them():
    """The order is the table's of kinds, then by name; a kind of a later version comes last."""
    chosen = [
        snapshot(1, "x", kind="later"),
        snapshot(1, "c", kind="bucket"),
        snapshot(1, "b"),
        snapshot(1, "a"),
    ]
    assert [s.header.component for s in platform_restore.in_order(chosen)] == ["a", "b", "c", "x"]


def test_a_replica_does_not_undo_the_snapshot_of_its_bucket():
    """It holds what the bucket was last, which need not be what it was when the databases were backed up. Another bucket's is wanted."""

    def of(name: str, kind: str, bucket: str) -> SimpleNamespace:
        found = snapshot(1, name, kind=kind)
        found.header.source = {"bucket": bucket, "prefix": ""}
        return found

    chosen = [
        snapshot(1),
        of("cortex", "bucket", "metrics"),
        of("mirror", "bucket-replica", "metrics"),
        of("other", "bucket-replica", "archive"),
        of("namesake", "bucket-replica", "metrics"),
    ]
    endpoints = {
        "cortex": "https://one",
        "mirror": "https://one",
        "other": "https://one",
        "namesake": "https://two",
    }
    assert platform_restore.taken_from(chosen, endpoints) == {"mirror": "cortex"}
    assert platform_restore.taken_from(chosen, {"mirror": None}) == {}, (
        "the snapshot's component is not configured here"
    )


def test_a_point_is_restored_as_it_was_signed_or_not_at_all():
    """A snapshot that is gone, or is another one, stops the plan before anything is begun."""
    point = Point("1", "before", "t", (("db", NEW.id, NEW.digest_text),))
    assert platform_restore.of_point(point, [OLD, NEW]) == [NEW]
    with pytest.raises(errors.SnapshotMissing, match="not there"):
        platform_restore.of_point(point, [OLD])
    with pytest.raises(errors.Damaged, match="not the one"):
        platform_restore.of_point(Point("1", "before", "t", (("db", NEW.id, "else"),)), [NEW])


def test_a_journal_that_is_none_stops_before_anything_is_begun(tmp_path):
    """Half a file is not taken for "nothing was done"."""
    journal = platform_restore.Journal(tmp_path / "deep" / "journal.json")
    assert journal.done() == frozenset()
    journal.add("db", NEW.id)
    assert journal.done() == {("db", NEW.id)}
    journal.path.write_text('{"done": [["db"')
    with pytest.raises(errors.DataError, match="journal"):
        journal.done()
