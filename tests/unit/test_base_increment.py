"""Increments without a server: what a file says, how one is rebuilt, and when a cluster is read whole instead."""

import hashlib
import io
import json
import random
import struct
import tarfile
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from dr_toolkit import errors
from dr_toolkit.postgres import (
    base_audit,
    base_increment,
    base_limits,
    base_manifest,
    base_marks,
    base_method,
)
from dr_toolkit.postgres.base_increment import Increment, Piece, Shape, Unfit
from dr_toolkit.postgres.base_limits import Limits, Summary
from dr_toolkit.postgres.base_marks import Marks
from dr_toolkit.postgres.base_method import Before, State
from dr_toolkit.postgres.base_overlay import OverlaidFiles, Parent
from dr_toolkit.postgres.base_sums import Checksums, FileSum
from dr_toolkit.postgres.base_tar import TarStream
from dr_toolkit.repository.writer import SnapshotWriter
from tests.unit.repository.support import World, make_world, read_all

BLOCK = 64
SHAPE = Shape(BLOCK, 16)
LABEL = (
    b"START WAL LOCATION: 0/5000028 (file 000000010000000000000005)\nCHECKPOINT LOCATION: 0/5000080\n"
    b"START TIMELINE: 1\nINCREMENTAL FROM LSN: 0/3000028\nINCREMENTAL FROM TLI: 1\n"
)


def page(number: int, lsn: int) -> bytes:
    """A page of that version."""
    return struct.pack("<II", lsn >> 32, lsn & 0xFFFFFFFF) + bytes([number]) * (BLOCK - 8)


def incremental(blocks: dict[int, bytes], truncation: int, *, order: str = "<") -> bytes:
    """An INCREMENTAL file, as the server writes it."""
    head = struct.pack(f"{order}III", base_increment.MAGIC, len(blocks), truncation)
    if not blocks:
        return head
    head += b"".join(struct.pack(f"{order}I", number) for number in blocks)
    return head + bytes(-len(head) % BLOCK) + b"".join(blocks.values())


def read(data: bytes) -> Increment:
    stream = io.BytesIO(data)
    return base_increment.read_head(stream.read, len(data), SHAPE, "base/1/2")


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("count", [0, 1, 13, 16])
def test_a_head_is_read_and_ends_where_the_images_begin(order: str, count: int) -> None:
    """Both byte orders; without a block there is no padding; with 13 the head fills its page exactly."""
    blocks = {number: page(number, 1) for number in range(count)}
    data = incremental(blocks, 16, order=order)
    stream = io.BytesIO(data)
    assert base_increment.read_head(stream.read, len(data), SHAPE, "f") == Increment(tuple(blocks), 16)
    assert stream.read() == b"".join(blocks.values())


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"", "begin"),
        (b"\0" * 12, "begin"),
        (incremental({}, 17), "17.8"),
        (incremental({}, 3) + b"x", "size"),
        (incremental({1: page(1, 1)}, 3)[:-1], "size"),
        (incremental({2: page(1, 1), 1: page(1, 1)}, 3), "order"),
        (incremental({16: page(1, 1)}, 3), "order"),
        (struct.pack("<III", base_increment.MAGIC, 1 << 30, 1), "size"),
    ],
)
def test_a_head_that_is_wrong_is_not_used(data: bytes, word: str) -> None:
    """Another beginning, a truncation beyond a segment (17.0 to 17.7), sizes and orders that do not fit."""
    with pytest.raises(Unfit, match=word):
        read(data)


