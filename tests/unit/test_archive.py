"""The reader of pg_dump's custom format, on archives made by hand: whole, cut off, of other framings, impossible."""

from __future__ import annotations

import io
import random
import struct
import tracemalloc

import numpy as np
import pytest
from blake3 import blake3

from dr_toolkit.errors import DrctlError, SourceError, UnknownFormat
from dr_toolkit.postgres.archive import (
    Contents,
    columns_of,
    contents,
    open_archive,
    restore_stream,
    row_multiset,
)
from dr_toolkit.postgres.archive_frames import line_feeds, one_line_pieces
from dr_toolkit.postgres.dump_entries import write_archive
from tests.fakes import MemorySink
from tests.unit.archives import END, Table, archive, block, entry, header, integer, large_objects, rows, text


def read(data: bytes, capacity: int = 1 << 20) -> tuple[bytes, dict[str, object]]:
    """All bytes given out, joined, and each block's summary."""
    reader = open_archive(io.BytesIO(data), capacity=capacity)
    joined = bytearray(reader.toc.raw)
    summaries = {}
    for found in reader.blocks():
        joined += found.header.raw
        for piece in found.pieces():
            joined += piece
        summaries[found.entry.tag] = found.summary
    return bytes(joined), summaries


def expected(*values: bytes) -> tuple[int, str, int]:
    lines = [value + b"\n" for value in values]
    digest = blake3(b"".join(struct.pack("<BI", 0, len(line)) + line for line in lines)).hexdigest()
    return len(lines), digest, sum(map(len, lines))


def as_tuple(summary):
    return summary.rows, summary.digest, summary.size


@pytest.mark.parametrize("minor", [14, 15, 16])
@pytest.mark.parametrize("offset_size", [4, 8])
def test_every_known_version_is_read_whole(minor, offset_size):
    """Archives of PostgreSQL 13 to 18 are understood, and what is given out is every byte of them."""
    values = [b"1\ta", b"2\t\\N", b""]
    data = archive(
        [Table(b"t", rows(*values)), Table(b"empty", rows())],
        minor=minor,
        offset_size=offset_size,
        blobs=[[(5, [b"abc", b"de"]), (1 << 31, [])]],
    )
    joined, summaries = read(data)
    assert joined == data
    assert as_tuple(summaries["t"]) == expected(*values)
    assert as_tuple(summaries["empty"]) == expected()
    assert (summaries["BLOBS"].count, summaries["BLOBS"].size) == (2, 5)


def test_the_table_of_contents_is_parsed():
    """Names, statements and dependencies are there for those who restore."""
    toc = open_archive(io.BytesIO(archive([Table(b"t", rows())], minor=16))).toc
    assert (toc.version, toc.database, toc.server_version, toc.dump_version) == (
        (1, 16),
        "db",
        "17.1",
        "17.2",
    )
    assert (toc.created, toc.encoding) == ("2026-11-04T03:02:01", "UTF8")
    assert len(toc.entries) == 2
    found = toc.entries[1]
    assert (found.dump_id, found.desc, found.namespace, found.tag) == (10, "TABLE DATA", "public", "t")
    assert (found.section, found.has_data, found.oid, found.relkind) == ("data", True, 16384, "r")
    assert (found.owner, found.dependencies, found.tablespace) == ("owner", (1,), None)
    assert found.copy_statement.startswith("COPY")


def test_names_are_decoded_from_the_archives_encoding():
    """A database in LATIN1 has names in LATIN1; one without a known encoding still gives readable text."""
    latin = open_archive(io.BytesIO(archive([Table(b"\xe9t\xe9", rows())], encoding=b"LATIN1"))).toc
    assert latin.entries[1].tag == "été"
    ascii_ = open_archive(io.BytesIO(archive([Table(b"\xe9t", rows())], encoding=b"SQL_ASCII"))).toc
    assert ascii_.entries[1].tag == "\\xe9t"


