"""The small records of a catalog, and pages of them (docs/format.md, section 8.1)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec

from dr_toolkit import errors
from dr_toolkit.repository import strict
from dr_toolkit.repository.strict import Hash, Id, Whole

Tree = Literal["entries", "packs"]
Key = tuple[bytes, int]
"""UTF-8 bytes of the path, then the offset; ``BEGIN`` and ``FINISH`` around an entry's extents; ``BEGIN`` for a pack."""

PATH_LIMIT = 4096
META_LIMIT = 64 << 10
CHUNK_LIMIT = 8 << 20
PAGE_LIMIT = 1 << 20
LEVEL_LIMIT = 8
PACK_LIMIT = 64 << 20

Positive = Annotated[int, msgspec.Meta(ge=1, le=strict.MAX_WHOLE)]
ChunkLength = Annotated[int, msgspec.Meta(ge=1, le=CHUNK_LIMIT)]
Level = Annotated[int, msgspec.Meta(ge=0, le=LEVEL_LIMIT)]
FrameNumber = Annotated[int, msgspec.Meta(ge=0, lt=1 << 16)]
FrameOffset = Annotated[int, msgspec.Meta(ge=80 + 1168, le=PACK_LIMIT)]
FrameLength = Annotated[int, msgspec.Meta(ge=17, le=PACK_LIMIT)]
PageOffset = Annotated[int, msgspec.Meta(ge=80, le=PACK_LIMIT)]
PageLength = Annotated[int, msgspec.Meta(ge=17, le=(1 << 20) + 16)]
"""Bounds of docs/format.md, sections 7, 8 and 16, checked while a record is decoded."""


BEGIN = -1
FINISH = (1 << 53) - 1
"""Offsets in the keys of an entry's first and last record."""


class Begin(msgspec.Struct, tag="e", array_like=True, frozen=True, forbid_unknown_fields=True):
    """``["e", path, kind]``: an entry begins."""

    path: str
    kind: str


class Finish(msgspec.Struct, tag="f", array_like=True, frozen=True, forbid_unknown_fields=True):
    """``["f", size, meta]``: the entry ends; both are known only then."""

    size: Whole
    meta: dict[str, Any]


class Extent(msgspec.Struct, tag="x", array_like=True, frozen=True, forbid_unknown_fields=True):
    """``["x", …]``: ``length`` bytes at ``offset`` of the entry are a part of a chunk, which is a frame of a pack."""

    offset: Whole
    length: ChunkLength
    chunk_id: Hash
    start: Whole
    chunk_length: ChunkLength
    pack: Id
    frame: FrameNumber
    frame_offset: FrameOffset
    frame_length: FrameLength


class Zeros(msgspec.Struct, tag="z", array_like=True, frozen=True, forbid_unknown_fields=True):
    """``["z", offset, length]``: zero bytes."""

    offset: Whole
    length: Positive


class PackUse(msgspec.Struct, tag="k", array_like=True, frozen=True, forbid_unknown_fields=True):
    """``["k", pack id, size, used]``."""

    pack: Id
    size: Whole
    used: Whole


class Index(msgspec.Struct, tag="i", array_like=True, frozen=True, forbid_unknown_fields=True):
    """``["i", path, offset, page reference, records]``: one page of the level below."""

    path: str
    offset: Annotated[int, msgspec.Meta(ge=-1, le=strict.MAX_WHOLE)]
    object_id: Id
    frame: Whole
    frame_offset: PageOffset
    frame_length: PageLength
    page_id: Hash
    records: Positive

    @property
    def key(self) -> Key:
        """The key of the page's first record."""
        return self.path.encode(), self.offset

    @property
    def reference(self) -> PageRef:
        """Where the page is."""
        return PageRef(self.object_id, self.frame, self.frame_offset, self.frame_length, self.page_id)