@pytest.mark.parametrize(
    ("blocks", "truncation", "parent", "limit", "expected"),
    [
        ((), 4, 4, None, "pppp"),
        ((1,), 4, 4, None, "pipp"),
        ((), 0, 4, None, ""),  # cut to nothing
        ((), 2, 4, None, "pp"),  # cut
        (
            (5,),
            2,
            4,
            None,
            "pp000i",
        ),  # a listed block above the truncation: the hole is zero, whatever the parent has
        ((), 6, 4, None, "pppp00"),  # grown without being listed: beyond the parent's end
        ((3,), 6, 6, 2, "pp0i00"),  # cut at 2 and grown again: what is not listed was never written
        ((), 4, 4, 0, "0000"),
        ((), 4, 4, -7, "0000"),  # cut in an earlier segment
        ((), 4, 4, 9, "pppp"),  # cut in a later one
    ],
)
def test_how_a_file_is_rebuilt(
    blocks: tuple[int, ...], truncation: int, parent: int, limit: int | None, expected: str
) -> None:
    """Where each block comes from: the increment, the parent, or nowhere."""
    pieces = list(base_increment.pieces(Increment(blocks, truncation), parent, limit))
    assert (
        "".join({"increment": "i", "parent": "p", "zeros": "0"}[p.source] * p.count for p in pieces)
        == expected
    )
    assert [p.start for p in pieces] == [sum(q.count for q in pieces[:i]) for i in range(len(pieces))]
    assert all(isinstance(p, Piece) and p.count for p in pieces)


def test_what_a_path_is() -> None:
    """Relations below base and global, their forks and segments; a file of that name elsewhere is somebody's own."""
    known = {
        "base/5/16384": (1663, 5, 16384, 0, 0),
        "base/5/INCREMENTAL.16384.12": (1663, 5, 16384, 0, 12),
        "base/5/16384_vm": (1663, 5, 16384, 2, 0),
        "global/INCREMENTAL.1262_fsm.1": (1664, 0, 1262, 1, 1),
        "base/5/16384_init": (1663, 5, 16384, 3, 0),
    }
    for path, facts in known.items():
        file = base_increment.relation_file(path)
        assert file is not None
        assert (*file.relation, file.segment) == facts
    assert base_increment.plain_path("base/5/INCREMENTAL.16384_init.1") == "base/5/16384_init.1"
    for path in (
        "INCREMENTAL.16384",
        "pg_xact/INCREMENTAL.0000",
        "base/5/INCREMENTAL.notes",
        "base/5/16384",
        "base/5/pgsql_tmp/1",
    ):
        assert base_increment.plain_path(path) is None


def test_limits_count_over_segments() -> None:
    """A limit is of the whole fork: in segment 1 it is a segment less."""
    limits = Limits({(1663, 5, 9, 0): 20}, SHAPE)
    found = {path: limits.within(file) for path in ("base/5/9", "base/5/9.1", "base/5/9.2", "base/5/9_vm", "base/6/9")
             if (file := base_increment.relation_file(path))}  # fmt: skip
    assert found == {
        "base/5/9": 20,
        "base/5/9.1": 4,
        "base/5/9.2": -12,
        "base/5/9_vm": None,
        "base/6/9": None,
    }


def test_blocks_that_an_increment_lacks_are_found() -> None:
    """Written after the cut and not listed; what lies beyond the file's end was cut off since, and other segments are others' matter."""
    file = base_increment.relation_file("base/5/9.1")
    assert file is not None
    limits = Limits({file.relation: 3}, SHAPE, {file.relation: [5, 17, 19, 30]})
    assert limits.lacking(file, Increment((1, 3), 6)) is None
    assert limits.lacking(file, Increment((1,), 6)) == 3
    assert limits.lacking(file, Increment((1, 3), 16)) == 14
    assert Limits({}, SHAPE).lacking(file, Increment((), 16)) is None


def test_summaries_must_cover_everything() -> None:
    """In any order, overlapping or not; a gap, another timeline, an end that comes too soon are found."""
    whole = [Summary(1, 50, 80), Summary(1, 10, 30), Summary(1, 25, 50)]
    assert base_limits.uncovered(whole, 1, 10, 80) is None
    assert base_limits.uncovered(whole, 1, 20, 81) == 80
    assert base_limits.uncovered(whole, 1, 5, 60) == 5
    assert base_limits.uncovered(whole, 2, 10, 80) == 10
    assert base_limits.uncovered([whole[0], whole[1]], 1, 10, 80) == 30
    assert base_limits.uncovered([], 1, 10, 80) == 10


NOW = State(
    180006, "77", 202506291, 1, checksums=True, block=8192, segment=131072, summaries=True, readable=True
)
THEN = Before(NOW.document(), 3, notes=True)


