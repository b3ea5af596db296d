"""The small records of a catalog, and pages of them (docs/format.md, section 8.1)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from dr_toolkit import errors

Tree = Literal["entries", "packs"]
Key = tuple[bytes, int]
"""UTF-8 bytes of the path, then the offset; ``BEGIN`` and ``FINISH`` around an entry's extents; ``BEGIN`` for a pack."""

PATH_LIMIT = 4096
META_LIMIT = 64 << 10
CHUNK_LIMIT = 8 << 20
PAGE_LIMIT = 1 << 20
LEVEL_LIMIT = 8


BEGIN = -1
FINISH = (1 << 53) - 1
"""Offsets in the keys of an entry's first and last record."""


class Begin(msgspec.Struct, tag="e", array_like=True, frozen=True, forbid_unknown_fields=True):
    """``["e", path, kind]``: an entry begins."""

    path: str
    kind: str


class Finish(msgspec.Struct, tag="f", array_like=True, frozen=True, forbid_unknown_fields=True):
    """``["f", size, meta]``: the entry ends; both are known only then."""

    size: int
    meta: dict[str, Any]


class Extent(msgspec.Struct, tag="x", array_like=True, frozen=True, forbid_unknown_fields=True):
    """``["x", …]``: ``length`` bytes at ``offset`` of the entry are a part of a chunk, which is a frame of a pack."""

    offset: int
    length: int
    chunk_id: bytes
    start: int
    chunk_length: int
    pack: bytes
    frame: int
    frame_offset: int
    frame_length: int


class Zeros(msgspec.Struct, tag="z", array_like=True, frozen=True, forbid_unknown_fields=True):
    """``["z", offset, length]``: zero bytes."""

    offset: int
    length: int


class PackUse(msgspec.Struct, tag="k", array_like=True, frozen=True, forbid_unknown_fields=True):
    """``["k", pack id, size, used]``."""

    pack: bytes
    size: int
    used: int


class Index(msgspec.Struct, tag="i", array_like=True, frozen=True, forbid_unknown_fields=True):
    """``["i", path, offset, page reference, records]``: one page of the level below."""

    path: str
    offset: int
    object_id: bytes
    frame: int
    frame_offset: int
    frame_length: int
    page_id: bytes
    records: int

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

    object_id: bytes
    frame: int
    offset: int
    length: int
    page_id: bytes


class Root(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """``[level, page reference]`` of a tree's root, as in a header."""

    level: int
    page: PageRef


Leaf = Begin | Finish | Extent | Zeros | PackUse
Record = Leaf | Index

_ENCODER = msgspec.json.Encoder()
_RECORDS = msgspec.json.Decoder(list[Begin | Finish | Extent | Zeros | PackUse | Index])
_HEAD = msgspec.json.Decoder(tuple[Literal["page"], int, str, str])


def encode(record: Record) -> bytes:
    """One line, without LF."""
    return _ENCODER.encode(record)


def encode_head(level: int, tree: Tree, context: str) -> bytes:
    """A page's first line."""
    return _ENCODER.encode(("page", level, tree, context))


@dataclass(frozen=True, slots=True)
class Page:
    """A page that has been checked by itself: types, order, and that its records belong to its tree and level."""

    level: int
    tree: str
    context: str
    records: list[Record]


def decode_page(content: bytes, on: str) -> Page:
    """Parse a page.

    Raises:
        UnknownFormat: a record type or a tree that this reader does not know.
        Damaged: anything else that docs/format.md does not allow.
    """
    head, _, body = content.partition(b"\n")
    try:
        _, level, tree, context = _HEAD.decode(head)
        records = _RECORDS.decode(b"[" + body.rstrip(b"\n").replace(b"\n", b",") + b"]")
    except msgspec.MsgspecError as error:
        if "Invalid value" in str(error) and "tag" in str(error).lower():
            raise _unknown(on) from error
        raise errors.Damaged(
            f'a page of "{on}" is not as the format says', fault="structure", on=on
        ) from error
    if tree not in {"entries", "packs"}:
        raise _unknown(on)
    if not 0 <= level <= LEVEL_LIMIT or not records:
        raise errors.Damaged(f'a page of "{on}" is empty or too high', fault="structure", on=on)
    _check_order(records, level, tree, context, on)
    return Page(level, tree, context, records)


def _unknown(on: str) -> errors.UnknownFormat:
    return errors.UnknownFormat(
        f'"{on}" holds records that this drctl does not know',
        fault="version",
        on=on,
        hint="install a newer drctl",
    )


def _check_order(records: list[Record], level: int, tree: str, context: str, on: str) -> None:
    allowed = (Index,) if level else ((PackUse,) if tree == "packs" else (Begin, Finish, Extent, Zeros))
    last: Key | None = None
    for record, key in zip(records, keys(records, context), strict=True):
        if not isinstance(record, allowed) or (last is not None and key <= last):
            raise errors.Damaged(f'a page of "{on}" has a record out of place', fault="structure", on=on)
        last = key


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