class PageRef(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """Where a page is: catalog object, frame number, place of the ciphertext, and the page id."""

    object_id: Id
    frame: Whole
    offset: PageOffset
    length: PageLength
    page_id: Hash


class Root(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """``[level, page reference]`` of a tree's root, as in a header."""

    level: Level
    page: PageRef


EntryRecord = Begin | Finish | Extent | Zeros
Leaf = EntryRecord | PackUse
Record = Leaf | Index

_ENCODER = msgspec.json.Encoder()
_RECORDS = msgspec.json.Decoder(list[Begin | Finish | Extent | Zeros | PackUse | Index])
_ENTRY_RECORDS = msgspec.json.Decoder(list[EntryRecord])
_UNKNOWN_TAG = re.compile(r"Invalid value .* - at `\$\[\d+\]\[0\]`", re.DOTALL)
"""What the decoder says when the first element of a record is no type of a record."""
_HEAD = msgspec.json.Decoder(tuple[Literal["page"], int, str, str])


def encode(record: Record) -> bytes:
    """One line, without LF."""
    return _ENCODER.encode(record)


def decode_lines(content: bytes) -> list[EntryRecord]:
    """Records that this process encoded itself, each line ended by LF."""
    return _ENTRY_RECORDS.decode(b"[" + content.rstrip(b"\n").replace(b"\n", b",") + b"]")


def encode_head(level: int, tree: Tree, context: str) -> bytes:
    """A page's first line."""
    return _ENCODER.encode(("page", level, tree, context))


@dataclass(frozen=True, slots=True)
class Page:
    """A page that has been checked by itself: types, order, and that its records belong to its tree and level.

    ``lines`` are the records as they are encoded.
    """

    level: int
    tree: str
    context: str
    records: list[Record]
    lines: list[bytes]

    @property
    def count(self) -> int:
        """How many leaf records there are in it, or below it as it says."""
        if not self.level:
            return len(self.records)
        return sum(record.records if isinstance(record, Index) else 1 for record in self.records)


def decode_page(content: bytes, on: str) -> Page:
    """Parse a page.

    Raises:
        UnknownFormat: a record type or a tree that this reader does not know.
        Damaged: anything else that docs/format.md does not allow.
    """
    head, *lines = content.split(b"\n")
    if not lines or lines.pop():
        raise _misshapen(on)
    try:
        _, level, tree, context = _HEAD.decode(head)
        records = _RECORDS.decode(b"[" + b",".join(lines) + b"]")
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        if _UNKNOWN_TAG.fullmatch(str(error)):
            raise _unknown(on) from error
        raise _misshapen(on) from error
    if tree not in {"entries", "packs"}:
        raise _unknown(on)
    if not 0 <= level <= LEVEL_LIMIT or not records or len(records) != len(lines):
        raise errors.Damaged(f'a page of "{on}" is empty or too high', fault="structure", on=on)
    if bool(context) != isinstance(records[0], Extent | Zeros | Finish):
        raise errors.Damaged(f'a page of "{on}" has a wrong context', fault="structure", on=on)
    _check_order(records, level, tree, context, on)
    _check_meta(records, lines, on)
    return Page(level, tree, context, records, lines)


def _misshapen(on: str) -> errors.Damaged:
    return errors.Damaged(f'a page of "{on}" is not as the format says', fault="structure", on=on)


def _check_meta(records: list[Record], lines: list[bytes], on: str) -> None:
    """The rules for metadata that the decoder does not know: its size, and no name twice."""
    for record, line in zip(records, lines, strict=True):
        if not isinstance(record, Finish) or not record.meta:
            continue
        if len(line) > META_LIMIT and len(_ENCODER.encode(record.meta)) > META_LIMIT:
            raise errors.Damaged(f'a page of "{on}" has too much metadata', fault="structure", on=on)
        # What is encoded again to the same bytes has no name twice; that is quick, and so it is nearly always.
        if line.count(b":") > 1 and _ENCODER.encode(record) != line:
            strict.parse_object(b'{"record":' + line + b"}", on)


def _unknown(on: str) -> errors.UnknownFormat:
    return errors.UnknownFormat(
        f'"{on}" holds records that this drctl does not know',
        fault="version",
        on=on,
        hint="install a newer drctl",
    )


def _check_order(records: list[Record], level: int, tree: str, context: str, on: str) -> None:
    if not level and tree == "entries":
        _check_entries(records, context, on)
        return
    allowed = Index if level else PackUse
    last: Key | None = None
    for record, key in zip(records, keys(records, context), strict=True):
        if not isinstance(record, allowed) or (last is not None and key <= last) or not _is_path(record, key):
            raise errors.Damaged(f'a page of "{on}" has a record out of place', fault="structure", on=on)
        last = key


def _check_entries(records: list[Record], context: str, on: str) -> None:
    """The same for entries, of which a backup reads hundreds of thousands."""
    path, offset = context, BEGIN
    for record in records:
        if isinstance(record, Begin):
            # Python orders text as UTF-8 does. A path's length in bytes is looked at only where it may be too long.
            good = record.path > path and _is_path_of(record.path)
            path, offset = record.path, BEGIN
        elif isinstance(record, Finish):
            good, offset = offset < FINISH, FINISH
        elif isinstance(record, Extent | Zeros):
            good, offset = record.offset > offset, record.offset
        else:
            good = False
        if not good:
            raise errors.Damaged(f'a page of "{on}" has a record out of place', fault="structure", on=on)


def _is_path_of(path: str) -> bool:
    return "\0" not in path and (len(path) * 4 <= PATH_LIMIT or len(path.encode()) <= PATH_LIMIT)


def _is_path(record: Record, key: Key) -> bool:
    return not isinstance(record, Begin) or (0 < len(key[0]) <= PATH_LIMIT and b"\0" not in key[0])


def keys(records: Iterable[Record], context: str) -> Iterable[Key]:
    """The key of each record, in order; ``context`` is the path before the first entry."""
    path = context.encode()
    for record in records:
        if isinstance(record, Begin):
            path = record.path.encode()
            yield path, BEGIN
        elif isinstance(record, Finish):
            yield path, FINISH
        elif isinstance(record, Extent | Zeros):
            yield path, record.offset
        elif isinstance(record, PackUse):
            yield record.pack.hex().encode(), -1
        else:
            yield record.key