@pytest.mark.parametrize(
    ("now", "before", "word"),
    [
        (NOW, None, "no parent"),
        (None, THEN, "17 and newer"),
        (replace(NOW, summaries=False), THEN, "summarize_wal"),
        (replace(NOW, readable=False), THEN, "pg_wal_summary_contents"),
        (replace(NOW, version=170007), THEN, "17.8"),
        (replace(NOW, version=180001), THEN, "18.2"),
        (NOW, replace(THEN, state=None), "the parent does not have"),
        (NOW, replace(THEN, notes=False), "the parent does not have"),
        (NOW, replace(THEN, lost=2), "2 packs"),
        (replace(NOW, system="78"), THEN, "another cluster"),
        (replace(NOW, catalog=202609091), THEN, "major version"),
        (replace(NOW, timeline=2), THEN, "from 1 to 2"),
        (replace(NOW, checksums=False), THEN, "checksums"),
        (replace(NOW, block=16384), THEN, "pages"),
        (replace(NOW, segment=1), THEN, "size of files"),
        (NOW, replace(THEN, increments=10), "audit after 10"),
    ],
)
def test_a_cluster_is_read_whole_for_a_reason(now: State | None, before: Before | None, word: str) -> None:
    """Each thing that an increment depends on, and its reason in words."""
    reason = base_method.reason_for_full(now, before, 10)
    assert reason is not None
    assert word in reason


def test_an_increment_needs_no_reason() -> None:
    """Minor versions may move, and no limit is none."""
    assert base_method.reason_for_full(NOW, THEN, 10) is None
    assert base_method.reason_for_full(replace(NOW, version=180007), THEN, 10) is None
    assert base_method.reason_for_full(NOW, replace(THEN, increments=5000), 0) is None


MANIFEST = (
    b'{ "PostgreSQL-Backup-Manifest-Version": 2,\n"System-Identifier": 7712134975499449131,\n"Files": [\n'
    b'{ "Path": "backup_label", "Size": 300, "Last-Modified": "2026-11-25 10:00:00 GMT", "Checksum-Algorithm": "CRC32C", "Checksum": "00000001" },\n'
    b'{ "Path": "base/5/INCREMENTAL.16384", "Size": 12, "Last-Modified": "2026-11-25 10:00:00 GMT", "Checksum-Algorithm": "CRC32C", "Checksum": "00000002" },\n'
    b'{ "Path": "base/5/INCREMENTAL.16384_vm", "Size": 12, "Last-Modified": "2026-11-25 10:00:00 GMT", "Checksum-Algorithm": "CRC32C", "Checksum": "00000003" },\n'
    b'{ "Encoded-Path": "6e6f746573ff", "Size": 5, "Last-Modified": "2026-11-25 10:00:00 GMT", "Checksum-Algorithm": "CRC32C", "Checksum": "00000004" }\n'
    b'],\n"WAL-Ranges": [\n{ "Timeline": 1, "Start-LSN": "0/5000028", "End-LSN": "0/5000120" }\n],\n'
    b'"Manifest-Checksum": "00"}\n'
)


def test_manifests_are_written_as_postgresql_reads_them() -> None:
    """The last line is the SHA-256 of everything before it; the identifier, odd names and everything else survive."""
    asked = base_manifest.for_upload(MANIFEST, lambda path: path.endswith("_vm"))
    body, _, last = asked.rstrip(b"\n").rpartition(b"\n")
    assert json.loads(b"{" + last) == {"Manifest-Checksum": hashlib.sha256(body + b"\n").hexdigest()}
    files = json.loads(asked)["Files"]
    assert [f.get("Path", f.get("Encoded-Path")) for f in files] == [
        "backup_label",
        "base/5/INCREMENTAL.16384",
        "6e6f746573ff",
    ]
    assert json.loads(asked)["System-Identifier"] == 7712134975499449131
    assert json.loads(asked)["WAL-Ranges"] == json.loads(MANIFEST)["WAL-Ranges"]


