"""Which tables are loaded frozen, and what stands in the table of contents that does it."""

from __future__ import annotations

import io

import pytest

from dr_toolkit.postgres.archive import open_archive
from dr_toolkit.postgres.archive_toc import Toc
from dr_toolkit.postgres.restore_frozen import frozen
from tests.unit.archives import entry, header


def toc_of(*entries: bytes, minor: int = 16, encoding: bytes = b"UTF8") -> Toc:
    """A table of contents without data."""
    named = entry(
        minor,
        1,
        b"ENCODING",
        b"ENCODING",
        section=2,
        state=3,
        schema=None,
        definition=b"SET client_encoding = '" + encoding + b"';\n",
    )
    return open_archive(io.BytesIO(b"".join([header(minor, 1 + len(entries)), named, *entries]))).toc


def table(dump_id: int, tag: bytes, minor: int = 16) -> bytes:
    return entry(minor, dump_id, b"TABLE", tag, section=2, state=3)


def data(dump_id: int, tag: bytes, copy: bytes, minor: int = 16) -> bytes:
    return entry(minor, dump_id, b"TABLE DATA", tag, copy=copy)


def statements(raw: bytes) -> dict[int, str]:
    return {
        one.dump_id: one.copy_statement for one in open_archive(io.BytesIO(raw)).toc.entries if one.has_data
    }


@pytest.mark.parametrize("minor", [14, 15, 16])
def test_a_table_of_this_restore_is_emptied_and_filled_in_one_message(minor):
    """Only its COPY statement is another; all other entries are what they were."""
    odd = b'"My ""odd"" (table) FROM stdin;"'
    toc = toc_of(
        table(2, b"t", minor),
        table(3, b'My "odd" (table) FROM stdin;', minor),
        data(4, b"t", b'COPY public.t (a, "b c") FROM stdin;\n', minor),
        data(5, b'My "odd" (table) FROM stdin;', b"COPY public." + odd + b" (a) FROM stdin;\n", minor),
        minor=minor,
    )
    raw = frozen(toc, {4: 10, 5: 10}, at_least=0)
    assert statements(raw) == {
        4: 'TRUNCATE TABLE ONLY public.t; COPY public.t (a, "b c") FROM stdin WITH (FREEZE);\n',
        5: f"TRUNCATE TABLE ONLY public.{odd.decode()}; COPY public.{odd.decode()} (a) FROM stdin WITH (FREEZE);\n",
    }
    again = open_archive(io.BytesIO(raw)).toc
    assert [one.dump_id for one in again.entries] == [one.dump_id for one in toc.entries]
    assert (
        again.with_copy_statements({n: toc.raw_copy_statement(toc.entries[n - 1]) for n in (4, 5)}) == toc.raw
    )


@pytest.mark.parametrize(
    ("entries", "why"),
    [
        ([data(4, b"t", b"COPY public.t (a) FROM stdin;\n")], "an extension made it, and may have filled it"),
        (
            [table(2, b"t"), table(3, b"root"), data(4, b"t", b"COPY public.root (a) FROM stdin;\n")],
            "it is loaded through its root, which others fill too",
        ),
        ([table(2, b"t"), data(4, b"t", b"")], "its data are statements"),
        ([table(2, b"t"), data(4, b"t", b"COPY public.t  FROM stdin;\n")], "it has no columns"),
    ],
)
def test_other_tables_are_loaded_as_they_were(entries, why):
    """What is emptied must be what was made here and what is filled there."""
    toc = toc_of(*entries)
    assert frozen(toc, {4: 10}, at_least=0) == toc.raw, why


def test_small_tables_are_loaded_as_they_were():
    """A thousand small tables do not get a thousand new files."""
    toc = toc_of(table(2, b"t"), data(4, b"t", b"COPY public.t (a) FROM stdin;\n"))
    assert frozen(toc, {4: 10}, at_least=11) == toc.raw
    assert frozen(toc, {}) == toc.raw


def test_names_stay_in_the_archives_encoding():
    """A name that cannot be written in it again is left alone."""
    name = "été".encode("latin-1")
    latin = toc_of(
        table(2, name), data(4, name, b"COPY public." + name + b" (a) FROM stdin;\n"), encoding=b"LATIN1"
    )
    assert b"TRUNCATE TABLE ONLY public." + name + b"; COPY" in frozen(latin, {4: 10}, at_least=0)
    unknown = toc_of(
        table(2, name), data(4, name, b"COPY public." + name + b" (a) FROM stdin;\n"), encoding=b"SQL_ASCII"
    )
    assert frozen(unknown, {4: 10}, at_least=0) == unknown.raw