@pytest.mark.parametrize("capacity", [512, 1000, 4096, 1 << 20])
def test_rows_of_all_lengths_over_all_edges(capacity):
    """Lengths with the byte of a line feed in them, empty rows, and rows longer than the buffer count and hash rightly."""
    chosen = random.Random(capacity)
    lengths = [0, 1, 4, 5, 8, 9, 10, 11, 255, 256, 265, 2569, 2570, 2571, 0x0A0A - 1, 0x0A00 - 1, 70_000]
    values = [b"x" * chosen.choice(lengths[: 16 if i % 50 else 17]) for i in range(3000)]
    data = archive([Table(b"a", rows(*values)), Table(b"b", rows(b"1")), Table(b"c", rows(*values[:7]))])
    joined, summaries = read(data, capacity)
    assert joined == data
    assert as_tuple(summaries["a"]) == expected(*values)
    assert as_tuple(summaries["b"]) == expected(b"1")
    assert as_tuple(summaries["c"]) == expected(*values[:7])


@pytest.mark.parametrize("capacity", [200_000, 1 << 20])
def test_a_large_table_is_read_into_the_sinks_memory_and_nothing_is_lost_at_its_edges(capacity):
    """Rows that end nowhere near the edges of the sink's memory, longer than it, longer than the reader's own; and what follows the table."""
    chosen = random.Random(capacity)
    values = [b"x" * chosen.choice((0, 3, 40, 120, 999)) for _ in range(12_000)]
    for length in (290_000, 310_000, 700_000, 1_040_000, 1_100_000):
        values[chosen.randrange(6_000, 12_000)] = b"y" * length
    blobs = [[(5, [b"z" * 900_000, b"z" * 700_000]), (6, [b"abc"])]]
    data = archive([Table(b"a", rows(*values)), Table(b"b", rows(b"1"))], blobs=blobs)
    sink = MemorySink()
    done = write_archive(open_archive(io.BytesIO(data), capacity=capacity), sink)
    assert done.size == len(data)
    assert sink.joined("archive/") == data
    assert sink.poured > 1 << 20
    assert [as_tuple(table.summary) for table in done.tables] == [expected(*values), expected(b"1")]
    for end in (len(data) // 2, data.index(b"y" * 1_100_000) + 1_000_000):
        with pytest.raises(SourceError, match=f"ended in the middle, after [0-9]{{{len(str(end))}}} bytes"):
            write_archive(open_archive(io.BytesIO(data[:end]), capacity=capacity), MemorySink())


def test_line_feeds_are_found_wherever_they_are():
    """One in a word of eight bytes or several, in the last bytes that fill no word, or none."""
    chosen = random.Random(1)
    for length in [*range(40), 5000]:
        for share in (0.0, 0.01, 0.2, 0.6):
            text_ = bytes(10 if chosen.random() < share else 65 for _ in range(length))
            found = line_feeds(np.frombuffer(text_, np.uint8)).tolist()
            assert found == [at for at, byte in enumerate(text_) if byte == 10]


def cut_at(chosen: random.Random, data: bytes, largest: int) -> list[bytes]:
    pieces = []
    while data:
        size = chosen.randint(1, largest)
        pieces.append(data[:size])
        data = data[size:]
    return pieces


@pytest.mark.parametrize("capacity", [512, 4096, 1 << 20])
@pytest.mark.parametrize("largest", [1, 3, 20, 300])
def test_other_framings_give_the_same_digest(capacity, largest):
    """A pg_dump that puts several rows into a piece, or a row into several, changes nothing but the framing."""
    chosen = random.Random(largest)
    values = [b"\\\\." * chosen.randint(0, 9) + b"v" * chosen.randint(0, 60) for _ in range(400)]
    joined_text = b"".join(rows(*values))
    data = archive([Table(b"t", cut_at(chosen, joined_text, largest)), Table(b"next", rows(b"1"))])
    joined, summaries = read(data, capacity)
    assert joined == data
    assert as_tuple(summaries["t"]) == expected(*values)
    assert as_tuple(summaries["next"]) == expected(b"1")


def test_a_framing_that_changes_in_the_middle():
    """The exact loop takes over where the rows stop being one to a piece."""
    values = [b"%d\tvalue" % i for i in range(1000)]
    pieces = [*(v + b"\n" for v in values[:500]), b"".join(v + b"\n" for v in values[500:]) + END]
    _joined, summaries = read(archive([Table(b"t", pieces)]), 4096 * 4)
    assert as_tuple(summaries["t"]) == expected(*values)


def test_an_end_marker_in_pieces_of_its_own_is_no_row():
    """The end marker is recognised however it is cut, and a value that looks like it is a row."""
    for pieces in (
        [b"1\n", b"\\.\n", b"\n", b"\n"],
        [b"1\n\\.", b"\n\n\n"],
        [b"1\n", b"\\", b".", b"\n\n\n"],
    ):
        _joined, summaries = read(archive([Table(b"t", pieces)]))
        assert as_tuple(summaries["t"]) == expected(b"1")
    _joined, summaries = read(archive([Table(b"t", rows(b"\\\\.", b"x\\\\."))]))
    assert as_tuple(summaries["t"]) == expected(b"\\\\.", b"x\\\\.")


def test_inserts_have_a_digest_and_no_rows():
    """Data that are not COPY text are hashed as they are."""
    statements = [b"INSERT INTO t VALUES (1);\n", b"INSERT INTO t VALUES ('a\nb');\n", b"\n"]
    data = archive([Table(b"t", statements, copy=b"")])
    joined, summaries = read(data)
    assert joined == data
    assert as_tuple(summaries["t"]) == (
        None,
        blake3(b"".join(statements)).hexdigest(),
        sum(map(len, statements)),
    )


def test_a_row_of_many_megabytes_passes_in_bounded_memory():
    """A long row is never held as a whole."""
    value = b"x" * (40 << 20)
    data = io.BytesIO(archive([Table(b"t", rows(value, b"1"))]))
    tracemalloc.start()
    try:
        found = contents(data)
        _size, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert as_tuple(found.tables["public", "t"]) == expected(value, b"1")
    assert peak < 8 << 20


def test_a_long_piece_of_several_rows_is_refused_rather_than_miscounted():
    """Above the buffer's size a piece must be one row: a framing that cannot be followed is said to be unknown."""
    piece = b"".join(b"%d\n" % i for i in range(2000))
    with pytest.raises(UnknownFormat, match="exactly one row"):
        read(archive([Table(b"t", [piece, END])]), 4096)


@pytest.mark.parametrize("capacity", [64, 1 << 20])
def test_an_archive_cut_anywhere_is_an_error(capacity):
    """There is no length at which a part of an archive passes for the whole."""
    data = archive(
        [
            Table(b"t", rows(b"1\ta", b"2\tb")),
            Table(b"empty", rows()),
            Table(b"u", [b"a\nb", b"\n\\.\n\n\n"]),
        ],
        blobs=[[(5, [b"abc"])], [(6, [b"x"])]],
    )
    assert read(data, capacity)[0] == data
    for length in range(len(data)):
        with pytest.raises(SourceError):
            read(data[:length], capacity)


def test_bytes_after_the_last_block_are_an_error():
    """Nothing may follow what the table of contents announces."""
    data = archive([Table(b"t", rows(b"1"))])
    for more in (b"\0", b"\1", block(10, rows(b"1")), block(99, rows()), large_objects(10, [])):
        with pytest.raises(DrctlError):
            read(data + more)


def test_flipped_bits_never_crash_the_reader():
    """Damage gives an error of ours or other content, never a crash or a hang."""
    data = archive([Table(b"t", rows(b"1\ta", b"2\tb"))], blobs=[[(5, [b"abc"])]])
    for place in range(len(data)):
        damaged = bytearray(data)
        damaged[place] ^= 0x41
        try:
            joined, _summaries = read(bytes(damaged))
        except DrctlError:
            continue
        assert joined == damaged


@pytest.mark.parametrize(
    "data",
    [
        b"-- PostgreSQL database dump\n" + bytes(40),
        header(13, 0),
        header(17, 0),
        header(16, 0, major=2),
        header(16, 0, int_size=8),
        header(16, 0, offset_size=16),
        header(16, 0, format_=3),
        header(16, 0, compression=1),
        header(15, 0, compression=3),
        header(14, 0, compression=-1),
        header(14, 0, compression=6),
    ],
)
def test_unknown_archives_are_refused(data):
    """What is not known is refused and not guessed: versions, sizes, formats, compression."""
    with pytest.raises(UnknownFormat):
        read(data)


@pytest.mark.parametrize(
    "data",
    [
        header(16, -1),
        header(16, 20_000_000),
        header(16, 1) + entry(16, 1, b"X", b"x", section=9),
        header(16, 1) + entry(16, 1, b"X", b"x", state=7),
        header(16, 1) + entry(16, -4, b"X", b"x"),
        header(16, 1) + integer(1) + integer(1) + integer(1 << 30),
        header(16, 1) + integer(1) + integer(1) + integer(-2),
        header(16, 1) + integer(1) + integer(1) + b"\x07\1\0\0\0",
        header(16, 1) + integer(1) + integer(1) + text(b"zero"),
        archive([Table(b"t", [])])[:-5] + b"\1\5\0\0\0",
    ],
)
def test_impossible_archives_are_refused_before_memory_is_taken(data):
    """Lengths and counts are bounded, whatever an archive claims."""
    with pytest.raises(SourceError):
        read(data + bytes(64))


def test_the_vectorised_scan_agrees_with_a_plain_loop():
    """On random bytes, the fast way finds exactly what following the headers one by one finds."""
    chosen = random.Random(4)

    def plain(data: bytes) -> tuple[int, int]:
        at = count = 0
        while at + 5 <= len(data):
            length = int.from_bytes(data[at + 1 : at + 5], "little")
            piece = data[at + 5 : at + 5 + length]
            if (
                data[at]
                or not length
                or len(piece) < length
                or piece.find(b"\n") != length - 1
                or piece == b"\\.\n"
            ):
                break
            at, count = at + 5 + length, count + 1
        return at, count

    for _ in range(3000):
        data = b"".join(
            text(bytes(chosen.choices(b"a\\.", k=chosen.choice((0, 1, 2, 9, 12)))) + b"\n") for _ in range(6)
        )
        damaged = bytearray(data[: chosen.randint(0, len(data))])
        if damaged and chosen.random() < 0.7:
            damaged[chosen.randrange(len(damaged))] = chosen.choice((0, 1, 10, 11, 92))
        assert one_line_pieces(memoryview(damaged)) == plain(bytes(damaged))


def test_large_objects_in_any_number_of_blocks_add_up():
    """PostgreSQL up to 16 writes one block of large objects, newer ones several."""
    objects = [(5, [b"abc"]), (6, [b"x", b"y"]), (7, [])]
    one = contents(io.BytesIO(archive([], blobs=[objects])))
    several = contents(io.BytesIO(archive([], blobs=[objects[1:], objects[:1]])))
    assert one.large_objects == several.large_objects
    assert one.large_objects.count == 3


def test_the_multiset_of_a_block_ignores_order_and_cutting():
    """Two dumps of the same rows in another order are told apart from dumps of other rows."""
    values = [b"1\ta", b"2\tb", b"3\tc"]
    forward = block(10, rows(*values))
    backward = block(77, [b"".join(rows(*values[::-1]))])
    assert row_multiset([forward]) == row_multiset([backward[i : i + 1] for i in range(len(backward))])
    assert row_multiset([forward]) != row_multiset([block(10, rows(*values[:2], b"3\tC"))])
    for length in range(len(forward) - 5 - 2):
        with pytest.raises(SourceError):
            row_multiset([forward[:length]])


def test_a_restore_stream_is_the_contents_and_the_chosen_blocks():
    """pg_restore gets the exact table of contents and the blocks as they were."""
    assert b"".join(restore_stream(b"toc", [[b"a", b"b"], [b"c"]])) == b"tocabc"
    assert b"".join(restore_stream(b"toc", [])) == b"toc"


def test_contents_of_an_archive():
    """Tables by schema and name, for comparing two dumps."""
    found = contents(io.BytesIO(archive([Table(b"t", rows(b"1"), schema=b"s")])))
    assert isinstance(found, Contents)
    assert list(found.tables) == [("s", "t")]


@pytest.mark.parametrize(
    ("statement", "names"),
    [
        ("COPY public.t (a, b) FROM stdin;\n", ("a", "b")),
        ('COPY "we ird"."ta""b" ("co,l (x)", "q""q", c) FROM stdin;\n', ("co,l (x)", 'q"q', "c")),
        ("COPY public.zero  FROM stdin;\n", ()),
        ("", ()),
        ("INSERT INTO x", ()),
    ],
)
def test_columns_from_the_copy_statement(statement, names):
    """Names of columns are taken from the statement, quotes and all."""
    assert columns_of(statement) == names