def test_the_restored_manifest_has_sums_of_what_was_restored() -> None:
    """Overlaid files and the label get their own; all others keep the server's; a full read's manifest is verbatim."""
    sums = Checksums(MANIFEST)
    assert [p for p in ("backup_label", "base/5/16384", "base/5/16384_vm", "notes") if sums.wants(p)] == [
        "backup_label", "base/5/16384", "base/5/16384_vm",
    ]  # fmt: skip
    for path in ("backup_label", "base/5/16384", "base/5/16384_vm"):
        found = FileSum()
        for offset, pieces in ((4, [b"56", b"789"]), (0, [b"1234"])):
            found.add(offset, pieces)
        sums.keep(path, found)
    files = {f.get("Path", f.get("Encoded-Path")): f for f in json.loads(sums.manifest())["Files"]}
    expected = struct.pack("=I", 0xE3069283).hex()  # the check value of CRC-32C
    assert (files["base/5/16384"]["Size"], files["base/5/16384"]["Checksum"]) == (9, expected)
    assert files["6e6f746573ff"]["Checksum"] == "00000004"
    full = MANIFEST.replace(b"INCREMENTAL.", b"")
    assert Checksums(full).manifest() == full


def archive(**files: bytes) -> TarStream:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name.replace("__", "/").replace("_dot_", "."))
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    file.seek(0)
    return TarStream(file)


def lay(
    world: World, content: dict[str, bytes], increments: TarStream, limits: dict[Any, int] | None = None
) -> dict[str, bytes]:
    """Content of a snapshot whose parent has ``content``."""
    writer_role = world.as_writer()
    with SnapshotWriter(writer_role, "base", "postgres-base", ordered=False) as writer:
        for path, data in content.items():
            writer.begin(f"cluster/{path}", "file", cutting="fixed")
            writer.write(data)
            writer.end({})
        writer.commit({})
    marks = Marks({p: base_marks.marks_of(base_marks.lsns(d, BLOCK)) for p, d in content.items()})
    sizes = {path: len(data) for path, data in content.items()}
    parent = Parent(sizes, {}, marks, 0x3000028, 1, lambda *_range: Limits(limits or {}, SHAPE))
    with SnapshotWriter(writer_role, "base", "postgres-base", ordered=False) as writer:
        files = OverlaidFiles(SHAPE, parent, writer)
        for member in increments.members():
            files.write(member, increments, writer)
        taken = writer.commit({})
    result = {p.removeprefix("cluster/"): d for p, d in read_all(world.repository, taken).items()}
    for path, found in files.marks.files.items():
        assert list(found) == list(base_marks.marks_of(base_marks.lsns(result[path], BLOCK))), path
    return result


def test_files_are_laid_over_by_the_write_role() -> None:
    """Changed, grown, cut and regrown, untouched and new files; what the increment does not name is gone; the label can be started from."""
    old = {f"base/5/{number}": b"".join(page(i, 10 + i) for i in range(6)) for number in (1, 2, 3, 4, 5)}
    new = page(99, 0x4000000)
    result = lay(
        make_world(),
        old,
        archive(
            backup_label=LABEL,
            base__5__INCREMENTAL_dot_1=incremental({1: new, 4: new}, 6),
            base__5__INCREMENTAL_dot_2=incremental({}, 6),
            base__5__INCREMENTAL_dot_3=incremental({2: new}, 6),
            base__5__INCREMENTAL_dot_4=incremental({7: new}, 4),
            base__5__6=new,
        ),
        {(1663, 5, 3, 0): 2},
    )
    pages = [page(i, 10 + i) for i in range(6)]
    zero = bytes(BLOCK)
    assert result == {
        "backup_label": LABEL[: LABEL.index(b"INCREMENTAL")],
        "base/5/1": b"".join([pages[0], new, *pages[2:4], new, pages[5]]),
        "base/5/2": b"".join(pages),
        "base/5/3": b"".join([*pages[:2], new, zero * 3]),
        "base/5/4": b"".join([*pages[:4], zero * 3, new]),
        "base/5/6": new,
    }


