"""Archives in pg_dump's custom format, made by hand for tests."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

END = b"\\.\n\n\n"


def integer(value: int) -> bytes:
    return bytes([value < 0]) + abs(value).to_bytes(4, "little")


def text(value: bytes | None) -> bytes:
    return integer(-1) if value is None else integer(len(value)) + value


@dataclass(frozen=True)
class Table:
    """A table for an archive; ``pieces`` are its data as they are framed, end marker included."""

    name: bytes
    pieces: Sequence[bytes]
    schema: bytes = b"public"
    copy: bytes = b"COPY x (a) FROM stdin;\n"


def rows(*values: bytes) -> list[bytes]:
    return [*(value + b"\n" for value in values), END]


def block(dump_id: int, pieces: Iterable[bytes]) -> bytes:
    return b"\1" + integer(dump_id) + b"".join(map(text, pieces)) + integer(0)


def large_objects(dump_id: int, objects: Iterable[tuple[int, Sequence[bytes]]]) -> bytes:
    content = b"".join(
        integer(oid - (1 << 32) if oid >> 31 else oid) + b"".join(map(text, pieces)) + integer(0)
        for oid, pieces in objects
    )
    return b"\3" + integer(dump_id) + content + integer(0)


def entry(
    minor: int,
    dump_id: int,
    desc: bytes,
    tag: bytes,
    *,
    section: int = 3,
    definition: bytes = b"",
    copy: bytes = b"",
    schema: bytes | None = b"public",
    state: int = 1,
    offset_size: int = 8,
) -> bytes:
    return b"".join(
        (
            integer(dump_id)
            + integer(1)
            + text(b"0")
            + text(b"16384")
            + text(tag)
            + text(desc)
            + integer(section),
            text(definition) + text(b"") + text(copy) + text(schema) + text(b"") + text(b""),
            integer(ord("r")) if minor >= 16 else b"",
            text(b"owner") + text(b"false") + text(b"1") + text(None),
            bytes([state]) + bytes(offset_size),
        )
    )


def header(
    minor: int,
    count: int,
    *,
    major: int = 1,
    int_size: int = 4,
    offset_size: int = 8,
    format_: int = 1,
    compression: int = 0,
) -> bytes:
    return b"".join(
        (
            b"PGDMP" + bytes([major, minor, 0, int_size, offset_size, format_]),
            bytes([compression]) if minor >= 15 else integer(compression),
            b"".join(map(integer, (1, 2, 3, 4, 10, 126, 0))),
            text(b"db") + text(b"17.1") + text(b"17.2") + integer(count),
        )
    )


def archive(
    tables: Sequence[Table],
    *,
    minor: int = 16,
    blobs: Sequence[Sequence[tuple[int, Sequence[bytes]]]] = (),
    encoding: bytes = b"UTF8",
    offset_size: int = 8,
) -> bytes:
    """An archive with a schema entry, these tables' data, and blocks of large objects."""
    ids = range(10, 10 + len(tables))
    blob_ids = range(10 + len(tables), 10 + len(tables) + len(blobs))
    entries = [
        entry(
            minor, 1, b"ENCODING", b"ENCODING", section=2, state=3, schema=None, offset_size=offset_size,
            definition=b"SET client_encoding = '" + encoding + b"';\n",
        ),
        *(
            entry(minor, i, b"TABLE DATA", t.name, copy=t.copy, schema=t.schema, offset_size=offset_size)
            for i, t in zip(ids, tables, strict=True)
        ),
        *(entry(minor, i, b"BLOBS", b"BLOBS", schema=None, offset_size=offset_size) for i in blob_ids),
    ]  # fmt: skip
    return b"".join(
        (
            header(minor, len(entries), offset_size=offset_size),
            *entries,
            *(block(i, t.pieces) for i, t in zip(ids, tables, strict=True)),
            *(large_objects(i, objects) for i, objects in zip(blob_ids, blobs, strict=True)),
        )
    )
