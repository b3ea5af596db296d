"""Header and table of contents of pg_dump's custom format.

Known are the archive versions 1.14 (PostgreSQL 13 to 15), 1.15 (16: the compression is named by one byte) and 1.16 (17 and
18: each entry has its relation kind). A newer version is refused, not guessed.

Integers are a sign byte (0 or 1) and four bytes, little-endian; strings are an integer length (-1 for none) and that many bytes.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping
from dataclasses import dataclass

from dr_toolkit.errors import SourceError, UnknownFormat
from dr_toolkit.postgres.archive_stream import ByteReader

MAGIC = b"PGDMP"
OLDEST, NEWEST = (1, 14), (1, 16)

_INT_SIZE = 4
_OFFSET_SIZES = (4, 8)
_FORMAT_CUSTOM = 1
_COMPRESSIONS = ("none", "gzip", "lz4", "zstd")
_SECTIONS = {1: "none", 2: "pre-data", 3: "data", 4: "post-data"}
_NO_DATA = 3
_DATA_STATES = (1, 2, _NO_DATA)

_MAX_STRING = 1 << 28
_MAX_ENTRIES = 10_000_000
_MAX_DEPENDENCIES = 1_000_000
_MAX_TOC = 1 << 30

_ENCODING = re.compile(rb"client_encoding = '([A-Za-z0-9_]+)'")


@dataclass(frozen=True, slots=True)
class TocEntry:
    """One entry of a table of contents. Text is decoded from the archive's encoding.

    Attributes:
        dump_id: number of the entry within this archive.
        has_data: whether a data block follows in the archive.
        table_oid: the catalog that the object is in.
        oid: the object's own.
        tag: the object's name, or what stands for it.
        desc: what it is: ``TABLE``, ``TABLE DATA``, ``BLOBS``, ``SEQUENCE SET``...
        section: ``none``, ``pre-data``, ``data`` or ``post-data``.
        definition: the statements that make the object.
        drop_statement: the statement that removes it.
        copy_statement: the ``COPY ... FROM stdin`` of table data; empty if the data is not COPY text.
        namespace: its schema.
        tablespace: its tablespace, empty for the default one.
        table_access_method: of a table.
        relkind: of a relation, in archives from 1.16.
        owner: its owner.
        dependencies: dump ids that come before it.
        copy_at: where, in the table of contents' exact bytes, the length of ``copy_statement`` stands.
    """

    dump_id: int
    has_data: bool
    table_oid: int
    oid: int
    tag: str
    desc: str
    section: str
    definition: str
    drop_statement: str
    copy_statement: str
    namespace: str | None
    tablespace: str | None
    table_access_method: str | None
    relkind: str | None
    owner: str
    dependencies: tuple[int, ...]
    copy_at: int = 0


@dataclass(frozen=True, slots=True)
class Toc:
    """Header and entries of an archive.

    Attributes:
        raw: the exact bytes they were read from.
        version: of the archive format.
        database: name of the dumped database.
        server_version: of the server that was dumped.
        dump_version: of pg_dump.
        created: local time of pg_dump, ISO 8601 without a zone.
        encoding: PostgreSQL's name of the archive's encoding.
        entries: in the archive's order.
    """

    raw: bytes
    version: tuple[int, int]
    database: str
    server_version: str
    dump_version: str
    created: str
    encoding: str
    entries: tuple[TocEntry, ...]

    def with_copy_statements(self, changed: Mapping[int, bytes]) -> bytes:
        """The exact bytes, but for the COPY statements of entries with these dump ids: text in the archive's encoding."""
        parts, done = list[bytes](), 0
        for entry in self.entries:
            if entry.dump_id in changed:
                statement = changed[entry.dump_id]
                parts += [
                    self.raw[done : entry.copy_at],
                    bytes(1),
                    len(statement).to_bytes(_INT_SIZE, "little"),
                    statement,
                ]
                done = entry.copy_at + 1 + _INT_SIZE + len(self.raw_copy_statement(entry))
        return b"".join([*parts, self.raw[done:]])

    def raw_copy_statement(self, entry: TocEntry) -> bytes:
        """An entry's COPY statement in the archive's encoding."""
        begin = entry.copy_at + 1 + _INT_SIZE
        if not entry.copy_statement:
            return b""
        return self.raw[begin : begin + int.from_bytes(self.raw[entry.copy_at + 1 : begin], "little")]


def read_toc(reader: ByteReader) -> Toc:
    """Read header and table of contents; the reader stands at the first data block afterwards.

    Raises:
        UnknownFormat: not an uncompressed archive in custom format, or of a version that is not known.
        SourceError: the stream ended early or holds something impossible.
    """
    return _Parser(reader).toc()


def decoder(encoding: str) -> codecs.CodecInfo:
    """Python's codec for a PostgreSQL encoding; UTF-8 where there is none."""
    name = re.sub(r"^WIN", "cp", encoding.upper().replace("KOI8", "KOI8_"))
    try:
        return codecs.lookup(name)
    except LookupError:
        return codecs.lookup("utf-8")


