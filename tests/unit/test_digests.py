"""Digests of rows and large objects."""

from __future__ import annotations

import random
import struct

import pytest
from blake3 import blake3

from dr_toolkit.errors import SourceError, UnknownFormat
from dr_toolkit.postgres.digests import NO_LARGE_OBJECTS, LargeObjectsDigest, RowDigest, lines_of, multiset

END = b"\\.\n\n\n"


def expected(rows: list[bytes]) -> str:
    return blake3(b"".join(struct.pack("<BI", 0, len(row)) + row for row in rows)).hexdigest()


@pytest.mark.parametrize("cut", [1, 2, 3, 7, 64, 10_000])
def test_the_cutting_of_copy_text_does_not_matter(cut):
    """Rows count and hash alike however the text is cut into pieces."""
    chosen = random.Random(cut)
    rows = [
        bytes(chosen.choices(b"ab\\\t0", k=chosen.randint(0, 40))).replace(b"\\", b"\\\\") + b"\n"
        for _ in range(300)
    ]
    text = b"".join(rows) + END
    digest = RowDigest()
    for start in range(0, len(text), cut):
        digest.text(text[start : start + cut])
    summary = digest.summary()
    assert (summary.rows, summary.digest, summary.size) == (300, expected(rows), sum(map(len, rows)))


def test_rows_in_their_framing_give_the_same_digest():
    """The bytes as pg_dump frames them are the digest's input, unchanged."""
    rows = [b"a\tb\n", b"\n", b"x" * 300 + b"\n", b"a long one\n"]
    digest = RowDigest()
    digest.framed(memoryview(b"".join(struct.pack("<BI", 0, len(row)) + row for row in rows[:3])), 3)
    digest.begin_row(len(rows[3]))
    digest.continue_row(memoryview(rows[3])[:4])
    digest.continue_row(memoryview(rows[3])[4:])
    digest.terminated()
    summary = digest.summary()
    assert (summary.rows, summary.digest, summary.size) == (4, expected(rows), sum(map(len, rows)))


def test_order_matters_to_the_row_digest_and_not_to_the_multiset():
    """Same rows, other order: another digest, the same multiset; a changed or doubled row changes both."""
    rows = [b"1\n", b"2\n", b"3\n"]
    assert expected(rows) != expected(rows[::-1])
    assert multiset([rows]) == multiset([rows[:1], [], rows[:0:-1]])
    assert multiset([rows]) != multiset([[b"1\n", b"2\n", b"4\n"]])
    assert multiset([rows]) != multiset([rows, [b"3\n"]])
    assert multiset([[b"1\n", b"1\n", b"2\n"]]) != multiset([[b"1\n", b"2\n", b"2\n"]])


def test_text_without_end_marker_is_refused():
    """A table whose data has no end marker was cut off."""
    digest = RowDigest()
    digest.text(b"a\nb\n")
    with pytest.raises(SourceError):
        digest.summary()
    with pytest.raises(SourceError):
        list(lines_of([b"a\nb\n"]))


def test_text_after_the_end_marker_is_refused():
    """What comes after the end marker would be in no count."""
    digest = RowDigest()
    digest.text(b"a\n\\.\nb\n")
    with pytest.raises(UnknownFormat):
        digest.summary()


def test_large_objects_do_not_depend_on_order_or_blocks():
    """Servers write large objects in any order and in several blocks; the digest of all is the same."""
    objects = [(5, b"x" * 10), (4_294_967_295, b""), (7, b"yy")]

    def digest(chosen):
        taken = LargeObjectsDigest()
        for oid, content in chosen:
            taken.begin(oid)
            for byte in content:
                taken.content(bytes([byte]))
            taken.end()
        return taken.summary()

    whole = digest(objects)
    assert (whole.count, whole.size) == (3, 12)
    assert digest(objects[::-1]) == whole
    assert digest(objects[:1]) + digest(objects[1:]) == whole
    assert NO_LARGE_OBJECTS + whole == whole
    assert digest([(5, b"x" * 9), *objects[1:]]) != whole
    assert digest([(6, b"x" * 10), *objects[1:]]) != whole