@pytest.mark.parametrize(
    ("files", "word"),
    [
        ({"base__5__INCREMENTAL_dot_1": incremental({}, 6)}, "label"),
        ({"backup_label": b"nonsense"}, "understood"),
        ({"backup_label": LABEL.replace(b"TIMELINE: 1", b"TIMELINE: 2")}, "timeline"),
        ({"backup_label": LABEL, "base__5__INCREMENTAL_dot_9": incremental({}, 6)}, "does not have"),
    ],
)
def test_what_does_not_fit_is_not_laid_over(files: dict[str, bytes], word: str) -> None:
    """No label, a strange one, another timeline, a file that the parent does not have: the cluster is read whole instead."""
    with pytest.raises(Unfit, match=word):
        lay(make_world(), {"base/5/1": page(1, 1) * 6}, archive(**files))


def test_a_file_that_comes_twice_is_an_error() -> None:
    """Whole and as an increment in one backup: nobody knows which one is right."""
    twice = archive(backup_label=LABEL, base__5__1=page(1, 1), base__5__INCREMENTAL_dot_1=incremental({}, 6))
    with pytest.raises(errors.SourceError, match="out of order"):
        lay(make_world(), {"base/5/1": page(1, 1) * 6}, twice)


def test_many_overlays_of_one_file() -> None:
    """Against a plain list of pages: random changes, cuts and growth, one upon the other."""
    chance = random.Random(17)
    content, version = [page(i, 1) for i in range(10)], 1
    for _round in range(15):
        version += 1
        length = chance.randint(1, 16)
        # Whatever is new must be listed or empty.
        listed = sorted(
            {*chance.sample(range(length), chance.randint(0, length // 2)), *range(len(content), length)}
        )
        blocks = {number: page(number, version) for number in listed}
        expected = [blocks.get(n, content[n] if n < len(content) else b"") for n in range(length)]
        stream = archive(backup_label=LABEL, base__5__INCREMENTAL_dot_1=incremental(blocks, length))
        assert lay(make_world(), {"base/5/1": b"".join(content)}, stream)["base/5/1"] == b"".join(expected)
        content = expected


def test_marks_survive_as_a_note() -> None:
    """Empty files as well; what is not of this format is refused."""
    marks = Marks({"base/5/1": np.array([1, 2, 3], "<u4"), "base/5/2": base_marks.none(0)})
    found = Marks.decoded(marks.encoded())
    assert {path: list(values) for path, values in found.files.items()} == {
        "base/5/1": [1, 2, 3],
        "base/5/2": [],
    }
    for wrong in (
        b"",
        b"{}",
        marks.encoded() + b"1234",
        marks.encoded().replace(b'"format":1', b'"format":2'),
    ):
        with pytest.raises(errors.SourceError):
            Marks.decoded(wrong)


def test_an_audit_knows_reasons() -> None:
    """A later LSN, and emptiness above a limit, explain a difference; an older LSN, or emptiness below, does not."""
    start = 100
    before = Marks({p: np.array([10, 20, 30, 40], "<u4") for p in ("base/5/1", "base/5/2", "base/5/3")})
    audit = base_audit.Audit(before, start)
    audit.judge(
        "base/5/1", np.array([10, 101, 29, 40], np.uint64)
    )  # page 1 was written later, page 2 was not
    audit.judge("base/5/2", np.array([10, 0, 0], np.uint64))  # two empty ones, one gone
    audit.judge(
        "base/5/3", np.array([10, 20, 30, 40, 0, 101, 99], np.uint64)
    )  # grown: the last one should have been known
    audit.judge("base/5/4", np.array([1], np.uint64))  # new
    audit.settle(Limits({(1663, 5, 2, 0): 2}, SHAPE))
    assert audit.document("s")["listed"] == [["base/5/1", 2, 1], ["base/5/2", 1, 1], ["base/5/3", 6, 1]]
    assert (audit.unexplained, audit.unjudged) == (3, 0)
    unknown = base_audit.Audit(before, start)
    unknown.judge("base/5/2", np.array([10, 0], np.uint64))
    unknown.settle(None)
    assert (unknown.unexplained, unknown.unjudged) == (0, 3)