class _Parser:
    def __init__(self, reader: ByteReader) -> None:
        self._reader = reader
        self._raw = bytearray()
        self._version = (0, 0)
        self._offset_size = 8

    def toc(self) -> Toc:
        self._check_header()
        created = self._timestamp()
        database, server_version, dump_version = self._text(), self._text(), self._text()
        count = self._bounded(_MAX_ENTRIES, "number of entries")
        entries = [self._entry() for _ in range(count)]
        encoding = next((found for desc, found in map(_encoding, entries) if desc), "UTF8")
        codec = decoder(encoding)
        return Toc(
            raw=bytes(self._raw),
            version=self._version,
            database=_decode(database, codec),
            server_version=_decode(server_version, codec),
            dump_version=_decode(dump_version, codec),
            created=created,
            encoding=encoding,
            entries=tuple(entry.decoded(codec) for entry in entries),
        )

    def _check_header(self) -> None:
        if self._take(len(MAGIC)) != MAGIC:
            raise UnknownFormat("the stream is not an archive of pg_dump in custom format")
        major, minor, _revision, int_size, offset_size, format_ = self._take(6)
        self._version = (major, minor)
        if not OLDEST <= self._version <= NEWEST:
            raise UnknownFormat(
                f"archives of version {major}.{minor} are not known; known are 1.14 to 1.16 (PostgreSQL 13 to 18)",
                hint="install a newer drctl, or use the pg_dump of PostgreSQL 18 or older",
            )
        if int_size != _INT_SIZE or offset_size not in _OFFSET_SIZES or format_ != _FORMAT_CUSTOM:
            raise UnknownFormat(
                f"an archive with integers of {int_size} bytes, offsets of {offset_size} and format {format_} is not known"
            )
        self._offset_size = offset_size
        compression = self._byte() if self._version >= (1, 15) else self._integer()
        if compression:
            name = _COMPRESSIONS[compression] if 0 < compression < len(_COMPRESSIONS) else str(compression)
            raise UnknownFormat(
                f"the archive's data is compressed ({name}); only uncompressed archives are understood"
            )

    def _timestamp(self) -> str:
        second, minute, hour, day, month, year, _dst = (self._integer() for _ in range(7))
        return f"{year + 1900:04d}-{month + 1:02d}-{day:02d}T{hour:02d}:{minute:02d}:{second:02d}"

    def _entry(self) -> _RawEntry:
        dump_id = self._integer()
        self._integer()  # whether pg_dump had a function for its data: the state below says it more precisely
        table_oid, oid = self._text(), self._text()
        tag, desc = self._text(), self._text()
        section = _SECTIONS.get(self._integer())
        if section is None or dump_id <= 0:
            raise self._impossible("an entry of no known section")
        made = [self._text() for _ in range(2)]
        copy_at = len(self._raw)
        texts = [*made, *(self._text() for _ in range(4))]
        relkind = self._integer() if self._version >= (1, 16) else 0
        owner, _with_oids = self._text(), self._text()
        dependencies = self._dependencies()
        state = self._byte()
        if state not in _DATA_STATES:
            raise self._impossible("an entry with an unknown state of its data")
        self._take(self._offset_size)
        return _RawEntry(
            dump_id,
            state != _NO_DATA,
            section,
            relkind,
            self._numbers(table_oid, oid),
            (tag, desc, owner, *texts),
            dependencies,
            copy_at,
        )

    def _dependencies(self) -> tuple[int, ...]:
        found: list[bytes] = []
        while (text := self._text()) is not None:
            found.append(text)
            if len(found) > _MAX_DEPENDENCIES:
                raise self._impossible("an entry with too many dependencies")
        return self._numbers(*found)

    def _numbers(self, *texts: bytes | None) -> tuple[int, ...]:
        numbers = []
        for text in texts:
            if text is None or not text.isdigit():
                raise self._impossible("a number that is none")
            numbers.append(int(text))
        return tuple(numbers)

    def _text(self) -> bytes | None:
        length = self._integer()
        if length == -1:
            return None
        if not 0 <= length <= _MAX_STRING:
            raise self._impossible(f"a text of {length} bytes")
        return self._take(length)

    def _bounded(self, most: int, what: str) -> int:
        value = self._integer()
        if not 0 <= value <= most:
            raise self._impossible(f"the {what} {value}")
        return value

    def _integer(self) -> int:
        data = self._take(1 + _INT_SIZE)
        value = int.from_bytes(data[1:], "little")
        if data[0] > 1:
            raise self._impossible("an integer of no sign")
        return -value if data[0] else value

    def _byte(self) -> int:
        return self._take(1)[0]

    def _take(self, count: int) -> bytes:
        data = self._reader.take(count)
        self._raw += data
        if len(self._raw) > _MAX_TOC:
            raise self._impossible("more than 1 GiB")
        return data

    def _impossible(self, what: str) -> SourceError:
        return SourceError(f"the archive's table of contents holds {what}, near byte {self._reader.position}")


@dataclass(frozen=True, slots=True)
class _RawEntry:
    dump_id: int
    has_data: bool
    section: str
    relkind: int
    oids: tuple[int, ...]
    texts: tuple[bytes | None, ...]
    dependencies: tuple[int, ...]
    copy_at: int

    def decoded(self, codec: codecs.CodecInfo) -> TocEntry:
        tag, desc, owner, definition, drop, copy, namespace, tablespace, access_method = (
            _decode(text, codec) for text in self.texts
        )
        return TocEntry(
            dump_id=self.dump_id,
            has_data=self.has_data,
            table_oid=self.oids[0],
            oid=self.oids[1],
            tag=tag,
            desc=desc,
            section=self.section,
            definition=definition,
            drop_statement=drop,
            copy_statement=copy,
            namespace=namespace or None,
            tablespace=tablespace or None,
            table_access_method=access_method or None,
            relkind=chr(self.relkind) if 0 < self.relkind < 128 else None,  # noqa: PLR2004 - ASCII
            owner=owner,
            dependencies=self.dependencies,
            copy_at=self.copy_at,
        )


def _encoding(entry: _RawEntry) -> tuple[bool, str]:
    match = _ENCODING.search(entry.texts[3] or b"") if entry.texts[1] == b"ENCODING" else None
    return match is not None, match[1].decode("ascii") if match else ""


def _decode(text: bytes | None, codec: codecs.CodecInfo) -> str:
    return codec.decode(text or b"", "backslashreplace")[0]
